"""Characters, scenarios, tasks and suites: what is played.

All models are immutable and refuse unknown fields. Texts of scenarios may carry the visibility
tags of :mod:`sotopia_gym.tasks.visibility`; they are checked when a scenario is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sotopia_gym.errors import TaskError, UnknownIdError, did_you_mean
from sotopia_gym.tasks import visibility


class RelationshipType(IntEnum):
    """How close two characters are, in SOTOPIA's numbering."""

    STRANGER = 0
    KNOW_BY_NAME = 1
    ACQUAINTANCE = 2
    FRIEND = 3
    ROMANTIC = 4
    FAMILY = 5


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Character(_Model):
    """Who somebody is.

    What another character may see of this depends on their relationship
    (:func:`sotopia_gym.tasks.background.acquaintance_with`); ``secret`` is never shown to others.

    Attributes:
        character_id: Unique id.
        first_name: Given name; printable, without digits, quotes, colons, commas or brackets.
        last_name: Family name; may be empty.
        age: Years; None if unknown.
        gender: As the character would say it; like all that follow, empty if unknown.
        pronouns: E.g. ``"she/her"``.
        occupation: What they do for a living.
        public_info: What acquaintances know; the whole biography where it came in one piece.
        personality: What friends know of their temperament.
        values: What matters to them.
        decision_style: How they decide.
        secret: What they keep to themselves.
        traits: Further test scores and labels (Big Five, MBTI); shown to nobody.
    """

    character_id: str
    first_name: str = Field(min_length=1)
    last_name: str = ""
    age: int | None = Field(default=None, ge=0, le=130)
    gender: str = ""
    pronouns: str = ""
    occupation: str = ""
    public_info: str = ""
    personality: str = ""
    values: tuple[str, ...] = ()
    decision_style: str = ""
    secret: str = ""
    traits: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Full name."""
        return f"{self.first_name} {self.last_name}".strip()

    @field_validator("first_name", "last_name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        # A transcript line starts with the name: it must not look like the rest of the line.
        if not value.isprintable() or any(c in '":,()[]<>{}' or c.isdigit() for c in value):
            raise TaskError(
                f"a name is printable and has no digits, quotes, colons, commas or brackets: "
                f"{value!r}"
            )
        return value

    @model_validator(mode="after")
    def _whole_name(self) -> Character:
        if not self.name:
            raise TaskError(f"character {self.character_id}: the name is blank")
        if "privately to" in self.name:
            # A transcript line could then be read in two ways.
            raise TaskError(f'a name does not hold "privately to": {self.name!r}')
        return self


class Constraint(_Model):
    """What a scenario asks of the character in one role.

    Attributes:
        min_age: Youngest age that fits, in years.
        max_age: Oldest age that fits, in years.
        occupations: Occupations that fit; empty means any.
    """

    min_age: int = 18
    max_age: int = 130
    occupations: tuple[str, ...] = ()

    def admits_age(self, character: Character) -> bool:
        """Whether ``character`` is of an age that fits; an unknown age does not."""
        return character.age is not None and self.min_age <= character.age <= self.max_age

    def admits(self, character: Character) -> bool:
        """Whether ``character`` fits the role."""
        if not self.admits_age(character):
            return False
        occupation = character.occupation.casefold()
        return not self.occupations or any(o.casefold() in occupation for o in self.occupations)


class OutcomeSpec(BaseModel):
    """What a scenario's ground truth is made of; its further fields are the family's own.

    Attributes:
        family: Name of the task family that reads and scores the outcome.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    family: str


class Scenario(_Model):
    """A social situation, with one private goal for each role.

    Attributes:
        scenario_id: Unique id.
        codename: Short name for people; need not be unique.
        source: Where it comes from.
        context: The scene, as everybody in it may know it. May carry visibility tags.
        goals: The private goal of ``agent_0``, ``agent_1``, ... May carry visibility tags.
        relationship: How close the characters must be.
        constraints: What each role asks of its character; empty means nothing.
        outcome: The ground truth, or None for an open-ended scenario.

    Raises:
        TagError: If a tag is malformed.
    """

    scenario_id: str
    codename: str = ""
    source: str = ""
    context: str = Field(min_length=1)
    goals: tuple[str, ...] = Field(min_length=2)
    relationship: RelationshipType
    constraints: tuple[Constraint, ...] = ()
    outcome: OutcomeSpec | None = None

    @model_validator(mode="after")
    def _check(self) -> Scenario:
        where = f"scenario {self.scenario_id}"
        visibility.check(self.context, where=f"{where}, context")
        for index, goal in enumerate(self.goals):
            visibility.check(goal, where=f"{where}, goal of agent_{index}")
        if self.constraints and len(self.constraints) != len(self.goals):
            raise TaskError(
                f"{where} has {len(self.goals)} goals but {len(self.constraints)} constraints"
            )
        return self


