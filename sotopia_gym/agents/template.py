"""Chats as token ids, each a continuation of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sotopia_gym.errors import ModelError
from sotopia_gym.llm.chat import Message

_ANSWER: Final = "(THE ANSWER)"
_REQUEST: Final = "(THE REQUEST)"


class ChatTemplate:
    """The chat template of a tokenizer, taken apart so that a chat can go on from sampled ids.

    What a model sampled is never tokenised again: a later prompt is the earlier one, the ids that
    were sampled, and the ids of what the template puts between an answer and the next.

    Args:
        tokenizer: A tokenizer of transformers.
        ends: Further ids that end an answer.

    Attributes:
        stops: The ids that end an answer.
        stop: The one that the template ends it with.

    Raises:
        ModelError: If the tokenizer has no chat template, or one that drops answers.
    """

    def __init__(self, tokenizer: Any, ends: Iterable[int] = ()) -> None:
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; a policy needs "
                "an instruction-tuned model, or a tokenizer with chat_template set."
            )
        self._tokenizer = tokenizer
        self._takes_system = self._renders_system()
        closing = self._after(_REQUEST).partition(_REQUEST)[0]
        ids = self.ids(closing)
        stops = {tokenizer.eos_token_id, *ends} - {None}
        special = [id_ for id_ in ids if id_ in stops or id_ in set(tokenizer.all_special_ids)]
        self.stops = frozenset([*stops, *special[:1]])
        self.stop = special[0] if special else tokenizer.eos_token_id
        self._end = ids.index(special[0]) + 1 if special else 0

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a whole chat and what begins the answer to it."""
        return self.ids(self._render(messages))

    def next(self, answer: Sequence[int], content: str) -> list[int]:
        """The ids of a further request, and of what begins the answer to it.

        Args:
            answer: The ids that were sampled, which these come after. If they lack an end, these
                begin with one.
            content: The request.
        """
        ids = self.ids(self._after(content))
        return ids[self._end :] if answer and answer[-1] in self.stops else ids

    def answer(self, text: str) -> tuple[int, ...]:
        """The ids of an answer that somebody else wrote, with its end."""
        return (*self.ids(text), self.stop)

    def text(self, answer: Sequence[int]) -> str:
        """The text that was sampled, without its end."""
        if answer and answer[-1] in self.stops:
            answer = answer[:-1]
        return str(self._tokenizer.decode(list(answer), skip_special_tokens=False))

    def _after(self, content: str) -> str:
        chat: list[Message] = [
            {"role": "user", "content": "..."},
            {"role": "assistant", "content": _ANSWER},
            {"role": "user", "content": content},
        ]
        before, found, after = self._render(chat).partition(_ANSWER)
        if not found:
            raise ModelError(f"the chat template drops an assistant's message: {before!r}")
        return after

    def ids(self, text: str) -> list[int]:
        """The ids of a text by itself."""
        return [int(id_) for id_ in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _render(self, messages: Sequence[Message]) -> str:
        chat = [dict(message) for message in messages]
        if not self._takes_system and chat[0]["role"] == "system":
            system = chat.pop(0)["content"]
            chat[0] = {**chat[0], "content": f"{system}\n\n{chat[0]['content']}"}
        return str(
            self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        )

    def _renders_system(self) -> bool:
        import jinja2

        self._takes_system = True
        try:
            shown = self._render(
                [{"role": "system", "content": _ANSWER}, {"role": "user", "content": "..."}]
            )
        except jinja2.TemplateError:
            return False
        return _ANSWER in shown


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of the first ids two sequences share."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
