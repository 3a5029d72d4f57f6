"""Bargaining in numbers, for classical reinforcement learning: no language, the same scoring.

A number becomes one plain sentence, and what the others say is read by the rules of the task's
family. So partners, rules, transcripts and judges are those of the environments in words, and a
policy over numbers can meet anybody who speaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, SupportsFloat, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from sotopia_gym.agents.scripted import PARTNERS
from sotopia_gym.envs.dialogue import NOTHING, Action
from sotopia_gym.envs.numeric_codec import FEATURES, Codec, Move, Position, Vector
from sotopia_gym.envs.numeric_families import CODECS
from sotopia_gym.envs.parallel import Info, SocialEnv, StepResult
from sotopia_gym.envs.session import Observation
from sotopia_gym.envs.solo import Partner, SoloEnv
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import (
    ActionError,
    ConfigError,
    EpisodeStateError,
    UnknownIdError,
    did_you_mean,
)
from sotopia_gym.judges import Judge
from sotopia_gym.tasks.families import SPLITS, Split
from sotopia_gym.tasks.schema import Suite, Task
from sotopia_gym.tasks.suites import build_family, load_suite

Actions = Literal["discrete", "continuous"]

NumericResult = tuple[
    dict[str, Vector], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]
]

LEVELS: Final = 16
"""How many levels there are to propose at where actions are discrete."""

TASKS: Final[Mapping[Split, int]] = {"train": 400, "heldout": 100}
"""How many generated tasks there are to play in each split."""


class NumericEnv(ParallelEnv[str, Vector, Any]):
    """A family of tasks played in numbers, by all agents, as a PettingZoo ``ParallelEnv``.

    Rules, rewards (the goal score from 0 to 10 in the last step, 0 before) and infos are those of
    :class:`~sotopia_gym.envs.parallel.SocialEnv`, which plays inside as :attr:`env` and keeps the
    episode in words. Every ending is a *termination*, the turn limit too: the turn is in the
    observation, so that nothing is left to come that a learner should bootstrap from.

    Observation of each agent: the numbers of :data:`~sotopia_gym.envs.numeric_codec.FEATURES`,
    shape ``(15,)``, float32 from -1 to 1.

    Actions:

    - ``discrete``: 0 to 15 propose, from the least to the most for oneself; 16 accepts what the
      other has offered; 17 leaves.
    - ``continuous``: one number, shape ``(1,)``, from -1 (propose the least for oneself) to 1.

    What a level means to a family, and what offers are worth to an agent, is in the family's codec
    (:mod:`~sotopia_gym.envs.numeric_families`). A proposal that is worth no more to its maker than
    what the other has offered accepts that; to accept where nothing was offered asks for an offer.
    Once there is an agreement, whoever acts next leaves, whatever its action, and the episode ends.
    Actions of those who may not act now have no effect, and may be missing.

    Args:
        family: The family: ``"price"``, ``"division"`` or ``"joint_choice"``.
        actions: ``"discrete"`` or ``"continuous"``.
        suite: The tasks, or the name of a suite: those of the family are played. By default
            generated ones, of which 400 are to train on and 100 held out.
        split: Which of them: ``"train"``, ``"heldout"`` or None for all.
        judge: As for :class:`~sotopia_gym.envs.parallel.SocialEnv`; by default the exact one.
        **kwargs: Whatever else that takes.

    Raises:
        ConfigError: If actions are neither.
        UnknownIdError: If the family is not known, or cannot be played in numbers.
    """

    metadata: ClassVar[dict[str, Any]] = SocialEnv.metadata | {"name": "sotopia_numeric_v0"}

    def __init__(
        self,
        family: str = "price",
        *,
        actions: Actions = "discrete",
        suite: str | Suite | None = None,
        split: str | None = "train",
        judge: str | Judge | None = "outcome",
        **kwargs: Any,
    ) -> None:
        self.env = SocialEnv(_tasks(family, suite, split), judge=judge, **kwargs)
        self.possible_agents = self.env.possible_agents
        self.render_mode = self.env.render_mode
        self.observation_spaces = {a: observation_space() for a in self.possible_agents}
        self.action_spaces = {a: action_space(actions) for a in self.possible_agents}
        self._codec = CODECS[family]
        self._codecs: dict[str, Codec[Any]] = {}
        self._positions: dict[str, Position[Any]] = {}

    @property
    def agents(self) -> list[str]:
        """The agents of the episode that is running."""
        return self.env.agents

    @property
    def judge_name(self) -> str:
        """Who scores."""
        return self.env.judge_name

    @property
    def max_cycles(self) -> int:
        """PettingZoo's name for ``max_turns``; a change takes effect at the next reset."""
        return self.env.max_cycles

    @max_cycles.setter
    def max_cycles(self, value: int) -> None:
        self.env.max_cycles = value

    @property
    def task(self) -> Task:
        """The task being played; see :attr:`SocialEnv.task`."""
        return self.env.task

    @property
    def episode(self) -> Episode:
        """The episode that has ended, in words; see :attr:`SocialEnv.episode`."""
        return self.env.episode

    def observation_space(self, agent: str) -> spaces.Box:
        """The observation space of ``agent``: always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The action space of ``agent``: always the same object."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Vector], dict[str, Info]]:
        """Start an episode; see :meth:`SocialEnv.reset`."""
        observations, infos = self.env.reset(seed, options)
        task, turns = self.env.task, self.env.max_turns
        self._codecs = {agent: self._codec(task, agent, turns) for agent in self.env.agents}
        return self._vectors(observations), infos

    def step(self, actions: Mapping[str, Any]) -> NumericResult:
        """Play one turn.

        Args:
            actions: One action for each agent that may act.

        Returns:
            Observations, rewards, terminations, truncations and infos of all agents.

        Raises:
            ActionError: If an action is not in its space, or one is missing. The state is
                unchanged.
            EpisodeStateError: If no episode is running.
            JudgeError: If the episode ended and could not be scored. It carries the episode;
                :meth:`rejudge` tries again.
        """
        return self._result(
            self.env.step({a: self._said(a, given) for a, given in actions.items()})
        )

    def rejudge(self) -> NumericResult:
        """Score the episode that has ended unscored again; see :meth:`SocialEnv.rejudge`."""
        return self._result(self.env.rejudge())

    def render(self) -> str | None:
        """What has been said; see :meth:`SocialEnv.render`."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self.env.close()

    def _said(self, agent: str, action: Any) -> Action:
        if agent not in self.env.acting:
            return NOTHING
        move = to_move(action, self.action_spaces[agent])
        return self._codecs[agent].act(self._positions[agent], move)

    def _result(self, result: StepResult) -> NumericResult:
        observations, rewards, _, _, infos = result
        ended = dict.fromkeys(observations, not self.env.agents)
        return self._vectors(observations), rewards, ended, dict.fromkeys(ended, False), infos

    def _vectors(self, observations: Mapping[str, Observation]) -> dict[str, Vector]:
        self._positions = {a: self._codecs[a].read(seen) for a, seen in observations.items()}
        return {a: self._codecs[a].vector(position) for a, position in self._positions.items()}


