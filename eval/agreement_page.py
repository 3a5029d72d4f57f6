"""The result of ``eval.judge_agreement`` as one page with plots, to be read without a network."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from eval.pages import BLUE, GREY, document, escaped, figure, plot, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RED: Final = "#b3402e"

_COLUMNS: Final = 4
"""Plots side by side."""

_WIDTH: Final = 10
"""Of plots, in inches."""

_STYLE: Final = """
body { max-width: 80rem; }
table { font-size: .85rem; }
th, td { padding: .3rem .55rem; }
"""


def page(found: Mapping[str, Any]) -> str:
    """The page.

    Args:
        found: What :mod:`eval.judge_agreement` found.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    parts = ["<h1>How far judges agree with people, and with what happened</h1>"]
    if found.get("ratings"):
        parts += _ratings(found["ratings"])
    if found.get("episodes"):
        parts += _episodes(found["episodes"])
    parts.append("<h2>How it was computed</h2>")
    method = (f"<li>{escaped(what)}: {escaped(how)}</li>" for what, how in found["method"].items())
    parts.append(f"<ul>{''.join(method)}</ul>")
    told = {key: found[key] for key in ("command", "date", "machine", "versions", "seed")}
    parts.append(f'<p class="note">{escaped(json.dumps(told))}</p>')
    return document("Judge agreement", parts, _STYLE)


# --- SOTOPIA's human evaluation


def _ratings(found: Mapping[str, Any]) -> list[str]:
    told = ", ".join(f"{count} of {model}" for model, count in found["conditions"].items())
    parts = [
        "<h2>People and GPT-4 on SOTOPIA-hard</h2>",
        f"<p>{found['episodes']} episodes ({told}), rated by {found['raters']} people, two an "
        f"episode. {found['rated by one person twice']} episodes were rated twice by one person, "
        f"{found['third ratings']} had a third rating. Only of GPT-4's own episodes are GPT-4's "
        "scores recorded one by one.</p>",
    ]
    for part, judges in found["judges"].items():
        for judge, dimensions in judges.items():
            parts.append(f"<h3>{escaped(judge)} against the mean of the raters, {part}</h3>")
            parts.append(_agreements(dimensions))
            if part == "both agents":
                parts += _by_group({judge: dimensions["goal"]})
                parts += _plots(dimensions, judge, "people")
    parts += _stages(found)
    parts += _people(found)
    if found["could not be read"]:
        items = "".join(f"<li>{escaped(each)}</li>" for each in found["could not be read"])
        parts.append(f'<p class="note">Could not be read:</p><ul class="note">{items}</ul>')
    return parts


def _stages(found: Mapping[str, Any]) -> list[str]:
    pearson = {
        each["model"]: each["values"].get("goal")
        for each in found["published"]
        if (each["measure"], each["suite"]) == ("pearson", "sotopia-hard")
    }
    stages: Mapping[str, Any] = found["stages"]
    goals = {model: stage["dimensions"]["goal"] for model, stage in stages.items()}
    rows = [
        {
            "model": model,
            "agents": stages[model]["agents"],
            "GPT-4, published": _number(goal["judge, published"]),
            "people, published": _number(goal["people, published"]),
            "people, recomputed": _estimate(goal["people"]),
            "gap, published": _number(goal["gap, published"]),
            "gap, with people recomputed": _estimate(goal["gap"]),
            "Pearson, published": _number(pearson.get(model)),
        }
        for model, goal in goals.items()
    ]
    gaps = [
        {
            "model": model,
            **{_spaced(n): _estimate(of["gap"]) for n, of in stage["dimensions"].items()},
        }
        for model, stage in stages.items()
    ]
    return [
        "<h3>Stages of training</h3>",
        "<p>Goal of the model that was rated. GPT-4's means are the paper's, people's are "
        "recomputed from their ratings. GPT-4's scores of the trained models' episodes were not "
        "released one by one. Intervals are therefore those of people's means, with GPT-4's taken "
        "as exact: they are wide, since scores of the same episodes move together. For GPT-4's own "
        "episodes, whose scores are recorded, see above.</p>",
        figure(_stage_plot(goals), "Goal, GPT-4 less people. Crosses: as published."),
        _table(rows),
        "<p>The gap in all dimensions, likewise.</p>",
        _table(gaps),
    ]


