"""The social environment as a PettingZoo ``AECEnv``: one agent acts at a time."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium import spaces
from pettingzoo import AECEnv

from sotopia_gym.envs.parallel import Info, SocialEnv, StepResult
from sotopia_gym.envs.session import Observation
from sotopia_gym.errors import EpisodeStateError


class SocialAECEnv(AECEnv[str, Observation, Any]):
    """The agent-by-agent view of :class:`~sotopia_gym.envs.parallel.SocialEnv`.

    ``agent_selection`` is whoever may act now: nobody is asked for an action that can have no
    effect. In the simultaneous order those present are asked one after the other, and none sees
    what the others do before all have acted.

    Args:
        env: The environment to view; by default a new one.
        **kwargs: What :class:`~sotopia_gym.envs.parallel.SocialEnv` takes, for a new one.
    """

    metadata: ClassVar[dict[str, Any]] = SocialEnv.metadata

    def __init__(self, env: SocialEnv | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.agent_selection: str
        self.infos: dict[str, Info]
        self._actions: dict[str, Any]
        self._waiting: list[str]
        self.env = SocialEnv(**kwargs) if env is None else env
        self.possible_agents = self.env.possible_agents
        self.render_mode = self.env.render_mode
        self.agents: list[str] = []

    @property
    def max_cycles(self) -> int:
        """PettingZoo's name for ``max_turns``; a change takes effect at the next reset."""
        return self.env.max_cycles

    @max_cycles.setter
    def max_cycles(self, value: int) -> None:
        self.env.max_cycles = value

    def observation_space(self, agent: str) -> spaces.Dict:
        """The observation space of ``agent``: always the same object."""
        return self.env.observation_space(agent)

    def action_space(self, agent: str) -> spaces.Dict:
        """The action space of ``agent``: always the same object."""
        return self.env.action_space(agent)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Start an episode; see :meth:`SocialEnv.reset`."""
        _, self.infos = self.env.reset(seed, options)
        self.agents = list(self.env.agents)
        self.rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self._begin_turn()

    def step(self, action: Any) -> None:
        """Act for ``agent_selection``; see :meth:`SocialEnv.step` for actions and errors.

        An action that is refused leaves the state as it was.
        """
        if not self.agents:
            raise EpisodeStateError("no episode is running: call reset() first.")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        actions = self._actions | self.env.parse_actions({agent: action})
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        if self._waiting:
            self._actions = actions
            self.agent_selection = self._waiting.pop(0)
        else:
            self._take(self.env.step(actions))

    def rejudge(self) -> None:
        """Score the episode that has ended unscored again; see :meth:`SocialEnv.rejudge`."""
        self._take(self.env.rejudge())

    def observe(self, agent: str) -> Observation:
        """What ``agent`` perceives now."""
        return self.env.observe(agent)

    def render(self) -> str | None:
        """What has been played; see :meth:`SocialEnv.render`."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self.env.close()

    def _take(self, result: StepResult) -> None:
        _, self.rewards, self.terminations, self.truncations, infos = result
        self.infos = infos
        self._accumulate_rewards()
        if self.env.agents:
            self._begin_turn()
        else:
            self.agent_selection = self.agents[0]

    def _begin_turn(self) -> None:
        self._actions = {}
        self.agent_selection, *self._waiting = self.env.acting
