"""Rollouts with language models behind a server that misbehaves: real sockets, the real SDK.

Whatever goes wrong, every episode is accounted for: complete and scored, complete and unscored
with the cause, or failed with the cause. None is missing, made up, or there twice.
"""

import asyncio
import itertools
import json
import time
from collections import Counter

import pytest

from sotopia_gym import Action, load_suite
from sotopia_gym.agents.base import Agent
from sotopia_gym.agents.llm import LLMAgent
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Usage
from sotopia_gym.judges import DIMENSIONS, OutcomeJudge
from sotopia_gym.judges.llm import LLMJudge
from sotopia_gym.llm.client import ClientOptions, from_spec
from sotopia_gym.rollout import Rollout, Rules
from tests import fault_server as faults

TASKS = load_suite("starter").split("heldout").tasks[:30]
EPISODES = 60

PASSING = {
    "429 with Retry-After": faults.rate_limited("1"),
    "429": faults.rate_limited(),
    "500": faults.error(500, "internal"),
    "503": faults.error(503, "overloaded"),
    "slow loris": faults.slow_loris(),
    "hang": faults.hang(),
    "connection reset": faults.reset(),
}
"""The client tries again by itself."""

BAD_ANSWERS = {
    "half a body": faults.torn(),
    "HTML": faults.html(),
    "no chat completion": faults.as_json({"choices": []}),
    "malformed JSON": faults.malformed_json(),
    "truncated JSON": faults.truncated_json(),
    "cut off": faults.truncated(),
    "prose around JSON": faults.wrapped_json(),
    "NaN": faults.nan_json(),
    "not an action": faults.ok('{"action_type": "fly", "argument": "away"}'),
    "wrong keys": faults.ok('{"alice": {}, "bob": {}}'),
    "a list": faults.ok("[1, 2]"),
    "empty": faults.empty(),
    "no content": faults.ok(None),
    "refusal": faults.refuse(),
}
"""What comes back is of no use."""

FINAL = {
    "404 model": faults.unknown_model(),
    "401": faults.echoes_key(401),
    "400": faults.error(400, "I do not like this request."),
    "context": faults.error(400, "maximum context length exceeded"),
    "no quota": faults.error(429, "no quota", code="insufficient_quota"),
}
"""Asking again cannot help."""

ALL = [*PASSING.values(), *BAD_ANSWERS.values(), *FINAL.values()]


class Good:
    """Answers as it should, and remembers every word that it said to players.

    Attributes:
        said: The words.
        hated: The judge's answers about a task with this name in it are never of use.
    """

    def __init__(self, hated="no such name"):
        self.said = set()
        self.hated = hated
        self._numbers = itertools.count()

    def __call__(self, request):
        schema = request.body["response_format"]["json_schema"]["schema"]
        if "action_type" in schema["properties"]:
            return faults.ok(self._act())(request)
        if self.hated in request.body["messages"][1]["content"]:
            return faults.malformed_json()(request)
        scores = {
            name: {"reasoning": "because", "score": 7 if name == "goal" else max(0, d.low)}
            for name, d in DIMENSIONS.items()
        }
        return faults.ok(json.dumps(dict.fromkeys(schema["properties"], scores)))(request)

    def _act(self):
        words = f"Remark {next(self._numbers)}."
        self.said.add(words)
        return json.dumps({"action_type": "speak", "argument": words})


async def no_sleep(seconds):
    assert seconds >= 0


@pytest.fixture
def rollout(tmp_path):
    """Makes rollouts of 60 episodes with language models in all places, and one journal."""
    clients = []

    def client(server, name):
        options = ClientOptions(attempt_timeout=1.0, max_retries=2, max_concurrency=16)
        clients.append(from_spec(server.spec(name), options, sleep=no_sleep))
        return clients[-1]

    def make(server, **settings):
        run = Rollout(
            TASKS,
            LLMAgent(client(server, "policy")),
            LLMAgent(client(server, "partner")),
            judge=LLMJudge(client(server, "judge")),
            **{"rules": Rules(max_turns=4), **settings},
            concurrency=16,
            journal=tmp_path / "j.jsonl",
        )
        assert len(run.jobs) == EPISODES
        return run

    yield make
    for one in clients:
        one.close()


def accounted_for(episodes, run, good):
    """Check that each episode is what it may be; returns how many there are of each kind."""
    assert sorted(e.key for e in episodes) == sorted(job.key for job in run.jobs)
    kinds = Counter(map(kind, episodes))
    assert sum(kinds.values()) == EPISODES
    words = [e.action.argument for episode in episodes for e in episode.events]
    said = [argument for argument in words if argument]
    assert set(said) <= good.said
    assert len(set(said)) == len(said)
    return kinds


def kind(episode):
    """What became of an episode, after a check that it holds all that it must and no more."""
    if not episode.complete:
        assert (episode.ending, episode.judgements) == ("failed", ())
        assert episode.error
        return "failed"
    assert episode.error is None
    assert max(event.turn for event in episode.events) == 4
    judgement = episode.judgement
    if not judgement.scored:
        assert judgement.error
        assert judgement.scores == {}
        return "unscored"
    assert {judgement.goal(agent) for agent in episode.task.agents} <= {0, 7}
    return "scored"


