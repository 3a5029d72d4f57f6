"""``sotopia-gym benchmark`` and ``sotopia-gym compare``: how good agents are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from sotopia_gym.cli.progress import progress_line
from sotopia_gym.cli.rollout import (
    AgentOption,
    CacheOption,
    ChunkOption,
    ConcurrencyOption,
    EngineOption,
    EveryPartnerOption,
    MaxCostOption,
    MaxSecondsOption,
    MaxSilentTurnsOption,
    MaxTurnsOption,
    PartnersOption,
    RayAddressOption,
    RepetitionsOption,
    RequestsOption,
    RolesOption,
    SeedOption,
    SplitOption,
    SuiteOption,
    TurnOrderOption,
    WorkersOption,
    engine_of,
    resume_hint,
    rules,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sotopia_gym.benchmark import Comparison, Estimate, Group, PublishedRow, Result
    from sotopia_gym.episodes.schema import Usage
    from sotopia_gym.rollout.jobs import Roles

_SHORT: Final = {
    "believability": "BEL",
    "relationship": "REL",
    "knowledge": "KNO",
    "secret": "SEC",
    "social_rules": "SOC",
    "financial_and_material_benefits": "FIN",
    "goal": "GOAL",
    "overall": "ALL",
}
_MAIN: Final = ("goal", "normalised", "overall")
"""The scores that groups are shown with."""


def benchmark(
    suite: SuiteOption,
    agent: AgentOption,
    partner: PartnersOption = None,
    judge: Annotated[str, typer.Option(help="Who scores.")] = "auto",
    split: SplitOption = None,
    roles: RolesOption = "both",
    every_partner: EveryPartnerOption = False,
    repetitions: RepetitionsOption = 1,
    seed: SeedOption = 0,
    turn_order: TurnOrderOption = "round-robin",
    max_turns: MaxTurnsOption = 20,
    max_silent_turns: MaxSilentTurnsOption = 3,
    episodes_out: Annotated[
        Path | None,
        typer.Option(help="Journal of the episodes, to go on with; by default a new one."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the result, as JSON.")] = None,
    concurrency: ConcurrencyOption = 64,
    requests: RequestsOption = 8,
    max_cost: MaxCostOption = None,
    max_seconds: MaxSecondsOption = None,
    cache: CacheOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    workers: WorkersOption = None,
    chunk: ChunkOption = None,
) -> None:
    """Play a suite with an agent and say how good it was, with 95 % intervals.

    Run again with the same --episodes-out it goes on where it was stopped. Exits with 3 where a
    limit stopped it, with 130 after Ctrl-C, and with 1 if no episode could be scored.
    """
    from rich.console import Console

    from sotopia_gym.benchmark import benchmark as run
    from sotopia_gym.llm.client import ClientOptions

    playing = engine_of(engine, ray_address, workers, chunk)
    journal = episodes_out or Path("runs") / f"benchmark-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    try:
        with progress_line() as tell:
            result = run(
                suite,
                agent,
                partner or (),
                judge=judge,
                split=split,
                roles=cast("Roles", roles),
                repetitions=repetitions,
                every_partner=every_partner,
                seed=seed,
                rules=rules(turn_order, max_turns, max_silent_turns),
                journal=journal,
                options=ClientOptions(max_concurrency=requests, cache=cache),
                concurrency=concurrency,
                max_cost=max_cost,
                max_seconds=max_seconds,
                progress=tell,
                engine=playing,
            )
    except KeyboardInterrupt:
        typer.echo(f"stopped. {resume_hint(journal, '--episodes-out')}", err=True)
        raise typer.Exit(130) from None
    console = Console(highlight=False, markup=False)
    _print_result(console, result)
    console.print(f"episodes: {journal}", soft_wrap=True)
    if out is not None:
        result.save(out)
        console.print(f"result: {out}", soft_wrap=True)
    if result.counts.stopped_by is not None:
        hint = resume_hint(journal, "--episodes-out")
        typer.echo(f"stopped: {result.counts.stopped_by}. {hint}", err=True)
        raise typer.Exit(3)
    if not result.counts.scored:
        typer.echo("error: no episode could be scored.", err=True)
        raise typer.Exit(1)


def compare(
    first: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="One agent's file.")],
    second: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The other agent's file.")
    ],
    judge: Annotated[
        str | None, typer.Option(help="Whose scores count; by default the latest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare two agents over the episodes in which they did the same job.

    Exits with 1 if there is no pair of scored episodes.
    """
    from rich.console import Console

    from sotopia_gym.benchmark import compare as compared
    from sotopia_gym.episodes.store import latest

    found = compared(latest(first), latest(second), judge=judge)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        _print_comparison(Console(highlight=False, markup=False), found)
    if not found.pairs:
        raise typer.Exit(1)


# --- the result of one run


