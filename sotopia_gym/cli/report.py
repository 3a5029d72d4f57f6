"""``sotopia-gym report`` and ``sotopia-gym replay``: reading what was played."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sotopia_gym.cli.episodes import JournalFile, find

if TYPE_CHECKING:
    from rich.text import Text

    from sotopia_gym.episodes.schema import Episode

EVERYTHING = "everything"
WORDS_PER_SECOND = 4.0
"""How fast people read, about."""

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


def report(
    episodes: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Files of episodes.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Title; by default the files' names.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="Most episodes to read in it, about 10 kB each; else 1000."),
    ] = None,
) -> None:
    """Write one HTML file: how it went, and every conversation to read, offline in any browser."""
    from sotopia_gym.episodes.report import SHOWN, write_report
    from sotopia_gym.episodes.store import latest
    from sotopia_gym.errors import ConfigError

    if any(out.resolve() == file.resolve() for file in episodes):
        raise ConfigError(f"{out} holds the episodes; choose another file for the report.")
    name = title or ", ".join(file.name for file in episodes)
    read = itertools.chain.from_iterable(latest(file) for file in episodes)
    shown = SHOWN if limit is None else limit
    count = write_report(read, out, title=name, limit=shown)
    left_out = f"; {count - shown} of them only counted (--limit)" if count > shown else ""
    size = out.stat().st_size / 1e6
    typer.echo(f"{count} episodes{left_out} -> {out.resolve()} ({size:.1f} MB)")


def replay(
    episodes: JournalFile,
    episode: Annotated[str, typer.Argument(help="The episode's id, or its number in the file.")],
    speed: Annotated[
        float,
        typer.Option(min=0, help="1 is the speed of reading, 2 twice that; 0 waits for Enter."),
    ] = 1.0,
    viewer: Annotated[
        str, typer.Option("--as", help="Who sees it: agent_0, agent_1, ..., or everything.")
    ] = EVERYTHING,
) -> None:
    """Watch an episode again, turn by turn; all at once where the output is no terminal."""
    from rich.console import Console

    from sotopia_gym.errors import UnknownIdError, did_you_mean

    found = find(episodes, episode)
    views = (EVERYTHING, *found.task.agents)
    if viewer not in views:
        raise UnknownIdError(
            f"nobody called {viewer!r} sees this episode. {did_you_mean(viewer, views)}"
        )
    console = Console(highlight=False)
    for line in _before(found, viewer):
        console.print(line, soft_wrap=True)
    for line in _turns(found, viewer):
        _wait(line.plain, speed, terminal=console.is_terminal)
        console.print(line, soft_wrap=True)
    for line in _after(found):
        console.print(line, soft_wrap=True)


def _wait(line: str, speed: float, *, terminal: bool) -> None:
    """Give a reader time for what comes next."""
    if not terminal:
        return
    if speed > 0:
        time.sleep(len(line.split()) / WORDS_PER_SECOND / speed)
    else:
        input()


def _before(episode: Episode, viewer: str) -> list[Text]:
    """What ``viewer`` knows before the first word."""
    from rich.text import Text

    from sotopia_gym.envs.transcript import quote
    from sotopia_gym.tasks.background import background
    from sotopia_gym.tasks.visibility import ENVIRONMENT, render

    task = episode.task
    if viewer != EVERYTHING:
        lines = background(task, viewer, max_turns=episode.max_turns or 0).split("\n")
        told = lines if episode.max_turns else lines[:-1]
        return [Text(_visible(line)) for line in told] + [Text("")]
    scene = render(task.scenario.context, ENVIRONMENT)
    shown = [Text(f"Scene: {_visible(scene)}", "italic")]
    for index, (agent, name) in enumerate(task.names.items()):
        player = episode.agents.get(agent)
        by = f", played by {_visible(player)}" if player else ""
        goal = _visible(render(task.scenario.goals[index], ENVIRONMENT))
        shown.append(Text(f"{name} ({agent}{by}) wants: {goal}", _colour(episode, agent)))
        secret = task.characters[index].secret
        if secret:
            shown.append(Text(f"  Secret: {quote(secret)}", _colour(episode, agent)))
    return [*shown, Text("")]


def _turns(episode: Episode, viewer: str) -> list[Text]:
    """What ``viewer`` perceives, a line each."""
    from rich.text import Text

    from sotopia_gym.envs.transcript import line

    shown = []
    for event in episode.events:
        if viewer != EVERYTHING and not event.visible_to(viewer):
            continue
        written = line(event, episode.task.names)
        if event.note is not None and viewer == EVERYTHING:
            written += f" ({_visible(event.note)})"
        shown.append(Text(written, _colour(episode, event.agent)))
    return shown


def _after(episode: Episode) -> list[Text]:
    """How it ended, and what judges say."""
    from rich.text import Text

    why = f" ({_visible(episode.error)})" if episode.error else ""
    ending = f"Ending: {episode.ending}{why}"
    shown = [Text(""), Text(ending if episode.has_transcript else "No conversation is recorded.")]
    for judgement in episode.judgements:
        shown.append(Text(f"Judge: {_visible(judgement.judge)}", "bold"))
        if judgement.error is not None:
            shown.append(Text(f"  unscored: {_visible(judgement.error)}", "red"))
        if judgement.outcome is not None:
            terms = ", ".join(f"{name}: {value}" for name, value in judgement.outcome.terms.items())
            shown.append(Text(f"  {judgement.outcome.status} {_visible(terms)}"))
        for agent, scores in judgement.scores.items():
            given = ", ".join(f"{name} {score.score:.4g}" for name, score in scores.items())
            name = episode.task.names.get(agent, agent)
            shown.append(Text(f"  {_visible(f'{name}: {given}')}", _colour(episode, agent)))
    return shown


def _colour(episode: Episode, agent: str) -> str:
    agents = episode.task.agents
    return _COLOURS[agents.index(agent) % len(_COLOURS)] if agent in agents else ""


def _visible(text: str) -> str:
    """``text`` on one line, without anything that a terminal would obey."""
    from sotopia_gym.envs.transcript import quote

    return text if text.isascii() and text.isprintable() else quote(text)[1:-1].replace('\\"', '"')
