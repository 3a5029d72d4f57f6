"""How good an agent is on a suite, against whom, and how sure that is."""

from sotopia_gym.benchmark.comparison import Comparison, Difference, compare
from sotopia_gym.benchmark.result import (
    Config,
    Counts,
    Estimate,
    Group,
    Published,
    PublishedRow,
    Result,
)
from sotopia_gym.benchmark.run import benchmark

__all__ = [
    "Comparison",
    "Config",
    "Counts",
    "Difference",
    "Estimate",
    "Group",
    "Published",
    "PublishedRow",
    "Result",
    "benchmark",
    "compare",
]
