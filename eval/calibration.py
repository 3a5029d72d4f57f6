"""Does calibrating GPT-4's scores on people's ratings bring them closer to other people's?

    python -m eval.calibration FOLDER [--splits 500]

FOLDER holds SOTOPIA's human evaluation. On the episodes that both people and GPT-4 have rated, the
scenarios are split in two again and again; a monotone map is fitted on one half and judged on the
other: by how much does it change the mean absolute difference to the mean of the raters?
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands import made_by
from sotopia_gym import Episode
from sotopia_gym.episodes.importers import import_episodes
from sotopia_gym.files import write_whole
from sotopia_gym.judges import DIMENSIONS
from sotopia_gym.judges.calibrated import fit
from sotopia_gym.judges.human import HumanJudge

FILES = ("human_ratings.jsonl", "all_otree_episodes.jsonl", "gpt4_scores_140eps.json")
TRAINING_SHARE = 0.5

Pair = tuple[float, float, str]  # GPT-4's score, mean of the raters, scenario


def rated_twice(episodes: list[Episode]) -> dict[str, list[Pair]]:
    """Dimension to pairs of scores, over the agents that people and GPT-4 have both rated."""
    people = HumanJudge(episodes)
    pairs: dict[str, list[Pair]] = {name: [] for name in DIMENSIONS}
    for episode in episodes:
        gpt4 = next((j for j in episode.judgements if j.judge.startswith("gpt-4")), None)
        human = people.judge(episode)
        if gpt4 is None or not gpt4.scored or not human.scored:
            continue
        for agent, by_dimension in human.scores.items():
            for name, score in by_dimension.items():
                given = gpt4.scores.get(agent, {}).get(name)
                if given is not None:
                    scenario = episode.task.scenario.scenario_id
                    pairs[name].append((given.score, score.score, scenario))
    return {name: found for name, found in pairs.items() if found}


def change(pairs: list[Pair], splits: int, seed: int) -> dict[str, Any]:
    """What calibration does to the mean absolute difference on held-out scenarios."""
    rng = np.random.default_rng(seed)
    scenarios = sorted({scenario for _, _, scenario in pairs})
    before, after = [], []
    for _ in range(splits):
        chosen = rng.permutation(len(scenarios))[: round(TRAINING_SHARE * len(scenarios))]
        training = {scenarios[index] for index in chosen}
        seen = [(given, meant) for given, meant, scenario in pairs if scenario in training]
        unseen = [(given, meant) for given, meant, scenario in pairs if scenario not in training]
        fitted = fit({"x": seen}, judge="gpt-4", fitted_on="training half")
        before.append(float(np.mean([abs(g - m) for g, m in unseen])))
        after.append(float(np.mean([abs(fitted.apply("x", g) - m) for g, m in unseen])))
    changes = np.array(after) - np.array(before)
    low, high = np.quantile(changes, [0.025, 0.975])
    return {
        "pairs": len(pairs),
        "scenarios": len(scenarios),
        "mean absolute difference before": round(float(np.mean(before)), 3),
        "mean absolute difference after": round(float(np.mean(after)), 3),
        "change": round(float(changes.mean()), 3),
        "change, 95 % of the splits": [round(float(low), 3), round(float(high), 3)],
        "share of splits that improve": round(float((changes < 0).mean()), 3),
    }


def main() -> None:
    """Run the study, print it, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m eval.calibration", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("eval/results/calibration.json"))
    arguments = parser.parse_args()
    episodes = list(import_episodes([arguments.folder / name for name in FILES]).episodes)
    pairs = rated_twice(episodes)
    result = {
        **made_by(
            f"python -m eval.calibration FOLDER --splits {arguments.splits} --seed {arguments.seed}"
        ),
        "data": "SOTOPIA's human evaluation: " + ", ".join(FILES),
        "splits": f"{arguments.splits}, by scenario, {TRAINING_SHARE:.0%} for fitting",
        "dimensions": {
            name: change(found, arguments.splits, arguments.seed) for name, found in pairs.items()
        },
    }
    print(json.dumps(result, indent=2))
    write_whole(arguments.out, [json.dumps(result, indent=2).encode() + b"\n"])


if __name__ == "__main__":
    main()
