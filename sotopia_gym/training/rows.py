"""Rows of token ids to train on, made of what a policy read and produced."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from sotopia_gym.episodes.schema import TurnTokens

IGNORED = -100
"""The label of an id that the loss leaves out, as PyTorch and transformers have it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Ids that a model reads in one go, and which of them it is trained to produce.

    Attributes:
        ids: The ids.
        mask: True for each id that is the policy's own; as many as ``ids``.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]

    @property
    def labels(self) -> list[int]:
        """The ids, with :data:`IGNORED` in place of those that are not the policy's own."""
        return [id_ if own else IGNORED for id_, own in zip(self.ids, self.mask, strict=True)]

    @property
    def trained(self) -> int:
        """How many ids the loss is on."""
        return sum(self.mask)


def by_turn(turns: Iterable[TurnTokens], *, skip: Container[int] = ()) -> Iterator[Row]:
    """One row for each turn: its whole prompt, then what was produced.

    Args:
        turns: The turns of one agent in one episode, in order.
        skip: Numbers of the turns that are not to be trained on.
    """
    for prompt, turn in _prompts(turns):
        if turn.turn not in skip:
            yield _row(prompt, turn)


def packed(turns: Iterable[TurnTokens], *, skip: Container[int] = ()) -> Iterator[Row]:
    """As few rows as hold every turn once: one, as long as each prompt continues the turn before.

    An id is read with the same ids before it as in :func:`by_turn`, so that the gradient is the
    same, for the tokens of one reading instead of one for each turn. Where the oldest turns were
    dropped because the context was full, a new row begins.

    Args:
        turns: As for :func:`by_turn`.
        skip: As for :func:`by_turn`; such turns are read, but the loss is not on them.
    """
    row: Row | None = None
    for prompt, turn in _prompts(turns):
        trained = turn.turn not in skip
        if row is not None and turn.shared == len(row.ids):
            added = _row(turn.prompt, turn, trained)
            row = Row(row.ids + added.ids, row.mask + added.mask)
            continue
        if row is not None and row.trained:
            yield row
        row = _row(prompt, turn, trained)
    if row is not None and row.trained:
        yield row


def _prompts(turns: Iterable[TurnTokens]) -> Iterator[tuple[tuple[int, ...], TurnTokens]]:
    """Each turn with its whole prompt."""
    read: tuple[int, ...] = ()
    for turn in turns:
        prompt = read[: turn.shared] + turn.prompt
        yield prompt, turn
        read = prompt + turn.sampled


def _row(prompt: tuple[int, ...], turn: TurnTokens, trained: bool = True) -> Row:
    ids = prompt + turn.sampled
    return Row(ids, (False,) * len(prompt) + (trained,) * len(turn.sampled))
