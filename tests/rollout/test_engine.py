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
from sotopia_gym.episodes.schema import DimensionScore, Judgement, Usage
from sotopia_gym.episodes.store import latest
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


class Moody(Judge):
    """Fails where ``fails`` says so, and waits and counts."""

    def __init__(self, fails=lambda task: False, *, error=None, patience=0.0, prompt="", name=None):
        self.name, self.prompt = name or "moody", prompt
        self.asked = []
        self._fails, self._error, self._patience = fails, error, patience

    def judge(self, episode):
        raise AssertionError

    async def ajudge(self, episode):
        self.asked.append(episode.key)
        await asyncio.sleep(self._patience)
        usage = Usage(requests=1, cost=0.5)
        if self._fails(episode.task):
            if self._error is not None:
                raise self._error
            return Judgement(judge=self.name, error="not today", usage=usage)
        scores = {agent: {"goal": DimensionScore(score=5)} for agent in episode.task.agents}
        return Judgement(judge=self.name, scores=scores, usage=usage, prompt=self.prompt)


def always(task):
    return True


class Unneeded(Agent):
    """Takes the expert's name, and must not be asked."""

    name = "scripted/expert"

    def act(self, observation):
        raise AssertionError


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


def resumed(journal, judge, **settings):
    """The rollout of :func:`rollout` with players that must not be asked."""
    return Rollout(TASKS, Unneeded(), PARTNERS, judge=judge, journal=journal, **settings)


def test_what_the_judge_could_not_score_is_judged_again_and_not_played(tmp_path):
    path = tmp_path / "j.jsonl"
    first = {e.key: e for e in rollout(judge=Moody(lambda t: t in TASKS[:2]), journal=path)}
    before = path.read_bytes()
    judge, told = Moody(lambda t: t == TASKS[0]), []
    run = resumed(path, judge, progress=told.append)
    second = list(run)
    unscored = {key for key, e in first.items() if not e.judgement.scored}
    assert len(unscored) == 4 == len(judge.asked)
    assert set(judge.asked) == unscored
    # Those with a score are first, in the order of the journal.
    assert second[:8] == [e for e in first.values() if e.judgement.scored]
    for episode in second[8:]:
        was = first[episode.key]
        assert episode.model_copy(update={"judgements": was.judgements}) == was
        assert episode.judgements[:-1] == was.judgements
        assert episode.judgement.scored == (episode.task != TASKS[0])
    assert [(p.judged, p.resumed, p.played) for p in told] == [(n, 12, 0) for n in range(1, 5)]
    assert (run.progress.unscored, run.progress.failed) == (2, 0)
    # Playing them was paid for before.
    assert run.progress.usage == Usage(requests=4, cost=2.0)
    assert "12 of 12 episodes, 4 only judged" in str(run.progress)
    # The journal has grown by what is new, and each episode counts once, in its old place.
    assert path.read_bytes().startswith(before)
    assert list(Journal(path))[12:] == second[8:]
    newest = list(latest(path))
    assert [e.key for e in newest] == list(first)
    assert {e.key: e for e in newest} == {e.key: e for e in second}
    judge = Moody()
    assert all(e.judgement.scored for e in resumed(path, judge))
    assert len(judge.asked) == 2
    kept = path.read_bytes()
    assert len(list(resumed(path, Moody(always)))) == 12
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    "before",
    [None, Moody(name="another"), Moody(prompt="v0"), Moody(always, error=KeyError("price"))],
    ids=["nobody", "another", "asked otherwise", "broken"],
)
def test_only_scores_of_the_same_judge_count(tmp_path, before):
    path = tmp_path / "j.jsonl"
    played = list(rollout(judge=before, journal=path))
    judge = Moody(prompt="v1")
    run = resumed(path, judge)
    episodes = list(run)
    assert [e.judgements[:-1] for e in latest(path)] == [e.judgements for e in played]
    assert all(e.judgement.scored and e.judgement.prompt == "v1" for e in episodes)
    assert len(judge.asked) == run.progress.resumed == run.progress.judged == 12


def test_without_a_judge_episodes_come_back_as_they_are(tmp_path):
    path = tmp_path / "j.jsonl"
    played = list(rollout(judge=Moody(always), journal=path))
    before = path.read_bytes()
    run = resumed(path, "none")
    assert list(run) == played
    assert (run.progress.resumed, run.progress.judged, run.progress.unscored) == (12, 0, 0)
    assert path.read_bytes() == before


