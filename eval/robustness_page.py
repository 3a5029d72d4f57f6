"""The results of eval/robustness.py for people: tables for a terminal, and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.pages import BLUE, GREY, document, escaped, figure, plot, table
from sotopia_gym.judges import DIMENSIONS

_HEADS = (
    *("edit", "pairs", "unscored", "before", "own change", "p (Holm)", "moved", "raised"),
    "other's change",
)
_EXACT = ("exact, own", "exact, other's")
_STABLE = ("calls", "dimension", "conversations", "unscored", "sd", "same", "ICC(1,1)")
_BY_OUTCOME = ("edit", "agreement: pairs", "own goal", "no agreement: pairs", "own goal")


def text(found: Mapping[str, Any]) -> str:
    """The result as tables for a terminal."""
    return "\n\n".join(
        f"{title}\n{_columns([heads, *rows])}" for title, heads, rows in _tables(found)
    )


def page(found: Mapping[str, Any]) -> str:
    """The result as a page.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    results = found["results"]
    parts = [
        f"<h1>How far {escaped(found['judge'])} moves</h1>",
        f"<p>{results['conversations']} finished conversations, {results['with an agreement']} of "
        f"them with an agreement, were judged as they are and edited: {results['judgements']} "
        f"judgements, {results['unscored']} of them unscored. What verifiably happened is the same "
        "before and after; the exact judge stands beside.</p>",
        _figure(found),
    ]
    for title, heads, rows in _tables(found):
        parts += [f"<h2>{escaped(title)}</h2>", table(heads, rows)]
    parts += [
        "<h2>Edits</h2>",
        table(("edit", "what changes"), ((n, of["does"]) for n, of in results["edits"].items())),
        "<h2>Method</h2>",
        table(("what", "how"), found["method"].items()),
        f'<p class="note"><code>{escaped(found["command"])}</code>, {found["date"]}, '
        f"{escaped(found['machine'])}; prompt {escaped(found['prompt'])}</p>",
    ]
    return document("Robustness of a judge", parts)


def _tables(
    found: Mapping[str, Any],
) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """Title, heads and rows of each table."""
    results = found["results"]
    for name in found["dimensions"]:
        goal = name == "goal"
        rows = [
            _row(edit, of["dimensions"][name], of["exact"] if goal else {})
            for edit, of in results["edits"].items()
        ]
        dimension = DIMENSIONS[name]
        title = f"{name}, {dimension.low:g} to {dimension.high:g}"
        yield title, (*_HEADS, *(_EXACT if goal else ())), rows
    if "goal" in found["dimensions"]:
        rows = []
        for edit, of in results["edits"].items():
            parts = of["own goal by outcome"].values()
            rows.append((edit, *(cell for p in parts for cell in (str(p["pairs"]), _change(p)))))
        yield "own goal, by whether there was an agreement", _BY_OUTCOME, rows
    rows = [
        (
            kind,
            name,
            str(of["conversations"]),
            str(of["unscored"]),
            _number(of.get("sd")),
            _share(of.get("same")),
            _number(of.get("ICC(1,1)")),
        )
        for kind, dimensions in results["repeated"].items()
        for name, of in dimensions.items()
    ]
    if rows:
        yield "the same conversation judged again", _STABLE, rows


def _row(edit: str, of: Mapping[str, Any], exact: Mapping[str, Any]) -> Sequence[str]:
    own, other = of["own"], of["other"]
    return (
        edit,
        str(own["pairs"]),
        str(own["unscored"]),
        _number(own.get("before")),
        _change(own),
        _number(own.get("p_holm")),
        _share(own.get("moved")),
        _share(own.get("raised")),
        _change(other),
        *(_change(each) for each in exact.values()),
    )


def _change(of: Mapping[str, Any]) -> str:
    if "change" not in of:
        return "-"
    value, low, high = (of["change"][key] for key in ("value", "low", "high"))
    return f"{value:+.2f}" if low is None else f"{value:+.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _figure(found: Mapping[str, Any]) -> str:
    """Mean changes of the first dimension with their intervals."""
    name, edits = found["dimensions"][0], found["results"]["edits"]
    drawn = plot(7.5, 0.5 + 0.4 * len(edits))
    axes = drawn.subplots()
    for who, label, colour, shift in (
        ("own", "the edited side", BLUE, -0.12),
        ("other", "the other", GREY, 0.12),
    ):
        shown = [
            (place, of["dimensions"][name][who]["change"])
            for place, of in enumerate(edits.values())
            if "change" in of["dimensions"][name][who]
        ]
        values = [change["value"] for _, change in shown]
        ends = [
            [abs((c[end] if c[end] is not None else c["value"]) - c["value"]) for _, c in shown]
            for end in ("low", "high")
        ]
        places = [place + shift for place, _ in shown]
        axes.errorbar(values, places, xerr=ends, fmt="o", color=colour, label=label, capsize=3)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(edits)), list(edits))
    axes.invert_yaxis()
    axes.set_xlabel(f"change of {name}")
    axes.legend(frameon=False, fontsize=8)
    return figure(drawn, f"Mean change of {name} by edit, with 95 % intervals.")
