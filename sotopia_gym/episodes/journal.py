"""Episodes on disk: JSON Lines, one whole episode a line, append-only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import JournalError


class Journal:
    """A file that finished episodes are appended to, each whole and on disk before the next.

    A line that a killed process left unfinished is dropped when the journal is opened again.

    Args:
        path: The file; it and its folder are made when the first episode is written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, episode: Episode) -> None:
        """Write one episode; it is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = episode.model_dump_json(exclude_defaults=True).encode() + b"\n"
        with self.path.open("ab") as file:
            _drop_torn_tail(self.path)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

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
