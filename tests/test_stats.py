"""Means with error bars."""

import numpy as np
import pytest

from sotopia_gym.stats import RunningMean, mean_interval


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = [rng.normal(3, 2, size=40) for _ in range(300)]
    covered = [(i := mean_interval(s, resamples=400)).low <= 3 <= i.high for s in samples]
    assert 0.90 < np.mean(covered) < 0.98


def test_values_that_depend_on_each_other_widen_it():
    values = [0.0] * 10 + [10.0] * 10
    clusters = [n // 5 for n in range(20)]
    apart, together = mean_interval(values), mean_interval(values, clusters)
    assert together.high - together.low > apart.high - apart.low
    assert apart.mean == together.mean == 5


def test_one_cluster_has_no_interval():
    assert np.isnan(mean_interval([1.0, 2.0], ["a", "a"]).low)
    assert str(mean_interval([1.5])) == "1.50"
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_a_running_mean_is_that_of_all_values():
    rng = np.random.default_rng(2)
    pairs = [(float(value), f"scene {value % 7}") for value in rng.integers(0, 11, 60)]
    values, clusters = zip(*pairs, strict=True)
    whole, halves = RunningMean(), (RunningMean(), RunningMean())
    for number, pair in enumerate(pairs):
        whole.add(*pair)
        halves[number // 30].add(*pair)
    halves[0].include(halves[1])
    expected = mean_interval(values, clusters, resamples=500)
    assert whole.interval(resamples=500) == halves[0].interval(resamples=500) == expected
    assert whole.clusters == 7
    backwards = RunningMean()
    for pair in pairs[::-1]:
        backwards.add(*pair)
    assert backwards.interval(in_order=True) == whole.interval(in_order=True)
    assert backwards.interval() != whole.interval()
