"""Classical reinforcement learning on prices in numbers: how near to the optimum does PPO get?

    python -m eval.numeric [--steps 60000] [--self-play]

trains Stable-Baselines3's PPO against the scripted partners to learn with, and plays it, without
chance, on held-out tasks, in both roles, against those partners and against two that it never met.
The same games are played by three others: one that asks for the most until its last chance and then
accepts, the scripted expert, and one at random.

The optimum is exact, and clairvoyant: it knows the partner's private target and temperament. A
scripted haggler asks for a price that depends on its own brief and the turn alone; it takes an
offer that is no worse to it than what it would ask for in that turn, and nothing else. So no play
gets a better price than the best of its asks, and who waits for that and accepts it has it. Where
that is worse than no deal, the optimum is no deal. Its asks are found by letting it talk to one who
never offers anything, and the optimum is then played in numbers to see that it can be reached.

With ``--self-play`` one more policy learns by playing both roles against itself.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from eval.commands import made_by
from sotopia_gym import Action, NumericEnv, NumericSoloEnv, Rollout, Task
from sotopia_gym.agents.scripted import PARTNERS
from sotopia_gym.envs.numeric import LEVELS
from sotopia_gym.envs.numeric_codec import FEATURES, Vector
from sotopia_gym.errors import missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.stats import interval_of_sums, mean_interval
from sotopia_gym.tasks.families.price import NO_DEAL_GOAL, price_spec, read_statement

MOST, ACCEPT, LEAVE = LEVELS - 1, LEVELS, LEVELS + 1
ROLES = ("agent_0", "agent_1")
ENVIRONMENTS = 8
"""How many a learner plays at once, in one process."""

Policy = Callable[[Vector], int]


@dataclass(frozen=True)
class Game:
    """What is played: a task, the learner's role, and the partner."""

    task: Task
    role: str
    partner: str

    def start(self) -> tuple[NumericSoloEnv, Vector]:
        """An environment in which it has begun, with the first observation."""
        env = _solo(self.partner)
        seen, _ = env.reset(seed=0, options={"task": self.task.task_id, "role": self.role})
        return env, seen


@cache
def _solo(partner: str) -> NumericSoloEnv:
    return NumericSoloEnv("price", split="heldout", partner=partner)


def games(tasks: int) -> list[Game]:
    """Every held-out task in both roles against every partner."""
    suite = _solo(PARTNERS["train"][0]).solo.env.suite.tasks[:tasks]
    partners = [name for split in PARTNERS.values() for name in split]
    return [Game(task, role, partner) for partner in partners for task in suite for role in ROLES]


# --- the optimum -----------------------------------------------------------------------------


def asks(game: Game) -> list[float]:
    """The prices that the partner asks for, turn by turn, as long as it is offered nothing."""
    env, _ = game.start()
    over = False
    while not over:
        _, _, terminated, truncated, _ = env.solo.step(Action("speak", "What do you suggest?"))
        over = terminated or truncated
    said = [e for e in env.solo.env.episode.events if e.agent != game.role]
    read = (read_statement(event.action.argument).offer for event in said)
    return [price for price in read if price is not None]


def optimum(game: Game) -> tuple[float, float]:
    """The best goal score that can be had, and the one that playing for it in numbers gets."""
    spec = price_spec(game.task)
    worth = [spec.goal(game.role, price) for price in asks(game)]
    best = max([NO_DEAL_GOAL, *worth])
    waits = next((n for n, goal in enumerate(worth) if goal == best), None)
    env, seen = game.start()
    heard = int(seen[FEATURES.index("theirs_made")])
    while True:
        action = LEAVE if waits is None else ACCEPT if heard > waits else MOST
        _, reward, over, _, _ = env.step(action)
        heard += 1
        if over:
            return best, float(reward)


# --- who plays -------------------------------------------------------------------------------


def patient(seen: Vector) -> int:
    """Asks for the most, and accepts what there is at the last chance."""
    return ACCEPT if seen[FEATURES.index("last_chance")] else MOST


def at_random(seed: int) -> Policy:
    """Any action is as likely as any other."""
    rng = np.random.default_rng(seed)
    return lambda _: int(rng.integers(LEVELS + 2))


def play(policy: Policy, game: Game) -> float:
    """The goal score that ``policy`` gets."""
    env, seen = game.start()
    over = False
    reward: Any = 0.0
    while not over:
        seen, reward, over, _, _ = env.step(policy(seen))
    return float(reward)


def expert(played: Sequence[Game]) -> list[float]:
    """The goal scores of the scripted expert."""
    goals: dict[tuple[str, str, str], float] = {}
    suite = list({game.task.task_id: game.task for game in played}.values())
    partners = list({game.partner: None for game in played})
    run = Rollout(suite, "scripted/expert", partners, judge="outcome", every_partner=True)
    for episode in run:
        assert episode.judgement is not None
        assert episode.focal is not None
        (partner,) = (name for role, name in episode.agents.items() if role != episode.focal)
        goal = episode.judgement.goal(episode.focal)
        assert goal is not None
        goals[episode.task.task_id, episode.focal, partner] = goal
    return [goals[game.task.task_id, game.role, game.partner] for game in played]


