"""How far do judges agree with people, and with what truly happened?

    python -m eval.judge_agreement --ratings FOLDER --json FILE --html FILE
    python -m eval.judge_agreement --episodes base=runs/base.jsonl bc=runs/bc.jsonl

FOLDER holds SOTOPIA's human evaluation: GPT-4's scores are held against the means of the raters,
raters against each other, and the gap of each stage of training is shown beside the published one.
Without any argument it is looked for in the folder "human-eval" of SOTOPIA_GYM_TEST_DATA, or of
../shared/data.

Journals are of one agent each, the first of them before training. Every judge in them is held
against the exact goal scores, on tasks with ground truth, and against people's ratings, where the
episodes carry some. The gap is judge minus reference; on the tasks that several agents played, the
change of the gap from the first journal is what training gained in the judge's eyes alone.

To hold another judge against the raters of the human evaluation, make a journal of it (sotopia-gym
episodes import), have that judged (sotopia-gym judge), and name it with --episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from eval import agreement_page
from eval.agreement import RESAMPLES, Estimate, agreement, reliability
from eval.agreement_scores import (
    MODELS,
    Collected,
    Scored,
    by_dimension,
    collect,
    condition,
    crossed,
    human,
    load_ratings,
    model_seats,
    rated_twice,
)
from eval.commands import made_by, named, rounded
from sotopia_gym.benchmark.published import PEOPLE, published_agreement, published_rows
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError, SotopiaGymError
from sotopia_gym.files import write_whole
from sotopia_gym.judges.human import HumanJudge
from sotopia_gym.stats import mean_interval

METHOD: Final = {
    "gap": "judge minus reference",
    "intervals": f"95 %, percentile bootstrap of {RESAMPLES} resamples of whole scenarios; for a "
    "correlation without those in which a side does not vary",
    "icc": "Shrout and Fleiss 1979; ICC(2,1) for a judge and its reference (absolute agreement), "
    "ICC(1,1) and ICC(1,k) where each episode has raters of its own, ICC(2,1) and ICC(2,k) where "
    "all were rated by the same",
    "alpha": "Krippendorff's, by the package krippendorff",
    "bins": "halves of the range: 0 to 10 above 5 or not, -10 to 0 below -5 or not, -5 to 5 below "
    "-2.5, above 2.5, or neither",
    "kappa": "Randolph 2005, free-marginal, on these bins",
    "limits": "mean gap less and plus 1.96 standard deviations (Bland and Altman 1986)",
}


def of_ratings(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Compare GPT-4 and people on SOTOPIA's human evaluation.

    Raises:
        ConfigError: If the folder does not hold it.
    """
    ratings = load_ratings(folder)
    raters = {judgement.judge for e in ratings.episodes for judgement in human(e)}
    twice = list(rated_twice(ratings.episodes))
    others = [pair for pair in twice if not pair.same_person]
    who, tables = crossed(ratings.annotated)
    parts = {
        "both agents": collect(ratings.episodes, seats=lambda episode: episode.task.agents),
        "the model alone": collect(ratings.episodes, seats=model_seats),
    }
    return {
        "records": ratings.records,
        "could not be read": list(ratings.lost),
        "episodes": len(ratings.episodes),
        "raters": len(raters),
        "rated by one person twice": sum(pair.same_person for pair in twice) // 2,
        "third ratings": sum(max(0, len(human(e)) - 2) for e in ratings.episodes),
        "conditions": dict(Counter(MODELS[condition(e)] for e in ratings.episodes)),
        "judges": {
            part: {judge: _agreements(pairs, seed) for judge, pairs in found.people.items()}
            for part, found in parts.items()
        },
        "people": {
            part: {
                name: asdict(
                    agreement(
                        [pair.first[name] for pair in pairs],
                        [pair.second[name] for pair in pairs],
                        [pair.scenario for pair in pairs],
                        low=dimension.low,
                        high=dimension.high,
                        seed=seed,
                    )
                )
                for name, dimension in DIMENSIONS.items()
            }
            for part, pairs in (("all", twice), ("two persons", others))
        },
        "annotators": {
            "raters": len(who),
            "dimensions": {
                name: asdict(
                    reliability(table, low=DIMENSIONS[name].low, high=DIMENSIONS[name].high)
                )
                for name, table in tables.items()
            },
        },
        "stages": _stages(ratings.episodes, seed),
        "published": [each.model_dump() for each in published_agreement()],
    }


