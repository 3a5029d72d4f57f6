"""``sotopia-gym tasks``: what there is to play."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sotopia_gym.tasks.official import Imported

app = typer.Typer(help="Suites and tasks.", no_args_is_help=True)


@app.command("list")
def list_tasks(
    suite: Annotated[str | None, typer.Argument(help="A suite; without it, all suites.")] = None,
) -> None:
    """List the suites on this machine, or the tasks of one."""
    from sotopia_gym.tasks.suites import list_suites, load_suite

    if suite is not None:
        for task in load_suite(suite):
            typer.echo(
                f"{task.task_id}  {task.scenario.codename}  ({', '.join(task.names.values())})"
            )
        return
    for name in list_suites():
        loaded = load_suite(name)
        splits = ", ".join(f"{split} {len(ids)}" for split, ids in loaded.splits.items())
        typer.echo(
            f"{name} v{loaded.version}: {len(loaded)} tasks{f' ({splits})' if splits else ''}"
        )


@app.command()
def show(
    task_id: Annotated[str, typer.Argument(help="The task's id.")],
    suite: Annotated[str, typer.Option(help="The suite it is in.")] = "starter",
    view: Annotated[
        str, typer.Option("--as", help="agent_0, agent_1, ... or environment (everything).")
    ] = "environment",
) -> None:
    """Show one task, as one of its characters or the environment sees it."""
    from sotopia_gym.tasks.background import background
    from sotopia_gym.tasks.suites import load_suite
    from sotopia_gym.tasks.visibility import ENVIRONMENT

    task = load_suite(suite)[task_id]
    if view != ENVIRONMENT:
        typer.echo(background(task, view, max_turns=20))
        return
    typer.echo(task.model_dump_json(indent=2, exclude_defaults=True))


@app.command("ground-truth")
def ground_truth(
    suite: Annotated[str, typer.Argument(help="A suite.")] = "sotopia-all",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one scenario a line.")] = False,
) -> None:
    """List what each scenario of a suite states as its ground truth, or why it has none."""
    import json

    from sotopia_gym.tasks.families.mutual_friend import MutualFriendSpec
    from sotopia_gym.tasks.ground_truth import derive
    from sotopia_gym.tasks.suites import load_suite

    scenarios = {task.scenario.scenario_id: task.scenario for task in load_suite(suite)}
    stated = 0
    for scenario in sorted(scenarios.values(), key=lambda s: (s.source, s.scenario_id)):
        derived = derive(scenario)
        outcome = derived.scenario.outcome
        stated += outcome is not None
        told = None if outcome is None else outcome.model_dump(mode="json", exclude_none=True)
        if told and told["family"] == "mutual_friend" and not as_json:
            known = MutualFriendSpec.model_validate(told)
            lengths = {agent: len(friends) for agent, friends in known.knows.items()}
            told = {"family": known.family, "friend": known.friend, "friends known": lengths}
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        "scenario": scenario.scenario_id,
                        "source": scenario.source,
                        "outcome": told,
                        "missing": derived.missing,
                    }
                )
            )
            continue
        typer.echo(f"{scenario.scenario_id}  {scenario.source}  {scenario.codename}")
        typer.echo(f"    {json.dumps(told) if told else f'not derivable: {derived.missing}'}")
    if not as_json:
        typer.echo(f"{stated} of {len(scenarios)} scenarios state their ground truth")


@app.command()
def build(
    family: Annotated[str, typer.Argument(help="A family of tasks with ground truth.")],
    out: Annotated[Path, typer.Option(help="The suite file to write, ending in .json.")],
    count: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 100,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    first: Annotated[int, typer.Option(min=0, help="Number of the first task.")] = 0,
) -> None:
    """Make a suite of one family's tasks."""
    from sotopia_gym.tasks.suites import build_family, save_suite

    typer.echo(save_suite(build_family(family, split, range(first, first + count)), out))


