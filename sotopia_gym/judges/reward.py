"""From a judgement to a reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sotopia_gym.episodes.schema import Judgement
from sotopia_gym.errors import JudgeError, did_you_mean
from sotopia_gym.judges.base import Judge

RewardFunction = Callable[[Judgement, str], float | None]
"""From a judgement and an agent to its reward; None if it cannot be told."""

Reward = str | Mapping[str, float] | RewardFunction
"""A dimension; weights of dimensions, whose weighted sum is the reward; or a function."""


def to_function(reward: Reward, judge: Judge | None) -> RewardFunction:
    """The function that ``reward`` stands for.

    Args:
        reward: A dimension, weights of dimensions, or a function.
        judge: Who will score; None if nobody will.

    Raises:
        JudgeError: If the judge does not score a dimension that the reward needs.
    """
    if callable(reward):
        return reward
    weights = {reward: 1.0} if isinstance(reward, str) else dict(reward)
    if judge is not None:
        for name in weights:
            if name not in judge.dimensions:
                raise JudgeError(
                    f"the reward needs the dimension {name!r}, which the judge {judge.name!r} "
                    f"does not score. {did_you_mean(name, judge.dimensions)}"
                )

    def weighted(judgement: Judgement, agent: str) -> float | None:
        total = 0.0
        for name, weight in weights.items():
            score = judgement.scores.get(agent, {}).get(name)
            if score is None:
                return None
            total += weight * score.score
        return total

    return weighted
