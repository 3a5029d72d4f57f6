"""Showing an episode to a person, as plain text or in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import Ending, Event
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.schema import Task
from sotopia_gym.tasks.visibility import ENVIRONMENT, render

if TYPE_CHECKING:
    from rich.console import Console

RENDER_MODES = (None, "ansi", "human")
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_ENDINGS: dict[Ending, str] = {
    "left": "The conversation ends: somebody left.",
    "turn-limit": "The conversation ends: the turn limit is reached.",
    "silence": "The conversation ends: nobody said anything any more.",
}


def check_render_mode(mode: str | None) -> None:
    """Raise ValueError unless ``mode`` is one of :data:`RENDER_MODES`."""
    if mode not in RENDER_MODES:
        raise ConfigError(f"render_mode must be 'ansi', 'human' or None, got {mode!r}.")


class Renderer:
    """Collects the lines of an episode and shows them, as the environment sees it.

    Args:
        console: Where ``show`` prints; by default the terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._lines: list[tuple[str, str]] = []  # text, colour
        self._shown = 0

    def start(self, task: Task, max_turns: int) -> None:
        """Begin an episode of ``task``."""
        self._names = task.names
        self._colour = {
            agent: _COLOURS[index % len(_COLOURS)] for index, agent in enumerate(task.agents)
        }
        self._shown = 0
        self._lines = [
            (f"Task {task.task_id} (at most {max_turns} turns)", "bold"),
            (f"Scene: {_one_line(render(task.scenario.context, ENVIRONMENT))}", "italic"),
        ]
        for agent, goal in zip(task.agents, task.scenario.goals, strict=True):
            told = _one_line(render(goal, ENVIRONMENT))
            self._lines.append((f"Goal of {task.names[agent]}: {told}", self._colour[agent]))

    def add(self, events: Sequence[Event], ending: Ending | None) -> None:
        """Add what happened in one turn."""
        for event in events:
            line = transcript.line(event, self._names)
            if event.note is not None:
                line += f" ({transcript.quote(event.note)[1:-1]})"
            self._lines.append((line, self._colour[event.agent]))
        if ending is not None:
            self._lines.append((_ENDINGS[ending], "bold"))

    def text(self) -> str:
        """The episode so far."""
        return "\n".join(line for line, _ in self._lines)

    def show(self) -> None:
        """Print what has not been printed yet."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(highlight=False)
        from rich.text import Text

        for line, style in self._lines[self._shown :]:
            self._console.print(Text(line, style=style))
        self._shown = len(self._lines)


def _one_line(text: str) -> str:
    return text.replace("\n", " ")
