"""Conversations between people in the browser and agents, many at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sotopia_gym.agents.base import Agent, derive_seed
from sotopia_gym.agents.human import HumanAgent
from sotopia_gym.envs.dialogue import Action
from sotopia_gym.envs.session import Observation, Session
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.judges import Judge
from sotopia_gym.judges.rejudge import judged
from sotopia_gym.rollout.record import by_whom
from sotopia_gym.tasks.sampling import UniformSampler
from sotopia_gym.tasks.schema import Suite
from sotopia_gym.web.games import Game, GameStore

_log = logging.getLogger(__name__)

_PATIENCE: Final = 30.0
"""Seconds that the disk may take to keep a turn."""

_OPEN: Final = 200
"""Conversations kept in memory; beyond them, those that wait for their person longest are put
away, and taken up again when the person comes back."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What people play.

    Attributes:
        suite: The tasks.
        role: The person's role.
        partner: Who plays the others; forked for every conversation.
        judge: Who scores; None for nobody.
        task: The id of the one task that is played; None for a random one each time.
        max_turns: Turns a conversation lasts at most.
        seed: Seed of everything random.
        limit: Most conversations that are begun; None for no limit.
    """

    suite: Suite
    role: str
    partner: Agent
    judge: Judge | None = None
    task: str | None = None
    max_turns: int = 20
    seed: int = 0
    limit: int | None = None


class Table:
    """One conversation that is being played.

    Args:
        game: What of it is on disk.
        setting: What is played.
        store: Where its turns are kept.
    """

    def __init__(self, game: Game, setting: Setting, store: GameStore) -> None:
        self._game, self._setting, self._store = game, setting, store
        self.role = game.role
        self._session = Session(
            game.task,
            seed=game.seed,
            rng=np.random.default_rng(game.seed),
            max_turns=setting.max_turns,
        )
        # The person's agent is for the record only: what it does comes from the browser.
        self._players: dict[str, Agent] = {
            role: HumanAgent() if role == game.role else setting.partner.fork()
            for role in game.task.agents
        }
        for role, player in self._players.items():
            player.reset(seed=derive_seed(game.seed, role))
        for actions in game.turns:
            self._session.advance(actions)
        self._kept = len(game.turns)
        self._begun = time.monotonic()
        self._asked: asyncio.Future[Action] | None = None
        self._changed = asyncio.Condition()
        self.episode: Episode | None = None

    @property
    def names(self) -> dict[str, str]:
        """Agent to name of its character."""
        return self._session.task.names

    @property
    def over(self) -> bool:
        """Whether nothing more can be said; it may not have been judged yet."""
        return self._session.dialogue.ending is not None or self.episode is not None

    @property
    def waits(self) -> bool:
        """Whether it is the person's turn."""
        return self._asked is not None and not self._asked.done()

    def observe(self) -> Observation:
        """What the person perceives."""
        return self._session.observe(self.role)

    async def act(self, turn: int, action: Action) -> bool:
        """Do something, as the person; it is on disk when this returns.

        Args:
            turn: How many turns the person had seen; an action for another turn changes nothing.
            action: What to do.

        Returns:
            Whether it was done.
        """
        if self._asked is None or self._asked.done() or turn != self._session.dialogue.turn:
            return False
        self._asked.set_result(action)
        return await self._until(lambda: self._kept > turn, _PATIENCE)

    async def settled(self, seconds: float) -> bool:
        """Wait at most ``seconds`` until the person may act, or until the end."""
        return await self._until(lambda: self.waits, seconds)

    async def moved(self, turn: int, seconds: float) -> bool:
        """Wait at most ``seconds`` until there is more to see than after ``turn`` turns.

        Returns:
            Whether there is.
        """
        return await self._until(lambda: self._kept > turn or self.waits, seconds)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for something, or for the end."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.episode is not None or condition())
        except TimeoutError:
            return False
        return True

    async def play(self) -> Episode:
        """Play it to its end, and judge it."""
        dialogue = self._session.dialogue
        fields: dict[str, Any] = {}
        try:
            while dialogue.ending is None:
                actions = {role: await self._action(role) for role in dialogue.acting}
                self._session.advance(actions)
                await asyncio.to_thread(self._store.turn, self._game.game, dialogue.turn, actions)
                self._kept = dialogue.turn
                await self._tell()
        except Exception as error:  # a partner that fails must not cost others their games
            _log.exception("game %d broke off", self._game.game)
            fields = {"ending": "failed", "error": f"{type(error).__name__}: {error}"}
        episode = self._record(fields)
        if episode.complete and self._setting.judge is not None:
            episode = await _judged(episode, self._setting.judge)
        await asyncio.to_thread(self._store.finish, self._game.game, episode)
        self.episode = episode
        await self._tell()
        return episode

    async def _action(self, role: str) -> Action:
        if role != self.role:
            return await self._players[role].aact(self._session.observe(role))
        self._asked = asyncio.get_running_loop().create_future()
        await self._tell()
        return await self._asked

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _record(self, fields: Mapping[str, Any]) -> Episode:
        extra: dict[str, Any] = {"person": f"p{self._game.player[:10]}"}
        if self._game.turns:
            # The partner began anew then: its cost and its random numbers from before are lost.
            extra["resumed"] = True
        return self._session.episode(
            seconds=time.monotonic() - self._begun,
            extra=extra,
            **by_whom(self._players),
            **fields,
        )


