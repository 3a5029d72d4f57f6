"""From a judgement to a reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sotopia_gym.episodes.schema import Judgement
from sotopia_gym.errors import ConfigError, JudgeError, did_you_mean
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
        ConfigError: If it is none of these.
        JudgeError: If the judge does not score a dimension that the reward needs.
    """
    if callable(reward):
        return reward
    weights = {reward: 1.0} if isinstance(reward, str) else reward
    if not isinstance(weights, Mapping) or not weights:
        raise ConfigError(
            "a reward is a dimension, weights of dimensions or a function of a judgement and an "
            f"agent; got {reward!r}."
        )
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigError(f"the weight of {name!r} must be a number, got {weight!r}.")
        if judge is not None and name not in judge.dimensions:
            raise JudgeError(
                f"the reward needs the dimension {name!r}, which the judge {judge.name!r} does not "
                f"score. {did_you_mean(name, judge.dimensions)}"
            )
    return _Weighted(dict(weights))


@dataclass(frozen=True)
class _Weighted:
    """A weighted sum of scores: a class, so that environments can be pickled."""

    weights: dict[str, float]

    def __call__(self, judgement: Judgement, agent: str) -> float | None:
        total = 0.0
        for name, weight in self.weights.items():
            score = judgement.scores.get(agent, {}).get(name)
            if score is None:
                return None
            total += weight * score.score
        return total
