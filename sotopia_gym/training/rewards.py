"""Rewards of an agent's turns, for reinforcement learning on episodes.

A *turn reward* maps an episode and one of its agents to one number for each turn of that agent, or
to None where the episode is no result or was not scored: such an episode is to be left out, for 0
would be a reward too. Everything here is one, or makes one of others; each can be pickled::

    reward = WeightedSum(
        [
            (0.1, Terminal("goal")),
            (0.1, Shaping(standing_offer, discount=1.0)),
            (0.5, Overlong(limit=256, buffer=64)),
            (0.5, Unreadable()),
        ]
    )
    rewards = reward(episode, "agent_0")  # as many as the agent has turns, or None

A turn reward of your own is a function of the same two arguments; :func:`own_events` gives the
turns. :class:`RunningNormaliser` brings what comes out to a common scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from sotopia_gym.agents.llm import NO_ACTION
from sotopia_gym.envs.dialogue import ACTIVE_TYPES, Action, Event
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import Episode, Judgement, TurnCredit
from sotopia_gym.episodes.summary import scored
from sotopia_gym.errors import ConfigError, JudgeError, TaskError, did_you_mean
from sotopia_gym.judges.credit import MAX_MARK, turn_rewards
from sotopia_gym.judges.reward import Reward, RewardFunction, to_function
from sotopia_gym.tasks.families import family_of
from sotopia_gym.tasks.schema import Task

TurnReward = Callable[[Episode, str], tuple[float, ...] | None]
"""From an episode and an agent to the reward of each of the agent's turns; None to leave it out."""

Potential = Callable[[Task, Sequence[Event], str], float]
"""From a task, what happened so far and an agent to how promising that is for the agent."""

Rule = Literal["share", "mark"]
"""How marks of turns become rewards."""

Unit = Literal["tokens", "words"]
"""What the length of a turn is counted in."""

_ROUNDING: Final = 1e-12
"""Deviation, as a share of the mean, up to which values may differ by rounding alone."""


def own_events(episode: Episode, agent: str) -> tuple[Event, ...]:
    """What an agent did in each of its turns, ``none`` and ``leave`` included, oldest first.

    Args:
        episode: The episode.
        agent: One of its task's agents.

    Raises:
        ConfigError: If there is no such agent, or if the tokens recorded of it are of other turns.
    """
    agents = episode.task.agents
    if agent not in agents:
        raise ConfigError(
            f"episode {_name(episode)} has no agent {agent!r}. {did_you_mean(agent, agents)}"
        )
    own = tuple(event for event in episode.events if event.agent == agent)
    recorded = [turn.turn for turn in episode.tokens.get(agent, ())]
    if recorded and episode.complete and recorded != [event.turn for event in own]:
        raise ConfigError(
            f"episode {_name(episode)}: {agent} acted in the turns {[e.turn for e in own]}, but "
            f"its tokens are of {recorded}. Train on the episode as it was recorded."
        )
    return own


