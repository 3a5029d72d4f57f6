"""A person at the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sotopia_gym.agents.base import Agent
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import MAX_ARGUMENT_LENGTH, NOTHING, Action, ActionType
from sotopia_gym.errors import ActionError

HELP: Final = (
    "Type what you say. /gesture ... for a gesture, /do ... for a deed, /none to let the turn "
    "pass, /leave to go, /to NAME: ... to tell one of several in private, /me for who you are, "
    "/help for this."
)
_COMMANDS: Final[dict[str, ActionType]] = {"/gesture": "non-verbal communication", "/do": "action"}


class HumanAgent(Agent):
    """Asks a person for every action.

    Args:
        ask: Shows a prompt and gives back a line; by default ``input``.
        tell: Shows a text; by default to the terminal.
    """

    name = "human"

    def __init__(
        self,
        ask: Callable[[str], str] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._ask = ask or input
        self._tell = tell or _print
        self.reset(seed=0)

    def reset(self, *, seed: int) -> None:
        self._briefed = False
        self._told_turns = 0

    def act(self, observation: Mapping[str, Any]) -> Action:
        if not self._briefed:
            self._tell(observation["background"])
            self._tell(HELP)
            self._briefed = True
        for line in observation["dialogue"].split("\n"):
            if line and transcript.parse(line)[0].turn > self._told_turns:
                self._tell(line)
        self._told_turns = int(observation["turn"])
        while True:
            line = self._ask("> ").strip()
            if line == "/me":
                self._tell(observation["background"])
            elif line in ("", "/help"):
                self._tell(HELP)
            else:
                try:
                    return _read(line)
                except ActionError as error:
                    self._tell(str(error))


def _read(line: str) -> Action:
    command, _, rest = line.partition(" ")
    if command == "/none":
        return NOTHING
    if command == "/leave":
        return Action("leave")
    if command in _COMMANDS:
        return Action(_COMMANDS[command], rest)
    if command == "/to":
        name, colon, words = rest.partition(":")
        if not colon or not words.strip():
            raise ActionError("write /to NAME: and what you tell them, with the full name.")
        return Action("speak", words.strip(), (name.strip(),))
    if line.startswith("/"):
        raise ActionError(f"no command {command!r}. {HELP}")
    if len(line) > MAX_ARGUMENT_LENGTH:
        raise ActionError(f"that is {len(line)} characters, at most {MAX_ARGUMENT_LENGTH} fit.")
    return Action("speak", line)


def _print(text: str) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False).print(text)
