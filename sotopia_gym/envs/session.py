"""One episode in progress: the rules, what each agent has perceived, what it may do now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import ACTION_TYPES, Action, Dialogue, Event, TurnOrder
from sotopia_gym.envs.spaces import MAX_BACKGROUND_LENGTH, MAX_DIALOGUE_LENGTH, to_action
from sotopia_gym.envs.view import DialogueView
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import ActionError, TaskError
from sotopia_gym.tasks.background import background
from sotopia_gym.tasks.schema import Task
from sotopia_gym.version import __version__

Observation = dict[str, Any]


class Session:
    """A task being played.

    Environments and the rollout engine drive this one class, so that a conversation is the same
    whoever drives it. It does no I/O and knows no judge.

    Args:
        task: What is played.
        seed: Seed of the episode, for the record; the players' seeds derive from it.
        rng: Source of the ``random`` turn order.
        turn_order: One of :data:`~sotopia_gym.envs.dialogue.TURN_ORDERS`.
        max_turns: Turns after which the episode is cut off.
        max_silent_turns: Silent turns in a row after which it is cut off.

    Attributes:
        task: What is played.
        seed: Seed of the episode.
        dialogue: The conversation.
        views: What each agent has perceived of it.
        coerced: Why the latest action of an agent had no or another effect, where it had.

    Raises:
        TaskError: If a background does not fit an observation.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int,
        rng: np.random.Generator,
        turn_order: TurnOrder = "round-robin",
        max_turns: int = 20,
        max_silent_turns: int = 3,
    ) -> None:
        self.task, self.seed = task, seed
        self.dialogue = Dialogue(
            task.agents,
            turn_order=turn_order,
            max_turns=max_turns,
            max_silent_turns=max_silent_turns,
            rng=rng,
        )
        self._backgrounds = {a: background(task, a, max_turns=max_turns) for a in task.agents}
        for agent, text in self._backgrounds.items():
            if len(text) > MAX_BACKGROUND_LENGTH:
                raise TaskError(
                    f"task {task.task_id}: the background of {agent} has {len(text)} characters, "
                    f"at most {MAX_BACKGROUND_LENGTH} fit an observation."
                )
        limit = MAX_DIALOGUE_LENGTH * len(task.agents)
        self.views = {agent: DialogueView(limit) for agent in task.agents}
        self.coerced: dict[str, str] = {}

    def observe(self, agent: str) -> Observation:
        """What ``agent`` perceives now: a new observation of equal content at every call."""
        dialogue, view = self.dialogue, self.views[agent]
        return {
            "background": self._backgrounds[agent],
            "dialogue": view.text,
            "last_turn": view.last_turn,
            "turn": dialogue.turn,
            "your_turn": int(agent in dialogue.acting),
            "allowed_actions": (_ALL if agent in dialogue.acting else _NONE_ONLY).copy(),
        }

    def read(self, actions: Mapping[str, Any]) -> dict[str, Action]:
        """Read the actions of some agents, without playing them.

        Raises:
            ActionError: If one is not an action, or an agent is unknown.
        """
        if not isinstance(actions, Mapping):
            raise ActionError(f"expected a dict of agent to action, got {type(actions).__name__}.")
        agents = self.task.agents
        unknown = [str(agent) for agent in actions if agent not in agents]
        if unknown:
            raise ActionError(
                f"no agent {', '.join(unknown)} here; the agents are {', '.join(agents)}."
            )
        parsed = {}
        for agent, raw in actions.items():
            try:
                parsed[agent] = self._addressed(to_action(raw, agents))
            except ActionError as error:
                raise ActionError(f"{agent}: {error}") from None
        return parsed

    def advance(self, actions: Mapping[str, Any]) -> tuple[Event, ...]:
        """Play one turn.

        Args:
            actions: As for :meth:`~sotopia_gym.envs.parallel.SocialEnv.step`.

        Returns:
            What happened in it.

        Raises:
            ActionError: If an action is not one, or one is missing. The state is unchanged.
        """
        parsed = self.read(actions)
        dialogue = self.dialogue
        acting, present = dialogue.acting, dialogue.present
        events = dialogue.step(parsed)
        # Of whoever is not among the actions the last action is still another one.
        self.coerced = {a: note for a, note in self.coerced.items() if a not in parsed}
        for agent, action in parsed.items():
            if agent not in acting and action.action_type != "none":
                self.coerced[agent] = "it was not this agent's turn"
        self.coerced |= {event.agent: event.note for event in events if event.note is not None}
        lines = [transcript.line(event, self.task.names) for event in events]
        for agent in present:
            self.views[agent].add(
                [n for n, e in zip(lines, events, strict=True) if e.visible_to(agent)]
            )
        return events

    def episode(self, **fields: Any) -> Episode:
        """What has been played so far, as a record.

        Args:
            **fields: Further fields of the episode; ``ending`` is needed while it goes on.
        """
        dialogue = self.dialogue
        return Episode(
            library_version=__version__,
            task=self.task,
            turn_order=dialogue.turn_order,
            max_turns=dialogue.max_turns,
            max_silent_turns=dialogue.max_silent_turns,
            seed=self.seed,
            events=tuple(dialogue.events),
            **{"ending": dialogue.ending, **fields},
        )

    def _addressed(self, action: Action) -> Action:
        """``action`` with characters' names in ``to`` replaced by the agents that play them."""
        if not action.to:
            return action
        roles = {name: role for role, name in self.task.names.items()}
        return dataclasses.replace(action, to=tuple(roles.get(to, to) for to in action.to))


_ALL = np.ones(len(ACTION_TYPES), dtype=np.int8)
_NONE_ONLY = np.zeros(len(ACTION_TYPES), dtype=np.int8)
_NONE_ONLY[ACTION_TYPES.index("none")] = 1
