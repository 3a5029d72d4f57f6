"""Episodes in the formats of others: tables, chats to train on, SOTOPIA's own records.

Everything is streamed, and written whole or not at all.

    ``parquet``: one table, a row an episode; :func:`read_parquet` gives the episodes back. Columns:
        ``episode_id``, ``key``, ``task_id``, ``scenario_id``, ``source`` (of the scenario),
        ``family`` (null without ground truth), ``ending``, ``turns``; in the order of the roles the
        lists ``agents``, ``characters`` (names), ``players`` (specs), ``goals`` (scores, 0 to 10)
        and ``normalised``, null where unknown; ``judge`` (whose these scores are: the latest that
        has any; null if unscored), ``tokens`` and ``cost`` (US dollars) of playing, null where
        unknown; ``episode``, the whole episode as JSON.
    ``datasets``: a folder of such tables with a dataset card, for Hugging Face ``datasets``:
        ``load_dataset(FOLDER)``.
    ``chat``: JSON Lines, a row an episode and agent, for agents that had a turn: ``messages``,
        ``episode_id``, ``agent``, ``player`` (its spec, null if unknown), ``task_id``, ``goal``
        (score, null if unscored). The messages are a neutral layout and not the prompt that the
        episode was played with: the system message is the agent's background; a user message
        holds what it perceived since its last turn, lines of a transcript, or says that it is its
        turn; an assistant message is what it did, as a JSON object. What was private between others
        is not there. The chat ends with the agent's last turn.
    ``sotopia-release``, ``sotopia-log``: see :mod:`sotopia_gym.episodes.sotopia`.

Incomplete episodes are in the tables only, and so are those without a conversation.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import ValidationError

from sotopia_gym.envs import transcript
from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.episodes import sotopia
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.summary import scored
from sotopia_gym.errors import ConfigError, JournalError, missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.tasks.background import background
from sotopia_gym.version import __version__

ExportFormat = Literal["parquet", "datasets", "chat", "sotopia-release", "sotopia-log"]
EXPORT_FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)

_GROUP_ROWS: Final = 1000
_GROUP_BYTES: Final = 8_000_000
"""Rows, and bytes of whole episodes, that are held in memory before they are written."""

_SHARD_ROWS: Final = 20_000


def export(episodes: Iterable[Episode], kind: ExportFormat, out: Path | str) -> int:
    """Write episodes in another format.

    Args:
        episodes: The episodes.
        kind: The format; see the module.
        out: The file to write; for ``datasets`` the folder.

    Returns:
        How many rows were written: episodes, or, for ``chat``, episodes and agents.

    Raises:
        ConfigError: If there is no such format.
        JournalError: If ``out`` is already there.
        MissingDependencyError: If the format is a table and pyarrow is not installed.
    """
    if kind not in EXPORT_FORMATS:
        raise ConfigError(
            f"the format must be one of {', '.join(map(repr, EXPORT_FORMATS))}, got {kind!r}."
        )
    target = Path(out)
    if target.exists():
        raise JournalError(f"{target} is already there and stays as it is. Choose another place.")
    if kind == "parquet":
        return _Table(episodes).write(target)
    if kind == "datasets":
        return _write_dataset(episodes, target)
    return _write_lines((row for e in episodes for row in _ROWS[kind](e)), target)


def is_parquet(path: Path) -> bool:
    """Whether a file is a Parquet table."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def read_parquet(path: Path | str) -> Iterator[Episode]:
    """The episodes of a table that was written by :func:`export`, read a few at a time.

    Raises:
        JournalError: If it is no such table, or a row is not an episode.
        MissingDependencyError: If pyarrow is not installed.
    """
    pa = _pyarrow()
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as table:
            if "episode" not in table.schema_arrow.names:
                raise JournalError(
                    f"{path} has no column 'episode'; expected a table that "
                    "`sotopia-gym episodes export` wrote."
                )
            batches = table.iter_batches(batch_size=100, columns=["episode"])
            texts = (text for batch in batches for text in batch.column(0).to_pylist())
            for number, text in enumerate(texts, start=1):
                yield _episode(text, f"{path}, row {number}")
    except pa.ArrowInvalid as error:
        raise JournalError(f"{path} is not a Parquet table that can be read: {error}") from error


