"""The same episodes on Ray: none missing, none twice, whatever becomes of the workers."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from typer.testing import CliRunner

from sotopia_gym import load_suite
from sotopia_gym.agents.base import Agent
from sotopia_gym.agents.scripted import scripted
from sotopia_gym.benchmark import Result
from sotopia_gym.cli import app
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Usage
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import (
    BudgetExceededError,
    ConfigError,
    MissingDependencyError,
    ModelError,
    WorkerError,
)
from sotopia_gym.llm.client import ClientOptions
from sotopia_gym.rollout import RayEngine, Rollout, Rules, ray_engine
from sotopia_gym.tasks.schema import Suite
from tests import fault_server as faults

ray = pytest.importorskip("ray")

TASKS = load_suite("starter").split("heldout").tasks[:6]
PARTNERS = ["scripted/fair", "scripted/firm"]
EPISODES = 2 * len(TASKS)


@pytest.fixture(scope="module")
def cluster():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    # Workers cannot import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


def rollout(agent="scripted/random", **settings):
    settings = {"judge": "outcome", "engine": RayEngine(chunk=4), **settings}
    return Rollout(TASKS, agent, PARTNERS, **settings)


def content(episodes):
    """What must not depend on who plays where, in an order of its own."""
    return sorted(e.model_copy(update={"seconds": None}).model_dump_json() for e in episodes)


@pytest.fixture(scope="module")
def expected():
    return content(rollout(engine="local"))


class Custom(Agent):
    """Plays like the random script, and something else before."""

    name = "scripted/random"

    def __init__(self, *arguments):
        self.arguments = arguments
        self._script = scripted("random")

    def fork(self):
        return type(self)(*self.arguments)

    def reset(self, *, seed):
        self._script.reset(seed=seed)

    def act(self, observation):
        self.before(observation, *self.arguments)
        return self._script.act(observation)


class Deadly(Custom):
    """Ends its process in a task, so many times."""

    def before(self, observation, pid, scene, folder, times):
        if observation["turn"] < 2 or scene not in observation["background"]:
            return
        assert os.getpid() != pid
        deaths = len(list(folder.iterdir()))
        if deaths < times:
            (folder / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(Custom):
    def before(self, observation, seconds):
        time.sleep(seconds)


class Failing(Custom):
    def before(self, observation, error):
        raise error

    def usage(self):
        return Usage(requests=1, cost=1.0)


def deadly(folder, times):
    folder.mkdir(exist_ok=True)
    return Deadly(os.getpid(), TASKS[2].scenario.context, folder, times)


def test_the_episodes_are_those_of_the_local_engine(cluster, expected, tmp_path):
    told = []
    run = rollout(journal=tmp_path / "j.jsonl", progress=told.append)
    episodes = list(run)
    assert content(episodes) == expected
    assert list(Journal(tmp_path / "j.jsonl")) == episodes
    assert [progress.played for progress in told] == list(range(1, EPISODES + 1))
    assert (run.progress.total, run.progress.stopped_by) == (EPISODES, None)

    async def awaited():
        return [e async for e in rollout(engine="ray", concurrency=1)]

    assert content(asyncio.run(awaited())) == expected


def test_it_goes_on_where_either_engine_was_left(cluster, expected, tmp_path):
    journal = tmp_path / "j.jsonl"
    # What was not judged before is judged in between.
    for engine, judge, number in (("local", "none", 2), (RayEngine(chunk=3), "outcome", 5)):
        run = rollout(journal=journal, engine=engine, judge=judge)
        for _, _ in zip(range(number), run, strict=False):
            pass
    assert run.progress.judged == run.progress.resumed >= 2
    kept = sum(episode.complete for episode in latest(journal))
    assert kept >= 5
    run = rollout(journal=journal)
    assert content(run) == expected
    assert (run.progress.resumed, run.progress.played) == (kept, EPISODES - kept)
    assert content(latest(journal)) == expected


def test_where_all_is_played_what_is_left_is_judged_without_workers(tmp_path, monkeypatch):
    journal = tmp_path / "j.jsonl"
    list(rollout(journal=journal, judge="none", engine="local"))
    monkeypatch.setattr(ray_engine, "_remote_worker", None)
    run = rollout(journal=journal, engine=RayEngine(address="192.0.2.1:1"))
    assert all(episode.judgement.scored for episode in run)
    assert (run.progress.resumed, run.progress.judged) == (EPISODES, EPISODES)


def test_rollout_and_benchmark_on_the_command_line(cluster, expected, tmp_path):
    suite, journal, out = (tmp_path / name for name in ("few.json", "j.jsonl", "result.json"))
    suite.write_text(Suite(name="few", tasks=TASKS).model_dump_json())
    settings = ["--suite", suite, "--agent", "scripted/random", "--judge", "outcome"]
    settings += [word for partner in PARTNERS for word in ("--partner", partner)]
    settings += ["--engine", "ray", "--workers", "1", "--chunk", "4"]

    def cli(*arguments):
        words = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, words, catch_exceptions=False)

    assert cli("rollout", *settings, "--roles", "first", "--journal", journal).exit_code == 0
    assert len(list(Journal(journal))) == EPISODES / 2
    told = cli("benchmark", *settings, "--episodes-out", journal, "--out", out)
    assert told.exit_code == 0
    assert content(Journal(journal)) == expected
    assert Result.load(out).counts.scored == EPISODES


def test_a_cluster_that_is_not_there_is_a_clear_error(monkeypatch):
    def refuse(**settings):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match="expected a Ray cluster at 'auto', found none"):
        list(rollout(engine=RayEngine(address="auto")))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 100])
def test_a_worker_that_is_killed_costs_no_episode_and_repeats_none(
    cluster, expected, tmp_path, chunk, caplog
):
    agent = deadly(tmp_path / "deaths", times=1)
    run = rollout(agent, journal=tmp_path / "j.jsonl", engine=RayEngine(chunk=chunk))
    assert content(run) == expected
    assert content(Journal(tmp_path / "j.jsonl")) == expected
    assert (run.progress.played, run.progress.failed) == (EPISODES, 0)
    assert "a worker was lost" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_an_episode_that_always_ends_its_worker_fails_alone(cluster, expected, tmp_path):
    agent = deadly(tmp_path / "deaths", times=1000)
    run = rollout(agent, engine=RayEngine(chunk=4, retries=0), roles="first")
    episodes = list(run)
    assert sorted(e.key for e in episodes) == sorted(job.key for job in run.jobs)
    (failed,) = (e for e in episodes if not e.complete)
    assert failed.task == TASKS[2]
    assert "its worker was lost 1 times" in failed.error
    assert set(content(e for e in episodes if e.complete)) < set(expected)
    assert run.progress.failed == 1


@pytest.mark.slow
def test_workers_that_are_lost_as_fast_as_they_start_are_an_error(cluster, monkeypatch):
    class Stillborn(Custom):
        def __setstate__(self, state):
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_engine, "_MOST_LOST", 1)
    with pytest.raises(WorkerError, match="2 workers were lost"):
        list(rollout(Stillborn(), engine=RayEngine(workers=1)))


@pytest.mark.slow
def test_a_failed_episode_has_its_cause_and_the_budget_is_kept_to(cluster):
    run = rollout(Failing(ModelError("gone")), max_cost=3, engine=RayEngine(chunk=1, workers=1))
    episodes = list(run)
    assert {e.error for e in episodes} == {"ModelError: gone"}
    assert 3 <= len(episodes) < EPISODES
    assert run.progress.stopped_by == "max_cost=3"
    run = rollout(Failing(BudgetExceededError("spent")))
    assert list(run) == []
    assert run.progress.stopped_by == "spent"


@pytest.mark.slow
def test_when_stopped_what_is_in_flight_finishes_and_nothing_is_started(cluster):
    run = rollout(Slow(0.02), concurrency=2, engine=RayEngine(chunk=100))
    episodes = []
    for episode in run:
        episodes.append(episode)
        run.stop("enough")
    assert 1 <= len(episodes) < EPISODES
    assert all(e.complete for e in episodes)
    assert run.progress.stopped_by == "enough"


@pytest.mark.slow
def test_when_interrupted_what_is_finished_is_kept(cluster, tmp_path):
    async def interrupted():
        run = rollout(Slow(0.05), journal=tmp_path / "j.jsonl", concurrency=2)
        episodes = []
        async for episode in run:
            episodes.append(episode)
            run.interrupt()
        return episodes

    episodes = asyncio.run(interrupted())
    assert 1 <= len(episodes) < EPISODES
    assert list(Journal(tmp_path / "j.jsonl")) == episodes


@pytest.mark.slow
def test_language_models_are_asked_by_the_workers_within_one_cap(cluster, fault_server):
    action = json.dumps({"action_type": "speak", "argument": "Shall we?"})
    fault_server.default, fault_server.latency = faults.ok(action), 0.02
    spec, options = fault_server.spec(), ClientOptions(max_concurrency=4)
    run = rollout(spec, options=options, rules=Rules(max_turns=4), judge="none")
    episodes = list(run)
    assert len(episodes) == EPISODES
    assert all(e.usage[e.focal].requests == 2 for e in episodes)
    assert fault_server.count == 2 * EPISODES
    assert 2 <= fault_server.max_in_flight <= 4


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised(cluster):
    class Elsewhere(Custom):
        def prompt(self):
            return str(os.getpid())

    with pytest.raises(ConfigError, match="must be the same everywhere"):
        list(rollout(Elsewhere()))


def test_what_cannot_be_sent_is_named():
    with pytest.raises(ConfigError, match=r"Custom.*cannot be sent to other processes"):
        rollout(Custom(sys._getframe()))


ALONE = """
    import sys
    from sotopia_gym.rollout import Rollout

    run = Rollout("starter", "scripted/random", judge="outcome", repetitions=50,
                  journal=sys.argv[1], engine="ray")
    try:
        for episode in run:
            print(episode.key, flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_ray_by_itself_and_heeds_a_signal(tmp_path, number):
    code = textwrap.dedent(ALONE)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "j.jsonl")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=120)[0].splitlines()[-1] == "stopped"
    assert process.returncode == 0
    episodes = list(Journal(tmp_path / "j.jsonl"))
    assert 1 <= len(episodes) < 50 * 120
    assert all(e.complete for e in episodes)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"chunk": 0}, {"retries": -1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} must be at least"):
        RayEngine(**settings)


def test_an_unknown_engine_or_a_missing_package_is_a_clear_error(monkeypatch):
    with pytest.raises(ConfigError, match="'local', 'ray' or a RayEngine, got 'dask'"):
        rollout(engine="dask")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"sotopia-gym\[ray\]"):
        rollout(engine="ray")
