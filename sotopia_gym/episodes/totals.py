"""What a report says of many episodes together, gathered one episode at a time."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sotopia_gym.envs.dialogue import ACTIVE_TYPES
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import Episode, Judgement, Usage
from sotopia_gym.stats import RunningMean
from sotopia_gym.tasks.schema import Task

_RESAMPLES = 1000
_BLOCKS = 20  # of a learning curve over the order of the episodes
_SMALLEST_BLOCK = 10  # episodes
_CAUSES = 12  # shown of each kind
_MEASURES: Final = {
    "goal": "Goal score given by the judge, 0 to 10.",
    "normalised": "Goal score where 0 is no agreement and 1 the rational ceiling.",
    "true goal": "Exact goal score by arithmetic, 0 to 10.",
    "agreed": "Share of episodes that end in an agreement.",
    "overall": "Plain mean of the seven dimensions.",
    **{name: f"{d.low:g} to {d.high:g}." for name, d in DIMENSIONS.items() if name != "goal"},
}


def family(task: Task) -> str:
    """The family of a task with ground truth; empty if it has none."""
    return "" if task.scenario.outcome is None else task.scenario.outcome.family


def turns(episode: Episode) -> int:
    """How many turns were played."""
    return max((event.turn for event in episode.events), default=0)


def state(episode: Episode) -> str:
    """How it stands with an episode: failed, interrupted, unjudged, unscored or scored."""
    if not episode.complete:
        return episode.ending
    if episode.judgement is None:
        return "unjudged"
    return "scored" if episode.judgement.scored else "unscored"


_Group = defaultdict[str, RunningMean]
"""Name of a measure to its mean, of which the clusters are the scenarios."""


def _groups() -> defaultdict[tuple[str, str], _Group]:
    return defaultdict(lambda: defaultdict(RunningMean))


@dataclass
class Totals:
    """Counts, scores and costs over episodes that are added one at a time."""

    episodes: int = 0
    states: Counter[str] = field(default_factory=Counter)
    causes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    named: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    usage: Usage = field(default_factory=Usage)
    talk: defaultdict[tuple[str, str], _Group] = field(default_factory=_groups)
    scores: dict[str, defaultdict[tuple[str, str], _Group]] = field(default_factory=dict)
    order: defaultdict[tuple[str, str], list[tuple[float | None, float, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, episode: Episode) -> None:
        """Count one episode."""
        self.episodes += 1
        how = state(episode)
        self.states[how] += 1
        task = episode.task
        self.named["agents"].update(sorted(set(episode.agents.values())))
        self.named["judges"].update(sorted({j.judge for j in episode.judgements}))
        self.named["families"][family(task) or "no ground truth"] += 1
        self.named["sources"][task.scenario.source or "not recorded"] += 1
        self.named["tasks"][task.task_id] += 1
        self.named["versions"][episode.library_version or "not recorded"] += 1
        for used in (*episode.usage.values(), *(j.usage for j in episode.judgements)):
            self.usage += used
        if not episode.complete:
            self.causes[how][_cause(episode.error)] += 1
            return
        if how == "unscored":
            self.causes[how][_cause(episode.judgements[-1].error)] += 1
        self._add_talk(episode)
        for judgement in {j.judge: j for j in episode.judgements}.values():
            if judgement.scored:
                self._add_scores(episode, judgement)

    def _add_talk(self, episode: Episode) -> None:
        if not episode.has_transcript:
            return
        scenario = episode.task.scenario.scenario_id
        for role in episode.task.agents:
            group = self.talk[_player(episode, role), role]
            acted = [e.action for e in episode.events if e.agent == role]
            words = [len(a.argument.split()) for a in acted if a.action_type in ACTIVE_TYPES]
            group["turns"].add(turns(episode), scenario)
            if words:
                group["words per turn"].add(sum(words) / len(words), scenario)
            group["left"].add(any(a.action_type == "leave" for a in acted), scenario)

    def _add_scores(self, episode: Episode, judgement: Judgement) -> None:
        scenario = episode.task.scenario.scenario_id
        groups = self.scores.setdefault(judgement.judge, _groups())
        for role in episode.task.agents:
            player = _player(episode, role)
            found: dict[str, float | None] = {
                name: score.score for name, score in judgement.scores.get(role, {}).items()
            }
            found["normalised"] = judgement.normalised.get(role)
            found["true goal"] = judgement.true_goals.get(role)
            found["overall"] = judgement.overall(role)
            if judgement.outcome is not None and judgement.outcome.status != "unread":
                found["agreed"] = judgement.outcome.agreed
            for name, value in found.items():
                if value is not None and math.isfinite(value):
                    groups[player, role][name].add(value, scenario)
            goal = judgement.goal(role)
            if goal is not None:
                place = (_round(episode), goal, scenario)
                self.order[judgement.judge, player].append(place)

    def data(self) -> dict[str, Any]:
        """All of it as JSON."""
        usage = self.usage
        return {
            "episodes": self.episodes,
            "states": self.states,
            "causes": {how: found.most_common(_CAUSES) for how, found in self.causes.items()},
            "named": {
                kind: len(found) if kind == "tasks" else found.most_common()
                for kind, found in self.named.items()
            },
            "usage": {
                "requests": usage.requests,
                "tokens": usage.prompt_tokens + usage.completion_tokens,
                "cost": usage.cost,
            },
            "measures": _MEASURES,
            "talk": _table(self.talk),
            "judges": [
                {
                    "judge": judge,
                    "table": _table(groups),
                    "players": [
                        {"player": player, "bins": _bins(goals), "curve": _curve(goals)}
                        for (by, player), goals in self.order.items()
                        if by == judge
                    ],
                }
                for judge, groups in self.scores.items()
            ],
        }


def _player(episode: Episode, role: str) -> str:
    return episode.agents.get(role, "not recorded")


def _cause(error: str | None) -> str:
    return (error or "no cause recorded")[:300]


def _round(episode: Episode) -> float | None:
    found = episode.extra.get("round")
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return found


def _table(groups: Mapping[tuple[str, str], _Group]) -> list[dict[str, Any]]:
    """Each player's measures by role, and over all roles where it played several."""
    whole = _groups()
    for (player, _), group in groups.items():
        for name, mean in group.items():
            whole[player, "all roles"][name].include(mean)
    rows = []
    for player in sorted({player for player, _ in groups}):
        roles = sorted(role for by, role in groups if by == player)
        chosen = [(role, groups[player, role]) for role in roles]
        if len(roles) > 1:
            chosen.insert(0, ("all roles", whole[player, "all roles"]))
        rows += [
            {"player": player, "role": role, "values": {n: _interval(m) for n, m in group.items()}}
            for role, group in chosen
        ]
    return rows


