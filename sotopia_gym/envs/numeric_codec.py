"""One side of a bargain in numbers: what it perceives as a vector, what it does as a level.

A family adds what is its own in :mod:`~sotopia_gym.envs.numeric_families`: how its offers are read,
what they are worth, and how they are put into words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import Action
from sotopia_gym.envs.session import Observation
from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.negotiation import Statement
from sotopia_gym.tasks.schema import Task

Terms = TypeVar("Terms")

Vector = NDArray[np.float32]

Move = float | Literal["accept", "leave"]
"""To propose something of this level (0: next to nothing for oneself, 1: as much as can be), or
to accept what the other has offered, or to leave."""

Said = tuple[str, int, str]
"""Who said something, in which turn, and the words."""

FEATURES: Final = (
    "turn",
    "last_chance",
    "my_turn",
    "context_0",
    "context_1",
    "mine_made",
    "mine_worth",
    "theirs_made",
    "theirs_worth",
    "theirs_first",
    "theirs_best",
    "theirs_step",
    "rejected",
    "agreed",
    "agreed_worth",
)
"""What the numbers of an observation are, in order; all are from -1 to 1.

- ``turn``: share of the turns that have been played.
- ``last_chance``: 1 if at most two turns are left.
- ``my_turn``: 1 if one may act now.
- ``context_0``, ``context_1``: what one knows of the task; the family says what.
- ``mine_made``, ``theirs_made``: 1 if an offer of one's own, or of the other, stands.
- ``mine_worth``, ``theirs_worth``: what it is worth to oneself, by the family's ``worth``. This
  and the following are 0 if there is none.
- ``theirs_first``, ``theirs_best``: what the first and the best offer of the other were worth.
- ``theirs_step``: five times what the other's latest offer is worth beyond the one before.
- ``rejected``: 1 if the other's latest words turned one's offer down.
- ``agreed``, ``agreed_worth``: 1 if there is an agreement, and what it is worth.
"""


@dataclass(frozen=True, slots=True)
class Position(Generic[Terms]):
    """Where one side of a bargain stands.

    Attributes:
        turn: Turns played so far.
        my_turn: Whether it may act now.
        mine: The terms it has last offered and not taken back, or None.
        theirs: Those that the other has.
        heard: All that the other has offered, oldest first.
        rejected: Whether the other's latest words turned something down.
        agreed: What is agreed, or None.
    """

    turn: int
    my_turn: bool
    mine: Terms | None
    theirs: Terms | None
    heard: tuple[Terms, ...]
    rejected: bool
    agreed: Terms | None


class Codec(ABC, Generic[Terms]):
    """Turns what one agent perceives in one task into numbers, and its moves into words.

    It uses what the agent itself may know and nothing else. All terms are told from its side.

    Args:
        task: A task for two.
        agent: The role whose view it is.
        max_turns: Turns after which the conversation is cut off.

    Attributes:
        context: Two numbers from -1 to 1 that say what the agent knows of the task.
    """

    context: tuple[float, float]

    def __init__(self, task: Task, agent: str, max_turns: int) -> None:
        self._name = task.names[agent]
        self._max_turns = max_turns

    @abstractmethod
    def worth(self, terms: Terms) -> float:
        """What ``terms`` are worth to the agent, from -1 to 1: more is better."""

    @abstractmethod
    def terms(self, level: float, heard: Sequence[Terms]) -> Terms:
        """The terms to propose at a level.

        Args:
            level: From 0 to 1: how much the agent asks for.
            heard: What the other has offered, oldest first.
        """

    @abstractmethod
    def statements(self, said: Sequence[Said]) -> Iterable[Statement[Terms]]:
        """What was said, as the family reads it."""

    @abstractmethod
    def told(self, terms: Terms) -> tuple[str, str]:
        """``terms`` in words that propose them, and in words that agree to them."""

    def read(self, observation: Observation) -> Position[Terms]:
        """The position that a text observation of the agent amounts to."""
        said = [
            (u.name, u.turn, u.argument)
            for u in transcript.parse(observation["dialogue"])
            if u.action_type == "speak"
        ]
        statements = list(self.statements(said))
        standing = negotiation.follow(statements)
        others = [s for s in statements if s.speaker != self._name]
        standing_offers = [o for name, o in standing.offers.items() if name != self._name]
        return Position(
            turn=int(observation["turn"]),
            my_turn=bool(observation["your_turn"]),
            mine=standing.offers.get(self._name),
            theirs=standing_offers[-1] if standing_offers else None,
            heard=tuple(s.reading.offer for s in others if s.reading.offer is not None),
            rejected=bool(others) and others[-1].reading.rejects,
            agreed=None if standing.agreement is None else standing.agreement.terms,
        )

    def vector(self, position: Position[Terms]) -> Vector:
        """``position`` as the numbers of :data:`FEATURES`: shape ``(15,)``, from -1 to 1."""
        heard = [self.worth(terms) for terms in position.heard]
        step = 5 * (heard[-1] - heard[-2]) if len(heard) > 1 else 0.0
        numbers = (
            position.turn / self._max_turns,
            float(self._max_turns - position.turn <= 2),
            float(position.my_turn),
            *self.context,
            *self._made(position.mine),
            *self._made(position.theirs),
            heard[0] if heard else 0.0,
            max(heard, default=0.0),
            step,
            float(position.rejected),
            *self._made(position.agreed),
        )
        return np.clip(np.array(numbers, dtype=np.float32), -1, 1)

    def act(self, position: Position[Terms], move: Move) -> Action:
        """The action that ``move`` amounts to.

        Once there is an agreement every move is to leave. Who proposes what is worth no more to it
        than the other's offer accepts that offer; who accepts where there is none asks for one.
        """
        if position.agreed is not None or move == "leave":
            return Action("leave")
        theirs = position.theirs
        if move == "accept":
            return Action("speak", _ASK if theirs is None else self.told(theirs)[1])
        terms = self.terms(float(move), position.heard)
        if theirs is not None and self.worth(terms) <= self.worth(theirs):
            return Action("speak", self.told(theirs)[1])
        return Action("speak", self.told(terms)[0])

    def _made(self, terms: Terms | None) -> tuple[float, float]:
        return (0.0, 0.0) if terms is None else (1.0, self.worth(terms))


_ASK: Final = "What do you suggest?"
