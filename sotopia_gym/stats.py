"""Means with error bars."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


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
    if len(groups) < 2:
        return Interval(float(data.mean()), float("nan"), float("nan"), len(data))
    sums = np.array([data[members].sum() for members in groups.values()])
    sizes = np.array([len(members) for members in groups.values()])
    picks = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(data.mean()), float(low), float(high), len(data))
