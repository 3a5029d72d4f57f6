"""Scoring finished episodes again, without playing them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.errors import (
    BudgetExceededError,
    JudgeError,
    ModelError,
    UnknownIdError,
    did_you_mean,
)
from sotopia_gym.judges.base import Judge
from sotopia_gym.stats import Interval, mean_interval


async def rejudge(
    episodes: Iterable[Episode], judge: Judge, *, concurrency: int = 16
) -> AsyncIterator[Episode]:
    """Judge episodes, and yield each with the new judgement beside its others, when it is ready.

    Episodes are taken from ``episodes`` as they are needed, so that any number of them can be
    streamed. One that cannot be judged (no transcript, say) comes back unscored with the reason.
    Where nothing more can be judged (a budget is spent), what is under way is finished and
    yielded before the error is raised.

    Args:
        episodes: The episodes.
        judge: Who judges.
        concurrency: Episodes that are judged at the same time.
    """
    waiting: Iterator[Episode] = iter(episodes)
    running: set[asyncio.Task[Episode]] = set()
    failure: BaseException | None = None
    try:
        while True:
            while (
                failure is None
                and len(running) < concurrency
                and (episode := next(waiting, None)) is not None
            ):
                running.add(asyncio.create_task(judged(episode, judge)))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is None:
                    yield task.result()
                else:
                    failure = failure or error
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if failure is not None:
        raise failure


async def judged(episode: Episode, judge: Judge) -> Episode:
    """``episode`` with the judge's verdict, or with why there is none.

    Raises:
        BudgetExceededError: If there is no money to judge it, which says nothing about it.
    """
    try:
        judgement = await judge.ajudge(episode)
    except BudgetExceededError:
        raise
    except (JudgeError, ModelError) as error:
        judgement = Judgement(judge=judge.name, error=str(error))
    return episode.with_judgement(judgement)


def scored_by(episode: Episode, judge: str, prompt: str | None = None) -> Judgement | None:
    """The latest judgement of ``judge`` that scores the agent an episode is about, or None.

    Args:
        episode: The episode.
        judge: Name of the judge.
        prompt: Version and hash of the judge's prompt; None for any.
    """
    for given in reversed(episode.judgements):
        same = given.judge == judge and (prompt is None or given.prompt in ("", prompt))
        if same and given.scored and any(given.scores.get(seat) for seat in episode.seats):
            return given
    return None


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree on one dimension, over the agents that both have scored.

    Attributes:
        dimension: The dimension.
        count: Pairs of scores.
        pearson: Correlation of the scores; NaN if one side does not vary.
        spearman: Correlation of their ranks; NaN if one side does not vary.
        difference: Mean of the second minus the first, with its interval, clustered on scenarios.
    """

    dimension: str
    count: int
    pearson: float
    spearman: float
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """How far two judges agree.

    Attributes:
        judges: The two.
        agreements: One for each dimension that both score.
        unscored: For each judge, how many of its episodes it could not score.
    """

    judges: tuple[str, str]
    agreements: tuple[Agreement, ...]
    unscored: tuple[int, int]


def compare(episodes: Iterable[Episode], one: str, other: str) -> Comparison:
    """Compare two judges over episodes that both have judged.

    Args:
        episodes: The episodes, with the judgements of both.
        one: Name of a judge, or ``"truth"`` for the exact goal scores of tasks with ground truth.
        other: Name of another.

    Raises:
        UnknownIdError: If a judge has judged none of the episodes.
    """
    pairs: dict[str, list[tuple[float, float, str]]] = {}
    unscored = [0, 0]
    known: set[str] = set()
    for episode in episodes:
        known.update(judgement.judge for judgement in episode.judgements)
        known.update("truth" for judgement in episode.judgements if judgement.true_goals)
        found = [_scores(episode, name) for name in (one, other)]
        for index, scores in enumerate(found):
            unscored[index] += scores is not None and not scores
        if not found[0] or not found[1]:
            continue
        for key in found[0].keys() & found[1].keys():
            scenario = episode.task.scenario.scenario_id
            pairs.setdefault(key[1], []).append((found[0][key], found[1][key], scenario))
    for name in (one, other):
        if name not in known:
            raise UnknownIdError(f"no judgement by {name!r} here. {did_you_mean(name, known)}")
    return Comparison(
        judges=(one, other),
        agreements=tuple(_agreement(name, found) for name, found in sorted(pairs.items())),
        unscored=(unscored[0], unscored[1]),
    )


def _scores(episode: Episode, judge: str) -> dict[tuple[str, str], float] | None:
    """(agent, dimension) to score: empty if unscored, None if this judge was never asked."""
    if judge == "truth":
        with_truth = [j for j in episode.judgements if j.true_goals]
        goals = with_truth[-1].true_goals if with_truth else None
        return None if goals is None else {(a, "goal"): goal for a, goal in goals.items()}
    given = [j for j in episode.judgements if j.judge == judge]
    if not given:
        return None
    scored = [j for j in given if j.scored]
    if not scored:
        return {}
    return {
        (agent, name): score.score
        for agent, by_dimension in scored[-1].scores.items()
        for name, score in by_dimension.items()
    }


def _agreement(name: str, pairs: list[tuple[float, float, str]]) -> Agreement:
    first = np.array([pair[0] for pair in pairs])
    second = np.array([pair[1] for pair in pairs])
    return Agreement(
        dimension=name,
        count=len(pairs),
        pearson=_correlation(first, second),
        spearman=_correlation(_ranks(first), _ranks(second)),
        difference=mean_interval(list(second - first), [pair[2] for pair in pairs]),
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[inverse]
