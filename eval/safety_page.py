"""The safety study as tables, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval import pages
from eval.safety_suite import PREVENTING, SET_ON_HARM

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]

ROLES = {SET_ON_HARM: "set on harm", PREVENTING: "preventing"}


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Title, heads and rows of each table."""
    heads = ["role", "measure", "coded by"]
    models, change = found["models"], found["change"]
    last = [f"{change['last']} - {change['first']}"] if change["rows"] else []
    yield (
        "Means with 95 % intervals, dilemmas resampled",
        [*heads, *models, *last],
        [
            [
                *_name(row),
                *(_shown(models[model].get(row)) for model in models),
                *([_shown(change["rows"].get(row), sign=True)] if last else []),
            ]
            for row in _rows(models)
        ],
    )
    for kind, of in found["kinds"].items():
        rows = [
            [*_name(row), *(_shown(of[model].get(row)) for model in models)] for row in _rows(of)
        ]
        yield f"Kind: {kind}", [*heads, *models], rows
    for each in found["agreement"]:
        yield (
            f"How far {each['of'][0]} and {each['of'][1]} agree",
            ["measure", "pairs", "first", "second", "equal", "Krippendorff's alpha"],
            [
                [measure, str(of["pairs"]), *(_n(of[key]) for key in _AGREEMENT)]
                for measure, of in each["measures"].items()
            ],
        )
    published = found["published"]
    coded = [(role, measure) for role, of in published[0]["roles"].items() for measure in of]
    yield (
        "Published, by another protocol: one task, other coders, partners and definitions",
        ["role", "measure", *(row["model"] for row in published)],
        [
            [ROLES[r], m.replace("_", " "), *(_n(row["roles"][r][m]) for row in published)]
            for r, m in coded
        ],
    )
    names = sorted({name for of in found["counts"].values() for name in of})
    yield (
        "Episodes",
        ["model", *names],
        [[model, *(str(of.get(n, "-")) for n in names)] for model, of in found["counts"].items()],
    )


_AGREEMENT = ("first", "second", "equal", "alpha")


def page(found: Mapping[str, Any]) -> str:
    """The study as one HTML page that needs no network.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    told = ", ".join(f"{key} {found[key]}" for key in ("partner", "coder", "repetitions", "seed"))
    parts = [
        "<h1>Safety</h1>",
        f"<p><code>{pages.escaped(found['command'])}</code></p>",
        f"<p>{found['suite']['dilemmas']} dilemmas, both roles, up to {found['max_turns']} turns; "
        f"{pages.escaped(told)}. {found['date']}, {pages.escaped(found['machine'])}.</p>",
        '<p class="note">Shares of episodes from 0 to 1; toxic words and solutions are numbers an '
        "episode. The codebook is docs/safety.md. Codes by a model are as good as its agreement "
        "with rules and people below, and no better.</p>",
        _figure(found),
    ]
    for title, heads, rows in tables(found):
        parts += [f"<h2>{pages.escaped(title)}</h2>", pages.table(heads, rows)]
    return pages.document("Safety", parts)


def _figure(found: Mapping[str, Any]) -> str:
    models = found["models"]
    rows = [row for row in _rows(models) if row.split(" / ")[1] not in ("toxic_words", "solutions")]
    drawn = pages.plot(8, 0.6 + 0.4 * len(rows))
    axes = drawn.subplots()
    for number, (model, of) in enumerate(models.items()):
        shade = 0.2 + 0.8 * (number + 1) / len(models)
        for place, row in enumerate(rows):
            if row not in of:
                continue
            value, low, high = (of[row][key] for key in ("value", "low", "high"))
            height = place + 0.6 * ((number + 0.5) / len(models) - 0.5)
            label = model if place == 0 else None
            axes.plot([value], [height], "o", color=pages.BLUE, alpha=shade, label=label)
            if low is not None:
                axes.plot([low, high], [height, height], color=pages.BLUE, alpha=shade)
    axes.set_yticks(range(len(rows)), [", ".join(_name(row)) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of episodes")
    axes.legend()
    return pages.figure(drawn, "Shares of episodes with 95 % intervals, dilemmas resampled.")


def _rows(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """All rows, by role and measure."""
    return sorted({row for of in models.values() for row in of})


def _name(row: str) -> list[str]:
    role, measure, source = row.split(" / ")
    return [ROLES[role], measure.replace("_", " "), source]


def _shown(of: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if of is None:
        return "-"
    shown = f"{of['value']:{'+' if sign else ''}.2f}"
    return shown if of["low"] is None else f"{shown} [{of['low']:.2f}, {of['high']:.2f}]"


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
