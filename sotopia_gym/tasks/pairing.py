"""Which characters fit a scenario."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.schema import Character, RelationshipType, Scenario

_MOST_YEARS_APART: Final = 15


def plausible(characters: Sequence[Character], relationship: RelationshipType) -> bool:
    """Whether these characters could be this close.

    Couples are at most fifteen years apart, so that a romance is between peers.
    """
    if relationship != RelationshipType.ROMANTIC:
        return True
    ages = [character.age for character in characters if character.age is not None]
    return len(ages) == len(characters) and max(ages) - min(ages) <= _MOST_YEARS_APART


def pair(
    scenario: Scenario, cast: Sequence[Character], rng: random.Random
) -> tuple[Character, ...]:
    """A different character for each role, drawn from those who fit.

    Ages are met exactly. An occupation that nobody in the cast has is waived: it must not cost the
    scenario.

    Raises:
        TaskError: If nobody is left for a role.
    """
    chosen: list[Character] = []
    for index, constraint in enumerate(scenario.constraints):
        left = [c for c in cast if c not in chosen]
        close = [c for c in left if plausible((*chosen, c), scenario.relationship)]
        fitting = [c for c in close if constraint.admits(c)]
        if not fitting:
            fitting = [c for c in close if constraint.admits_age(c)]
        if not fitting:
            raise TaskError(f"no character left for agent_{index} ({constraint})")
        chosen.append(rng.choice(fitting))
    return tuple(chosen)
