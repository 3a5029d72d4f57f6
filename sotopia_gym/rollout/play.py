"""Playing one episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sotopia_gym import agents as agent_specs
from sotopia_gym.agents.base import Agent, derive_seed
from sotopia_gym.envs.parallel import SocialEnv
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import ConfigError, JudgeError
from sotopia_gym.rollout.record import by_whom


def play(
    env: SocialEnv,
    agents: Mapping[str, str | Agent],
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
) -> Episode:
    """Play one episode to its end.

    Args:
        env: The environment; it is reset first.
        agents: Who plays each role: agents, or specs of agents.
        seed: As for :meth:`~sotopia_gym.envs.parallel.SocialEnv.reset`; the players' seeds derive
            from it.
        options: As for :meth:`~sotopia_gym.envs.parallel.SocialEnv.reset`.

    Returns:
        The episode, with who played and what it cost. If the judge failed, its judgement carries
        the error.
    """
    missing = [role for role in env.possible_agents if role not in agents]
    if missing:
        raise ConfigError(f"nobody plays {', '.join(missing)}; give an agent for every role.")
    players = {role: agent_specs.from_spec(agents[role]) for role in env.possible_agents}
    try:
        return _played(env, players, seed, options)
    finally:
        for role, player in players.items():
            if player is not agents[role]:
                player.close()


def _played(
    env: SocialEnv,
    players: Mapping[str, Agent],
    seed: int | None,
    options: dict[str, Any] | None,
) -> Episode:
    observations, infos = env.reset(seed, options)
    for role, player in players.items():
        player.reset(seed=derive_seed(infos[role]["episode_seed"], role))
    try:
        while env.agents:
            actions = {role: players[role].act(observations[role]) for role in env.acting}
            observations, *_ = env.step(actions)
        episode = env.episode
    except JudgeError as error:
        if error.episode is None:
            raise
        episode = error.episode
    return episode.model_copy(update=by_whom(players))
