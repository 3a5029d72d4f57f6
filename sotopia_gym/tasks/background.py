"""What a character knows before the first word is said."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sotopia_gym.tasks.schema import Character, RelationshipType, Task
from sotopia_gym.tasks.visibility import render

_CLOSENESS = {
    RelationshipType.STRANGER: "You and {name} are strangers.",
    RelationshipType.KNOW_BY_NAME: "You know {name} by name only.",
    RelationshipType.ACQUAINTANCE: "You and {name} are acquaintances.",
    RelationshipType.FRIEND: "You and {name} are friends.",
    RelationshipType.ROMANTIC: "You and {name} are in a romantic relationship.",
    RelationshipType.FAMILY: "You and {name} are family.",
}


def background(task: Task, agent: str, *, max_turns: int) -> str:
    """Everything ``agent`` may know of ``task``, as text: one paragraph a line.

    It holds the scene, the names of all participants, the agent's own biography, secret and goal,
    and of each other character what their relationship lets it know. It never holds another's
    goal or secret.

    Args:
        task: The task.
        agent: The role whose view it is, e.g. ``"agent_0"``.
        max_turns: Turns after which the conversation is cut off.
    """
    me = task.character(agent)
    others = [other for other in task.agents if other != agent]
    lines = [
        f"Scene: {render(task.scenario.context, agent)}",
        "Participants: " + ", ".join([f"{me.name} (you)", *(task.names[o] for o in others)]),
        f"About you: {f'{_acquaintance_level(me)} {_personality(me)}'.strip()}",
        f"Your secret: {me.secret or 'none'}",
    ]
    for other in others:
        closeness = task.relationship(agent, other)
        known = acquaintance_with(task.character(other), closeness)
        told = _CLOSENESS[closeness].format(name=task.names[other])
        lines.append(f"{told} {known}".strip())
    lines.append(f"Your goal (private): {task.goal(agent)}")
    lines.append(f"The conversation lasts at most {max_turns} turns in all.")
    return "\n".join(line.replace("\n", " ") for line in lines)


@dataclass(frozen=True, slots=True)
class Brief:
    """The parts of a background that a scripted player works from.

    Attributes:
        name: Full name of its own character.
        others: Full names of the other characters.
        scene: The scene.
        goal: Its own goal.
        max_turns: Turns after which the conversation is cut off.
    """

    name: str
    others: tuple[str, ...]
    scene: str
    goal: str
    max_turns: int


_BRIEF = re.compile(
    r"Scene: (?P<scene>.*)\nParticipants: (?P<name>.*?) \(you\), (?P<others>.*)\n(?:.*\n)*"
    r"Your goal \(private\): (?P<goal>.*)\n"
    r"The conversation lasts at most (?P<turns>\d+) turns in all\."
)


def read_background(text: str) -> Brief:
    """Take a text made by :func:`background` apart.

    Raises:
        ValueError: If it was not made by it.
    """
    match = _BRIEF.fullmatch(text)
    if match is None:
        raise ValueError(f"not a background of this library: {text[:80]!r}")
    others = tuple(match["others"].split(", "))
    return Brief(match["name"], others, match["scene"], match["goal"], int(match["turns"]))


def acquaintance_with(character: Character, closeness: RelationshipType) -> str:
    """What somebody this close knows of ``character``, beside the name.

    SOTOPIA's rule (Zhou et al. 2024): strangers, and those who know the name only, know nothing
    more; acquaintances know age, gender, occupation and public information; friends and closer
    also know the personality. The secret is known to nobody.
    """
    if closeness <= RelationshipType.KNOW_BY_NAME:
        return ""
    known = _acquaintance_level(character)
    if closeness >= RelationshipType.FRIEND:
        known = f"{known} {_personality(character)}"
    return known.strip()


def _acquaintance_level(character: Character) -> str:
    pronouns = f"({character.pronouns.lower()})" if character.pronouns else ""
    parts = [
        "" if character.age is None else f"{character.age} years old",
        f"{character.gender.lower()} {pronouns}".strip(),
        character.occupation,
    ]
    known = ", ".join(part for part in parts if part)
    return f"{f'{character.name} is {known}. ' if known else ''}{character.public_info}".strip()


def _personality(character: Character) -> str:
    parts = [character.personality.strip()]
    if character.values:
        parts.append(f"Values: {', '.join(value.strip() for value in character.values)}.")
    if character.decision_style:
        parts.append(f"Way of deciding: {character.decision_style}.")
    return " ".join(part for part in parts if part)