class Relationship(_Model):
    """How close two of the characters in a task are.

    Attributes:
        agents: The two roles, e.g. ``("agent_0", "agent_1")``.
        type: How close they are.
        background_story: How they know each other. It may tell secrets of both, so it is kept
            for the record and shown to nobody.
    """

    agents: tuple[str, str]
    type: RelationshipType
    background_story: str = ""


class Task(_Model):
    """One playable instance: a scenario with its characters filled in.

    Attributes:
        task_id: Unique and stable id.
        scenario: The situation.
        characters: Who plays ``agent_0``, ``agent_1``, ...: one for each goal, names distinct.
        relationships: Pairs that are closer or less close than the scenario says.
    """

    task_id: str
    scenario: Scenario
    characters: tuple[Character, ...]
    relationships: tuple[Relationship, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Task:
        if len(self.characters) != len(self.scenario.goals):
            raise TaskError(
                f"task {self.task_id} has {len(self.characters)} characters for "
                f"{len(self.scenario.goals)} goals"
            )
        names = [character.name for character in self.characters]
        if len(set(names)) != len(names):
            raise TaskError(f"task {self.task_id}: two characters share the name in {names}")
        for relationship in self.relationships:
            if not set(relationship.agents) <= set(self.agents):
                raise TaskError(
                    f"task {self.task_id}: relationship of unknown agents {relationship.agents}"
                )
        return self

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """The roles: ``("agent_0", "agent_1", ...)``."""
        return tuple(f"agent_{index}" for index in range(len(self.characters)))

    @cached_property
    def names(self) -> dict[str, str]:
        """Full name of the character in each role."""
        return {a: c.name for a, c in zip(self.agents, self.characters, strict=True)}

    def character(self, agent: str) -> Character:
        """The character that ``agent`` plays."""
        return self.characters[self._index(agent)]

    def goal(self, agent: str) -> str:
        """The goal of ``agent`` as it may read it itself."""
        return visibility.render(self.scenario.goals[self._index(agent)], agent)

    def relationship(self, one: str, other: str) -> RelationshipType:
        """How close two different roles are."""
        pair = {one, other}
        for relationship in self.relationships:
            if set(relationship.agents) == pair:
                return relationship.type
        return self.scenario.relationship

    def _index(self, agent: str) -> int:
        try:
            return self.agents.index(agent)
        except ValueError:
            raise UnknownIdError(
                f"task {self.task_id} has no agent {agent!r}. {did_you_mean(agent, self.agents)}"
            ) from None


class Suite(_Model):
    """A named, versioned, ordered set of tasks.

    Attributes:
        name: E.g. ``"starter"``.
        version: Raised whenever a task changes.
        tasks: The tasks, with distinct ids.
        splits: Names of subsets and the ids of the tasks in each, e.g. ``"train"``, ``"heldout"``.
    """

    name: str
    version: int = 1
    tasks: tuple[Task, ...]
    splits: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if len(self._by_id) != len(self.tasks):
            raise TaskError(f"suite {self.name} holds two tasks with the same id")
        for split, ids in self.splits.items():
            unknown = set(ids) - self._by_id.keys()
            if unknown:
                raise TaskError(f"split {split} of suite {self.name}: unknown {sorted(unknown)}")
        return self

    @cached_property
    def _by_id(self) -> Mapping[str, Task]:
        return {task.task_id: task for task in self.tasks}

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:  # type: ignore[override]  # a suite is its tasks
        return iter(self.tasks)

    def __getitem__(self, task_id: str) -> Task:
        """The task with this id.

        Raises:
            UnknownIdError: If the suite has none; the message suggests the nearest.
        """
        try:
            return self._by_id[task_id]
        except KeyError:
            raise UnknownIdError(
                f"suite {self.name!r} has no task {task_id!r}. {did_you_mean(task_id, self._by_id)}"
            ) from None

    def split(self, name: str) -> Suite:
        """The suite of the tasks in one split, in this suite's order.

        Raises:
            UnknownIdError: If there is no such split.
        """
        if name not in self.splits:
            raise UnknownIdError(
                f"suite {self.name!r} has no split {name!r}. {did_you_mean(name, self.splits)}"
            )
        chosen = set(self.splits[name])
        return Suite(
            name=f"{self.name}/{name}",
            version=self.version,
            tasks=tuple(task for task in self.tasks if task.task_id in chosen),
        )

    @cached_property
    def num_agents(self) -> int:
        """How many agents every task of the suite has.

        Raises:
            TaskError: If the suite is empty or its tasks differ in it.
        """
        sizes = sorted({len(task.characters) for task in self.tasks})
        if len(sizes) != 1:
            raise TaskError(
                f"an environment plays a non-empty suite whose tasks all have the same number of "
                f"agents; suite {self.name!r} has {len(self.tasks)} tasks with {sizes or 'no'} "
                "agents. Split it by size."
            )
        return sizes[0]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the suite's content, independent of how its file is laid out."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_digest(value: Any) -> str:
    """Twelve hexadecimal digits that equal values share, and others hardly ever."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
