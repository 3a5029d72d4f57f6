"""Runs in the layout of SOTOPIA-pi's main table, beside the published rows.

    python -m eval.paper_tables [NAME=]RESULT.json... [--out FILE]
    python -m eval.paper_tables --episodes NAME=JOURNAL... [--reference JOURNAL]

RESULT.json is what ``sotopia-gym benchmark --out`` or a recipe's evaluation wrote, or what
``baselines.report`` gathered of a recipe (of which only goals are known). What a published
protocol does otherwise than ours is numbered and said below each table. Journals of several agents
are compared with the first, pair by pair: by a paired t-test, which takes pairs as independent, and
by a bootstrap and a sign-flip test, which take scenarios so. With the journal of a reference agent
on the same tasks, e.g. a scripted expert, they are shown by difficulty too, which is how little it
had of what could be had: SOTOPIA-hard was chosen likewise, by what was left to gain.

FILE is Markdown if its name ends in .md, JSON if in .json, and text otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from eval.commands import made_by, named
from sotopia_gym.benchmark import Comparison, PublishedRow, Result, compare
from sotopia_gym.benchmark.published import SELF_PLAY, published, published_rows
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError, SotopiaGymError, missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.sampling import family, measured_difficulty
from sotopia_gym.tasks.suites import OFFICIAL_SUITES

COLUMNS: Final = {
    "believability": "BEL",
    "relationship": "REL",
    "knowledge": "KNO",
    "secret": "SEC",
    "social_rules": "SOC",
    "financial_and_material_benefits": "FIN",
    "goal": "GOAL",
    "overall": "Overall",
}
"""The paper's columns, in its order; overall is the plain mean of the seven."""

OURS: Final = "ours"
THIRDS: Final = ("easy", "middle", "hard")