def _people(found: Mapping[str, Any]) -> list[str]:
    shares, kappas = (
        next(each["values"] for each in found["published"] if each["measure"] == measure)
        for measure in ("pairwise_agreement", "randolph_kappa")
    )
    parts = []
    for part, dimensions in found["people"].items():
        rows = [
            {
                "dimension": _spaced(name),
                "n": of["pairs"],
                "Pearson": _estimate(of["pearson"]),
                "Spearman": _number(of["spearman"]),
                **_reliability(of["reliability"], "ICC(1,1)", "ICC(1,k)"),
                "mean distance": _number(of["mean_absolute_difference"]),
                "same bin, published": _number(shares.get(name), 3),
                "kappa, published": _number(kappas.get(name), 3),
            }
            for name, of in dimensions.items()
        ]
        parts += [f"<h3>First against second rater, {part}</h3>", _table(rows)]
    parts.append(
        '<p class="note">The published agreement is that of SOTOPIA-pi. Its code bins scores by '
        "the largest one that was given, and which episodes are in it is not told: it need not be "
        "the same.</p>"
    )
    annotators = found["annotators"]
    if annotators["dimensions"]:
        rows = [
            {
                "dimension": _spaced(name),
                "agents": of["units"],
                **_reliability(of, "ICC(2,1)", "ICC(2,k)", "ICC(3,1)"),
            }
            for name, of in annotators["dimensions"].items()
        ]
        title = f"{annotators['raters']} annotators who rated the same agents"
        parts += [f"<h3>{title}</h3>", _table(rows)]
    return parts


# --- Episodes of our own


def _episodes(found: Mapping[str, Any]) -> list[str]:
    parts = ["<h2>Judges in episodes of our own</h2>"]
    judges = dict.fromkeys(judge for arm in found["arms"].values() for judge in arm["judges"])
    for judge in judges:
        of = {
            arm: told["judges"][judge]
            for arm, told in found["arms"].items()
            if judge in told["judges"]
        }
        parts.append(f"<h3>{escaped(judge)}</h3>")
        parts.append(_counts(found["arms"], of))
        exact = {arm: told["outcomes"] for arm, told in of.items() if told["outcomes"]}
        if exact:
            parts += _exact(judge, exact)
        if judge in found["changes"]:
            parts += _changes(found["changes"][judge], next(iter(found["arms"])))
        for arm, told in of.items():
            if told["people"]:
                parts.append(f"<h4>{escaped(arm)}: against people</h4>")
                parts.append(_agreements(told["people"]))
                parts += _by_group({arm: told["people"].get("goal", {})})
                parts += _plots(told["people"], judge, "people")
    return parts


def _counts(arms: Mapping[str, Any], of: Mapping[str, Any]) -> str:
    rows = [
        {
            "agent": arm,
            "journal": arms[arm]["file"],
            "episodes": arms[arm]["episodes"],
            "incomplete": arms[arm]["incomplete"],
            "unscored": told["unscored"],
        }
        for arm, told in of.items()
    ]
    return _table(rows)


def _exact(judge: str, arms: Mapping[str, Any]) -> list[str]:
    return [
        "<h4>Goal against what truly happened</h4>",
        _agreements(arms),
        figure(_gap_plot(arms), f"Goal, {judge} less the exact score: in all, and by family."),
        *_by_group(arms),
        *_plots(arms, judge, "the exact score"),
    ]


