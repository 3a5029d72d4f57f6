"""What the library itself costs: the time of models is not counted.

    python -m eval.throughput env

prints the median cost of a step at turn 4 and at turn 400, steps per second, and the memory of
1,000 environments.

    python -m eval.throughput rollout [--cells 200:16 1000:64 --seconds 60]

plays episodes of 20 turns and one judgement against a local server that answers after 0, 20, 200
and 1,000 ms, 1 to 256 at once, and compares with the ideal (requests that must follow one another
times the latency) and with a bare loop of the same SDK that sends the same requests and does
nothing else: called as its documentation says ("bare"), and in the cheaper way that the library
calls it ("lean").

    python -m eval.throughput memory

prints what 2,000 concurrent scripted episodes take.

    python -m eval.throughput embedded

compares the tokens a second of the embedded model through the engine with those of a bare load
generator on the same server in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from openai import AsyncOpenAI

import sotopia_gym
from sotopia_gym import Action, Agent, SocialEnv
from sotopia_gym.agents import from_spec
from sotopia_gym.agents.llm import LLMAgent
from sotopia_gym.files import write_whole
from sotopia_gym.judges.llm import LLMJudge
from sotopia_gym.llm.client import ChatClient, ChatRequest, ClientOptions

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


# --- the rollout engine ----------------------------------------------------------------------

TURNS = 20
REQUESTS = TURNS + 1
LATENCIES = (0, 20, 200, 1000)
CONCURRENCIES = (1, 16, 64, 256)
BARE_CPU = 8
"""Milliseconds of processor time that the bare loop takes for a request, about."""


@dataclass(frozen=True)
class Run:
    """What one loop did against the server.

    Attributes:
        episodes: Episodes, of :data:`REQUESTS` requests each.
        seconds: Wall-clock time.
        cpu: Milliseconds of processor time a request, of this process.
    """

    episodes: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Episodes a minute."""
        return 60 * self.episodes / self.seconds


