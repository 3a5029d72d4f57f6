"""Playing a suite and summing up what came of it."""

from __future__ import annotations

import platform
import shlex
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sotopia_gym.agents.base import Agent
from sotopia_gym.benchmark.measures import Tally
from sotopia_gym.benchmark.published import published
from sotopia_gym.benchmark.result import Config, Counts, Group, Result, Spent
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Episode, Usage
from sotopia_gym.episodes.store import latest
from sotopia_gym.episodes.summary import OPEN_ENDED, count_cause
from sotopia_gym.errors import ConfigError
from sotopia_gym.judges import Judge
from sotopia_gym.judges.rejudge import scored_by
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.rollout.engine import Progress, Rollout
from sotopia_gym.rollout.jobs import Roles, Rules
from sotopia_gym.rollout.ray_engine import RayEngine
from sotopia_gym.tasks.schema import Suite
from sotopia_gym.tasks.suites import load_suite
from sotopia_gym.version import __version__


def benchmark(
    suite: str | Suite,
    agent: str | Agent,
    partners: str | Agent | Sequence[str | Agent] = (),
    *,
    judge: str | Judge = "auto",
    split: str | None = None,
    roles: Roles = "both",
    repetitions: int = 1,
    every_partner: bool = False,
    seed: int = 0,
    rules: Rules | None = None,
    journal: Journal | Path | str | None = None,
    options: ClientOptions | None = None,
    concurrency: int = 64,
    max_cost: float | None = None,
    max_seconds: float | None = None,
    progress: Callable[[Progress], object] | None = None,
    engine: Literal["local", "ray"] | RayEngine = "local",
) -> Result:
    """Play a suite with an agent and say how good it was.

    The episodes are those of a :class:`~sotopia_gym.rollout.engine.Rollout`. With a journal that a
    run was stopped in, the rest is played, and what ``judge`` has not scored is judged without
    being played again: so a rollout may be played unjudged first. Other episodes in the journal are
    left alone.

    Means are over scored episodes only, with intervals of a bootstrap that resamples whole
    scenarios: episodes of one scenario depend on each other.

    Args:
        suite: The suite, or the name of one.
        agent: The agent that this is about, or the spec of one.
        partners: Who plays the other roles; without any, ``agent`` plays all of them. Of several,
            one is drawn for each role.
        judge: Who scores; see :func:`sotopia_gym.judges.from_spec`.
        split: Play only this split of the suite.
        roles: Which roles ``agent`` plays, each in an episode of its own.
        repetitions: How often each is played.
        every_partner: Whether ``agent`` meets every partner instead of those drawn.
        seed: Root seed: everything random derives from it.
        rules: The rules of the conversation.
        journal: Where episodes are kept; without one nothing is.
        options: How language models that are named by specs are called.
        concurrency: Most episodes in flight.
        max_cost: US dollars after which no more is played or judged.
        max_seconds: Time after which no more is played or judged.
        progress: Called after every episode.
        engine: Where they are played, as for a rollout.

    Raises:
        ConfigError: If an argument makes no sense.
        MissingDependencyError: If Ray is needed but not installed.
        JudgeError: If the judge can never score a task.
        KeyboardInterrupt: If it was interrupted; called again with the same journal it goes on.
    """
    with ExitStack() as stack:
        if journal is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            journal = Path(folder) / "episodes.jsonl"
        kept = journal if isinstance(journal, Journal) else Journal(journal)
        whole = load_suite(suite) if isinstance(suite, str) else suite
        listed = [partners] if isinstance(partners, str | Agent) else list(partners)
        rollout = Rollout(
            whole,
            agent,
            listed,
            judge=judge,
            roles=roles,
            every_partner=every_partner,
            repetitions=repetitions,
            seed=seed,
            rules=rules,
            split=split,
            concurrency=concurrency,
            journal=kept,
            max_seconds=max_seconds,
            max_cost=max_cost,
            options=options,
            progress=progress,
            engine=engine,
        )
        deciding = rollout.judge
        if deciding is None:
            raise ConfigError(
                "a benchmark needs a judge; to play unjudged use Rollout, and give its journal to "
                "a benchmark later."
            )
        for _ in rollout:
            pass
        total = _Total(deciding)
        for episode in latest(kept, {job.key for job in rollout.jobs}):
            total.add(episode)
        named = isinstance(suite, str) and not any(
            isinstance(each, Agent | Judge) for each in (agent, judge, *listed)
        )
        settings = Config(
            command="",
            suite=whole.name,
            suite_version=whole.version,
            suite_sha256=whole.sha256,
            split=split,
            tasks=len(rollout.tasks),
            scenarios=len({task.scenario.scenario_id for task in rollout.tasks}),
            agent=_name(agent),
            partners=tuple(map(_name, listed)),
            judge=deciding.name,
            judge_prompt=deciding.prompt,
            roles=roles,
            every_partner=every_partner,
            repetitions=repetitions,
            seed=seed,
            rules=rollout.rules,
            prompts=_sorted(total.prompts),
            models=_sorted(total.models),
            judge_models=tuple(sorted(total.judge_models)),
            max_cost=max_cost,
            max_seconds=max_seconds,
            library_version=__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if named:
            # What "auto" means depends on the machine; a judge's name may be no spec of it.
            asked = deciding.name if judge == "auto" else str(judge)
            command = _command(str(suite), asked, settings)
            settings = settings.model_copy(update={"command": command})
        return total.result(settings, len(rollout.jobs), rollout.progress.stopped_by)


class _Total:
    """All that is counted and averaged in one pass over the episodes."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._unscored: Counter[str] = Counter()
        self._overall = Tally()
        self._families: defaultdict[str, Tally] = defaultdict(Tally)
        self._sources: defaultdict[str, Tally] = defaultdict(Tally)
        self._roles: defaultdict[str, Tally] = defaultdict(Tally)
        self._partners: defaultdict[str, Tally] = defaultdict(Tally)
        self._agent_usage, self._partner_usage, self._judging = Usage(), Usage(), Usage()
        self.prompts: defaultdict[str, set[str]] = defaultdict(set)
        self.models: defaultdict[str, set[str]] = defaultdict(set)
        self.judge_models: set[str] = set()

    def add(self, episode: Episode) -> None:
        """Take in one episode."""
        self._counts["begun"] += 1
        self._add_players(episode)
        for given in episode.judgements:
            if given.judge == self._judge.name:
                self._judging += given.usage
                self.judge_models.update(given.models)
        if not episode.complete:
            self._counts[episode.ending] += 1
            if episode.ending == "failed":
                count_cause(self._failures, episode.error)
            return
        judgement = scored_by(episode, self._judge.name, self._judge.prompt)
        if judgement is None:
            self._counts["unscored"] += 1
            count_cause(self._unscored, self._why_unscored(episode))
            return
        self._counts["scored"] += 1
        scenario, own = episode.task.scenario, episode.seats
        family = OPEN_ENDED if scenario.outcome is None else scenario.outcome.family
        self._overall.add(episode, judgement, own)
        self._families[family].add(episode, judgement, own)
        self._sources[scenario.source or "unknown"].add(episode, judgement, own)
        self._partners[episode.partners_of(episode.focal)].add(episode, judgement, own)
        for role in own:
            self._roles[role].add(episode, judgement, [role])

    def _add_players(self, episode: Episode) -> None:
        own = episode.seats
        for role, used in episode.usage.items():
            if role in own:
                self._agent_usage += used
            else:
                self._partner_usage += used
        for role, name in episode.agents.items():
            if role in episode.prompts:
                self.prompts[name].add(episode.prompts[role])
            if role in episode.models:
                self.models[name].update(episode.models[role])

    def _why_unscored(self, episode: Episode) -> str:
        given = [j for j in episode.judgements if j.judge == self._judge.name]
        if not given:
            return "not judged"
        return given[-1].error or "no score for the agent that this is about"

    def result(self, config: Config, planned: int, stopped_by: str | None) -> Result:
        """All of it."""
        counts = Counts(
            planned=planned,
            complete=self._counts["scored"] + self._counts["unscored"],
            scored=self._counts["scored"],
            unscored=self._counts["unscored"],
            failed=self._counts["failed"],
            interrupted=self._counts["interrupted"],
            left_out=planned - self._counts["begun"],
            failures=dict(self._failures.most_common()),
            unscored_because=dict(self._unscored.most_common()),
            stopped_by=stopped_by,
        )
        return Result(
            config=config,
            counts=counts,
            overall=self._overall.group(),
            by_family=_groups(self._families),
            by_source=_groups(self._sources),
            by_role=_groups(self._roles),
            by_partner=_groups(self._partners),
            spent=self._spent(),
            published=published(config, counts),
        )

    def _spent(self) -> Spent:
        total = self._agent_usage + self._partner_usage + self._judging
        begun = self._counts["begun"]
        tokens = total.prompt_tokens + total.completion_tokens
        return Spent(
            agent=self._agent_usage,
            partners=self._partner_usage,
            judge=self._judging,
            total=total,
            cost_per_episode=None if total.cost is None or not begun else total.cost / begun,
            tokens_per_episode=tokens / begun if begun else None,
        )


def _groups(tallies: Mapping[str, Tally]) -> dict[str, Group]:
    return {name: tallies[name].group() for name in sorted(tallies)}


def _sorted(found: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def _name(player: str | Agent) -> str:
    return player.name if isinstance(player, Agent) else player


def _command(suite: str, judge: str, config: Config) -> str:
    """The command line of a run of which everything has a spec."""
    words = ["sotopia-gym", "benchmark", "--suite", suite, "--agent", config.agent]
    for partner in config.partners:
        words += ["--partner", partner]
    rules = config.rules
    settings: dict[str, object] = {
        "--judge": judge,
        "--split": config.split,
        "--roles": config.roles,
        "--repetitions": config.repetitions,
        "--seed": config.seed,
        "--turn-order": rules.turn_order,
        "--max-turns": rules.max_turns,
        "--max-silent-turns": rules.max_silent_turns,
        "--max-cost": config.max_cost,
        "--max-seconds": config.max_seconds,
    }
    for option, value in settings.items():
        if value is not None:
            words += [option, str(value)]
    return shlex.join([*words, *(["--every-partner"] if config.every_partner else [])])
