"""The seven dimensions of SOTOPIA-Eval and their ranges (Zhou et al. 2024, arXiv 2310.11667)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple


class Range(NamedTuple):
    """Lowest and highest score of a dimension, both possible."""

    low: float
    high: float


DIMENSIONS: Final = MappingProxyType(
    {
        "believability": Range(0, 10),
        "relationship": Range(-5, 5),
        "knowledge": Range(0, 10),
        "secret": Range(-10, 0),
        "social_rules": Range(-10, 0),
        "financial_and_material_benefits": Range(-5, 5),
        "goal": Range(0, 10),
    }
)
"""Name to range. The overall score is the plain mean of all seven."""
