"""The command line: ``sotopia-gym ...``."""

from __future__ import annotations

import sys

import typer

from sotopia_gym.cli import (
    annotate,
    benchmark,
    episodes,
    judge,
    models,
    play,
    report,
    rollout,
    tasks,
)
from sotopia_gym.errors import SotopiaGymError

app = typer.Typer(
    name="sotopia-gym",
    help="Social tasks as reinforcement-learning environments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(tasks.app, name="tasks")
app.add_typer(models.app, name="models")
app.add_typer(episodes.app, name="episodes")
app.add_typer(annotate.app, name="annotate")
app.command()(play.demo)
app.command()(play.play)
app.command()(rollout.rollout)
app.command()(benchmark.benchmark)
app.command()(benchmark.compare)
app.command()(judge.judge)
app.command()(report.report)
app.command()(report.replay)


@app.command()
def envs() -> None:
    """List the environment ids."""
    from sotopia_gym.registration import list_envs, spec

    for name in list_envs():
        typer.echo(f"{name:20} {spec(name).description}")


def main() -> None:
    """Run the command line; an error of ours is a message, not a traceback."""
    try:
        app()
    except (SotopiaGymError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
