"""Is an agent that was trained on social goals safe, as SOTOPIA-pi asks of its own?

    python -m eval.safety --models base=FOLDER bc_sr=FOLDER --out DIR [--json FILE] [--html FILE]

Each model plays both roles of 24 dilemmas against the same partner. What it did is coded by rules
where that is exact (toxic words; whether a secret was told) and by a model for the rest. In DIR is
also a blank sheet.csv for people, whose filled copies (``--filled``) are set beside. The codebook
is docs/safety.md.

A model is a folder of transformers or any spec of an agent; the last is compared with the first,
episode by episode. Episodes and codes are kept in DIR: an interrupted run goes on where it stopped.
Use another DIR for models that were trained anew.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from eval import safety_page
from eval.agreement import Estimate
from eval.commands import made_by, named, rounded
from eval.judging import Progress
from eval.safety_coding import (
    Coder,
    Codes,
    Item,
    agreement,
    by_rules,
    read_sheet,
    sheet,
)
from eval.safety_suite import MAX_TURNS, SCRIPT, Dilemma, load, player
from sotopia_gym import Episode, Rollout, Rules, Suite
from sotopia_gym.benchmark.published import published_safety
from sotopia_gym.errors import SotopiaGymError
from sotopia_gym.files import write_whole
from sotopia_gym.llm.spec import chat_model
from sotopia_gym.stats import mean_interval

RULES, PEOPLE = "rules", "people"
"""Whose codes they are, where they are not a model's."""

NOBODY: Final = "none"
"""The spec of no coder."""


@dataclass(frozen=True, slots=True)
class Coded:
    """One code.

    Attributes:
        model: The label of who played.
        kind: The dilemma's kind.
        task: The dilemma; codes of one depend on each other.
        role: The role that was coded.
        repetition: How often the same was played before.
        source: Whose code it is.
        measure: What was coded.
        value: The code.
    """

    model: str
    kind: str
    task: str
    role: str
    repetition: int
    source: str
    measure: str
    value: float


def estimates(codes: Iterable[Coded]) -> dict[str, dict[str, Any]]:
    """Means with 95 % intervals, for which dilemmas are resampled.

    Returns:
        Row (role, measure, source; joined by " / ") to value, low, high and count.
    """
    rows: dict[str, list[Coded]] = defaultdict(list)
    for code in codes:
        rows[_row(code)].append(code)
    return {row: _estimate([c.value for c in of], [c.task for c in of]) for row, of in rows.items()}


def changes(codes: Iterable[Coded], first: str, last: str) -> dict[str, dict[str, Any]]:
    """Mean of last minus first over the same episodes of both, as :func:`estimates`."""
    pairs: dict[str, dict[tuple[str, int], dict[str, float]]] = defaultdict(dict)
    for code in codes:
        job = (code.task, code.repetition)
        pairs[_row(code)].setdefault(job, {})[code.model] = code.value
    found = {}
    for row, jobs in pairs.items():
        both = {job: of for job, of in jobs.items() if first in of and last in of}
        if both:
            apart = [of[last] - of[first] for of in both.values()]
            found[row] = _estimate(apart, [task for task, _ in both])
    return found


def _row(code: Coded) -> str:
    return f"{code.role} / {code.measure} / {code.source}"


def _estimate(values: Sequence[float], tasks: Sequence[str]) -> dict[str, Any]:
    return {**asdict(Estimate.of(mean_interval(values, tasks))), "count": len(values)}


# --- playing and coding ---------------------------------------------------------------------


def played(
    model: str,
    spec: str,
    suite: Suite,
    dilemmas: Mapping[str, Dilemma],
    options: argparse.Namespace,
) -> list[Episode]:
    """A model's episodes, complete or not; those of an earlier run are not played again."""
    agent = player(spec, model, dilemmas.values())
    partner = player(options.partner, "partner", dilemmas.values())
    try:
        rollout = Rollout(
            suite,
            agent,
            partner,
            judge="none",
            repetitions=options.repetitions,
            seed=options.seed,
            rules=Rules(max_turns=MAX_TURNS),
            journal=options.out / f"{model}.jsonl",
        )
        return list(rollout)
    finally:
        agent.close()
        partner.close()


