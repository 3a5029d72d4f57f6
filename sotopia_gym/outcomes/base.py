"""What every reader of foreign conversations provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from sotopia_gym.tasks.families import Outcome
from sotopia_gym.tasks.schema import OutcomeSpec


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that was said to all.

    Attributes:
        agent: Who said it, e.g. ``"agent_0"``.
        text: The words.
    """

    agent: str
    text: str


class OutcomeReader(ABC):
    """Reads what was agreed in a conversation that followed no rules of ours.

    Attributes:
        name: Name of the reader, for the record.
        families: The families whose outcomes it reads.
    """

    name: str
    families: frozenset[str]

    @abstractmethod
    def read(self, spec: OutcomeSpec, said: Sequence[Said]) -> Outcome:
        """What was agreed.

        A reader uses what is public only: who is who, the asking price, the items there are. It
        never looks at the private targets and values in ``spec``.

        Args:
            spec: The ground truth of the task.
            said: What was said, oldest first.

        Returns:
            ``agreement`` with the family's terms or ``no-agreement`` where the words carry it,
            else ``unread``.
        """

    @abstractmethod
    async def aread(self, spec: OutcomeSpec, said: Sequence[Said]) -> Outcome:
        """The same without blocking the event loop."""

    def close(self) -> None:
        """Let go of connections; may be called twice."""


class FallbackReader(OutcomeReader):
    """Asks a second reader about what a first one leaves ``unread``.

    Args:
        first: Asked about every conversation.
        second: Asked about the rest.
    """

    def __init__(self, first: OutcomeReader, second: OutcomeReader) -> None:
        self.name = f"{first.name}+{second.name}"
        self.families = first.families | second.families
        self._first, self._second = first, second

    def read(self, spec: OutcomeSpec, said: Sequence[Said]) -> Outcome:
        outcome = self._first.read(spec, said)
        return self._second.read(spec, said) if outcome.status == "unread" else outcome

    async def aread(self, spec: OutcomeSpec, said: Sequence[Said]) -> Outcome:
        outcome = await self._first.aread(spec, said)
        return await self._second.aread(spec, said) if outcome.status == "unread" else outcome

    def close(self) -> None:
        self._first.close()
        self._second.close()