@app.command()
def generate(
    inspirations: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Inspirational prompts.")
    ],
    out: Annotated[Path, typer.Option(help="The suite file to write, ending in .json.")],
    model: Annotated[str, typer.Option(help="The chat model that writes.")] = "gpt-4o-2024-08-06",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only so many prompts.")] = None,
    examples: Annotated[str, typer.Option(help="Suite that the examples come from.")] = "open",
    known: Annotated[
        list[str] | None, typer.Option(help="Suite whose scenarios must not come again.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of characters for each.")] = 5,
    attempts: Annotated[int, typer.Option(min=1, help="Tries for each prompt.")] = 2,
    shots: Annotated[int, typer.Option(min=1, help="Examples in each prompt.")] = 2,
    embed: Annotated[
        str | None, typer.Option(help="Model of sentence-transformers, to compare meanings too.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    max_cost: Annotated[float | None, typer.Option(help="US dollars to spend at most.")] = None,
) -> None:
    """Have a language model write new tasks, and keep what is of use.

    Every answer is kept beside the suite, in OUT.attempts.jsonl; started again, it goes on there.
    Without --known, all suites on this machine are known.
    """
    import asyncio

    from sotopia_gym.errors import ConfigError
    from sotopia_gym.llm.client import ClientOptions
    from sotopia_gym.llm.spec import chat_model
    from sotopia_gym.tasks import generation
    from sotopia_gym.tasks.similarity import sentence_embedder
    from sotopia_gym.tasks.suites import list_suites, load_suite, save_suite

    if out.suffix != ".json":
        raise ConfigError(f"a suite file ends in .json, got {out}.")
    record = out.with_suffix(".attempts.jsonl")
    chat = chat_model(model, ClientOptions(max_cost=max_cost))
    generator = generation.Generator(
        chat,
        load_suite(examples),
        [load_suite(name) for name in (known if known is not None else list_suites())],
        shots=shots,
        pairs=pairs,
        attempts=attempts,
        embed=None if embed is None else sentence_embedder(embed),
        bounded=model.startswith("local/"),
        seed=seed,
    )
    made = list(generation.read_attempts(record))
    asked = generation.read_inspirations(inspirations)[:limit]

    async def run() -> None:
        with generation.attempts_file(record) as write:
            async for attempt in generator.generate(asked, list(made)):
                write(attempt)
                made.append(attempt)
                told = "accepted" if attempt.tasks else f"rejected: {attempt.reason}"
                typer.echo(f"{attempt.inspiration_id}  {told}  {attempt.detail}".rstrip())

    try:
        asyncio.run(run())
    finally:
        chat.close()
    ids = {inspiration.inspiration_id for inspiration in asked}
    made = [attempt for attempt in made if attempt.inspiration_id in ids]
    for name, value in generation.report(made).items():
        if isinstance(value, dict):
            for reason, count in value.items():
                typer.echo(f"  rejected {count}: {generation.REASONS[reason]}")
        else:
            typer.echo(f"{name}: {value}")
    suite = generation.as_suite(out.stem, made)
    if len(suite) == 0:
        typer.echo(f"nothing was accepted, so {out} was not written; the answers are in {record}")
        raise typer.Exit(1)
    typer.echo(f"{len(suite)} tasks -> {save_suite(suite, out)}")


@app.command()
def contamination(
    suite: Annotated[str, typer.Argument(help="The suite to train on.")],
    against: Annotated[
        list[str] | None, typer.Option(help="A suite to test on; by default sotopia-all.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Share of word 3-grams in common that is listed.")
    ] = None,
) -> None:
    """List the scenarios of a suite that others hold too, or nearly."""
    from sotopia_gym.tasks import similarity
    from sotopia_gym.tasks.suites import load_suite

    limit = similarity.SAME_NGRAMS if threshold is None else threshold
    loaded = load_suite(suite)
    others = [load_suite(name) for name in against or ["sotopia-all"]]
    found = similarity.contamination(loaded, others, threshold=limit)
    for one in found:
        typer.echo(f"{one.match.similarity:.2f}  {one.scenario_id}  like {one.match.key}")
    total = len({task.scenario.scenario_id for task in loaded})
    typer.echo(f"{len(found)} of {total} scenarios are contaminated (at {limit:g})")
    if found:
        raise typer.Exit(1)


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="A folder with files of SOTOPIA's format.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the suite, unless it is the official one.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Close tags that are open where a text ends.")
    ] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave malformed records out, listing each.")
    ] = False,
) -> None:
    """Import the official suite, or scenarios in its format, from a folder."""
    from sotopia_gym.tasks import official

    _save(official.import_folder(folder, name=name, repair=repair, skip_invalid=skip_invalid))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="What to fetch: sotopia.")] = "sotopia",
) -> None:
    """Download the official suite from its public repository, verify it and import it."""
    from http.client import HTTPException
    from urllib.request import urlopen

    from sotopia_gym.errors import SotopiaGymError, UnknownIdError
    from sotopia_gym.tasks import official

    if name != "sotopia":
        raise UnknownIdError(f"cannot fetch {name!r}; only 'sotopia' can be fetched.")

    def download(url: str) -> bytes:
        typer.echo(f"fetching {url}", err=True)
        try:
            with urlopen(url, timeout=60) as response:
                content: bytes = response.read()
                return content
        except (OSError, HTTPException) as error:  # also where the connection breaks off later
            raise SotopiaGymError(
                f"cannot download {url}: {error}. Download the four files elsewhere and use "
                "sotopia-gym tasks import FOLDER."
            ) from error

    with tempfile.TemporaryDirectory() as folder:
        official.fetch(download, Path(folder))
        _save(official.import_folder(Path(folder)))


@app.command("build-starter")
def build_starter(
    path: Annotated[Path, typer.Argument(help="Where to write it.")],
) -> None:
    """Generate the starter suite anew (for developers of this library)."""
    from sotopia_gym.tasks import suites

    typer.echo(suites.save_suite(suites.build_starter(), path))


def _save(imported: Imported) -> None:
    from sotopia_gym.tasks.suites import save_suite

    for problem in imported.repaired:
        typer.echo(f"repaired  {problem.record}: {problem.what}")
    for problem in imported.skipped:
        typer.echo(f"left out  {problem.record}: {problem.what}")
    for suite in imported.suites:
        path = save_suite(suite)
        scenarios = len({task.scenario.scenario_id for task in suite})
        typer.echo(f"{suite.name}: {scenarios} scenarios, {len(suite)} tasks -> {path}")
    if imported.repaired or imported.skipped:
        typer.echo(f"{len(imported.repaired)} repaired, {len(imported.skipped)} left out")
