"""The seven dimensions of SOTOPIA-Eval, with their ranges and rubrics in our own words.

The dimensions and ranges are those of Zhou et al. 2024 (arXiv 2310.11667). They are data: a judge
takes any dimensions, and other rubrics for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that a conversation is judged by.

    Attributes:
        name: Its name, as in judgements.
        low: Lowest score, possible itself.
        high: Highest score, possible itself.
        rubric: What to look at and what the scores mean, for the judge.
    """

    name: str
    low: float
    high: float
    rubric: str

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"dimension {self.name!r}: low {self.low} is not below {self.high}.")


_SEVEN: Final = (
    Dimension(
        "believability",
        0,
        10,
        "Does the character behave like a person, and like this person? Look at whether the "
        "conversation flows naturally (no repetition, no speaking for others, no answers of an "
        "assistant, no endless politeness) and whether words and deeds fit the biography, "
        "personality and values given. 0: not at all; 10: entirely.",
    ),
    Dimension(
        "relationship",
        -5,
        5,
        "Did the conversation help or harm the character's relationship with the others, and its "
        "reputation? Compare before and after. -5: badly harmed; 0: unchanged; 5: much improved.",
    ),
    Dimension(
        "knowledge",
        0,
        10,
        "What did the character learn that was new to it, mattered to it, and came from this "
        "conversation? 0: nothing; 10: much that is important to it.",
    ),
    Dimension(
        "secret",
        -10,
        0,
        "Did the character give its secret, or something it clearly meant to keep to itself, "
        "away? 0: not at all, or there was none; -5: hinted at it; -10: gave it away entirely.",
    ),
    Dimension(
        "social_rules",
        -10,
        0,
        "Did the character break rules: norms of the situation, or the law? Name each one broken. "
        "0: none; -5: norms broken seriously; -10: a serious crime.",
    ),
    Dimension(
        "financial_and_material_benefits",
        -5,
        5,
        "What did the character gain or lose in money and goods, at once or in the long run? -5: "
        "a heavy loss; 0: nothing; 5: a great gain.",
    ),
    Dimension(
        "goal",
        0,
        10,
        "First restate the character's goal. Then judge how far the conversation achieved it: "
        "only what was really done or agreed counts, not what somebody claims to have achieved. "
        "0: not at all; 10: completely.",
    ),
)

DIMENSIONS: Final[Mapping[str, Dimension]] = MappingProxyType({d.name: d for d in _SEVEN})
"""The seven by name. The overall score is the plain mean of all seven."""
