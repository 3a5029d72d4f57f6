"""What a rollout is made of: one job for each episode to be played."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sotopia_gym.agents.base import derive_seed
from sotopia_gym.envs.dialogue import TurnOrder
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.schema import Task, canonical_json

Roles = Literal["both", "first", "second"]
ROLES: tuple[Roles, ...] = get_args(Roles)


@dataclass(frozen=True, slots=True)
class Rules:
    """By what rules episodes are played.

    Attributes:
        turn_order: ``"round-robin"``, ``"simultaneous"`` or ``"random"``.
        max_turns: Turns after which an episode is cut off.
        max_silent_turns: Silent turns in a row after which it is cut off.
    """

    turn_order: TurnOrder = "round-robin"
    max_turns: int = 20
    max_silent_turns: int = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One episode to be played.

    Attributes:
        key: What it is known by: equal for equal task, players, prompts, rules, seed, repetition.
        task: What is played.
        agents: Agent to the name of who plays it.
        focal: The agent that the rollout is about; None if it is about all.
        repetition: How often the same was played before.
        seed: Seed of the episode.
        grouped: Whether other repetitions have the same seed.
    """

    key: str
    task: Task
    agents: Mapping[str, str]
    focal: str | None
    repetition: int
    seed: int
    grouped: bool = False

    def player_seed(self, role: str) -> int:
        """Seed of who plays a role; of a group's members, only the agent's own differ."""
        own = self.grouped and self.focal in (None, role)
        return derive_seed(self.seed, f"{role}/{self.repetition}" if own else role)


def plan(
    tasks: Iterable[Task],
    agent: str,
    partners: Sequence[str] = (),
    *,
    roles: Roles = "both",
    every_partner: bool = False,
    repetitions: int = 1,
    grouped: bool = False,
    seed: int = 0,
    rules: Rules | None = None,
    prompts: Mapping[str, str] | None = None,
) -> Iterator[Job]:
    """The jobs of a rollout, one at a time, in a fixed order.

    Each job's seed and partners derive from the root seed and from what the job is, never from its
    place in the order, so that more tasks or repetitions leave the others as they were.

    Args:
        tasks: What is played.
        agent: Name of the agent that the rollout is about.
        partners: Names of those who play the other roles: one is drawn for each of them. Without
            partners the agent plays all roles.
        roles: Which roles ``agent`` plays, each in an episode of its own: all (``"both"``), the
            ``"first"`` to speak, or the ``"second"``. Without partners it means nothing.
        every_partner: Whether each role is played against every partner, who then plays all other
            roles, instead of against those that are drawn.
        repetitions: How often each is played.
        grouped: Whether repetitions are a group, as GRPO compares them: same partners, same seed of
            the episode and of the partners; only the agent draws anew.
        seed: Root seed.
        rules: The rules; by default those of the environment.
        prompts: Name of a player to version and hash of its prompt.

    Raises:
        ConfigError: If an argument makes no sense.
    """
    if roles not in ROLES:
        raise ConfigError(f"roles must be one of {', '.join(map(repr, ROLES))}, got {roles!r}.")
    if repetitions < 1:
        raise ConfigError(f"repetitions must be at least 1, got {repetitions}.")
    rules = rules or Rules()
    fixed = (rules.turn_order, rules.max_turns, rules.max_silent_turns, seed)
    known = (*fixed, "grouped") if grouped else fixed
    for task in tasks:
        content = _digest(task.model_dump(mode="json"))
        for repetition in range(repetitions):
            luck = 0 if grouped else repetition
            casts = _casts(task, agent, partners, roles, every_partner, seed, luck)
            for focal, cast in casts:
                prompt = {a: (prompts or {}).get(name, "") for a, name in cast.items()}
                key = _digest([content, cast, prompt, focal, repetition, known])
                # Who plays is not part of the seed: agents that are compared meet the same luck.
                what = f"{task.task_id}/{focal}/{luck}"
                luck_seed = derive_seed(seed, what) % 2**53
                yield Job(key, task, cast, focal, repetition, luck_seed, grouped)


def _casts(
    task: Task,
    agent: str,
    partners: Sequence[str],
    roles: Roles,
    every_partner: bool,
    seed: int,
    repetition: int,
) -> Iterator[tuple[str | None, dict[str, str]]]:
    """The focal agent and who plays each, for each episode of one repetition of a task."""
    if not partners:
        yield None, dict.fromkeys(task.agents, agent)
        return
    chosen = {"both": task.agents, "first": task.agents[:1], "second": task.agents[1:2]}[roles]
    for focal in chosen:
        if every_partner:
            for partner in partners:
                yield focal, dict.fromkeys(task.agents, partner) | {focal: agent}
            continue
        rng = random.Random(derive_seed(seed, f"partners/{task.task_id}/{focal}/{repetition}"))
        cast = {a: rng.choice(partners) for a in task.agents}
        yield focal, cast | {focal: agent}


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]
