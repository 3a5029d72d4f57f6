"""How far two judges, or several raters, agree: statistics of scores alone.

Tables of ratings have a row for each thing that was rated and a column for each rater, and no
gaps. A statistic that is not defined, such as the correlation with something that never varies,
is None.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sotopia_gym.errors import missing_extra
from sotopia_gym.stats import Interval, mean_interval

RESAMPLES: Final = 2000

_NOTHING: Final = 1e-9
"""A variance that is rounding."""

_Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with its 95 % percentile bootstrap interval, in which clusters are resampled.

    Attributes:
        value: The statistic; None if it is not defined.
        low: Lower end; None with fewer than two clusters, or if the statistic is not defined.
        high: Upper end, likewise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        """The mean and interval that the library found."""
        if math.isnan(interval.low):
            return cls(interval.mean)
        return cls(interval.mean, interval.low, interval.high)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far raters agree on the values that they give; see the functions of these names.

    Attributes:
        units: How many things were rated.
        raters: How many ratings each has.
        icc: The six of :func:`intraclass`.
        alpha_interval: Krippendorff's alpha, differences squared.
        alpha_ordinal: Krippendorff's alpha of ranks.
        pairwise_agreement: Share of pairs of raters who are in the same bin, 0 to 1.
        randolph_kappa: The same beyond chance.
    """

    units: int
    raters: int
    icc: dict[str, float | None]
    alpha_interval: float | None
    alpha_ordinal: float | None
    pairwise_agreement: float
    randolph_kappa: float


