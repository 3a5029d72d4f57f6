"""What models cost."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple


class Price(NamedTuple):
    """A price list entry, in US dollars per million tokens.

    Attributes:
        prompt: For tokens read.
        completion: For tokens written.
    """

    prompt: float
    completion: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars for one answer."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


PRICES: Final = MappingProxyType(
    {
        "gpt-4o-2024-05-13": Price(5, 15),
        "gpt-4o-2024-08-06": Price(2.5, 10),
        "gpt-4o-2024-11-20": Price(2.5, 10),
        "gpt-4o": Price(2.5, 10),
        "gpt-4o-mini": Price(0.15, 0.6),
        "gpt-4o-mini-2024-07-18": Price(0.15, 0.6),
        "gpt-4-0613": Price(30, 60),
        "gpt-4": Price(30, 60),
        "gpt-3.5-turbo-0613": Price(1.5, 2),
        "gpt-4.1": Price(2, 8),
        "gpt-4.1-mini": Price(0.4, 1.6),
    }
)
"""OpenAI's models at full price, as published when each came out. Prices change: for a bill that
matters give the current ones in ``ClientOptions.prices``."""