@contextmanager
def served(latency: int) -> Iterator[str]:
    """The address of a server with this latency, in a process of its own."""
    command = [sys.executable, "-m", "eval.latency_server", str(latency)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.stdin.close()


class Recorder(ChatClient):
    """A client that keeps the bodies of its requests."""

    bodies: ClassVar[list[dict[str, Any]]] = []

    def body_of(self, request: ChatRequest) -> dict[str, Any]:
        body = super().body_of(request)
        self.bodies.append(body)
        return body


def timed(episodes: int, work: Callable[[], object]) -> Run:
    """Run ``work`` and say what it took."""
    cpu, start = time.process_time(), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    spent = 1000 * (time.process_time() - cpu) / (episodes * REQUESTS)
    return Run(episodes, seconds, spent)


def through_engine(address: str, episodes: int, concurrency: int) -> Run:
    """Play ``episodes`` episodes of :data:`TURNS` turns and a judgement."""
    options = ClientOptions(max_concurrency=concurrency)
    spec = f"latency@{address}"
    task = sotopia_gym.load_suite("starter").tasks[0]

    def work() -> None:
        run = sotopia_gym.Rollout(
            [task],
            spec,
            judge=spec,
            repetitions=episodes,
            concurrency=concurrency,
            options=options,
        )
        for episode in run:
            assert episode.judgement is not None
            assert episode.judgement.scored, episode.judgement.error
            assert len(episode.events) == TURNS

    return timed(episodes, work)


def through_sdk(
    address: str,
    bodies: list[dict[str, Any]],
    episodes: int,
    concurrency: int,
    *,
    lean: bool = False,
) -> Run:
    """Send what ``episodes`` episodes send, one request after the other in each.

    Args:
        address: The server.
        bodies: The requests of one episode.
        episodes: How many episodes.
        concurrency: How many at once.
        lean: Whether to go around the SDK's walk through typed parameters, as the library does.
    """

    async def work() -> None:
        async with AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            waiting = iter(range(episodes))

            async def play() -> None:
                for _ in waiting:
                    for body in bodies:
                        if lean:
                            await client.chat.completions.create(
                                model="latency", messages=[], extra_body=body
                            )
                        else:
                            await client.chat.completions.create(**body)

            await asyncio.gather(*(play() for _ in range(concurrency)))

    return timed(episodes, lambda: asyncio.run(work()))


def requests_of_an_episode() -> list[dict[str, Any]]:
    """The bodies of what one episode asks."""
    with served(0) as address:
        client = Recorder("latency", address, "none", own=True)
        judge = LLMJudge(client)
        task = sotopia_gym.load_suite("starter").tasks[0]
        list(sotopia_gym.Rollout([task], LLMAgent(client), judge=judge))
        client.close()
    assert len(Recorder.bodies) == REQUESTS
    return list(Recorder.bodies)


def engine(cells: Sequence[str], seconds_each: float, out: Path) -> None:
    """Measure the engine against the ideal and the bare loop, and print a table.

    Args:
        cells: ``LATENCY:CONCURRENCY`` of what is measured; none for the whole table.
        seconds_each: How long a loop takes about, where latency bounds it. The longer, the less of
            it is the start.
        out: File for the result.
    """
    bodies = requests_of_an_episode()
    print(
        "episodes a minute; shares of the ideal, of the bare and of the lean loop; CPU ms a request"
    )
    heads = ("latency", "at once", "engine", "bare", "ideal", "of ideal", "of bare", "of lean")
    print(" ".join(f"{head:>9}" for head in (*heads, "CPU", "of bare", "of lean")))
    rows = []
    table = [f"{latency}:{at_once}" for latency in LATENCIES for at_once in CONCURRENCIES]
    for cell in cells or table:
        latency, concurrency = map(int, cell.split(":"))
        seconds = REQUESTS * latency / 1000
        rounds = max(1, round(seconds_each / seconds)) if seconds else 1
        episodes = max(concurrency * rounds, 32 if latency == 0 else 1)
        if concurrency * BARE_CPU > latency:  # the processor bounds it
            episodes = min(episodes, max(concurrency, 100))
        with served(latency) as address:
            through_sdk(address, bodies[:1], concurrency, concurrency)  # nothing is cold
            bare = through_sdk(address, bodies, episodes, concurrency)
            ours = through_engine(address, episodes, concurrency)
            lean = bare
            if costly := latency < 100:  # where latency bounds, the two are the same
                lean = through_sdk(address, bodies, episodes, concurrency, lean=True)
        ideal = 60 * concurrency / seconds if seconds else float("inf")
        row = {
            "latency_ms": latency,
            "concurrency": concurrency,
            "episodes": episodes,
            "engine": round(ours.rate, 1),
            "bare": round(bare.rate, 1),
            "of_ideal": round(ours.rate / ideal, 3),
            "of_bare": round(ours.rate / bare.rate, 3),
            "cpu_ms": round(ours.cpu, 2),
            "bare_cpu_ms": round(bare.cpu, 2),
            "cpu_ratio": round(ours.cpu / bare.cpu, 2),
            "of_lean": round(ours.rate / lean.rate, 3) if costly else None,
            "lean_cpu_ratio": round(ours.cpu / lean.cpu, 2) if costly else None,
        }
        rows.append(row)
        shown = [f"{latency} ms", f"{concurrency}", f"{ours.rate:.0f}", f"{bare.rate:.0f}"]
        shares = (row["of_ideal"], row["of_bare"], row["of_lean"])
        shown += [f"{ideal:.0f}", *("-" if s is None else f"{s:.0%}" for s in shares)]
        shown += [f"{ours.cpu:.2f}", f"{row['cpu_ratio']}", f"{row['lean_cpu_ratio'] or '-'}"]
        print(" ".join(f"{each:>9}" for each in shown), flush=True)
    chosen = f" --cells {' '.join(cells)}" if cells else ""
    write_result(out, f"rollout{chosen} --seconds {seconds_each:g}", {"rows": rows})


def concurrent_memory() -> float:
    """MB that 2,000 concurrent scripted episodes add to the imported library.

    Every one is held in its middle until all are there.
    """
    gathered = asyncio.Event()
    waiting = 0

    class Waiting(Agent):
        """Says what the script says, but waits in its third turn until all have come so far."""

        name = "waiting"

        def __init__(self) -> None:
            self._script = from_spec("scripted/fair")

        def fork(self) -> Waiting:
            return Waiting()

        def reset(self, *, seed: int) -> None:
            self._script.reset(seed=seed)

        def act(self, observation: Mapping[str, Any]) -> Action:
            return self._script.act(observation)

        async def aact(self, observation: Mapping[str, Any]) -> Action:
            nonlocal waiting
            if observation["turn"] in (4, 5):
                waiting += 1
                if waiting == EPISODES_AT_ONCE:
                    gathered.set()
                await gathered.wait()
            return self.act(observation)

    suite = sotopia_gym.load_suite("starter")
    talkative = Words()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = sotopia_gym.Rollout(
        suite.tasks[:100],
        Waiting(),
        talkative,
        judge="outcome",
        roles="first",
        repetitions=EPISODES_AT_ONCE // 100,
        concurrency=EPISODES_AT_ONCE,
    )
    count = sum(1 for _ in run)
    assert count == EPISODES_AT_ONCE
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


EPISODES_AT_ONCE = 2000


class Words(Agent):
    """Talks and never agrees, so that episodes reach their middle."""

    name = "words"

    def act(self, observation: Mapping[str, Any]) -> Action:
        return Action("speak", WORDS)

    async def aact(self, observation: Mapping[str, Any]) -> Action:
        return self.act(observation)


def memory() -> None:
    """Measure and print what many concurrent episodes take."""
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    added = concurrent_memory()
    print(
        f"{EPISODES_AT_ONCE:,} concurrent scripted episodes: {start + added:.0f} MB in all, "
        f"{start:.0f} MB of them before the first one (at most 300 wanted)"
    )


# --- the embedded model ----------------------------------------------------------------------


def embedded(episodes: int, out: Path) -> None:
    """Compare the engine with a bare load generator on the same server in this process."""
    from sotopia_gym.llm.embedded import load

    server = load("smollm2-135m")
    tasks = sotopia_gym.load_suite("starter").split("heldout").tasks[:episodes]
    asked: list[dict[str, Any]] = []
    direct = server.chat

    def recorded(*arguments: Any, **settings: Any) -> Any:
        asked.append({"arguments": arguments, "settings": settings})
        return direct(*arguments, **settings)

    def play() -> int:
        run = sotopia_gym.Rollout(
            tasks,
            "local/smollm2-135m",
            ["scripted/fair", "scripted/firm"],
            judge="outcome",
            roles="first",
            rules=sotopia_gym.Rules(max_turns=8),
            concurrency=8,
        )
        return sum(used.completion_tokens for ep in run for used in ep.usage.values())

    def bare() -> int:
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(lambda r: direct(*r["arguments"], **r["settings"]), asked)
            return sum(completion.completion_tokens for completion in made)

    server.chat = recorded  # type: ignore[method-assign]  # to listen in
    play()
    server.chat = direct  # type: ignore[method-assign]  # as it was
    rates: dict[str, list[float]] = {"engine": [], "bare": []}
    for _ in range(3):
        for name, work in (("bare", bare), ("engine", play)):
            start = time.perf_counter()
            tokens = work()
            rates[name].append(tokens / (time.perf_counter() - start))
    mine, best = (statistics.median(rates[name]) for name in ("engine", "bare"))
    print(
        f"tokens a second: engine {mine:.1f}, bare load {best:.1f}, share {mine / best:.1%} "
        "(at least 95 % wanted)"
    )
    result = {name: [round(rate, 1) for rate in found] for name, found in rates.items()}
    write_result(out, "embedded", {"tokens_per_second": result, "share": round(mine / best, 3)})


def write_result(out: Path, what: str, result: dict[str, Any]) -> None:
    """Write a result with the command that made it."""
    told = {
        "command": f"python -m eval.throughput {what}",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"python {platform.python_version()}",
        **result,
    }
    write_whole(out, [json.dumps(told, indent=1).encode() + b"\n"])


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m eval.throughput", description=__doc__)
    parser.add_argument("what", choices=["env", "rollout", "memory", "embedded"])
    parser.add_argument("--cells", nargs="*", default=[], metavar="LATENCY:CONCURRENCY")
    parser.add_argument("--seconds", type=float, default=8, help="a loop takes, about")
    parser.add_argument("--episodes", type=int, default=12, help="of the embedded model")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = Path("eval/results")
    match arguments.what:
        case "env":
            environment()
        case "rollout":
            out = arguments.out or results / "throughput.json"
            engine(arguments.cells, arguments.seconds, out)
        case "memory":
            memory()
        case "embedded":
            embedded(arguments.episodes, arguments.out or results / "throughput_smollm2-135m.json")


if __name__ == "__main__":
    main()
