"""Where the library keeps files of its user, and how it writes them: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
