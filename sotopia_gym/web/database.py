"""SQLite files that several requests use at once, and what tells visitors of one apart."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sotopia_gym.errors import ConfigError

_PATIENCE: Final = 30.0
"""Seconds that a transaction waits for others."""

_META: Final = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"


def new_token() -> str:
    """A secret of 192 random bits that fits a cookie and an address."""
    return secrets.token_urlsafe(24)


def digest(token: str) -> str:
    """What is kept of a secret, so that who reads the file cannot pose as its holder."""
    return hashlib.sha256(token.encode()).hexdigest()


class Database:
    """An SQLite file: every transaction has a connection of its own and is on disk when it ends.

    Args:
        path: The file; it and its folder are made if need be, readable by their owner alone.
        kind: What it is for; a file of another kind is refused.
        schema: Statements that make its tables if they are not there.

    Raises:
        ConfigError: If the file is something else.
    """

    def __init__(self, path: Path, kind: str, schema: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        try:
            with closing(self._connect()) as connection:
                query = "SELECT name FROM sqlite_master WHERE type = 'table'"
                tables = {row["name"] for row in connection.execute(query)}
                connection.execute("PRAGMA journal_mode = WAL")
                if not tables:
                    connection.execute(_META)
            if (tables and "meta" not in tables) or self.setting("kind", kind) != kind:
                raise ConfigError(f"{path} is an SQLite file, but no {kind}; choose another.")
            with closing(self._connect()) as connection:
                connection.executescript(schema)
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path} cannot be used as a {kind}: {error}") from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: alone, and wholly or not at all."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one state, whatever is written meanwhile."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN")
            yield connection

    def setting(self, key: str, default: str) -> str:
        """A value that is kept: ``default`` if there was none."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, default))
            query = "SELECT value FROM meta WHERE key = ?"
            return str(connection.execute(query, (key,)).fetchone()["value"])

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # In WAL mode only this survives a power failure; ratings come seldom enough.
        connection.execute("PRAGMA synchronous = FULL")
        return connection
