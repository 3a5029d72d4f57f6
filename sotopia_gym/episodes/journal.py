"""Episodes on disk: JSON Lines, one whole episode a line, append-only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import JournalError
from sotopia_gym.files import appending, whole_lines

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
        with appending(self.path, fsync=self.fsync, patience=patience) as write:
            yield lambda episode: write(episode.model_dump_json(exclude_defaults=True).encode())

    def __iter__(self) -> Iterator[Episode]:
        """The episodes, oldest first, read one at a time; none if there is no file.

        Raises:
            JournalError: If a whole line is not an episode; the message names the line.
        """
        for number, line in whole_lines(self.path):
            try:
                yield Episode.model_validate_json(line)
            except ValidationError as error:
                raise JournalError(
                    f"{self.path}, line {number} is not an episode: {error}"
                ) from error
