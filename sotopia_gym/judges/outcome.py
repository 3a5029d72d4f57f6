"""The exact judge: scores tasks with ground truth by arithmetic, offline and for free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement
from sotopia_gym.errors import JudgeError, TaskError
from sotopia_gym.judges.base import Judge
from sotopia_gym.outcomes import OutcomeReader, Said
from sotopia_gym.outcomes.rules import RulesReader
from sotopia_gym.tasks.families import Outcome, family_of
from sotopia_gym.tasks.schema import OutcomeSpec, Suite, Task

_Read = Callable[[OutcomeSpec, Sequence[Said]], Outcome]


class OutcomeJudge(Judge):
    """Reads what was agreed and scores it by the family's formula.

    It gives the goal dimension only. In a conversation of our own environment, without an
    explicit, accepted agreement there is no agreement. One that comes from elsewhere follows no
    rule of ours: ``reader`` reads it, and where its words carry no outcome it is unscored.

    Args:
        reader: Reads conversations of other environments; by default by rules.
    """

    name = "outcome"
    dimensions = ("goal",)

    def __init__(self, reader: OutcomeReader | None = None) -> None:
        self._reader = reader or RulesReader()

    def check(self, suite: Suite) -> None:
        """Raise JudgeError unless every task of ``suite`` has ground truth of a known family."""
        for task in suite:
            try:
                family_of(task).check(task)
            except TaskError as error:
                raise JudgeError(
                    f"the outcome judge cannot score suite {suite.name!r}: {error} Play it with "
                    "judge='none' and judge the episodes later, or with a judge that reads "
                    "open-ended conversations."
                ) from error

    def judge(self, episode: Episode) -> Judgement:
        return self._judged(episode, self._reader.read)

    def _judged(self, episode: Episode, read: _Read) -> Judgement:
        try:
            family = family_of(episode.task)
            if episode.source is None:
                outcome = family.read(episode.task, episode.events)
            else:
                outcome = read(_spec_of(episode.task), _said(episode))
            if outcome.status == "unread":
                return Judgement(
                    judge=self.name,
                    outcome=outcome,
                    error="the words of this conversation do not carry its outcome",
                )
            scoring = family.score(episode.task, outcome)
        except TaskError as error:
            return Judgement(judge=self.name, error=str(error))
        goals = {agent: score.goal for agent, score in scoring.scores.items()}
        return Judgement(
            judge=self.name,
            scores={agent: {"goal": DimensionScore(score=goal)} for agent, goal in goals.items()},
            outcome=outcome,
            normalised={agent: score.normalised for agent, score in scoring.scores.items()},
            true_goals=goals,
            metrics={
                "surplus": scoring.surplus,
                "pareto_optimal": float(scoring.pareto_optimal),
            },
        )

    async def ajudge(self, episode: Episode) -> Judgement:
        if episode.source is None or episode.task.scenario.outcome is None:
            return self.judge(episode)
        outcome = await self._reader.aread(episode.task.scenario.outcome, _said(episode))
        return self._judged(episode, lambda _spec, _words: outcome)


def beside(judgement: Judgement, episode: Episode) -> Judgement:
    """``judgement`` with what verifiably happened added, on tasks with ground truth.

    So the bias of every other judge is measured for free. Conversations that were not played in
    an environment of ours are read by selective rules; where those leave one unread, nothing is
    added.
    """
    if episode.task.scenario.outcome is None:
        return judgement
    exact = OutcomeJudge().judge(episode)
    if exact.outcome is None or exact.outcome.status == "unread":
        return judgement
    return judgement.model_copy(
        update={
            "outcome": exact.outcome,
            "normalised": exact.normalised,
            "true_goals": exact.true_goals,
            "metrics": exact.metrics | judgement.metrics,
        }
    )


def _spec_of(task: Task) -> OutcomeSpec:
    if task.scenario.outcome is None:
        raise TaskError(f"task {task.task_id} has no ground truth to score.")
    return task.scenario.outcome


def _said(episode: Episode) -> list[Said]:
    """What was said to all."""
    return [
        Said(event.agent, event.action.argument)
        for event in episode.events
        if event.action.action_type == "speak" and not event.action.to
    ]
