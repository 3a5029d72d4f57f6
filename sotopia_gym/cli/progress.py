"""How far a long run has come, while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from sotopia_gym.rollout.engine import Progress

_SECONDS: Final = 10.0
"""Between two lines where there is no terminal to keep one up to date."""


@contextmanager
def progress_line() -> Iterator[Callable[[Progress], None]]:
    """Show progress on standard error: one line that changes, in a log one line now and then.

    Yields:
        What to call with the progress, from any thread.
    """
    if not sys.stderr.isatty():
        yield _Log()
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield lambda progress: live.update(Text(_told(progress)))


class _Log:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS:
            self._last = now
            typer.echo(_told(progress), err=True)


def _told(progress: Progress) -> str:
    stopped = "" if progress.stopped_by is None else f"; stopping: {progress.stopped_by}"
    return f"{progress}{stopped}"