def test_failed_episodes_are_played_while_unscored_ones_are_judged(tmp_path):
    path = tmp_path / "j.jsonl"
    broken = Broken(ModelError("gone"))
    list(Rollout(TASKS, broken, PARTNERS, judge=Moody(lambda t: t in TASKS[2:4]), journal=path))
    run = Rollout(TASKS, Broken(tasks=()), PARTNERS, judge=Moody(), journal=path)
    episodes = list(run)
    assert len({e.key for e in episodes}) == len(episodes) == 12
    assert all(e.judgement.scored for e in episodes)
    assert (run.progress.resumed, run.progress.judged, run.progress.played) == (8, 4, 4)
    assert sorted(e.key for e in latest(path)) == sorted(job.key for job in run.jobs)


def test_where_money_for_judging_runs_out_what_was_played_is_kept(tmp_path):
    path = tmp_path / "j.jsonl"
    broke = Moody(lambda t: t in TASKS[2:], error=BudgetExceededError("spent"))
    run = rollout(judge=broke, journal=path, concurrency=1)
    given = list(run)
    assert [e.judgement.scored for e in given] == [True] * 4
    assert (run.progress.played, run.progress.unscored) == (5, 0)
    assert run.progress.stopped_by == "spent"
    *scored, unjudged = Journal(path)
    assert scored == given
    assert (unjudged.complete, unjudged.judgements) == (True, ())
    # As long as there is no money it stays so, and nothing else is begun.
    before = path.read_bytes()
    run = resumed(path, Moody(always, error=BudgetExceededError("spent")), concurrency=1)
    assert list(run) == scored
    assert (run.progress.resumed, run.progress.judged, run.progress.played) == (5, 0, 0)
    assert run.progress.stopped_by == "spent"
    assert path.read_bytes() == before
    run = rollout(judge=Moody(), journal=path)
    assert len(list(run)) == 12
    assert (run.progress.resumed, run.progress.judged, run.progress.played) == (5, 1, 7)


def test_judging_again_keeps_to_the_limits(tmp_path):
    path = tmp_path / "j.jsonl"
    list(rollout(judge="none", journal=path))
    run = resumed(path, Moody(), max_cost=1.5, concurrency=1)
    assert len(list(run)) == 3 == run.progress.judged
    assert run.progress.stopped_by == "max_cost=1.5"
    run = resumed(path, Moody(), max_seconds=0)
    assert len(list(run)) == 3 == sum(e.judgement is not None for e in latest(path))
    run = resumed(path, judge := Moody(patience=0.01), concurrency=2)
    for _ in run:
        if judge.asked:
            run.stop("enough")
    # Two are judged at a time, and four wait to be taken at most.
    assert 1 <= run.progress.judged <= 5
    assert sum(e.judgement is not None for e in latest(path)) == 3 + run.progress.judged


def test_when_interrupted_while_judging_what_was_played_is_kept(tmp_path):
    path = tmp_path / "j.jsonl"

    async def interrupted(run, judge):
        """Play until the judge is asked, and no further."""
        reading = asyncio.ensure_future(anext(aiter(run), None))
        while not judge.asked:
            await asyncio.sleep(0)
        run.interrupt()
        assert await reading is None

    judge = Moody(patience=60)
    run = rollout(judge=judge, journal=path, concurrency=1)
    asyncio.run(interrupted(run, judge))
    assert (run.progress.interrupted, run.progress.played) == (1, 0)
    (kept,) = Journal(path)
    assert (kept.complete, kept.judgements, kept.key) == (True, (), judge.asked[0])
    again = Moody(patience=60)
    run = resumed(path, again, concurrency=1)
    asyncio.run(interrupted(run, again))
    assert again.asked == [kept.key]
    assert (run.progress.resumed, run.progress.judged, run.progress.interrupted) == (1, 0, 0)
    assert list(Journal(path)) == [kept]
    run = rollout(judge="outcome", journal=path)
    assert content(run) == content(rollout())
    assert (run.progress.resumed, run.progress.judged) == (1, 1)


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
    # Where the last episode takes the last dollar, nothing is left that was stopped.
    run = rollout(judge=Costly(), max_cost=12, concurrency=1)
    assert len(list(run)) == 12
    assert run.progress.stopped_by is None


def test_what_has_no_price_does_not_hide_what_has(caplog):
    class Costly(Judge):
        name = "costly"

        def judge(self, episode):
            return Judgement(judge=self.name, error="no idea", usage=Usage(cost=1.0))

    class Unpriced(Agent):
        name = "unpriced"

        def reset(self, *, seed):
            self._spent = Usage()

        def act(self, observation):
            self._spent += Usage(requests=1, cost=None)
            return Action("leave")

        def usage(self):
            return self._spent

    run = Rollout(TASKS, Unpriced(), PARTNERS, judge=Costly(), max_cost=3, concurrency=1)
    assert len(list(run)) == 3
    assert run.progress.usage.cost is None
    assert run.progress.stopped_by == "max_cost=3"
    assert caplog.text.count("counts only what is known") == 1


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