def of_episodes(journals: Mapping[str, Path], seed: int = 0) -> dict[str, Any]:
    """Compare the judges in journals with outcomes and with people.

    Args:
        journals: Arm, such as ``"base"``, to its file; changes are from the first.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: If a file is missing, or nothing in them can be compared.
    """
    arms: dict[str, Collected] = {}
    for arm, path in journals.items():
        if not path.is_file():
            raise ConfigError(f"there is no journal {path} (of {arm!r}).")
        arms[arm] = collect(latest(path))
    if not any(pairs for found in arms.values() for pairs in _all_pairs(found)):
        raise ConfigError(
            "no episode has both the scores of a judge and something to hold them against: exact "
            "goals, or people's ratings. Have them judged first: sotopia-gym judge JOURNAL --judge "
            "MODEL."
        )
    return {
        "arms": {
            arm: {
                "file": journals[arm].name,
                "episodes": found.counts["episodes"],
                "incomplete": found.counts["incomplete"],
                "judges": {
                    judge: {
                        "unscored": unscored,
                        "outcomes": _grouped(found.outcomes.get(judge, ()), seed),
                        "people": _agreements(found.people.get(judge, ()), seed),
                    }
                    for judge, unscored in found.unscored.items()
                },
            }
            for arm, found in arms.items()
        },
        "changes": _changes(arms, seed),
    }


def _all_pairs(found: Collected) -> Iterable[Sequence[Scored]]:
    return (*found.outcomes.values(), *found.people.values())


def _agreements(pairs: Iterable[Scored], seed: int) -> dict[str, Any]:
    return {name: _grouped(of, seed) for name, of in by_dimension(pairs).items()}


def _agreement(pairs: Sequence[Scored], seed: int) -> Any:
    dimension = DIMENSIONS[pairs[0].dimension]
    return agreement(
        [pair.judge for pair in pairs],
        [pair.reference for pair in pairs],
        [pair.scenario for pair in pairs],
        low=dimension.low,
        high=dimension.high,
        seed=seed,
    )


_PARTS: Final = ("family", "role", "model")
_OF_GROUPS: Final = ("pairs", "clusters", "judge", "reference", "gap", "pearson")


def _grouped(pairs: Sequence[Scored], seed: int) -> dict[str, Any]:
    """All pairs of one dimension, and what matters of them by family, role and model."""
    if not pairs:
        return {}
    found = asdict(_agreement(pairs, seed))
    for part in _PARTS:
        groups: dict[str, list[Scored]] = {}
        for pair in pairs:
            groups.setdefault(getattr(pair, part), []).append(pair)
        found[f"by_{part}"] = {
            name: {key: asdict(_agreement(groups[name], seed))[key] for key in _OF_GROUPS}
            for name in sorted(groups)
        }
    return found


def _changes(arms: Mapping[str, Collected], seed: int) -> dict[str, Any]:
    """What changed from the first arm, on the jobs that both did."""
    first, *others = arms
    found: dict[str, dict[str, Any]] = {}
    for judge, before in arms[first].outcomes.items():
        known = _by_job(before, first)
        for arm in others:
            after = _by_job(arms[arm].outcomes.get(judge, ()), arm)
            jobs = sorted(known.keys() & after.keys())
            if not jobs:
                continue
            scenarios = [known[job].scenario for job in jobs]
            judged = [after[job].judge - known[job].judge for job in jobs]
            true = [after[job].reference - known[job].reference for job in jobs]
            gaps = [one - other for one, other in zip(judged, true, strict=True)]
            found.setdefault(judge, {})[arm] = {
                "pairs": len(jobs),
                **{
                    name: asdict(_mean(values, scenarios, seed))
                    for name, values in (("judge", judged), ("reference", true), ("gap", gaps))
                },
            }
    return found


def _by_job(pairs: Iterable[Scored], arm: str) -> dict[tuple[str, ...], Scored]:
    found: dict[tuple[str, ...], Scored] = {}
    for pair in pairs:
        if pair.job in found:
            raise ConfigError(
                f"{arm!r} holds several episodes of the same job ({', '.join(pair.job)}), as of "
                "runs with different seeds. Give the journal of one run."
            )
        found[pair.job] = pair
    return found


