"""Files of episodes that need not fit into memory: each episode once, files merged.

Only the place of each record is kept in memory, some hundred bytes an episode; the records are
read from the disk when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ValidationError

from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import JournalError
from sotopia_gym.files import appending, whole_lines, write_whole


def latest(journal: Journal | Path | str, keys: Set[str] | None = None) -> Iterator[Episode]:
    """Each episode of a journal once, in the order in which they first came.

    An episode is known by its ``key``, without one by its id. Of its records the last complete one
    counts; if none is complete, the last.

    Args:
        journal: The journal, or its file; none, and one that is not there, has no episodes.
        keys: What the episodes that are wanted are known by; None for all.

    Raises:
        JournalError: If a whole line is not an episode; the message names the line.
    """
    path = journal.path if isinstance(journal, Journal) else Path(journal)
    with _Files((path,)) as files:
        for name, places in files.index().items():
            if keys is not None and name not in keys:
                continue
            newest = files.read(places[-1])
            for place in reversed(places[:-1]):
                if newest.complete:
                    break
                earlier = files.read(place)
                newest = earlier if earlier.complete else newest
            yield newest


def merged(paths: Sequence[Path | str]) -> Iterator[Episode]:
    """Each episode of several journals once, with all its different judgements.

    Episodes come in the order in which they first came, and are known as by :func:`latest`. Of its
    records the first complete one with a conversation counts, its judgements followed by those of
    the others; if none is complete, the last. What is appended to a file meanwhile is not read.

    Args:
        paths: The files; those that are not there have no episodes.

    Raises:
        JournalError: If a whole line is not an episode, or if two complete records of one episode
            hold different conversations; the message names the lines.
    """
    with _Files(tuple(Path(path) for path in paths)) as files:
        for places in files.index().values():
            yield _united(files, places)


def merge(paths: Sequence[Path | str], out: Path | str) -> int:
    """Write the episodes of several journals, each once with all its judgements, into one.

    The file is written whole or not at all. See :func:`merged`.

    Args:
        paths: The files to read.
        out: The file to write. It may be one of ``paths``, written the same way: then that one is
            replaced.

    Returns:
        How many episodes it holds.

    Raises:
        JournalError: As for :func:`merged`; or if one of ``paths`` is not there, ``out`` is there
            and is not among them, or is being written by another process.
    """
    sources, target = [Path(path) for path in paths], Path(out)
    for path in sources:
        if not path.is_file():
            raise JournalError(f"there is no file {path} to merge.")
    if target not in sources and target.exists():
        same = next((path for path in sources if path.samefile(target)), None)
        what = "is already there" if same is None else f"is the same file as {same}"
        raise JournalError(
            f"{target} {what} and stays as it is. Choose another file, or name it among the files "
            "to merge to have it replaced."
        )
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for episode in merged(sources):
            yield episode.model_dump_json(exclude_defaults=True).encode() + b"\n"
            count += 1

    with ExitStack() as stack:
        if target in sources:
            stack.enter_context(appending(target))
        write_whole(target, lines())
    return count


# --- Records and their places


class _Origin(BaseModel):
    record_id: str


class _Head(BaseModel):
    """The part of a record that mostly tells which episode it is of."""

    key: str = ""
    source: _Origin | None = None


class _Files:
    """Some files, read by place: a number that stands for a file and an offset in it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = [path for path in paths if path.exists()]

    def __enter__(self) -> _Files:
        with ExitStack() as opening:
            self._files = [opening.enter_context(path.open("rb")) for path in self._paths]
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def index(self) -> dict[str, tuple[int, ...]]:
        """Episode to the places of its records, both in the order of the files."""
        places: dict[str, tuple[int, ...]] = {}
        for number, path in enumerate(self._paths):
            offset = 0
            for line_number, line in whole_lines(path):
                try:
                    name = _name(line)
                except ValidationError as error:
                    raise _no_episode(f"{path}, line {line_number}", error) from error
                place = offset * len(self._paths) + number
                places[name] = (*places.get(name, ()), place)
                offset += len(line)
        return places

    def read(self, place: int) -> Episode:
        """The episode at a place."""
        offset, number = divmod(place, len(self._paths))
        self._files[number].seek(offset)
        try:
            return Episode.model_validate_json(self._files[number].readline())
        except ValidationError as error:
            raise _no_episode(self.spot(place), error) from error

    def spot(self, place: int) -> str:
        """Where a place is, for people."""
        offset, number = divmod(place, len(self._paths))
        with self._paths[number].open("rb") as file:
            line = 1 + sum(1 for _ in iter(lambda: file.tell() < offset and file.readline(), False))
        return f"{self._paths[number]}, line {line}"


def _name(line: bytes) -> str:
    """What the episode of a record is known by."""
    head = _Head.model_validate_json(line)
    if head.key:
        return head.key
    if head.source is not None:
        return head.source.record_id
    return Episode.model_validate_json(line).episode_id


def _no_episode(where: str, error: ValidationError) -> JournalError:
    return JournalError(f"{where} is not an episode: {error}")


def _united(files: _Files, places: Sequence[int]) -> Episode:
    """One episode made of its records."""
    best = files.read(places[0])
    kept = places[0]
    others = []
    for place in places[1:]:
        episode = files.read(place)
        both = _weight(best) == _weight(episode) == _WHOLE
        if both and episode.events != best.events:
            raise JournalError(
                f"{files.spot(kept)} and {files.spot(place)} hold different conversations of the "
                f"same episode ({episode.key or episode.episode_id}). Merge files of one rollout "
                "only, or take the record that is wrong out of its file."
            )
        if _weight(episode) > _weight(best) or not (episode.complete or best.complete):
            best, episode, kept = episode, best, place
        others.append(episode)
    judgements = list(best.judgements)
    for other in others:
        judgements += [judgement for judgement in other.judgements if judgement not in judgements]
    if len(judgements) == len(best.judgements):
        return best
    return best.model_copy(update={"judgements": tuple(judgements)})


_WHOLE = (True, True)


def _weight(episode: Episode) -> tuple[bool, bool]:
    """What makes one record of an episode count more than another."""
    return episode.complete, episode.has_transcript