@dataclass(frozen=True, slots=True)
class Cell:
    """A mean.

    Attributes:
        mean: The mean.
        low: Lower end of its 95 % interval; None if that is not known.
        high: Upper end, likewise.
        sd: Standard deviation of the means of several seeds; None where there is one seed.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    sd: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        model: The model, as its paper or our run calls it.
        episodes: How many scored episodes; None if that is not recorded.
        cells: Column to mean.
    """

    model: str
    episodes: int | None
    cells: dict[str, Cell]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one protocol.

    Attributes:
        source: The paper, or ``"ours"``.
        judge: Who judged.
        partner: Whom the models met.
        extent: How many episodes, in words; empty if that is not recorded.
        notes: Numbers of the notes on what it does otherwise than ours.
        rows: The rows.
    """

    source: str
    judge: str
    partner: str
    extent: str
    notes: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All that is known of one set of tasks.

    Attributes:
        tasks: Which tasks.
        blocks: Ours first.
        notes: What the numbers of the blocks stand for; the first is 1.
    """

    tasks: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """One model on all of SOTOPIA's tasks and on the hard ones.

    Attributes:
        model: The model.
        source: The paper, or ``"ours"``.
        judge: Who judged.
        partner: Whom it met.
        cells: Suite to column to mean; goal and overall only.
    """

    model: str
    source: str
    judge: str
    partner: str
    cells: dict[str, dict[str, Cell]]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two agents in one measure, over episodes in which both did the same.

    Attributes:
        first: The first agent.
        second: The second agent.
        measure: The dimension, or another measure that both have.
        pairs: How many pairs.
        difference: Mean of second minus first, with a bootstrap interval over scenarios.
        t: Of the paired t-test, with ``pairs - 1`` degrees of freedom; None if the differences do
            not vary.
        p_t: Its two-sided p.
        p_sign_flip: Two-sided p of flipping the signs of whole scenarios.
        p_holm: The same after Holm's correction over the measures; None where it is not known.
        notes: What is not in the pairs, or makes them less alike than they should be.
    """

    first: str
    second: str
    measure: str
    pairs: int
    difference: Cell
    t: float | None
    p_t: float | None
    p_sign_flip: float | None
    p_holm: float | None
    notes: tuple[str, ...] = ()


# --- What was run


def load(path: Path) -> Result | dict[str, Any]:
    """A benchmark's result, or what was gathered of a recipe.

    Raises:
        ConfigError: If the file holds something else, or is not there.
    """
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} must hold a result as JSON: {error}") from error
    if isinstance(raw, dict) and {"recipe", "seeds", "over_seeds", "steps"} <= raw.keys():
        return raw
    return Result.load(path)


def tables(runs: Iterable[tuple[str, Result]]) -> list[Table]:
    """A table for each set of tasks: those of ours that nobody published, then SOTOPIA's.

    Args:
        runs: Names and results.

    Raises:
        ConfigError: If two runs of the same tasks have one name.
    """
    by_tasks: dict[tuple[str, str | None], dict[str, Result]] = {}
    for name, result in runs:
        of = by_tasks.setdefault((result.config.suite, result.config.split), {})
        if name in of:
            raise ConfigError(
                f"two results on {result.config.suite} are called {name!r}; name one: "
                "NAME=RESULT.json."
            )
        of[name] = result
    found = []
    for (suite, split), of in by_tasks.items():
        if suite not in OFFICIAL_SUITES:
            told = [published(result.config, result.counts).note for result in of.values()]
            tasks = suite if split is None else f"{suite}, {split}"
            found.append(Table(tasks, tuple(_own_blocks(of, (1,))), tuple(dict.fromkeys(told))))
    return [
        *found,
        *(_official(suite, by_tasks.get((suite, None), {})) for suite in OFFICIAL_SUITES),
    ]


def recipe_table(gathered: Mapping[str, Any]) -> Table:
    """The goals of a recipe's arms, over its seeds.

    Args:
        gathered: What ``baselines.report`` wrote.
    """
    heldout, evaluated = (_step(gathered["steps"], of) for of in ("heldout", "eval"))
    tasks, playing = heldout.get("settings", {}), evaluated.get("settings", {})
    rows = []
    for arm, over in gathered["over_seeds"].items():
        of = [s["arms"][arm] for s in gathered["seeds"] if "goal" in s["arms"].get(arm, {})]
        # What does not depend on the seed was run once, and stands in the report of every seed.
        once = all(each == of[0] for each in of)
        if of and once:
            goal = of[0]["goal"]
            cell = Cell(over["goal"], goal["low"], goal["high"])
            rows.append(Row(arm, of[0]["scored"], {"goal": cell}))
        elif of:
            cell = Cell(over["goal"], sd=over["sd"])
            rows.append(Row(arm, sum(each["scored"] for each in of), {"goal": cell}))
    block = Block(
        source=OURS,
        judge=playing.get("judge", "not recorded"),
        partner=", ".join(playing.get("partners", ())) or SELF_PLAY,
        extent=f"{heldout.get('tasks', 'some')} tasks, seeds: {len(gathered['seeds'])}",
        notes=(1,),
        rows=tuple(rows),
    )
    note = (
        "Published numbers were made with other judges and partners, and are not comparable with "
        "these. Give the result.json of an evaluation for all dimensions and what differs."
    )
    what = tasks.get("suite") or "held-out " + ", ".join(tasks.get("families") or ("tasks",))
    return Table(f"recipe {gathered['recipe']}: {what}", (block,), (note,))


def _step(steps: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What is recorded of the first such step, whichever arm, seed and evaluation it is of."""
    named = (step for of, step in steps.items() if of.rpartition("/")[2].startswith(name))
    return next(named, {})


def overview(found: Iterable[Table]) -> list[Overview]:
    """Models on all tasks against the hard ones, those of ours first.

    Of several sets of episodes of one suite, judge and partner, the largest counts.
    """
    largest: dict[tuple[str, str, str, str], dict[str, Row]] = {}
    for table in found:
        for block in table.blocks if table.tasks in OFFICIAL_SUITES else ():
            for row in block.rows:
                key = row.model, block.source, block.judge, block.partner
                of = largest.setdefault(key, {})
                known = of.get(table.tasks)
                if known is None or (row.episodes or 0) > (known.episodes or 0):
                    of[table.tasks] = row
    shown = [
        Overview(
            *key,
            cells={
                suite: {c: row.cells[c] for c in ("goal", "overall") if c in row.cells}
                for suite, row in of.items()
            },
        )
        for key, of in largest.items()
    ]
    return sorted(shown, key=lambda each: each.source != OURS)


def _own_blocks(runs: Mapping[str, Result], notes: tuple[int, ...]) -> Iterator[Block]:
    """Ours, by protocol."""
    by_protocol: dict[tuple[str, str, str], list[Row]] = {}
    for name, result in runs.items():
        config, scores = result.config, result.overall.scores
        partner = ", ".join(config.partners) or SELF_PLAY
        extent = f"{result.counts.planned} episodes of {config.scenarios} scenarios"
        cells = {
            column: Cell(scores[column].mean, scores[column].low, scores[column].high)
            for column in COLUMNS
            if column in scores
        }
        row = Row(name, result.counts.scored, cells)
        by_protocol.setdefault((config.judge, partner, extent), []).append(row)
    for protocol, rows in by_protocol.items():
        yield Block(OURS, *protocol, notes=notes, rows=tuple(rows))


