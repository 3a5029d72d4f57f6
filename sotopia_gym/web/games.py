"""Conversations that people play in the browser, on disk turn by turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sotopia_gym.envs.dialogue import Action
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.tasks.schema import Task
from sotopia_gym.web.database import Database

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS games (
  game INTEGER PRIMARY KEY AUTOINCREMENT,
  player TEXT NOT NULL,
  task TEXT NOT NULL,
  role TEXT NOT NULL,
  seed INTEGER NOT NULL,
  episode TEXT,
  written INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS games_of_player ON games (player, game);
CREATE TABLE IF NOT EXISTS turns (
  game INTEGER NOT NULL REFERENCES games,
  turn INTEGER NOT NULL,
  actions TEXT NOT NULL,
  PRIMARY KEY (game, turn)
);
"""


@dataclass(frozen=True, slots=True)
class Game:
    """A conversation, as far as it is on disk.

    Attributes:
        game: Its number.
        player: Who plays it, as a hash.
        task: What is played.
        role: The person's role.
        seed: Seed of everything random in it.
        turns: Agent to action, for each turn that was played.
        episode: The episode, once it is over and was judged.
    """

    game: int
    player: str
    task: Task
    role: str
    seed: int
    turns: tuple[Mapping[str, Action], ...] = ()
    episode: Episode | None = None


class GameStore:
    """The file that keeps conversations in progress.

    Args:
        path: The file; it and its folder are made if need be.

    Raises:
        ConfigError: If the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self.database = Database(path, "store of games", _SCHEMA)

    def count(self) -> int:
        """Conversations that were begun."""
        with self.database.reading() as connection:
            query = "SELECT COUNT(*) AS n FROM games"
            return int(connection.execute(query).fetchone()["n"])

    def begin(self, player: str, task: Task, role: str, seed: int) -> Game:
        """Keep a new conversation."""
        with self.database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO games (player, task, role, seed) VALUES (?, ?, ?, ?)",
                (player, task.model_dump_json(), role, seed),
            )
        return Game(int(added.lastrowid or 0), player, task, role, seed)

    def turn(self, game: int, turn: int, actions: Mapping[str, Action]) -> None:
        """Keep what was done in a turn."""
        written = json.dumps(
            {
                agent: [action.action_type, action.argument, action.to, action.note]
                for agent, action in actions.items()
            }
        )
        with self.database.transaction() as connection:
            connection.execute("INSERT INTO turns VALUES (?, ?, ?)", (game, turn, written))

    def finish(self, game: int, episode: Episode) -> None:
        """Keep the episode that a conversation became."""
        body = episode.model_dump_json(exclude_defaults=True)
        with self.database.transaction() as connection:
            connection.execute("UPDATE games SET episode = ? WHERE game = ?", (body, game))

    def unwritten(self) -> list[tuple[int, Episode]]:
        """Episodes that are in no journal yet, with the numbers of their games."""
        query = "SELECT game, episode FROM games WHERE episode IS NOT NULL AND NOT written"
        with self.database.reading() as connection:
            rows = connection.execute(query).fetchall()
        return [(row["game"], Episode.model_validate_json(row["episode"])) for row in rows]

    def written(self, game: int) -> None:
        """Take note that an episode is in a journal."""
        with self.database.transaction() as connection:
            connection.execute("UPDATE games SET written = 1 WHERE game = ?", (game,))

    def unfinished(self) -> list[Game]:
        """The conversations that are not over, or over and not judged."""
        with self.database.reading() as connection:
            query = "SELECT game FROM games WHERE episode IS NULL ORDER BY game"
            games = [row["game"] for row in connection.execute(query)]
        return [self._game(game) for game in games]

    def latest(self, player: str) -> Game | None:
        """The conversation that a player began last; None if there is none."""
        with self.database.reading() as connection:
            query = "SELECT MAX(game) AS game FROM games WHERE player = ?"
            game = connection.execute(query, (player,)).fetchone()["game"]
        return None if game is None else self._game(game)

    def _game(self, game: int) -> Game:
        with self.database.reading() as connection:
            row = connection.execute("SELECT * FROM games WHERE game = ?", (game,)).fetchone()
            query = "SELECT actions FROM turns WHERE game = ? ORDER BY turn"
            turns = [json.loads(each["actions"]) for each in connection.execute(query, (game,))]
        return Game(
            game=game,
            player=row["player"],
            task=Task.model_validate_json(row["task"]),
            role=row["role"],
            seed=row["seed"],
            turns=tuple(
                {agent: _action(*fields) for agent, fields in actions.items()} for actions in turns
            ),
            episode=row["episode"] and Episode.model_validate_json(row["episode"]),
        )


def _action(kind: str, argument: str, to: list[str], note: str | None) -> Action:
    return Action(kind, argument, tuple(to), note)  # type: ignore[arg-type]  # Action checks it
