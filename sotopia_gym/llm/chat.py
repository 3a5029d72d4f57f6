"""What a chat model is, whether it runs here or behind an address."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, str]
"""A chat message: ``role`` and ``content``."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: The answer.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        model: The model as the server names it; empty if it does not.
        fingerprint: The server's fingerprint of its configuration; empty if it gives none.
        cached: Whether the answer comes from the cache on disk, at no cost.
        cost: US dollars; None if the price is not known.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str = ""
    fingerprint: str = ""
    cached: bool = False
    cost: float | None = None


class ChatModel(ABC):
    """Completes chats.

    Attributes:
        name: The spec that makes a model like this, without secrets.
    """

    name: str

    @abstractmethod
    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        attempt: int = 0,
    ) -> Completion:
        """Complete a chat.

        Args:
            messages: The chat.
            schema: JSON schema that the answer should follow. The caller checks: not every server
                can enforce one.
            temperature: Sampling temperature; None leaves it to the server.
            seed: Seed of the sampler, where the server has one.
            max_tokens: Longest answer.
            attempt: Number of the try at the same question. A repeated question with another
                number is asked anew, never answered from a cache.

        Raises:
            ModelError: If there is no answer.
        """

    def close(self) -> None:
        """Let go of connections; may be called twice."""


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
