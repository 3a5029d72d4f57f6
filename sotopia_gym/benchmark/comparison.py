"""Two agents on the same episodes: how far apart they are, and whether that may be chance."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from sotopia_gym.benchmark.measures import scores
from sotopia_gym.benchmark.result import Estimate
from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.episodes.summary import scored
from sotopia_gym.errors import ConfigError
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.schema import canonical_json

FLIPS: Final = 10_000
"""Draws of signs where there are too many to try all."""

_EXACT: Final = 13
"""Scenarios up to which all signs are tried: 2**13 is less than ``FLIPS``."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Model):
    """How far apart two agents are in one measure, over pairs of episodes that both have it.

    Attributes:
        measure: A dimension, ``"overall"``, ``"normalised"`` or ``"true_goal"``.
        first: Mean of the first agent.
        second: Mean of the second agent.
        difference: Mean of second minus first, with its interval.
        cohens_d: Effect size d_z: mean difference over the differences' standard deviation; None
            if they do not vary.
        cliffs_delta: Share of all (first, second) pairs of values in which the second is larger,
            minus the share in which it is smaller: -1 to 1.
        p: Two-sided p of :func:`sign_flip_p`; None with fewer than two scenarios.
        p_holm: The same after Holm's correction over all measures here.
    """

    measure: str
    first: float
    second: float
    difference: Estimate
    cohens_d: float | None
    cliffs_delta: float
    p: float | None
    p_holm: float | None


class Comparison(_Model):
    """What :func:`compare` found.

    Attributes:
        first: The first agent.
        second: The second agent.
        judge: Whose scores are compared; empty if there are none.
        pairs: Pairs of episodes that both agents completed and were scored in.
        without_score: Pairs of which an episode is not complete or not scored; in no mean.
        unpaired_first: Episodes of the first agent that the second has no counterpart of.
        unpaired_second: Episodes of the second agent that the first has no counterpart of.
        differences: One for each measure.
        notes: What makes the pairs less alike than they should be.
    """

    first: str
    second: str
    judge: str
    pairs: int
    without_score: int
    unpaired_first: int
    unpaired_second: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


