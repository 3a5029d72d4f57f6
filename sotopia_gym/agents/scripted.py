"""Agents that follow a script: partners and experts of the task families, and plain controls."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from sotopia_gym.agents.base import Agent
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import NOTHING, Action
from sotopia_gym.errors import TaskError, UnknownIdError, did_you_mean
from sotopia_gym.tasks.background import read_background
from sotopia_gym.tasks.families import TEMPERAMENTS, families
from sotopia_gym.tasks.families.base import Script, Split, Temperament

_CONTROLS: Final = ("silent", "accepting", "random")
SCRIPTED: Final = (*TEMPERAMENTS, *_CONTROLS)
"""Names of the scripted agents: a temperament, or a control that ignores the task."""

PARTNERS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("scripted/fair", "scripted/generous", "scripted/firm"),
    "heldout": ("scripted/stubborn", "scripted/expert"),
}
"""Populations of partners: those to learn with, and those that a learner is to meet only later."""


def scripted(name: str) -> Agent:
    """The scripted agent of this name.

    ``expert`` is meant to be imitated; ``fair``, ``generous``, ``firm`` and ``stubborn`` are
    partners, by how much they ask for and how fast they give in. The controls show what a score
    is worth: ``silent`` never acts, ``accepting`` accepts whatever was said, ``random`` says
    random small talk, offers and acceptances.

    Raises:
        UnknownIdError: If there is none; the message suggests the nearest.
    """
    for temperament in TEMPERAMENTS:
        if name == temperament:
            return _Scripted(temperament)
    if name == "silent":
        return _Silent()
    if name == "accepting":
        return _Accepting()
    if name == "random":
        return _Random()
    raise UnknownIdError(f"no scripted agent {name!r}. {did_you_mean(name, SCRIPTED)}")


class _Scripted(Agent):
    """Finds the family of the task in its own background, and follows that family's script."""

    def __init__(self, temperament: Temperament) -> None:
        self.name = f"scripted/{temperament}"
        self._temperament = temperament
        self.reset(seed=0)

    def reset(self, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._script: Script | None = None

    def act(self, observation: Mapping[str, Any]) -> Action:
        if self._script is None:
            self._script = self._find(observation["background"])
        heard = transcript.parse(observation["dialogue"])
        return self._script.act(heard, int(observation["turn"]))

    async def aact(self, observation: Mapping[str, Any]) -> Action:
        return self.act(observation)

    def _find(self, background: str) -> Script:
        brief = read_background(background)
        for family in families().values():
            script = family.script(brief, self._temperament, self._rng)
            if script is not None:
                return script
        raise TaskError(
            f"{self.name} plays tasks of the families {', '.join(families())}; this one is of "
            "none of them. Let a language model or a control (scripted/silent, scripted/random) "
            "play it."
        )


class _Silent(Agent):
    name = "scripted/silent"

    def act(self, observation: Mapping[str, Any]) -> Action:
        return NOTHING


class _Accepting(Agent):
    name = "scripted/accepting"

    def act(self, observation: Mapping[str, Any]) -> Action:
        said_something = bool(observation["last_turn"])
        return Action("speak", "Deal." if said_something else "Hello. What do you propose?")


class _Random(Agent):
    name = "scripted/random"

    def __init__(self) -> None:
        self.reset(seed=0)

    def reset(self, *, seed: int) -> None:
        self._rng = random.Random(seed)

    def act(self, observation: Mapping[str, Any]) -> Action:
        kind = self._rng.choice(("speak", "speak", "speak", "none", "action", "leave"))
        if kind == "none":
            return NOTHING
        if kind == "leave" and self._rng.random() < 0.7:
            kind = "speak"
        if kind == "leave":
            return Action("leave")
        if kind == "action":
            return Action("action", "looks around")
        line = self._rng.choice(
            ("Nice day, is it not?", "Deal.", "No, thanks.", "How about ${}?", "Tell me more.")
        )
        return Action("speak", line.format(self._rng.randint(1, 500)))
