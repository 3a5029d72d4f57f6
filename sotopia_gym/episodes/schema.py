"""What a finished conversation leaves behind."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sotopia_gym.envs.dialogue import Ending, Event, TurnOrder
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.llm.chat import Completion
from sotopia_gym.tasks.families import Outcome
from sotopia_gym.tasks.schema import Task, canonical_json

SCHEMA_VERSION = 1
"""Raised whenever a stored episode would no longer read back the same."""


HUMAN_PREFIX = "human/"
"""What the judge's name of a person's rating begins with; the pseudonym follows."""


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


class Usage(_Model):
    """What calling models cost.

    Attributes:
        requests: Calls of a model; answers from a cache are none.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        cost: US dollars; None if a price is not known.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost is None or other.cost is None
        return Usage(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=None if unknown else (self.cost or 0.0) + (other.cost or 0.0),
        )

    @classmethod
    def of(cls, completion: Completion) -> Usage:
        """What one answer of a model cost."""
        return cls(
            requests=int(not completion.cached),
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cost=completion.cost,
        )


class TurnCredit(_Model):
    """How much one turn did for its agent's goal.

    Attributes:
        turn: The turn.
        mark: 0 (nothing) to 3 (decisive).
    """

    turn: int
    mark: int = Field(ge=0, le=3)


class Judgement(_Model):
    """What a judge says of one episode: scores, or why there are none.

    Attributes:
        judge: Who judged.
        scores: Agent to dimension to score; empty if unscored.
        error: Why the episode could not be scored; None if it was.
        outcome: What verifiably happened, on tasks with ground truth.
        normalised: Agent to goal score on the scale where 0 is no agreement and 1 the rational
            ceiling; on tasks with ground truth.
        true_goals: Agent to the exact goal score, 0 to 10; on tasks with ground truth. An LLM
            judge's own goal scores are in ``scores``: the difference is its bias.
        metrics: Further measurements of the episode as a whole.
        credits: Agent to how much each of its turns did for its goal, if that was asked.
        members: The judgements that a panel's scores were made of.
        usage: What judging cost.
        models: The models that answered, with their fingerprints, as their servers name them.
        prompt: Version and hash of what the judge asked with.
    """

    judge: str
    scores: dict[str, dict[str, DimensionScore]] = {}
    error: str | None = None
    outcome: Outcome | None = None
    normalised: dict[str, float] = {}
    true_goals: dict[str, float] = {}
    metrics: dict[str, float] = {}
    credits: dict[str, tuple[TurnCredit, ...]] = {}
    members: tuple[Judgement, ...] = ()
    usage: Usage = Usage()
    models: tuple[str, ...] = ()
    prompt: str = ""

    @property
    def scored(self) -> bool:
        """Whether there are scores."""
        return self.error is None and bool(self.scores)

    def goal(self, agent: str) -> float | None:
        """The goal score of ``agent``, 0 to 10, or None if it is unscored."""
        score = self.scores.get(agent, {}).get("goal")
        return None if score is None else score.score

    @property
    def success(self) -> float | None:
        """How well it went for all together: mean normalised goal, else mean goal over 10."""
        if self.normalised:
            return math.fsum(self.normalised.values()) / len(self.normalised)
        goals = [scores["goal"].score for scores in self.scores.values() if "goal" in scores]
        return math.fsum(goals) / len(goals) / 10 if goals else None

    def overall(self, agent: str) -> float | None:
        """The plain mean of the seven dimensions' scores; None unless all seven are there."""
        scores = self.scores.get(agent, {})
        if any(dimension not in scores for dimension in DIMENSIONS):
            return None
        return math.fsum(scores[dimension].score for dimension in DIMENSIONS) / len(DIMENSIONS)


class TurnTokens(_Model):
    """The token ids of one turn of a policy, exactly as they were read and sampled.

    Text is not a bijection of ids: whoever trains on an episode must not tokenise it again.

    Attributes:
        turn: The turn.
        shared: How many of the prompt's first ids are the first ids of the turn before, its prompt
            and what was sampled taken together; 0 in the first turn.
        prompt: The ids of the prompt after those.
        sampled: The ids that the policy produced, its end-of-sequence token included if it
            produced one.
        logprobs: Natural log-probability of each sampled id under the distribution that it was
            sampled from, as many as ``sampled``; or empty, where they were not sampled: the words
            are somebody else's.
    """

    turn: int
    shared: int = Field(default=0, ge=0)
    prompt: tuple[int, ...]
    sampled: tuple[int, ...]
    logprobs: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _as_many(self) -> TurnTokens:
        if self.logprobs and len(self.sampled) != len(self.logprobs):
            raise ValueError(
                f"turn {self.turn} has {len(self.sampled)} sampled ids but "
                f"{len(self.logprobs)} log-probabilities"
            )
        return self


