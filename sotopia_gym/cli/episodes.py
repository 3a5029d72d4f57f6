"""``sotopia-gym episodes``: files of episodes."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sotopia_gym.episodes.schema import Episode, Judgement, Usage
    from sotopia_gym.episodes.summary import Group, Summary

app = typer.Typer(help="Files of episodes.", no_args_is_help=True)

_SHOWN_NOTES = 10

JournalFiles = Annotated[
    list[Path], typer.Argument(exists=True, dir_okay=False, help="Files of episodes.")
]

JournalFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="A file of episodes.")
]


@app.command("import")
def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Files in SOTOPIA's formats, or Parquet tables made by `episodes export`.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file of episodes to make.")],
    append: Annotated[
        bool, typer.Option("--append", help="Add to the file if it is already there.")
    ] = False,
    all_notes: Annotated[
        bool, typer.Option("--all-notes", help="Show every note, not only the first ten.")
    ] = False,
) -> None:
    """Import episodes and scores that others recorded; what they are is seen from their content.

    Give files that belong together at once: records of the same episode become one.
    """
    from sotopia_gym.episodes.exporters import is_parquet, read_parquet
    from sotopia_gym.episodes.importers import import_episodes
    from sotopia_gym.episodes.journal import Journal
    from sotopia_gym.errors import JournalError

    if out.exists() and not append:
        raise JournalError(
            f"{out} is already there and stays as it is. Choose another file, or add to this one "
            "with --append."
        )
    journal = Journal(out)
    known = {episode.episode_id for episode in journal}
    tables = [file for file in files if is_parquet(file)]
    imported = import_episodes([file for file in files if file not in tables])

    def episodes() -> Iterator[Episode]:
        yield from imported.episodes
        for table in tables:
            yield from read_parquet(table)

    counts = Counter(episode.episode_id for episode in episodes())
    again = [name for name, count in counts.items() if name in known or count > 1]
    if again:
        raise JournalError(
            f"{len(again)} of these episodes come twice, or are in {out} already, e.g. {again[0]}; "
            "nothing was added. Import all files that belong together at once, into a new file."
        )
    lost = [note for note in imported.notes if note.lost]
    remarks = [note for note in imported.notes if not note.lost]
    for kind, notes in (("not read", lost), ("remark", remarks)):
        shown = notes if all_notes else notes[:_SHOWN_NOTES]
        for note in shown:
            typer.echo(f"{kind}  {note.record}: {_visible(note.what)}", err=True)
        if len(notes) > len(shown):
            typer.echo(f"{kind}  ... and {len(notes) - len(shown)} more (--all-notes)", err=True)
    for kind, count in imported.records.items():
        typer.echo(f"{kind}: {count} records")
    if not counts:
        raise JournalError("these files hold nothing that could be imported.")
    judgements = without = 0
    with journal.writing() as write:
        for episode in episodes():
            write(episode)
            judgements += len(episode.judgements)
            without += not episode.has_transcript
    typer.echo(
        f"{len(counts)} episodes ({without} without a conversation) with {judgements} "
        f"judgements -> {out}"
    )
    if lost:
        typer.echo(f"{len(lost)} records or parts of them could not be read")


@app.command("list")
def list_episodes(file: JournalFile) -> None:
    """List the episodes of a file, each once, one a line."""
    from sotopia_gym.episodes.store import latest

    for number, episode in enumerate(latest(file), start=1):
        names = ", ".join(
            f"{name} ({episode.agents[agent]})" if agent in episode.agents else name
            for agent, name in episode.task.names.items()
        )
        said = f"{len(episode.events)} events, {episode.ending}"
        talk = said if episode.has_transcript else "no conversation"
        goals = ";  ".join(_goals(episode, judgement) for judgement in episode.judgements)
        typer.echo(f"{number}  {episode.episode_id}  {names}  {talk}  {goals or 'unjudged'}")


@app.command()
def show(
    file: JournalFile,
    episode: Annotated[str, typer.Argument(help="The episode's id, or its number in the list.")],
) -> None:
    """Show one episode: its task, conversation and judgements."""
    from sotopia_gym.envs.transcript import line

    found = find(file, episode)
    task = found.task
    typer.echo(f"Episode {found.episode_id}, task {task.task_id}")
    typer.echo(f"Scene: {_visible(task.scenario.context)}")
    for agent, name in task.names.items():
        player = f", played by {found.agents[agent]}" if agent in found.agents else ""
        goal = task.scenario.goals[task.agents.index(agent)]
        typer.echo(f"{agent}: {name}{player}. Goal: {_visible(goal) or 'not recorded'}")
    if not found.has_transcript:
        typer.echo("The conversation is not recorded.")
    for event in found.events:
        typer.echo(line(event, task.names))
    if found.has_transcript:
        typer.echo(f"Ending: {found.ending}")
    for judgement in found.judgements:
        typer.echo(f"Judge: {judgement.judge}")
        if judgement.error is not None:
            typer.echo(f"  unscored: {_visible(judgement.error)}")
        for agent, scores in judgement.scores.items():
            given = ", ".join(f"{name} {score.score:g}" for name, score in scores.items())
            overall = judgement.overall(agent)
            mean = "" if overall is None else f"; overall {overall:.2f}"
            typer.echo(f"  {agent}: {given}{mean}")


@app.command()
def stats(
    files: JournalFiles,
    judge: Annotated[
        str | None, typer.Option(help="Whose scores count; by default the latest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Sum up the episodes of some files: counts, scores with intervals, words, cost."""
    from sotopia_gym.episodes.store import merged
    from sotopia_gym.episodes.summary import stats as summed

    summary = summed(merged(files), judge=judge)
    if as_json:
        typer.echo(json.dumps(_plain(summary), ensure_ascii=False, indent=2))
        return
    _print_summary(summary)