@dataclass(frozen=True, slots=True)
class Level:
    """What the reference says where a judge gave about the same score.

    Attributes:
        score: The judge's score, rounded to a whole number.
        count: How often it gave that.
        reference: Mean of the reference there.
    """

    score: int
    count: int
    reference: Estimate


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a judge agrees with a reference.

    Attributes:
        pairs: How many pairs of scores.
        clusters: In how many clusters: pairs of one cluster depend on each other.
        judge: Mean score of the judge.
        reference: Mean score of the reference.
        gap: Mean of judge minus reference.
        limits: Limits of agreement (Bland and Altman 1986): the mean gap less and plus 1.96
            standard deviations of the gaps; None with one pair.
        mean_absolute_difference: Mean distance between the two.
        pearson: Pearson's correlation.
        spearman: Spearman's rank correlation.
        reliability: The two taken as two raters.
        calibration: The reference by the judge's scores, rising.
        points: Judge's score, reference, and how often this pair occurs.
    """

    pairs: int
    clusters: int
    judge: float
    reference: float
    gap: Estimate
    limits: tuple[float, float] | None
    mean_absolute_difference: float
    pearson: Estimate
    spearman: float | None
    reliability: Reliability
    calibration: tuple[Level, ...]
    points: tuple[tuple[float, float, int], ...]


def agreement(
    judge: Sequence[float],
    reference: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    low: float,
    high: float,
    seed: int = 0,
) -> Agreement:
    """Compare two scores of each of several things.

    Args:
        judge: Scores of one.
        reference: Scores of the other, in the same order.
        clusters: The cluster of each.
        low: The lowest possible score.
        high: The highest possible score.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If there are no scores, or not as many of one as of the other.
    """
    first, second = _numbers(judge), _numbers(reference)
    if not len(first) == len(second) == len(clusters) or not len(first):
        raise ValueError(
            f"pairs of scores and their clusters are wanted, got {len(first)} scores of one, "
            f"{len(second)} of the other and {len(clusters)} clusters."
        )
    apart = first - second
    spread = 1.96 * float(apart.std(ddof=1)) if len(apart) > 1 else None
    gap = Estimate.of(mean_interval(list(apart), clusters, resamples=RESAMPLES, seed=seed))
    bias = float(apart.mean())
    points, counts = np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)
    return Agreement(
        pairs=len(first),
        clusters=len(set(clusters)),
        judge=float(first.mean()),
        reference=float(second.mean()),
        gap=gap,
        limits=None if spread is None else (bias - spread, bias + spread),
        mean_absolute_difference=float(np.abs(apart).mean()),
        pearson=pearson(first, second, clusters, seed=seed),
        spearman=spearman(first, second),
        reliability=reliability(np.stack([first, second], axis=1), low=low, high=high),
        calibration=calibration(first, second, clusters, seed=seed),
        points=tuple(
            (float(one), float(other), int(count))
            for (one, other), count in zip(points, counts, strict=True)
        ),
    )


def reliability(ratings: ArrayLike, *, low: float, high: float) -> Reliability:
    """How far raters agree.

    Args:
        ratings: Of shape (things, raters), at least (1, 2).
        low: The lowest possible rating.
        high: The highest possible rating.
    """
    table = _numbers(ratings)
    binned = bins(table, low, high)
    return Reliability(
        units=table.shape[0],
        raters=table.shape[1],
        icc=intraclass(table),
        alpha_interval=alpha(table, "interval"),
        alpha_ordinal=alpha(table, "ordinal"),
        pairwise_agreement=pairwise_agreement(binned),
        randolph_kappa=randolph_kappa(binned, bin_count(low, high)),
    )


def pearson(
    first: ArrayLike, second: ArrayLike, clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate:
    """Pearson's correlation; resamples in which a side does not vary are left out."""
    one, other = _numbers(first), _numbers(second)
    if not _vary(one, other):
        return Estimate(None)
    value = float(_scipy().pearsonr(one, other).statistic)
    groups: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append(index)
    if len(groups) < 2:
        return Estimate(value)
    # Of each cluster the sums that a correlation is made of.
    x, y = one - one.mean(), other - other.mean()
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    sums = np.stack([terms[members].sum(axis=0) for members in groups.values()])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    totals = sums[drawn].sum(axis=1)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (totals[:, 1:] / totals[:, :1]).T
    variance_x, variance_y = mean_xx - mean_x**2, mean_yy - mean_y**2
    known = (variance_x > _NOTHING) & (variance_y > _NOTHING)
    covariance = (mean_xy - mean_x * mean_y)[known]
    resampled = covariance / np.sqrt(variance_x[known] * variance_y[known])
    if not len(resampled):
        return Estimate(value)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation."""
    one, other = _numbers(first), _numbers(second)
    if not _vary(one, other):
        return None
    return float(_scipy().spearmanr(one, other).statistic)


def intraclass(ratings: ArrayLike) -> dict[str, float | None]:
    """The six intraclass correlations of Shrout and Fleiss (1979), by their names there.

    ICC(1, ...): every thing has raters of its own; differences between raters are error. ICC(2,
    ...): the same raters, a sample of many, rate all; absolute agreement. ICC(3, ...): these raters
    and no others; consistency, so that one who is always higher by the same agrees. ICC(., 1) is
    the reliability of a single rating, ICC(., k) that of the mean of all k.

    Args:
        ratings: Of shape (things, raters), without gaps.

    Returns:
        Name to value; None where it is not defined.
    """
    table = _numbers(ratings)
    n, k = table.shape
    names = ("ICC(1,1)", "ICC(1,k)", "ICC(2,1)", "ICC(2,k)", "ICC(3,1)", "ICC(3,k)")
    if n < 2 or k < 2:
        return dict.fromkeys(names)
    grand = table.mean()
    of_things, of_raters = table.mean(axis=1), table.mean(axis=0)
    rows = k * float(((of_things - grand) ** 2).sum())
    columns = n * float(((of_raters - grand) ** 2).sum())
    rest = float(((table - grand) ** 2).sum()) - rows - columns
    bms, jms = rows / (n - 1), columns / (k - 1)
    ems = rest / ((n - 1) * (k - 1))
    wms = (columns + rest) / (n * (k - 1))
    return {
        "ICC(1,1)": _ratio(bms - wms, bms + (k - 1) * wms),
        "ICC(1,k)": _ratio(bms - wms, bms),
        "ICC(2,1)": _ratio(bms - ems, bms + (k - 1) * ems + k * (jms - ems) / n),
        "ICC(2,k)": _ratio(bms - ems, bms + (jms - ems) / n),
        "ICC(3,1)": _ratio(bms - ems, bms + (k - 1) * ems),
        "ICC(3,k)": _ratio(bms - ems, bms),
    }


def alpha(ratings: ArrayLike, level: Literal["interval", "ordinal"]) -> float | None:
    """Krippendorff's alpha (Krippendorff 2011): 1 is agreement, 0 that of chance.

    Args:
        ratings: Of shape (things, raters).
        level: The level of measurement.

    Raises:
        MissingDependencyError: If the extra ``eval`` is not installed.
    """
    try:
        import krippendorff
    except ImportError as error:
        raise missing_extra("krippendorff", "eval", "Krippendorff's alpha") from error
    table = _numbers(ratings)
    if len(np.unique(table)) < 2:
        return None
    return float(krippendorff.alpha(table.T, level_of_measurement=level))


def bins(scores: ArrayLike, low: float, high: float) -> NDArray[np.int64]:
    """Scores by which half of their range they are in, as SOTOPIA-pi's code bins them.

    A score over its highest possible one is rounded to a whole number: of 0 to 10 those above 5
    are 1 and others 0, of -10 to 0 those below -5 are -1, and of -5 to 5 there are three bins, with
    2.5 and -2.5 in the middle one. (The code divides by the largest score that was given instead.)
    """
    table = _numbers(scores)
    found = np.zeros(table.shape, dtype=np.int64)
    if high > 0:
        found[table > high / 2] = 1
    if low < 0:
        found[table < low / 2] = -1
    return found


def bin_count(low: float, high: float) -> int:
    """How many bins :func:`bins` knows."""
    return 1 + (high > 0) + (low < 0)


def pairwise_agreement(binned: ArrayLike) -> float:
    """Share of pairs of raters of a thing who put it into the same bin, mean over things.

    Args:
        binned: Of shape (things, raters), at least (1, 2).
    """
    table = np.asarray(binned)
    pairs = list(combinations(range(table.shape[1]), 2))
    return float(np.mean([(table[:, one] == table[:, other]).mean() for one, other in pairs]))


def randolph_kappa(binned: ArrayLike, count: int) -> float:
    """Randolph's (2005) free-marginal multirater kappa: 0 is the agreement of raters who guess.

    Args:
        binned: Of shape (things, raters), at least (1, 2).
        count: How many bins they could choose from, at least two.
    """
    chance = 1 / count
    return (pairwise_agreement(binned) - chance) / (1 - chance)


def calibration(
    judge: ArrayLike, reference: ArrayLike, clusters: Sequence[Hashable], *, seed: int = 0
) -> tuple[Level, ...]:
    """Mean of the reference at each of the judge's scores, rounded to whole numbers, rising."""
    # Halves are rounded up, so that levels are equally wide.
    levels = np.floor(_numbers(judge) + 0.5).astype(int)
    truths = _numbers(reference)
    found = []
    for level in np.unique(levels):
        members = np.flatnonzero(levels == level)
        of = [clusters[index] for index in members.tolist()]
        mean = mean_interval(list(truths[members]), of, resamples=RESAMPLES, seed=seed)
        found.append(Level(int(level), len(members), Estimate.of(mean)))
    return tuple(found)


# --- inside


def _numbers(values: ArrayLike) -> _Numbers:
    return np.asarray(values, dtype=np.float64)


def _vary(*sides: _Numbers) -> bool:
    return all(len(side) > 1 and float(side.var()) > _NOTHING for side in sides)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if abs(whole) > _NOTHING else None


def _scipy() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise missing_extra("scipy", "eval", "correlations") from error
    return stats
