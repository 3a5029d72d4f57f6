"""Ratings that came in, as others read them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sotopia_gym.episodes.schema import HUMAN_PREFIX, Episode, Judgement
from sotopia_gym.files import write_whole
from sotopia_gym.web.store import StudyStore, Submitted


def write_ratings(store: StudyStore, path: Path, *, every: bool = False) -> int:
    """Write the ratings format: one JSON object a line, for one rater's rating of one episode.

    It is what SOTOPIA's rating studies were released in (``human_ratings`` of
    :mod:`sotopia_gym.episodes.importers`, which reads it back), with ``submitted``, ``seconds``,
    ``attention`` and ``counts`` beside it (:class:`~sotopia_gym.web.store.Submitted`). It holds
    neither conversations nor who played.

    Args:
        store: The study.
        path: The file; complete, or as it was.
        every: Also ratings that do not count.

    Returns:
        How many ratings it holds.
    """
    episodes = {episode.episode_id: episode for episode in store.episodes()}
    chosen = _chosen(store, every)
    write_whole(path, (_line(_record(rating, episodes[rating.episode_id])) for rating in chosen))
    return len(chosen)


def write_episodes(store: StudyStore, path: Path, *, every: bool = False) -> int:
    """Write the study's episodes as a journal, each with its ratings as judgements.

    The judge of a rating is ``human/PSEUDONYM``. Judgements that episodes had before stay; only
    token ids are not kept by a study.

    Args:
        store: The study.
        path: The file; complete, or as it was.
        every: Also ratings that do not count.

    Returns:
        How many ratings it holds.
    """
    chosen = _chosen(store, every)
    judgements: dict[str, list[Judgement]] = defaultdict(list)
    for rating in chosen:
        judge = f"{HUMAN_PREFIX}{rating.pseudonym}"
        judgements[rating.episode_id].append(Judgement(judge=judge, scores=rating.scores))

    def lines() -> Iterator[bytes]:
        for episode in store.episodes():
            given = (*episode.judgements, *judgements[episode.episode_id])
            rated = episode.model_copy(update={"judgements": given})
            yield rated.model_dump_json(exclude_defaults=True).encode() + b"\n"

    write_whole(path, lines())
    return len(chosen)


def _chosen(store: StudyStore, every: bool) -> list[Submitted]:
    return [rating for rating in store.submitted() if rating.counts or every]


def _record(rating: Submitted, episode: Episode) -> dict[str, Any]:
    task = episode.task
    record: dict[str, Any] = {
        "pk": rating.episode_id,
        "rater": rating.pseudonym,
        "scenario": task.scenario.context,
        "names": list(task.names.values()),
        "social_goal": dict(zip(task.names.values(), task.scenario.goals, strict=True)),
    }
    for number, agent in enumerate(task.agents, start=1):
        given = rating.scores[agent]
        record[f"agent{number}_scores"] = {name: int(each.score) for name, each in given.items()}
        record[f"agent{number}_reasons"] = {name: each.reasoning for name, each in given.items()}
    submitted = datetime.fromtimestamp(rating.submitted_at, UTC)
    return record | {
        "submitted": submitted.isoformat(timespec="seconds"),
        "seconds": round(rating.seconds),
        "attention": rating.attention,
        "counts": rating.counts,
    }


def _line(record: dict[str, Any]) -> bytes:
    # In ASCII, where no character but the last ends a line for any reader.
    return json.dumps(record).encode() + b"\n"
