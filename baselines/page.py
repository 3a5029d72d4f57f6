"""A recipe's results as one page with plots, to be read without a network.

python -m baselines.page baselines/results/sotopia_pi_cpu.json --out report.html
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from baselines.report import SCRIPTED
from eval.pages import BLUE, GREY, document, escaped, figure, plot, table
from sotopia_gym.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def page(found: Mapping[str, Any]) -> str:
    """The page.

    Args:
        found: What :func:`baselines.report.gathered` gives.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    seeds: Sequence[Mapping[str, Any]] = found["seeds"]
    parts = [
        f"<h1>{escaped(found['recipe'])}</h1>",
        "<p>Goal scores (0 to 10) on tasks and partners that no model learned with, in both roles. "
        "Intervals are 95 %, by a bootstrap over tasks.</p>",
        figure(_goals(seeds), "Mean goal of each model; grey: scripted agents on the same tasks."),
        figure(_families(seeds), "The same by family, of the first seed."),
    ]
    losses = _histories(found["training"], "loss")
    if losses:
        parts.append(figure(_curves(losses, {"loss": "loss"}), "Training loss, nats a token."))
    rewards = _histories(found["training"], "reward")
    if rewards:
        caption = "Learning curves: each batch's mean goal, nats an id from the start, entropy."
        parts.append(figure(_curves(rewards, _HEALTH), caption))
    for seed in seeds:
        parts += [
            f"<h2>Seed {seed['seed']}</h2>",
            _arms(seed["arms"]),
            "<h3>Differences, paired by task, role and partner</h3>",
            _differences(seed["differences"]),
        ]
    told = {key: found.get(key) for key in ("command", "date", "machine", "versions")}
    parts.append(f'<p class="note">{escaped(json.dumps(told))}</p>')
    return document(str(found["recipe"]), parts)


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
    return table(heads, rows)


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
    return table(heads, rows)


def _interval(found: Mapping[str, float] | None, *, percent: bool = False, digits: int = 2) -> str:
    if found is None:
        return "-"
    shown = [f"{found[k]:.0%}" if percent else f"{found[k]:.{digits}f}" for k in _ENDS]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


_HEALTH: Final[Mapping[str, str]] = {"reward": "goal", "kl": "divergence", "entropy": "entropy"}
_ENDS: Final = ("mean", "low", "high")


# --- Plots


def _goals(seeds: Sequence[Mapping[str, Any]]) -> Figure:
    # A control may have been trained with one seed only.
    names = list(dict.fromkeys(name for seed in seeds for name in seed["arms"]))
    drawn, (axes,) = _plot(len(names) * 0.45 + 1)
    for number, seed in enumerate(seeds):
        shift = 0.16 * (number - (len(seeds) - 1) / 2)
        _dots(axes, seed["arms"], names, shift)
    _name_rows(axes, names)
    axes.set_xlabel("goal")
    axes.set_xlim(0, 10)
    return drawn


def _families(seeds: Sequence[Mapping[str, Any]]) -> Figure:
    arms = seeds[0]["arms"]
    families = sorted({name for found in arms.values() for name in found.get("by_family", {})})
    drawn, axes = _plot(3.6, columns=len(families))
    for each, family in zip(axes, families, strict=True):
        of = {arm: found["by_family"][family] for arm, found in arms.items()}
        _dots(each, of, list(of), 0.0)
        _name_rows(each, list(of))
        each.set_title(family)
        each.set_xlim(0, 10)
    return drawn


def _dots(axes: Axes, arms: Mapping[str, Any], names: Sequence[str], shift: float) -> None:
    for row, name in enumerate(names):
        goal = arms.get(name, {}).get("goal")
        if goal is None:
            continue
        colour = GREY if name in SCRIPTED else BLUE
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
    drawn, axes = _plot(3.6, columns=len(measures))
    for each, (measure, label) in zip(axes, measures.items(), strict=True):
        for name, history in histories.items():
            values = [entry[measure] for entry in history if measure in entry]
            each.plot(range(1, len(values) + 1), values, label=name)
        each.set_xlabel("update")
        each.set_ylabel(label)
        each.grid(alpha=0.3)
    axes[0].legend()
    return drawn


def _plot(height: float, columns: int = 1) -> tuple[Figure, Any]:
    drawn = plot(9, height)
    return drawn, drawn.subplots(1, columns, squeeze=False)[0]


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
