"""The judge against a server that misbehaves: real sockets, the real SDK.

For each fault: what becomes of the episode, and how many requests that takes. The client retries
what may pass (2 times here), the judge asks again what was answered badly (2 times here).
"""

import asyncio
import json
import math

import pytest
from typer.testing import CliRunner

import sotopia_gym
from sotopia_gym.cli import app
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.judges import DIMENSIONS
from sotopia_gym.judges.llm import LLMJudge
from sotopia_gym.judges.rejudge import rejudge
from sotopia_gym.llm.client import ClientOptions, from_spec
from tests import fault_server as faults

AGENTS = ("agent_0", "agent_1")


def answer(agents=AGENTS, **changed):
    return json.dumps(
        {
            agent: {
                name: {"reasoning": "because", "score": changed.get(name, max(0, d.low))}
                for name, d in DIMENSIONS.items()
            }
            for agent in agents
        }
    )


GOOD = faults.ok(answer(goal=7))


@pytest.fixture(scope="module")
def episodes():
    env = sotopia_gym.make("sotopia-v0", judge="none")
    players = {"agent_0": "scripted/fair", "agent_1": "scripted/firm"}
    return [sotopia_gym.play(env, players, seed=seed) for seed in range(64)]


async def no_sleep(seconds):
    assert seconds >= 0


@pytest.fixture
def judge(fault_server):
    made = []

    def make(**options):
        options = {"attempt_timeout": 0.5, "max_retries": 2} | options
        client = from_spec(fault_server.spec(), ClientOptions(**options), sleep=no_sleep)
        made.append(LLMJudge(client, attempts=3))
        return made[-1]

    yield make
    for one in made:
        one.close()


BAD_ANSWERS = {
    "malformed JSON": faults.malformed_json(),
    "truncated JSON": faults.truncated_json(),
    "cut off": faults.truncated(),
    "prose around JSON": faults.wrapped_json(answer()),
    "wrong keys": faults.ok(json.dumps({"alice": {}, "bob": {}})),
    "one agent missing": faults.ok(answer(["agent_0"])),
    "goal = 15": faults.ok(answer(goal=15)),
    "NaN": faults.ok(answer(goal=math.nan)),
    "empty": faults.empty(),
    "refusal": faults.refuse(),
}
"""Answered, but badly: one request each time the judge asks."""

NO_ANSWERS = {
    "429": faults.rate_limited("1"),
    "500": faults.error(500, "internal"),
    "503": faults.error(503, "overloaded"),
    "slow loris": faults.slow_loris(),
    "hang": faults.hang(),
    "connection reset": faults.reset(),
}
"""Not answered: each time the judge asks, one request and two retries of the client."""

FINAL = {"404 model": faults.unknown_model(), "401": faults.echoes_key(401)}
"""Asking again cannot help: one request in all."""


def cases(table, requests):
    return [pytest.param(fault, requests, id=name) for name, fault in table.items()]


@pytest.mark.parametrize(
    ("fault", "requests"), [*cases(BAD_ANSWERS, 3), *cases(NO_ANSWERS, 9), *cases(FINAL, 1)]
)
def test_a_fault_that_stays_leaves_the_episode_unscored(
    fault_server, judge, episodes, fault, requests
):
    fault_server.default = fault
    judgement = judge().judge(episodes[0])
    assert not judgement.scored
    assert judgement.scores == {}
    assert judgement.error
    assert fault_server.count == requests


@pytest.mark.parametrize("fault", [*BAD_ANSWERS.values(), *NO_ANSWERS.values()])
def test_a_fault_that_passes_costs_one_request_more(fault_server, judge, episodes, fault):
    fault_server.script.append(fault)
    fault_server.default = GOOD
    judgement = judge().judge(episodes[0])
    assert judgement.goal("agent_0") == judgement.goal("agent_1") == 7
    assert fault_server.count == 2


