"""The rules of a conversation, as a pure state machine: no I/O, no model, no clock.

The environment, the rollout engine, the replay and the tests all drive this one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sotopia_gym.errors import ActionError, ConfigError, EpisodeStateError

ActionType = Literal["none", "speak", "non-verbal communication", "action", "leave"]
ACTION_TYPES: tuple[ActionType, ...] = get_args(ActionType)

ACTIVE_TYPES: frozenset[ActionType] = frozenset(("speak", "non-verbal communication", "action"))
"""The action types that say or do something."""

TurnOrder = Literal["round-robin", "simultaneous", "random"]
TURN_ORDERS: tuple[TurnOrder, ...] = get_args(TurnOrder)

Ending = Literal["left", "turn-limit", "silence"]

MAX_ARGUMENT_LENGTH = 4096
"""Longest ``argument`` of an action, in characters."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an agent does in one turn.

    Attributes:
        action_type: One of :data:`ACTION_TYPES`.
        argument: The words spoken, the gesture, or the deed: at most
            :data:`MAX_ARGUMENT_LENGTH` characters of Unicode text without lone surrogates.
            Meaningless, and dropped, for ``none`` and ``leave``.
        to: The agents this is addressed to, e.g. ``("agent_1",)``; empty means public. Only they
            and the sender perceive a private action.
        note: Why the agent does not do what it wanted, e.g. because a model's answers could not
            be read. It goes into the event's note; nobody in the conversation perceives it.

    Raises:
        ActionError: If a field has the wrong type or value.
    """

    action_type: ActionType
    argument: str = ""
    to: tuple[str, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        if self.action_type not in ACTION_TYPES:
            raise ActionError(
                f"action_type must be one of {', '.join(map(repr, ACTION_TYPES))}, "
                f"got {self.action_type!r}."
            )
        if not isinstance(self.argument, str):
            raise ActionError(f"argument must be a string, got {type(self.argument).__name__}.")
        if len(self.argument) > MAX_ARGUMENT_LENGTH:
            raise ActionError(
                f"argument has {len(self.argument)} characters, at most {MAX_ARGUMENT_LENGTH} "
                "are allowed; shorten it before acting."
            )
        if not self.argument.isascii() and any("\ud800" <= c <= "\udfff" for c in self.argument):
            raise ActionError(
                "argument holds a lone surrogate, which is not valid Unicode text; decode the "
                "model's output with errors='replace'."
            )
        if isinstance(self.to, str) or not all(isinstance(name, str) for name in self.to):
            raise ActionError(f"to must be a sequence of agent names, got {self.to!r}.")
        object.__setattr__(self, "to", tuple(self.to))


NOTHING = Action("none")


@dataclass(frozen=True, slots=True)
class Event:
    """One action as it took effect.

    Attributes:
        turn: The turn it happened in, from 1.
        agent: Who did it.
        action: What took effect.
        note: Why the action differs from what the agent asked for; None if it does not.
    """

    turn: int
    agent: str
    action: Action
    note: str | None = None

    def visible_to(self, agent: str) -> bool:
        """Whether ``agent`` perceives this event: it is public, its own, or addressed to it."""
        return not self.action.to or agent == self.agent or agent in self.action.to


class Dialogue:
    """A conversation in progress.

    Turn order:
        ``round-robin``: one agent a turn, in the order of ``agents``, those who left skipped.
        ``simultaneous``: everybody present acts in every turn.
        ``random``: one agent a turn, drawn uniformly from those present.

    It ends when fewer than two agents are present (``left``), after ``max_turns`` turns
    (``turn-limit``), or after ``max_silent_turns`` turns in a row in which nobody did anything
    (``silence``). If several hold at once the first of these names the ending.

    Args:
        agents: At least two distinct names, in speaking order.
        turn_order: One of :data:`TURN_ORDERS`.
        max_turns: Turns after which the conversation is cut off, at least 1.
        max_silent_turns: Silent turns in a row after which it is cut off, at least 1.
        rng: Source of the ``random`` order.

    Attributes:
        turn: How many turns have been played.
        acting: The agents that may act in the coming turn, in order; empty once it has ended.
        events: Everything that happened, oldest first. Agents that may not act leave no event.
        ending: Why it ended, or None while it goes on.
    """

    def __init__(
        self,
        agents: Sequence[str],
        *,
        turn_order: TurnOrder = "round-robin",
        max_turns: int = 20,
        max_silent_turns: int = 3,
        rng: np.random.Generator,
    ) -> None:
        self.agents = tuple(agents)
        if len(self.agents) < 2 or len(set(self.agents)) != len(self.agents):
            raise ConfigError(f"a dialogue needs at least two distinct agents, got {agents!r}.")
        check_rules(turn_order, max_turns, max_silent_turns)
        self.turn_order = turn_order
        self.max_turns = max_turns
        self.max_silent_turns = max_silent_turns
        self.turn = 0
        self.events: list[Event] = []
        self.ending: Ending | None = None
        self._present = list(self.agents)
        self._silent_turns = 0
        self._rng = rng
        self.acting: tuple[str, ...] = self._next_acting(last=None)

    @property
    def present(self) -> tuple[str, ...]:
        """The agents that have not left, in speaking order."""
        return tuple(self._present)

    def allowed(self, agent: str) -> tuple[ActionType, ...]:
        """The action types that have effect for ``agent`` in the coming turn."""
        return ACTION_TYPES if agent in self.acting else ("none",)

    def step(self, actions: Mapping[str, Action]) -> tuple[Event, ...]:
        """Play one turn.

        Args:
            actions: An action for each agent in :attr:`acting`; those of others have no effect.

        Returns:
            The events of this turn, in speaking order.

        Raises:
            EpisodeStateError: If the conversation has ended.
            ActionError: If an agent that may act has no action. The state is unchanged.
        """
        if self.ending is not None:
            raise EpisodeStateError(f"the conversation has ended ({self.ending}).")
        missing = [agent for agent in self.acting if agent not in actions]
        if missing:
            raise ActionError(f"no action came for {', '.join(missing)}, whose turn it is.")
        self.turn += 1
        happened = tuple(self._effect(agent, actions[agent]) for agent in self.acting)
        self.events.extend(happened)
        for event in happened:
            if event.action.action_type == "leave":
                self._present.remove(event.agent)
        silent = all(event.action.action_type == "none" for event in happened)
        self._silent_turns = self._silent_turns + 1 if silent else 0
        self.ending = self._find_ending()
        self.acting = () if self.ending else self._next_acting(last=happened[-1].agent)
        return happened

    def _effect(self, agent: str, action: Action) -> Event:
        """The event that ``action`` amounts to under the rules."""
        if action.action_type not in ACTIVE_TYPES:
            return Event(self.turn, agent, Action(action.action_type), action.note)
        if not action.argument.strip():
            return Event(self.turn, agent, NOTHING, f"{action.action_type} without an argument")
        unknown = [name for name in action.to if name not in self.agents]
        if unknown:
            note = f"addressed to {', '.join(unknown)}, who is not in the conversation"
            return Event(self.turn, agent, NOTHING, note)
        if agent in action.to or action.note is not None:
            to = tuple(name for name in action.to if name != agent)
            return Event(
                self.turn, agent, Action(action.action_type, action.argument, to), action.note
            )
        return Event(self.turn, agent, action)

    def _find_ending(self) -> Ending | None:
        if len(self._present) < 2:
            return "left"
        if self.turn >= self.max_turns:
            return "turn-limit"
        if self._silent_turns >= self.max_silent_turns:
            return "silence"
        return None

    def _next_acting(self, last: str | None) -> tuple[str, ...]:
        if self.turn_order == "simultaneous":
            return tuple(self._present)
        if self.turn_order == "random":
            return (self._present[int(self._rng.integers(len(self._present)))],)
        if last is None:
            return (self.agents[0],)
        after = self.agents.index(last) + 1
        circle = self.agents[after:] + self.agents[:after]
        return (next(agent for agent in circle if agent in self._present),)


def check_rules(turn_order: str, max_turns: int, max_silent_turns: int) -> None:
    """Raise ValueError unless these describe a playable conversation."""
    if turn_order not in TURN_ORDERS:
        raise ConfigError(
            f"turn_order must be one of {', '.join(map(repr, TURN_ORDERS))}, got {turn_order!r}."
        )
    for name, value in (("max_turns", max_turns), ("max_silent_turns", max_silent_turns)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be an integer of at least 1, got {value!r}.")
