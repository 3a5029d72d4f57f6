"""What the environment itself costs: agents' and judges' time is not counted.

    python -m eval.throughput env

prints the median cost of a step at turn 4 and at turn 400, steps per second, and the memory of
1,000 environments.
"""

from __future__ import annotations

import argparse
import gc
import platform
import resource
import statistics
import time

import sotopia_gym
from sotopia_gym import Action, SocialEnv

WORDS = "I have thought about it and could meet you somewhere in the middle, if that helps you."
MAX_TURNS = 420
EPISODES = 60
ENVIRONMENTS = 1000


def step_costs() -> list[list[float]]:
    """Microseconds of every step of some long episodes: one list a turn."""
    env = sotopia_gym.make("sotopia-v0", judge="none", max_turns=MAX_TURNS)
    costs: list[list[float]] = [[] for _ in range(MAX_TURNS)]
    for episode in range(EPISODES):
        env.reset(seed=episode)
        for turn in range(MAX_TURNS):
            actions = {agent: Action("speak", f"{WORDS} ({turn})") for agent in env.acting}
            start = time.perf_counter_ns()
            env.step(actions)
            costs[turn].append((time.perf_counter_ns() - start) / 1000)
    return costs


def steps_per_second() -> float:
    """Steps a second in episodes of 20 turns, resets and outcome judge included."""
    env = sotopia_gym.make("sotopia-v0")
    steps, start = 0, time.perf_counter()
    for episode in range(400):
        env.reset(seed=episode)
        while env.agents:
            env.step({agent: Action("speak", WORDS) for agent in env.acting})
            steps += 1
    return steps / (time.perf_counter() - start)


def memory_of_environments() -> float:
    """MB that :data:`ENVIRONMENTS` environments add, each in the middle of an episode."""
    suite = sotopia_gym.load_suite("starter")
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    environments = [SocialEnv(suite) for _ in range(ENVIRONMENTS)]
    for index, env in enumerate(environments):
        env.reset(seed=index)
        for _ in range(10):
            env.step({agent: Action("speak", WORDS) for agent in env.acting})
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def environment() -> None:
    """Measure and print what the environment costs."""
    memory = memory_of_environments()
    costs = step_costs()
    # A few turns around each point: single turns are noisy.
    early = statistics.median(cost for turn in range(2, 7) for cost in costs[turn])
    late = statistics.median(cost for turn in range(398, 403) for cost in costs[turn])
    print(f"python {platform.python_version()}, {platform.machine()}, {EPISODES} episodes")
    print(f"median step at turn 4:   {early:6.1f} us")
    print(f"median step at turn 400: {late:6.1f} us, {late / early:.2f} times (at most 1.5 wanted)")
    print(f"steps per second, 20-turn episodes with resets and judge: {steps_per_second():,.0f}")
    print(f"memory of {ENVIRONMENTS:,} environments in mid-episode: {memory:.0f} MB")


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m eval.throughput", description=__doc__)
    parser.add_argument("what", choices=["env"])
    parser.parse_args()
    environment()


if __name__ == "__main__":
    main()