class NumericSoloEnv(gymnasium.Env[Vector, Any]):
    """One agent that bargains in numbers against partners in words, as a Gymnasium ``Env``.

    Observations, actions and rewards are those of :class:`NumericEnv`; partners, roles and infos
    are those of :class:`~sotopia_gym.envs.solo.SoloEnv`, which plays inside as :attr:`solo`.

    Args:
        family: As for :class:`NumericEnv`.
        actions: As for :class:`NumericEnv`.
        role: As for :class:`~sotopia_gym.envs.solo.SoloEnv`.
        partner: As for :class:`~sotopia_gym.envs.solo.SoloEnv`; by default one of the scripted
            partners to learn with is drawn for each episode.
        suite: As for :class:`NumericEnv`.
        split: As for :class:`NumericEnv`.
        judge: As for :class:`NumericEnv`.
        **kwargs: Whatever else :class:`~sotopia_gym.envs.parallel.SocialEnv` takes.
    """

    metadata = SoloEnv.metadata

    def __init__(
        self,
        family: str = "price",
        *,
        actions: Actions = "discrete",
        role: str = "random",
        partner: Partner | Mapping[str, Partner] = PARTNERS["train"],
        suite: str | Suite | None = None,
        split: str | None = "train",
        judge: str | Judge | None = "outcome",
        **kwargs: Any,
    ) -> None:
        tasks = _tasks(family, suite, split)
        self.solo = SoloEnv(role=role, partner=partner, suite=tasks, judge=judge, **kwargs)
        self.render_mode = self.solo.render_mode
        self.observation_space: spaces.Space[Any] = observation_space()
        self.action_space: spaces.Space[Any] = action_space(actions)
        self._new_codec = CODECS[family]
        self._codec: Codec[Any]
        self._position: Position[Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, Info]:
        """Start an episode and play until it is the learner's turn; see :meth:`SoloEnv.reset`."""
        super().reset(seed=seed)
        observation, info = self.solo.reset(seed=seed, options=options)
        env = self.solo.env
        self._codec = self._new_codec(env.task, self.solo.role, env.max_turns)
        return self._vector(observation), info

    def step(self, action: Any) -> tuple[Vector, SupportsFloat, bool, bool, Info]:
        """Act once; the partners play until it is the learner's turn again.

        Raises:
            ActionError: If the action is not in its space. The state is unchanged.
            EpisodeStateError: If no episode is running.
            JudgeError: If the episode ended and could not be scored.
        """
        move = to_move(action, self.action_space)
        if self._position is None:
            raise EpisodeStateError("no episode is running: call reset() first.")
        return self._result(self.solo.step(self._codec.act(self._position, move)))

    def rejudge(self) -> tuple[Vector, SupportsFloat, bool, bool, Info]:
        """Score the episode that has ended unscored again; see :meth:`SoloEnv.rejudge`."""
        return self._result(self.solo.rejudge())

    def render(self) -> Any:
        """What has been said; see :meth:`SocialEnv.render`."""
        return self.solo.render()

    def close(self) -> None:
        """Close the environment and the partners; may be called twice."""
        self.solo.close()

    def _result(
        self, result: tuple[Observation, SupportsFloat, bool, bool, Info]
    ) -> tuple[Vector, SupportsFloat, bool, bool, Info]:
        observation, reward, terminated, truncated, info = result
        return self._vector(observation), reward, terminated or truncated, False, info

    def _vector(self, observation: Observation) -> Vector:
        self._position = self._codec.read(observation)
        return self._codec.vector(self._position)