@app.command()
def merge(
    files: JournalFiles,
    out: Annotated[Path, typer.Option(help="The file to make; one of FILES is replaced.")],
) -> None:
    """Merge files: each episode once, with all its different judgements."""
    from sotopia_gym.episodes.store import merge as merge_files

    count = merge_files(files, out)
    typer.echo(f"{count} episodes -> {out}")


@app.command()
def sample(
    file: JournalFile,
    out: Annotated[Path, typer.Option(help="The file to make.")],
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks of each family.")],
    seed: Annotated[int, typer.Option(help="Which tasks: equal seeds choose the same.")] = 0,
) -> None:
    """Write the episodes of a few tasks of each family into a file of their own.

    Files that hold episodes of the same tasks give those of the same tasks, so that what is
    measured on a part of each can be compared.
    """
    from sotopia_gym.episodes.journal import Journal
    from sotopia_gym.episodes.store import latest
    from sotopia_gym.errors import JournalError
    from sotopia_gym.tasks.sampling import family

    if out.exists():
        raise JournalError(f"{out} is already there and stays as it is. Choose another file.")
    known: dict[str, set[str]] = {}
    for episode in latest(file):
        known.setdefault(family(episode.task), set()).add(episode.task.task_id)
    chosen = {
        name
        for names in known.values()
        for name in sorted(names, key=lambda name: _order(seed, name))[:tasks]
    }
    count = 0
    with Journal(out, fsync=math.inf).writing() as write:
        for episode in latest(file):
            if episode.task.task_id in chosen:
                write(episode)
                count += 1
    typer.echo(f"{count} episodes of {len(chosen)} tasks -> {out}")


def _order(seed: int, name: str) -> str:
    """What a name is sorted by: at random, but alike whatever else there is."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


class _Format(StrEnum):
    parquet = "parquet"
    datasets = "datasets"
    chat = "chat"
    sotopia_release = "sotopia-release"
    sotopia_log = "sotopia-log"


@app.command()
def export(
    file: JournalFile,
    kind: Annotated[_Format, typer.Option("--format", help="What to make of it.")],
    out: Annotated[Path, typer.Option(help="The file to make; for 'datasets' the folder.")],
) -> None:
    """Write the episodes of a file in another format, each once.

    Incomplete episodes, and scores without a conversation, go into tables only.
    """
    from sotopia_gym.episodes.exporters import export as export_episodes
    from sotopia_gym.episodes.store import latest

    count = export_episodes(latest(file), kind.value, out)
    typer.echo(f"{count} rows -> {out}")


def _print_summary(summary: Summary) -> None:
    told = {
        "complete": summary.complete,
        "failed": summary.failed,
        "interrupted": summary.interrupted,
        "unscored": summary.unscored,
        "unjudged": summary.unjudged,
        "without a conversation": summary.without_conversation,
    }
    counts = ", ".join(f"{count} {what}" for what, count in told.items() if count)
    typer.echo(f"{summary.episodes} episodes: {counts or 'none'}")
    for what, causes in (("failed", summary.failures), ("unscored", summary.unscored_because)):
        for cause, count in causes.items():
            typer.echo(f"  {what} {count}: {_visible(cause)}")
    judges = ", ".join(f"{name} ({count})" for name, count in summary.judges.items())
    typer.echo(f"scores by: {_visible(judges) or 'nobody'}")
    typer.echo(f"playing: {_spent(summary.playing)}")
    typer.echo(f"judging: {_spent(summary.judging)}")
    parts = (("agent", summary.agents), ("family", summary.families), ("source", summary.sources))
    for title, groups in parts:
        for name, group in groups.items():
            typer.echo(f"{title} {_visible(name)}: {_described(group)}")


def _described(group: Group) -> str:
    measures = {
        "goal": group.goal,
        "normalised": group.normalised,
        "agreement": group.agreement,
        "turns": _rounded(group.turns),
        "words": _rounded(group.words),
        "left": None if group.left is None else f"{group.left:.0%}",
    }
    known = [f"{name} {value}" for name, value in measures.items() if value is not None]
    spent = [_spent(group.usage)] if group.usage != type(group.usage)() else []
    return "; ".join([f"{group.episodes} episodes", *known, *spent])


def _rounded(mean: float | None) -> str | None:
    return None if mean is None else f"{mean:.1f}"


def _spent(usage: Usage) -> str:
    tokens = usage.prompt_tokens + usage.completion_tokens
    return f"{usage.requests:,} requests, {tokens:,} tokens, {_dollars(usage.cost)}"


def _dollars(cost: float | None) -> str:
    return "cost unknown" if cost is None else f"${cost:.4f}"


def _plain(value: Any) -> Any:
    """A summary as JSON, in which what is not known is null."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return None if isinstance(value, float) and math.isnan(value) else value


def find(file: Path, wanted: str) -> Episode:
    """The episode of a file with this id, or this number in its list."""
    from sotopia_gym.episodes.store import latest
    from sotopia_gym.errors import UnknownIdError, did_you_mean

    ids = []
    for number, episode in enumerate(latest(file), start=1):
        if wanted in (str(number), episode.episode_id):
            return episode
        ids.append(episode.episode_id)
    raise UnknownIdError(
        f"{file} has no episode {wanted!r} among its {len(ids)}. {did_you_mean(wanted, ids)}"
    )


def _goals(episode: Episode, judgement: Judgement) -> str:
    if not judgement.scored:
        return f"{judgement.judge}: unscored"
    goals = [judgement.goal(agent) for agent in episode.task.agents]
    return f"{judgement.judge}: " + " ".join("-" if g is None else f"{g:g}" for g in goals)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()
