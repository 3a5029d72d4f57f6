"""Playing many episodes at once."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

import numpy as np

from sotopia_gym import agents as agent_specs
from sotopia_gym import judges
from sotopia_gym.agents.base import Agent
from sotopia_gym.envs.dialogue import Action, check_rules
from sotopia_gym.envs.session import Session
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Episode, Judgement, Usage
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import BudgetExceededError, ConfigError, ModelError
from sotopia_gym.judges import Judge
from sotopia_gym.judges.rejudge import judged, scored_by
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.llm.endpoint import network
from sotopia_gym.rollout.jobs import Job, Roles, Rules, plan
from sotopia_gym.rollout.ray_engine import RayEngine, Recipe, Workers, connected
from sotopia_gym.rollout.record import by_whom
from sotopia_gym.tasks.schema import Suite, Task
from sotopia_gym.tasks.suites import load_suite

_log = logging.getLogger(__name__)

FSYNC_SECONDS: Final = 1.0
"""How often a rollout's journal is synced to the disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout has come.

    Attributes:
        total: Episodes that it consists of.
        resumed: How many of them were complete in the journal when it started.
        judged: How many of those, which had no score by the judge, were judged since.
        played: How many were played since, to their end or not.
        failed: How many of those a player broke off.
        unscored: How many of those that were judged or played the judge could not score.
        interrupted: How many were in flight when the rollout was stopped at once.
        usage: What playing and judging them cost.
        seconds: Time since the start.
        stopped_by: Why no more episodes are started; None while they are.
    """

    total: int = 0
    resumed: int = 0
    judged: int = 0
    played: int = 0
    failed: int = 0
    unscored: int = 0
    interrupted: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    stopped_by: str | None = None

    @property
    def rate(self) -> float:
        """Episodes played a minute."""
        return 60 * self.played / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        parts = [
            f"{self.resumed + self.played} of {self.total} episodes",
            *([f"{self.judged} only judged"] if self.judged else []),
            f"{self.rate:.0f} a minute",
            f"{self.usage.prompt_tokens + self.usage.completion_tokens:,} tokens",
            "cost unknown" if self.usage.cost is None else f"${self.usage.cost:.2f}",
            f"{self.unscored} unscored",
            f"{self.failed} failed",
        ]
        return ", ".join(parts)


class Rollout:
    """Many episodes, played at the same time and given out as they finish.

    Iterate over it, with ``for`` or ``async for``, once. With a journal, episodes that are complete
    in it already come first and are not played again; each new one is in it before it is given out.
    What an episode holds does not depend on how many are played at once or in what order, as long
    as the players are deterministic.

    Of the complete ones those without a score by the judge, because it failed, another judged them
    or nobody did, are judged before anything is played, and come when they are. The journal then
    holds one more record of each, the last of which counts
    (:func:`~sotopia_gym.episodes.store.latest`).

    A player that fails costs its own episode only: it is kept with ``ending="failed"`` and the
    ``error``, and is played again when the rollout is resumed. The first Ctrl-C (or SIGTERM) lets
    the episodes in flight finish, the second ends them as ``"interrupted"``; both raise at the
    end. Where a budget is spent, what is in flight finishes and nothing more is started. An episode
    that was played, and then not judged because of either, is kept without being given out, to be
    judged when the rollout is resumed.

    Args:
        tasks: A suite, the name of one, or any tasks.
        agent: The agent that this is about, or the spec of one; it is forked for every episode.
        partners: Who plays the other roles; without any, ``agent`` plays all of them. Of several,
            one is drawn for each role.
        judge: Who scores; see :func:`sotopia_gym.judges.from_spec`.
        roles: Which roles ``agent`` plays, each in an episode of its own.
        every_partner: Whether ``agent`` meets every partner instead of those drawn.
        repetitions: How often each is played.
        grouped: Whether repetitions are a group; see :func:`~sotopia_gym.rollout.jobs.plan`.
        seed: Root seed: everything random derives from it.
        rules: The rules of the conversation.
        split: Play only this split of the suite.
        concurrency: Most episodes in flight. How many requests are in flight at an endpoint is
            bounded by ``options``.
        journal: Where episodes are kept; without one nothing is.
        max_seconds: Time after which no more episodes are started.
        max_cost: US dollars after which no more episodes are started. What has no known price
            is not counted, with a warning.
        options: How language models that are named by specs are called.
        progress: Called after every episode.
        engine: ``"local"`` plays in this process; ``"ray"``, or a
            :class:`~sotopia_gym.rollout.ray_engine.RayEngine` with its settings, in others. With
            Ray all caps are divided among the workers, and what is in flight when the rollout is
            interrupted, or cannot be judged for want of money, is not kept.

    Attributes:
        jobs: The episodes that it consists of.

    Raises:
        ConfigError: If an argument makes no sense.
        MissingDependencyError: If Ray is needed but not installed.
        JudgeError: If the judge can never score a task.
    """

    def __init__(
        self,
        tasks: str | Suite | Iterable[Task],
        agent: str | Agent,
        partners: str | Agent | Sequence[str | Agent] = (),
        *,
        judge: str | Judge | None = "auto",
        roles: Roles = "both",
        every_partner: bool = False,
        repetitions: int = 1,
        grouped: bool = False,
        seed: int = 0,
        rules: Rules | None = None,
        split: str | None = None,
        concurrency: int = 64,
        journal: Journal | Path | str | None = None,
        max_seconds: float | None = None,
        max_cost: float | None = None,
        options: ClientOptions | None = None,
        progress: Callable[[Progress], object] | None = None,
        engine: Literal["local", "ray"] | RayEngine = "local",
    ) -> None:
        self.rules = rules or Rules()
        check_rules(self.rules.turn_order, self.rules.max_turns, self.rules.max_silent_turns)
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, got {concurrency}.")
        self.tasks = _tasks(tasks, split)
        self.journal = (
            Journal(journal, fsync=FSYNC_SECONDS) if isinstance(journal, Path | str) else journal
        )
        self._own_judge = not isinstance(judge, Judge)
        self.judge = judges.from_spec(judge, options)
        if self.judge is not None:
            self.judge.check(Suite(name="rollout", tasks=self.tasks))
        listed = [partners] if isinstance(partners, str | Agent) else list(partners)
        self._own: list[Agent] = []
        self._players: dict[str, Agent] = {}
        self._named: dict[str, str] = {}
        names = [self._enlist(spec, options) for spec in (agent, *listed)]
        self.jobs = list(
            plan(
                self.tasks,
                names[0],
                names[1:],
                roles=roles,
                every_partner=every_partner,
                repetitions=repetitions,
                grouped=grouped,
                seed=seed,
                rules=self.rules,
                prompts={name: player.prompt() for name, player in self._players.items()},
            )
        )
        self._concurrency = concurrency
        self._max_seconds, self._max_cost = max_seconds, max_cost
        self._spent, self._warned = 0.0, False
        self._tell = progress
        self._ray: tuple[RayEngine, bytes] | None = None
        if engine != "local":
            ray = _ray_engine(engine)
            recipe = Recipe(
                cast=(agent, *listed),
                # What "auto" means must not depend on a worker's environment.
                judge=self.judge.name if self.judge and judge == "auto" else judge,
                options=options or ClientOptions(),
                rules=self.rules,
                concurrency=concurrency,
                prompts={name: player.prompt() for name, player in self._players.items()},
            )
            self._ray = ray, recipe.shared(ray.workers).packed()
        self._progress = Progress(total=len(self.jobs))
        self._started: float | None = None
        self._signals = 0
        self._workers: list[asyncio.Task[None]] = []
        self._write: Callable[[Episode], None] = _keep_nothing
        self._finished: asyncio.Queue[Episode | None]
        self._room: asyncio.Semaphore

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        seconds = 0.0 if self._started is None else time.monotonic() - self._started
        return replace(self._progress, seconds=seconds)

    def stop(self, reason: str = "stop()") -> None:
        """Start no more episodes; those in flight finish. May be called from anywhere."""
        if self._progress.stopped_by is None:
            self._progress = replace(self._progress, stopped_by=reason)

    def interrupt(self) -> None:
        """End the episodes in flight at once; to be called on the loop that plays them."""
        self.stop("interrupt()")
        for worker in self._workers:
            worker.cancel()

    async def __aiter__(self) -> AsyncGenerator[Episode, None]:
        """The episodes, as they finish.

        Raises:
            ConfigError: If it was iterated over before.
        """
        if self._started is not None:
            raise ConfigError("a rollout can be iterated over once; make another one.")
        self._started = time.monotonic()
        self._progress = replace(self._progress, total=len(self.jobs))
        async with AsyncExitStack() as stack:
            stack.callback(self._close)
            done: set[str] = set()
            unscored: set[str] = set()
            if self.journal is not None:
                self._write = stack.enter_context(self.journal.writing())
                async for episode in self._resumed(self.journal):
                    done.add(episode.key)
                    if self._unscored(episode):
                        unscored.add(episode.key)
                    else:
                        yield episode
            waiting = [job for job in self.jobs if job.key not in done]
            # With Ray they are judged here, before the workers have their shares of the caps.
            jobs = waiting if self._ray is None else []
            todo: Iterator[Job | Episode] = chain(self._again(unscored), jobs)
            here = min(self._concurrency, len(unscored) + len(jobs))
            async with aclosing(self._given([self._work(todo) for _ in range(here)])) as given:
                async for episode in given:
                    yield episode
            if self._ray is None or not waiting or self._over():
                return
            await stack.enter_async_context(connected(self._ray[0]))
            async with aclosing(self._given(self._on_ray(*self._ray, waiting))) as given:
                async for episode in given:
                    yield episode

    def __iter__(self) -> Iterator[Episode]:
        """The episodes, as they finish; they go on being played while the caller is at work."""
        # On the loop of the network's calls no request has to change threads.
        loop = network().loop
        episodes = self.__aiter__()
        with _signals(self._on_signal):
            try:
                while True:
                    episode = loop.submit(_next(episodes)).result()
                    if episode is None:
                        break
                    yield episode
            finally:
                loop.submit(_closed(episodes)).result()
        if self._signals:
            raise KeyboardInterrupt(
                f"stopped: {self.progress}. Start it again with the same journal to go on."
            )

    # --- inside -------------------------------------------------------------------------

    def _enlist(self, spec: str | Agent, options: ClientOptions | None) -> str:
        """Make a player ready to be forked, and say its name."""
        if not isinstance(spec, Agent):
            if spec in self._named:
                return self._named[spec]
            player = agent_specs.from_spec(spec, options)
            self._named[spec] = player.name
            self._own.append(player)
        else:
            player = spec
        known = self._players.setdefault(player.name, player)
        if known is not player:
            raise ConfigError(
                f"two different players are called {player.name!r}; give them names of their own."
            )
        return player.name

    def _close(self) -> None:
        for player in self._own:
            player.close()
        if self.judge is not None and self._own_judge:
            self.judge.close()

    async def _resumed(self, journal: Journal) -> AsyncIterator[Episode]:
        """The complete episodes of this rollout that the journal holds."""
        wanted = {job.key for job in self.jobs}
        for number, episode in enumerate(latest(journal, wanted)):
            if episode.complete:
                self._progress = replace(self._progress, resumed=self._progress.resumed + 1)
                yield episode
            if number % 100 == 99:
                await asyncio.sleep(0)

    def _unscored(self, episode: Episode) -> bool:
        """Whether there is a judge that has not scored it."""
        judge = self.judge
        return judge is not None and scored_by(episode, judge.name, judge.prompt) is None

    def _again(self, keys: Set[str]) -> Iterator[Episode]:
        """The episodes of the journal with these keys, read when they are needed."""
        if keys and self.journal is not None:
            yield from latest(self.journal, keys)

    async def _given(
        self, work: Sequence[Coroutine[Any, Any, None]]
    ) -> AsyncGenerator[Episode, None]:
        """The episodes that come of some work, until all of it is done."""
        self._finished = asyncio.Queue()
        # Who does not take episodes away makes the workers wait, not the memory grow.
        self._room = asyncio.Semaphore(2 * self._concurrency)
        self._workers = [asyncio.create_task(each) for each in work]
        running = len(self._workers)
        for worker in self._workers:
            worker.add_done_callback(self._ended)
        try:
            while running:
                finished = await self._finished.get()
                if finished is None:
                    running -= 1
                    continue
                self._room.release()
                yield finished
        finally:
            await self._wind_up()

    def _on_ray(
        self, engine: RayEngine, recipe: bytes, waiting: Sequence[Job]
    ) -> list[Coroutine[Any, Any, None]]:
        """What has Ray play all that waits."""

        async def take(episode: Episode) -> None:
            await self._room.acquire()
            self._finish(episode)

        return Workers(
            engine,
            recipe,
            waiting,
            over=lambda: self._progress.stopped_by if self._over() else None,
            stop=self.stop,
            take=take,
            fail=self._unplayable,
        ).work()

    async def _work(self, todo: Iterator[Job | Episode]) -> None:
        """Play one job, or judge one episode, after the other, as long as there are any."""
        while True:
            await self._room.acquire()
            what = next(todo, None)
            # Where nothing is left, nothing is stopped.
            if what is None or self._over():
                return
            try:
                if isinstance(what, Job):
                    self._finish(await self._played(what))
                else:
                    self._finish(await self._scored(what), played=False)
            except BudgetExceededError as error:
                # It says nothing about this episode: that has to wait until there is money.
                self.stop(str(error))
                return
            # Players that never wait must not keep the loop to themselves.
            await asyncio.sleep(0)

    def _finish(self, episode: Episode, *, played: bool = True) -> None:
        self._write(episode)
        self._count(episode, played=played)
        self._finished.put_nowait(episode)

    async def _played(self, job: Job) -> Episode:
        session, players = self._begin(job)
        started = time.monotonic()
        try:
            episode = await self._episode(job, session, players)
            if episode.complete:
                episode = await self._scored(episode)
        except BudgetExceededError:
            if session.dialogue.ending is not None:
                unjudged = self._record(job, session, players, started)
                self._write(unjudged)
                self._count(unjudged, played=True)
            raise
        except asyncio.CancelledError:
            # A conversation that is over has only to be judged.
            over = session.dialogue.ending is not None
            fields = {} if over else {"ending": "interrupted"}
            self._write(self._record(job, session, players, started, **fields))
            self._progress = replace(self._progress, interrupted=self._progress.interrupted + 1)
            raise
        return episode.model_copy(update={"seconds": time.monotonic() - started})

    async def _scored(self, episode: Episode) -> Episode:
        return episode if self.judge is None else await _judged(episode, self.judge)

    def _begin(self, job: Job) -> tuple[Session, dict[str, Agent]]:
        return self._session(job), {r: self._players[n].fork() for r, n in job.agents.items()}

    def _session(self, job: Job) -> Session:
        return Session(
            job.task,
            seed=job.seed,
            rng=np.random.default_rng(job.seed),
            turn_order=self.rules.turn_order,
            max_turns=self.rules.max_turns,
            max_silent_turns=self.rules.max_silent_turns,
        )

    async def _episode(self, job: Job, session: Session, players: Mapping[str, Agent]) -> Episode:
        started = time.monotonic()
        try:
            for role, player in players.items():
                player.reset(seed=job.player_seed(role))
            while session.dialogue.ending is None:
                acting = session.dialogue.acting
                if len(acting) == 1:
                    (role,) = acting
                    actions = {role: await players[role].aact(session.observe(role))}
                else:
                    took = await _together(
                        [players[role].aact(session.observe(role)) for role in acting]
                    )
                    actions = dict(zip(acting, took, strict=True))
                session.advance(actions)
        except BudgetExceededError:
            raise
        except Exception as error:  # whatever a player does must not cost other episodes
            if not isinstance(error, ModelError):
                _log.exception("a player failed in task %s", job.task.task_id)
            what = f"{type(error).__name__}: {error}"
            return self._record(job, session, players, started, ending="failed", error=what)
        return self._record(job, session, players, started)

    def _record(
        self,
        job: Job,
        session: Session,
        players: Mapping[str, Agent],
        started: float,
        **fields: str,
    ) -> Episode:
        return session.episode(
            key=job.key,
            focal=job.focal,
            repetition=job.repetition,
            seconds=time.monotonic() - started,
            **by_whom(players),
            **fields,
        )

    def _unplayable(self, job: Job, error: str) -> Episode:
        """The record of a job that nobody could even begin to record."""
        return self._session(job).episode(
            key=job.key,
            focal=job.focal,
            repetition=job.repetition,
            agents=dict(job.agents),
            ending="failed",
            error=error,
        )

    def _over(self) -> bool:
        """Whether no more episodes are to be started."""
        progress = self.progress
        if self._max_seconds is not None and progress.seconds >= self._max_seconds:
            self.stop(f"max_seconds={self._max_seconds:g}")
        if self._max_cost is not None and self._spent >= self._max_cost:
            self.stop(f"max_cost={self._max_cost:g}")
        return self._progress.stopped_by is not None

    def _count(self, episode: Episode, *, played: bool) -> None:
        known = self._progress
        judgement = episode.judgement
        playing = episode.usage.values() if played else ()
        judging = [judgement.usage] if judgement else []
        unscored = episode.complete and judgement is not None and not judgement.scored
        costs = [usage.cost for usage in (*playing, *judging)]
        self._spent += sum(cost or 0.0 for cost in costs)
        if self._max_cost is not None and None in costs and not self._warned:
            self._warned = True
            _log.warning(
                "max_cost=%g counts only what is known: a player or the judge has no known price",
                self._max_cost,
            )
        self._progress = replace(
            known,
            judged=known.judged + (not played),
            played=known.played + played,
            failed=known.failed + (episode.ending == "failed"),
            unscored=known.unscored + unscored,
            usage=sum((*playing, *judging), known.usage),
        )
        if self._tell is not None:
            self._tell(self.progress)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """Tell the reader that a worker is done; one that broke must not keep the others busy."""
        self._finished.put_nowait(None)
        if not worker.cancelled() and worker.exception() is not None:
            self.stop("an error")

    async def _wind_up(self) -> None:
        """End what still runs; what went wrong in it is raised."""
        for worker in self._workers:
            worker.cancel()
        results = await asyncio.gather(*self._workers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self.stop("signal")
            _log.warning(
                "finishing the episodes in flight and starting no more; once more ends them at once"
            )
        else:
            network().loop.submit(_call(self.interrupt))


async def _together(acts: Iterable[Coroutine[Any, Any, Action]]) -> list[Action]:
    """What they all do; if one fails, the others are ended rather than left to themselves."""
    tasks = [asyncio.ensure_future(act) for act in acts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _judged(episode: Episode, judge: Judge) -> Episode:
    """:func:`judged`, where a judge that is broken must not cost other episodes either."""
    try:
        return await judged(episode, judge)
    except BudgetExceededError:
        raise
    except Exception as error:
        _log.exception("the judge failed in task %s", episode.task.task_id)
        broken = Judgement(judge=judge.name, error=f"{type(error).__name__}: {error}")
        return episode.with_judgement(broken)


def _tasks(tasks: str | Suite | Iterable[Task], split: str | None) -> tuple[Task, ...]:
    if isinstance(tasks, str):
        tasks = load_suite(tasks)
    if isinstance(tasks, Suite) and split is not None:
        tasks = tasks.split(split)
    elif split is not None:
        raise ConfigError("split needs a suite; these are plain tasks.")
    found = tuple(tasks)
    if not found:
        raise ConfigError("there are no tasks to play.")
    return found


def _ray_engine(engine: str | RayEngine) -> RayEngine:
    if isinstance(engine, RayEngine):
        return engine
    if engine == "ray":
        return RayEngine()
    raise ConfigError(f"engine must be 'local', 'ray' or a RayEngine, got {engine!r}.")


def _keep_nothing(episode: Episode) -> None:
    """The writer of a rollout without a journal."""


async def _next(episodes: AsyncGenerator[Episode, None]) -> Episode | None:
    return await anext(episodes, None)


async def _closed(episodes: AsyncGenerator[Episode, None]) -> None:
    await episodes.aclose()


async def _call(function: Callable[[], object]) -> None:
    function()


@contextmanager
def _signals(handle: Callable[[], object]) -> Iterator[None]:
    """Call ``handle`` on Ctrl-C and SIGTERM meanwhile, where signals can be handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_number: int, _frame: FrameType | None) -> None:
        handle()

    known = {name: signal.signal(name, handler) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, before in known.items():
            signal.signal(name, before)