def code_all(coder: Coder, items: Mapping[str, Item], progress: Progress) -> dict[str, Codes]:
    """A model's codes by item, kept as they come; empty where it gave none that can be read."""
    for done, (number, item) in enumerate(items.items(), start=1):
        if number not in progress.done:
            codes, error = coder.code(item.episode, item.dilemma, item.role)
            progress.add({"id": number, "codes": codes, "error": error[:200]})
            if done % 20 == 0:
                print(f"coded {done} of {len(items)}", flush=True)
    return {number: progress.done[number]["codes"] for number in items}


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Play, code and summarise."""
    suite, dilemmas = load()
    models = _models(options)
    items: dict[str, Item] = {}
    counts: dict[str, dict[str, int]] = {}
    for model, spec in models.items():
        episodes = played(model, spec, suite, dilemmas, options)
        complete = [episode for episode in episodes if episode.complete]
        counts[model] = {"episodes": len(episodes), "failed": len(episodes) - len(complete)}
        print(f"{model}: {len(complete)} of {len(episodes)} episodes", flush=True)
        for episode in complete:
            dilemma = dilemmas[episode.task.task_id]
            of = [Item(model, episode, dilemma, role) for role in episode.seats]
            items |= {item.number(options.seed): item for item in of}
    write_whole(options.out / "sheet.csv", [sheet(items).encode()])

    rules = {n: by_rules(i.episode, i.dilemma, i.role) for n, i in items.items()}
    people = [read_sheet(path, items) for path in options.filled]
    sources, compared = {RULES: [rules]}, [((PEOPLE, PEOPLE), people[0], of) for of in people[1:]]
    if people:
        sources[PEOPLE] = people
    if options.coder != NOBODY:
        name, codes = _by_model(options, items, suite)
        sources[name] = [codes]
        for model in models:
            counts[model]["uncoded"] = sum(
                item.model == model and not codes[number] for number, item in items.items()
            )
        compared += [((name, RULES), codes, rules)]
        compared += [((name, PEOPLE), codes, of) for of in people]
    found = list(_coded(items, sources))
    first, last = next(iter(models)), list(models)[-1]
    return {
        **made_by(_command(options)),
        "versions": {name: version(name) for name in ("sotopia-gym", "numpy", "glin-profanity")},
        "seed": options.seed,
        "suite": {"dilemmas": len(suite), "version": suite.version, "sha256": suite.sha256},
        "partner": _plain(options.partner),
        "repetitions": options.repetitions,
        "max_turns": MAX_TURNS,
        "coder": options.coder,
        "counts": counts,
        "models": {m: estimates(c for c in found if c.model == m) for m in models},
        "kinds": {
            kind: {m: estimates(c for c in found if (c.model, c.kind) == (m, kind)) for m in models}
            for kind in suite.splits
        },
        "change": {
            "first": first,
            "last": last,
            "rows": changes(found, first, last) if first != last else {},
        },
        "agreement": [{"of": of, "measures": agreement(a, b)} for of, a, b in compared],
        "published": [row.model_dump() for row in published_safety()],
    }


def _by_model(
    options: argparse.Namespace, items: Mapping[str, Item], suite: Suite
) -> tuple[str, dict[str, Codes]]:
    """The name of the coder, and its codes by item."""
    coder = Coder(chat_model(options.coder))
    about = {"coder": coder.name, "prompt": coder.prompt, "suite": suite.sha256}
    path = options.out / ("codes_" + re.sub(r"[^\w.-]+", "-", coder.name) + ".jsonl")
    try:
        return coder.name, code_all(coder, items, Progress(path, about))
    finally:
        coder.close()


def _coded(
    items: Mapping[str, Item], sources: Mapping[str, Sequence[Mapping[str, Codes]]]
) -> Iterator[Coded]:
    """Every code; of several people's the mean."""
    for number, item in items.items():
        for source, coders in sources.items():
            for measure, value in _mean([of.get(number, {}) for of in coders]).items():
                yield Coded(
                    model=item.model,
                    kind=item.dilemma.kind,
                    task=item.dilemma.task.task_id,
                    role=item.role,
                    repetition=item.episode.repetition,
                    source=source,
                    measure=measure,
                    value=value,
                )


def _mean(codes: Sequence[Codes]) -> Codes:
    """Each measure's mean over the coders who coded it."""
    names = dict.fromkeys(name for each in codes for name in each)
    values = {name: [each[name] for each in codes if name in each] for name in names}
    return {name: sum(of) / len(of) for name, of in values.items()}


# --- command --------------------------------------------------------------------------------


def text(found: Mapping[str, Any]) -> str:
    """The result as plain text."""
    lines = []
    for title, heads, rows in safety_page.tables(found):
        widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]
        lines += [title]
        for row in [heads, *rows]:
            cells = (str(c).ljust(w) for c, w in zip(row, widths, strict=True))
            lines.append("  " + "  ".join(cells).rstrip())
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, print it, and write what is asked for."""
    options = _arguments(arguments)
    try:
        found = study(options)
        print(text(found))
        if options.json is not None:
            write_whole(options.json, [json.dumps(rounded(found), indent=1).encode() + b"\n"])
        if options.html is not None:
            write_whole(options.html, [safety_page.page(found).encode()])
    except (SotopiaGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.safety",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    embedded = "local/smollm2-135m"
    parser.add_argument(
        "--models", nargs="+", default=[f"embedded={embedded}"], metavar="NAME=SPEC"
    )
    parser.add_argument("--partner", default=SCRIPT, metavar="SPEC", help=f"{SCRIPT!r} by default")
    parser.add_argument("--coder", default=embedded, metavar="SPEC", help=f"or {NOBODY!r}")
    parser.add_argument("--filled", nargs="+", default=[], type=Path, metavar="CSV")
    parser.add_argument("--repetitions", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all numbers")
    parser.add_argument("--html", type=Path, metavar="FILE", help="file for a page")
    return parser.parse_args(arguments)


def _models(options: argparse.Namespace) -> dict[str, str]:
    """Label to spec; labels are names of files too."""
    return named("--models", "SPEC", options.models, allowed=r"[\w.+-]+")


def _command(options: argparse.Namespace) -> str:
    """The command, with names of files that say nothing of this machine."""
    specs = {name: _plain(spec) for name, spec in _models(options).items()}
    words = ["python", "-m", "eval.safety", "--models", *(f"{n}={s}" for n, s in specs.items())]
    words += ["--partner", _plain(options.partner), "--coder", options.coder]
    words += ["--filled", *(path.name for path in options.filled)] * bool(options.filled)
    words += ["--repetitions", str(options.repetitions), "--seed", str(options.seed)]
    return shlex.join([*words, "--out", "DIR"])


def _plain(spec: str) -> str:
    return "FOLDER" if Path(spec).is_dir() else spec


if __name__ == "__main__":
    sys.exit(main())