class Source(_Model):
    """Where an imported episode comes from.

    Attributes:
        format: The format of the record that the conversation was read from, or, where there is
            none, of the first record that was read.
        record_id: The id of the episode there.
        transcript: Whether there is a conversation; False for scores without one.
        unrecorded: What the records do not tell about the task, so that it holds a neutral
            placeholder: ``"context"``, ``"goal of agent_1"``, ``"character of agent_0"``,
            ``"relationship"`` (then "stranger", which shows least), ...
    """

    format: str
    record_id: str
    transcript: bool
    unrecorded: tuple[str, ...] = ()


class Episode(_Model):
    """One finished conversation: all that is needed to read, replay or judge it again.

    Attributes:
        schema_version: Version of this layout.
        library_version: The version of this library that made it.
        task: What was played.
        turn_order: The rules it was played by; None if unknown.
        max_turns: The rules it was played by; None if unknown.
        max_silent_turns: The rules it was played by; None if unknown.
        seed: Seed of the episode, from which the players' seeds derive; None if unknown.
        agents: Agent to the spec of who played it, e.g. ``"scripted/fair"``; where the players
            are not known to the environment this is empty.
        key: What the rollout that played it knows it by; equal for equal task, players, prompts,
            rules, seed and repetition. Empty if it was not played by a rollout.
        focal: The agent that the rollout was about; None if it was about all.
        repetition: How often the same was played before in the rollout.
        events: Everything that happened, oldest first.
        ending: Why it ended. "failed": a player broke it off, and ``error`` says why;
            "interrupted": the rollout was stopped. Such an episode is no result. "unknown" only
            for imported episodes.
        error: Why it failed; None if it did not.
        judgements: What judges said of it, oldest first; empty if unjudged.
        usage: Agent to what playing it cost, where that is known.
        models: Agent to the models that played it, with their fingerprints, as their servers name
            them.
        prompts: Agent to the version and hash of the prompt it was played with, if it had one.
        tokens: Agent to what it read and sampled in each turn, for players that are policies.
        seconds: How long playing and judging it took; None if unknown.
        source: Where it was imported from; None if it was played here.
        extra: Whatever else the maker of the episode wants to keep, as JSON.
    """

    schema_version: int = SCHEMA_VERSION
    library_version: str = ""
    task: Task
    turn_order: TurnOrder | None = None
    max_turns: int | None = None
    max_silent_turns: int | None = None
    seed: int | None = None
    agents: dict[str, str] = {}
    key: str = ""
    focal: str | None = None
    repetition: int = 0
    events: tuple[Event, ...]
    ending: Ending | Literal["failed", "interrupted", "unknown"]
    error: str | None = None
    judgements: tuple[Judgement, ...] = ()
    usage: dict[str, Usage] = {}
    models: dict[str, tuple[str, ...]] = {}
    prompts: dict[str, str] = {}
    tokens: dict[str, tuple[TurnTokens, ...]] = {}
    seconds: float | None = None
    source: Source | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed; its ``episode_id`` is that of what it then holds."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("episode_id", None)
        return copied

    @cached_property
    def episode_id(self) -> str:
        """The id of an imported episode at its source; else a hash of what was played by whom."""
        if self.source is not None:
            return self.source.record_id
        played = self.model_dump(
            mode="json",
            include={
                "task",
                "turn_order",
                "max_turns",
                "max_silent_turns",
                "seed",
                "agents",
                "prompts",
                "events",
            },
        )
        return hashlib.sha256(canonical_json(played).encode()).hexdigest()[:24]

    @property
    def complete(self) -> bool:
        """Whether it was played to its end."""
        return self.ending not in ("failed", "interrupted")

    @property
    def seats(self) -> tuple[str, ...]:
        """The roles of the agent that this is about: one, or all where it met itself."""
        return self.task.agents if self.focal is None else (self.focal,)

    def partners_of(self, agent: str | None) -> str:
        """The names of who played the other roles than ``agent``, joined; of all roles for None.

        Returns:
            The names, each once and in order; ``"unknown"`` if none is recorded.
        """
        met = {name for role, name in self.agents.items() if role != agent}
        return " + ".join(sorted(met)) or "unknown"

    @property
    def has_transcript(self) -> bool:
        """Whether the conversation is here; some imported scores come without one."""
        return self.source is None or self.source.transcript

    @property
    def judgement(self) -> Judgement | None:
        """The latest judgement, or None if the episode is unjudged."""
        return self.judgements[-1] if self.judgements else None

    def with_judgement(self, judgement: Judgement) -> Episode:
        """A copy with one more judgement."""
        return self.model_copy(update={"judgements": (*self.judgements, judgement)})
