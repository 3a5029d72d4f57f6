"""Policies: language models in this process, whose weights can be trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Self

from sotopia_gym.agents.base import Agent
from sotopia_gym.agents.conversation import TokenChat
from sotopia_gym.agents.llm import NO_ACTION, read_action
from sotopia_gym.agents.prompts import CHAT, Prompt, action_schema
from sotopia_gym.envs.dialogue import MAX_ARGUMENT_LENGTH, Action
from sotopia_gym.episodes.schema import TurnTokens, Usage
from sotopia_gym.errors import ActionError, missing_extra

if TYPE_CHECKING:
    from sotopia_gym.agents.sampling import Answer, Sampler

_NOTED: Final = 400
"""Most characters of an answer that could not be read which the episode's note keeps."""

Observation = Mapping[str, Any]


class PolicyAgent(Agent):
    """Plays with a model of transformers, and records every id that it read and sampled.

    The episode is one chat (:class:`~sotopia_gym.agents.conversation.TokenChat`): ``shared`` of
    :class:`~sotopia_gym.episodes.schema.TurnTokens` covers all of the turn before, so that it is
    one row to train on. Where the context was full, it says what is left in common.

    An answer is one action as JSON. With ``guided`` nothing else can be sampled, as with a server
    that is given a schema. Without, what is none, or one that is not allowed, is sampled only once:
    the turn passes with ``none``, the text is in the event's note, and the ids are recorded like
    any others. A block of reasoning before it that ends in ``</think>`` is skipped.

    Args:
        sampler: The model; all forks share it.
        prompt: What it is asked with.
        guided: Whether sampling is held to the actions that are allowed.
        max_argument: Longest argument of an action, in characters.
        name: What episodes call this agent; by default ``hf/`` and the sampler's name.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        prompt: Prompt = CHAT,
        guided: bool = False,
        max_argument: int = MAX_ARGUMENT_LENGTH,
        name: str = "",
    ) -> None:
        self.name = name or f"hf/{sampler.name}"
        self.sampler = sampler
        self.guided = guided
        self._prompt, self._max_argument = prompt, max_argument
        self.reset(seed=0)

    @classmethod
    def load(
        cls,
        path: str,
        *,
        prompt: Prompt = CHAT,
        guided: bool = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """The policy in a folder.

        Args:
            path: As for :meth:`~sotopia_gym.agents.sampling.Sampler.load`.
            prompt: What it is asked with.
            guided: Whether sampling is held to the actions that are allowed.
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

        return cls(Sampler.load(path, **options), prompt=prompt, guided=guided, name=name)

    def frozen(self, name: str) -> PolicyAgent:
        """An agent that plays as this one does now, and goes on so when its weights change."""
        return PolicyAgent(
            self.sampler.frozen(name),
            prompt=self._prompt,
            guided=self.guided,
            max_argument=self._max_argument,
            name=name,
        )

    def reset(self, *, seed: int) -> None:
        self._seed = seed
        self._episode = object()
        self._chat = TokenChat(self.sampler.template, self._prompt, self.sampler.room)
        self._tokens: list[TurnTokens] = []
        self._usage = Usage()
        self._versions: set[int] = set()

    def act(self, observation: Observation) -> Action:
        prompt = self._chat.ask(observation)
        return self._done(observation, prompt, self._ask(observation, prompt).result())

    async def aact(self, observation: Observation) -> Action:
        prompt = self._chat.ask(observation)
        answer = await asyncio.wrap_future(self._ask(observation, prompt))
        return self._done(observation, prompt, answer)

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

    def _ask(self, observation: Observation, prompt: tuple[int, ...]) -> Future[Answer]:
        seed = f"policy-{self._seed}-{len(self._tokens)}"
        guide = self.sampler.guide(self._schema(observation)) if self.guided else None
        return self.sampler.submit(prompt, seed=seed, episode=self._episode, guide=guide)

    def _schema(self, observation: Observation) -> dict[str, Any]:
        return action_schema(observation, self._max_argument)

    def _done(self, observation: Observation, prompt: tuple[int, ...], answer: Answer) -> Action:
        turn = int(observation["turn"]) + 1
        self._tokens.append(self._chat.answered(answer.ids, turn, answer.logprobs))
        self._versions.add(answer.version)
        self._usage += Usage(
            requests=1, prompt_tokens=len(prompt), completion_tokens=len(answer.ids)
        )
        text = self.sampler.template.text(answer.ids)
        written = text if self.guided else text.rpartition("</think>")[2]
        try:
            return read_action(written, self._schema(observation))
        except ActionError as error:
            return Action("none", note=f"{NO_ACTION}: {error} It wrote: {text[:_NOTED]!r}")
