"""The embedded language model as an agent: a real model, offline, in this process.

At 135 million parameters it can keep up a conversation, not win one. It is here so that
everything can be run and tested with a language model in it, and as a base to train from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sotopia_gym.agents.base import Agent
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import ACTION_TYPES, NOTHING, Action
from sotopia_gym.llm.embedded import Completion, ContextOverflowError, load
from sotopia_gym.tasks.background import read_background

Message = dict[str, str]

_MAX_TOKENS: Final = 96
_MAX_ARGUMENT: Final = 200
_SAMPLING: Final = {"temperature": 0.7, "top_p": 0.9, "repeat_penalty": 1.05}

_INSTRUCTION: Final = (
    "You are a character in a conversation. Answer with JSON: what you do now, and the words you "
    "say."
)
# A model this small follows examples, not rules. They never change, so that llama.cpp reads them
# once and keeps them in its prompt cache for all episodes.
_EXAMPLES: Final = (
    (
        "Scene: A street market. One sells a radio for $60.\n"
        "You are Eva. Your goal: You are the buyer. Your target price is $40.\n\n"
        'Jon said: "Hello, do you like the radio?"',
        Action("speak", "It looks good. Would you take $35 for it?"),
    ),
    ('Jon said: "That is too low. How about $50?"', Action("speak", "I could go up to $42.")),
    ('Jon said: "All right, $42."', Action("speak", "Deal, $42 it is. Thank you!")),
    (
        "Scene: A garden. One sells a ladder for $90.\n"
        "You are Sam. Your goal: You are the seller. Your target price is $80.\n\n"
        'Kim said: "Would you take $50?"',
        Action("speak", "It is a strong ladder. I can do $85."),
    ),
    ('Kim said: "How about $75?"', Action("speak", "I could let it go for $78.")),
    (
        "Scene: Two friends share 2 lamps and 1 desk.\n"
        "You are Ida. Your goal: the lamps are worth 2 points each and the desk is worth 5 "
        "points.\n\nYou speak first.",
        Action("speak", "I take 1 desk and you take 2 lamps. Is that fair?"),
    ),
    (
        'Bob said: "I take 2 lamps and 1 desk and you take nothing."',
        Action("speak", "No, the desk matters to me. I take 1 desk and you take 2 lamps."),
    ),
)


class LocalAgent(Agent):
    """Plays with an embedded model; several roles and episodes may share one.

    Its actions are constrained to JSON of the form
    ``{"action_type": ..., "argument": ...}`` by a schema that holds the allowed action types.
    An answer that was cut off becomes ``none``. Sampling is seeded, but llama.cpp's arithmetic
    depends in its last bits on how much of the prompt it has cached, so that equal seeds give
    equal words only after equal histories.

    Args:
        model: An embedded model, e.g. ``"smollm2-135m"``.
    """

    def __init__(self, model: str) -> None:
        self.name = f"local/{model}"
        self._server = load(model)
        self.reset(seed=0)

    def reset(self, *, seed: int) -> None:
        self._seed = seed
        self._requests = self._prompt_tokens = self._completion_tokens = 0

    def act(self, observation: Mapping[str, Any]) -> Action:
        chat = chat_messages(observation)
        completion = self._complete(chat, action_schema(observation["allowed_actions"]))
        try:
            answer = json.loads(completion.text)
        except json.JSONDecodeError:
            return NOTHING
        return Action(answer["action_type"], answer["argument"])

    def usage(self) -> Mapping[str, int]:
        return {
            "requests": self._requests,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
        }

    def _complete(self, chat: list[Message], schema: Mapping[str, Any]) -> Completion:
        """Complete, dropping the oldest turns (never role and goal) while the chat is too long."""
        examples = 1 + 2 * len(_EXAMPLES)
        while True:
            self._requests += 1
            try:
                completion = self._server.chat(
                    chat,
                    schema=schema,
                    seed=self._seed + self._requests,
                    max_tokens=_MAX_TOKENS,
                    **_SAMPLING,
                )
            except ContextOverflowError:
                turns = chat[examples + 1 :]
                if len(turns) < 2:
                    raise
                half = len(turns) // 2
                chat = chat[: examples + 1] + turns[half + half % 2 :]
                continue
            self._prompt_tokens += completion.prompt_tokens
            self._completion_tokens += completion.completion_tokens
            return completion


def action_schema(allowed: Sequence[int]) -> dict[str, Any]:
    """The JSON schema of an action.

    Args:
        allowed: ``allowed_actions`` of the observation.
    """
    names = [name for name, bit in zip(ACTION_TYPES, allowed, strict=True) if bit]
    return {
        "type": "object",
        "properties": {
            "action_type": {"enum": names},
            "argument": {"type": "string", "maxLength": _MAX_ARGUMENT},
        },
        "required": ["action_type", "argument"],
        "additionalProperties": False,
    }


def chat_messages(observation: Mapping[str, Any]) -> list[Message]:
    """The chat that asks for the next action.

    The agent's own turns are the assistant's; the earlier messages of an episode are a prefix of
    the later ones, so that a model server reads only what is new.
    """
    brief = read_background(observation["background"])
    chat: list[Message] = [{"role": "system", "content": _INSTRUCTION}]
    for asked, action in _EXAMPLES:
        chat.append({"role": "user", "content": asked})
        chat.append({"role": "assistant", "content": _as_json(action)})
    opening = f"Scene: {brief.scene}\nYou are {brief.name}. Your goal: {brief.goal}\n"
    heard: list[str] = []
    mine = 0
    for utterance in transcript.parse(observation["dialogue"]):
        if utterance.name == brief.name:
            chat.append({"role": "user", "content": _asked(opening if mine == 0 else "", heard)})
            action = Action(utterance.action_type, utterance.argument)
            chat.append({"role": "assistant", "content": _as_json(action)})
            heard, mine = [], mine + 1
        else:
            heard.append(_told(utterance))
    chat.append({"role": "user", "content": _asked(opening if mine == 0 else "", heard)})
    return chat


def _asked(opening: str, heard: Sequence[str]) -> str:
    return "\n".join([*([opening] if opening else []), *(heard or ["It is your turn."])])


def _told(utterance: transcript.Utterance) -> str:
    first_name = utterance.name.split()[0]
    if utterance.action_type == "speak":
        return f"{first_name} said: {transcript.quote(utterance.argument)}"
    if utterance.argument:
        return f"{first_name} did this: {transcript.quote(utterance.argument)}"
    return f"{first_name} said nothing."


def _as_json(action: Action) -> str:
    return json.dumps(
        {"action_type": action.action_type, "argument": action.argument}, ensure_ascii=False
    )