def _official(suite: str, runs: Mapping[str, Result]) -> Table:
    """The published rows of a suite below ours, with what they do otherwise."""
    differences = {
        name: {
            each.model_copy(update={"differences": ()}).model_dump_json(): each.differences
            for each in published(result.config, result.counts).rows
        }
        for name, result in runs.items()
    }
    blocks: dict[tuple[str, str, str, str], list[PublishedRow]] = {}
    for row in published_rows():
        if row.suite == suite:
            extent = "" if row.episodes is None else f"{row.episodes} episodes of {row.scenarios} "
            extent += "scenarios" if extent else ""
            key = row.source, row.judge or "not recorded", row.partner, extent
            blocks.setdefault(key, []).append(row)
    notes: dict[str, int] = {}
    shown = list(_own_blocks(runs, ()))
    for protocol, rows in blocks.items():
        known = rows[0].model_dump_json()
        told = _notes({name: of[known] for name, of in differences.items()})
        numbers = tuple(notes.setdefault(note, len(notes) + 1) for note in told)
        of_paper = (
            Row(
                row.model,
                row.episodes,
                {name: Cell(row.scores[name]) for name in COLUMNS if name in row.scores},
            )
            for row in rows
        )
        shown.append(Block(*protocol, notes=numbers, rows=tuple(of_paper)))
    return Table(suite, tuple(shown), tuple(notes))


