"""``sotopia-gym annotate``: studies in which people rate episodes in the browser."""

from __future__ import annotations

import itertools
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sotopia_gym.web.store import RaterStatus

app = typer.Typer(help="Have people rate episodes in the browser.", no_args_is_help=True)

HostOption = Annotated[
    str, typer.Option(help="What to listen at; beyond this machine people need an access link.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for a free one.")]
UrlOption = Annotated[
    str | None, typer.Option(help="The address people open, if it is that of a proxy before this.")
]
StudyFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="The study's database.")
]


class Form(StrEnum):
    """What ratings are exported as."""

    RATINGS = "ratings"
    EPISODES = "episodes"


@app.command()
def serve(
    episodes: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="Files of episodes to be rated."),
    ],
    study: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="TOML file with texts and rules."),
    ] = None,
    db: Annotated[
        Path | None,
        typer.Option(help="The study's database; by default beside EPISODES, as NAME.study.db."),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    url: UrlOption = None,
) -> None:
    """Serve a study until Ctrl-C; run again it goes on with all that was submitted."""
    from sotopia_gym.episodes.store import latest
    from sotopia_gym.errors import missing_extra

    try:
        from sotopia_gym.web.annotate import annotation_app
        from sotopia_gym.web.http import Visitors
        from sotopia_gym.web.server import serve
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "starlette", "web", "the annotation app") from error
    from sotopia_gym.web.address import Address
    from sotopia_gym.web.store import StudyStore
    from sotopia_gym.web.study import Study, load_study, practice_episodes, ratable

    address = Address(host, port, url)
    rules = Study() if study is None else load_study(study)
    practice = practice_episodes(rules)
    to_rate = ratable(itertools.chain.from_iterable(latest(path) for path in episodes))
    path = db or episodes[0].with_suffix(".study.db")
    store = StudyStore(path, rules, to_rate, practice.values())
    visitors = Visitors(store.database, restricted=not address.local)
    web = annotation_app(store, practice, visitors, hosts=address.hosts)
    if not rules.organiser.strip():
        typer.echo(
            "The consent page does not say who runs the study: set `organiser` and `consent` in a "
            "file for --study before people take part.",
            err=True,
        )
    typer.echo(f"{store.status().episodes} episodes; ratings are kept in {path}")
    serve(web, address, visitors.access, lambda link: typer.echo(f"Open {link}"))


@app.command()
def status(study: StudyFile) -> None:
    """How far a study is, and how its raters are getting on."""
    from rich.console import Console
    from rich.table import Table

    from sotopia_gym.web.store import StudyStore

    now = StudyStore(study).status()
    typer.echo(
        f"{now.finished} of {now.episodes} episodes finished, {now.relaunched} relaunched; "
        f"{now.ratings} ratings, {now.missing} missing; {now.leased} episodes with a rater now"
    )
    table = Table("rater", "state", "rated", "attention checks", "failed")
    for rater in now.raters:
        counts = (rater.rated, rater.checks, rater.failed)
        table.add_row(rater.pseudonym, _state(rater), *map(str, counts))
    Console(highlight=False).print(table)


def _state(rater: RaterStatus) -> str:
    if rater.dropped:
        return "dropped: failed attention checks"
    if rater.qualified is None:
        return "not yet qualified"
    return "rating" if rater.qualified else "did not qualify"


@app.command()
def export(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    form: Annotated[
        Form, typer.Option("--format", help="One rating a line, or episodes with their ratings.")
    ] = Form.RATINGS,
    every: Annotated[
        bool, typer.Option("--all", help="Also ratings that do not count towards an episode.")
    ] = False,
) -> None:
    """Write the ratings, as SOTOPIA's own studies or as judgements of the episodes."""
    from sotopia_gym.web.export import write_episodes, write_ratings
    from sotopia_gym.web.store import StudyStore

    write = write_ratings if form is Form.RATINGS else write_episodes
    count = write(StudyStore(study), out, every=every)
    typer.echo(f"{count} ratings -> {out}")


@app.command()
def forget(
    study: StudyFile,
    rater: Annotated[str, typer.Argument(help="The rater's random name.")],
) -> None:
    """Delete a rater with all ratings, as somebody may ask who took part."""
    from sotopia_gym.web.store import StudyStore

    count = StudyStore(study).forget(rater)
    typer.echo(f"{rater} and {count} ratings are deleted; what was exported before is not.")
