"""A rating as its form sends it: names of fields, and strict reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sotopia_gym.episodes.dimensions import DIMENSIONS, Dimension
from sotopia_gym.episodes.schema import DimensionScore
from sotopia_gym.web.quota import CHECK_SCALE

MAX_REASON: Final = 2000
"""Longest reason, in characters."""

CHECK: Final = "check"
"""The field of the attention check."""

Scores = dict[str, dict[str, DimensionScore]]
"""Agent to dimension to score, as in a judgement."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a form from being a rating.

    Attributes:
        field: The field.
        message: What to do about it.
    """

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Rating:
    """What a rater entered.

    Attributes:
        scores: An integer and a reason for every dimension of every agent.
        check: What was chosen in the attention check; None if there was none.
    """

    scores: Scores
    check: int | None = None


def score_field(agent: str, dimension: str) -> str:
    """The field of a score."""
    return f"{agent}.{dimension}.score"


def reason_field(agent: str, dimension: str) -> str:
    """The field of a reason."""
    return f"{agent}.{dimension}.reason"


def scale(dimension: Dimension) -> range:
    """The scores that can be chosen: all integers of a dimension's range."""
    return range(int(dimension.low), int(dimension.high) + 1)


def title(name: str) -> str:
    """A dimension's name for people."""
    return name.replace("_", " ").capitalize()


def read_rating(
    form: Mapping[str, str], names: Mapping[str, str], *, check: bool
) -> tuple[Rating, Sequence[Problem]]:
    """Read a form.

    Line ends become plain newlines, as people typed them; otherwise reasons are kept as they are.

    Args:
        form: Field to value; fields that are not the form's are ignored.
        names: Agent to the name of its character.
        check: Whether there is an attention check.

    Returns:
        The rating, and what is wrong with it; only without problems is it complete.
    """
    scores: Scores = {}
    problems: list[Problem] = []
    for agent, name in names.items():
        scores[agent] = {}
        for dimension in DIMENSIONS.values():
            what = f"{title(dimension.name)} of {name}"
            field = score_field(agent, dimension.name)
            score = _chosen(form.get(field), scale(dimension))
            if score is None:
                problems.append(Problem(field, f"{what}: choose a number."))
            field = reason_field(agent, dimension.name)
            reason = plain_lines(form.get(field, ""))
            if not reason.strip():
                problems.append(Problem(field, f"{what}: say why in a few words."))
            elif len(reason) > MAX_REASON:
                problems.append(
                    Problem(
                        field,
                        f"{what}: the reason has {len(reason)} characters; shorten it to "
                        f"{MAX_REASON}.",
                    )
                )
            if score is not None:
                scores[agent][dimension.name] = DimensionScore(score=score, reasoning=reason)
    chosen = _chosen(form.get(CHECK), CHECK_SCALE) if check else None
    if check and chosen is None:
        problems.append(Problem(CHECK, "Choose a number in the line that asks for one."))
    return Rating(scores, chosen), problems


def plain_lines(text: str) -> str:
    """``text`` as it was typed: browsers send every line's end as two characters."""
    return text.replace("\r\n", "\n")


def _chosen(value: str | None, among: range) -> int | None:
    return next((number for number in among if str(number) == value), None)
