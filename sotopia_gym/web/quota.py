"""How many ratings an episode needs, and which episodes carry an attention check: arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sotopia_gym.agents.base import derive_seed

CHECK_SCALE: Final = range(11)
"""What can be chosen in an attention check."""


def needed(goals: Sequence[Mapping[str, float]], ratings: int, gap: float) -> int:
    """How many ratings an episode needs.

    It is relaunched, for one rating more, where the goal scores of one character lie more than
    ``gap`` apart, as in SOTOPIA's studies (two ratings; relaunched beyond a gap of 5).

    Args:
        goals: Agent to goal score, for each rating that there is, the oldest first.
        ratings: What every episode needs.
        gap: How far goal scores may lie apart.
    """
    first = goals[:ratings]
    if len(first) < ratings:
        return ratings
    spreads = (
        max(scores[agent] for scores in first) - min(scores[agent] for scores in first)
        for agent in first[0]
    )
    return ratings + any(spread > gap for spread in spreads)


def attention_check(seed: int, rater: str, index: int, every: int) -> int | None:
    """The number to choose in the check that an episode carries; None if it carries none.

    Of ``every`` episodes in a row one does, and a rater cannot foresee which.

    Args:
        seed: Seed of the study.
        rater: Pseudonym of the rater.
        index: How many episodes the rater was given before this one.
        every: How many episodes share a check; 0 for no checks.
    """
    if every == 0:
        return None
    block, place = divmod(index, every)
    drawn = derive_seed(seed, f"check/{rater}/{block}")
    if drawn % every != place:
        return None
    return CHECK_SCALE[drawn // every % len(CHECK_SCALE)]