# --- learning --------------------------------------------------------------------------------


def learn(env: Any, steps: int, seed: int) -> tuple[Policy, dict[str, float]]:
    """Train PPO; the greedy policy, and what it took.

    The return is not discounted: an episode has a reward in its last step only, and is short.
    """
    from stable_baselines3 import PPO

    wall, processor = time.perf_counter(), time.process_time()
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=lambda left: 1e-3 * left,
        n_steps=256,
        batch_size=256,
        gamma=1.0,
        ent_coef=0.01,
        seed=seed,
        device="cpu",
    )
    model.learn(steps)
    took = {
        "minutes": round((time.perf_counter() - wall) / 60, 2),
        "processor_minutes": round((time.process_time() - processor) / 60, 2),
        "steps": model.num_timesteps,
    }
    return lambda seen: int(model.predict(seen, deterministic=True)[0]), took


def against_partners(steps: int, seed: int) -> tuple[Policy, dict[str, float]]:
    """PPO that learns on training tasks against the partners to learn with."""
    from stable_baselines3.common.env_util import make_vec_env

    def one() -> gymnasium.Env[Vector, Any]:
        # A network that begins near 0 learns rewards up to 1 sooner than up to 10.
        return gymnasium.wrappers.TransformReward(
            NumericSoloEnv("price"), lambda goal: float(goal) / 10
        )

    return learn(make_vec_env(one, ENVIRONMENTS, seed=seed), steps, seed)


def against_itself(steps: int, seed: int) -> tuple[Policy, dict[str, float]]:
    """PPO with one policy for both roles of every game."""
    return learn(_self_play(ENVIRONMENTS // 2, seed), steps, seed)


def _self_play(count: int, seed: int) -> Any:
    """Parallel environments as one of Stable-Baselines3's: each agent is an environment of it."""
    from stable_baselines3.common.vec_env import VecEnv

    class SelfPlay(VecEnv):
        def __init__(self) -> None:
            self.envs = [NumericEnv("price") for _ in range(count)]
            self.places = [(env, agent) for env in self.envs for agent in env.possible_agents]
            env, agent = self.places[0]
            super().__init__(
                len(self.places), env.observation_space(agent), env.action_space(agent)
            )

        def reset(self) -> np.ndarray:
            seen = {env: env.reset(seed=seed + n)[0] for n, env in enumerate(self.envs)}
            return np.stack([seen[env][agent] for env, agent in self.places])

        def step_async(self, actions: np.ndarray) -> None:
            self.actions = dict(zip(self.places, actions, strict=True))

        def step_wait(self) -> Any:
            rows = []
            for env in self.envs:
                agents = env.possible_agents
                seen, goals, over, _, infos = env.step({a: self.actions[env, a] for a in agents})
                ended = any(over.values())
                last, seen = seen, env.reset()[0] if ended else seen
                for a in agents:
                    info = {"terminal_observation": last[a]} if ended else {}
                    rows.append((seen[a], goals[a] / 10, ended, infos[a] | info))
            observations, rewards, dones, told = zip(*rows, strict=True)
            return np.stack(observations), np.array(rewards, np.float32), np.array(dones), told

        def close(self) -> None:
            for env in self.envs:
                env.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [getattr(env, attr_name) for env, _ in self._chosen(indices)]

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            for env, _ in self._chosen(indices):
                setattr(env, attr_name, value)

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kw: Any) -> Any:
            return [getattr(env, method_name)(*args, **kw) for env, _ in self._chosen(indices)]

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False for _ in self._chosen(indices)]

        def _chosen(self, indices: Any) -> list[Any]:
            return [self.places[i] for i in self._get_indices(indices)]

    return SelfPlay()


# --- what comes out --------------------------------------------------------------------------


def shares(played: Sequence[Game], goals: Sequence[float], best: Sequence[float]) -> dict[str, Any]:
    """Mean goal score and share of the optimum, by population, with intervals over tasks.

    The share is the mean goal divided by the mean optimum, and the same with what no deal is worth
    taken from both. Whole tasks are resampled.
    """
    table: dict[str, Any] = {}
    for split, partners in PARTNERS.items():
        rows = [
            (game.task.task_id, goal, most)
            for game, goal, most in zip(played, goals, best, strict=True)
            if game.partner in partners
        ]
        ids, had, most = zip(*rows, strict=True)
        goal = mean_interval(had, ids)
        row: dict[str, Any] = {
            "episodes": len(rows),
            "goal": round(goal.mean, 3),
            "goal_interval": [round(goal.low, 3), round(goal.high, 3)],
            "optimum": round(float(np.mean(most)), 3),
        }
        for name, base in (("share", 0.0), ("share_above_no_deal", NO_DEAL_GOAL)):
            sums: dict[str, list[float]] = {}
            for task_id, mine, top in rows:
                pair = sums.setdefault(task_id, [0.0, 0.0])
                pair[0] += mine - base
                pair[1] += top - base
            ratio = interval_of_sums(*zip(*sums.values(), strict=True))
            row[name] = round(ratio.mean, 3)
            row[f"{name}_interval"] = [round(ratio.low, 3), round(ratio.high, 3)]
        table[split] = row
    return table


