"""What every task family with ground truth provides.

A family generates tasks from a seed, reads from a finished conversation what was agreed, and
scores that by arithmetic. It also plays: a :class:`Script` turns what one character may know and
has heard into its next line, so that every family comes with partners and an expert.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.pairing import plausible
from sotopia_gym.tasks.schema import Character, RelationshipType, Task

Spec = TypeVar("Spec", bound=BaseModel)

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

Temperament = Literal["expert", "fair", "generous", "firm", "stubborn"]
TEMPERAMENTS: tuple[Temperament, ...] = get_args(Temperament)


class Outcome(BaseModel):
    """What verifiably happened in a task with ground truth.

    Attributes:
        family: The family that read it.
        status: ``agreement`` or ``no-agreement``; ``unread`` where a foreign transcript does not
            carry the outcome. Conversations of our own environment are never ``unread``.
        terms: What was agreed, in the family's own terms; empty unless there is an agreement, or
            what was done without one has a score of its own.
        turn: The turn in which the agreement came about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    status: Literal["agreement", "no-agreement", "unread"]
    terms: dict[str, Any] = {}
    turn: int | None = None

    @property
    def agreed(self) -> bool:
        """Whether there is an agreement."""
        return self.status == "agreement"


@dataclass(frozen=True, slots=True)
class Score:
    """What an outcome is worth to one agent.

    Attributes:
        goal: The reward, 0 to 10, by the family's formula.
        normalised: The same on a scale where 0 is no agreement and 1 the rational ceiling: the
            best that this role can get from a partner that is no worse off than without an
            agreement. Below 0 the agreement is worse than none; above 1 the partner accepted one.
    """

    goal: float
    normalised: float


@dataclass(frozen=True, slots=True)
class Scoring:
    """What an outcome is worth, to each and to all.

    Attributes:
        scores: Agent to :class:`Score`; without those for whom the ground truth is incomplete.
        surplus: Sum over the agents of the goal points above no agreement.
        pareto_optimal: Whether no possible outcome is better for one and worse for none.
    """

    scores: Mapping[str, Score]
    surplus: float
    pareto_optimal: bool


class Script(ABC):
    """A scripted player in one conversation.

    It is built from what its character may know, and sees only what that character hears.
    """

    @abstractmethod
    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        """The next action.

        Args:
            utterances: All that the character has heard and said, oldest first.
            turn: Turns played so far, by everybody.
        """


class Family(ABC):
    """A kind of task whose outcome can be read and scored exactly.

    Attributes:
        name: Name of the family, as in ``scenario.outcome.family``.
        version: Raised whenever an existing seed would give another task or score.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @abstractmethod
    def generate(self, seed: int, split: Split = "train") -> Task:
        """The task with this number: equal arguments give equal tasks.

        Args:
            seed: Number of the task, at least 0.
            split: ``heldout`` draws goods, places and characters that ``train`` never uses.
        """

    @abstractmethod
    def check(self, task: Task) -> None:
        """Raise TaskError unless this family can score ``task``."""

    def feasible(self, task: Task) -> bool:
        """Whether some agreement is worse than none for nobody, and better for one."""
        self.check(task)
        return True

    @abstractmethod
    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """What was agreed in a conversation of our own environment, by the family's rules.

        Without an explicit, accepted agreement that was not taken back there is none.
        """

    @abstractmethod
    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """What ``outcome`` is worth; an impossible one counts as no agreement.

        Raises:
            ValueError: If the outcome is ``unread`` or another family's.
        """

    @abstractmethod
    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        """A scripted player for the character with this brief.

        Args:
            brief: What its character knows.
            temperament: How it bargains.
            rng: Source of its choices.

        Returns:
            The player, or None if the brief is not one of this family.
        """


def draw_characters(
    cast: Sequence[Character],
    relationship: RelationshipType,
    rng: random.Random,
    count: int = 2,
) -> tuple[Character, ...]:
    """So many different characters who could be this close."""
    while True:
        drawn = tuple(rng.sample(list(cast), count))
        if plausible(drawn, relationship):
            return drawn


def read_spec(task: Task, family: str, model: type[Spec]) -> Spec:
    """The ground truth of ``task`` as the family's own model.

    Raises:
        TaskError: If it has none of this family, or a malformed one.
    """
    outcome = task.scenario.outcome
    if outcome is None or outcome.family != family:
        raise TaskError(f"task {task.task_id} is not a {family} task.")
    try:
        return model.model_validate(outcome.model_dump())
    except ValidationError as error:
        raise TaskError(f"task {task.task_id} has a malformed {family} outcome: {error}") from error


def said_to_all(events: Iterable[Event], parties: Collection[str]) -> Iterator[Event]:
    """What the parties said to one another: no gestures, and nothing that one of them missed."""
    return (
        event
        for event in events
        if event.action.action_type == "speak"
        and event.agent in parties
        and all(event.visible_to(party) for party in parties)
    )


def require_read(outcome: Outcome, family: str) -> None:
    """Raise ValueError unless ``outcome`` was read by ``family``."""
    if outcome.family != family:
        raise ValueError(f"expected an outcome of family {family!r}, got {outcome.family!r}.")
    if outcome.status == "unread":
        raise ValueError("an unread outcome has no score; leave the episode unscored.")
