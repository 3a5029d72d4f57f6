"""What is measured of one episode, and running means of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from sotopia_gym.benchmark.result import Estimate, Group
from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.stats import RunningMean


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


class Tally:
    """Running means over scored episodes; what is kept is a sum for each scenario."""

    def __init__(self) -> None:
        self._episodes = 0
        self._scenarios: set[str] = set()
        self._scores: dict[str, RunningMean] = {}
        self._partner: dict[str, RunningMean] = {}
        self._outcomes: dict[str, RunningMean] = {}
        self._conversation: dict[str, RunningMean] = {}

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
        for role in set(episode.task.agents) - set(episode.seats):
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


def _add(means: dict[str, RunningMean], scenario: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        means.setdefault(name, RunningMean()).add(value, scenario)


def _estimates(means: Mapping[str, RunningMean]) -> dict[str, Estimate]:
    # The order in which episodes finish must not change what is drawn.
    return {
        name: Estimate.of(mean.interval(in_order=True), mean.clusters)
        for name, mean in means.items()
    }


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {n: float(v) for n, v in values.items() if v is not None and math.isfinite(v)}