def among_themselves(policy: Policy, tasks: Sequence[Task]) -> dict[str, Any]:
    """What two players with the same policy get on held-out tasks, each role on its own."""
    env = NumericEnv("price", split="heldout")
    goals: dict[str, list[float]] = {"buyer": [], "seller": []}
    agreed, turns = [], []
    for task in tasks:
        seen, _ = env.reset(seed=0, options={"task": task.task_id})
        while env.agents:
            seen, rewards, _, _, infos = env.step({a: policy(seen[a]) for a in env.agents})
        spec = price_spec(task)
        goals["buyer"].append(rewards[spec.buyer])
        goals["seller"].append(rewards[spec.seller])
        agreed.append(infos[spec.buyer]["outcome"]["status"] == "agreement")
        turns.append(len(env.episode.events))
    found: dict[str, Any] = {}
    for role, values in goals.items():
        interval = mean_interval(values)
        found[role] = round(interval.mean, 3)
        found[f"{role}_interval"] = [round(interval.low, 3), round(interval.high, 3)]
    return found | {"agreed": float(np.mean(agreed)), "turns": float(np.mean(turns))}


def experts_among_themselves(tasks: Sequence[Task]) -> dict[str, Any]:
    """The same for two scripted experts."""
    goals: dict[str, list[float]] = {"buyer": [], "seller": []}
    agreed, turns = [], []
    for episode in Rollout(list(tasks), "scripted/expert", judge="outcome"):
        spec, judgement = price_spec(episode.task), episode.judgement
        assert judgement is not None
        assert judgement.outcome is not None
        goals["buyer"].append(judgement.goal(spec.buyer) or 0.0)
        goals["seller"].append(judgement.goal(spec.seller) or 0.0)
        agreed.append(judgement.outcome.agreed)
        turns.append(len(episode.events))
    means = {role: round(float(np.mean(values)), 3) for role, values in goals.items()}
    return means | {"agreed": float(np.mean(agreed)), "turns": float(np.mean(turns))}


def show(name: str, table: dict[str, Any]) -> None:
    """Print the rows of one player."""
    for split, row in table.items():
        low, high = row["share_interval"]
        print(
            f"{name:10} {split:8} goal {row['goal']:5.2f} of {row['optimum']:5.2f}: "
            f"{row['share']:6.1%} [{low:.1%}, {high:.1%}], "
            f"above no deal {row['share_above_no_deal']:6.1%}"
        )


def main() -> None:
    """Play, train, print, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m eval.numeric", description=__doc__)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--self-play", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("eval/results/numeric.json"))
    arguments = parser.parse_args()
    try:
        versions = {name: version(name) for name in ("stable-baselines3", "torch", "gymnasium")}
    except ImportError as error:
        raise missing_extra("stable-baselines3", "rl", "training on numbers") from error

    played = games(arguments.tasks)
    found = [optimum(game) for game in played]
    best = [most for most, _ in found]
    reached = sum(most == had for most, had in found)
    print(f"optimum reached in {reached} of {len(played)} games")

    ppo, took = against_partners(arguments.steps, arguments.seed)
    print(f"PPO: {took}")
    players: dict[str, dict[str, Any]] = {
        "ppo": shares(played, [play(ppo, game) for game in played], best),
        "patient": shares(played, [play(patient, game) for game in played], best),
        "expert": shares(played, expert(played), best),
    }
    chance = at_random(arguments.seed)
    players["random"] = shares(played, [play(chance, game) for game in played], best)
    result: dict[str, Any] = {
        **made_by(
            f"python -m eval.numeric --steps {arguments.steps} --tasks {arguments.tasks} "
            f"--seed {arguments.seed}" + (" --self-play" if arguments.self_play else "")
        ),
        "versions": versions,
        "seed": arguments.seed,
        "optimum": {"games": len(played), "reached": reached},
        "ppo": took,
        "players": players,
    }
    if arguments.self_play:
        selfish, took = against_itself(arguments.steps, arguments.seed)
        tasks = [game.task for game in played[: 2 * arguments.tasks : 2]]
        players["self-play"] = shares(played, [play(selfish, game) for game in played], best)
        result["self-play"] = took | {
            "with itself": among_themselves(selfish, tasks),
            "two experts": experts_among_themselves(tasks),
        }
        print(json.dumps(result["self-play"], indent=1))
    for name, table in players.items():
        show(name, table)
    write_whole(arguments.out, [json.dumps(result, indent=1).encode() + b"\n"])


if __name__ == "__main__":
    main()
