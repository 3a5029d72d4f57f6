"""What every family is worth to whom: expert and controls against partners of each temperament.

    python -m eval.families [--tasks 50] [--families price,division]

plays held-out tasks in every role and prints, for each family, role and agent, the mean share of
what could be had (0: no agreement, 1: the rational ceiling) against each partner, with the share of
episodes that ended in an agreement. Last comes how often two experts agree where they could.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from eval.commands import made_by
from sotopia_gym import Rollout
from sotopia_gym.files import write_whole
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.families import SPLITS, TEMPERAMENTS, families, family_of
from sotopia_gym.tasks.suites import build_family

AGENTS = ("scripted/expert", "scripted/silent", "scripted/random", "scripted/accepting")
PARTNERS = tuple(f"scripted/{temperament}" for temperament in TEMPERAMENTS)


def against_partners(family: str, agent: str, tasks: int) -> list[dict[str, Any]]:
    """One row for each role of ``agent`` and partner."""
    suite = build_family(family, "heldout", range(tasks))
    run = Rollout(suite, agent, PARTNERS, judge="outcome", every_partner=True, concurrency=1)
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    clusters: dict[tuple[str, str], list[str]] = defaultdict(list)
    agreed: dict[tuple[str, str], int] = defaultdict(int)
    for episode in run:
        judgement, focal = episode.judgement, episode.focal
        assert focal is not None
        assert judgement is not None
        assert judgement.outcome is not None
        partner = next(name for role, name in episode.agents.items() if role != focal)
        key = focal, partner
        shares[key].append(judgement.normalised[focal])
        clusters[key].append(episode.task.task_id)
        agreed[key] += judgement.outcome.agreed
    rows = []
    for (role, partner), values in sorted(shares.items()):
        interval = mean_interval(values, clusters[role, partner])
        rows.append(
            {
                "family": family,
                "role": role,
                "agent": agent,
                "partner": partner,
                "episodes": len(values),
                "share": round(interval.mean, 3),
                "interval": [round(interval.low, 3), round(interval.high, 3)],
                "agreed": round(agreed[role, partner] / len(values), 3),
            }
        )
    return rows


def experts_agree(family: str, tasks: int) -> dict[str, Any]:
    """How often experts among themselves agree in tasks in which an agreement makes sense."""
    row: dict[str, Any] = {"family": family}
    for split in SPLITS:
        suite = build_family(family, split, range(tasks))
        feasible = [task for task in suite if family_of(task).feasible(task)]
        run = Rollout(feasible, "scripted/expert", judge="outcome", concurrency=1)
        found = [e.judgement.outcome.agreed for e in run if e.judgement and e.judgement.outcome]
        row[split] = {
            "tasks": len(suite),
            "feasible": len(feasible),
            "agreed": round(sum(found) / len(found), 3),
        }
    return row


def show(rows: list[dict[str, Any]], agreements: list[dict[str, Any]]) -> None:
    """Print the tables."""
    names = [partner.removeprefix("scripted/") for partner in PARTNERS]
    print(f"{'family':14} {'role':8} {'agent':10} " + " ".join(f"{n:>20}" for n in names))
    by_agent: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_agent[row["family"], row["role"], row["agent"]][row["partner"]] = row
    for (family, role, agent), cells in by_agent.items():
        told = []
        for cell in (cells[partner] for partner in PARTNERS):
            low, high = cell["interval"]
            told.append(f"{cell['share']:5.2f} [{low:5.2f},{high:5.2f}] {cell['agreed']:4.0%}")
        print(f"{family:14} {role:8} {agent.removeprefix('scripted/'):10} " + " ".join(told))
    for row in agreements:
        told = [f"{s} {row[s]['agreed']:.1%} of {row[s]['feasible']}" for s in SPLITS]
        print(f"experts agree, {row['family']}: {', '.join(told)}")


def main() -> None:
    """Play, print, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m eval.families", description=__doc__)
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--families", default=",".join(families()))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("eval/results/families.json"))
    arguments = parser.parse_args()
    names = arguments.families.split(",")
    with ProcessPoolExecutor(arguments.processes) as pool:
        parts = [
            pool.submit(against_partners, name, agent, arguments.tasks)
            for name in names
            for agent in AGENTS
        ]
        experts = [pool.submit(experts_agree, name, 4 * arguments.tasks) for name in names]
        rows = [row for part in parts for row in part.result()]
        agreements = [expert.result() for expert in experts]
    show(rows, agreements)
    result = {
        **made_by(
            f"python -m eval.families --tasks {arguments.tasks}"
            + (f" --families {arguments.families}" if names != list(families()) else "")
        ),
        "rows": rows,
        "experts agree": agreements,
    }
    write_whole(arguments.out, [json.dumps(result, indent=1).encode() + b"\n"])


if __name__ == "__main__":
    main()
