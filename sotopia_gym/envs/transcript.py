"""A conversation as text, and back.

One event is one line, whatever was said: arguments are written as JSON strings in which every
character that could break a line, hide on the screen, or begin a control token of a language model
is escaped. So nobody can forge another's turn, or a message of the chat that a model is shown, and
:func:`parse` gives back exactly what :func:`line` was given.
"""

from __future__ import annotations

import hashlib
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
# Control tokens ("<|im_end|>", "[INST]", "]~b]") are read as such by many servers even inside a
# message, and would end it there. A bracket before an ordinary word ("[smiles]") begins none.
_TOKEN_START: Final = re.compile(r"<|\[(?![A-Z]?[a-z]+[\]\s,.;:!?'-])|\](?=~)")
# Printable to Python, yet nothing is seen of them. A single U+FE0F after a symbol makes an emoji.
_UNSEEN: Final = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0e\uffa0"
    r"\U000e0100-\U000e01ef]|(?<=[\x00-\x7f\ufe0f])\ufe0f"
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
    """``text`` as a JSON string of visible characters, without the control tokens of any model.

    ``json.loads`` inverts it.
    """
    quoted = json.dumps(text, ensure_ascii=False)
    if not quoted.isascii():
        quoted = _UNSEEN.sub(_escaped, quoted)
    if not quoted.isprintable():
        # Line separators, bidirectional marks and other invisible characters would let a speaker
        # fake the layout; json.dumps leaves those above 0x1F as they are.
        quoted = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)
    return without_tokens(quoted)


def without_tokens(text: str) -> str:
    """``text`` with every character that may begin a control token escaped as in JSON."""
    return _TOKEN_START.sub(_escaped, text)


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


def delimiters(said: str) -> tuple[str, str]:
    """The lines around a transcript that a model is shown: a number that depends on all of it.

    The same words always have the same, so that an answer can be cached; while they were said
    nobody could know it.

    Args:
        said: All that was said, as one text.
    """
    number = hashlib.sha256(said.encode()).hexdigest()[:24]
    return f"=== TRANSCRIPT {number} BEGINS ===", f"=== TRANSCRIPT {number} ENDS ==="


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


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\u{ord(character):04x}" if character.isascii() else json.dumps(character)[1:-1]
