"""What a finished conversation leaves behind."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sotopia_gym.envs.dialogue import Ending, Event, TurnOrder
from sotopia_gym.tasks.families import Outcome
from sotopia_gym.tasks.schema import Task

SCHEMA_VERSION = 1
"""Raised whenever a stored episode would no longer read back the same."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DimensionScore(_Model):
    """One score, with the reasoning that led to it.

    Attributes:
        score: A finite number in the dimension's range.
        reasoning: Why; empty where the score is arithmetic.
    """

    score: float
    reasoning: str = ""

    @field_validator("score")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError(f"a score must be a finite number, got {value}")
        return value


class Judgement(_Model):
    """What a judge says of one episode: scores, or why there are none.

    Attributes:
        judge: Who judged.
        scores: Agent to dimension to score; empty if unscored.
        error: Why the episode could not be scored; None if it was.
        outcome: What verifiably happened, on tasks with ground truth.
        normalised: Agent to goal score on the scale where 0 is no agreement and 1 the rational
            ceiling; on tasks with ground truth.
        metrics: Further measurements of the episode as a whole.
    """

    judge: str
    scores: dict[str, dict[str, DimensionScore]] = {}
    error: str | None = None
    outcome: Outcome | None = None
    normalised: dict[str, float] = {}
    metrics: dict[str, float] = {}

    @property
    def scored(self) -> bool:
        """Whether there are scores."""
        return self.error is None and bool(self.scores)

    def goal(self, agent: str) -> float | None:
        """The goal score of ``agent``, 0 to 10, or None if it is unscored."""
        score = self.scores.get(agent, {}).get("goal")
        return None if score is None else score.score


class Usage(_Model):
    """What playing one role cost.

    Attributes:
        requests: Calls of a model.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Episode(_Model):
    """One finished conversation: all that is needed to read, replay or judge it again.

    Attributes:
        schema_version: Version of this layout.
        library_version: The version of this library that made it.
        task: What was played.
        turn_order: The rules it was played by.
        max_turns: The rules it was played by.
        seed: Seed of the episode, from which the players' seeds derive.
        agents: Agent to the spec of who played it, e.g. ``"scripted/fair"``; where the players
            are not known to the environment this is empty.
        events: Everything that happened, oldest first.
        ending: Why it ended.
        judgements: What judges said of it, oldest first; empty if unjudged.
        usage: Agent to what playing it cost, where that is known.
        extra: Whatever else the maker of the episode wants to keep, as JSON.
    """

    schema_version: int = SCHEMA_VERSION
    library_version: str = ""
    task: Task
    turn_order: TurnOrder
    max_turns: int
    seed: int
    agents: dict[str, str] = {}
    events: tuple[Event, ...]
    ending: Ending
    judgements: tuple[Judgement, ...] = ()
    usage: dict[str, Usage] = {}
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def judgement(self) -> Judgement | None:
        """The latest judgement, or None if the episode is unjudged."""
        return self.judgements[-1] if self.judgements else None

    def with_judgement(self, judgement: Judgement) -> Episode:
        """A copy with one more judgement."""
        return self.model_copy(update={"judgements": (*self.judgements, judgement)})