def _episode(text: str, where: str) -> Episode:
    try:
        return Episode.model_validate_json(text)
    except ValidationError as error:
        raise JournalError(f"{where} is not an episode: {error}") from error


# --- Lines


def _write_lines(rows: Iterable[dict[str, Any]], target: Path) -> int:
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in rows:
            yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
            count += 1

    write_whole(target, lines())
    return count


def chats(episode: Episode) -> Iterator[dict[str, Any]]:
    """The rows of the format ``chat`` for one episode."""
    if not _told(episode):
        return
    judgement = scored(episode)
    for agent in episode.task.agents:
        messages = _chat(episode, agent)
        if messages:
            yield {
                "messages": messages,
                "episode_id": episode.episode_id,
                "agent": agent,
                "player": episode.agents.get(agent),
                "task_id": episode.task.task_id,
                "goal": None if judgement is None else judgement.goal(agent),
            }


def _chat(episode: Episode, agent: str) -> list[dict[str, str]]:
    """What an agent perceived and did; empty if it had no turn."""
    messages = [{"role": "system", "content": _background(episode, agent)}]
    heard: list[Event] = []
    for event in episode.events:
        if event.agent != agent:
            if event.visible_to(agent):
                heard.append(event)
            continue
        # Who acts in the same turn is not heard before one's own turn is over.
        before = [other for other in heard if other.turn < event.turn]
        heard = [other for other in heard if other.turn >= event.turn]
        lines = [transcript.line(other, episode.task.names) for other in before]
        messages += [
            {"role": "user", "content": "\n".join(lines) or "It is your turn."},
            {"role": "assistant", "content": _answer(event.action, episode)},
        ]
    return messages if len(messages) > 1 else []


def _background(episode: Episode, agent: str) -> str:
    if episode.max_turns is not None:
        return background(episode.task, agent, max_turns=episode.max_turns)
    # Its last line tells how long the conversation may last.
    return background(episode.task, agent, max_turns=0).rpartition("\n")[0]


def _answer(action: Action, episode: Episode) -> str:
    answer: dict[str, Any] = {"action_type": action.action_type, "argument": action.argument}
    if action.to:
        answer["to"] = [episode.task.names[agent] for agent in action.to]
    return json.dumps(answer, ensure_ascii=False)


def _sotopia(kind: sotopia.RecordFormat) -> Callable[[Episode], Iterator[dict[str, Any]]]:
    def rows(episode: Episode) -> Iterator[dict[str, Any]]:
        if _told(episode):
            yield sotopia.record(episode, kind)

    return rows


_ROWS: Final[dict[str, Callable[[Episode], Iterator[dict[str, Any]]]]] = {
    "chat": chats,
    "sotopia-release": _sotopia("release"),
    "sotopia-log": _sotopia("episode_log"),
}


def _told(episode: Episode) -> bool:
    return episode.complete and episode.has_transcript


# --- Tables


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("pyarrow", "store", "a Parquet table") from error
    return pyarrow


