"""Task families with ground truth: what they generate they can also read and score exactly."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from sotopia_gym.errors import TaskError, UnknownIdError, did_you_mean
from sotopia_gym.tasks.families.base import (
    SPLITS,
    TEMPERAMENTS,
    Family,
    Outcome,
    Score,
    Scoring,
    Split,
    Temperament,
)
from sotopia_gym.tasks.families.dilemma import DilemmaFamily
from sotopia_gym.tasks.families.division import DivisionFamily
from sotopia_gym.tasks.families.donation import DonationFamily
from sotopia_gym.tasks.families.joint_choice import JointChoiceFamily
from sotopia_gym.tasks.families.mutual_friend import MutualFriendFamily
from sotopia_gym.tasks.families.plan import PlanFamily
from sotopia_gym.tasks.families.price import PriceFamily
from sotopia_gym.tasks.families.secret import SecretFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sotopia_gym.tasks.schema import Task

__all__ = [
    "SPLITS",
    "TEMPERAMENTS",
    "Family",
    "Outcome",
    "Score",
    "Scoring",
    "Split",
    "Temperament",
    "families",
    "family_of",
    "get_family",
]


@lru_cache
def families() -> Mapping[str, Family]:
    """All families by name."""
    known: tuple[Family, ...] = (
        PriceFamily(),
        DivisionFamily(),
        DonationFamily(),
        DilemmaFamily(),
        JointChoiceFamily(),
        SecretFamily(),
        MutualFriendFamily(),
        PlanFamily(),
    )
    return MappingProxyType({family.name: family for family in known})


def get_family(name: str) -> Family:
    """The family of this name.

    Raises:
        UnknownIdError: If there is none; the message suggests the nearest.
    """
    try:
        return families()[name]
    except KeyError:
        raise UnknownIdError(f"no task family {name!r}. {did_you_mean(name, families())}") from None


def family_of(task: Task) -> Family:
    """The family that scores ``task``.

    Raises:
        TaskError: If the task has no ground truth, or one of a family that is not known.
    """
    outcome = task.scenario.outcome
    if outcome is None:
        raise TaskError(f"task {task.task_id} has no ground truth to score.")
    if outcome.family not in families():
        raise TaskError(
            f"task {task.task_id} has ground truth of family {outcome.family!r}, which is not "
            f"known. {did_you_mean(outcome.family, families())}"
        )
    return families()[outcome.family]
