"""What one agent has perceived of a conversation, as text that grows at constant cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class DialogueView:
    """The growing text of a conversation, bounded in length.

    Args:
        limit: Most characters of :attr:`text`; beyond it the oldest turns are dropped whole. It
            must hold at least one turn.

    Attributes:
        text: All lines perceived and not dropped, oldest first.
        last_turn: The lines of the latest turn; empty if nothing of it was perceived.
        turns_cut: How many turns with perceived lines were dropped.
    """

    def __init__(self, limit: int) -> None:
        self.text = ""
        self.last_turn = ""
        self.turns_cut = 0
        self._limit = limit
        self._lengths: deque[int] = deque()

    def add(self, lines: Sequence[str]) -> None:
        """Take in the perceived lines of one more turn."""
        self.last_turn = "\n".join(lines)
        if not lines:
            return
        self.text = f"{self.text}\n{self.last_turn}" if self.text else self.last_turn
        self._lengths.append(len(self.last_turn))
        excess = len(self.text) - self._limit
        start = 0
        while start < excess:
            start += self._lengths.popleft() + 1
            self.turns_cut += 1
        if start:
            self.text = self.text[start:]