class _Parts(io.RawIOBase):
    """A file to write to whose content is taken away as it grows."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        self._parts.append(bytes(data))
        self._position += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


class _Table:
    """Episodes on their way into a table."""

    def __init__(self, episodes: Iterable[Episode], most: int | None = None) -> None:
        self._pa = _pyarrow()
        self._waiting = iter(episodes)
        self._most = most
        self._schema = _schema(self._pa)
        self.count = 0

    def write(self, target: Path) -> int:
        """Write a file; how many rows it has."""
        self.count = 0
        write_whole(target, self._content())
        return self.count

    def _content(self) -> Iterator[bytes]:
        from pyarrow import parquet

        parts = _Parts()
        with parquet.ParquetWriter(parts, self._schema, compression="zstd") as writer:
            for rows in self._groups():
                writer.write_batch(self._pa.RecordBatch.from_pylist(rows, schema=self._schema))
                self.count += len(rows)
                yield parts.take()
        yield parts.take()

    def _groups(self) -> Iterator[list[dict[str, Any]]]:
        rows: list[dict[str, Any]] = []
        size = 0
        while self._most is None or self.count + len(rows) < self._most:
            episode = next(self._waiting, None)
            if episode is None:
                break
            rows.append(_row(episode))
            size += len(rows[-1]["episode"])
            if len(rows) >= _GROUP_ROWS or size >= _GROUP_BYTES:
                yield rows
                rows, size = [], 0
        if rows:
            yield rows


def _schema(pa: Any) -> Any:
    numbers, texts = pa.list_(pa.float64()), pa.list_(pa.string())
    return pa.schema(
        {
            "episode_id": pa.string(),
            "key": pa.string(),
            "task_id": pa.string(),
            "scenario_id": pa.string(),
            "source": pa.string(),
            "family": pa.string(),
            "ending": pa.string(),
            "turns": pa.int32(),
            "agents": texts,
            "characters": texts,
            "players": texts,
            "goals": numbers,
            "normalised": numbers,
            "judge": pa.string(),
            "tokens": pa.int64(),
            "cost": pa.float64(),
            "episode": pa.string(),
        }
    )


def _row(episode: Episode) -> dict[str, Any]:
    task, judgement = episode.task, scored(episode)
    scenario = task.scenario
    usage = list(episode.usage.values())
    costs = [used.cost for used in usage]
    known = bool(usage) and None not in costs
    return {
        "episode_id": episode.episode_id,
        "key": episode.key,
        "task_id": task.task_id,
        "scenario_id": scenario.scenario_id,
        "source": scenario.source,
        "family": None if scenario.outcome is None else scenario.outcome.family,
        "ending": episode.ending,
        "turns": max((event.turn for event in episode.events), default=0),
        "agents": list(task.agents),
        "characters": list(task.names.values()),
        "players": [episode.agents.get(agent) for agent in task.agents],
        "goals": [None if judgement is None else judgement.goal(a) for a in task.agents],
        "normalised": [
            None if judgement is None else judgement.normalised.get(a) for a in task.agents
        ],
        "judge": None if judgement is None else judgement.judge,
        "tokens": sum(u.prompt_tokens + u.completion_tokens for u in usage) if usage else None,
        "cost": sum(cost for cost in costs if cost is not None) if known else None,
        "episode": episode.model_dump_json(exclude_defaults=True),
    }


# --- A folder for `datasets`

_CARD: Final = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
tags:
- social-intelligence
- dialogue
---

# Episodes of social conversations

{count} episodes, written by sotopia-gym {version}. One row is one episode. Load them with
`datasets.load_dataset` and the path of this folder.

| column | what |
|---|---|
| `episode_id`, `key` | the episode, and what the rollout that played it knows it by |
| `task_id`, `scenario_id`, `source`, `family` | what was played; `family` is null without ground truth |
| `ending`, `turns` | how it ended, and after how many turns |
| `agents`, `characters`, `players` | the roles, who is played, and by whom (specs) |
| `goals`, `normalised`, `judge` | goal scores 0 to 10; on a scale of no agreement (0) to the rational ceiling (1); by whom |
| `tokens`, `cost` | what playing it cost, in tokens and US dollars |
| `episode` | the whole episode as JSON: `sotopia_gym.Episode.model_validate_json` reads it |
"""  # noqa: E501  # a row of a table is one line


def _write_dataset(episodes: Iterable[Episode], target: Path) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        table = _Table(episodes, most=_SHARD_ROWS)
        count = shard = 0
        while True:
            part = making / f"data/part-{shard:05}.parquet"
            written = table.write(part)
            if shard and not written:
                part.unlink()
                break
            count += written
            shard += 1
        card = _CARD.format(count=count, version=__version__)
        write_whole(making / "README.md", [card.encode()])
        making.chmod(0o755)
        making.rename(target)
    except BaseException:
        shutil.rmtree(making)
        raise
    return count
