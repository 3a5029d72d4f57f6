"""Episodes on disk: JSON Lines, one whole episode a line, append-only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import JournalError

_PATIENCE = 10.0
"""Seconds that a single append waits for another writer."""


class Journal:
    """A file that finished episodes are appended to, whole lines at a time.

    A line that a killed process left unfinished is dropped when the journal is written again, and
    never read. Two processes cannot write at the same time; any number may read.

    Args:
        path: The file; it and its folder are made when it is first written.
        fsync: Most seconds for which a written episode may be in the operating system's memory
            only, where a power failure loses it (a killed process does not). 0 syncs after every
            episode, ``float("inf")`` only when writing ends.
    """

    def __init__(self, path: Path | str, *, fsync: float = 0.0) -> None:
        self.path = Path(path)
        self.fsync = fsync

    def append(self, episode: Episode) -> None:
        """Write one episode; it is on disk when this returns.

        Raises:
            JournalError: If another process keeps writing.
        """
        with self.writing(patience=_PATIENCE) as write:
            write(episode)

    @contextmanager
    def writing(self, *, patience: float = 0.0) -> Iterator[Callable[[Episode], None]]:
        """Keep the file for oneself, and write any number of episodes.

        Args:
            patience: Seconds to wait for another writer to end.

        Yields:
            A function that appends an episode.

        Raises:
            JournalError: If another process is writing.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise JournalError(
                f"{self.path} is being written by another process. Wait for it, or write to "
                "another file and put them together with: sotopia-gym episodes merge"
            ) from None
        try:
            with self.path.open("ab") as file:
                _drop_torn_tail(self.path)
                synced = time.monotonic()

                def write(episode: Episode) -> None:
                    nonlocal synced
                    file.write(episode.model_dump_json(exclude_defaults=True).encode() + b"\n")
                    file.flush()
                    if time.monotonic() - synced >= self.fsync:
                        os.fsync(file.fileno())
                        synced = time.monotonic()

                try:
                    yield write
                finally:
                    os.fsync(file.fileno())
        finally:
            lock.release()

    def __iter__(self) -> Iterator[Episode]:
        """The episodes, oldest first, read one at a time; none if there is no file.

        Raises:
            JournalError: If a whole line is not an episode; the message names the line.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Episode.model_validate_json(line)
                except ValidationError as error:
                    raise JournalError(
                        f"{self.path}, line {number} is not an episode: {error}"
                    ) from error


def _drop_torn_tail(path: Path) -> None:
    """Cut the file back to its last whole line."""
    with path.open("rb+") as file:
        end = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65_536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != end:
            file.truncate(position)
