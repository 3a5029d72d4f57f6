"""People's ratings as a judge."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import HUMAN_PREFIX, DimensionScore, Episode, Judgement
from sotopia_gym.errors import JudgeError
from sotopia_gym.judges.base import Judge
from sotopia_gym.tasks.schema import Suite, short_digest


class HumanJudge(Judge):
    """Scores an episode with the mean of its people's ratings.

    It knows the episodes it was given and no others: an episode without ratings is unscored.

    Args:
        rated: Episodes with judgements whose judge is ``human/RATER``.
    """

    name = "human"
    dimensions = tuple(DIMENSIONS)

    def __init__(self, rated: Iterable[Episode]) -> None:
        self._ratings = {
            episode.episode_id: [
                j for j in episode.judgements if j.judge.startswith(HUMAN_PREFIX) and j.scored
            ]
            for episode in rated
        }
        # Other ratings are another judge: an episode that was scored by fewer is scored again.
        known = {
            key: sorted(rating.model_dump_json() for rating in ratings)
            for key, ratings in self._ratings.items()
        }
        self.prompt = f"ratings:{short_digest(known)}"

    def check(self, suite: Suite) -> None:
        """Raise JudgeError: ratings are of episodes that were played before."""
        raise JudgeError(
            "people have rated episodes that were played already; in an environment play with "
            "judge='none', have the episodes rated, and score them then."
        )

    def judge(self, episode: Episode) -> Judgement:
        ratings = self._ratings.get(episode.episode_id, [])
        if not ratings:
            return Judgement(judge=self.name, error="nobody has rated this episode")
        scores: dict[str, dict[str, DimensionScore]] = {}
        for agent in episode.task.agents:
            scores[agent] = {}
            for name in self.dimensions:
                given = [r.scores[agent][name] for r in ratings if name in r.scores.get(agent, {})]
                if given:
                    scores[agent][name] = DimensionScore(
                        score=statistics.fmean(score.score for score in given),
                        reasoning="\n".join(s.reasoning for s in given if s.reasoning),
                    )
        return Judgement(
            judge=self.name,
            prompt=self.prompt,
            scores=scores,
            members=tuple(ratings),
            metrics={"raters": float(len(ratings))},
        )
