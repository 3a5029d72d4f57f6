"""What is measured of one episode, and running means of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from sotopia_gym.benchmark.result import Estimate, Group
from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.stats import interval_of_sums

_MOST_CAUSES: Final = 50
"""Different causes that are counted by themselves; the rest are "other causes"."""


def seats(episode: Episode) -> tuple[str, ...]:
    """The roles of the agent that an episode is about: one, or all where it met itself."""
    return episode.task.agents if episode.focal is None else (episode.focal,)


def partner_names(episode: Episode) -> str:
    """The names of those whom the agent met; its own where it met itself."""
    met = {name for role, name in episode.agents.items() if role != episode.focal}
    return " + ".join(sorted(met)) or "unknown"


def scored_by(episode: Episode, judge: str, prompt: str | None = None) -> Judgement | None:
    """The latest judgement of ``judge`` that scores the agent an episode is about, or None.

    Args:
        episode: The episode.
        judge: Name of the judge.
        prompt: Version and hash of the judge's prompt; None for any.
    """
    for given in reversed(episode.judgements):
        same = given.judge == judge and (prompt is None or given.prompt in ("", prompt))
        if same and given.scored and any(given.scores.get(seat) for seat in seats(episode)):
            return given
    return None


def scores(judgement: Judgement, agent: str) -> dict[str, float]:
    """All that a judgement says of one agent: dimensions, overall, and exact scores."""
    found: dict[str, float | None] = {
        name: score.score for name, score in judgement.scores.get(agent, {}).items()
    }
    found["overall"] = judgement.overall(agent)
    found["normalised"] = judgement.normalised.get(agent)
    found["true_goal"] = judgement.true_goals.get(agent)
    return _known(found)


def outcomes(judgement: Judgement) -> dict[str, float]:
    """What a judgement says of the conversation as a whole, where there is ground truth."""
    outcome = judgement.outcome
    if outcome is None or outcome.status == "unread":
        return {}
    return _known(
        {
            "agreement": float(outcome.agreed),
            "pareto_optimal": judgement.metrics.get("pareto_optimal"),
        }
    )


def conversation(episode: Episode, agent: str) -> dict[str, float]:
    """How an agent took part; see :class:`~sotopia_gym.benchmark.result.Group`."""
    own = [event for event in episode.events if event.agent == agent]
    kinds = [event.action.action_type for event in own]
    spoken = [
        len(event.action.argument.split()) for event in own if event.action.action_type == "speak"
    ]
    return _known(
        {
            "turns": max((event.turn for event in episode.events), default=0),
            "words_per_turn": sum(spoken) / len(spoken) if spoken else None,
            "left": float("leave" in kinds),
            "silent": kinds.count("none") / len(own) if own else None,
            "invalid": sum(event.note is not None for event in own) / len(own) if own else None,
        }
    )


def count_cause(causes: Counter[str], error: str | None) -> None:
    """Count why something went wrong; numbers and endings of messages are of one episode."""
    lines = (error or "").strip().splitlines() or ["unknown"]
    cause = re.sub(r"\d+", "#", lines[0][:100])
    causes[cause if cause in causes or len(causes) < _MOST_CAUSES else "other causes"] += 1


class Tally:
    """Running means over scored episodes; what is kept is a sum for each scenario."""

    def __init__(self) -> None:
        self._episodes = 0
        self._scenarios: set[str] = set()
        self._scores: dict[str, _Mean] = {}
        self._partner: dict[str, _Mean] = {}
        self._outcomes: dict[str, _Mean] = {}
        self._conversation: dict[str, _Mean] = {}

    def add(self, episode: Episode, judgement: Judgement, roles: Iterable[str]) -> None:
        """Take in one episode, as far as the agent played ``roles`` in it."""
        scenario = episode.task.scenario.scenario_id
        self._episodes += 1
        self._scenarios.add(scenario)
        _add(self._outcomes, scenario, outcomes(judgement))
        for role in roles:
            _add(self._scores, scenario, scores(judgement, role))
            if episode.has_transcript:
                _add(self._conversation, scenario, conversation(episode, role))
        for role in set(episode.task.agents) - set(seats(episode)):
            _add(self._partner, scenario, scores(judgement, role))

    def group(self) -> Group:
        """The means."""
        return Group(
            episodes=self._episodes,
            scenarios=len(self._scenarios),
            scores=_estimates(self._scores),
            partner=_estimates(self._partner),
            outcomes=_estimates(self._outcomes),
            conversation=_estimates(self._conversation),
        )


class _Mean:
    """A mean with the sums of its scenarios."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._sizes: dict[str, int] = {}

    def add(self, scenario: str, value: float) -> None:
        self._sums[scenario] = self._sums.get(scenario, 0.0) + value
        self._sizes[scenario] = self._sizes.get(scenario, 0) + 1

    def estimate(self) -> Estimate:
        # The order in which episodes finish must not change what is drawn.
        names = sorted(self._sums)
        interval = interval_of_sums(
            [self._sums[name] for name in names], [self._sizes[name] for name in names]
        )
        return Estimate.of(interval, len(names))


def _add(means: dict[str, _Mean], scenario: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        means.setdefault(name, _Mean()).add(scenario, value)


def _estimates(means: Mapping[str, _Mean]) -> dict[str, Estimate]:
    return {name: mean.estimate() for name, mean in means.items()}


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {n: float(v) for n, v in values.items() if v is not None and math.isfinite(v)}
