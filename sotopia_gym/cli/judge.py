"""``sotopia-gym judge``: score finished episodes again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sotopia_gym.episodes.schema import Episode
    from sotopia_gym.judges.base import Judge


def judge(
    episodes: Annotated[Path, typer.Argument(help="An episode file.")],
    judge: Annotated[str | None, typer.Option(help="Who judges.")] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option(help="What a language model is asked for; may be repeated. By default all."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to; by default beside EPISODES, as NAME.judged.jsonl."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Print how far two judges agree, as A,B; 'truth' is the exact goal score. "
            "Without --judge nothing is judged."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes judged at a time.")] = 16,
    max_cost: Annotated[
        float | None, typer.Option(help="US dollars after which no more is asked.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="File that keeps model answers.")] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Have the answers made by the Batch API, at half the price; needs --cache.",
        ),
    ] = False,
) -> None:
    """Score finished episodes again, without playing them; resumes where it was stopped.

    The episodes are written to a file of their own with the new judgement beside the others.
    Those that have a score by this judge, here or there, are not judged again, nor are those that
    were not played to their end.
    """
    from sotopia_gym import judges
    from sotopia_gym.errors import BudgetExceededError, UnknownIdError
    from sotopia_gym.llm.client import ClientOptions

    if not episodes.is_file():
        raise UnknownIdError(f"no episode file {str(episodes)!r}.")
    if judge is None and compare is None:
        raise typer.BadParameter("say who judges (--judge) or whom to compare (--compare).")
    target = out or episodes.with_suffix(".judged.jsonl")
    if judge is not None:
        options = ClientOptions(max_cost=max_cost, cache=cache)
        judging = judges.from_spec(judge, options, dimensions=dimension or None)
        if judging is None:
            raise UnknownIdError("judge 'none' scores nothing.")
        try:
            if batch:
                asyncio.run(_ask_batch(episodes, target, judging))
            asyncio.run(_judge_all(episodes, target, judging, concurrency))
        except BudgetExceededError as error:
            typer.echo(f"stopped: {error} What is judged is kept; run again to go on.", err=True)
            raise typer.Exit(3) from None
        finally:
            judging.close()
    if compare is not None:
        one, comma, other = compare.partition(",")
        if not comma:
            raise typer.BadParameter(f"--compare takes two judges, A,B; got {compare!r}.")
        _print_comparison([path for path in (episodes, target) if path.is_file()], one, other)


async def _ask_batch(source: Path, target: Path, judge: Judge) -> None:
    """Have what judging will ask answered into the cache."""
    from sotopia_gym.errors import JudgeError
    from sotopia_gym.judges.llm import LLMJudge
    from sotopia_gym.llm.batch import run_batch
    from sotopia_gym.llm.client import ChatClient

    if not isinstance(judge, LLMJudge) or not isinstance(judge.model, ChatClient):
        raise JudgeError(f"judge {judge.name!r} asks no server; leave --batch out.")
    requests = [request for e in _missing(source, target, judge) for request in judge.requests(e)]
    report = await run_batch(judge.model, requests, target.with_suffix(".batch.json"))
    typer.echo(
        f"batch: {report.answered} answered, {report.cached} were in the cache, "
        f"{len(report.failed)} failed"
    )


def _missing(source: Path, target: Path, judge: Judge) -> Iterator[Episode]:
    """The episodes of both files that ``judge`` has not scored, each with all its judgements."""
    from sotopia_gym.episodes.store import merged
    from sotopia_gym.judges.rejudge import scored_by

    return (
        episode
        for episode in merged([source, target])
        if episode.complete and not scored_by(episode, judge.name, judge.prompt)
    )


async def _judge_all(source: Path, target: Path, judge: Judge, concurrency: int) -> None:
    from sotopia_gym.episodes.journal import Journal
    from sotopia_gym.episodes.schema import Usage
    from sotopia_gym.judges.rejudge import rejudge

    done = Journal(target)
    missing = _missing(source, target, judge)
    unscored = total = 0
    spent = Usage()
    async for episode in rejudge(missing, judge, concurrency=concurrency):
        done.append(episode)
        total += 1
        judgement = episode.judgement
        if judgement is None or not judgement.scored:
            unscored += 1
            reason = judgement.error if judgement is not None else None
            typer.echo(f"unscored  {episode.episode_id}: {reason}", err=True)
        if judgement is not None:
            spent += judgement.usage
    paid = "unknown (no price)" if spent.cost is None else f"${spent.cost:.4f}"
    typer.echo(
        f"{judge.name}: {total} judged now, {unscored} of them unscored; cost {paid} -> {target}"
    )


def _print_comparison(paths: list[Path], one: str, other: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from sotopia_gym.episodes.store import merged
    from sotopia_gym.judges.rejudge import compare

    result = compare(merged(paths), one, other)
    table = Table("dimension", "n", "Pearson", "Spearman", f"{other} minus {one}")
    for row in result.agreements:
        table.add_row(
            row.dimension,
            str(row.count),
            f"{row.pearson:.2f}",
            f"{row.spearman:.2f}",
            str(row.difference),
        )
    console = Console(highlight=False)
    console.print(table)
    for name, count in zip(result.judges, result.unscored, strict=True):
        console.print(f"unscored by {name}: {count}", soft_wrap=True)
