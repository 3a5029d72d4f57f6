"""Language models as agents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sotopia_gym.agents.base import Agent
from sotopia_gym.agents.prompts import CHAT, Prompt, action_schema
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import MAX_ARGUMENT_LENGTH, Action
from sotopia_gym.episodes.schema import Usage
from sotopia_gym.errors import ActionError, AnswerError, ContextOverflowError
from sotopia_gym.llm.chat import ChatModel, Completion, Message
from sotopia_gym.llm.client import run_sync

NO_ACTION: Final = "no valid action"
"""What the note of an event begins with whose agent gave no answer that is an allowed action."""

_MAX_CHARACTERS: Final = 200_000
"""Longest dialogue that is tried; some hundred turns. Models with less context say so."""


class LLMAgent(Agent):
    """Asks a chat model for every action, as JSON to a schema of the actions allowed.

    An answer that is no allowed action is sent back with what is wrong with it, ``repairs``
    times; after that the turn passes with ``none``, and the episode keeps the reason. A
    conversation too long for the model loses its oldest turns; role and goal always stay. If the
    model cannot be reached at all the error is raised: an episode is never half played.

    Sampling is seeded where the server has seeds. The embedded model's arithmetic depends in its
    last bits on how much of the prompt it has cached, so that equal seeds give equal words only
    after equal histories.

    Args:
        model: The model. Several agents may share one.
        prompt: What it is asked with.
        temperature: Sampling temperature; 1.0 in the paper.
        max_tokens: Longest answer, in tokens.
        max_argument: Longest argument of an action, in characters.
        repairs: How often an invalid answer is sent back.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        prompt: Prompt = CHAT,
        temperature: float = 1.0,
        max_tokens: int = 512,
        max_argument: int = MAX_ARGUMENT_LENGTH,
        repairs: int = 2,
    ) -> None:
        self.name = model.name
        self._model, self._prompt = model, prompt
        self._temperature, self._max_tokens = temperature, max_tokens
        self._max_argument, self._repairs = max_argument, repairs
        self.reset(seed=0)

    def reset(self, *, seed: int) -> None:
        self._seed = seed
        self._asked = 0
        self._usage = Usage()
        self._models: set[str] = set()

    def act(self, observation: Mapping[str, Any]) -> Action:
        return run_sync(self.aact(observation))

    async def aact(self, observation: Mapping[str, Any]) -> Action:
        schema = action_schema(observation, self._max_argument)
        repair: list[Message] = []
        problem = ""
        for attempt in range(self._repairs + 1):
            try:
                text = (await self._complete(observation, repair, schema, attempt)).text
            except AnswerError as error:
                text, problem = error.text, str(error)
            else:
                try:
                    return read_action(text, schema)
                except ActionError as error:
                    problem = str(error)
            repair = [
                {"role": "assistant", "content": transcript.without_tokens(text) or "(nothing)"},
                {
                    "role": "user",
                    "content": "That was not a valid action: "
                    f"{transcript.without_tokens(problem)} Answer with the JSON object alone.",
                },
            ]
        return Action("none", note=f"{NO_ACTION} in {self._repairs + 1} answers: {problem}")

    def usage(self) -> Usage:
        return self._usage

    def prompt(self) -> str:
        return self._prompt.version

    def models(self) -> tuple[str, ...]:
        return tuple(sorted(filter(None, self._models)))

    def close(self) -> None:
        self._model.close()

    async def _complete(
        self,
        observation: Mapping[str, Any],
        repair: list[Message],
        schema: Mapping[str, Any],
        attempt: int,
    ) -> Completion:
        """Complete, dropping the oldest turns while the chat is too long for the model."""
        observation = dict(observation)
        observation["dialogue"] = _newest(observation["dialogue"], _MAX_CHARACTERS)
        while True:
            try:
                completion = await self._model.complete(
                    [*self._prompt.messages(observation), *repair],
                    schema=schema,
                    temperature=self._temperature,
                    seed=(self._seed + self._asked) % 2**31,
                    max_tokens=self._max_tokens,
                    attempt=attempt,
                )
            except ContextOverflowError:
                shorter = _newest(observation["dialogue"], len(observation["dialogue"]) * 2 // 3)
                if shorter == observation["dialogue"]:
                    raise
                observation["dialogue"] = shorter
                continue
            except AnswerError as error:
                if error.completion is not None:
                    self._usage += Usage.of(error.completion)
                raise
            self._asked += 1
            self._usage += Usage.of(completion)
            self._models.add(f"{completion.model} {completion.fingerprint}".strip())
            return completion


def read_action(text: str, schema: Mapping[str, Any]) -> Action:
    """The action in a model's answer.

    Models often put JSON into a code fence; anything else around it is an error.

    Raises:
        ActionError: If it is not one that ``schema`` allows; the message says why.
    """
    inner = text.strip()
    if inner.startswith("```") and inner.endswith("```"):
        inner = inner.strip("`").removeprefix("json").strip()
    try:
        answer = json.loads(inner)
    except (ValueError, RecursionError):  # also for numbers of thousands of digits
        raise ActionError(f"it is not JSON: {text[:60]!r}.") from None
    known = schema["properties"]
    if not isinstance(answer, dict) or set(answer) - set(known):
        raise ActionError(f"it must be an object with {', '.join(map(repr, known))} only.")
    allowed = schema["properties"]["action_type"]["enum"]
    if answer.get("action_type") not in allowed:
        raise ActionError(f"action_type must be one of {', '.join(allowed)}.")
    argument = answer.get("argument", "")
    if not isinstance(argument, str):
        raise ActionError("argument must be a string.")
    # JSON can spell out surrogates that no text may hold.
    argument = argument.encode("utf-8", "replace").decode("utf-8")
    limit = schema["properties"]["argument"]["maxLength"]
    if len(argument) > limit:
        raise ActionError(f"argument has {len(argument)} characters, at most {limit} are allowed.")
    to = answer.get("to", [])
    names = known["to"]["items"]["enum"] if "to" in known else []
    if not isinstance(to, list) or any(name not in names for name in to):
        raise ActionError(f"to must be a list of names among {', '.join(names)}.")
    return Action(answer["action_type"], argument, tuple(to))


def _newest(dialogue: str, limit: int) -> str:
    """The newest whole lines of ``dialogue``, at most ``limit`` characters."""
    if len(dialogue) <= limit:
        return dialogue
    cut = dialogue.find("\n", len(dialogue) - limit - 1)
    return dialogue[cut + 1 :] if cut >= 0 else ""