class Lobby:
    """Where people begin conversations, and find theirs again.

    Every turn is on disk before it is shown. What was going on when the process ended is taken up
    again by :meth:`open`, from the turns that were played.

    Args:
        setting: What is played.
        store: Where conversations in progress are kept.
        journal: Where episodes go when they are over.
    """

    def __init__(self, setting: Setting, store: GameStore, journal: Journal) -> None:
        self.setting = setting
        self._store, self._journal = store, journal
        self._sampler = UniformSampler(setting.suite)
        self._tables: dict[str, Table] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # What is on disk and what is in memory of a player must not change between two looks.
        self._seating, self._writing = asyncio.Lock(), asyncio.Lock()

    async def open(self) -> None:
        """Take up what was left off."""
        await self._write()
        for game in await asyncio.to_thread(self._store.unfinished):
            self._seat(game)

    async def close(self) -> None:
        """Stop; nothing is lost."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._write()

    async def full(self) -> bool:
        """Whether no more conversations are begun."""
        limit = self.setting.limit
        return limit is not None and await asyncio.to_thread(self._store.count) >= limit

    async def begin(self, player: str) -> None:
        """Begin a conversation, unless the player is in the midst of one or there are enough."""
        async with self._seating:
            latest = await asyncio.to_thread(self._store.latest, player)
            if (latest is not None and latest.episode is None) or await self.full():
                return
            number = await asyncio.to_thread(self._store.count)
            seed = derive_seed(self.setting.seed, f"game/{number}") % 2**53
            if self.setting.task is None:
                task = self._sampler.draw(np.random.default_rng(seed))
            else:
                task = self.setting.suite[self.setting.task]
            begin, role = self._store.begin, self.setting.role
            self._seat(await asyncio.to_thread(begin, player, task, role, seed))

    async def table(self, player: str) -> Table | Episode | None:
        """The player's latest conversation: one in progress, the episode it became, or none."""
        if player in self._tables:
            return self._tables[player]
        async with self._seating:
            game = await asyncio.to_thread(self._store.latest, player)
            if game is None or game.episode is not None:
                return None if game is None else game.episode
            return self._tables.get(player) or self._seat(game)

    def _seat(self, game: Game) -> Table:
        waiting = (player for player, table in self._tables.items() if table.waits)
        if len(self._tables) >= _OPEN and (player := next(waiting, None)) is not None:
            del self._tables[player]
            self._tasks.pop(player).cancel()
        table = Table(game, self.setting, self._store)
        self._tables[game.player] = table
        self._tasks[game.player] = asyncio.create_task(self._play(game.player, table))
        return table

    async def _play(self, player: str, table: Table) -> None:
        try:
            await table.play()
        except Exception:  # such as a full disk; what was kept is taken up when asked for
            _log.exception("a conversation was put away")
        async with self._seating:
            if self._tables.get(player) is table:
                del self._tables[player], self._tasks[player]
        await self._write()

    async def _write(self) -> None:
        """Bring what is over into the journal; what cannot be written now is written later."""
        async with self._writing:
            for number, episode in await asyncio.to_thread(self._store.unwritten):
                try:
                    await asyncio.to_thread(self._journal.append, episode)
                except (OSError, ValueError):
                    _log.exception("an episode could not be written to %s", self._journal.path)
                    return
                await asyncio.to_thread(self._store.written, number)


async def _judged(episode: Episode, judge: Judge) -> Episode:
    """``episode`` with a judgement, unscored with its cause if the judge fails."""
    try:
        return await judged(episode, judge)
    except Exception as error:
        _log.exception("the judge failed in task %s", episode.task.task_id)
        broken = Judgement(judge=judge.name, error=f"{type(error).__name__}: {error}")
        return episode.with_judgement(broken)
