"""What pages show: templates, and conversations as plain data for them.

Everything that comes from tasks, agents and people is text: templates escape all of it, and control
characters, such as those that turn the direction of what follows, are shown by number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sotopia_gym.envs.dialogue import ActionType
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.tasks.schema import Character, RelationshipType
from sotopia_gym.tasks.visibility import ENVIRONMENT, render
from sotopia_gym.web import form

_DONE: Final[Mapping[ActionType, str]] = {
    "speak": "",
    "non-verbal communication": "gesture",
    "action": "deed",
    "none": "did nothing",
    "leave": "left the conversation",
}
_ENDINGS: Final[Mapping[str, str]] = {
    "turn-limit": "Here the conversation was cut off.",
    "silence": "Here nobody said or did anything any more.",
}
_CLOSENESS: Final[Mapping[RelationshipType, str]] = {
    RelationshipType.STRANGER: "are strangers",
    RelationshipType.KNOW_BY_NAME: "know each other by name only",
    RelationshipType.ACQUAINTANCE: "are acquaintances",
    RelationshipType.FRIEND: "are friends",
    RelationshipType.ROMANTIC: "are in a romantic relationship",
    RelationshipType.FAMILY: "are family",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One turn of a conversation, for a page.

    Attributes:
        turn: The turn.
        name: Who acted.
        side: Index of who acted among the characters; picks colour and side.
        deed: What kind of act it was; empty for words.
        text: The words, gesture or deed; empty if there are none.
        to: Who was addressed in private; empty for everybody.
    """

    turn: int
    name: str
    side: int
    deed: str
    text: str
    to: str


@dataclass(frozen=True, slots=True)
class Person:
    """A character, for a page.

    Attributes:
        agent: The role.
        name: Full name.
        facts: What is told, with labels.
    """

    agent: str
    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """An episode for a rater: everything but who played it and what judges said.

    Attributes:
        scene: Where it happens.
        closeness: How close the two are at the beginning; empty if that is not known.
        people: The characters, with their private goals and secrets.
        lines: What was said and done.
        end: Why it ended, if that is not seen from the last line.
    """

    scene: str
    closeness: str
    people: tuple[Person, ...]
    lines: tuple[Line, ...]
    end: str


def conversation(episode: Episode) -> Conversation:
    """What a rater sees of ``episode``, which has two characters.

    Notes of events are not in it: they tell of models that failed.
    """
    task = episode.task
    utterances = (
        Utterance(
            event.turn,
            task.names[event.agent],
            event.action.action_type,
            event.action.argument,
            tuple(task.names[agent] for agent in event.action.to),
        )
        for event in episode.events
    )
    known = episode.source is None or "relationship" not in episode.source.unrecorded
    return Conversation(
        scene=render(task.scenario.context, ENVIRONMENT),
        closeness=_CLOSENESS[task.relationship(*task.agents)] if known else "",
        people=tuple(
            Person(agent, character.name, _facts(character, render(goal, ENVIRONMENT)))
            for agent, character, goal in zip(
                task.agents, task.characters, task.scenario.goals, strict=True
            )
        ),
        lines=lines(utterances, task.names.values()),
        end=_ENDINGS.get(episode.ending, ""),
    )


def lines(utterances: Iterable[Utterance], names: Iterable[str]) -> tuple[Line, ...]:
    """Turns of a conversation, for a page.

    Args:
        utterances: The turns.
        names: The characters' names, in order.
    """
    sides = {name: index for index, name in enumerate(names)}
    return tuple(
        Line(
            turn=each.turn,
            name=each.name,
            side=sides[each.name],
            deed=_DONE[each.action_type],
            text=each.argument,
            to=", ".join(each.to),
        )
        for each in utterances
    )


def _facts(character: Character, goal: str) -> tuple[tuple[str, str], ...]:
    pronouns = f"({character.pronouns})" if character.pronouns else ""
    who = (
        "" if character.age is None else f"{character.age} years old",
        f"{character.gender} {pronouns}".strip(),
        character.occupation,
    )
    facts = (
        ("Who", ", ".join(part for part in who if part)),
        ("Biography", character.public_info),
        ("Personality", character.personality),
        ("Values", ", ".join(character.values)),
        ("Way of deciding", character.decision_style),
        ("Secret", character.secret or "none"),
        ("Goal", goal),
    )
    return tuple((label, text) for label, text in facts if text)


def page(name: str, values: Mapping[str, Any]) -> str:
    """A page.

    Args:
        name: Its template.
        values: What the template needs.
    """
    return str(_templates().get_template(name).render(values))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("sotopia_gym.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "paragraphs": paragraphs}
    environment.globals |= {
        "dimensions": tuple(DIMENSIONS.values()),
        "title_of": form.title,
        "scale": form.scale,
        "score_field": form.score_field,
        "reason_field": form.reason_field,
        "max_reason": form.MAX_REASON,
    }
    return environment


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text; empty lines set them apart."""
    pieces = (piece.strip() for piece in text.replace("\r\n", "\n").split("\n\n"))
    return [piece for piece in pieces if piece]


def visible(text: str) -> Markup:
    """``text`` as HTML, its control and format characters shown by number."""
    if text.isprintable():
        return escape(text)
    shown: list[Markup] = []
    before = " "
    for character in text:
        # One that makes several emoji into one is no secret.
        joins = character == "\u200d" and unicodedata.category(before)[0] in "SM"
        if character.isprintable() or character in "\n\t" or joins:
            shown.append(escape(character))
        else:
            shown.append(Markup('<span class="unseen">U+{:04X}</span>').format(ord(character)))
        before = character
    return Markup("").join(shown)
