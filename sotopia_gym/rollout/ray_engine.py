"""Playing a rollout's episodes in other processes and on other machines, by Ray."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sotopia_gym.agents import from_spec
from sotopia_gym.agents.base import Agent
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import ConfigError, WorkerError, missing_extra
from sotopia_gym.judges import Judge
from sotopia_gym.judges import from_spec as judge_from_spec
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.rollout.jobs import Job, Rules
from sotopia_gym.version import __version__

if TYPE_CHECKING:
    from sotopia_gym.rollout.engine import Rollout

_log = logging.getLogger(__name__)

_POLL: Final = 0.25
"""Seconds after which a stopped rollout tells its workers so, at the latest."""

_PATIENCE: Final = 30.0
"""Seconds after which a worker that has not started is worth a warning."""

_MOST_LOST: Final = 20
"""Workers lost in a row, with no episode finished in between, after which it is no accident.

More than the halvings that it takes to find one bad episode in a chunk of some thousand.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """How a rollout uses Ray: ``Rollout(..., engine=RayEngine(workers=8))``.

    Each worker is a Ray actor with one CPU that plays chunks of episodes with the local engine.
    Every episode is sent back, and written to the journal by the rollout's own process, as soon
    as it is finished: workers need no file system in common.

    A worker that is lost loses what it had in flight. That is played again by a new worker, in
    two halves, so that an episode that itself ends its worker is found; it is kept as failed.

    Attributes:
        address: The cluster, as for ``ray.init``. None takes the one that this process is
            connected to already, or that ``RAY_ADDRESS`` names, or else starts Ray on this
            machine and ends it with the rollout.
        workers: How many actors.
        chunk: Most episodes that a worker is given at a time.
        retries: How often an episode is tried again that loses its worker all by itself.
    """

    address: str | None = None
    workers: int = 2
    chunk: int = 32
    retries: int = 2

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("chunk", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to know to play jobs; caps hold for one worker.

    Attributes:
        cast: Specs of the players, or the players.
        judge: The judge or its spec.
        options: How language models that are named by specs are called.
        rules: The rules.
        concurrency: Most episodes in flight.
        prompts: Name of each player to its prompt, as it must be at the worker's too.
        version: Version of this library.
    """

    cast: tuple[str | Agent, ...]
    judge: str | Judge | None
    options: ClientOptions
    rules: Rules
    concurrency: int
    prompts: dict[str, str]
    version: str = __version__

    def shared(self, workers: int) -> Recipe:
        """The same with all caps divided among so many workers."""
        cost = self.options.max_cost
        return replace(
            self,
            concurrency=math.ceil(self.concurrency / workers),
            options=replace(
                self.options,
                max_concurrency=max(1, self.options.max_concurrency // workers),
                max_cost=None if cost is None else cost / workers,
            ),
        )

    def packed(self) -> bytes:
        """As bytes.

        Raises:
            ConfigError: If something cannot be pickled; the message names it.
            MissingDependencyError: If Ray is not installed.
        """
        cloudpickle = _ray().cloudpickle
        for part in (*self.cast, self.judge):
            try:
                cloudpickle.dumps(part)
            except Exception as error:  # pickling runs the object's own code
                raise ConfigError(
                    f"{part!r} cannot be sent to other processes ({type(error).__name__}: {error})."
                    " Name it by a spec, or make it picklable."
                ) from error
        packed: bytes = cloudpickle.dumps(self)
        return packed


class Workers:
    """A rollout's workers, as its own process sees them.

    Args:
        engine: How to use Ray.
        recipe: The packed recipe.
        jobs: What is to be played.
        over: Says why nothing more is to be started; None while more is.
        stop: Is told by workers why nothing more is to be started.
        take: Takes a finished episode.
        fail: Makes the record of a job that cannot be played.
    """

    def __init__(
        self,
        engine: RayEngine,
        recipe: bytes,
        jobs: Sequence[Job],
        *,
        over: Callable[[], str | None],
        stop: Callable[[str], object],
        take: Callable[[Episode], Awaitable[object]],
        fail: Callable[[Job, str], Episode],
    ) -> None:
        self._engine, self._recipe = engine, recipe
        self._waiting = deque(jobs)
        self._again: deque[_Chunk] = deque()
        self._over, self._stop, self._take, self._fail = over, stop, take, fail
        self._lost_in_a_row = 0

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What keeps each worker busy until nothing waits."""
        needed = min(self._engine.workers, len(self._waiting))
        return [self._keep_busy() for _ in range(needed)]

    async def _keep_busy(self) -> None:
        """Hire a worker, give it one chunk after the other, and replace it when it is lost."""
        errors = _ray().exceptions
        worker = None
        try:
            while self._has_more():
                chunk = _Chunk({})
                try:
                    if worker is None:
                        worker = _remote_worker().remote()
                        await self._set_up(worker)
                        if not self._has_more():
                            return
                    chunk = self._next_chunk()
                    await self._play(worker, chunk)
                except errors.RayTaskError as error:
                    # Not the worker's end but an error in it, as it would be raised here.
                    raise error.cause from error
                except errors.RayError as error:
                    _dismiss(worker)
                    worker = None
                    await self._lost(chunk, error)
        finally:
            _dismiss(worker)

    def _has_more(self) -> bool:
        return bool(self._again or self._waiting) and self._over() is None

    def _next_chunk(self) -> _Chunk:
        """A chunk, smaller towards the end, so that the workers end together."""
        if self._again:
            return self._again.popleft()
        fair = math.ceil(len(self._waiting) / (2 * self._engine.workers))
        size = min(self._engine.chunk, fair)
        jobs = [self._waiting.popleft() for _ in range(size)]
        return _Chunk({job.key: job for job in jobs})

    async def _set_up(self, worker: Any) -> None:
        """Wait until a worker is there, or is not needed any more."""
        ready = asyncio.wrap_future(worker.set_up.remote(self._recipe).future())
        waited = 0.0
        try:
            while not ready.done() and self._has_more():
                await asyncio.wait({ready}, timeout=_POLL)
                if waited < _PATIENCE <= (waited := waited + _POLL):
                    _log.warning(
                        "a worker has not started for %g s: has the cluster a free CPU?", _PATIENCE
                    )
            if ready.done():
                ready.result()
        finally:
            ready.cancel()

    async def _play(self, worker: Any, chunk: _Chunk) -> None:
        stream = worker.play.options(num_returns="streaming").remote(list(chunk.jobs.values()))
        told = False
        while True:
            arrived = asyncio.ensure_future(_next(stream))
            try:
                while not arrived.done():
                    await asyncio.wait({arrived}, timeout=_POLL)
                    if not told and (reason := self._over()) is not None:
                        worker.stop.remote(reason)
                        told = True
            finally:
                arrived.cancel()
            item = arrived.result()
            if item is None:
                return
            if isinstance(item, str):
                self._stop(item)
                continue
            episode = Episode.model_validate_json(item)
            del chunk.jobs[episode.key]
            self._lost_in_a_row = 0
            await self._take(episode)

    async def _lost(self, chunk: _Chunk, error: Exception) -> None:
        """Have what a lost worker did not finish played again, in halves."""
        reason = str(error).strip().partition("\n")[0]
        left = list(chunk.jobs.values())
        _log.warning("a worker was lost with %d episodes unfinished: %s", len(left), reason)
        self._lost_in_a_row += 1
        if self._lost_in_a_row > _MOST_LOST:
            raise WorkerError(
                f"{self._lost_in_a_row} workers were lost one after the other, and no episode was "
                f"finished meanwhile; the last: {error}"
            ) from error
        if len(left) > 1:
            half = len(left) // 2
            for part in (left[half:], left[:half]):
                self._again.appendleft(_Chunk({job.key: job for job in part}))
        elif left and chunk.losses < self._engine.retries:
            self._again.appendleft(_Chunk(chunk.jobs, chunk.losses + 1))
        elif left:
            what = f"its worker was lost {chunk.losses + 1} times: {reason}"
            await self._take(self._fail(left[0], what))


@dataclass
class _Chunk:
    """Jobs that a worker is given together.

    Attributes:
        jobs: Those that are not finished, by their keys.
        losses: How often a worker was lost that had only this to play.
    """

    jobs: dict[str, Job]
    losses: int = 0


class _Worker:
    """Plays jobs, in a process of Ray's."""

    def __init__(self) -> None:
        self._run: Rollout | None = None
        self._stopped: str | None = None

    def set_up(self, packed: bytes) -> None:
        """Make the players and the judge, once for all chunks.

        Raises:
            ConfigError: If they are not those of the rollout.
        """
        recipe: Recipe = pickle.loads(packed)
        if recipe.version != __version__:
            raise ConfigError(
                f"a worker has version {__version__} of sotopia-gym, the rollout has "
                f"{recipe.version}; install the same everywhere."
            )
        made: dict[str, Agent] = {}
        for spec in recipe.cast:
            if isinstance(spec, str) and spec not in made:
                made[spec] = from_spec(spec, recipe.options)
        self._players = [spec if isinstance(spec, Agent) else made[spec] for spec in recipe.cast]
        prompts = {player.name: player.prompt() for player in self._players}
        if prompts != recipe.prompts:
            raise ConfigError(
                f"a worker's players are {prompts}, the rollout's are {recipe.prompts}; the "
                "environment variables that name servers must be the same everywhere."
            )
        self._judge = judge_from_spec(recipe.judge, recipe.options)
        self._recipe = recipe

    def play(self, jobs: Sequence[Job]) -> Iterator[bytes | str]:
        """Yield each episode as JSON when it is finished, and why no more are started, if so."""
        from sotopia_gym.rollout.engine import Rollout

        self._run = run = Rollout(
            {job.task.task_id: job.task for job in jobs}.values(),
            self._players[0],
            self._players[1:],
            judge=self._judge,
            rules=self._recipe.rules,
            concurrency=self._recipe.concurrency,
        )
        run.jobs = list(jobs)
        if self._stopped is not None:
            run.stop(self._stopped)
        for episode in run:
            yield episode.model_dump_json(exclude_defaults=True).encode()
        if run.progress.stopped_by is not None:
            yield run.progress.stopped_by

    def stop(self, reason: str) -> None:
        """Start no more episodes."""
        self._stopped = reason
        if self._run is not None:
            self._run.stop(reason)


@asynccontextmanager
async def connected(engine: RayEngine) -> AsyncIterator[None]:
    """Be connected to a cluster meanwhile.

    Raises:
        ConfigError: If there is no cluster where there should be one.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    address = engine.address or os.environ.get("RAY_ADDRESS")
    settings: dict[str, Any] = {"address": address}
    if not address:
        settings = {"address": "local", "num_cpus": engine.workers, "include_dashboard": False}
    try:
        await asyncio.to_thread(ray.init, **settings)
    except ConnectionError as error:
        raise ConfigError(
            f"expected a Ray cluster at {address!r}, found none. Start one with `ray start "
            "--head`, or give no address to have a Ray of the rollout's own."
        ) from error
    try:
        yield
    finally:
        await asyncio.to_thread(ray.shutdown)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray", "engine='ray'") from error
    return ray


def _remote_worker() -> Any:
    # The second thread is for stop().
    return _ray().remote(_Worker).options(num_cpus=1, max_concurrency=2)


async def _next(stream: Any) -> bytes | str | None:
    """The next item of a stream; None at its end."""
    try:
        item: bytes | str = await (await anext(stream))
    except StopAsyncIteration:
        return None
    return item


def _dismiss(worker: Any) -> None:
    if worker is not None:
        # One that is dead already, or gone with its cluster, is as good.
        with suppress(_ray().exceptions.RayError, ValueError):
            _ray().kill(worker)
