"""One episode as a chat of token ids, in which nothing is ever tokenised twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sotopia_gym.agents.prompts import ChatPrompt, Prompt
from sotopia_gym.agents.template import ChatTemplate, common_prefix
from sotopia_gym.envs import transcript
from sotopia_gym.episodes.schema import TurnTokens
from sotopia_gym.errors import ContextOverflowError
from sotopia_gym.tasks.background import read_background

Observation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One turn of the chat.

    Attributes:
        heard: The lines of the transcript that the request tells.
        request: The ids between the answer before and this one.
        answer: The ids of the answer.
    """

    heard: tuple[str, ...]
    request: tuple[int, ...]
    answer: tuple[int, ...] = ()


class TokenChat:
    """What one player of an episode reads and answers, turn by turn.

    The system message and the first request say role, goal and what an answer looks like, each
    further request tells what others did since. A prompt is the prompt before, exactly the ids that
    were answered, and the new request. When that is longer than ``room`` the oldest exchanges are
    dropped, down to two thirds of it; role and goal stay. A prompt that is not such a chat
    (``sotopia``) is made anew in every turn.

    Args:
        template: The chat template of the model.
        prompt: What it is asked with.
        room: Most tokens of a prompt.
    """

    def __init__(self, template: ChatTemplate, prompt: Prompt, room: int) -> None:
        self._template, self._prompt, self._room = template, prompt, room
        self._since = 0
        self._chat: list[_Exchange] = []
        self._asked: tuple[int, ...] = ()
        self._read: tuple[int, ...] = ()

    def ask(self, observation: Observation) -> tuple[int, ...]:
        """The ids of the next prompt.

        Args:
            observation: The player's, with ``your_turn`` set.

        Raises:
            ContextOverflowError: If role and goal alone are longer than ``room``.
        """
        self._asked = self._next(observation)
        return self._asked

    def answered(
        self, answer: tuple[int, ...], turn: int, logprobs: tuple[float, ...] = ()
    ) -> TurnTokens:
        """Take note of the answer to the prompt that was asked last.

        Args:
            answer: Its ids.
            turn: The turn that it is played in, from 1.
            logprobs: Their log-probabilities, where they were sampled.

        Returns:
            The record of this turn.
        """
        prompt = self._asked
        shared = common_prefix(self._read, prompt)
        self._chat[-1] = replace(self._chat[-1], answer=answer)
        self._read = (*prompt, *answer)
        self._since = turn
        return TurnTokens(
            turn=turn, shared=shared, prompt=prompt[shared:], sampled=answer, logprobs=logprobs
        )

    def _next(self, observation: Observation) -> tuple[int, ...]:
        lines = observation["dialogue"].split("\n") if observation["dialogue"] else []
        if self._chat and not self._chat[-1].answer:
            self._chat.pop()  # it was asked, but never answered
        if not self._chat or not isinstance(self._prompt, ChatPrompt):
            exchange = self._opened(observation, tuple(lines))
            self._chat = [exchange]
            return exchange.request
        heard = self._heard(observation, lines)
        told = replace(self._prompt, opening="", examples=())
        content = told.messages(_with(observation, heard))[-1]["content"].removeprefix("\n")
        request = self._template.next(self._chat[-1].answer, content)
        self._chat.append(_Exchange(heard, tuple(request)))
        if len(self._ids()) > self._room:
            self._cut(observation)
        return self._ids()

    def _heard(self, observation: Observation, lines: list[str]) -> tuple[str, ...]:
        """The lines of what others did since this player's last turn, that turn included."""
        name = read_background(observation["background"]).name
        told = zip(lines, transcript.parse("\n".join(lines)), strict=True)
        return tuple(line for line, it in told if it.turn >= self._since and it.name != name)

    def _opened(self, observation: Observation, lines: tuple[str, ...]) -> _Exchange:
        """A chat that begins here, without the oldest lines if they do not fit."""
        while True:
            messages = self._prompt.messages(_with(observation, lines))
            ids = self._template.opening(messages)
            if len(ids) <= self._room:
                return _Exchange(lines, tuple(ids))
            if not lines:
                raise ContextOverflowError(
                    f"role and goal alone take {len(ids)} tokens, but there is room for "
                    f"{self._room}. Choose a model with a longer context, or a shorter prompt."
                )
            lines = lines[len(lines) // 3 + 1 :]

    def _cut(self, observation: Observation) -> None:
        """Drop the oldest exchanges; the first that stays opens the chat."""
        while len(self._chat) > 1:
            self._chat = self._chat[1:]
            opened = self._opened(observation, self._chat[0].heard)
            self._chat[0] = replace(self._chat[0], request=opened.request)
            if len(self._ids()) <= self._room * 2 // 3:
                return

    def _ids(self) -> tuple[int, ...]:
        return tuple(id_ for turn in self._chat for id_ in (*turn.request, *turn.answer))


def _with(observation: Observation, lines: tuple[str, ...]) -> dict[str, Any]:
    return {**observation, "dialogue": "\n".join(lines)}
