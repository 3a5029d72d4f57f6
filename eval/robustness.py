"""How far does a judge move where nothing happened that should move it?

    python -m eval.robustness [--judge local/smollm2-135m] [--count N] [--html FILE]
    python -m eval.robustness --episodes runs/base.jsonl --dimensions goal secret

Finished conversations on tasks with ground truth, of scripted players on the held-out tasks of the
suite starter or drawn from journals, are judged as they are and after each edit of
eval/robustness_edits.py: longer turns, compliments, a claim of success, an order to the judge, the
own secret told, the roles exchanged. The exact judge stands beside: its scores should not move.

The same conversations are also judged again and again: by the judge as it is, and, where it is a
language model, with answers that are drawn at temperature 0.7.

What was judged is kept next to the result until the run is complete: one that was interrupted goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shlex
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import sotopia_gym
from eval import robustness_page
from eval.agreement import RESAMPLES, Estimate, intraclass, pairwise_agreement
from eval.commands import made_by, rounded
from eval.judging import Progress, judged, make_judge
from eval.robustness_edits import EDITS, IDENTITY, SIDES, Edit
from sotopia_gym import Episode, SocialEnv, load_suite
from sotopia_gym.benchmark.comparison import holm, sign_flip_p
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError, JudgeError, SotopiaGymError
from sotopia_gym.files import write_whole
from sotopia_gym.judges import DIMENSIONS, Judge, OutcomeJudge
from sotopia_gym.judges.llm import LLMJudge
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.sampling import family

PLAYERS: Final = (("expert", "expert"), ("stubborn", "stubborn"), ("expert", "silent"))
"""Scripts of the favoured side and of the other: good deals, bad or none, nobody to talk to."""

TEMPERATURE: Final = 0.7
MOVED: Final = 1.0
FEWEST: Final = 10
"""Clusters of which a bootstrap interval is worth showing."""

PLAIN: Final = "plain"
"""What the conversation as it is goes by among its edits."""
EXACT: Final = "exact"
"""What the goal score of the exact judge goes by among the dimensions."""

METHOD: Final = {
    "change": "score after the edit minus score before, of the edited side and of the other",
    "intervals": f"95 %, percentile bootstrap of {RESAMPLES} resamples of whole scenarios; none "
    f"where there are fewer than {FEWEST}: it would be too narrow",
    "p": "two-sided, of a change of 0, by flipping the signs of whole scenarios; p_holm: after "
    "Holm's correction over all edits and both sides of a dimension",
    "moved": f"share of changes of at least {MOVED:g} in either direction; raised: upwards",
    "unscored": "pairs of which the judge did not score both versions; they count in nothing else",
    "repeated": "the edited side's score of the same conversation; sd: root of the mean variance "
    "within conversations; same: share of pairs of calls with equal scores; ICC(1,1): Shrout and "
    "Fleiss 1979, undefined where all scores are equal",
}


@dataclass(frozen=True)
class Case:
    """A conversation, and the side that edits are to favour."""

    episode: Episode
    side: str


def scripted_cases(count: int, seed: int) -> list[Case]:
    """Conversations of scripted players on held-out tasks, families and sides in turn.

    Raises:
        ConfigError: If there are not so many tasks.
    """
    suite = load_suite("starter").split("heldout")
    rng = random.Random(seed)
    groups: dict[str, list[str]] = {}
    for task in suite:
        groups.setdefault(family(task), []).append(task.task_id)
    for group in groups.values():
        rng.shuffle(group)
    names = [name for together in zip(*groups.values(), strict=True) for name in together]
    cases = []
    for number, name in enumerate(_first(names, count)):
        turn = number // len(groups)
        players = PLAYERS[turn % len(PLAYERS)]
        # There are three pairs of players: over two rounds of them each has had both sides.
        side = f"agent_{turn % 2}"
        seats = {side: f"scripted/{players[0]}", SIDES[side]: f"scripted/{players[1]}"}
        env = SocialEnv(suite, judge="none")
        cases.append(Case(sotopia_gym.play(env, seats, seed=seed, options={"task": name}), side))
    return cases


def journal_cases(paths: Sequence[Path], count: int, seed: int) -> list[Case]:
    """Conversations drawn from journals: complete, of two agents, with ground truth, and not mute.

    The side is the agent that an episode is about, or the first that says something.

    Raises:
        ConfigError: If a file is missing, or there are not so many such conversations.
    """
    cases = []
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"there is no journal {path}.")
        for episode in latest(path):
            speaking = [e.agent for e in episode.events if e.action.action_type == "speak"]
            side = next((agent for agent in speaking if agent in episode.seats), None)
            two = len(episode.task.agents) == len(SIDES)
            if side and two and episode.complete and episode.task.scenario.outcome is not None:
                cases.append(Case(episode, side))
    random.Random(seed).shuffle(cases)
    return _first(cases, count)


def _first(found: Sequence[Any], count: int) -> list[Any]:
    if not 0 < count <= len(found):
        raise ConfigError(
            f"there are {len(found)} conversations that can be edited, {count} are wanted. Choose "
            "another --count."
        )
    return list(found[:count])


# --- Judging


@dataclass(frozen=True)
class Step:
    """One thing to judge.

    Attributes:
        id: Number of the case, and what is judged of it.
        judge: Who judges.
        episode: What is judged.
        seats: The keys there of the edited side and of the other.
    """

    id: str
    judge: Judge
    episode: Episode
    seats: Mapping[str, str]


def steps(
    cases: Sequence[Case], judge: Judge, drawing: Sequence[Judge], repeats: int
) -> Iterator[Step]:
    """All that is judged, conversation by conversation.

    Args:
        cases: The conversations.
        judge: The judge that is measured.
        drawing: The same judge with answers drawn with other seeds.
        repeats: How often a conversation is judged as it is.
    """
    for number, case in enumerate(cases):
        yield _step(number, case, PLAIN, judge)
        for call in range(1, repeats):
            yield _step(number, case, f"again {call}", judge)
        for edit in EDITS:
            yield _step(number, case, edit.name, judge, edit)
        for call, drawn in enumerate(drawing, start=1):
            yield _step(number, case, f"drawn {call}", drawn)


def _step(number: int, case: Case, name: str, judge: Judge, edit: Edit = IDENTITY) -> Step:
    seats = {"own": edit.seat(case.side), "other": edit.seat(SIDES[case.side])}
    return Step(f"{number}/{name}", judge, edit.make(case.episode, case.side), seats)


def record(step: Step) -> dict[str, Any]:
    """What the judge says, and the exact one."""
    judgement = judged(step.judge, step.episode)
    exact = OutcomeJudge().judge(step.episode)
    return {
        "id": step.id,
        "scores": {
            who: {name: given.score for name, given in judgement.scores.get(seat, {}).items()}
            for who, seat in step.seats.items()
        },
        "exact": {who: exact.goal(seat) for who, seat in step.seats.items()},
        "agreed": exact.outcome is not None and exact.outcome.agreed,
        **({} if judgement.scored else {"unscored because": (judgement.error or "")[:200]}),
    }


# --- Statistics

_Records = Mapping[str, Mapping[str, Any]]
_Before = Sequence[tuple[Hashable, float | None, float | None]]


def results(
    records: _Records,
    scenarios: Sequence[Hashable],
    dimensions: Sequence[str],
    repeats: int,
    draws: int,
) -> dict[str, Any]:
    """All statistics of what was judged.

    Args:
        records: What was judged, by id.
        scenarios: The scenario of each case; what is of one scenario is not independent.
        dimensions: The dimensions.
        repeats: How often each conversation was judged as it is.
        draws: How often with answers that were drawn.
    """
    cases = len(scenarios)
    agreed = {n for n in range(cases) if records[f"{n}/{PLAIN}"]["agreed"]}
    everything = range(cases)

    def changed(numbers: Sequence[int], edit: str, who: str, name: str) -> dict[str, Any]:
        pairs = []
        for n in numbers:
            before, after = (_score(records[f"{n}/{s}"], who, name) for s in (PLAIN, edit))
            pairs.append((scenarios[n], before, after))
        return change(pairs)

    parts = {"agreement": sorted(agreed), "no agreement": sorted(set(everything) - agreed)}
    edits: dict[str, dict[str, Any]] = {}
    for edit in EDITS:
        goals = {
            part: changed(numbers, edit.name, "own", "goal") for part, numbers in parts.items()
        }
        edits[edit.name] = {
            "does": edit.does,
            "dimensions": {
                name: {who: changed(everything, edit.name, who, name) for who in ("own", "other")}
                for name in dimensions
            },
            "own goal by outcome": goals,
            EXACT: {who: changed(everything, edit.name, who, EXACT) for who in ("own", "other")},
        }
    for name in dimensions:
        sides = [of for each in edits.values() for of in each["dimensions"][name].values()]
        tested = [of for of in sides if of.get("p") is not None]
        for side, p in zip(tested, holm([of["p"] for of in tested]), strict=True):
            side["p_holm"] = p
    again = [PLAIN, *(f"again {n}" for n in range(1, repeats))]
    drawn = [f"drawn {n}" for n in range(1, draws + 1)]
    return {
        "conversations": cases,
        "with an agreement": len(agreed),
        "judgements": len(records),
        "unscored": sum("unscored because" in each for each in records.values()),
        "edits": edits,
        "repeated": {
            kind: {name: stability(records, calls, name, cases) for name in dimensions}
            for kind, calls in (("as it is", again), ("drawn", drawn))
            if len(calls) > 1
        },
    }


def _score(record: Mapping[str, Any], who: str, name: str) -> float | None:
    """The score of a side in a dimension, or by the exact judge; None where unscored."""
    given = record[EXACT] if name == EXACT else record["scores"][who]
    score: float | None = given.get(who if name == EXACT else name)
    return score


def change(pairs: _Before) -> dict[str, Any]:
    """How far scores moved.

    Args:
        pairs: Cluster, score before and score after of each; None where unscored.
    """
    scored = [(n, before, after) for n, before, after in pairs if None not in (before, after)]
    told: dict[str, Any] = {"pairs": len(pairs), "unscored": len(pairs) - len(scored)}
    if not scored:
        return told
    changes = [float(after) - float(before) for _, before, after in scored]  # type: ignore[arg-type]  # none is None
    clusters = [cluster for cluster, *_ in scored]
    found = Estimate.of(mean_interval(changes, clusters, resamples=RESAMPLES))
    if len(set(clusters)) < FEWEST:
        found = Estimate(found.value)
    return told | {
        "before": sum(before or 0.0 for _, before, _ in scored) / len(scored),
        "change": asdict(found),
        "p": sign_flip_p(changes, clusters),
        "moved": sum(abs(each) >= MOVED for each in changes) / len(scored),
        "raised": sum(each >= MOVED for each in changes) / len(scored),
    }


def stability(
    records: _Records, calls: Sequence[str], dimension: str, cases: int
) -> dict[str, Any]:
    """How far a judge repeats itself; conversations with an unscored call are counted only."""
    rows = [
        [records[f"{n}/{call}"]["scores"]["own"].get(dimension) for call in calls]
        for n in range(cases)
    ]
    table = [row for row in rows if None not in row]
    told: dict[str, Any] = {
        "calls": len(calls),
        "conversations": len(table),
        "unscored": cases - len(table),
    }
    if not table:
        return told
    means = [sum(row) / len(row) for row in table]
    squares = [(x - m) ** 2 for row, m in zip(table, means, strict=True) for x in row]
    return told | {
        "sd": (sum(squares) / (len(table) * (len(calls) - 1))) ** 0.5,
        "same": pairwise_agreement(table),
        "ICC(1,1)": intraclass(table)["ICC(1,1)"],
    }


# --- Command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, print it, and write what is asked for."""
    options = _arguments(arguments)
    try:
        judge = make_judge(options.judge, options.dimensions)
        # Only a language model's answers can be drawn.
        seeds = range(1, options.repeats + 1) if isinstance(judge, LLMJudge) else ()
        drawing = [
            make_judge(options.judge, options.dimensions, draw=(TEMPERATURE, seed))
            for seed in seeds
        ]
        found = study(options, judge, drawing)
    except (SotopiaGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n" + robustness_page.text(found))
    if options.html is not None:
        write_whole(options.html, [robustness_page.page(found).encode()])
    return 0


def study(options: argparse.Namespace, judge: Judge, drawing: Sequence[Judge]) -> dict[str, Any]:
    """Judge all, and write the result.

    Args:
        options: Those of the command.
        judge: The judge that is measured; it is closed.
        drawing: The same judge with answers drawn with other seeds; likewise.
    """
    count, seed = options.count, options.seed
    if options.episodes:
        cases = journal_cases(options.episodes, count, seed)
    else:
        cases = scripted_cases(count, seed)
    planned = list(steps(cases, judge, drawing, options.repeats))
    about = {
        "judge": judge.name,
        "prompt": judge.prompt,
        "dimensions": options.dimensions,
        "seed": seed,
        "repeats": options.repeats,
        "steps, sha256": _digest(planned),
    }
    progress = Progress(options.json.with_suffix(".partial.jsonl"), about)
    for number, step in enumerate(planned, start=1):
        if step.id not in progress.done:
            found = record(step)
            progress.add(found, failed="unscored because" in found)
            print(f"{number:5}/{len(planned)}  {step.id:30} {_shown(progress, step)}", flush=True)
    for each in (judge, *drawing):
        each.close()
    if len(progress.failed) == len(planned):
        cause = progress.done[planned[0].id]["unscored because"]
        raise JudgeError(f"{judge.name} scored none of {len(planned)} conversations: {cause}")
    scenarios = [case.episode.task.scenario.scenario_id for case in cases]
    result = {
        **made_by(_command(options)),
        **about,
        "temperature of drawn answers": TEMPERATURE,
        "method": METHOD,
        "results": results(
            progress.done, scenarios, options.dimensions, options.repeats, len(drawing)
        ),
        "cases": [
            {"task": case.episode.task.task_id, "agents": case.episode.agents, "side": case.side}
            for case in cases
        ],
        "records": [progress.done[step.id] for step in planned],
    }
    written: dict[str, Any] = rounded(result)
    lines = json.dumps(written, indent=1, ensure_ascii=False)
    write_whole(options.json, [lines.encode() + b"\n"])
    progress.close()
    return written


def _digest(planned: Sequence[Step]) -> str:
    """A hash of all that is judged, so that no run goes on with other words."""
    told = hashlib.sha256()
    for step in planned:
        told.update(f"{step.id} {step.episode.episode_id}\n".encode())
    return told.hexdigest()


def _shown(progress: Progress, step: Step) -> str:
    done = progress.done[step.id]
    scores = (done["scores"][who].get("goal") for who in step.seats)
    return " ".join("-" if score is None else f"{score:g}" for score in scores)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--judge", default="local/smollm2-135m", metavar="SPEC")
    parser.add_argument("--dimensions", nargs="+", default=["goal"], choices=list(DIMENSIONS))
    parser.add_argument("--episodes", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="conversations")
    parser.add_argument("--repeats", type=int, default=3, metavar="K", help="calls of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of players, or of the draw")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all numbers")
    parser.add_argument("--html", "--out", type=Path, metavar="FILE", help="file for a page")
    options = parser.parse_args(arguments)
    name = re.sub(r"[^\w.-]+", "-", options.judge.removeprefix("local/"))
    options.json = options.json or Path("eval/results") / f"robustness_{name}.json"
    return options


def _command(options: argparse.Namespace) -> str:
    """The command, with names of files that say nothing of this machine."""
    words = ["python", "-m", "eval.robustness", "--judge", options.judge]
    words += ["--dimensions", *options.dimensions]
    words += ["--episodes", *(path.name for path in options.episodes)] if options.episodes else []
    words += ["--count", str(options.count), "--repeats", str(options.repeats)]
    return shlex.join([*words, "--seed", str(options.seed)])


if __name__ == "__main__":
    sys.exit(main())
