"""Many episodes at once: all of them, the same ones however they are scheduled, none lost."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from sotopia_gym import Action, load_suite
from sotopia_gym.agents.base import Agent
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import Judgement, Usage
from sotopia_gym.errors import BudgetExceededError, ConfigError, JournalError, ModelError
from sotopia_gym.judges.base import Judge
from sotopia_gym.rollout import Rollout, Rules

TASKS = load_suite("starter").split("heldout").tasks[:6]
PARTNERS = ["scripted/fair", "scripted/firm"]


def rollout(**settings):
    return Rollout(TASKS, "scripted/expert", PARTNERS, **{"judge": "outcome", **settings})


def content(episodes):
    """What must not depend on scheduling, in an order of its own."""
    return sorted(e.model_copy(update={"seconds": None}).model_dump_json() for e in episodes)


class Broken(Agent):
    """Fails in its second turn, in some tasks."""

    name = "broken"

    def __init__(self, error=None, tasks=TASKS[:2]):
        self._error = error or RuntimeError("out of order")
        self._scenes = {task.scenario.context for task in tasks}

    def act(self, observation):
        if observation["turn"] >= 2 and any(s in observation["background"] for s in self._scenes):
            raise self._error
        return Action("speak", "Let me think.")


def test_every_task_is_played_in_both_roles_against_drawn_partners():
    run = rollout(repetitions=2)
    episodes = list(run)
    assert len(episodes) == len(run.jobs) == len(TASKS) * 2 * 2 == run.progress.played
    assert len({e.key for e in episodes}) == len(episodes)
    for episode in episodes:
        assert episode.agents[episode.focal] == "scripted/expert"
        (other,) = set(episode.agents) - {episode.focal}
        assert episode.agents[other] in PARTNERS
        assert episode.judgement.scored
    assert {e.focal for e in episodes} == {"agent_0", "agent_1"}
    assert {e.agents[o] for e in episodes for o in e.agents if o != e.focal} == set(PARTNERS)


def test_without_partners_the_agent_plays_all_roles():
    episodes = list(Rollout(TASKS, "scripted/fair", judge="none"))
    assert len(episodes) == len(TASKS)
    assert all(set(e.agents.values()) == {"scripted/fair"} for e in episodes)
    assert all(e.focal is None and e.judgement is None for e in episodes)


@pytest.mark.parametrize(("roles", "focal"), [("first", "agent_0"), ("second", "agent_1")])
def test_one_role_or_every_partner(roles, focal):
    episodes = list(rollout(roles=roles, every_partner=True))
    assert len(episodes) == len(TASKS) * len(PARTNERS)
    assert {e.focal for e in episodes} == {focal}


def test_what_is_played_does_not_depend_on_how_many_are_played_at_once():
    one, many = (content(rollout(concurrency=n)) for n in (1, 50))
    assert one == many
    assert one != content(rollout(seed=1))

    async def awaited():
        return [episode async for episode in rollout(concurrency=3)]

    assert content(asyncio.run(awaited())) == one


def test_more_tasks_and_repetitions_leave_the_others_as_they_were():
    few = {e.key: e.events for e in Rollout(TASKS[:3], "scripted/fair", PARTNERS, judge="none")}
    many = Rollout(TASKS[::-1], "scripted/fair", PARTNERS, judge="none", repetitions=2)
    known = {e.key: e.events for e in many}
    assert len(known) == 24
    assert few.items() <= known.items()


def test_agents_that_are_compared_meet_the_same_luck():
    def luck(agent):
        return [(j.seed, j.task.task_id, j.focal, *j.agents.values()) for j in jobs(agent)]

    def jobs(agent):
        return Rollout(TASKS, agent, PARTNERS, judge="none").jobs

    assert [[w for w in job if w != "scripted/random"] for job in luck("scripted/random")] == [
        [w for w in job if w != "scripted/silent"] for job in luck("scripted/silent")
    ]
    assert {j.key for j in jobs("scripted/random")}.isdisjoint(
        j.key for j in jobs("scripted/silent")
    )


def test_a_player_that_fails_costs_its_own_episodes_only(tmp_path, caplog):
    run = Rollout(TASKS, Broken(), "scripted/fair", judge="outcome", journal=tmp_path / "j.jsonl")
    episodes = list(run)
    failed = [e for e in episodes if e.ending == "failed"]
    assert len(episodes) == 12
    assert len(failed) == 4 == run.progress.failed
    assert {e.error for e in failed} == {"RuntimeError: out of order"}
    assert all(e.events and not e.complete and e.judgement is None for e in failed)
    assert "out of order" in caplog.text
    assert "4 failed" in str(run.progress)


def test_failed_episodes_are_played_again_and_the_others_are_not(tmp_path):
    journal = tmp_path / "j.jsonl"
    list(Rollout(TASKS, Broken(ModelError("gone")), PARTNERS, judge="outcome", journal=journal))
    again = Rollout(TASKS, Broken(tasks=()), PARTNERS, judge="outcome", journal=journal)
    episodes = list(again)
    assert len(episodes) == 12
    assert all(e.complete for e in episodes)
    assert (again.progress.resumed, again.progress.played) == (8, 4)


def test_a_rollout_goes_on_where_it_was_left(tmp_path):
    journal = tmp_path / "j.jsonl"
    first = rollout(journal=journal, concurrency=2)
    for number, _ in enumerate(first):
        if number == 4:
            break
    kept = list(Journal(journal))
    assert len([e for e in kept if e.complete]) >= 5
    second = rollout(journal=journal)
    assert content(second) == content(rollout())
    assert second.progress.resumed == len([e for e in kept if e.complete])
    assert second.progress.resumed + second.progress.played == 12
    third = rollout(journal=journal)
    assert len(list(third)) == 12
    assert third.progress.played == 0


def test_other_seeds_players_and_rules_are_other_episodes(tmp_path):
    journal = tmp_path / "j.jsonl"
    list(rollout(journal=journal))
    for other in ({"seed": 1}, {"rules": Rules(max_turns=4)}):
        assert rollout(journal=journal, **other).progress.resumed == 0
        run = rollout(journal=journal, **other)
        list(run)
        assert run.progress.resumed == 0


def test_the_time_and_the_money_that_are_given_are_kept_to():
    run = rollout(max_seconds=0)
    assert list(run) == []
    assert "max_seconds" in run.progress.stopped_by

    class Costly(Judge):
        name = "costly"

        def judge(self, episode):
            return Judgement(judge=self.name, error="no idea", usage=Usage(cost=1.0))

    run = rollout(judge=Costly(), max_cost=3, concurrency=1)
    assert len(list(run)) == 3 == run.progress.unscored
    assert run.progress.usage.cost == 3
    assert run.progress.stopped_by == "max_cost=3"


def test_where_a_budget_is_spent_nothing_is_recorded_that_was_not_played(tmp_path):
    broke = Broken(BudgetExceededError("spent"), TASKS)
    run = Rollout(TASKS, broke, PARTNERS, judge="none", journal=tmp_path / "j.jsonl")
    assert list(run) == []
    assert run.progress.stopped_by == "spent"
    assert list(Journal(tmp_path / "j.jsonl")) == []


def test_a_journal_belongs_to_one_rollout_at_a_time(tmp_path):
    first = rollout(journal=tmp_path / "j.jsonl")
    episodes = iter(first)
    next(episodes)
    with pytest.raises(JournalError, match="another process"):
        list(rollout(journal=tmp_path / "j.jsonl"))
    episodes.close()
    assert len(list(rollout(journal=tmp_path / "j.jsonl"))) == 12


def test_progress_is_told_after_every_episode():
    told = []
    list(rollout(progress=told.append))
    assert [p.played for p in told] == list(range(1, 13))
    assert told[-1].total == 12
    assert told[-1].rate > 0


def test_an_error_of_the_engine_itself_is_raised_after_what_is_in_flight(tmp_path):
    class Full(Journal):
        pass

    run = rollout(journal=Full(tmp_path / "j.jsonl"), progress=lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(run)
    assert len(list(Journal(tmp_path / "j.jsonl"))) >= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0},
        {"repetitions": 0},
        {"roles": "third"},
        {"rules": Rules(max_turns=0)},
        {"split": "heldout"},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError):
        rollout(**settings)


def test_two_players_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="called 'broken'"):
        Rollout(TASKS, Broken(), Broken(), judge="none")


def test_a_rollout_is_iterated_over_once():
    run = rollout()
    list(run)
    with pytest.raises(ConfigError, match="once"):
        list(run)


SLOW_RUN = """
    import asyncio, sys
    from sotopia_gym import Action, load_suite
    from sotopia_gym.agents.base import Agent
    from sotopia_gym.rollout import Rollout

    class Slow(Agent):
        name = "slow"
        async def aact(self, observation):
            await asyncio.sleep({delay})
            return self.act(observation)
        def act(self, observation):
            return Action("speak", f"Turn {{observation['turn']}}, what do you think?")

    run = Rollout("starter", Slow(), "scripted/fair", judge="outcome", journal=sys.argv[1],
                  concurrency=4)
    try:
        for episode in run:
            print(episode.key, flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def start(path, delay):
    code = textwrap.dedent(SLOW_RUN.format(delay=delay))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_what_is_in_flight_finish(tmp_path, number):
    process = start(tmp_path / "j.jsonl", 0.01)
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=60)[0].endswith("stopped\n")
    assert process.returncode == 0
    episodes = list(Journal(tmp_path / "j.jsonl"))
    assert 1 <= len(episodes) < 240
    assert all(e.complete and e.judgement.scored for e in episodes)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
def test_the_second_signal_ends_what_is_in_flight_and_keeps_it(tmp_path):
    process = start(tmp_path / "j.jsonl", 0.05)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    # The second must not arrive before the first was handled, or the two are one.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].endswith("stopped\n")
    interrupted = [e for e in Journal(tmp_path / "j.jsonl") if e.ending == "interrupted"]
    assert interrupted
    assert all(e.judgement is None and e.key for e in interrupted)