def _by_group(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Goal by family, role and model, where there are several."""
    parts = []
    for part in ("family", "role", "model"):
        if all(len(of.get(f"by_{part}", ())) < 2 for of in arms.values()):
            continue
        rows = [
            {
                "of": arm,
                f"goal, by {part}": name,
                "n": of["pairs"],
                "judge": _number(of["judge"]),
                "reference": _number(of["reference"]),
                "gap": _estimate(of["gap"]),
                "Pearson": _estimate(of["pearson"]),
            }
            for arm, told in arms.items()
            for name, of in told[f"by_{part}"].items()
        ]
        parts.append(_table(rows))
    return parts


def _changes(changes: Mapping[str, Any], first: str) -> list[str]:
    rows = [
        {
            "agent": arm,
            "pairs": change["pairs"],
            "judge's goal": _estimate(change["judge"]),
            "true goal": _estimate(change["reference"]),
            "gap": _estimate(change["gap"]),
        }
        for arm, change in changes.items()
    ]
    return [f"<h4>What changed from {escaped(first)}, on the same tasks</h4>", _table(rows)]


# --- Tables


def _agreements(of: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        {
            "": _spaced(name),
            "n": each["pairs"],
            "judge": _number(each["judge"]),
            "reference": _number(each["reference"]),
            "gap": _estimate(each["gap"]),
            "mean distance": _number(each["mean_absolute_difference"]),
            "Pearson": _estimate(each["pearson"]),
            "Spearman": _number(each["spearman"]),
            **_reliability(each["reliability"], "ICC(2,1)"),
        }
        for name, each in of.items()
    ]
    return _table(rows)


def _reliability(of: Mapping[str, Any], *icc: str) -> dict[str, str]:
    return {
        **{name: _number(of["icc"][name]) for name in icc},
        "alpha, interval": _number(of["alpha_interval"]),
        "alpha, ordinal": _number(of["alpha_ordinal"]),
        "same bin": _number(of["pairwise_agreement"], 3),
        "kappa": _number(of["randolph_kappa"], 3),
    }


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """A table whose columns are those of the first row."""
    return table(rows[0], (row.values() for row in rows))


def _estimate(found: Mapping[str, float | None]) -> str:
    value, low, high = (found[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


# --- Plots


def _plots(of: Mapping[str, Mapping[str, Any]], judge: str, reference: str) -> list[str]:
    return [
        figure(
            _grid(of, _bland_altman),
            f"Bland-Altman: {judge} less {reference}, by the mean of both. Line: mean gap; dashed: "
            "limits of agreement. Larger dots stand for more agents.",
        ),
        figure(
            _grid(of, _calibration),
            f"Calibration: mean of {reference} where {judge} gave a score, with 95 % intervals. On "
            "the dashed line the score is what it should be.",
        ),
    ]


def _grid(
    of: Mapping[str, Mapping[str, Any]], draw: Callable[[Axes, Mapping[str, Any]], None]
) -> Figure:
    columns = min(_COLUMNS, len(of))
    rows = math.ceil(len(of) / columns)
    drawn = plot(_WIDTH, 2.6 * rows + 0.3)
    for number, (name, each) in enumerate(of.items(), start=1):
        axes = drawn.add_subplot(rows, columns, number)
        draw(axes, each)
        axes.set_title(_spaced(name), fontsize=9)
        axes.grid(alpha=0.3)
    return drawn


def _bland_altman(axes: Axes, of: Mapping[str, Any]) -> None:
    points = of["points"]
    axes.scatter(
        [(judge + truth) / 2 for judge, truth, _ in points],
        [judge - truth for judge, truth, _ in points],
        s=[10 * count for _, _, count in points],
        color=BLUE,
        alpha=0.55,
        linewidths=0,
    )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhline(of["gap"]["value"], color=_RED)
    for limit in of["limits"] or ():
        axes.axhline(limit, color=_RED, linestyle="--", linewidth=0.9)


def _calibration(axes: Axes, of: Mapping[str, Any]) -> None:
    levels = of["calibration"]
    scores = [level["score"] for level in levels]
    means = [level["reference"]["value"] for level in levels]
    axes.plot([min(scores), max(scores)], [min(scores), max(scores)], "--", color=GREY)
    for level in levels:
        told = level["reference"]
        if told["low"] is not None:
            axes.plot([level["score"]] * 2, [told["low"], told["high"]], color=BLUE, alpha=0.6)
    axes.scatter(scores, means, s=[6 * level["count"] for level in levels], color=BLUE, alpha=0.7)


def _stage_plot(goals: Mapping[str, Any]) -> Figure:
    drawn = plot(_WIDTH, len(goals) * 0.42 + 0.9)
    axes = drawn.add_subplot()
    for row, goal in enumerate(goals.values()):
        _bar(axes, row, goal["gap"], BLUE)
        axes.plot(goal["gap, published"], row, "x", color=_RED)
    _name_rows(axes, list(goals))
    axes.set_xlabel("goal: GPT-4 less people")
    return drawn


def _gap_plot(arms: Mapping[str, Any]) -> Figure:
    families = sorted({name for of in arms.values() for name in of["by_family"]})
    drawn = plot(_WIDTH, len(arms) * 0.35 + 1.2)
    for number, name in enumerate(("all", *families), start=1):
        axes = drawn.add_subplot(1, 1 + len(families), number)
        for row, of in enumerate(arms.values()):
            gap = of["gap"] if name == "all" else of["by_family"].get(name, {}).get("gap")
            if gap is not None:
                _bar(axes, row, gap, BLUE)
        _name_rows(axes, list(arms) if number == 1 else [""] * len(arms))
        axes.set_title(_spaced(name), fontsize=9)
    return drawn


def _bar(axes: Axes, row: int, estimate: Mapping[str, Any], colour: str) -> None:
    if estimate["low"] is not None:
        axes.plot([estimate["low"], estimate["high"]], [row, row], color=colour)
    axes.plot(estimate["value"], row, "o", color=colour)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)


def _spaced(name: str) -> str:
    """A dimension's or family's name, for people."""
    return name.replace("_", " ")