def spent(episodes):
    used = (u for e in episodes for u in (*e.usage.values(), *(j.usage for j in e.judgements)))
    return sum(used, Usage())


def test_with_a_fault_in_every_twentieth_request_every_episode_is_accounted_for(
    fault_server, rollout, tmp_path
):
    hated = TASKS[3].names["agent_0"]
    good = Good(hated)
    # Each fault once for certain, to the players' first requests, and then at random.
    fault_server.script += ALL
    fault_server.default = faults.sometimes(0.05, ALL, good, seed=1)
    first = rollout(fault_server)
    episodes = list(first)
    kinds = accounted_for(episodes, first, good)
    assert kinds["failed"] >= len(FINAL)
    assert kinds["scored"] >= EPISODES / 2
    about = [e for e in episodes if e.complete and hated in e.task.names.values()]
    assert {kind(e) for e in about} == {"unscored"}
    progress = first.progress
    assert (progress.total, progress.resumed, progress.played) == (EPISODES, 0, EPISODES)
    assert (progress.failed, progress.unscored) == (kinds["failed"], kinds["unscored"])
    assert progress.usage == spent(episodes)
    assert list(Journal(tmp_path / "j.jsonl")) == episodes

    # What failed is played, what is unscored is judged, and the rest is as it was.
    good.hated = "no such name"
    fault_server.default = good
    second = rollout(fault_server)
    again = list(second)
    assert accounted_for(again, second, good) == {"scored": EPISODES}
    kept = [e for e in episodes if e.complete and e.judgement.scored]
    assert again[: len(kept)] == kept
    unscored = {e.key: e for e in episodes if e.complete and not e.judgement.scored}
    assert unscored == {
        e.key: e.model_copy(update={"judgements": e.judgements[:-1]})
        for e in again
        if e.key in unscored
    }
    progress = second.progress
    assert (progress.resumed, progress.played) == (EPISODES - kinds["failed"], kinds["failed"])
    assert (progress.judged, progress.unscored) == (kinds["unscored"], 0)
    assert list(Journal(tmp_path / "j.jsonl")) == episodes + again[len(kept) :]

    before = fault_server.count
    third = rollout(fault_server)
    assert {e.key: e for e in third} == {e.key: e for e in again}
    assert fault_server.count == before


@pytest.mark.parametrize("turn_order", ["round-robin", "simultaneous"])
def test_a_server_that_dies_in_the_middle_leaves_causes_and_nothing_that_hangs(
    rollout, tmp_path, turn_order
):
    good = Good()
    server = faults.FaultServer(default=good)
    run = rollout(server, rules=Rules(turn_order=turn_order, max_turns=4))
    episodes = []
    for episode in run:
        episodes.append(episode)
        if len(episodes) == 10:
            server.close()
            died = time.monotonic()
    assert time.monotonic() - died < 10
    kinds = accounted_for(episodes, run, good)
    assert kinds["scored"] >= 10
    assert kinds["failed"] >= 10
    causes = [e.error or e.judgement.error for e in episodes if kind(e) != "scored"]
    assert {cause for cause in causes if "no answer from" not in cause} == set()
    assert (run.progress.failed, run.progress.unscored) == (kinds["failed"], kinds["unscored"])
    assert list(Journal(tmp_path / "j.jsonl")) == episodes


def test_a_judge_that_is_broken_leaves_its_own_episodes_unscored(caplog):
    class Broken(OutcomeJudge):
        async def ajudge(self, episode):
            if episode.task == TASKS[0]:
                raise KeyError("price")
            return await super().ajudge(episode)

    run = Rollout(TASKS[:3], "scripted/fair", judge=Broken())
    errors = {e.task.task_id: e.judgement.error for e in run}
    assert errors == dict.fromkeys(errors, None) | {TASKS[0].task_id: "KeyError: 'price'"}
    assert run.progress.unscored == 1
    assert "the judge failed" in caplog.text


def test_a_player_that_cannot_even_begin_fails_its_own_episodes(caplog):
    class Unready(Agent):
        name = "unready"

        def reset(self, *, seed):
            raise OSError("no memory")

        def act(self, observation):
            raise AssertionError

    run = Rollout(TASKS[:2], Unready(), "scripted/fair", judge="none")
    assert [e.error for e in run] == ["OSError: no memory"] * 4
    assert "a player failed" in caplog.text


def test_when_one_of_several_players_fails_the_others_are_ended():
    ended = []

    class Player(Agent):
        def __init__(self, name, act):
            self.name, self._act = name, act

        def act(self, observation):
            raise AssertionError

        async def aact(self, observation):
            return await self._act()

    async def fail():
        await asyncio.sleep(0)
        raise RuntimeError("gone")

    async def wait():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(True)
            raise
        return Action("none")

    run = Rollout(
        TASKS[:1],
        Player("failing", fail),
        Player("waiting", wait),
        judge="none",
        rules=Rules(turn_order="simultaneous"),
    )
    assert {e.error for e in run} == {"RuntimeError: gone"}
    assert ended == [True, True]
