"""Answers kept on disk, so that the same question is paid for once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

from sotopia_gym.llm.chat import Completion

_log = logging.getLogger(__name__)

_BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that is writing."""


def cache_key(question: Mapping[str, Any]) -> str:
    """SHA-256 of a question in canonical JSON.

    Args:
        question: Everything that changes the answer, and nothing else; JSON values only.
    """
    canonical = json.dumps(question, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class AnswerCache:
    """Completions by key, in an SQLite file that threads and processes may share.

    Nothing here raises: an answer that cannot be read is asked anew, and one that cannot be
    written is still an answer. What went wrong is logged as a warning.

    Args:
        path: The file; it and its folder are made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None

    def get(self, key: str) -> Completion | None:
        """The completion of this key, marked as cached and free; None if there is none."""
        try:
            with self._mine():
                query = "SELECT answer FROM answers WHERE key = ?"
                row = self._open().execute(query, (key,)).fetchone()
            if row is None:
                return None
            return replace(Completion(**json.loads(row[0])), cached=True, cost=0.0)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self._warn("read an answer from", error)
            return None

    def put(self, key: str, completion: Completion) -> None:
        """Keep a completion; one that is there already stays."""
        answer = json.dumps(asdict(completion))
        try:
            with self._mine():
                statement = "INSERT OR IGNORE INTO answers VALUES (?, ?)"
                self._open().execute(statement, (key, answer))
        except (sqlite3.Error, OSError) as error:
            self._warn("write an answer to", error)

    def close(self) -> None:
        """Close the file; using the cache opens it again."""
        with self._mine():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _mine(self) -> Lock:
        if self._process != os.getpid():
            # SQLite's connections must neither be used nor closed by a forked child.
            self._inherited, self._connection = self._connection, None
            self._process, self._lock = os.getpid(), Lock()
        return self._lock

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                # Changing the journal's mode does not wait for other processes. The mode is kept
                # in the file, so whoever loses that race has what it wanted all the same.
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)"
                )
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _warn(self, action: str, error: Exception) -> None:
        _log.warning(
            "cannot %s the cache %s (%s); going on without. If it is corrupt, delete the file.",
            action,
            self.path,
            error,
        )