# --- From judgements


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the rewards that stand on a judgement share."""

    reward: Reward = "goal"
    judge: str | None = None
    _worth: RewardFunction = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_worth", to_function(self.reward, None))
        if isinstance(self.reward, Mapping):
            for name, weight in self.reward.items():
                _check_number(f"the weight of {name!r}", weight)

    def _judged(self, episode: Episode, agent: str) -> tuple[Judgement, float] | None:
        """The judgement that counts, and what it is worth; None if there is no such thing."""
        judgement = scored(episode, self.judge) if episode.complete else None
        if judgement is None:
            return None
        self._check_names(judgement, agent)
        value = self._worth(judgement, agent)
        if value is None:
            return None
        _check_finite([value], f"{agent} in episode {_name(episode)}")
        return judgement, float(value)

    def _check_names(self, judgement: Judgement, agent: str) -> None:
        """Refuse a dimension that no judge can have: a misspelt one would leave out everything."""
        if callable(self.reward):
            return
        known = {*DIMENSIONS, *judgement.scores.get(agent, ())}
        for name in [self.reward] if isinstance(self.reward, str) else self.reward:
            if name not in known:
                raise ConfigError(f"no judge scores {name!r}. {did_you_mean(name, known)}")


@dataclass(frozen=True, slots=True)
class Terminal(_Scored):
    """The reward of the whole episode at the agent's last turn, 0 at those before.

    An agent that never had a turn has no rewards. Weights of dimensions scale as well:
    ``Terminal({"goal": 0.1})`` is between 0 and 1.

    Attributes:
        reward: What the episode is worth: a dimension, weights of dimensions, or a function of a
            judgement and an agent (None for what cannot be told).
        judge: Whose judgement counts; by default each episode's latest that has scores.

    Raises:
        ConfigError: If ``reward`` is none of these or a weight is not finite; of a call, if it
            comes to NaN or infinity or needs a dimension that no judge scores.
    """

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        own = own_events(episode, agent)
        judged = self._judged(episode, agent)
        if judged is None:
            return None
        return (0.0,) * (len(own) - 1) + (judged[1],) if own else ()


@dataclass(frozen=True, slots=True)
class Credited(_Scored):
    """The reward of the whole episode given to turns by the marks that a judge gave them.

    With the agent's score ``G`` and the mark ``m`` (0 to 3) of a turn, after Sotopia-RL (Yu et al.
    2025, arXiv 2508.03905), whose released code has both
    (github.com/sotopia-lab/sotopia-rl, ``sotopia_rl/prompter``):

    - ``"share"``, its normalised attribution: ``G * m / sum of marks``. The rewards sum to ``G``
      exactly, so that the return is the score: for training on whole conversations. Where all
      marks are 0 the parts are equal (:func:`~sotopia_gym.judges.credit.turn_rewards`); the
      released code has 0 there.
    - ``"mark"``, its direct attribution: ``G * m / 3``. Several turns can have all of ``G``: for
      training on each turn as an episode of its own, as Sotopia-RL does.

    Turns in which the agent neither said nor did anything are not marked and have 0. An agent that
    never did anything has, with ``"share"``, equal parts: silence must not be the way around a
    negative score.

    ``G`` should not be negative otherwise: of a negative score the turns that helped most get most.

    Attributes:
        reward: As for :class:`Terminal`.
        judge: As for :class:`Terminal`.
        by: The rule.

    Raises:
        ConfigError: As for :class:`Terminal`, or if there is no such rule.
        JudgeError: Of a call, if the judgement that counts does not mark the agent's turns.
    """

    by: Rule = "share"

    def __post_init__(self) -> None:
        _Scored.__post_init__(self)
        _check_choice("by", self.by, get_args(Rule))

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        own = own_events(episode, agent)
        judged = self._judged(episode, agent)
        if judged is None:
            return None
        judgement, score = judged
        credits = judgement.credits.get(agent, ())
        acted = [event.turn for event in own if event.action.action_type in ACTIVE_TYPES]
        if sorted(credit.turn for credit in credits) != acted:
            raise JudgeError(
                f"the judge {judgement.judge!r} marked the turns {[c.turn for c in credits]} of "
                f"{agent} in episode {_name(episode)}, which acted in {acted}. Judge with "
                "LLMJudge(..., credit=True), and name that judge if others judged later.",
                episode,
            )
        if self.by == "mark":
            rewards = {credit.turn: score * credit.mark / MAX_MARK for credit in credits}
        else:
            silent = [TurnCredit(turn=event.turn, mark=0) for event in own]
            rewards = turn_rewards(credits or silent, score)
        return tuple(rewards.get(event.turn, 0.0) for event in own)


# --- Shaping


def shaping_rewards(potentials: Sequence[float], discount: float) -> tuple[float, ...]:
    """Rewards that change no optimum: ``F_t = discount * phi(s_t+1) - phi(s_t)``.

    After Ng, Harada and Russell (1999), with the potential of the end taken as 0, without which
    episodes that end in different states would be shifted by different amounts (Grzes 2017). So
    the sum of ``discount**t * F_t`` is ``-phi(s_0)`` whatever was done: every policy's return is
    shifted by the same constant.

    Args:
        potentials: ``phi`` before each turn.
        discount: How much a reward of the next turn counts, 0 to 1: the one that returns are
            discounted with. With another the optimum is not kept.

    Returns:
        A reward for each turn.

    Raises:
        ConfigError: If the discount is out of its range.
    """
    _check_discount(discount)
    after = (*potentials[1:], 0.0)
    return tuple(discount * then - now for now, then in zip(potentials, after, strict=False))


@dataclass(frozen=True, slots=True)
class Shaping:
    """Potential-based shaping: :func:`shaping_rewards` of what is known before each own turn.

    The potential is given what happened before, and neither the end nor a judgement, so that it
    cannot but be a function of the state. The states are those in which the agent is to act: what
    the others do in between is part of the transition.

    Attributes:
        potential: How promising a state is, in the units of the reward it is added to; finite. To
            be pickled it has to be a function of a module. :func:`standing_offer` is one.
        discount: As for :func:`shaping_rewards`.

    Raises:
        ConfigError: If the discount is out of its range; of a call, if a potential is not finite.
    """

    potential: Potential
    discount: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.potential):
            raise ConfigError(
                "a potential is a function of a task, the events so far and an agent, such as "
                f"standing_offer; got {self.potential!r}."
            )
        _check_discount(self.discount)

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        own = own_events(episode, agent)
        if not episode.complete:
            return None
        potentials = [
            self.potential(
                episode.task, tuple(e for e in episode.events if e.turn < event.turn), agent
            )
            for event in own
        ]
        _check_finite(potentials, f"{agent} in episode {_name(episode)}")
        return shaping_rewards(potentials, self.discount)


def standing_offer(task: Task, events: Sequence[Event], agent: str) -> float:
    """The goal score that the agent would have if it said "Deal." now: a :data:`Potential`.

    It is what the task's family reads and scores with that one statement added: the worth of what
    the others have on the table, even if it is less than that of no agreement; else of what is
    agreed, or of no agreement. In families without offers to accept (dilemma, secret, mutual
    friend) it is the score as things stand.

    Args:
        task: A task with ground truth.
        events: What happened so far in an environment of ours, oldest first.
        agent: Who would accept.

    Returns:
        0 to 10.

    Raises:
        TaskError: If the task has no ground truth, or it does not cover the agent.
    """
    family = family_of(task)
    turn = events[-1].turn + 1 if events else 1
    accepted = (*events, Event(turn, agent, Action("speak", "Deal.")))
    score = family.score(task, family.read(task, accepted)).scores.get(agent)
    if score is None:
        raise TaskError(f"task {task.task_id} has no complete ground truth for {agent}.")
    return score.goal


# --- Length and format


@dataclass(frozen=True, slots=True)
class Overlong:
    """A penalty of up to 1 for each turn that is too long: soft overlong punishment.

    Equation 13 of DAPO (Yu et al. 2025, arXiv 2503.14476), of each turn's length ``L``: 0 up to
    ``limit - buffer``, from there falling linearly to -1 at ``limit``, and -1 beyond.

    Attributes:
        limit: The length from which on the penalty is full (``L_max``). Where a sampler stops
            before, no turn has the full penalty.
        buffer: The length over which it grows (``L_cache``), at least 1 and at most ``limit``.
        unit: ``"tokens"`` that a policy sampled, all of them; or ``"words"`` of what took effect,
            parted by white space, for whoever leaves no tokens.

    Raises:
        ConfigError: If an attribute is out of its range; of a call, if tokens are to be counted
            and none were recorded.
    """

    limit: int
    buffer: int
    unit: Unit = "tokens"

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("buffer", self.buffer)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be an integer of at least 1, got {value!r}.")
        if self.buffer > self.limit:
            raise ConfigError(
                f"buffer must be at most the limit of {self.limit}, got {self.buffer}."
            )
        _check_choice("unit", self.unit, get_args(Unit))

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        own = own_events(episode, agent)
        if not episode.complete:
            return None
        free = self.limit - self.buffer
        return tuple(
            min(0.0, max(-1.0, (free - length) / self.buffer))
            for length in self._lengths(episode, agent, own)
        )

    def _lengths(self, episode: Episode, agent: str, own: Sequence[Event]) -> list[int]:
        if self.unit == "words":
            return [len(event.action.argument.split()) for event in own]
        turns = episode.tokens.get(agent, ())
        if own and not turns:
            raise ConfigError(
                f"episode {_name(episode)} has no tokens of {agent}: only policies record them. "
                'Count with unit="words".'
            )
        return [len(turn.sampled) for turn in turns]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """-1 for each turn whose answer could not be read as an action, else 0.

    Whether the action that was read then had an effect is not its concern.
    """

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        own = own_events(episode, agent)
        if not episode.complete:
            return None
        return tuple(-1.0 if (e.note or "").startswith(NO_ACTION) else 0.0 for e in own)


# --- Made of others


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """Turn by turn the weighted sum of several; None if one of them is.

    Attributes:
        parts: Weight, and what it is the weight of; at least one, each weight finite.

    Raises:
        ConfigError: If an attribute is something else; of a call, if a part gives another number
            of rewards than the agent has turns, or one that is not finite.
    """

    parts: Sequence[tuple[float, TurnReward]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or not all(isinstance(p, tuple) and len(p) == 2 for p in self.parts):
            raise ConfigError(
                "a weighted sum is made of at least one pair of a weight and a turn reward, as in "
                f'[(0.1, Terminal("goal")), (0.5, Unreadable())]; got {self.parts!r}.'
            )
        for weight, part in self.parts:
            _check_reward("a part of a weighted sum", part)
            _check_number("a weight", weight)

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        columns = []
        for weight, part in self.parts:
            rewards = _rewards(part, episode, agent)
            if rewards is None:
                return None
            columns.append([weight * reward for reward in rewards])
        return tuple(sum(turn) for turn in zip(*columns, strict=True))


@dataclass(frozen=True, slots=True)
class Clipped:
    """The rewards of another, none below ``low`` and none above ``high``.

    Attributes:
        reward: The other.
        low: The lowest reward of a turn.
        high: The highest, at least ``low``.

    Raises:
        ConfigError: If ``low`` is above ``high`` or either is NaN; of a call, as for
            :class:`WeightedSum`.
    """

    reward: TurnReward
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_reward("what is clipped", self.reward)
        if not self.low <= self.high:
            raise ConfigError(f"low must be at most high, got {self.low!r} and {self.high!r}.")

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        rewards = _rewards(self.reward, episode, agent)
        if rewards is None:
            return None
        return tuple(min(self.high, max(self.low, reward)) for reward in rewards)


# --- Normalising


class RunningNormaliser:
    """Mean and deviation of all values seen so far, to bring values to a common scale.

    Batches are merged by the formula of Chan, Golub and LeVeque (1983); of batches of one value
    that is Welford's (1962). How values are split into batches makes no difference but rounding.

    Dividing all rewards by one positive number changes no optimum. Subtracting the mean of
    rewards does where episodes differ in length: staying would earn, or cost. So use
    :meth:`scaled` for rewards, fed with returns or rewards, and :meth:`standardised` for returns.

    Attributes:
        count: How many values were seen.
        mean: Their mean; 0 before the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    @property
    def variance(self) -> float:
        """The population variance of the values; 0 before the first."""
        return self._squares / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        """What is divided by: the standard deviation, or 1 as long as all values are equal."""
        deviation = math.sqrt(self.variance)
        return deviation if deviation > _ROUNDING * abs(self.mean) else 1.0

    def update(self, values: Sequence[float], source: str) -> None:
        """Take in rewards or returns.

        Args:
            values: Any number of them, each finite.
            source: Where they come from, e.g. ``"episode 3f2a"``, for the error.

        Raises:
            ConfigError: If one is NaN or infinite; nothing is taken in then.
        """
        _check_finite(values, source)
        if len(values) == 0:
            return
        count = self.count + len(values)
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        apart = mean - self.mean
        self._squares += squares + apart**2 * self.count * len(values) / count
        self.mean += apart * len(values) / count
        self.count = count

    def scaled(self, values: Iterable[float]) -> tuple[float, ...]:
        """The values divided by the deviation."""
        deviation = self.deviation
        return tuple(value / deviation for value in values)

    def standardised(self, values: Iterable[float]) -> tuple[float, ...]:
        """The values less the mean, divided by the deviation."""
        return self.scaled(value - self.mean for value in values)

    def state_dict(self) -> dict[str, Any]:
        """All it knows, as JSON keeps it exactly."""
        return {"count": self.count, "mean": self.mean, "squares": self._squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with the very same numbers.

        Args:
            state: What :meth:`state_dict` gave.

        Raises:
            ConfigError: If it is nothing of the kind; nothing is changed then.
        """
        if set(state) != {"count", "mean", "squares"}:
            raise ConfigError(
                "the state of a normaliser has the keys count, mean and squares; got "
                f"{', '.join(sorted(map(str, state))) or 'none'}."
            )
        for name, value in state.items():
            _check_number(f"{name} of a normaliser", value)
        if state["count"] != int(state["count"]) or state["count"] < 0 or state["squares"] < 0:
            raise ConfigError(
                "count of a normaliser must be a whole number of at least 0 and squares not "
                f"negative, got {state['count']!r} and {state['squares']!r}."
            )
        self.count, self.mean = int(state["count"]), float(state["mean"])
        self._squares = float(state["squares"])


@dataclass(frozen=True, slots=True)
class Scaled:
    """The rewards of another, divided by the deviation that a normaliser has at the moment.

    It feeds the normaliser nothing: let it see each episode once, and not while one batch is
    being rewarded.

    Attributes:
        reward: The other.
        normaliser: What it is divided by.

    Raises:
        ConfigError: Of a call, as for :class:`WeightedSum`.
    """

    reward: TurnReward
    normaliser: RunningNormaliser

    def __post_init__(self) -> None:
        _check_reward("what is scaled", self.reward)

    def __call__(self, episode: Episode, agent: str) -> tuple[float, ...] | None:
        rewards = _rewards(self.reward, episode, agent)
        return None if rewards is None else self.normaliser.scaled(rewards)


# --- Inside


def _rewards(reward: TurnReward, episode: Episode, agent: str) -> tuple[float, ...] | None:
    """The rewards that another turn reward gives, checked: it may be the caller's own."""
    rewards = reward(episode, agent)
    if rewards is None:
        return None
    turns = len(own_events(episode, agent))
    if len(rewards) != turns:
        raise ConfigError(
            f"{agent} has {turns} turns in episode {_name(episode)}, but {reward!r} gives "
            f"{len(rewards)} rewards. Give one for each of own_events(episode, agent)."
        )
    _check_finite(rewards, f"{agent} in episode {_name(episode)}")
    return tuple(rewards)


def _name(episode: Episode) -> str:
    return episode.key or episode.episode_id


def _check_finite(values: Sequence[float], source: str) -> None:
    for value in values:
        if not math.isfinite(value):
            raise ConfigError(
                f"a reward or potential of {source} is {value}, not a finite number. Leave out "
                "what cannot be rewarded: None instead of rewards."
            )


def _check_number(what: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ConfigError(f"{what} must be a finite number, got {value!r}.")


def _check_discount(value: float) -> None:
    _check_number("discount", value)
    if not 0 <= value <= 1:
        raise ConfigError(f"discount must be between 0 and 1, got {value!r}.")


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{what} must be one of {', '.join(map(repr, known))}, got {value!r}.")


def _check_reward(what: str, value: Any) -> None:
    if not callable(value):
        raise ConfigError(
            f"{what} must be a turn reward, a function of an episode and an agent, got {value!r}. "
            'Of a dimension Terminal("goal") makes one.'
        )
