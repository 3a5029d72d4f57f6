"""A recipe's results as one page with plots, to be read without a network.

python -m baselines.page baselines/results/sotopia_pi_cpu.json --out report.html
"""

from __future__ import annotations

import argparse
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from baselines.report import SCRIPTED
from sotopia_gym.errors import missing_extra
from sotopia_gym.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GREY = "#2c6fbb", "#8a8f98"

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #8886; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; background: #fff; padding: .5rem; border-radius: .4rem; }
figure svg { width: 100%; height: auto; }
figcaption { color: #333; font-size: .9rem; }
code { font-size: .9em; }
.note { color: #777; font-size: .9rem; }
"""


def page(found: Mapping[str, Any]) -> str:
    """The page.

    Args:
        found: What :func:`baselines.report.gathered` gives.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    seeds: Sequence[Mapping[str, Any]] = found["seeds"]
    parts = [
        f"<h1>{_text(found['recipe'])}</h1>",
        "<p>Goal scores (0 to 10) on tasks and partners that no model learned with, in both roles. "
        "Intervals are 95 %, by a bootstrap over tasks.</p>",
        _figure(_goals(seeds), "Mean goal of each model; grey: scripted agents on the same tasks."),
        _figure(_families(seeds), "The same by family, of the first seed."),
    ]
    losses = _histories(found["training"], "loss")
    if losses:
        parts.append(_figure(_curves(losses, {"loss": "loss"}), "Training loss, nats a token."))
    rewards = _histories(found["training"], "reward")
    if rewards:
        caption = "Learning curves: each batch's mean goal, nats an id from the start, entropy."
        parts.append(_figure(_curves(rewards, _HEALTH), caption))
    for seed in seeds:
        parts += [
            f"<h2>Seed {seed['seed']}</h2>",
            _arms(seed["arms"]),
            "<h3>Differences, paired by task, role and partner</h3>",
            _differences(seed["differences"]),
        ]
    told = {key: found.get(key) for key in ("command", "date", "machine", "versions")}
    parts.append(f'<p class="note">{_text(json.dumps(told))}</p>')
    title = _text(str(found["recipe"]))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


# --- Tables


def _arms(arms: Mapping[str, Mapping[str, Any]]) -> str:
    heads = ("model", "goal", "deals", "turns", "words a turn", "episodes", "failed", "unscored")
    rows = []
    for arm, measured in arms.items():
        unscored = measured["episodes"] - measured["scored"] - measured["failed"]
        rows.append(
            (
                arm,
                _interval(measured.get("goal")),
                _interval(measured.get("deals"), percent=True),
                _interval(measured.get("turns"), digits=1),
                _interval(measured.get("words"), digits=1),
                measured["scored"],
                measured["failed"],
                unscored,
            )
        )
    return _table(heads, rows)


def _differences(differences: Mapping[str, Mapping[str, Any]]) -> str:
    heads = ("difference", "goal", "pairs", "Cohen's d", "p")
    rows = [
        (
            pair,
            _interval(found),
            found["pairs"],
            "-" if found["d"] is None else f"{found['d']:.2f}",
            "-" if found["p"] is None else f"{found['p']:.4f}",
        )
        for pair, found in differences.items()
    ]
    return _table(heads, rows)


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f'<th scope="col">{_text(each)}</th>' for each in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _interval(found: Mapping[str, float] | None, *, percent: bool = False, digits: int = 2) -> str:
    if found is None:
        return "-"
    shown = [f"{found[k]:.0%}" if percent else f"{found[k]:.{digits}f}" for k in _ENDS]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


_HEALTH: Final[Mapping[str, str]] = {"reward": "goal", "kl": "divergence", "entropy": "entropy"}
_ENDS: Final = ("mean", "low", "high")


# --- Plots


def _goals(seeds: Sequence[Mapping[str, Any]]) -> Figure:
    figure, (axes,) = _plot(len(seeds[0]["arms"]) * 0.45 + 1)
    names = list(seeds[0]["arms"])
    for number, seed in enumerate(seeds):
        shift = 0.16 * (number - (len(seeds) - 1) / 2)
        _dots(axes, seed["arms"], names, shift)
    _name_rows(axes, names)
    axes.set_xlabel("goal")
    axes.set_xlim(0, 10)
    return figure


def _families(seeds: Sequence[Mapping[str, Any]]) -> Figure:
    arms = seeds[0]["arms"]
    families = sorted({name for found in arms.values() for name in found.get("by_family", {})})
    figure, axes = _plot(3.6, columns=len(families))
    for each, family in zip(axes, families, strict=True):
        of = {arm: found["by_family"][family] for arm, found in arms.items()}
        _dots(each, of, list(of), 0.0)
        _name_rows(each, list(of))
        each.set_title(family)
        each.set_xlim(0, 10)
    return figure


def _dots(axes: Axes, arms: Mapping[str, Any], names: Sequence[str], shift: float) -> None:
    for row, name in enumerate(names):
        goal = arms[name].get("goal")
        if goal is None:
            continue
        colour = _GREY if name in SCRIPTED else _BLUE
        ends = [[goal["mean"] - goal["low"]], [goal["high"] - goal["mean"]]]
        axes.errorbar(goal["mean"], row + shift, xerr=ends, fmt="o", color=colour, capsize=3)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _histories(
    training: Mapping[str, Mapping[str, Any]], measure: str
) -> dict[str, Sequence[Mapping[str, float]]]:
    """The histories that have a measure, by the name of what was trained."""
    return {
        name.removesuffix("/train"): metrics["history"]
        for name, metrics in training.items()
        if any(measure in entry for entry in metrics["history"])
    }


def _curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], measures: Mapping[str, str]
) -> Figure:
    figure, axes = _plot(3.6, columns=len(measures))
    for each, (measure, label) in zip(axes, measures.items(), strict=True):
        for name, history in histories.items():
            values = [entry[measure] for entry in history if measure in entry]
            each.plot(range(1, len(values) + 1), values, label=name)
        each.set_xlabel("update")
        each.set_ylabel(label)
        each.grid(alpha=0.3)
    axes[0].legend()
    return figure


def _plot(height: float, columns: int = 1) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure as Plot
    except ImportError as error:
        raise missing_extra("matplotlib", "eval", "a page with plots") from error
    figure = Plot(figsize=(9, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _figure(figure: Figure, caption: str) -> str:
    from matplotlib import rc_context

    text = io.StringIO()
    # Without a date, and with ids that depend on the content only, equal results give equal pages.
    with rc_context({"svg.hashsalt": "sotopia-gym"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    label = html.escape(caption, quote=True)
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f"<figure>{drawing}<figcaption>{_text(caption)}</figcaption></figure>"


def _text(text: str) -> str:
    return html.escape(text)


def main() -> None:
    """Write the page that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m baselines.page", description=__doc__)
    parser.add_argument("result", type=Path, help="a file that baselines.report wrote")
    parser.add_argument("--out", type=Path, required=True, help="file for the page")
    options = parser.parse_args()
    found = json.loads(options.result.read_text(encoding="utf-8"))
    write_whole(options.out, [page(found).encode()])


if __name__ == "__main__":
    main()
