"""What came of a recipe: every model's scores, compared with each other, over one seed or several.

    python -m baselines.report runs/sotopia_pi_cpu --out baselines/results/sotopia_pi_cpu.json

gathers the seeds that are done into one file, and writes a page with plots beside it. With
``--keep`` the seeds that the file has already, from another machine or another day, stay in it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sotopia_gym import benchmark
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError
from sotopia_gym.files import write_whole
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.sampling import family

JOURNAL: Final = "episodes.jsonl"
SUMMARY: Final = "report.json"
_FLOORS: Final = ("silent", "random", "accepting")
SCRIPTED: Final = (*_FLOORS, "expert")
"""Arms that are no models."""
CONTROL: Final = "-shuffled"
"""What the name of an arm ends in that was trained as another, on shuffled rewards."""


def of_seed(
    name: str, seed: int, folder: Path, inputs: Mapping[str, Path], *, base: str = "base"
) -> dict[str, Any]:
    """Sum up the models of one seed, and write ``report.json`` and ``report.txt``.

    Args:
        name: The recipe's name.
        seed: The seed.
        folder: Where the report goes.
        inputs: Steps to folders that hold a journal each, or folders with one.
        base: The arm that all others are compared with.
    """
    journals = dict(_journals(inputs))
    arms = {arm: measures(list(latest(path))) for arm, path in journals.items()}
    found = {
        "recipe": name,
        "seed": seed,
        "arms": arms,
        "differences": _differences(journals, base),
    }
    write_whole(folder / SUMMARY, [json.dumps(found, indent=1).encode() + b"\n"])
    write_whole(folder / "report.txt", [text(found).encode() + b"\n"])
    return {}


def measures(episodes: list[Episode]) -> dict[str, Any]:
    """Means of one agent with 95 % intervals, clustered by task, in all and by family and partner.

    Episodes that failed or could not be scored are in no mean; they are counted.
    """
    episodes = sorted(episodes, key=lambda episode: episode.key)
    scored = [e for e in episodes if e.complete and e.judgement and e.judgement.scored]
    found: dict[str, Any] = {
        "episodes": len(episodes),
        "scored": len(scored),
        "failed": sum(not e.complete for e in episodes),
    }
    if scored:
        found |= _means(scored)
        for part, of in (
            ("family", lambda episode: family(episode.task)),
            ("role", _role),
            ("partner", _partner),
        ):
            groups: dict[str, list[Episode]] = {}
            for episode in scored:
                groups.setdefault(of(episode), []).append(episode)
            found[f"by_{part}"] = {group: _means(groups[group]) for group in sorted(groups)}
    return found


def gathered(folder: Path, evaluation: str | None = None) -> dict[str, Any]:
    """The seeds of a recipe that are done: each one's summary, and means over them.

    Args:
        folder: The recipe's folder.
        evaluation: The name of an evaluation that has one.

    Raises:
        ConfigError: If no seed is done.
    """
    report = f"report-{evaluation}" if evaluation else "report"
    paths = sorted(folder.glob(f"seed-*/{report}/{SUMMARY}"))
    if not paths:
        raise ConfigError(f"no seed is done in {folder}: there is no seed-N/{report}/{SUMMARY}.")
    seeds = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    done = ("common/", *(f"seed-{seed['seed']}/" for seed in seeds))
    manifests = _found(folder, "manifest.json", done)
    steps = {
        name: {
            key: value
            for key, value in manifest.items()
            if key not in ("outputs", "inputs", "step", "versions", "machine")
        }
        for name, manifest in manifests.items()
    }
    minutes = {
        str(seed["seed"]): round(
            sum(
                manifest["seconds"]
                for name, manifest in manifests.items()
                if name.startswith((f"seed-{seed['seed']}/", "common/"))
            )
            / 60,
            1,
        )
        for seed in seeds
    }
    latest_manifest: Mapping[str, Any] = max(
        manifests.values(), key=lambda manifest: manifest["date"], default={}
    )
    return {
        "recipe": seeds[0]["recipe"],
        "date": latest_manifest.get("date"),
        "machine": latest_manifest.get("machine"),
        "versions": latest_manifest.get("versions"),
        "minutes_of_steps_by_seed": minutes,
        "over_seeds": _over_seeds(seeds),
        "seeds": seeds,
        "steps": steps,
        "filters": _found(folder, "filter.json", done),
        "training": _found(folder, "metrics.json", done),
    }


def merged(found: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, and the seeds of an earlier result that it has not.

    Args:
        found: What :func:`gathered` gave.
        earlier: The same, of other seeds.

    Raises:
        ConfigError: If the earlier ones were not made by the same recipe with the same settings.
    """
    known, former = _settings(found), _settings(earlier)
    differing = sorted(step for step in known if known[step] != former.get(step))
    if found["recipe"] != earlier["recipe"] or differing:
        raise ConfigError(
            f"the earlier result is of recipe {earlier['recipe']} with other settings of "
            f"{', '.join(differing) or 'its steps'}; seeds of different settings are not one "
            "result. Write to another file."
        )
    seeds = {seed["seed"]: seed for seed in (*earlier["seeds"], *found["seeds"])}
    parts = ("minutes_of_steps_by_seed", "steps", "filters", "training")
    return {
        **found,
        "over_seeds": _over_seeds([seeds[seed] for seed in sorted(seeds)]),
        "seeds": [seeds[seed] for seed in sorted(seeds)],
        **{part: {**earlier[part], **found[part]} for part in parts},
    }