def _mean(values: Sequence[float], clusters: Sequence[str], seed: int) -> Estimate:
    return Estimate.of(mean_interval(values, clusters, resamples=RESAMPLES, seed=seed))


# --- Stages of training


def _stages(episodes: Iterable[Episode], seed: int) -> dict[str, Any]:
    """People's means of each model from their ratings, and GPT-4's as published.

    GPT-4's scores of the trained models' episodes are not released one by one, so that a gap's
    interval is that of people's mean only.
    """
    rated: dict[str, list[tuple[str, Mapping[str, float]]]] = {}
    for episode in episodes:
        scores = HumanJudge([episode]).judge(episode).scores
        for agent in model_seats(episode):
            means = {name: given.score for name, given in scores[agent].items()}
            rated.setdefault(condition(episode), []).append(
                (episode.task.scenario.scenario_id, means)
            )
    found: dict[str, Any] = {}
    for name, model in MODELS.items():
        if name not in rated:
            continue
        judge, people = (_published_means(model, by) for by in ("gpt-4-0613", PEOPLE))
        found[model] = {"agents": len(rated[name]), "dimensions": {}}
        for dimension in DIMENSIONS:
            mean = _mean([m[dimension] for _, m in rated[name]], [s for s, _ in rated[name]], seed)
            found[model]["dimensions"][dimension] = {
                "people": asdict(mean),
                "people, published": people[dimension],
                "judge, published": judge[dimension],
                "gap": asdict(_less(judge[dimension], mean)),
                "gap, published": round(judge[dimension] - people[dimension], 2),
            }
    return found


def _published_means(model: str, judge: str) -> Mapping[str, float]:
    """The paper's means of the episodes that both people and GPT-4 scored."""
    return next(
        row.scores
        for row in published_rows()
        if (row.suite, row.episodes, row.judge, row.model) == ("sotopia-hard", 28, judge, model)
    )


def _less(value: float, mean: Estimate) -> Estimate:
    """A number without error, less a mean."""
    ends = [None if end is None else value - end for end in (mean.value, mean.high, mean.low)]
    return Estimate(*ends)


# --- Text


def text(found: Mapping[str, Any]) -> str:
    """The result as tables."""
    lines: list[str] = []
    if found.get("ratings"):
        lines += _ratings_text(found["ratings"])
    if found.get("episodes"):
        lines += _episodes_text(found["episodes"])
    return "\n".join(lines)


_HEAD: Final = (
    f"  {'':32}{'n':>5}{'judge':>8}{'refer.':>8}  {'gap':<22}{'Pearson':<22}{'Spearman':>9}"
    f"{'ICC':>7}{'alpha':>7}{'agree':>7}{'kappa':>7}"
)


def _ratings_text(ratings: Mapping[str, Any]) -> list[str]:
    lines = []
    for part, judges in ratings["judges"].items():
        for judge, dimensions in judges.items():
            lines += [f"{judge} against people's means, {part}; ICC(2,1)", _HEAD]
            lines += [_row(name, of, "ICC(2,1)") for name, of in dimensions.items()]
            lines += [*_groups_text(dimensions["goal"]), ""]
    for part, dimensions in ratings["people"].items():
        lines += [f"first against second rater, {part}; ICC(1,1)", _HEAD]
        lines += [_row(name, of, "ICC(1,1)") for name, of in dimensions.items()]
        lines.append("")
    if ratings["annotators"]["dimensions"]:
        lines.append(
            f"{ratings['annotators']['raters']} annotators who rated the same: ICC(2,1), ICC(2,k), "
            "alpha, agreement, kappa"
        )
        for name, of in ratings["annotators"]["dimensions"].items():
            shown = (of["icc"]["ICC(2,1)"], of["icc"]["ICC(2,k)"], *_beyond_icc(of))
            lines.append(f"  {name:32}{of['units']:>5}" + "".join(f"{_n(v):>8}" for v in shown))
        lines.append("")
    lines.append("goal by stage of training: people (published), GPT-4 as published, gap")
    for model, stage in ratings["stages"].items():
        goal = stage["dimensions"]["goal"]
        lines.append(
            f"  {model:12}{_e(goal['people']):<22}({goal['people, published']:.2f})"
            f"{goal['judge, published']:8.2f}   {_e(goal['gap']):<22}({goal['gap, published']:.2f})"
        )
    return [*lines, ""]


