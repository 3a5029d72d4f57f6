"""Episodes as examples to fine-tune on: what an agent saw, and what it did.

Two layouts, one meaning. :func:`examples` gives one example a turn as chat messages, for any
trainer that tokenises for itself. :func:`turns` gives the same as token ids, exactly as
:class:`~sotopia_gym.agents.policy.PolicyAgent` reads and writes them when it plays, for
:mod:`sotopia_gym.training.rows`; what a policy sampled itself is never tokenised again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sotopia_gym.agents.conversation import TokenChat
from sotopia_gym.agents.prompts import Prompt, answer
from sotopia_gym.agents.template import ChatTemplate
from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import ACTION_TYPES, Action, Event
from sotopia_gym.envs.view import DialogueView
from sotopia_gym.episodes.schema import Episode, TurnTokens
from sotopia_gym.errors import ConfigError, ContextOverflowError
from sotopia_gym.files import write_whole
from sotopia_gym.llm.chat import Message
from sotopia_gym.tasks.background import background

Observation = dict[str, Any]

_TURNS: Final = 20
"""Turns that the prompt of an imported episode promises, where its record does not tell."""


@dataclass(frozen=True, slots=True)
class Example:
    """One turn of one agent.

    Attributes:
        episode_id: The episode.
        task_id: The task.
        agent: The agent whose turn it was.
        turn: The turn, from 1.
        prompt: The chat that asked for it.
        completion: The answer, one message of the assistant.
    """

    episode_id: str
    task_id: str
    agent: str
    turn: int
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]

    def row(self) -> dict[str, Any]:
        """The example as a row of a table; TRL puts the loss on its ``completion`` only."""
        return {
            "prompt": [dict(message) for message in self.prompt],
            "completion": [dict(message) for message in self.completion],
            "episode_id": self.episode_id,
            "task_id": self.task_id,
            "agent": self.agent,
            "turn": self.turn,
        }


def perceived(episode: Episode, agent: str) -> Iterator[tuple[Observation, Event]]:
    """What an agent observed before each of its turns, and what it did then.

    Args:
        episode: The episode.
        agent: One of its agents.

    Raises:
        ConfigError: If the episode has no such agent, or no conversation.
    """
    if agent not in episode.task.agents:
        raise ConfigError(
            f"no agent {agent!r} in task {episode.task.task_id}; its agents are "
            f"{', '.join(episode.task.agents)}."
        )
    if not episode.has_transcript:
        raise ConfigError(
            f"episode {episode.episode_id} has scores but no conversation; leave it out."
        )
    told = background(episode.task, agent, max_turns=episode.max_turns or _TURNS)
    lines = {id(e): transcript.line(e, episode.task.names) for e in episode.events}
    view = DialogueView(limit=sum(len(line) + 1 for line in lines.values()))
    heard: list[Event] = []
    for event in episode.events:
        if heard and event.turn != heard[0].turn:
            view.add([lines[id(e)] for e in heard if e.visible_to(agent)])
            heard = []
        if event.agent == agent:
            observation = {
                "background": told,
                "dialogue": view.text,
                "last_turn": view.last_turn,
                "turn": event.turn - 1,
                "your_turn": 1,
                "allowed_actions": np.ones(len(ACTION_TYPES), dtype=np.int8),
            }
            yield observation, event
        heard.append(event)


def examples(
    episode: Episode, agent: str, prompt: Prompt, *, silent_turns: bool = True
) -> Iterator[Example]:
    """One example for each turn of an agent.

    Args:
        episode: The episode.
        agent: The agent to imitate.
        prompt: What the model that is trained will be asked with.
        silent_turns: Whether turns in which it did nothing are examples too.

    Raises:
        ConfigError: As for :func:`perceived`.
    """
    for observation, event in perceived(episode, agent):
        if event.action.action_type == "none" and not silent_turns:
            continue
        yield Example(
            episode_id=episode.episode_id,
            task_id=episode.task.task_id,
            agent=agent,
            turn=event.turn,
            prompt=tuple(prompt.messages(observation)),
            completion=(_message(event.action, episode),),
        )


def silent(episode: Episode, agent: str) -> frozenset[int]:
    """Numbers of the turns in which an agent did nothing, or wrote nothing that could be read."""
    own = (event for event in episode.events if event.agent == agent)
    return frozenset(event.turn for event in own if event.action.action_type == "none")


def first_difference(
    better: Episode, worse: Episode, agent: str, prompt: Prompt
) -> dict[str, list[Message]] | None:
    """The first turn in which an agent did different things after the same words.

    Args:
        better: An episode.
        worse: Another of the same task, with the same partner.
        agent: The agent that both are about.
        prompt: What the model that is trained will be asked with.

    Returns:
        The ``prompt`` of that turn, and the answers ``chosen`` and ``rejected``, as messages; None
        if the episodes part in what somebody else did, or not at all.
    """
    for (seen, one), (seen_too, other) in zip(
        perceived(better, agent), perceived(worse, agent), strict=False
    ):
        if (seen["background"], seen["dialogue"]) != (seen_too["background"], seen_too["dialogue"]):
            return None
        if one.action != other.action:
            return {
                "prompt": prompt.messages(seen),
                "chosen": [_message(one.action, better)],
                "rejected": [_message(other.action, worse)],
            }
    return None


def turns(
    episode: Episode,
    agent: str,
    template: ChatTemplate,
    prompt: Prompt,
    *,
    most: int,
) -> tuple[TurnTokens, ...]:
    """The turns of an agent as a policy reads and writes them.

    Where the agent was a policy, these are the ids that it read and sampled. Of anybody else they
    are what a policy would have read in its place, and its words as ids: without log-probabilities,
    since nobody sampled them.

    Args:
        episode: The episode.
        agent: The agent to imitate.
        template: The chat template of the model that is trained.
        prompt: What it will be asked with.
        most: Most tokens of a prompt and its answer. The oldest turns are dropped from a longer
            prompt; role, goal and the newest turns stay.

    Raises:
        ConfigError: As for :func:`perceived`.
        ContextOverflowError: If role, goal and an answer alone are longer than ``most``; or if a
            policy's recorded turn is.
    """
    recorded = episode.tokens.get(agent)
    if recorded:
        return _fitting(recorded, most)
    acted = [
        (observation, event.turn, template.answer(answer(_addressed(event.action, episode))))
        for observation, event in perceived(episode, agent)
    ]
    longest = max((len(ids) for _, _, ids in acted), default=0)
    chat = TokenChat(template, prompt, most - longest)
    found = []
    for observation, turn, ids in acted:
        chat.ask(observation)
        found.append(chat.answered(ids, turn))
    return tuple(found)


def save_examples(found: Iterable[Example], path: Path | str) -> int:
    """Write examples as JSON Lines, which ``datasets.load_dataset("json", ...)`` reads.

    The file is written whole or not at all.

    Returns:
        How many there are.
    """
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for example in found:
            yield json.dumps(example.row(), ensure_ascii=False).encode() + b"\n"
            count += 1

    write_whole(Path(path), lines())
    return count


def _fitting(recorded: tuple[TurnTokens, ...], most: int) -> tuple[TurnTokens, ...]:
    read = 0
    for turn in recorded:
        read = turn.shared + len(turn.prompt) + len(turn.sampled)
        if read > most:
            raise ContextOverflowError(
                f"turn {turn.turn} has {read} tokens as the policy read and sampled them, but only "
                f"{most} may be trained on. What was sampled cannot be shortened: raise the limit, "
                "or play with a context of this length."
            )
    return recorded


def _message(action: Action, episode: Episode) -> Message:
    return {"role": "assistant", "content": answer(_addressed(action, episode))}


def _addressed(action: Action, episode: Episode) -> Action:
    """An action that names characters instead of agents, as models do."""
    names = tuple(episode.task.names[agent] for agent in action.to)
    return Action(action.action_type, action.argument, names)
