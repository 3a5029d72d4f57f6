"""The social environment as a PettingZoo ``ParallelEnv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from sotopia_gym import judges
from sotopia_gym.envs.dialogue import Action, Event, TurnOrder, check_rules
from sotopia_gym.envs.render import Renderer, check_render_mode
from sotopia_gym.envs.session import Observation, Session
from sotopia_gym.envs.spaces import MAX_TURNS, action_space, observation_space
from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.errors import (
    ConfigError,
    EpisodeStateError,
    JudgeError,
    ModelError,
    UnknownIdError,
)
from sotopia_gym.judges import Judge
from sotopia_gym.judges.reward import Reward, to_function
from sotopia_gym.tasks.sampling import Sampler, UniformSampler
from sotopia_gym.tasks.schema import Suite, Task
from sotopia_gym.tasks.suites import load_suite

Info = dict[str, Any]
StepResult = tuple[
    dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]
]


class SocialEnv(ParallelEnv[str, Observation, Any]):
    """Social tasks: characters with private goals talk, a judge scores each at the end.

    All agents stay in ``agents`` until the episode ends for all of them in one step. That step
    carries the rewards, by default the goal score from 0 to 10; all earlier rewards are 0.
    An episode *terminates* when fewer than two are left in the conversation; the turn limit and a
    run of silent turns *truncate* it. One who has left perceives nothing more.

    Observation of each agent, see :func:`~sotopia_gym.envs.spaces.observation_space`:

    - ``background``: the scene, its own biography, secret and goal, and what it may know of the
      others.
    - ``dialogue``: all that it has perceived so far, one event a line.
    - ``last_turn``: the lines of the latest turn.
    - ``turn``: turns played so far.
    - ``your_turn``: 1 if it may act now.
    - ``allowed_actions``: which action types have effect now.

    Actions may be samples of :func:`~sotopia_gym.envs.spaces.action_space`,
    :class:`~sotopia_gym.envs.dialogue.Action` objects, or dicts; ``to`` may hold agents or the
    full names of their characters. What an agent may not do now becomes ``none``, and its info
    says so under ``coerced``.

    Infos of each agent: ``task_id``, ``episode_seed``, ``judge`` (who scores), ``judgement``
    (``pending``, ``scored`` or ``unjudged``), ``coerced`` (why its last action had
    no or another effect, or None), ``dialogue_cut`` (how many of the oldest turns its ``dialogue``
    no longer holds), ``ignored_options`` (after reset), and in the last step ``ending``,
    ``scores`` (dimension to score), and ``true_goal``, ``normalised`` and ``outcome`` where there
    is ground truth, and ``credits`` (turn to mark) where the judge marks turns.

    Args:
        suite: A suite or the name of one. All its tasks must have the same number of agents.
        split: Play only this split of the suite, e.g. ``"train"``.
        sampler: Draws the task of an episode, and hears how it went; by default all tasks of the
            suite are equally likely.
        judge: Who scores: see :func:`sotopia_gym.judges.from_spec`. ``"none"`` plays unjudged,
            with rewards of 0.0 that mean nothing.
        reward: What the reward is: a dimension (by default ``"goal"``, 0 to 10), weights of
            dimensions, or a function of a judgement and an agent.
        turn_order: ``"round-robin"``, ``"simultaneous"`` or ``"random"``.
        max_turns: Turns after which an episode is truncated, at most 10,000.
        max_silent_turns: Silent turns in a row after which it is truncated.
        max_cycles: PettingZoo's name for ``max_turns``; wins if given.
        render_mode: ``"ansi"`` (``render`` returns text), ``"human"`` (the terminal) or None.

    Raises:
        JudgeError: If the judge can never score a task of the suite.
        TaskError: If the suite is empty or mixes numbers of agents.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "sotopia_v0",
        "render_modes": ["ansi", "human"],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        suite: str | Suite = "starter",
        *,
        split: str | None = None,
        sampler: Sampler | None = None,
        judge: str | Judge | None = "auto",
        reward: Reward = "goal",
        turn_order: TurnOrder = "round-robin",
        max_turns: int = 20,
        max_silent_turns: int = 3,
        max_cycles: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.suite = load_suite(suite) if isinstance(suite, str) else suite
        if split is not None:
            self.suite = self.suite.split(split)
        self._sampler = sampler or UniformSampler(self.suite)
        self.turn_order = turn_order
        self.max_turns = max_turns if max_cycles is None else max_cycles
        self.max_silent_turns = max_silent_turns
        self._check_rules()
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.possible_agents = [f"agent_{index}" for index in range(self.suite.num_agents)]
        self.agents: list[str] = []
        self.judge = judges.from_spec(judge)
        self.judge_name = "none" if self.judge is None else self.judge.name
        if self.judge is not None:
            self.judge.check(self.suite)
        self._reward = to_function(reward, self.judge)
        count = len(self.possible_agents)
        self.observation_spaces = {a: observation_space(count) for a in self.possible_agents}
        self.action_spaces = {a: action_space(count) for a in self.possible_agents}
        self._rng: np.random.Generator | None = None
        self._session: Session | None = None
        self._episode: Episode | None = None
        self._renderer = Renderer()

    # --- PettingZoo ---------------------------------------------------------------------

    @property
    def max_cycles(self) -> int:
        """PettingZoo's name for ``max_turns``; a change takes effect at the next reset."""
        return self.max_turns

    @max_cycles.setter
    def max_cycles(self, value: int) -> None:
        self.max_turns = value

    def observation_space(self, agent: str) -> spaces.Dict:
        """The observation space of ``agent``: always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Dict:
        """The action space of ``agent``: always the same object."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, Info]]:
        """Start an episode.

        Args:
            seed: Seed of everything random from here on; None carries on with the generator that
                is there, or starts one from the operating system's entropy.
            options: ``{"task": task_id}`` picks the task; without it one is drawn uniformly.
                Unknown options are listed in the infos under ``ignored_options``.

        Returns:
            Observations and infos of all agents.

        Raises:
            UnknownIdError: If the suite has no such task.
            ConfigError: If the sampler draws a task that is not of the suite.
        """
        self._check_rules()
        options = dict(options or {})
        chosen = options.pop("task", None)
        task = None if chosen is None else self.suite[chosen]
        if seed is not None or self._rng is None:
            self._rng, _ = seeding.np_random(seed)
        if task is None:
            drawn = self._sampler.draw(self._rng)
            try:
                task = self.suite[drawn.task_id]
            except UnknownIdError as error:
                raise ConfigError(
                    f"the sampler drew a task that is not played here: {error} Give the sampler "
                    "the suite, or the split, that the environment has."
                ) from None
        self._session = Session(
            task,
            seed=int(self._rng.integers(2**53)),
            rng=self._rng,
            turn_order=self.turn_order,
            max_turns=self.max_turns,
            max_silent_turns=self.max_silent_turns,
        )
        self.agents = list(self.possible_agents)
        self._episode = None
        if self.render_mode is not None:
            self._renderer.start(task, self.max_turns)
            if self.render_mode == "human":
                self.render()
        infos = self._infos()
        for info in infos.values():
            info["ignored_options"] = sorted(map(str, options))
        return self._observations(), infos

    def step(self, actions: Mapping[str, Any]) -> StepResult:
        """Play one turn.

        Args:
            actions: One action for each agent that may act; those of other agents become
                ``none``, and may be missing.

        Returns:
            Observations, rewards, terminations, truncations and infos of all agents.

        Raises:
            ActionError: If an action is not one, or one is missing. The state is unchanged.
            EpisodeStateError: If no episode is running.
            JudgeError: If the episode ended and could not be scored. It carries the episode;
                :meth:`rejudge` tries again.
        """
        episode = self._advance(actions)
        if episode is None:
            return self._result(None, {})
        return self._conclude(episode, self._judged(episode))

    async def astep(self, actions: Mapping[str, Any]) -> StepResult:
        """:meth:`step`, without blocking the event loop while the judge is at work."""
        episode = self._advance(actions)
        if episode is None:
            return self._result(None, {})
        return self._conclude(episode, await self._ajudged(episode))

    def rejudge(self) -> StepResult:
        """Score the episode that has ended unscored again.

        Returns:
            What the last :meth:`step` would have returned.

        Raises:
            EpisodeStateError: If there is no such episode.
            JudgeError: If it could not be scored this time either.
        """
        episode = self._pending()
        return self._conclude(episode, self._judged(episode))

    async def arejudge(self) -> StepResult:
        """:meth:`rejudge`, without blocking the event loop."""
        episode = self._pending()
        return self._conclude(episode, await self._ajudged(episode))

    def render(self) -> str | None:
        """What has been played: text in mode ``ansi``; in mode ``human`` what is new is printed.

        Raises:
            EpisodeStateError: If the environment has no render mode or was never reset.
        """
        if self.render_mode is None:
            raise EpisodeStateError(
                "this environment was made without a render mode; pass render_mode='ansi' or "
                "'human' to make()."
            )
        if self._session is None:
            raise EpisodeStateError("nothing to render: call reset() first.")
        if self.render_mode == "ansi":
            return self._renderer.text()
        self._renderer.show()
        return None

    def close(self) -> None:
        """Let go of the judge's connections; may be called twice."""
        if self.judge is not None:
            self.judge.close()

    # --- beyond PettingZoo --------------------------------------------------------------

    @property
    def acting(self) -> tuple[str, ...]:
        """The agents that may act in the coming turn, in order; empty if no episode runs."""
        return () if self._session is None else self._session.dialogue.acting

    @property
    def task(self) -> Task:
        """The task being played.

        Raises:
            EpisodeStateError: If the environment was never reset.
        """
        return self._running().task

    @property
    def episode(self) -> Episode:
        """The episode that has ended, with its judgement if it was scored.

        Raises:
            EpisodeStateError: If none has ended since the last reset.
        """
        if self._episode is None:
            raise EpisodeStateError("no episode has ended since the last reset().")
        return self._episode

    def observe(self, agent: str) -> Observation:
        """What ``agent`` perceives now: a new observation of equal content at every call."""
        return self._running().observe(agent)

    def parse_actions(self, actions: Mapping[str, Any]) -> dict[str, Action]:
        """Read the actions of some agents, without playing them.

        Raises:
            ActionError: If one is not an action, or an agent is unknown.
        """
        return self._running().read(actions)

    # --- inside -------------------------------------------------------------------------

    def _check_rules(self) -> None:
        check_rules(self.turn_order, self.max_turns, self.max_silent_turns)
        if self.max_turns > MAX_TURNS:
            raise ConfigError(f"max_turns must be at most {MAX_TURNS}, got {self.max_turns}.")

    def _running(self) -> Session:
        if self._session is None:
            raise EpisodeStateError("no episode is running: call reset() first.")
        return self._session

    def _advance(self, actions: Mapping[str, Any]) -> Episode | None:
        """Play one turn; the unscored episode if that ended it."""
        session = self._running()
        if session.dialogue.ending is not None:
            what = (
                "the episode has ended unscored: call rejudge(), or reset() for the next one."
                if self.agents
                else "the episode has ended: call reset() first."
            )
            raise EpisodeStateError(what)
        events = session.advance(actions)
        if self.render_mode is not None:
            self._render_turn(events)
        if session.dialogue.ending is None:
            return None
        self._episode = session.episode()
        return self._episode

    def _render_turn(self, events: Sequence[Event]) -> None:
        self._renderer.add(events, self._running().dialogue.ending)
        if self.render_mode == "human":
            self.render()

    def _pending(self) -> Episode:
        if self._episode is None or not self.agents:
            raise EpisodeStateError("there is no unscored episode to judge again.")
        return self._episode

    def _judged(self, episode: Episode) -> Judgement | None:
        if self.judge is None:
            return None
        try:
            return _given(self.judge.judge(episode), self.judge)
        except (ModelError, JudgeError) as error:
            raise _failed(error, self.judge, episode) from error

    async def _ajudged(self, episode: Episode) -> Judgement | None:
        if self.judge is None:
            return None
        try:
            return _given(await self.judge.ajudge(episode), self.judge)
        except (ModelError, JudgeError) as error:
            raise _failed(error, self.judge, episode) from error

    def _conclude(self, episode: Episode, judgement: Judgement | None) -> StepResult:
        if judgement is None:
            return self._result(None, {})
        rewards: dict[str, float] = {}
        problem = judgement.error
        if problem is None:
            for agent in self.possible_agents:
                reward = self._reward(judgement, agent)
                if reward is None or not math.isfinite(reward):
                    problem = f"no reward for {agent} (got {reward!r})"
                    break
                rewards[agent] = float(reward)
        if problem is not None:
            raise JudgeError(
                f"judge {judgement.judge!r} could not score this episode of task "
                f"{episode.task.task_id}: {problem}. The episode is in this error's `episode`; "
                "env.rejudge() tries again.",
                episode.with_judgement(judgement),
            )
        self._episode = episode.with_judgement(judgement)
        if (success := judgement.success) is not None:
            self._sampler.update(episode.task, success)
        return self._result(judgement, rewards)

    def _result(self, judgement: Judgement | None, scored: dict[str, float]) -> StepResult:
        ending = self._running().dialogue.ending
        agents = self.agents
        rewards = dict.fromkeys(agents, 0.0) | scored
        infos = self._infos()
        if judgement is not None:
            for agent in agents:
                infos[agent] |= _told(judgement, agent)
        if ending is not None:
            for info in infos.values():
                info["ending"] = ending
        result = (
            self._observations(),
            rewards,
            dict.fromkeys(agents, ending == "left"),
            dict.fromkeys(agents, ending is not None and ending != "left"),
            infos,
        )
        if ending is not None:
            self.agents = []
        return result

    def _observations(self) -> dict[str, Observation]:
        return {agent: self.observe(agent) for agent in self.agents}

    def _infos(self) -> dict[str, Info]:
        session = self._running()
        status = "unjudged" if self.judge is None else "pending"
        return {
            agent: {
                "task_id": session.task.task_id,
                "episode_seed": session.seed,
                "judge": self.judge_name,
                "judgement": status,
                "coerced": session.coerced.get(agent),
                "dialogue_cut": session.views[agent].turns_cut,
            }
            for agent in self.agents
        }


def _given(judgement: Judgement | None, judge: Judge) -> Judgement:
    if judgement is None:
        raise JudgeError(f"judge {judge.name!r} returned no judgement.")
    return judgement


def _failed(error: Exception, judge: Judge, episode: Episode) -> JudgeError:
    """The error of a judge that gave no judgement, with the episode in it."""
    unscored = Judgement(judge=judge.name, error=str(error))
    return JudgeError(
        f"judge {judge.name!r} could not score this episode of task {episode.task.task_id}: "
        f"{error} The episode is in this error's `episode`; env.rejudge() tries again.",
        episode.with_judgement(unscored),
    )


def _told(judgement: Judgement, agent: str) -> Info:
    """What the last info of ``agent`` says of the judgement."""
    told: Info = {
        "judgement": "scored",
        "scores": {name: given.score for name, given in judgement.scores[agent].items()},
    }
    if judgement.credits:
        told["credits"] = {c.turn: c.mark for c in judgement.credits.get(agent, ())}
    if judgement.outcome is not None:
        told["outcome"] = judgement.outcome.model_dump()
        told["true_goal"] = judgement.true_goals.get(agent)
        told["normalised"] = judgement.normalised.get(agent)
    return told
