"""The social environment for one learner, as a Gymnasium ``Env``: the partners play inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium

from sotopia_gym import agents
from sotopia_gym.agents.base import Agent, derive_seed
from sotopia_gym.envs.parallel import Info, SocialEnv, StepResult
from sotopia_gym.envs.session import Observation
from sotopia_gym.envs.spaces import action_space, observation_space
from sotopia_gym.errors import ConfigError, EpisodeStateError, UnknownIdError, did_you_mean

Partner = str | Agent | Sequence[str | Agent]


class SoloEnv(gymnasium.Env[Observation, Any]):
    """One agent of a social task, against partners that are part of the environment.

    Every step is one turn of the learner: the partners play until it is the learner's turn again.
    Observations, actions, rewards and infos are those of
    :class:`~sotopia_gym.envs.parallel.SocialEnv`; infos also say which ``role`` the learner has.
    A partner may move first, and it may leave before the learner's first turn; then the learner's
    first step ends the episode whatever it does.

    Args:
        role: The learner's role, e.g. ``"agent_0"``, or ``"random"`` to draw one an episode.
        partner: Who plays the other roles: an agent, the spec of one such as
            ``"scripted/fair"``, a list of those, of which one is drawn for each role and episode
            (infos say who under ``partners``), or a dict of role to any of these.
        env: The environment to play in; by default a new one.
        **kwargs: What :class:`~sotopia_gym.envs.parallel.SocialEnv` takes, for a new one.
    """

    metadata = {"render_modes": SocialEnv.metadata["render_modes"], "render_fps": 1}  # noqa: RUF012  # as in Gymnasium

    def __init__(
        self,
        *,
        role: str = "random",
        partner: Partner | Mapping[str, Partner] = "scripted/fair",
        env: SocialEnv | None = None,
        **kwargs: Any,
    ) -> None:
        if env is not None and kwargs:
            raise ConfigError(f"an environment was given; {', '.join(kwargs)} would be ignored.")
        self.env = SocialEnv(**kwargs) if env is None else env
        roles = self.env.possible_agents
        if role != "random" and role not in roles:
            raise UnknownIdError(f"no role {role!r}. {did_you_mean(role, [*roles, 'random'])}")
        self._fixed_role = None if role == "random" else role
        by_role = partner if isinstance(partner, Mapping) else dict.fromkeys(roles, partner)
        unknown = [r for r in by_role if r not in roles]
        if unknown:
            raise UnknownIdError(f"no role {unknown[0]!r}. {did_you_mean(unknown[0], roles)}")
        self._populations = {r: _population(given) for r, given in by_role.items()}
        self._partners: dict[str, Agent] = {}
        self.render_mode = self.env.render_mode
        self.observation_space = observation_space(len(roles))
        self.action_space = action_space(len(roles))
        self.role = self._fixed_role or roles[0]
        self._last: tuple[dict[str, Observation], dict[str, Info]] | None = None
        self._over: tuple[float, bool, bool] | None = None
        self._reported = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Start an episode and play until it is the learner's turn.

        Args:
            seed: As for :meth:`SocialEnv.reset`.
            options: As for :meth:`SocialEnv.reset`; ``{"role": "agent_1"}`` also picks the role.

        Raises:
            JudgeError: If a partner ended the episode at once and it could not be scored.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        role = options.pop("role", self._fixed_role)
        role = None if role == "random" else role
        roles = self.env.possible_agents
        if role is not None and role not in roles:
            raise UnknownIdError(f"no role {role!r}. {did_you_mean(str(role), roles)}")
        self.role = role or roles[int(self.np_random.integers(len(roles)))]
        partners = [r for r in roles if r != self.role]
        missing = [r for r in partners if r not in self._populations]
        if missing:
            raise UnknownIdError(f"no partner was given for {', '.join(missing)}.")
        observations, infos = self.env.reset(seed, options)
        for partner in partners:
            population = self._populations[partner]
            drawn = population[int(self.np_random.integers(len(population)))]
            self._partners[partner] = drawn.fork()
            episode_seed = infos[partner]["episode_seed"]
            self._partners[partner].reset(seed=derive_seed(episode_seed, partner))
        self._last, self._over, self._reported = (observations, infos), None, False
        self._play_partners()
        return self._told()

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, Info]:
        """Act once; the partners play until it is the learner's turn again.

        Raises:
            ActionError: If the action is not one. The state is unchanged.
            EpisodeStateError: If no episode is running.
            JudgeError: If the episode ended and could not be scored.
        """
        if self._reported:
            raise EpisodeStateError("the episode is over: call reset() first.")
        # A partner may have ended it before the learner's first turn.
        if self._over is None:
            self._turn({self.role: action})
            self._play_partners()
        return self._result()

    def rejudge(self) -> tuple[Observation, SupportsFloat, bool, bool, Info]:
        """Score the episode that has ended unscored again; see :meth:`SocialEnv.rejudge`.

        Returns:
            What the last :meth:`step` would have returned.
        """
        self._take(self.env.rejudge())
        return self._result()

    def render(self) -> Any:
        """What has been played; see :meth:`SocialEnv.render`."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment and the partners; may be called twice."""
        self.env.close()
        for population in self._populations.values():
            for partner in population:
                partner.close()

    def _play_partners(self) -> None:
        while self._over is None and self.role not in self.env.acting:
            self._turn({})

    def _turn(self, actions: Mapping[str, Any]) -> None:
        parsed = self.env.parse_actions(actions)
        observations, _ = self._state()
        for other in self.env.acting:
            if other != self.role:
                parsed[other] = self._partners[other].act(observations[other])
        self._take(self.env.step(parsed))

    def _take(self, result: StepResult) -> None:
        observations, rewards, terminations, truncations, infos = result
        self._last = observations, infos
        if not self.env.agents:
            role = self.role
            self._over = rewards[role], terminations[role], truncations[role]

    def _state(self) -> tuple[dict[str, Observation], dict[str, Info]]:
        if self._last is None:
            raise EpisodeStateError("no episode is running: call reset() first.")
        return self._last

    def _result(self) -> tuple[Observation, SupportsFloat, bool, bool, Info]:
        observation, info = self._told()
        self._reported = self._over is not None
        reward, terminated, truncated = self._over or (0.0, False, False)
        return observation, reward, terminated, truncated, info

    def _told(self) -> tuple[Observation, Info]:
        observations, infos = self._state()
        partners = {r: p.name for r, p in self._partners.items() if r != self.role}
        return observations[self.role], infos[self.role] | {"role": self.role, "partners": partners}


def _population(given: Partner) -> list[Agent]:
    listed = [given] if isinstance(given, str | Agent) else list(given)
    if not listed:
        raise ConfigError("there must be at least one partner to draw from.")
    return [agents.from_spec(spec) for spec in listed]
