"""Several judges as one."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement, Usage
from sotopia_gym.errors import ConfigError
from sotopia_gym.judges.base import Judge
from sotopia_gym.judges.outcome import beside
from sotopia_gym.llm.client import run_sync
from sotopia_gym.tasks.schema import Suite, canonical_json


class PanelJudge(Judge):
    """Combines the scores of several judges, and reports how far they are apart.

    An episode is unscored unless all members have scored it: a panel that silently loses members
    is another panel. The members' judgements are kept in ``members``, and the spread of each
    score, largest minus smallest, in ``metrics`` as ``spread/AGENT/DIMENSION``.

    Args:
        members: At least two judges. The panel scores the dimensions they share.
        combine: ``"mean"`` or ``"median"``.
    """

    def __init__(
        self, members: Sequence[Judge], *, combine: Literal["mean", "median"] = "mean"
    ) -> None:
        if len(members) < 2:
            raise ConfigError(f"a panel needs at least two judges, got {len(members)}.")
        self._members = tuple(members)
        self._combine = statistics.fmean if combine == "mean" else statistics.median
        kind = "panel" if combine == "mean" else "panel-median"
        self.name = f"{kind}:{'+'.join(member.name for member in members)}"
        shared = set.intersection(*(set(member.dimensions) for member in members))
        self.dimensions = tuple(name for name in members[0].dimensions if name in shared)
        if any(member.prompt for member in members):
            asked = canonical_json([member.prompt for member in members])
            self.prompt = f"panel:{hashlib.sha256(asked.encode()).hexdigest()[:12]}"

    def check(self, suite: Suite) -> None:
        for member in self._members:
            member.check(suite)

    def judge(self, episode: Episode) -> Judgement:
        return run_sync(self.ajudge(episode))

    async def ajudge(self, episode: Episode) -> Judgement:
        members = tuple(await asyncio.gather(*(m.ajudge(episode) for m in self._members)))
        usage = sum((member.usage for member in members), Usage())
        failed = [f"{m.judge}: {why}" for m in members if (why := self._lacks(m, episode))]
        if failed:
            error = f"{len(failed)} of {len(members)} members failed: {'; '.join(failed)}"
            return beside(self._judgement(error=error, members=members, usage=usage), episode)
        scores: dict[str, dict[str, DimensionScore]] = {}
        spread: dict[str, float] = {}
        for agent in episode.task.agents:
            scores[agent] = {}
            for name in self.dimensions:
                given = [member.scores[agent][name].score for member in members]
                told = ", ".join(
                    f"{m.judge} {score:g}" for m, score in zip(members, given, strict=True)
                )
                scores[agent][name] = DimensionScore(score=self._combine(given), reasoning=told)
                spread[f"spread/{agent}/{name}"] = max(given) - min(given)
        judgement = self._judgement(scores=scores, metrics=spread, members=members, usage=usage)
        return beside(judgement, episode)

    def _judgement(self, **fields: Any) -> Judgement:
        return Judgement(judge=self.name, prompt=self.prompt, **fields)

    def _lacks(self, member: Judgement, episode: Episode) -> str | None:
        """Why a member's judgement is not enough for the panel's; None if it is."""
        if not member.scored:
            return member.error or "no scores"
        for agent in episode.task.agents:
            for name in self.dimensions:
                if name not in member.scores.get(agent, {}):
                    return f"no score of {agent} in {name}"
        return None

    def close(self) -> None:
        for member in self._members:
            member.close()
