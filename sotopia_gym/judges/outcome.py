"""The exact judge: scores tasks with ground truth by arithmetic, offline and for free."""

from __future__ import annotations

from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement
from sotopia_gym.errors import JudgeError, TaskError
from sotopia_gym.judges.base import Judge
from sotopia_gym.tasks.families import family_of
from sotopia_gym.tasks.schema import Suite


class OutcomeJudge(Judge):
    """Reads what was agreed and scores it by the family's formula.

    It gives the goal dimension only. In a conversation of our own environment, without an
    explicit, accepted agreement there is no agreement.
    """

    name = "outcome"
    dimensions = ("goal",)

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
        try:
            family = family_of(episode.task)
            outcome = family.read(episode.task, episode.events)
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
        return self.judge(episode)


def beside(judgement: Judgement, episode: Episode) -> Judgement:
    """``judgement`` with what verifiably happened added, on tasks with ground truth.

    So the bias of every other judge is measured for free. Conversations that were not played in
    an environment of ours are left as they are: the rules here are too strict for them.
    """
    if episode.task.scenario.outcome is None or episode.source is not None:
        return judgement
    exact = OutcomeJudge().judge(episode)
    return judgement.model_copy(
        update={
            "outcome": exact.outcome,
            "normalised": exact.normalised,
            "true_goals": exact.true_goals,
            "metrics": exact.metrics | judgement.metrics,
        }
    )
