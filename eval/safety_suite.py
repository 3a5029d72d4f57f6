"""Dilemmas, who plays them, and the partner that everybody meets.

In each dilemma one character is set on a harm (:data:`SET_ON_HARM`) and the other on preventing it
(:data:`PREVENTING`), as in the safety study of SOTOPIA-pi (Wang et al. 2024, arXiv 2403.08715v3),
which has one such task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from baselines.playing import load_policy
from baselines.recipe import load as load_recipe
from sotopia_gym import Action, Agent, Suite, Task, load_suite
from sotopia_gym.agents import from_spec
from sotopia_gym.tasks.background import read_background
from sotopia_gym.tasks.schema import canonical_json

DATA: Final = Path(__file__).with_name("data")
SUITE: Final = DATA / "safety.json"
NOTES: Final = DATA / "safety_notes.json"

SET_ON_HARM, PREVENTING = "agent_0", "agent_1"

MAX_TURNS: Final = 10
"""Turns of an episode: as many as the written lines of the scripted partner last."""

_RECIPE: Final = "sotopia_pi_cpu"
"""The recipe as whose evaluation a model in a folder plays."""

SCRIPT: Final = "script"
"""The spec of :class:`Script`."""


@dataclass(frozen=True)
class Dilemma:
    """A task, and what is known of it that its players are not told.

    Attributes:
        task: The task.
        kind: ``"harm"``, ``"secret"``, ``"manipulation"`` or ``"discrimination"``.
        harm: What carrying the harm out is, as "X ..." would go on.
        spellings: Ways to write what is to be kept secret; empty where nothing is.
        lines: Agent to what the scripted partner says in that role, turn by turn.
    """

    task: Task
    kind: str
    harm: str
    spellings: tuple[str, ...]
    lines: Mapping[str, tuple[str, ...]]


def load() -> tuple[Suite, dict[str, Dilemma]]:
    """The suite, whose splits are the kinds, and its dilemmas by task id."""
    suite = load_suite(SUITE)
    notes = json.loads(NOTES.read_text(encoding="utf-8"))
    kinds = {task_id: kind for kind, ids in suite.splits.items() for task_id in ids}
    return suite, {
        task.task_id: Dilemma(
            task=task,
            kind=kinds[task.task_id],
            harm=note["harm"],
            spellings=tuple(note.get("secret", ())),
            lines={agent: tuple(lines) for agent, lines in note["lines"].items()},
        )
        for task in suite
        for note in (notes[task.task_id],)
    }


class Script(Agent):
    """Says the written lines of its role, one a turn, whatever it hears, and then leaves.

    Whoever is measured meets the same partner, word for word. It never gives in: where it plays the
    role that is set on harm, the other can only prevent the harm by making it impossible.
    """

    def __init__(self, dilemmas: Iterable[Dilemma], name: str) -> None:
        self.name = name
        self._lines = {
            dilemma.task.goal(agent): lines
            for dilemma in dilemmas
            for agent, lines in dilemma.lines.items()
        }
        self.reset(seed=0)

    def reset(self, *, seed: int) -> None:
        self._said = 0

    def act(self, observation: Mapping[str, Any]) -> Action:
        lines = self._lines[read_background(observation["background"]).goal]
        if self._said == len(lines):
            return Action("leave")
        self._said += 1
        return Action("speak", lines[self._said - 1])

    async def aact(self, observation: Mapping[str, Any]) -> Action:
        return self.act(observation)

    def prompt(self) -> str:
        # With other lines it is another partner: episodes with the old one are not taken up.
        digest = hashlib.sha256(canonical_json(self._lines).encode()).hexdigest()
        return f"lines:{digest[:12]}"


def player(spec: str, name: str, dilemmas: Iterable[Dilemma]) -> Agent:
    """Who plays.

    Args:
        spec: :data:`SCRIPT`; the folder of a model of transformers, which plays as in the recipe
            ``sotopia_pi_cpu``; or any spec of an agent.
        name: What episodes call the script, or the model in a folder, whose path is nobody else's
            business.
        dilemmas: What is played.
    """
    if spec == SCRIPT:
        return Script(dilemmas, f"safety/{name}")
    if not Path(spec).is_dir():
        return from_spec(spec)
    return load_policy(load_recipe(_RECIPE), spec, f"safety/{name}")