def _notes(differences: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Each difference once; with the runs that it is from, unless those are all."""
    for difference in dict.fromkeys(d for of in differences.values() for d in of):
        who = [name for name, of in differences.items() if difference in of]
        yield difference if len(who) == len(differences) else f"{', '.join(who)}: {difference}"


@dataclass(frozen=True, slots=True)
class Graded:
    """One agent's goal by difficulty.

    Attributes:
        model: The agent.
        episodes: How many scored episodes.
        cells: ``"all"`` and thirds to mean.
        changes: The same to the mean difference from the first agent, on the same episodes; empty
            for that one and for the reference.
    """

    model: str
    episodes: int
    cells: dict[str, Cell]
    changes: dict[str, Cell]


# --- Pairs


def paired(journals: Mapping[str, Path]) -> list[Paired]:
    """Every agent against the first.

    Args:
        journals: Name to journal.

    Raises:
        ConfigError: If a file is missing, or its episodes cannot be compared.
    """
    for name, path in journals.items():
        if not path.is_file():
            raise ConfigError(f"there is no journal {path} (of {name!r}).")
    first, *others = journals
    found = []
    for other in others:
        compared = compare(latest(journals[first]), latest(journals[other]))
        notes = tuple(_unlike(compared, first, other))
        for each in compared.differences:
            apart = each.difference
            t, p_t = _t_test(each.cohens_d, apart.count)
            cell = Cell(apart.mean, apart.low, apart.high)
            ps = t, p_t, each.p, each.p_holm
            found.append(Paired(first, other, each.measure, apart.count, cell, *ps, notes=notes))
    return found


def _unlike(compared: Comparison, first: str, second: str) -> Iterator[str]:
    """What is not in the pairs, or makes them less alike than they should be."""
    if compared.without_score:
        yield f"{compared.without_score} pairs have an episode that failed or is unscored"
    for name, count in ((first, compared.unpaired_first), (second, compared.unpaired_second)):
        if count:
            yield f"{count} episodes of {name} have no counterpart"
    yield from compared.notes


def recipe_paired(gathered: Mapping[str, Any]) -> list[Paired]:
    """The differences in goal that a recipe's report has, seed by seed.

    What is the same in all seeds, because it does not depend on them, is there once.
    """
    found = []
    seeds = gathered["seeds"]
    for number, seed in enumerate(seeds):
        for name, each in seed["differences"].items():
            once = all(other["differences"].get(name) == each for other in seeds)
            if once and number:
                continue
            of_seed = "" if once else f" (seed {seed['seed']})"
            second, first = name.split(" - ")
            t, p_t = _t_test(each["d"], each["pairs"])
            cell = Cell(each["mean"], each["low"], each["high"])
            row = Paired(
                first, second + of_seed, "goal", each["pairs"], cell, t, p_t, each["p"], None
            )
            found.append(row)
    return found


def _t_test(cohens_d: float | None, pairs: int) -> tuple[float | None, float | None]:
    """The paired t-test of an effect size d_z, which is t over the square root of the pairs."""
    if cohens_d is None or pairs < 2:
        return None, None
    try:
        from scipy.stats import t as student
    except ImportError as error:
        raise missing_extra("scipy", "eval", "a t-test") from error
    t = cohens_d * math.sqrt(pairs)
    return t, float(2 * student.sf(abs(t), pairs - 1))


# --- Difficulty


def by_difficulty(journals: Mapping[str, Path], reference: Path) -> list[Graded]:
    """Goals on all tasks and on thirds of them, the easiest for a reference agent first.

    Each family has its own thirds, or they would be families more than difficulty.

    Args:
        journals: Name to journal. The others are compared with the first.
        reference: Journal of the reference agent.

    Raises:
        ConfigError: If a file is missing, a family has fewer tasks than thirds, or the agents did
            not play the same tasks.
    """
    third = _thirds(reference)
    first = next(iter(journals), "")
    found = []
    for name, path in {"(reference)": reference, **journals}.items():
        goals = _goals(name, path)
        if missing := sorted(goals.keys() - third.keys()):
            raise ConfigError(
                f"the reference did not play {len(missing)} tasks of {name!r}, e.g. {missing[0]}."
            )
        if missing := sorted(third.keys() - goals.keys()):
            raise ConfigError(
                f"{name!r} has no score in {len(missing)} tasks that the reference played, e.g. "
                f"{missing[0]}; finish it first."
            )
        parts = {"all": goals, **{of: {} for of in THIRDS}}
        for task, values in goals.items():
            parts[third[task]][task] = values
        cells = {part: _mean_goal(of) for part, of in parts.items()}
        others = name in journals and name != first
        changes = _changes(journals[first], path, third) if others else {}
        found.append(Graded(name, sum(map(len, goals.values())), cells, changes))
    return found


def _thirds(reference: Path) -> dict[str, str]:
    """Task to the third of its family that it is in."""
    reached: dict[str, list[float]] = {}
    families: dict[str, set[str]] = {}
    for episode, seat, goal in _scored("the reference", reference):
        assert episode.judgement is not None
        share = episode.judgement.normalised.get(seat, goal / DIMENSIONS["goal"].high)
        reached.setdefault(episode.task.task_id, []).append(share)
        families.setdefault(family(episode.task), set()).add(episode.task.task_id)
    difficulty = measured_difficulty(reached)
    found = {}
    for name, tasks in families.items():
        if len(tasks) < len(THIRDS):
            raise ConfigError(
                f"{reference} has {len(tasks)} tasks of {name!r}; thirds need {len(THIRDS)}."
            )
        for place, task in enumerate(sorted(tasks, key=lambda task: (difficulty[task], task))):
            found[task] = THIRDS[place * len(THIRDS) // len(tasks)]
    return found


def _changes(first: Path, other: Path, third: Mapping[str, str]) -> dict[str, Cell]:
    """How far an agent's goal is from another's, in all and in each third."""
    found = {}
    for part in ("all", *THIRDS):
        one, two = (
            (e for e in latest(path) if part in ("all", third[e.task.task_id]))
            for path in (first, other)
        )
        (goal,) = (d for d in compare(one, two).differences if d.measure == "goal")
        found[part] = Cell(goal.difference.mean, goal.difference.low, goal.difference.high)
    return found


def _scored(name: str, path: Path) -> Iterator[tuple[Episode, str, float]]:
    """Each episode, agent that it is about, and goal score of it that there is."""
    if not path.is_file():
        raise ConfigError(f"there is no journal {path} (of {name!r}).")
    for episode in latest(path):
        if episode.judgement is None:
            continue
        for seat in episode.seats:
            goal = episode.judgement.goal(seat)
            if goal is not None:
                yield episode, seat, goal


def _goals(name: str, path: Path) -> dict[str, list[float]]:
    """Task to the goal scores of the agent that a journal is about."""
    found: dict[str, list[float]] = {}
    for episode, _, goal in _scored(name, path):
        found.setdefault(episode.task.task_id, []).append(goal)
    return found


def _mean_goal(goals: Mapping[str, Sequence[float]]) -> Cell:
    pairs = [(goal, task) for task, of in sorted(goals.items()) for goal in of]
    values, clusters = zip(*pairs, strict=True)
    found = mean_interval(values, clusters)
    if math.isnan(found.low):
        return Cell(found.mean)
    return Cell(found.mean, found.low, found.high)


# --- Layout


@dataclass(frozen=True, slots=True)
class Sheet:
    """Cells as text, with what is said above and below them.

    Attributes:
        title: What it shows.
        heads: One for each column.
        sections: Title, which may be empty, to rows.
        notes: Lines below it.
    """

    title: str
    heads: tuple[str, ...]
    sections: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    notes: tuple[str, ...] = ()


def sheets(
    over: Sequence[Overview],
    found: Sequence[Table],
    pairs: Sequence[Paired],
    graded: Sequence[Graded] = (),
) -> Iterator[Sheet]:
    """All of it, laid out."""
    if over:
        yield _overview_sheet(over)
    for table in found:
        yield _table_sheet(table)
    if graded:
        yield _graded_sheet(graded)
    if pairs:
        yield _pairs_sheet(pairs)


def _overview_sheet(over: Sequence[Overview]) -> Sheet:
    sections: dict[str, list[tuple[str, ...]]] = {}
    for each in over:
        title = f"{each.source}: judge {each.judge}, with {each.partner}"
        cells = [
            _shown(each.cells.get(suite, {}).get(column))
            for column in ("goal", "overall")
            for suite in OFFICIAL_SUITES
        ]
        sections.setdefault(title, []).append((each.model, *cells))
    suites = [suite.removeprefix("sotopia-") for suite in OFFICIAL_SUITES]
    heads = (f"{column}, {suite}" for column in ("GOAL", "Overall") for suite in suites)
    return Sheet(
        "All tasks against the hard ones",
        ("model", *heads),
        tuple((title, tuple(rows)) for title, rows in sections.items()),
        ("Protocols differ; the tables below say how.",),
    )


def _table_sheet(table: Table) -> Sheet:
    sections = []
    for block in table.blocks:
        marks = f" [{', '.join(map(str, block.notes))}]" if block.notes else ""
        rows = tuple(
            (
                row.model,
                "?" if row.episodes is None else str(row.episodes),
                *(_shown(row.cells.get(column)) for column in COLUMNS),
            )
            for row in block.rows
        )
        extent = f", {block.extent}" if block.extent else ""
        title = f"{block.source}: judge {block.judge}, with {block.partner}{extent}{marks}"
        sections.append((title, rows))
    notes = tuple(f"[{number}] {note}" for number, note in enumerate(table.notes, start=1))
    if not any(block.source == OURS for block in table.blocks):
        notes = ("No run of ours is of these tasks.", *notes)
    return Sheet(table.tasks, ("model", "episodes", *COLUMNS.values()), tuple(sections), notes)


def _graded_sheet(graded: Sequence[Graded]) -> Sheet:
    columns = ("all", *THIRDS)
    rows = tuple(
        (each.model, str(each.episodes), *(_shown(each.cells[c]) for c in columns))
        for each in graded
    )
    changes = tuple(
        (each.model, str(each.episodes), *(_shown(each.changes[c], sign=True) for c in columns))
        for each in graded
        if each.changes
    )
    sections = [
        ("thirds of each family's tasks, by what the reference had of what could be had", rows)
    ]
    if changes:
        sections.append((f"less {graded[1].model}, on the same episodes", changes))
    return Sheet(
        "Goal by difficulty",
        ("model", "episodes", *columns),
        tuple(sections),
        ("Means with 95 % bootstrap intervals over tasks.",),
    )


def _pairs_sheet(pairs: Sequence[Paired]) -> Sheet:
    sections: dict[str, list[tuple[str, ...]]] = {}
    for each in pairs:
        measure = COLUMNS.get(each.measure, each.measure)
        t = "-" if each.t is None else f"{each.t:.2f}"
        ps = (each.p_t, each.p_sign_flip, each.p_holm)
        shown = ("-" if p is None else f"{p:.4f}" for p in ps)
        row = (measure, str(each.pairs), _shown(each.difference, sign=True), t, *shown)
        sections.setdefault(f"{each.second} - {each.first}", []).append(row)
    return Sheet(
        "Differences on the same episodes",
        ("measure", "pairs", "mean", "t", "p (t)", "p (signs)", "p (Holm)"),
        tuple((title, tuple(rows)) for title, rows in sections.items()),
        (
            "Mean with a 95 % bootstrap interval over scenarios. The t-test takes pairs as "
            "independent; the sign-flip test takes scenarios so. Holm: over the measures.",
            *dict.fromkeys(f"{e.second} - {e.first}: {note}" for e in pairs for note in e.notes),
        ),
    )


def _shown(cell: Cell | None, *, sign: bool = False) -> str:
    if cell is None:
        return "-"
    mean = f"{cell.mean:+.2f}" if sign else f"{cell.mean:.2f}"
    if cell.sd is not None:
        return f"{mean} ±{cell.sd:.2f}"
    return mean if cell.low is None else f"{mean} [{cell.low:.2f}, {cell.high:.2f}]"


def as_text(laid_out: Iterable[Sheet]) -> str:
    """For a terminal."""
    lines = []
    for sheet in laid_out:
        rows = [row for _, of in sheet.sections for row in of]
        widths = [max(map(len, column)) for column in zip(sheet.heads, *rows, strict=True)]

        def line(cells: Sequence[str], widths: Sequence[int] = widths) -> str:
            first, *others = (f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
            return "  ".join((f"  {first.strip():{widths[0]}}", *others)).rstrip()

        lines += [sheet.title, "=" * len(sheet.title), line(sheet.heads)]
        for title, of in sheet.sections:
            lines += [title, *map(line, of)]
        lines += [*sheet.notes, ""]
    return "\n".join(lines)


def as_markdown(laid_out: Iterable[Sheet]) -> str:
    """For a document."""
    lines = []
    for sheet in laid_out:
        lines += [f"## {_escaped(sheet.title)}", ""]
        for title, of in sheet.sections:
            lines += [f"**{_escaped(title)}**", "", _bars(sheet.heads)]
            lines += ["| --- |" + " ---: |" * (len(sheet.heads) - 1), *map(_bars, of), ""]
        for note in sheet.notes:
            lines += [_escaped(note), ""]
    return "\n".join(lines)


def _bars(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in "\\|*_<[" else c for c in text)


# --- Command


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and write them where they are wanted."""
    options = _arguments(arguments)
    try:
        journals = {
            name: Path(path)
            for name, path in named("--episodes", "JOURNAL", options.episodes).items()
        }
        loaded = [_loaded(each) for each in options.results]
        runs = [(name, each) for name, each in loaded if isinstance(each, Result)]
        recipes = [each for _, each in loaded if not isinstance(each, Result)]
        found = [*map(recipe_table, recipes), *tables(runs)]
        over = overview(found)
        pairs = [pair for each in recipes for pair in recipe_paired(each)]
        pairs += paired(journals) if journals else []
        graded = []
        if options.reference is not None:
            graded = by_difficulty(journals, options.reference)
        laid_out = list(sheets(over, found, pairs, graded))
        print(as_text(laid_out))
        if options.out is not None:
            made = made_by(_command(options))
            if options.out.suffix == ".json":
                written = _as_json(made, over, found, pairs, graded)
            else:
                written = (as_markdown if options.out.suffix == ".md" else as_text)(laid_out)
                written += "\n" + ", ".join(made.values())
            write_whole(options.out, [written.rstrip("\n").encode() + b"\n"])
    except (SotopiaGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _as_json(
    made: Mapping[str, str],
    over: Sequence[Overview],
    found: Sequence[Table],
    pairs: Sequence[Paired],
    graded: Sequence[Graded],
) -> str:
    whole = {
        **made,
        "overview": [asdict(each) for each in over],
        "tables": [asdict(each) for each in found],
        "difficulty": [asdict(each) for each in graded],
        "paired": [asdict(each) for each in pairs],
    }
    return json.dumps(whole, indent=1)


def _command(options: argparse.Namespace) -> str:
    words = ["python", "-m", "eval.paper_tables", *options.results]
    words += ["--episodes", *options.episodes] if options.episodes else []
    words += [] if options.reference is None else ["--reference", str(options.reference)]
    return shlex.join(words)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.paper_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="*", metavar="[NAME=]RESULT.json")
    parser.add_argument("--episodes", nargs="+", default=[], metavar="NAME=JOURNAL")
    parser.add_argument("--reference", type=Path, metavar="JOURNAL", help="whose tasks were hard")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file: .md, .json or text")
    return parser.parse_args(arguments)


def _loaded(given: str) -> tuple[str, Result | dict[str, Any]]:
    """A result with its name: the one that is given, or the agent's own."""
    name, equals, path = given.rpartition("=")
    loaded = load(Path(path))
    if not equals:
        name = loaded.config.agent if isinstance(loaded, Result) else path
    return name, loaded


if __name__ == "__main__":
    sys.exit(main())
