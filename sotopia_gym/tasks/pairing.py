"""Which characters fit a scenario."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.schema import Character, Constraint, RelationshipType, Scenario

_MOST_YEARS_APART: Final = 15
_TRIES: Final = 20


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
    anybody = (Constraint(),) * len(scenario.goals)
    for index, constraint in enumerate(scenario.constraints or anybody):
        left = [c for c in cast if c not in chosen]
        close = [c for c in left if plausible((*chosen, c), scenario.relationship)]
        fitting = [c for c in close if constraint.admits(c)]
        if not fitting:
            fitting = [c for c in close if constraint.admits_age(c)]
        if not fitting:
            raise TaskError(f"no character left for agent_{index} ({constraint})")
        chosen.append(rng.choice(fitting))
    return tuple(chosen)


def pairs(
    scenario: Scenario, cast: Sequence[Character], rng: random.Random, count: int
) -> tuple[tuple[Character, ...], ...]:
    """So many different choices of :func:`pair`.

    Raises:
        TaskError: If there are not so many.
    """
    chosen: dict[tuple[str, ...], tuple[Character, ...]] = {}
    for _ in range(_TRIES * count):
        drawn = pair(scenario, cast, rng)
        chosen.setdefault(tuple(character.character_id for character in drawn), drawn)
        if len(chosen) == count:
            return tuple(chosen.values())
    raise TaskError(
        f"scenario {scenario.scenario_id}: only {len(chosen)} of {count} pairs of characters fit; "
        "ask less of them or give more characters."
    )