_Key = tuple[str, str | None, int, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class _Played:
    """What of an episode is compared; an episode itself may be large.

    Attributes:
        scenario: The scenario.
        scores: The agent's; empty without any.
        judge: Whose scores they are.
        setting: What should be alike in a pair.
    """

    scenario: str
    scores: Mapping[str, float]
    judge: str
    setting: Mapping[str, Hashable]


def compare(
    first: Iterable[Episode], second: Iterable[Episode], *, judge: str | None = None
) -> Comparison:
    """Compare two agents over the episodes in which they did the same job.

    Episodes are paired by task, role, repetition, and who played the other roles. Where an agent
    plays all roles itself, its mean over them is compared. Intervals and p-values take the
    scenarios as independent of each other, and nothing below them.

    Args:
        first: Episodes of one agent, each once.
        second: Episodes of another agent, each once.
        judge: Whose scores are compared; by default the latest, which must be of one judge.

    Raises:
        ConfigError: If one side holds episodes of several agents, of no known agent, or several
            of one job, or if the scores are of different judges.
    """
    name, ours = _by_job(first, judge, "first")
    other, theirs = _by_job(second, judge, "second")
    notes: dict[str, int] = {}
    judged_by: set[str] = set()
    values: dict[str, list[tuple[float, float, str]]] = {}
    pairs = without = 0
    for key in sorted(ours.keys() & theirs.keys(), key=repr):
        one, two = ours[key], theirs[key]
        if not one.scores or not two.scores:
            without += 1
            continue
        pairs += 1
        judged_by.update((one.judge, two.judge))
        for what, how in one.setting.items():
            if how != two.setting[what]:
                notes[what] = notes.get(what, 0) + 1
        for measure in one.scores:
            if measure in two.scores:
                pair = one.scores[measure], two.scores[measure], one.scenario
                values.setdefault(measure, []).append(pair)
    if len(judged_by) > 1:
        raise ConfigError(
            f"scores of different judges cannot be compared: {', '.join(sorted(judged_by))}. Name "
            "the one whose scores count."
        )
    if values.get("true_goal") == values.get("goal"):
        values.pop("true_goal", None)  # the exact judge: the same numbers by another name
    return Comparison(
        first=name,
        second=other,
        judge="".join(judged_by),
        pairs=pairs,
        without_score=without,
        unpaired_first=len(ours.keys() - theirs.keys()),
        unpaired_second=len(theirs.keys() - ours.keys()),
        differences=_corrected([_difference(m, found) for m, found in values.items()]),
        notes=tuple(f"{count} of {pairs} pairs differ in their {w}" for w, count in notes.items()),
    )


def sign_flip_p(
    differences: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> float | None:
    """Two-sided p-value of the mean difference being 0, by flipping signs of whole clusters.

    If the agents are equally good, a cluster's sum of differences is as likely to be of either
    sign. p is the share of the ways to choose the signs in which the absolute mean is at least the
    one observed: all ways with up to 13 clusters, else so many drawn with the observed one counted
    among them (Phipson and Smyth 2010).

    Args:
        differences: The differences.
        clusters: The cluster of each.
        seed: Seed of the draws.

    Returns:
        The p-value, or None with fewer than two clusters: there is nothing to flip.
    """
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(differences, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
    totals = np.array([sums[cluster] for cluster in sorted(sums, key=repr)])
    if len(totals) < 2:
        return None
    # Equal sums must not count as smaller for the order in which they were added.
    observed = abs(totals.sum()) - 1e-9 * max(1.0, float(np.abs(totals).sum()))
    if len(totals) <= _EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(totals))))
        return float((np.abs(signs @ totals) >= observed).mean())
    rng = np.random.default_rng(seed)
    # A thousand at a time bounds the memory with many scenarios.
    extreme = sum(
        int((np.abs(rng.choice((-1.0, 1.0), size=(1000, len(totals))) @ totals) >= observed).sum())
        for _ in range(FLIPS // 1000)
    )
    return (extreme + 1) / (FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


# --- inside


def _by_job(
    episodes: Iterable[Episode], judge: str | None, which: str
) -> tuple[str, dict[_Key, _Played]]:
    """The agent that episodes are about, and each episode by the job that it is."""
    names: set[str] = set()
    jobs: dict[_Key, _Played] = {}
    for episode in episodes:
        own = episode.seats
        name = episode.agents.get(own[0]) if episode.focal else episode.partners_of(None)
        if name is None or name == "unknown":
            raise ConfigError(
                f"the {which} episodes do not tell who played {episode.task.task_id}; compare "
                "episodes of a rollout."
            )
        names.add(name)
        others = tuple(sorted((r, n) for r, n in episode.agents.items() if r not in own))
        key = episode.task.task_id, episode.focal, episode.repetition, others
        if key in jobs and len(names) == 1:
            raise ConfigError(
                f"the {which} episodes hold several of the same job (task {key[0]}, {key[1]}, "
                f"repetition {key[2]}), as of runs with different seeds or rules. Compare one run."
            )
        jobs[key] = _played(episode, judge)
    if len(names) != 1:
        raise ConfigError(
            f"the {which} episodes must be about one agent; they are about "
            f"{', '.join(sorted(names)) or 'none: there are no episodes'}."
        )
    return names.pop(), jobs


def _played(episode: Episode, judge: str | None) -> _Played:
    judgement = scored(episode, judge) if episode.complete else None
    content = canonical_json(episode.task.model_dump(mode="json"))
    return _Played(
        scenario=episode.task.scenario.scenario_id,
        scores={} if judgement is None else _means(episode, judgement),
        judge="" if judgement is None else judgement.judge,
        setting={
            "task's content": hashlib.sha256(content.encode()).digest(),
            "seed": episode.seed,
            "rules": (episode.turn_order, episode.max_turns, episode.max_silent_turns),
        },
    )


def _means(episode: Episode, judgement: Judgement) -> dict[str, float]:
    """Each measure of the agent, as its mean over the roles it played."""
    own = [found for seat in episode.seats if (found := scores(judgement, seat))]
    return {
        measure: math.fsum(found[measure] for found in own) / len(own)
        for measure in (own[0] if own else {})
        if all(measure in found for found in own)
    }


def _difference(measure: str, values: Sequence[tuple[float, float, str]]) -> Difference:
    first = np.array([one for one, _, _ in values])
    second = np.array([two for _, two, _ in values])
    scenarios = [scenario for _, _, scenario in values]
    apart = second - first
    deviation = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    return Difference(
        measure=measure,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=Estimate.of(mean_interval(list(apart), scenarios), len(set(scenarios))),
        cohens_d=float(apart.mean()) / deviation if deviation > 1e-12 else None,
        cliffs_delta=_cliffs_delta(first, second),
        p=sign_flip_p(list(apart), scenarios),
        p_holm=None,
    )


def _cliffs_delta(first: np.ndarray, second: np.ndarray) -> float:
    ordered = np.sort(first)
    smaller = np.searchsorted(ordered, second, side="left").sum()
    larger = (len(ordered) - np.searchsorted(ordered, second, side="right")).sum()
    return float(smaller - larger) / (len(first) * len(second))


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    tested = [d for d in differences if d.p is not None]
    adjusted: Mapping[str, float] = dict(
        zip((d.measure for d in tested), holm([d.p or 0.0 for d in tested]), strict=True)
    )
    return tuple(d.model_copy(update={"p_holm": adjusted.get(d.measure)}) for d in differences)
