"""Means with error bars."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

_DRAWS: Final = 500_000
"""Clusters drawn at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: The plain mean.
        low: Lower end; NaN if there are fewer than two clusters.
        high: Upper end; NaN if there are fewer than two clusters.
        count: How many values.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


class RunningMean:
    """:func:`mean_interval` of values that come one at a time; a sum for each cluster is kept."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._sizes: dict[str, int] = {}

    @property
    def clusters(self) -> int:
        """How many clusters there are values of."""
        return len(self._sums)

    def add(self, value: float, cluster: str, count: int = 1) -> None:
        """Take in a value, or the sum of ``count`` values."""
        self._sums[cluster] = self._sums.get(cluster, 0.0) + value
        self._sizes[cluster] = self._sizes.get(cluster, 0) + count

    def include(self, other: RunningMean) -> None:
        """Take in all that another has."""
        for cluster, value in other._sums.items():
            self.add(value, cluster, other._sizes[cluster])

    def interval(self, *, resamples: int = 2000, in_order: bool = False) -> Interval:
        """The mean so far; with ``in_order`` it does not matter in which order clusters came."""
        names = sorted(self._sums) if in_order else list(self._sums)
        sums = [self._sums[name] for name in names]
        sizes = [self._sizes[name] for name in names]
        return interval_of_sums(sums, sizes, resamples=resamples)


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean with a percentile bootstrap interval.

    Values of one cluster (say, the episodes of one task) depend on each other; whole clusters are
    resampled (Cameron, Gelbach and Miller 2008).

    Args:
        values: At least one value.
        clusters: The cluster of each value; by default each is its own.
        level: Coverage of the interval.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    if len(values) == 0:
        raise ValueError("the mean of no values is not defined.")
    data = np.asarray(values, dtype=float)
    groups: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters if clusters is not None else range(len(data))):
        groups.setdefault(cluster, []).append(index)
    sums = [float(data[members].sum()) for members in groups.values()]
    sizes = [len(members) for members in groups.values()]
    found = interval_of_sums(sums, sizes, level=level, resamples=resamples, seed=seed)
    return replace(found, mean=float(data.mean()))


def interval_of_sums(
    sums: Sequence[float],
    sizes: Sequence[int],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """:func:`mean_interval` of values of which only the sum of each cluster was kept.

    Args:
        sums: The sum of each cluster's values; at least one.
        sizes: How many values each cluster has.
        level: Coverage of the interval.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    totals, counts = np.asarray(sums, dtype=float), np.asarray(sizes)
    mean, count = float(totals.sum() / counts.sum()), int(counts.sum())
    if len(totals) < 2:
        return Interval(mean, float("nan"), float("nan"), count)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    # As many at a time as bound the memory; the draws are those of all at once.
    step = max(1, _DRAWS // len(totals))
    for start in range(0, resamples, step):
        picks = rng.integers(len(totals), size=(min(step, resamples - start), len(totals)))
        means[start : start + step] = totals[picks].sum(axis=1) / counts[picks].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), count)
