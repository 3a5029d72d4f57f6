"""Sampling held to the actions that are allowed, so that every answer can be read.

A model that was not trained on the format of an answer seldom keeps to it. A guide says, after
each token, which tokens may come next, as servers do when they are given a JSON schema.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from sotopia_gym.agents.template import ChatTemplate
from sotopia_gym.errors import ConfigError

# What may stand in a JSON string, and how it may end. A token with half an escape is left out.
_INSIDE: Final = re.compile(r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*')
# Many tokenizers have the end of the string and of the object as one token: after "$40", not after
# "Deal.", models write that one.
_END: Final = re.compile(rf'{_INSIDE.pattern}"(?P<whole>\}}?)')
_WITHOUT_ARGUMENT: Final = ("none", "leave")


class Vocabulary:
    """What each id of a tokenizer does to a JSON string, worked out once.

    Args:
        tokenizer: A tokenizer of transformers.
        size: How many logits the model has.
        device: Where the masks are kept.
        stops: The ids that end an answer, so that none of them is within one.
    """

    def __init__(self, tokenizer: Any, size: int, device: Any, stops: Iterable[int] = ()) -> None:
        special = {*tokenizer.all_special_ids, *stops}
        ids = [id_ for id_ in range(min(size, len(tokenizer))) if id_ not in special]
        texts = tokenizer.batch_decode([[id_] for id_ in ids])
        inside = [id_ for id_, text in zip(ids, texts, strict=True) if _INSIDE.fullmatch(text)]
        ends = [(id_, _END.fullmatch(text)) for id_, text in zip(ids, texts, strict=True)]
        self.closing = {id_: bool(match["whole"]) for id_, match in ends if match is not None}
        closing = list(self.closing)
        self.string = torch.full((size,), float("-inf"), device=device)
        self.string[inside + closing] = 0.0
        self.characters = [0] * size
        for id_, text in zip(ids, texts, strict=True):
            self.characters[id_] = len(text)
        for id_, whole in self.closing.items():
            self.characters[id_] -= 2 if whole else 1
        self.longest = max(self.characters[id_] for id_ in inside + closing)
        self._lengths = torch.tensor(self.characters, device=device)
        (self.quote,) = tokenizer('"', add_special_tokens=False)["input_ids"]

    def within(self, logits: torch.Tensor, room: int) -> torch.Tensor:
        """The logits of what may come in a string, of at most ``room`` characters more.

        Args:
            logits: Shape (vocabulary,).
            room: Characters, at least 0. An escape counts as it is written, and a character that
                is several tokens once for each.
        """
        kept = logits + self.string
        return kept if room >= self.longest else kept.masked_fill(self._lengths > room, -torch.inf)


@dataclass
class _Node:
    """A place in the texts that are allowed, as ids; where one ends, ``string`` may follow."""

    next: dict[int, _Node] = field(default_factory=dict)
    ends: bool = False


class Guide:
    """The answers that are one allowed action, as JSON: which ids may come next.

    Args:
        template: The chat template of the model.
        vocabulary: Its tokens.
        schema: Schema of the actions allowed; see
            :func:`sotopia_gym.agents.prompts.action_schema`.
        most: Most tokens of an answer; shortly before, an open argument is closed.

    Raises:
        ConfigError: If that is too few for an action of each kind.
    """

    def __init__(
        self,
        template: ChatTemplate,
        vocabulary: Vocabulary,
        schema: Mapping[str, Any],
        most: int,
    ) -> None:
        self._vocabulary, self._most = vocabulary, most
        known = schema["properties"]
        self._room = int(known["argument"]["maxLength"])
        kinds = known["action_type"]["enum"]
        names = known["to"]["items"]["enum"] if "to" in known else None
        ends = [f"{to}}}" for to in _addressees(names)]
        stop = template.stop
        heads = [[*template.ids(_head(k)), None] for k in kinds if k not in _WITHOUT_ARGUMENT]
        silent = [
            [*template.ids(_head(k) + '"' + ends[0]), stop] for k in kinds if k in _WITHOUT_ARGUMENT
        ]
        self._node = _trie([*heads, *silent])
        self._tail = _trie([[*template.ids(end), stop] for end in ends])
        self._end = _trie([[stop]])
        self._longest_tail = max(len(template.ids(end)) for end in ends) + 2
        # The None that ends a head counts for a token of the argument.
        least = max([len(ids) + self._longest_tail for ids in heads] + [len(ids) for ids in silent])
        if most < least:
            raise ConfigError(
                f"an answer may have {most} tokens (max_tokens), but one that is held to the "
                f"allowed actions needs up to {least}; raise it, or sample without a guide."
            )
        self._in_string = False
        self._taken = 0

    def forced(self) -> tuple[int, ...]:
        """The ids that every answer begins with; they count as taken."""
        ids = []
        while not self._in_string and len(self._node.next) == 1:
            (id_,) = self._node.next
            ids.append(id_)
            self.take(id_)
        return tuple(ids)

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits of the next id, -inf for those that may not come.

        Args:
            logits: Shape (vocabulary,).
        """
        if not self._in_string:
            return _only(logits, list(self._node.next))
        if self._taken + self._longest_tail >= self._most:
            return _only(logits, [self._vocabulary.quote])
        return self._vocabulary.within(logits, self._room)

    def take(self, id_: int) -> None:
        """Take note of the id that came."""
        self._taken += 1
        if self._in_string:
            self._room -= self._vocabulary.characters[id_]
            if (whole := self._vocabulary.closing.get(id_)) is not None:
                self._in_string, self._node = False, self._end if whole else self._tail
            return
        self._node = self._node.next[id_]
        self._in_string = self._node.ends


def _head(kind: str) -> str:
    return f'{{"action_type": "{kind}", "argument": "'


def _addressees(names: Sequence[str] | None) -> list[str]:
    """What may follow the argument: nothing, or any of those whom an action can be addressed to.

    It is written as :func:`sotopia_gym.agents.prompts.answer` writes it, which models learn from.
    """
    chosen = itertools.chain.from_iterable(
        itertools.combinations(names or (), count) for count in range(1, len(names or ()) + 1)
    )
    return ["", *(f', "to": {json.dumps(group, ensure_ascii=False)}' for group in chosen)]


def _trie(texts: Sequence[Sequence[int | None]]) -> _Node:
    """The texts by their ids; None marks where a string follows."""
    root = _Node()
    for text in texts:
        node = root
        for id_ in text:
            if id_ is None:
                node.ends = True
            else:
                node = node.next.setdefault(id_, _Node())
    return root


def _only(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    kept = torch.full_like(logits, float("-inf"))
    kept[ids] = logits[ids]
    return kept
