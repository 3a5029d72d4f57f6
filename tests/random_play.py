"""Whole episodes of random play, and what it means that two are the same."""

import numpy as np


def equal(one, other) -> bool:
    """Equality, types included, that looks into dicts, sequences and arrays."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        same = type(one) is type(other) and len(one) == len(other)
        return same and all(map(equal, one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def whole_episodes(env, seed: int, count: int) -> list:
    """Everything that a parallel environment returns over some episodes of random play."""
    returned = []
    for agent in env.possible_agents:
        env.action_space(agent).seed(seed)
    for episode in range(count):
        returned.append(env.reset(seed=seed if episode == 0 else None))
        while env.agents:
            returned.append(env.step({a: env.action_space(a).sample() for a in env.agents}))
    return returned
