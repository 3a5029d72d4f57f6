"""What many episodes amount to, in one pass over them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sotopia_gym.episodes.schema import Episode, Judgement, Usage
from sotopia_gym.stats import Interval, RunningMean

OPEN_ENDED: Final = "open-ended"
"""Where tasks without ground truth are counted among the families."""

_MOST_CAUSES: Final = 50
"""Different causes that are counted by themselves; the rest are "other causes"."""


@dataclass(frozen=True, slots=True)
class Group:
    """Complete episodes that have something in common.

    Means are over seats (an agent in an episode) where they are an agent's, and over episodes
    where they are the conversation's. Intervals are those of
    :func:`~sotopia_gym.stats.mean_interval` with the scenarios as clusters, at 95 %.

    Attributes:
        episodes: How many episodes.
        seats: How many roles in them.
        goal: Goal score, 0 to 10, over the seats that have one; None if none has.
        normalised: Goal score where 0 is no agreement and 1 the rational ceiling, over the seats
            of tasks with ground truth; None if there are none.
        agreement: Share of the episodes with an outcome in which there was an agreement; None if
            none has an outcome. Foreign transcripts that do not carry theirs are left out.
        turns: Turns of the conversation, mean; None without a conversation.
        words: Words spoken by the agent in an episode, mean; None without a conversation.
        left: Share of the seats whose agent left; None without a conversation.
        usage: What playing the seats cost in all.
    """

    episodes: int
    seats: int
    goal: Interval | None
    normalised: Interval | None
    agreement: Interval | None
    turns: float | None
    words: float | None
    left: float | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Summary:
    """What :func:`stats` counted.

    Attributes:
        episodes: All of them.
        complete: Those that were played to their end.
        failed: Those that a player broke off.
        interrupted: Those that were stopped.
        unjudged: Complete ones that nobody judged.
        unscored: Complete ones that were judged, but not scored.
        without_conversation: Complete ones of which only scores are recorded.
        endings: Ending to how many episodes ended like that.
        failures: Why episodes failed, most frequent first; digits are shown as ``#``.
        unscored_because: Why episodes were not scored, in the same form.
        judges: Judge to the episodes whose scores in here are its. Where these are several, the
            means mix them.
        agents: The spec of who played, to its seats; those of unknown players are left out.
        families: Task family, or ``"open-ended"``, to its episodes.
        sources: Where scenarios come from, to their episodes.
        playing: What playing cost, incomplete episodes included.
        judging: What all judgements cost.
    """

    episodes: int
    complete: int
    failed: int
    interrupted: int
    unjudged: int
    unscored: int
    without_conversation: int
    endings: dict[str, int]
    failures: dict[str, int]
    unscored_because: dict[str, int]
    judges: dict[str, int]
    agents: dict[str, Group]
    families: dict[str, Group]
    sources: dict[str, Group]
    playing: Usage
    judging: Usage


def stats(episodes: Iterable[Episode], *, judge: str | None = None) -> Summary:
    """Sum episodes up, in one pass and without keeping them.

    What is kept is a sum and a count for each scenario in each group.

    Args:
        episodes: The episodes, each once.
        judge: Whose scores are counted; by default those of the latest judgement that has any.
    """
    total = _Total(judge)
    for episode in episodes:
        total.add(episode)
    return total.summary()


def scored(episode: Episode, judge: str | None = None) -> Judgement | None:
    """The latest judgement that has scores, of this judge or of any; None if there is none."""
    given = (j for j in reversed(episode.judgements) if judge in (None, j.judge))
    return next((judgement for judgement in given if judgement.scored), None)


def count_cause(causes: Counter[str], error: str | None) -> None:
    """Count why something went wrong; numbers and endings of messages are of one episode."""
    lines = (error or "").strip().splitlines() or ["unknown"]
    cause = re.sub(r"\d+", "#", lines[0][:100])
    causes[cause if cause in causes or len(causes) < _MOST_CAUSES else "other causes"] += 1


# --- Running sums


@dataclass(slots=True)
class _Group:
    episodes: int = 0
    seats: int = 0
    goal: RunningMean = field(default_factory=RunningMean)
    normalised: RunningMean = field(default_factory=RunningMean)
    agreement: RunningMean = field(default_factory=RunningMean)
    conversations: int = 0
    talking_seats: int = 0
    turns: int = 0
    words: int = 0
    left: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, episode: Episode, agents: Iterable[str], judgement: Judgement | None) -> None:
        """Take in one episode, as far as it is about ``agents``."""
        scenario = episode.task.scenario.scenario_id
        self.episodes += 1
        outcome = None if judgement is None else judgement.outcome
        if outcome is not None and outcome.status != "unread":
            self.agreement.add(outcome.agreed, scenario)
        if episode.has_transcript:
            self.conversations += 1
            self.turns += max((event.turn for event in episode.events), default=0)
        for agent in agents:
            self._seat(episode, agent, judgement, scenario)

    def _seat(
        self, episode: Episode, agent: str, judgement: Judgement | None, scenario: str
    ) -> None:
        self.seats += 1
        if judgement is not None:
            if (goal := judgement.goal(agent)) is not None:
                self.goal.add(goal, scenario)
            if agent in judgement.normalised:
                self.normalised.add(judgement.normalised[agent], scenario)
        if episode.has_transcript:
            acts = [event.action for event in episode.events if event.agent == agent]
            self.talking_seats += 1
            self.words += sum(len(a.argument.split()) for a in acts if a.action_type == "speak")
            self.left += any(act.action_type == "leave" for act in acts)
        if agent in episode.usage:
            self.usage += episode.usage[agent]

    def group(self) -> Group:
        return Group(
            episodes=self.episodes,
            seats=self.seats,
            goal=_interval(self.goal),
            normalised=_interval(self.normalised),
            agreement=_interval(self.agreement),
            turns=_ratio(self.turns, self.conversations),
            words=_ratio(self.words, self.talking_seats),
            left=_ratio(self.left, self.talking_seats),
            usage=self.usage,
        )


class _Total:
    def __init__(self, judge: str | None) -> None:
        self._judge = judge
        self._counts: Counter[str] = Counter()
        self._endings: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._unscored: Counter[str] = Counter()
        self._judges: Counter[str] = Counter()
        self._agents: dict[str, _Group] = {}
        self._families: dict[str, _Group] = {}
        self._sources: dict[str, _Group] = {}
        self._playing, self._judging = Usage(), Usage()

    def add(self, episode: Episode) -> None:
        self._counts["episodes"] += 1
        self._endings[episode.ending] += 1
        for used in episode.usage.values():
            self._playing += used
        for given in episode.judgements:
            self._judging += given.usage
        if not episode.complete:
            self._counts[episode.ending] += 1
            if episode.ending == "failed":
                count_cause(self._failures, episode.error)
            return
        self._counts["complete"] += 1
        self._counts["without"] += not episode.has_transcript
        judgement = scored(episode, self._judge)
        self._count_judgement(episode, judgement)
        scenario = episode.task.scenario
        family = OPEN_ENDED if scenario.outcome is None else scenario.outcome.family
        everybody = episode.task.agents
        self._families.setdefault(family, _Group()).add(episode, everybody, judgement)
        source = scenario.source or "unknown"
        self._sources.setdefault(source, _Group()).add(episode, everybody, judgement)
        for spec in dict.fromkeys(episode.agents.values()):
            seats = [agent for agent, player in episode.agents.items() if player == spec]
            self._agents.setdefault(spec, _Group()).add(episode, seats, judgement)

    def _count_judgement(self, episode: Episode, judgement: Judgement | None) -> None:
        given = [j for j in episode.judgements if self._judge in (None, j.judge)]
        if judgement is not None:
            self._judges[judgement.judge] += 1
        elif given:
            self._counts["unscored"] += 1
            count_cause(self._unscored, given[-1].error or "no scores")
        else:
            self._counts["unjudged"] += 1

    def summary(self) -> Summary:
        counts = self._counts
        return Summary(
            episodes=counts["episodes"],
            complete=counts["complete"],
            failed=counts["failed"],
            interrupted=counts["interrupted"],
            unjudged=counts["unjudged"],
            unscored=counts["unscored"],
            without_conversation=counts["without"],
            endings=dict(self._endings.most_common()),
            failures=dict(self._failures.most_common()),
            unscored_because=dict(self._unscored.most_common()),
            judges=dict(self._judges.most_common()),
            agents=_groups(self._agents),
            families=_groups(self._families),
            sources=_groups(self._sources),
            playing=self._playing,
            judging=self._judging,
        )


def _groups(found: dict[str, _Group]) -> dict[str, Group]:
    return {name: found[name].group() for name in sorted(found)}


def _interval(mean: RunningMean) -> Interval | None:
    return mean.interval() if mean.clusters else None


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None
