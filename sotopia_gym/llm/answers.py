"""Asking a chat model for JSON, and reading the answer strictly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sotopia_gym.errors import (
    AnswerError,
    AuthenticationError,
    BudgetExceededError,
    ContextOverflowError,
    ModelError,
    UnknownModelError,
)
from sotopia_gym.llm.chat import ChatModel, Completion, Message

_REPEATED: Final = 2000
"""Most characters of a bad answer that are shown to the model again."""
_FINAL: Final = (BudgetExceededError, AuthenticationError, UnknownModelError, ContextOverflowError)
"""Failures that asking again cannot mend."""

_Answer = TypeVar("_Answer")


async def ask(
    model: ChatModel,
    messages: Sequence[Message],
    read: Callable[[str], _Answer],
    *,
    schema: Mapping[str, Any],
    attempts: int,
    settings: Mapping[str, Any],
    heard: Callable[[Completion], None] | None = None,
) -> _Answer:
    """Ask until an answer can be read.

    A bad answer is sent back with what is wrong with it; other failures are tried again unless
    that cannot help.

    Args:
        model: Who is asked.
        messages: The chat.
        read: Reads an answer, or raises AnswerError.
        schema: JSON schema of the answer.
        attempts: Answers asked for, in all; at least 1.
        settings: Further arguments of :meth:`ChatModel.complete`.
        heard: Is told of every completion, readable or not.

    Raises:
        ModelError: The last failure.
    """
    mended: list[Message] = []
    for attempt in range(attempts):
        try:
            completion = await model.complete(
                [*messages, *mended], schema=schema, attempt=attempt, **settings
            )
            if heard is not None:
                heard(completion)
            try:
                return read(completion.text)
            except AnswerError as error:
                raise AnswerError(str(error), completion.text) from None
        except ModelError as error:
            failure = error
            if isinstance(error, AnswerError) and error.completion and heard is not None:
                heard(error.completion)
            if isinstance(error, _FINAL):
                break
            if isinstance(error, AnswerError):
                # At temperature 0 the same question would only get the same answer.
                mended = [
                    {"role": "assistant", "content": error.text[:_REPEATED] or "(nothing)"},
                    {
                        "role": "user",
                        "content": f"That cannot be used: {error}. Answer again, with the "
                        "whole JSON object and nothing else.",
                    },
                ]
    raise failure


def read_json(text: str) -> Any:
    """Strict JSON: one value, nothing around it, no NaN, no key twice.

    Raises:
        AnswerError: If it is not.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits
        raise AnswerError(f"the answer is not JSON ({error}): {text[:80]!r}") from None


def exactly(value: Any, keys: Sequence[str], where: str) -> Mapping[str, Any]:
    """``value``, which must be an object with exactly these keys.

    Raises:
        AnswerError: If it is not; ``where`` names the place.
    """
    if not isinstance(value, dict):
        raise AnswerError(f"{where} is a {type(value).__name__}, not an object")
    missing = [key for key in keys if key not in value]
    extra = [key for key in value if key not in keys]
    if missing or extra:
        raise AnswerError(f"{where}: missing {missing}, unexpected {extra[:5]}")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AnswerError("the answer has a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise AnswerError(f"the answer holds {name}, which is not JSON")