def observation_space() -> spaces.Box:
    """The space of an observation: see :data:`~sotopia_gym.envs.numeric_codec.FEATURES`."""
    return spaces.Box(-1, 1, (len(FEATURES),), np.float32)


def action_space(actions: Actions) -> spaces.Space[Any]:
    """The space of an action: see :class:`NumericEnv`.

    Raises:
        ConfigError: If ``actions`` is neither ``"discrete"`` nor ``"continuous"``.
    """
    if actions not in get_args(Actions):
        raise ConfigError(f"actions must be 'discrete' or 'continuous', got {actions!r}.")
    return spaces.Discrete(LEVELS + 2) if actions == "discrete" else spaces.Box(-1, 1, (1,))


def to_move(action: Any, space: spaces.Space[Any]) -> Move:
    """The move that an action of :func:`action_space` means.

    Raises:
        ActionError: If it is not in the space.
    """
    given = np.asarray(action)
    if isinstance(space, spaces.Discrete):
        if given.shape or given.dtype.kind not in "iu" or not 0 <= given < LEVELS + 2:
            raise ActionError(f"expected an integer from 0 to {LEVELS + 1}, got {action!r}.")
        if given < LEVELS:
            return int(given) / (LEVELS - 1)
        return "accept" if given == LEVELS else "leave"
    if given.shape != (1,) or not -1 <= given[0] <= 1:
        raise ActionError(f"expected one number from -1 to 1, shape (1,), got {action!r}.")
    return (float(given[0]) + 1) / 2


def _tasks(family: str, suite: str | Suite | None, split: str | None) -> Suite:
    """The tasks of one family that an environment plays."""
    if family not in CODECS:
        raise UnknownIdError(
            f"no family {family!r} that is played in numbers. {did_you_mean(family, CODECS)}"
        )
    if suite is None:
        chosen = _generated(family)
    else:
        given = load_suite(suite) if isinstance(suite, str) else suite
        tasks = tuple(
            t for t in given if t.scenario.outcome and t.scenario.outcome.family == family
        )
        ids = {task.task_id for task in tasks}
        splits = {name: tuple(i for i in part if i in ids) for name, part in given.splits.items()}
        chosen = Suite(name=f"{given.name}/{family}", tasks=tasks, splits=splits)
    return chosen if split is None else chosen.split(split)


@lru_cache
def _generated(family: str) -> Suite:
    parts = {split: build_family(family, split, range(TASKS[split])) for split in SPLITS}
    return Suite(
        name=family,
        tasks=tuple(task for part in parts.values() for task in part),
        splits={split: tuple(t.task_id for t in part) for split, part in parts.items()},
    )
