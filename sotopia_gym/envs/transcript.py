"""A conversation as text, and back.

One event is one line, whatever was said: arguments are written as JSON strings in which every
character that could break a line or hide on the screen is escaped. So nobody can forge another's
turn, and :func:`parse` gives back exactly what :func:`line` was given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sotopia_gym.envs.dialogue import ActionType, Event

_VERBS: Final[dict[ActionType, str]] = {
    "speak": "said",
    "non-verbal communication": "gestured",
    "action": "acted",
    "none": "did nothing",
    "leave": "left the conversation",
}
_TYPES: Final = {verb: action_type for action_type, verb in _VERBS.items()}
_LINE: Final = re.compile(
    r"Turn (?P<turn>\d+): (?P<name>.+?) "
    r"(?:(?P<verb>said|gestured|acted)(?: privately to (?P<to>.+?))?: (?P<argument>\".*\")"
    r"|(?P<silent>did nothing|left the conversation))"
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a transcript, by characters' names.

    Attributes:
        turn: The turn, from 1.
        name: Full name of the character who acted.
        action_type: What kind of action it was.
        argument: The words, gesture or deed; empty for ``none`` and ``leave``.
        to: Names of those it was addressed to in private; empty if it was public.
    """

    turn: int
    name: str
    action_type: ActionType
    argument: str = ""
    to: tuple[str, ...] = ()


def quote(text: str) -> str:
    """``text`` as a JSON string of visible characters only; ``json.loads`` inverts it."""
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    # Line separators, bidirectional marks and other invisible characters would let a speaker
    # fake the layout; json.dumps leaves those above 0x1F as they are.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)


def line(event: Event, names: Mapping[str, str]) -> str:
    """The line for ``event``.

    Args:
        event: What happened.
        names: Full name of the character that each agent plays.
    """
    action = event.action
    head = f"Turn {event.turn}: {names[event.agent]} {_VERBS[action.action_type]}"
    if action.action_type in ("none", "leave"):
        return head
    if action.to:
        head += " privately to " + ", ".join(names[agent] for agent in action.to)
    return f"{head}: {quote(action.argument)}"


def parse(text: str) -> list[Utterance]:
    """The utterances of a transcript made of :func:`line`'s lines, oldest first.

    Raises:
        ValueError: If a line is not of that form.
    """
    utterances = []
    for number, written in enumerate(text.split("\n") if text else [], start=1):
        match = _LINE.fullmatch(written)
        if match is None:
            raise ValueError(f"line {number} is not a line of a transcript: {written[:80]!r}")
        utterances.append(
            Utterance(
                turn=int(match["turn"]),
                name=match["name"],
                action_type=_TYPES[match["verb"] or match["silent"]],
                argument=json.loads(match["argument"]) if match["argument"] else "",
                to=tuple(match["to"].split(", ")) if match["to"] else (),
            )
        )
    return utterances
