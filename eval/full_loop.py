"""The whole loop through real sockets: a served model plays both roles, and judges.

    python -m eval.full_loop [--episodes 20]

llama.cpp serves the embedded model on this machine; players and judge reach it as they would any
OpenAI-compatible server, with JSON schemas. It shows that the plumbing holds; the scores of a model
this small mean nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import sotopia_gym
from eval.commands import made_by
from sotopia_gym import Episode
from sotopia_gym.agents.llm import LLMAgent
from sotopia_gym.agents.prompts import SMALL
from sotopia_gym.envs.parallel import SocialEnv
from sotopia_gym.files import write_whole
from sotopia_gym.judges import DIMENSIONS
from sotopia_gym.judges.llm import LLMJudge
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.llm.embedded import load
from sotopia_gym.llm.spec import chat_model

MODEL = "smollm2-135m"
MAX_TURNS = 6
PATIENT = ClientOptions(attempt_timeout=600, total_timeout=1800, max_concurrency=2)
"""A small machine may take minutes for an answer."""


def play(episodes: int, seed: int) -> list[Episode]:
    """Play and judge, through the server."""
    spec = f"{MODEL}@{load(MODEL).address}"
    judge = LLMJudge(chat_model(spec, PATIENT), max_reasoning=40, max_tokens=1000)
    env = SocialEnv("starter", split="heldout", judge=judge, max_turns=MAX_TURNS)
    players = {
        agent: LLMAgent(
            chat_model(spec, PATIENT),
            prompt=SMALL,
            temperature=0.7,
            max_tokens=96,
            max_argument=200,
            repairs=0,
        )
        for agent in env.possible_agents
    }
    played = []
    for index in range(episodes):
        episode = sotopia_gym.play(env, players, seed=seed + index)
        judgement = episode.judgement
        assert judgement is not None
        scored = sum(len(by_dimension) for by_dimension in judgement.scores.values())
        said = judgement.error or f"{scored} scores"
        print(f"{index + 1:3}  {episode.task.task_id:28} {len(episode.events):2} events  {said}")
        played.append(episode)
    env.close()
    return played


def main() -> None:
    """Play, print, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m eval.full_loop", description=__doc__)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("eval/results/full_loop.json"))
    arguments = parser.parse_args()
    episodes = play(arguments.episodes, arguments.seed)
    judgements = [e.judgement for e in episodes if e.judgement is not None]
    scored = [j for j in judgements if j.scored]
    complete = [j for j in scored if all(set(by) == set(DIMENSIONS) for by in j.scores.values())]
    result = {
        **made_by(
            f"python -m eval.full_loop --episodes {arguments.episodes} --seed {arguments.seed}"
        ),
        "model": MODEL,
        "episodes": len(episodes),
        "max_turns": MAX_TURNS,
        "scored on all seven dimensions": len(complete),
        "unscored": len(judgements) - len(scored),
        "unscored because": sorted({str(j.error)[:160] for j in judgements if j.error}),
        "invalid actions": sum(e.note is not None for ep in episodes for e in ep.events),
        "requests": sum(j.usage.requests for j in judgements)
        + sum(u.requests for e in episodes for u in e.usage.values()),
        "prompt tokens a judgement": round(
            sum(j.usage.prompt_tokens for j in judgements) / max(1, len(judgements))
        ),
    }
    print(json.dumps(result, indent=2))
    write_whole(arguments.out, [json.dumps(result, indent=2).encode() + b"\n"])


if __name__ == "__main__":
    main()
