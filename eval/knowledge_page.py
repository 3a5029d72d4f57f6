"""What ``eval.knowledge`` found, in words and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eval.pages import BLUE, GREY, document, escaped, figure, plot, table

NOTE: Final = (
    "Published, of another model and another test (SOTOPIA-pi trained Mistral-7B, and asked MMLU); "
    "not comparable with the above but in the direction of change:"
)


def percent(estimate: Mapping[str, float]) -> str:
    """A share with its interval, in percent."""
    return f"{estimate['value']:.1%} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def moved(change: Mapping[str, Any]) -> str:
    """A difference of shares with its interval, in percentage points."""
    value, low, high = (100 * change[key] for key in ("value", "low", "high"))
    return (
        f"{value:+.1f} [{low:+.1f}, {high:+.1f}], won {change['won']}, lost {change['lost']}, "
        f"p = {change['p']:.2g}, {change['p_holm']:.2g} after Holm"
    )


def page(found: Mapping[str, Any]) -> str:
    """The result as a page.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    cells = found["cells"]
    rows = [
        (
            cell["model"],
            cell["format"],
            cell["shots"],
            cell["questions"],
            percent(cell["accuracy"]),
            "" if cell["change"] is None else moved(cell["change"]),
        )
        for cell in cells
    ]
    published = [
        (row["model"], row["test"], row["shots"], f"{row['accuracy']:.1%}", row["source"])
        for row in found["published"]
    ]
    method = [
        f"<li>{escaped(name)}: {escaped(told)}</li>" for name, told in found["method"].items()
    ]
    return document(
        "Knowledge before and after training",
        [
            "<h1>Knowledge before and after training</h1>",
            f"<p><code>{escaped(found['command'])}</code><br>{found['date']}, "
            f"{escaped(found['machine'])}</p>",
            table(("model", "format", "shots", "questions", "right", "change"), rows),
            _figure(cells),
            "<h2>By subject</h2>",
            _by_subject(cells),
            "<h2>In the paper</h2>",
            f"<p>{escaped(NOTE)}</p>",
            table(("model", "test", "shots", "right", "source"), published),
            f"<h2>Method</h2><ul>{''.join(method)}</ul>",
        ],
    )


def _by_subject(cells: list[Mapping[str, Any]]) -> str:
    heads = [f"{c['model']}, {c['format']}, {c['shots']}-shot" for c in cells]
    rows = [
        (subject.replace("_", " "), *(f"{cell['subjects'][subject]:.0%}" for cell in cells))
        for subject in cells[0]["subjects"]
    ]
    return table(("subject", *heads), rows)


def _figure(cells: list[Mapping[str, Any]]) -> str:
    drawn = plot(7, 0.8 + 0.32 * len(cells))
    axes = drawn.subplots()
    # What is compared stands together: one format and number of examples after the other.
    ordered = sorted(cells, key=lambda cell: (cell["format"], cell["shots"]), reverse=True)
    first = cells[0]["model"]
    for place, cell in enumerate(ordered):
        low, value, high = (100 * cell["accuracy"][key] for key in ("low", "value", "high"))
        colour = GREY if cell["model"] == first else BLUE
        axes.errorbar(
            value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3
        )
    names = [f"{cell['format']}, {cell['shots']}-shot: {cell['model']}" for cell in ordered]
    axes.set_yticks(range(len(ordered)), names)
    axes.axvline(25, color=GREY, linestyle=":")
    axes.set_xlabel("right answers, %")
    return figure(
        drawn, "Share of right answers with 95 % intervals; the dotted line is chance among four."
    )
