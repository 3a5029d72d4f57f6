"""Observation and action spaces of social environments."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from sotopia_gym.envs.dialogue import ACTION_TYPES, MAX_ARGUMENT_LENGTH, Action
from sotopia_gym.errors import ActionError

MAX_BACKGROUND_LENGTH = 16_384
"""Longest ``background`` of an observation, in characters."""

MAX_DIALOGUE_LENGTH = 65_536
"""Longest ``dialogue`` of an observation, in characters; older turns are cut."""

MAX_TURNS = 10_000
"""Largest turn limit of an environment."""

# Words, marks and other scripts: random play should meet what people type, not only letters.
_SAMPLE_CHARACTERS = (
    string.ascii_letters + string.digits + " .,!?'\"$%:;-()<>{}[]\\/\n" + "éß語字ñ€😀"
)
_SAMPLE_LENGTH = 48


class FreeText(spaces.Text):
    """Any Unicode text up to a length.

    Gymnasium's ``Text`` holds only the characters of a fixed set (by default letters and digits);
    this one holds every string that can be written as UTF-8 (no lone surrogates).

    Args:
        max_length: Longest text it holds, in characters.
        seed: Seed of the sampler.
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        # Text keeps several tables of its character set in every space; we use none of them.
        super().__init__(max_length=max_length, min_length=0, charset="?", seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A random text of up to 48 characters; masks have no meaning here and are ignored."""
        length = int(self.np_random.integers(min(_SAMPLE_LENGTH, self.max_length) + 1))
        picks = self.np_random.integers(len(_SAMPLE_CHARACTERS), size=length)
        return "".join(_SAMPLE_CHARACTERS[i] for i in picks)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a text within the length."""
        if not isinstance(x, str) or len(x) > self.max_length:
            return False
        return x.isascii() or not any("\ud800" <= c <= "\udfff" for c in x)

    def __repr__(self) -> str:
        return f"FreeText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]  # Gymnasium's spaces are mutable and unhashable


def observation_space(num_agents: int) -> spaces.Dict:
    """The space of one agent's observations.

    Keys: ``background``, ``dialogue`` and ``last_turn`` (:class:`FreeText`), ``turn``
    (``Discrete``, turns played so far), ``your_turn`` (``Discrete(2)``) and ``allowed_actions``
    (``MultiBinary(5)``, in the order of :data:`~sotopia_gym.envs.dialogue.ACTION_TYPES`).

    Args:
        num_agents: Agents in the environment; in the simultaneous order a turn has as many lines.
    """
    return spaces.Dict(
        {
            "background": FreeText(MAX_BACKGROUND_LENGTH),
            "dialogue": FreeText(MAX_DIALOGUE_LENGTH * num_agents),
            "last_turn": FreeText(MAX_DIALOGUE_LENGTH * num_agents),
            "turn": spaces.Discrete(MAX_TURNS + 1),
            "your_turn": spaces.Discrete(2),
            "allowed_actions": spaces.MultiBinary(len(ACTION_TYPES)),
        }
    )


def action_space(num_agents: int) -> spaces.Dict:
    """The space of one agent's actions.

    Keys: ``action_type`` (``Discrete(5)``, an index into
    :data:`~sotopia_gym.envs.dialogue.ACTION_TYPES`), ``argument`` (:class:`FreeText`) and ``to``
    (``MultiBinary(num_agents)``: whom it is addressed to; nobody set means public).
    """
    return spaces.Dict(
        {
            "action_type": spaces.Discrete(len(ACTION_TYPES)),
            "argument": FreeText(MAX_ARGUMENT_LENGTH),
            "to": spaces.MultiBinary(num_agents),
        }
    )


def to_action(raw: object, agents: Sequence[str]) -> Action:
    """Read an action in any of the accepted forms.

    Args:
        raw: An :class:`Action`, a sample of :func:`action_space`, or a dict with the fields of
            :class:`Action`. In a dict ``action_type`` may be a name or an index, ``argument`` and
            ``to`` may be missing, and ``to`` may be names or a 0/1 vector over ``agents``.
        agents: All agents of the environment, in order.

    Raises:
        ActionError: If it is none of these; the message names the field.
    """
    if isinstance(raw, Action):
        return raw
    if not isinstance(raw, dict):
        raise ActionError(
            "an action must be an Action, a sample of the action space, or a dict with "
            f"'action_type', 'argument' and 'to'; got {type(raw).__name__}."
        )
    extra = sorted(map(str, raw.keys() - {"action_type", "argument", "to"}))
    if extra or "action_type" not in raw:
        problem = f"unknown keys {extra}" if extra else "no 'action_type'"
        raise ActionError(
            f"an action dict has the keys 'action_type', 'argument' and 'to'; got {problem}."
        )
    return Action(
        _action_type(raw["action_type"]),
        raw.get("argument", ""),
        _addressees(raw.get("to", ()), agents),
    )


def _action_type(value: object) -> Any:
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value.item()
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not 0 <= value < len(ACTION_TYPES):
            raise ActionError(
                f"action_type must be below {len(ACTION_TYPES)} when given as an index, "
                f"got {value}."
            )
        return ACTION_TYPES[value]
    return value


def _addressees(value: object, agents: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ActionError(f"to must be agent names or a 0/1 vector, got {value!r}.")
    if not value or all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if len(value) != len(agents) or any(entry not in (0, 1) for entry in value):
        raise ActionError(
            f"to must be {len(agents)} zeros and ones, one for each of {', '.join(agents)}; "
            f"got {value!r}."
        )
    return tuple(agent for agent, bit in zip(agents, value, strict=True) if bit)
