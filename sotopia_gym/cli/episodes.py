"""``sotopia-gym episodes``: files of episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sotopia_gym.episodes.schema import Episode, Judgement

app = typer.Typer(help="Files of episodes.", no_args_is_help=True)

_SHOWN_NOTES = 10

JournalFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="A file of episodes.")
]


@app.command("import")
def import_files(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Files in SOTOPIA's formats.")
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
    imported = import_episodes(files)
    again = [e.episode_id for e in imported.episodes if e.episode_id in known]
    if again:
        raise JournalError(
            f"{out} already holds {len(again)} of these episodes, e.g. {again[0]}; nothing was "
            "added. Import all files that belong together at once, into a new file."
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
    if not imported.episodes:
        raise JournalError("these files hold nothing that could be imported.")
    for episode in imported.episodes:
        journal.append(episode)
    judgements = sum(len(episode.judgements) for episode in imported.episodes)
    without = sum(not episode.has_transcript for episode in imported.episodes)
    typer.echo(
        f"{len(imported.episodes)} episodes ({without} without a conversation) with {judgements} "
        f"judgements -> {out}"
    )
    if lost:
        typer.echo(f"{len(lost)} records or parts of them could not be read")


@app.command("list")
def list_episodes(file: JournalFile) -> None:
    """List the episodes of a file, one a line."""
    from sotopia_gym.episodes.journal import Journal

    for number, episode in enumerate(Journal(file), start=1):
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

    found = _find(file, episode)
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


def _find(file: Path, wanted: str) -> Episode:
    from sotopia_gym.episodes.journal import Journal
    from sotopia_gym.errors import UnknownIdError, did_you_mean

    ids = []
    for number, episode in enumerate(Journal(file), start=1):
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