def _episodes_text(episodes: Mapping[str, Any]) -> list[str]:
    lines = []
    for arm, found in episodes["arms"].items():
        for judge, of in found["judges"].items():
            lines += [
                f"{arm}: {judge} ({found['episodes']} episodes, {found['incomplete']} incomplete, "
                f"{of['unscored']} unscored); ICC(2,1)",
                _HEAD,
            ]
            if of["outcomes"]:
                lines.append(_row("goal against outcomes", of["outcomes"], "ICC(2,1)"))
                lines += _groups_text(of["outcomes"])
            if of["people"]:
                lines.append("  against people's means")
                lines += [_row(name, group, "ICC(2,1)") for name, group in of["people"].items()]
                lines += _groups_text(of["people"].get("goal", {}))
            lines.append("")
    for judge, arms in episodes["changes"].items():
        first = next(iter(episodes["arms"]))
        lines.append(f"{judge}: what changed from {first}, on the same jobs")
        for arm, change in arms.items():
            told = ", ".join(
                f"{name} {_e(change[key], sign=True)}"
                for name, key in (("judge", "judge"), ("truth", "reference"), ("gap", "gap"))
            )
            lines.append(f"  {arm:12}{change['pairs']:>5} pairs: {told}")
        lines.append("")
    return lines


def _groups_text(of: Mapping[str, Any]) -> list[str]:
    """Groups of what they are more than one of."""
    return [
        _row(f"  {name}", group)
        for part in _PARTS
        if len(of.get(f"by_{part}", ())) > 1
        for name, group in of[f"by_{part}"].items()
    ]


def _row(name: str, of: Mapping[str, Any], icc: str | None = None) -> str:
    line = (
        f"  {name:32}{of['pairs']:>5}{of['judge']:>8.2f}{of['reference']:>8.2f}  "
        f"{_e(of['gap'], sign=True):<22}{_e(of['pearson']):<22}"
    )
    if icc is None:
        return line.rstrip()
    rel = of["reliability"]
    others = "".join(f"{_n(value):>7}" for value in (rel["icc"][icc], *_beyond_icc(rel)))
    return f"{line}{_n(of['spearman']):>9}{others}"


def _beyond_icc(of: Mapping[str, Any]) -> tuple[float | None, ...]:
    return of["alpha_interval"], of["pairwise_agreement"], of["randolph_kappa"]


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _e(estimate: Mapping[str, float | None], *, sign: bool = False) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    shown = f"{value:+.2f}" if sign else f"{value:.2f}"
    return shown if low is None else f"{shown} [{low:.2f}, {high:.2f}]"


# --- Command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, print it, and write what is asked for."""
    options = _arguments(arguments)
    try:
        given = named("--episodes", "FILE", options.episodes)
        journals = {arm: Path(path) for arm, path in given.items()}
        folder = options.ratings
        if folder is None and not journals:
            data = os.environ.get("SOTOPIA_GYM_TEST_DATA", "../shared/data")
            folder = Path(data) / "human-eval"
        found = {
            **made_by(_command(folder, journals, options)),
            "versions": {
                name: version(name) for name in ("sotopia-gym", "numpy", "scipy", "krippendorff")
            },
            "seed": options.seed,
            "method": METHOD,
            "ratings": None if folder is None else of_ratings(folder, options.seed),
            "episodes": of_episodes(journals, options.seed) if journals else None,
        }
        print(text(found))
        if options.json is not None:
            write_whole(options.json, [json.dumps(rounded(found), indent=1).encode() + b"\n"])
        if options.html is not None:
            write_whole(options.html, [agreement_page.page(found).encode()])
    except (SotopiaGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.judge_agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ratings", type=Path, metavar="FOLDER", help="SOTOPIA's human evaluation")
    parser.add_argument("--episodes", nargs="+", default=[], metavar="NAME=FILE", help="journals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all numbers")
    parser.add_argument("--html", "--out", type=Path, metavar="FILE", help="file for a page")
    return parser.parse_args(arguments)


def _command(folder: Path | None, journals: Mapping[str, Path], options: argparse.Namespace) -> str:
    """The command, with names of files that say nothing of this machine."""
    words = ["python", "-m", "eval.judge_agreement"]
    words += ["--ratings", "FOLDER"] if folder is not None else []
    words += ["--episodes", *(f"{arm}={path.name}" for arm, path in journals.items())] * bool(
        journals
    )
    words += ["--seed", str(options.seed)]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