def _print_result(console: Console, result: Result) -> None:
    from sotopia_gym.episodes.summary import OPEN_ENDED

    config, counts = result.config, result.counts
    split = f", split {config.split}" if config.split else ""
    against = ", ".join(config.partners) or "itself"
    console.print(
        f"{config.agent} on {config.suite} v{config.suite_version}{split} ({config.tasks} tasks of "
        f"{config.scenarios} scenarios), with {against}; judge: {config.judge}; seed "
        f"{config.seed}",
        soft_wrap=True,
    )
    console.print(
        f"{counts.planned} episodes: {counts.scored} scored, {counts.unscored} unscored, "
        f"{counts.failed} failed, {counts.interrupted} interrupted, {counts.left_out} left out",
        soft_wrap=True,
    )
    for what, causes in (("failed", counts.failures), ("unscored", counts.unscored_because)):
        for cause, count in causes.items():
            console.print(f"  {what} {count}: {_visible(cause)}", soft_wrap=True)
    if counts.scored:
        _print_measures(console, result.overall)
    parts = {
        "family": result.by_family,
        # Where all have ground truth each family is a source of its own.
        "source": result.by_source if OPEN_ENDED in result.by_family else {},
        "role": result.by_role,
        "partner": result.by_partner,
    }
    for title, groups in parts.items():
        if len(groups) > 1:
            _print_groups(console, title, groups)
    spent = result.spent
    kinds: dict[str, Usage] = {
        "agent": spent.agent,
        "partners": spent.partners,
        "judge": spent.judge,
        "total": spent.total,
    }
    for name, used in kinds.items():
        tokens = used.prompt_tokens + used.completion_tokens
        console.print(f"{name}: {used.requests} requests, {tokens:,} tokens, {_dollars(used.cost)}")
    if spent.tokens_per_episode is not None:
        cost = _dollars(spent.cost_per_episode)
        console.print(f"an episode: {spent.tokens_per_episode:,.0f} tokens, {cost}")
    _print_published(console, result)


def _print_measures(console: Console, group: Group) -> None:
    from rich.table import Table

    table = Table("mean [95 % interval]", "agent", "partner", "values", "scenarios")
    shown = {name: group.scores[name] for name in _ordered(group.scores)}
    for name, own in (shown | group.outcomes | group.conversation).items():
        partner = _cell(group.partner.get(name)) if name in shown else ""
        table.add_row(name, str(own), partner, str(own.count), str(own.scenarios))
    console.print(table)


def _print_groups(console: Console, title: str, groups: Mapping[str, Group]) -> None:
    from rich.table import Table

    shown = [name for name in _MAIN if any(name in group.scores for group in groups.values())]
    agreed = any(group.outcomes for group in groups.values())
    table = Table(title, "episodes", "scenarios", *shown, *(["agreement"] if agreed else []))
    for name, group in groups.items():
        cells = [_cell(group.scores.get(measure)) for measure in shown]
        if agreed:
            cells.append(_cell(group.outcomes.get("agreement")))
        table.add_row(_visible(name), str(group.episodes), str(group.scenarios), *cells)
    console.print(table)


def _print_published(console: Console, result: Result) -> None:
    from rich.table import Table

    console.print(result.published.note, soft_wrap=True)
    if not result.published.rows:
        return
    config = result.config
    table = Table("model", "judge", "partner", "episodes", "notes")
    for short in _SHORT.values():
        table.add_column(short, justify="right")
    ours = {name: estimate.mean for name, estimate in result.overall.scores.items()}
    partners = ", ".join(config.partners) or "itself"
    table.add_row(
        config.agent, config.judge, partners, str(result.counts.scored), "ours", *_means(ours)
    )
    table.add_section()
    notes: dict[tuple[str, tuple[str, ...]], int] = {}
    for row in result.published.rows:
        number = notes.setdefault((row.source, row.differences), len(notes) + 1)
        table.add_row(*_about(row), str(number), *_means(row.scores))
    console.print(table)
    for (source, differences), number in notes.items():
        console.print(f"{number}  {source}", soft_wrap=True)
        for difference in differences:
            console.print(f"   - {difference}", soft_wrap=True)


def _about(row: PublishedRow) -> list[str]:
    episodes = "?" if row.episodes is None else str(row.episodes)
    return [row.model, row.judge or "?", row.partner, episodes]


def _means(scores: Mapping[str, float]) -> list[str]:
    return [f"{scores[name]:.2f}" if name in scores else "-" for name in _SHORT]


# --- two agents


def _print_comparison(console: Console, found: Comparison) -> None:
    from rich.table import Table

    console.print(f"first:  {found.first}\nsecond: {found.second}", soft_wrap=True)
    console.print(
        f"{found.pairs} pairs of scored episodes, {found.without_score} pairs without a score; "
        f"unpaired: {found.unpaired_first} of the first, {found.unpaired_second} of the second; "
        f"judge: {found.judge or 'none'}",
        soft_wrap=True,
    )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if not found.differences:
        return
    table = Table("measure", "pairs", "first", "second", "second - first")
    for heading in ("Cohen's d", "Cliff's delta", "p", "p (Holm)"):
        table.add_column(heading, justify="right")
    by_name = {each.measure: each for each in found.differences}
    for name in _ordered(by_name):
        each = by_name[name]
        table.add_row(
            name,
            str(each.difference.count),
            f"{each.first:.2f}",
            f"{each.second:.2f}",
            str(each.difference),
            "-" if each.cohens_d is None else f"{each.cohens_d:.2f}",
            f"{each.cliffs_delta:.2f}",
            *("-" if p is None else f"{p:.4f}" for p in (each.p, each.p_holm)),
        )
    console.print(table)


# --- cells


def _ordered(names: Iterable[str]) -> list[str]:
    """The seven and their mean as papers order them, then whatever else there is."""
    found = list(names)
    return [n for n in _SHORT if n in found] + [n for n in found if n not in _SHORT]


def _cell(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _dollars(cost: float | None) -> str:
    return "cost unknown" if cost is None else f"${cost:.4f}"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()
