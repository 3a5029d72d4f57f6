"""Policies: language models in this process, whose weights can be trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from sotopia_gym.agents.base import Agent
from sotopia_gym.agents.llm import read_action
from sotopia_gym.agents.prompts import CHAT, ChatPrompt, Prompt, action_schema
from sotopia_gym.agents.template import common_prefix
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import MAX_ARGUMENT_LENGTH, Action
from sotopia_gym.episodes.schema import TurnTokens, Usage
from sotopia_gym.errors import ActionError, ContextOverflowError, missing_extra
from sotopia_gym.tasks.background import read_background

if TYPE_CHECKING:
    from sotopia_gym.agents.sampling import Answer, Sampler

_NOTED: Final = 400
"""Most characters of an answer that could not be read which the episode's note keeps."""

Observation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One turn of the chat.

    Attributes:
        heard: The lines of the transcript that the request tells.
        request: The ids between the answer before and this one.
        answer: The ids that were sampled.
    """

    heard: tuple[str, ...]
    request: tuple[int, ...]
    answer: tuple[int, ...] = ()


class PolicyAgent(Agent):
    """Plays with a model of transformers, and records every id that it read and sampled.

    The episode is one chat: the system message and the first request say role, goal and what an
    answer looks like, each further request tells what others did since. A prompt is the prompt
    before, exactly the ids that were sampled, and the new request: ``shared`` of
    :class:`~sotopia_gym.episodes.schema.TurnTokens` covers all of the turn before, so that an
    episode is one row to train on. When the context is full the oldest exchanges are dropped, down
    to two thirds of it; role and goal stay, and ``shared`` says what is left in common. A prompt
    that is not such a chat (``sotopia``) is made anew in every turn.

    An answer is one action as JSON. What is none, or one that is not allowed, is sampled only
    once: the turn passes with ``none``, the text is in the event's note, and the ids are recorded
    like any others. A block of reasoning before it that ends in ``</think>`` is skipped.

    Args:
        sampler: The model; all forks share it.
        prompt: What it is asked with.
        max_argument: Longest argument of an action, in characters.
        name: What episodes call this agent; by default ``hf/`` and the sampler's name.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        prompt: Prompt = CHAT,
        max_argument: int = MAX_ARGUMENT_LENGTH,
        name: str = "",
    ) -> None:
        self.name = name or f"hf/{sampler.name}"
        self.sampler = sampler
        self._prompt, self._max_argument = prompt, max_argument
        self.reset(seed=0)

    @classmethod
    def load(cls, path: str, *, prompt: Prompt = CHAT, name: str = "", **options: Any) -> Self:
        """The policy in a folder.

        Args:
            path: As for :meth:`~sotopia_gym.agents.sampling.Sampler.load`.
            prompt: What it is asked with.
            name: What episodes call it.
            **options: Further arguments of :meth:`~sotopia_gym.agents.sampling.Sampler.load`.

        Raises:
            MissingDependencyError: If the extra ``train`` is not installed.
            ModelError: If it cannot be loaded.
        """
        try:
            import torch  # noqa: F401  # only whether it is there
            import transformers  # noqa: F401  # likewise
        except ImportError as error:
            raise missing_extra(error.name or "torch", "train", f"the policy {path!r}") from error
        from sotopia_gym.agents.sampling import Sampler

        return cls(Sampler.load(path, **options), prompt=prompt, name=name)

    def reset(self, *, seed: int) -> None:
        self._seed = seed
        self._episode = object()
        self._since = 0
        self._chat: list[_Exchange] = []
        self._read: tuple[int, ...] = ()
        self._tokens: list[TurnTokens] = []
        self._usage = Usage()
        self._versions: set[int] = set()

    def act(self, observation: Observation) -> Action:
        prompt = self._next(observation)
        return self._done(observation, prompt, self._ask(prompt).result())

    async def aact(self, observation: Observation) -> Action:
        prompt = self._next(observation)
        return self._done(observation, prompt, await asyncio.wrap_future(self._ask(prompt)))

    def usage(self) -> Usage:
        return self._usage

    def prompt(self) -> str:
        return self._prompt.version

    def models(self) -> tuple[str, ...]:
        told = f"{self.sampler.name} {self.sampler.dtype} weights"
        return tuple(f"{told} {version}" for version in sorted(self._versions))

    def tokens(self) -> tuple[TurnTokens, ...]:
        return tuple(self._tokens)

    def close(self) -> None:
        self.sampler.close()

    # --- the prompt -----------------------------------------------------------------------

    def _next(self, observation: Observation) -> tuple[int, ...]:
        """The ids of the next prompt."""
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
        request = self.sampler.template.next(self._chat[-1].answer, content)
        self._chat.append(_Exchange(heard, tuple(request)))
        if len(self._ids()) > self.sampler.room:
            self._cut(observation)
        return self._ids()

    def _heard(self, observation: Observation, lines: list[str]) -> tuple[str, ...]:
        """The lines of what others did since this agent's last turn, that turn included."""
        name = read_background(observation["background"]).name
        told = zip(lines, transcript.parse("\n".join(lines)), strict=True)
        return tuple(line for line, it in told if it.turn >= self._since and it.name != name)

    def _opened(self, observation: Observation, lines: tuple[str, ...]) -> _Exchange:
        """A chat that begins here, without the oldest lines if they do not fit."""
        while True:
            messages = self._prompt.messages(_with(observation, lines))
            ids = self.sampler.template.opening(messages)
            if len(ids) <= self.sampler.room:
                return _Exchange(lines, tuple(ids))
            if not lines:
                raise ContextOverflowError(
                    f"role and goal alone take {len(ids)} tokens, but the context of {self.name} "
                    f"has room for {self.sampler.room}."
                )
            lines = lines[len(lines) // 3 + 1 :]

    def _cut(self, observation: Observation) -> None:
        """Drop the oldest exchanges; the first that stays opens the chat."""
        while len(self._chat) > 1:
            self._chat = self._chat[1:]
            opened = self._opened(observation, self._chat[0].heard)
            self._chat[0] = replace(self._chat[0], request=opened.request)
            if len(self._ids()) <= self.sampler.room * 2 // 3:
                return

    def _ids(self) -> tuple[int, ...]:
        return tuple(id_ for turn in self._chat for id_ in (*turn.request, *turn.answer))

    # --- the answer -----------------------------------------------------------------------

    def _ask(self, prompt: tuple[int, ...]) -> Future[Answer]:
        seed = f"policy-{self._seed}-{len(self._tokens)}"
        return self.sampler.submit(prompt, seed=seed, episode=self._episode)

    def _done(self, observation: Observation, prompt: tuple[int, ...], answer: Answer) -> Action:
        turn = int(observation["turn"]) + 1
        shared = common_prefix(self._read, prompt)
        self._tokens.append(
            TurnTokens(
                turn=turn,
                shared=shared,
                prompt=prompt[shared:],
                sampled=answer.ids,
                logprobs=answer.logprobs,
            )
        )
        self._chat[-1] = replace(self._chat[-1], answer=answer.ids)
        self._read = (*prompt, *answer.ids)
        self._since = turn
        self._versions.add(answer.version)
        self._usage += Usage(
            requests=1, prompt_tokens=len(prompt), completion_tokens=len(answer.ids)
        )
        text = self.sampler.template.text(answer.ids)
        schema = action_schema(observation, self._max_argument)
        try:
            return read_action(text.rpartition("</think>")[2], schema)
        except ActionError as error:
            return Action("none", note=f"no valid action: {error} It wrote: {text[:_NOTED]!r}")


def _with(observation: Observation, lines: tuple[str, ...]) -> dict[str, Any]:
    return {**observation, "dialogue": "\n".join(lines)}
