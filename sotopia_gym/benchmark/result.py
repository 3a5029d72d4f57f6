"""What a benchmark run found, with all that is needed to tell what was run."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sotopia_gym.episodes.schema import Usage
from sotopia_gym.errors import ConfigError
from sotopia_gym.files import write_whole
from sotopia_gym.rollout.jobs import Roles, Rules
from sotopia_gym.stats import Interval


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Model):
    """A mean with its 95 % bootstrap interval, in which whole scenarios are resampled.

    Attributes:
        mean: The plain mean of the values.
        low: Lower end; None with fewer than two scenarios.
        high: Upper end; None with fewer than two scenarios.
        count: How many values.
        scenarios: From how many scenarios they are.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    scenarios: int

    @classmethod
    def of(cls, interval: Interval, scenarios: int) -> Estimate:
        """The estimate that an interval is."""
        low, high = (None if math.isnan(end) else end for end in (interval.low, interval.high))
        return cls(
            mean=interval.mean, low=low, high=high, count=interval.count, scenarios=scenarios
        )

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Config(_Model):
    """What was run.

    Attributes:
        command: The command that runs the same again; empty where a player or the judge is an
            object without a spec, or the suite has no name to load it by.
        suite: Name of the suite.
        suite_version: Its version.
        suite_sha256: SHA-256 of the whole suite's content.
        split: The split that was played; None for all of it.
        tasks: How many tasks.
        scenarios: How many different scenarios they are of.
        agent: The agent that it is about.
        partners: Who played the other roles; empty if the agent did.
        judge: Whose scores these are.
        judge_prompt: Version and hash of what the judge asked with; empty if it asks nobody.
        roles: Which roles the agent played.
        every_partner: Whether it met every partner in each of them.
        repetitions: How often each was played.
        seed: Root seed.
        rules: The rules of the conversation.
        prompts: Player to the version and hash of the prompts it was played with.
        models: Player to the models that answered for it, as their servers name them.
        judge_models: The models that answered the judge.
        max_cost: US dollars that could be spent; None for any sum.
        max_seconds: Seconds that it could take; None for any time.
        library_version: The version of this library.
        python: The version of Python.
        platform: The operating system and processor.
        date: When it ended, in UTC, to ISO 8601.
    """

    command: str
    suite: str
    suite_version: int
    suite_sha256: str
    split: str | None
    tasks: int
    scenarios: int
    agent: str
    partners: tuple[str, ...]
    judge: str
    judge_prompt: str
    roles: Roles
    every_partner: bool
    repetitions: int
    seed: int
    rules: Rules
    prompts: dict[str, tuple[str, ...]]
    models: dict[str, tuple[str, ...]]
    judge_models: tuple[str, ...]
    max_cost: float | None
    max_seconds: float | None
    library_version: str
    python: str
    platform: str
    date: str


class Counts(_Model):
    """What became of the episodes that were planned.

    They are the sum of ``scored``, ``unscored``, ``failed``, ``interrupted`` and ``left_out``; only
    the scored ones are in any mean.

    Attributes:
        planned: All.
        complete: Those that were played to their end, scored or not.
        scored: Complete ones in which the agent has a score.
        unscored: Complete ones in which it has none.
        failed: Those that a player broke off.
        interrupted: Those that were in flight when the run was stopped.
        left_out: Those that were never begun.
        failures: Why episodes failed, most frequent first; digits are shown as ``#``.
        unscored_because: Why episodes are unscored, in the same form.
        stopped_by: Why the run ended before all was played; None if it did not.
    """

    planned: int
    complete: int
    scored: int
    unscored: int
    failed: int
    interrupted: int
    left_out: int
    failures: dict[str, int]
    unscored_because: dict[str, int]
    stopped_by: str | None


class Group(_Model):
    """Scored episodes that have something in common.

    Attributes:
        episodes: How many.
        scenarios: Of how many scenarios. With less than some ten the intervals are too narrow.
        scores: The agent's scores: every dimension that the judge scores; ``overall``, the mean of
            the seven, over the episodes in which all are there; and on tasks with ground truth
            ``normalised`` (0: no agreement, 1: the rational ceiling) and ``true_goal`` (exact, 0 to
            10).
        partner: The same of those that it met; empty if it met itself.
        outcomes: Shares of the episodes with ground truth: ``agreement``, and ``pareto_optimal``
            (no possible outcome is better for one and worse for none).
        conversation: ``turns`` of an episode; ``words_per_turn`` in which the agent spoke;
            ``left``, the share of episodes in which it left; and of its turns in an episode the
            share in which it did nothing (``silent``) and in which what it wanted could not be
            done or read (``invalid``, most of them silent).
    """

    episodes: int
    scenarios: int
    scores: dict[str, Estimate]
    partner: dict[str, Estimate]
    outcomes: dict[str, Estimate]
    conversation: dict[str, Estimate]


class Spent(_Model):
    """What models cost, over all episodes of the run that were begun, scored or not.

    Attributes:
        agent: What the agent's playing cost.
        partners: What the partners' playing cost.
        judge: What judging cost.
        total: All of it.
        cost_per_episode: US dollars, mean; None if a price is not known or nothing was begun.
        tokens_per_episode: Tokens read and written, mean; None if nothing was begun.
    """

    agent: Usage
    partners: Usage
    judge: Usage
    total: Usage
    cost_per_episode: float | None
    tokens_per_episode: float | None


class PublishedRow(_Model):
    """What a paper reports of one model.

    Attributes:
        model: The model, as the paper calls it.
        source: The paper.
        suite: The suite.
        judge: Who judged; None if that is not recorded here.
        partner: Whom it met; ``"itself"`` in self-play.
        episodes: How many episodes; None if that is not recorded here.
        scenarios: Of how many scenarios.
        max_turns: Turns after which an episode was cut off; None if that is not recorded here.
        roles: ``"both"`` if it played both; None if that is not recorded here.
        scores: Dimension to mean score.
        differences: What this run did otherwise, in words.
    """

    model: str
    source: str
    suite: str
    judge: str | None
    partner: str
    episodes: int | None
    scenarios: int | None
    max_turns: int | None
    roles: str | None
    scores: dict[str, float]
    differences: tuple[str, ...] = ()


class Published(_Model):
    """Published numbers next to a run's own.

    Attributes:
        note: How far they can be compared.
        rows: The numbers; none on a suite that nobody has published numbers of.
    """

    note: str
    rows: tuple[PublishedRow, ...] = ()


class Result(_Model):
    """What a benchmark run found.

    Attributes:
        config: What was run.
        counts: What became of the episodes.
        overall: All scored episodes.
        by_family: By task family; tasks without ground truth are ``"open-ended"``.
        by_source: By where the scenarios come from.
        by_role: By the role that the agent played. It may have played all.
        by_partner: By whom it met; of several in one conversation all are named.
        spent: What it cost.
        published: Numbers of papers, with how their protocols differ from this run's.
    """

    config: Config
    counts: Counts
    overall: Group
    by_family: dict[str, Group]
    by_source: dict[str, Group]
    by_role: dict[str, Group]
    by_partner: dict[str, Group]
    spent: Spent
    published: Published

    def save(self, path: Path | str) -> None:
        """Write it as JSON, whole or not at all."""
        write_whole(Path(path), [self.model_dump_json(indent=1).encode() + b"\n"])

    @classmethod
    def load(cls, path: Path | str) -> Result:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: If the file holds something else.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except ValidationError as error:
            raise ConfigError(f"{path} is not the result of a benchmark: {error}") from error