def _interval(mean: RunningMean) -> list[float | None]:
    """Mean, lower and upper end, count."""
    found = mean.interval(resamples=_RESAMPLES)
    ends = [None if math.isnan(end) else end for end in (found.low, found.high)]
    return [found.mean, *ends, found.count]


def _bins(goals: list[tuple[float | None, float, str]]) -> list[int]:
    """How many goal scores are nearest to 0, 1, ... 10."""
    counts = Counter(min(10, max(0, math.floor(goal + 0.5))) for _, goal, _ in goals)
    return [counts[value] for value in range(11)]


def _curve(goals: list[tuple[float | None, float, str]]) -> dict[str, Any] | None:
    """Mean goal score by round, or by blocks of successive episodes; None if there are too few."""
    groups: defaultdict[float, RunningMean] = defaultdict(RunningMean)
    by_round = all(number is not None for number, _, _ in goals)
    size = max(_SMALLEST_BLOCK, math.ceil(len(goals) / _BLOCKS))
    for index, (number, goal, scenario) in enumerate(goals):
        if number is not None and by_round:
            groups[number].add(goal, scenario)
        else:
            groups[float(index // size)].add(goal, scenario)
    if not by_round and len(goals) % size and len(groups) > 1:
        groups.pop(max(groups))  # a last block that is not full
    if len(groups) < (2 if by_round else 3):
        return None
    points = [
        [place if by_round else (place + 1) * size, *_interval(groups[place])]
        for place in sorted(groups)
    ]
    return {"by": "round" if by_round else "episode", "block": size, "points": points}