def text(found: Mapping[str, Any]) -> str:
    """One seed's summary as a table."""
    lines = [f"{found['recipe']}, seed {found['seed']}: goal on held-out tasks, 95 % intervals"]
    for arm, measured in found["arms"].items():
        if "goal" not in measured:
            lines.append(f"  {arm:18} no scored episode of {measured['episodes']}")
            continue
        goal = measured["goal"]
        # Open-ended tasks have no deals.
        deals = f"deals {measured['deals']['mean']:4.0%}   " if "deals" in measured else ""
        lines.append(
            f"  {arm:18} {goal['mean']:5.2f} {_interval(goal, '.2f')}   {deals}"
            f"turns {measured['turns']['mean']:4.1f}   {measured['scored']} episodes"
        )
    lines.append("differences, paired by task, role and partner")
    for pair, difference in found["differences"].items():
        lines.append(f"  {pair:34} {difference['mean']:+5.2f} {_interval(difference, '+.2f')}")
    return "\n".join(lines)


# --- inside


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of each step, whatever its seed."""
    return {
        re.sub(r"^seed-\d+/", "", name): {
            key: value for key, value in step["settings"].items() if key != "seed"
        }
        for name, step in found["steps"].items()
    }


def _found(folder: Path, name: str, steps: tuple[str, ...]) -> dict[str, Any]:
    """What is in the files of this name, by those steps whose names begin like these."""
    of = {str(path.parent.relative_to(folder)): path for path in sorted(folder.rglob(name))}
    return {
        step: json.loads(path.read_text(encoding="utf-8"))
        for step, path in of.items()
        if step.startswith(steps)
    }


def _interval(found: Mapping[str, Any], form: str) -> str:
    """The interval of a mean; of a single task there is none."""
    low, high = found["low"], found["high"]
    return "[-, -]" if low is None else f"[{low:{form}}, {high:{form}}]"


def _journals(inputs: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for name, folder in inputs.items():
        if (folder / JOURNAL).is_file():
            yield name.split("/")[1], folder / JOURNAL
        else:
            for path in sorted(folder.glob(f"*/{JOURNAL}")):
                yield path.parent.name, path


def _means(episodes: list[Episode]) -> dict[str, dict[str, float]]:
    tasks = [episode.task.task_id for episode in episodes]
    values: dict[str, list[float]] = {"goal": [], "deals": [], "turns": [], "words": []}
    for episode in episodes:
        judgement, (role,) = episode.judgement, episode.seats
        assert judgement is not None
        goal = judgement.goal(role)
        values["goal"].append(math.nan if goal is None else goal)
        outcome = judgement.outcome
        values["deals"].append(math.nan if outcome is None else float(outcome.agreed))
        values["turns"].append(len(episode.events))
        own = [event.action.argument.split() for event in episode.events if event.agent == role]
        values["words"].append(statistics.fmean(len(words) for words in own) if own else 0.0)
    found = {}
    for measure, known in values.items():
        if not any(math.isnan(value) for value in known):
            interval = mean_interval(known, tasks)
            found[measure] = {
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "count": interval.count,
            }
    return found


def _differences(journals: Mapping[str, Path], base: str) -> dict[str, Any]:
    """Of every arm to the base and the floors, to the one it goes on from, and to its control."""
    arms = [arm for arm in journals if arm not in SCRIPTED]
    pairs = [(arm, other) for arm in arms for other in (base, *_FLOORS) if other in journals]
    pairs += [(arm, arm.rpartition("+")[0]) for arm in arms if "+" in arm]
    pairs += [(arm, f"{arm}{CONTROL}") for arm in arms]
    found = {}
    for arm, other in pairs:
        if arm == other or other not in journals:
            continue
        compared = benchmark.compare(latest(journals[other]), latest(journals[arm]))
        for difference in compared.differences:
            if difference.measure == "goal":
                found[f"{arm} - {other}"] = {
                    "mean": difference.difference.mean,
                    "low": difference.difference.low,
                    "high": difference.difference.high,
                    "pairs": compared.pairs,
                    "d": difference.cohens_d,
                    "p": difference.p,
                }
    return found


def _over_seeds(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds of each arm's mean goal."""
    found: dict[str, Any] = {}
    for arm in dict.fromkeys(arm for seed in seeds for arm in seed["arms"]):
        means = [s["arms"][arm]["goal"]["mean"] for s in seeds if "goal" in s["arms"].get(arm, {})]
        found[arm] = {
            "seeds": len(means),
            "goal": statistics.fmean(means) if means else None,
            "sd": statistics.stdev(means) if len(means) > 1 else None,
        }
    return found


def _role(episode: Episode) -> str:
    return episode.seats[0]


def _partner(episode: Episode) -> str:
    return episode.partners_of(episode.seats[0])


def main() -> None:
    """Gather what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m baselines.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="the recipe's folder, with seed-0, seed-1, ...")
    parser.add_argument("--out", type=Path, required=True, help="file for the result, as JSON")
    parser.add_argument("--evaluation", help="name of an evaluation that has one, e.g. all")
    parser.add_argument("--keep", action="store_true", help="keep the seeds that --out has already")
    options = parser.parse_args()
    try:
        found = gathered(options.folder, options.evaluation)
        if options.keep and options.out.is_file():
            found = merged(found, json.loads(options.out.read_text(encoding="utf-8")))
    except ConfigError as error:
        parser.error(str(error))
    command = f"python -m baselines.report {options.folder} --out {options.out}"
    command += f" --evaluation {options.evaluation}" if options.evaluation else ""
    command += " --keep" if options.keep else ""
    write_whole(options.out, [json.dumps({"command": command, **found}, indent=1).encode() + b"\n"])
    for seed in found["seeds"]:
        print(text(seed))


if __name__ == "__main__":
    main()
