"""Where the library keeps files of its user, and how it writes them: whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sotopia_gym.errors import JournalError

HOME_VARIABLE = "SOTOPIA_GYM_HOME"
"""Environment variable that puts everything below one folder of the user's choice."""


def suites_folder() -> Path:
    """Where imported suites are kept."""
    return _home("data") / "suites"


def models_folder() -> Path:
    """Where pulled models are kept."""
    return _home("cache") / "models"


def _home(kind: str) -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    import platformdirs

    if kind == "cache":
        return Path(platformdirs.user_cache_dir("sotopia-gym", appauthor=False))
    return Path(platformdirs.user_data_dir("sotopia-gym", appauthor=False))


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that is either complete or, if anything goes wrong, as it was before.

    Args:
        path: The file; its folder is made if need be.
        chunks: Its content. If making them raises, nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        if path.exists():
            name.chmod(stat.S_IMODE(path.stat().st_mode))  # who may read it stays as it is
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        name.replace(path)
    except BaseException:
        name.unlink()
        raise


@contextmanager
def appending(
    path: Path, *, fsync: float = 0.0, patience: float = 0.0
) -> Iterator[Callable[[bytes], None]]:
    """Keep a file of lines for oneself, and append whole lines to it.

    A line that a killed process left unfinished is dropped first.

    Args:
        path: The file; it and its folder are made if need be.
        fsync: Most seconds for which a line may be in the operating system's memory only.
        patience: Seconds to wait for another writer to end.

    Yields:
        A function that appends a line, given without its end.

    Raises:
        JournalError: If another process is writing.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise JournalError(
            f"{path} is being written by another process. Wait for it to end, or write to another "
            "file."
        ) from None
    try:
        with path.open("ab") as file:
            _drop_torn_tail(path)
            synced = time.monotonic()

            def write(line: bytes) -> None:
                nonlocal synced
                file.write(line + b"\n")
                file.flush()
                if time.monotonic() - synced >= fsync:
                    os.fsync(file.fileno())
                    synced = time.monotonic()

            try:
                yield write
            finally:
                os.fsync(file.fileno())
    finally:
        lock.release()


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, but for an unfinished last; none if there is none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


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