def test_one_bad_episode_among_many_harms_no_other(fault_server, judge, episodes):
    name = episodes[3].task.names["agent_0"]
    bad = {e.episode_id for e in episodes[:20] if name in e.task.names.values()}

    def picky(request):
        asked = request.body["messages"][1]["content"]
        return faults.malformed_json()(request) if name in asked else GOOD(request)

    fault_server.default = picky

    async def all_of_them():
        return [e async for e in rejudge(episodes[:20], judge())]

    judged = asyncio.run(all_of_them())
    assert {e.episode_id for e in judged} == {e.episode_id for e in episodes[:20]}
    assert {e.episode_id for e in judged if not e.judgement.scored} == bad
    assert all(e.judgement.goal("agent_0") == 7 for e in judged if e.episode_id not in bad)


def test_64_episodes_with_a_cap_of_8_never_make_9_requests_at_once(fault_server, judge, episodes):
    fault_server.default, fault_server.latency = GOOD, 0.2

    async def all_of_them():
        return [e async for e in rejudge(episodes, judge(max_concurrency=8), concurrency=64)]

    assert len(asyncio.run(all_of_them())) == 64
    assert fault_server.count == 64
    assert fault_server.max_in_flight == 8


def test_a_cached_second_run_makes_no_request_and_gives_the_same_scores(
    fault_server, judge, episodes, tmp_path
):
    fault_server.script += [faults.malformed_json()]
    fault_server.default = GOOD
    cache = tmp_path / "answers.sqlite"
    first = [judge(cache=cache).judge(episode) for episode in episodes[:5]]
    made = fault_server.count
    second = [judge(cache=cache).judge(episode) for episode in episodes[:5]]
    assert fault_server.count == made == 6
    assert [j.scores for j in first] == [j.scores for j in second]
    assert sum(j.usage.requests for j in second) == 0


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(app, ["judge", *map(str, arguments)])

    @pytest.fixture
    def journal(self, tmp_path, episodes):
        journal = Journal(tmp_path / "run.jsonl")
        for episode in episodes[:6]:
            journal.append(episode)
        return journal

    def test_it_judges_resumes_and_compares(self, fault_server, journal):
        out, spec = journal.path.with_suffix(".judged.jsonl"), fault_server.spec()
        done = self.run(journal.path, "--judge", "outcome")
        assert "6 judged now, 0 of them unscored" in done.stdout, done.output
        fault_server.script += [GOOD, GOOD]
        fault_server.default = faults.unknown_model()
        done = self.run(journal.path, "--judge", spec, "--concurrency", 1)
        assert "6 judged now, 4 of them unscored" in done.stdout
        fault_server.default = GOOD
        done = self.run(journal.path, "--judge", spec, "--compare", f"outcome,{spec}")
        assert "4 judged now, 0 of them unscored" in done.stdout
        assert "goal" in done.stdout
        assert f"unscored by {spec}: 0" in done.stdout
        assert fault_server.count == 2 + 4 + 4
        assert {e.episode_id for e in Journal(out)} == {e.episode_id for e in journal}

    def test_a_batch_answers_first_and_nothing_is_asked_twice(
        self, fault_server, journal, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("sotopia_gym.llm.batch._POLL_FIRST", 0.0)
        fault_server.default = GOOD
        options = ("--batch", "--cache", tmp_path / "answers.sqlite")
        done = self.run(journal.path, "--judge", fault_server.spec(), *options)
        assert "batch: 6 answered, 0 were in the cache, 0 failed" in done.stdout, done.output
        assert "6 judged now, 0 of them unscored" in done.stdout
        assert fault_server.count == 0
        exact = self.run(journal.path, "--judge", "outcome", "--batch")
        assert "asks no server" in str(exact.exception)

    def test_a_missing_file_or_judge_is_a_clear_error(self, journal, tmp_path):
        assert self.run(journal.path).exit_code == 2
        missing = self.run(tmp_path / "none.jsonl", "--judge", "outcome")
        assert "no episode file" in str(missing.exception)
