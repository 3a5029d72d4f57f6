"""Benchmarks: what was played is counted, averaged and compared as plain arithmetic would."""

import functools
import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from sotopia_gym import Action, Rollout, Rules, judges, load_suite
from sotopia_gym.agents.base import Agent
from sotopia_gym.benchmark import Result, benchmark, compare
from sotopia_gym.benchmark.comparison import holm, sign_flip_p
from sotopia_gym.benchmark.published import _another, published_agreement, published_rows
from sotopia_gym.cli import app
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.episodes.schema import DimensionScore, Judgement, Usage
from sotopia_gym.errors import BudgetExceededError, ConfigError, ModelError
from sotopia_gym.judges.base import Judge
from sotopia_gym.judges.calibrated import Calibration
from sotopia_gym.stats import mean_interval
from sotopia_gym.tasks.schema import Suite

STARTER = load_suite("starter").split("heldout")
SUITE = Suite(name="few", tasks=STARTER.tasks[:8])
PARTNERS = ["scripted/fair", "scripted/firm"]


class Canned(Judge):
    """Scores by how much was said, all seven dimensions or some, and fails in some scenarios."""

    name = "canned"

    def __init__(self, dimensions=tuple(DIMENSIONS), unscored=(), broke_after=math.inf):
        self.dimensions = dimensions
        self.judged = 0
        self._unscored, self._broke_after = set(unscored), broke_after

    def judge(self, episode):
        self.judged += 1
        if self.judged > self._broke_after:
            raise BudgetExceededError("spent")
        usage = Usage(requests=1, prompt_tokens=100, completion_tokens=10, cost=0.01)
        if episode.task.task_id in self._unscored:
            why = f"episode {self.judged} is beyond me"
            return Judgement(judge=self.name, error=why, usage=usage)
        scores = {}
        for agent in episode.task.agents:
            said = sum(len(e.action.argument) for e in episode.events if e.agent == agent)
            scores[agent] = {
                d: DimensionScore(score=said % 7 - i) for i, d in enumerate(DIMENSIONS)
            }
            scores[agent] = {d: scores[agent][d] for d in self.dimensions}
        return Judgement(
            judge=self.name,
            scores=scores,
            usage=usage,
            models=("canned-1 fp",),
            prompt=self.prompt,
        )


class Broken(Agent):
    """Fails in some scenes."""

    name = "broken"

    def __init__(self, tasks):
        self._scenes = {task.scenario.context for task in tasks}

    def act(self, observation):
        if any(scene in observation["background"] for scene in self._scenes):
            raise ModelError("server 17 is gone")
        return Action("speak", "Let me think about that.")


def run(suite=SUITE, agent="scripted/fair", partners=PARTNERS, **settings):
    return benchmark(suite, agent, partners, **{"judge": "outcome", **settings})


def found(result):
    """All of a result that does not say when and where it was made."""
    return result.model_dump(exclude={"config": {"date"}})


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_result_is_what_plain_arithmetic_makes_of_the_journal(tmp_path):
    path = tmp_path / "j.jsonl"
    result = run(repetitions=2, journal=path)
    episodes = records(path)
    assert len(episodes) == 32 == result.counts.planned == result.counts.scored
    rows = []
    for episode in episodes:
        judgement, focal = episode["judgements"][-1], episode["focal"]
        (other,) = set(episode["agents"]) - {focal}
        own = [e for e in episode["events"] if e["agent"] == focal]
        words = [
            len(e["action"]["argument"].split())
            for e in own
            if e["action"]["action_type"] == "speak"
        ]
        outcome = judgement["outcome"]
        rows.append(
            {
                "scenario": episode["task"]["scenario"]["scenario_id"],
                "family": outcome["family"],
                "role": focal,
                "met": episode["agents"][other],
                "goal": judgement["scores"][focal]["goal"]["score"],
                "other": judgement["scores"][other]["goal"]["score"],
                "normalised": judgement["normalised"][focal],
                "true": judgement["true_goals"][focal],
                "agreed": outcome["status"] == "agreement",
                "pareto": judgement["metrics"]["pareto_optimal"],
                "turns": episode["events"][-1]["turn"],
                "words": np.mean(words),
                "left": any(e["action"]["action_type"] == "leave" for e in own),
            }
        )

    def mean(key, **chosen):
        return np.mean([r[key] for r in rows if all(r[k] == v for k, v in chosen.items())])

    overall = result.overall
    told = {
        "goal": overall.scores["goal"],
        "normalised": overall.scores["normalised"],
        "true": overall.scores["true_goal"],
        "other": overall.partner["goal"],
        "agreed": overall.outcomes["agreement"],
        "pareto": overall.outcomes["pareto_optimal"],
        "turns": overall.conversation["turns"],
        "words": overall.conversation["words_per_turn"],
        "left": overall.conversation["left"],
    }
    for key, estimate in told.items():
        assert estimate.mean == pytest.approx(mean(key)), key
        assert (estimate.count, estimate.scenarios) == (32, 8)
    assert "overall" not in overall.scores
    groups = {"family": result.by_family, "role": result.by_role, "met": result.by_partner}
    for key, by in groups.items():
        assert set(by) == {r[key] for r in rows}
        for name, group in by.items():
            assert group.episodes == sum(r[key] == name for r in rows)
            assert group.scores["goal"].mean == pytest.approx(mean("goal", **{key: name}))
    rows.sort(key=lambda r: r["scenario"])
    interval = mean_interval([r["goal"] for r in rows], [r["scenario"] for r in rows])
    assert told["goal"].low == pytest.approx(interval.low)
    assert told["goal"].high == pytest.approx(interval.high)
    assert interval.low < interval.mean < interval.high


def test_repetitions_of_a_scenario_do_not_make_an_interval_narrower():
    one = run(agent="scripted/silent")
    many = run(agent="scripted/silent", repetitions=3)
    estimates = [result.overall.scores["goal"] for result in (one, many)]
    assert [e.count for e in estimates] == [16, 48]
    assert estimates[0].low < estimates[0].high
    assert estimates[0].low == pytest.approx(estimates[1].low)
    assert estimates[0].high == pytest.approx(estimates[1].high)


def test_failed_and_unscored_episodes_are_counted_and_in_no_mean(tmp_path):
    path = tmp_path / "j.jsonl"
    fails, beyond = SUITE.tasks[:2], SUITE.tasks[2:5]
    judge = Canned(unscored=[task.task_id for task in beyond])
    result = run(agent=Broken(fails), journal=path, judge=judge)
    counts = result.counts
    assert counts.planned == counts.scored + counts.unscored + counts.failed
    assert (counts.planned, counts.complete, counts.scored) == (16, 12, 6)
    assert (counts.failed, counts.unscored) == (4, 6)
    assert counts.failures == {"ModelError: server # is gone": 4}
    assert counts.unscored_because == {"episode # is beyond me": 6}
    scored = [e for e in Journal(path) if e.judgement and e.judgement.scored]
    assert len(scored) == 6
    goals = [e.judgement.goal(e.focal) for e in scored]
    assert result.overall.episodes == result.overall.conversation["turns"].count == 6
    assert result.overall.scores["goal"].mean == pytest.approx(np.mean(goals))
    assert result.overall.scores["overall"].mean == pytest.approx(
        np.mean([e.judgement.overall(e.focal) for e in scored])
    )
    # Money is spent on episodes without a score, too.
    assert result.spent.judge.requests == 12
    assert result.spent.total.cost == pytest.approx(0.12)
    assert result.spent.cost_per_episode == pytest.approx(0.12 / 16)
    assert result.spent.tokens_per_episode == pytest.approx(12 * 110 / 16)
    assert result.config.judge_models == ("canned-1 fp",)


def test_without_all_seven_dimensions_there_is_no_overall_score():
    result = run(judge=Canned(dimensions=("believability", "goal")))
    assert set(result.overall.scores) == {"believability", "goal"}


def test_nothing_is_played_again_and_the_result_is_the_same(tmp_path):
    path = tmp_path / "j.jsonl"
    first = Rollout(SUITE, "scripted/fair", PARTNERS, judge="outcome", journal=path)
    for number, _ in enumerate(first):
        if number == 4:
            break
    kept = path.read_bytes()
    whole = run(journal=path)
    assert path.read_bytes().startswith(kept)
    assert found(whole) == found(run())
    before = path.read_bytes()
    assert found(run(journal=path)) == found(whole)
    assert path.read_bytes() == before


def test_what_is_left_out_is_said():
    result = run(max_seconds=0)
    assert (result.counts.left_out, result.counts.scored) == (16, 0)
    assert result.counts.stopped_by == "max_seconds=0"
    assert result.overall.scores == {}


def test_what_was_interrupted_is_counted_until_it_is_played(tmp_path):
    path = tmp_path / "j.jsonl"
    whole = next(iter(Rollout(SUITE, "scripted/fair", PARTNERS, judge="none")))
    broken = whole.model_copy(update={"ending": "interrupted", "events": whole.events[:2]})
    Journal(path).append(broken)
    counts = run(journal=path, max_seconds=0).counts
    assert (counts.interrupted, counts.left_out, counts.complete) == (1, 15, 0)
    counts = run(journal=path).counts
    assert (counts.interrupted, counts.left_out, counts.complete) == (0, 0, 16)


def test_episodes_that_were_played_unjudged_are_judged_and_not_played_again(tmp_path):
    path = tmp_path / "j.jsonl"
    list(Rollout(SUITE, "scripted/fair", PARTNERS, judge="none", journal=path))
    judge = Canned(unscored=[SUITE.tasks[0].task_id])
    result = run(journal=path, judge=judge)
    assert (judge.judged, result.counts.scored, result.counts.unscored) == (16, 14, 2)
    assert len(list(Journal(path))) == 32
    assert len({e.episode_id for e in Journal(path)}) == 16
    # Those without a score are tried again, the others are not.
    again = Canned()
    assert run(journal=path, judge=again).counts.scored == 16
    assert again.judged == 2
    # Another judge's scores do not count as this one's.
    exact = run(journal=path)
    assert exact.config.judge == "outcome"
    assert exact.overall.scores["goal"].mean == pytest.approx(run().overall.scores["goal"].mean)


def test_scores_of_a_judge_that_was_asked_otherwise_do_not_count(tmp_path):
    path = tmp_path / "j.jsonl"
    for prompt, expected in (("v1", 16), ("v1", 0), ("v2", 16)):
        judge = Canned()
        judge.prompt = prompt
        result = run(journal=path, judge=judge)
        assert (judge.judged, result.counts.scored) == (expected, 16)
        assert result.config.judge_prompt == prompt


def test_where_money_for_judging_runs_out_the_rest_is_counted_as_unscored(tmp_path):
    path = tmp_path / "j.jsonl"
    list(Rollout(SUITE, "scripted/fair", PARTNERS, judge="none", journal=path))
    result = run(journal=path, judge=Canned(broke_after=5), concurrency=1)
    assert (result.counts.scored, result.counts.unscored) == (5, 11)
    assert result.counts.unscored_because == {"not judged": 11}
    assert result.counts.stopped_by == "spent"
    limited = run(journal=path, judge=Canned(), concurrency=1, max_cost=0.03)
    assert limited.counts.scored == 8
    assert limited.counts.stopped_by == "max_cost=0.03"


def test_other_episodes_in_the_journal_are_left_alone(tmp_path):
    path = tmp_path / "j.jsonl"
    list(Rollout(SUITE, "scripted/silent", PARTNERS, judge="outcome", journal=path))
    list(Rollout(SUITE, "scripted/fair", PARTNERS, judge="outcome", seed=1, journal=path))
    assert found(run(journal=path)) == found(run())


def test_an_agent_that_plays_all_roles_is_measured_in_all():
    result = run(partners=[], judge="outcome")
    assert result.counts.planned == 8 == result.overall.outcomes["agreement"].count
    assert result.overall.scores["goal"].count == 16
    assert result.overall.partner == {}
    assert set(result.by_role) == {"agent_0", "agent_1"}
    assert set(result.by_partner) == {"scripted/fair"}
    assert result.by_role["agent_0"].scores["goal"].count == 8


def test_groups_are_named_after_all_whom_the_agent_met():
    plan = Suite(name="plan", tasks=load_suite("plan-3").tasks[:3])
    result = run(plan, roles="first", repetitions=3)
    both = "scripted/fair + scripted/firm"
    assert both in result.by_partner
    assert set(result.by_partner) <= {both, *PARTNERS}
    assert sum(group.episodes for group in result.by_partner.values()) == 9


def test_silence_and_what_could_not_be_done_are_measured():
    class Odd(Agent):
        name = "odd"

        def act(self, observation):
            turn = int(observation["turn"])
            if turn < 2:
                return Action("speak", "one two three")
            if turn < 4:
                return Action("none", note="no valid action")
            return Action("none") if turn < 6 else Action("leave")

    talk = run(agent=Odd(), partners=["scripted/random"], judge=Canned()).overall.conversation
    plain = run(agent=Odd(), partners=["scripted/silent"], judge=Canned(), roles="first")
    of = {name: estimate.mean for name, estimate in plain.overall.conversation.items()}
    assert talk["words_per_turn"].mean == 3
    # Turns 1, 3, 5 and 7 are its own; the others are silent, and three in a row end it.
    assert of == {"turns": 4, "words_per_turn": 3, "left": 0, "silent": 1 / 2, "invalid": 1 / 2}


def test_what_was_run_is_in_the_result(tmp_path):
    rules = Rules(max_turns=6)
    result = benchmark(
        "starter", "scripted/fair", "scripted/firm", judge="outcome", rules=rules, seed=3,
        split="heldout", roles="first", every_partner=True,
    )  # fmt: skip
    config = result.config
    assert config.command == (
        "sotopia-gym benchmark --suite starter --agent scripted/fair --partner scripted/firm "
        "--judge outcome --split heldout --roles first --repetitions 1 --seed 3 "
        "--turn-order round-robin --max-turns 6 --max-silent-turns 3 --every-partner"
    )
    assert config.suite_sha256 == load_suite("starter").sha256
    assert (config.tasks, config.scenarios, config.rules) == (40, 40, rules)
    assert run().config.command == ""
    path = tmp_path / "deep" / "result.json"
    result.save(path)
    assert Result.load(path) == result
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not the result"):
        Result.load(path)


def test_a_benchmark_needs_a_judge():
    with pytest.raises(ConfigError, match="needs a judge"):
        run(judge="none")


def test_progress_is_told():
    told = []
    run(progress=told.append)
    assert [p.played for p in told] == list(range(1, 17))


# --- comparison


@functools.cache
def episodes(agent="scripted/expert", **settings):
    settings = {"judge": "outcome", "repetitions": 2, **settings}
    return list(Rollout(SUITE, agent, PARTNERS, **settings))


def test_an_agent_is_as_good_as_itself():
    played = episodes()
    same = compare(played, played)
    assert (same.pairs, same.unpaired_first, same.unpaired_second) == (32, 0, 0)
    assert {d.measure for d in same.differences} == {"goal", "normalised"}
    for each in same.differences:
        assert (each.difference.mean, each.difference.low, each.difference.high) == (0, 0, 0)
        assert (each.p, each.p_holm, each.cohens_d, each.cliffs_delta) == (1, 1, None, 0)


def test_an_expert_is_better_than_silence():
    silent, expert = episodes("scripted/silent"), episodes()
    result = compare(silent, expert)
    assert (result.first, result.second, result.pairs) == ("scripted/silent", "scripted/expert", 32)

    def by_job(played):
        return {
            (e.task.task_id, e.focal, e.repetition): e.judgement.normalised[e.focal] for e in played
        }

    one, two = by_job(silent), by_job(expert)
    apart = np.array([two[job] - one[job] for job in sorted(one)])
    (normalised,) = [d for d in result.differences if d.measure == "normalised"]
    assert normalised.difference.mean == pytest.approx(apart.mean())
    assert normalised.difference.low > 0
    assert normalised.cohens_d == pytest.approx(apart.mean() / apart.std(ddof=1))
    signs = np.sign(np.subtract.outer(list(two.values()), list(one.values())))
    assert normalised.cliffs_delta == pytest.approx(signs.mean())
    totals: dict[str, float] = {}
    for job in one:
        totals[job[0]] = totals.get(job[0], 0) + two[job] - one[job]
    flipped = [
        abs(math.fsum(total if number >> bit & 1 else -total for bit, total in enumerate(sums)))
        for sums in [list(totals.values())]
        for number in range(2**8)
    ]
    observed = abs(math.fsum(totals.values()))
    assert normalised.p == sum(value >= observed - 1e-9 for value in flipped) / 2**8 < 0.05
    assert normalised.p_holm == 2 * min(d.p for d in result.differences)
    mirrored = compare(expert, silent)
    (other,) = [d for d in mirrored.differences if d.measure == "normalised"]
    assert other.difference.mean == pytest.approx(-normalised.difference.mean)
    assert (other.p, other.cliffs_delta) == (normalised.p, -normalised.cliffs_delta)


def test_only_equal_jobs_are_pairs():
    expert, silent = episodes(), episodes("scripted/silent")
    result = compare(expert[:20], silent)
    assert (result.pairs, result.unpaired_first, result.unpaired_second) == (20, 0, 12)
    others = list(Rollout(SUITE, "scripted/silent", "scripted/generous", judge="outcome"))
    result = compare(expert, others)
    assert (result.pairs, result.unpaired_first, result.unpaired_second) == (0, 32, 16)
    assert result.differences == ()
    result = compare(expert, episodes("scripted/silent", repetitions=1))
    assert (result.pairs, result.unpaired_first) == (16, 16)


def test_pairs_without_a_score_are_counted_and_in_no_mean():
    expert = episodes()
    silent = episodes("scripted/silent")
    unscored = expert[0].model_copy(update={"judgements": (Judgement(judge="outcome", error="?"),)})
    broken = expert[1].model_copy(update={"ending": "failed", "error": "gone"})
    result = compare([unscored, broken, *expert[2:]], silent)
    assert (result.pairs, result.without_score) == (30, 2)
    assert all(d.difference.count == 30 for d in result.differences)


def test_agents_that_play_all_roles_are_compared_by_their_mean():
    both = [
        list(Rollout(SUITE, agent, judge="outcome")) for agent in ("scripted/fair", "scripted/firm")
    ]
    result = compare(*both)
    means = [
        np.mean([g for e in played for g in e.judgement.true_goals.values()]) for played in both
    ]
    (goal,) = [d for d in result.differences if d.measure == "goal"]
    assert (goal.difference.count, result.pairs) == (8, 8)
    assert [goal.first, goal.second] == pytest.approx(means)


def test_pairs_that_are_less_alike_than_they_should_be_are_noted():
    result = compare(
        episodes(repetitions=1),
        episodes("scripted/silent", repetitions=1, rules=Rules(max_turns=6)),
    )
    assert result.notes == ("16 of 16 pairs differ in their rules",)


def test_what_cannot_be_compared_is_refused():
    expert, silent = episodes(), episodes("scripted/silent")
    with pytest.raises(ConfigError, match="must be about one agent"):
        compare([*expert, *silent], silent)
    with pytest.raises(ConfigError, match="there are no episodes"):
        compare([], silent)
    with pytest.raises(ConfigError, match="several of the same job"):
        compare([*expert, *episodes(seed=1, rules=Rules(max_turns=8))], silent)
    judged = Canned()
    others = [e.with_judgement(judged.judge(e)) for e in silent]
    with pytest.raises(ConfigError, match="different judges"):
        compare(expert, others)
    assert compare(expert, others, judge="outcome").pairs == 32


def test_signs_of_whole_scenarios_are_flipped():
    # Sums 3, 2, -1: of the 8 sums of signs 6, 4, 2, 0 and their negatives, 4 are at least 4.
    assert sign_flip_p([1, 2, 2, -1], ["a", "a", "b", "c"]) == 4 / 8
    assert sign_flip_p([0.1 + 0.2, 0.3], ["a", "b"]) == 2 / 4
    assert sign_flip_p([1, 1], ["a", "a"]) is None
    rng = np.random.default_rng(0)
    many = list(rng.normal(0.4, 1, 40))
    normal = math.erfc(abs(np.sum(many)) / math.sqrt(2 * np.sum(np.square(many))))
    assert sign_flip_p(many, range(40)) == pytest.approx(normal, abs=0.01)


def test_false_alarms_are_as_rare_as_the_p_value_says():
    rng = np.random.default_rng(1)
    scenarios = np.repeat(np.arange(12), 5)
    alarms = 0
    for _ in range(200):
        shared = rng.normal(size=12)[scenarios]
        alarms += sign_flip_p(list(shared + rng.normal(size=60)), list(scenarios)) <= 0.05
    assert 1 <= alarms <= 22  # 10 expected; a test that ignores the scenarios has about 80


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# --- published numbers


def test_published_overall_scores_are_the_means_of_the_seven():
    whole = [row for row in published_rows() if len(row.scores) == 8]
    assert len(whole) == 25
    for row in whole:
        mean = np.mean([row.scores[d] for d in DIMENSIONS])
        assert row.scores["overall"] == pytest.approx(mean, abs=0.011), row


def test_published_agreement_is_of_known_dimensions_and_models():
    models = {row.model for row in published_rows()}
    found = published_agreement()
    assert len(found) == 8
    for each in found:
        assert each.model == "all" or each.model in models
        assert set(each.values) <= set(DIMENSIONS)
        assert all(-1 <= value <= 1 for value in each.values.values())
        assert (each.judge is None) == (each.between == "people")
    kappas = next(each for each in found if each.measure == "randolph_kappa")
    shares = next(each for each in found if each.measure == "pairwise_agreement")
    # Two bins: kappa is twice the agreement, less one.
    assert kappas.values["goal"] == pytest.approx(2 * shares.values["goal"] - 1)


def test_elsewhere_published_numbers_are_not_comparable():
    published = run().published
    assert published.rows == ()
    assert "of other tasks (sotopia-all, sotopia-hard) and not comparable" in published.note


def test_differences_of_protocol_are_spelled_out():
    class Gpt(Canned):
        name = "gpt-4o-2024-08-06"
        prompt = "judge-v1"

    hard = Suite(name="sotopia-hard", tasks=SUITE.tasks)
    judge = Gpt(unscored=[SUITE.tasks[0].task_id])
    rows = run(hard, judge=judge, rules=Rules(max_turns=10), roles="first").published.rows
    by_name = {(row.model, row.judge, row.episodes): row.differences for row in rows}
    assert by_name["BC+SR", "gpt-4-0613", 140] == (
        "judge: theirs is gpt-4-0613, ours is gpt-4o-2024-08-06, answered as canned-1 fp",
        "judge's prompt: ours is worded by this library (version judge-v1)",
        "partner: theirs is gpt-3.5-turbo-0613, ours is one drawn from "
        "scripted/fair, scripted/firm",
        "episodes: theirs are 140 of 14 scenarios, ours 7 scored of 8 scenarios",
        "missing: 1 of our 8 episodes have no score",
        "turns: theirs end after 20, ours after 10",
        "roles: theirs are both, ours the first",
    )
    assert by_name["GPT-4o", "GPT-4o", None][0] == (
        "judge's snapshot: theirs is told as GPT-4o only, ours is gpt-4o-2024-08-06, answered as "
        "canned-1 fp"
    )
    assert by_name["BC", "people", 28][0].startswith("judge: people rated theirs")
    alone = run(hard, partners=[], judge=Canned()).published.rows
    (row,) = [row for row in alone if row.model == "SDPO Llama-3.1-8B"]
    assert not any(told.startswith("partner") for told in row.differences)


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        ("gpt-4-0613", "gpt-4-0613", []),
        ("gpt-4-0613", "GPT-4-0613@http://127.0.0.1:1/v1", []),
        ("itself", "itself", []),
        ("gpt-4-0613", "gpt-4", ["judge: theirs is gpt-4-0613, ours is gpt-4"]),
        ("GPT-4", "gpt-4o", ["judge: theirs is GPT-4, ours is gpt-4o"]),
        ("GPT-4o", "gpt-4o", ["judge's snapshot: theirs is told as GPT-4o only, ours is gpt-4o"]),
        (None, "gpt-4o", ["judge: theirs is not recorded here, ours is gpt-4o"]),
    ],
)
def test_models_are_the_same_by_name_and_date(theirs, ours, told):
    assert list(_another("judge", theirs, ours, ())) == told


# --- command line


def cli(*arguments):
    result = CliRunner().invoke(
        app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "250"}
    )
    return result.exit_code, result.stdout, result.stderr


def small(tmp_path):
    path = tmp_path / "few.json"
    path.write_text(SUITE.model_dump_json())
    return ("--suite", path, "--partner", PARTNERS[0], "--partner", PARTNERS[1])


def test_benchmark_and_compare_on_the_command_line(tmp_path):
    settings = ("--judge", "outcome", *small(tmp_path))
    files = {}
    for agent in ("silent", "expert"):
        files[agent] = tmp_path / f"{agent}.jsonl"
        out = tmp_path / f"{agent}.json"
        code, shown, _ = cli(
            *("benchmark", "--agent", f"scripted/{agent}", *settings),
            *("--episodes-out", files[agent], "--out", out),
        )
        assert code == 0
        result = Result.load(out)
        assert str(result.overall.scores["goal"]) in shown
        assert str(result.by_partner["scripted/firm"].scores["goal"]) in shown
        assert "16 episodes: 16 scored, 0 unscored, 0 failed, 0 interrupted, 0 left out" in shown
        assert "not comparable with suite 'few'" in shown
    code, shown, _ = cli("compare", files["silent"], files["expert"])
    assert code == 0
    assert "16 pairs of scored episodes" in shown
    code, told, _ = cli("compare", files["silent"], files["expert"], "--json")
    differences = {d["measure"]: d for d in json.loads(told)["differences"]}
    assert differences["normalised"]["difference"]["mean"] > 0
    assert f"{differences['normalised']['p_holm']:.4f}" in shown


@pytest.mark.parametrize("judge", ["auto", "calibrated"])
def test_the_command_in_a_result_makes_the_same_result(tmp_path, judge):
    if judge == "calibrated":
        maps = {"goal": ((0.0, 10.0), (2.0, 8.0))}
        made = Calibration(judge="outcome", fitted_on="nothing", count=2, maps=maps)
        made.save(tmp_path / "map.json")
        judge = f"calibrated:{tmp_path / 'map.json'}"
    settings = ("--agent", "scripted/firm", "--judge", judge, "--seed", 5, *small(tmp_path))
    out = tmp_path / "out.json"
    cli("benchmark", *settings, "--out", out, "--episodes-out", tmp_path / "1.jsonl")
    first = Result.load(out)
    words = first.config.command.split()[1:]
    cli(*words, "--out", out, "--episodes-out", tmp_path / "2.jsonl")
    assert found(Result.load(out)) == found(first)


def test_the_command_line_fails_where_nothing_could_be_scored(tmp_path, monkeypatch):
    settings = ("--agent", "scripted/fair", *small(tmp_path), "--episodes-out", tmp_path / "j")
    code, shown, told = cli("benchmark", *settings, "--judge", "outcome", "--max-seconds", 0)
    assert code == 3
    assert "16 left out" in shown
    assert f"with --episodes-out {tmp_path / 'j'} plays the rest" in told.replace("\n", " ")
    judge = Canned(unscored=[task.task_id for task in SUITE])
    monkeypatch.setattr(judges, "from_spec", lambda spec, options=None: judge)
    code, shown, told = cli("benchmark", *settings)
    assert code == 1
    assert "16 unscored" in shown
    assert "unscored 16: episode # is beyond me" in shown
    assert "no episode could be scored" in told
    assert cli("compare", tmp_path / "j", tmp_path / "j")[0] == 1


def test_a_rollout_on_the_command_line_goes_on(tmp_path):
    path = tmp_path / "j.jsonl"
    settings = ("rollout", "--agent", "scripted/fair", *small(tmp_path), "--journal", path)
    assert cli(*settings, "--judge", "none", "--max-seconds", 0)[0] == 3
    code, shown, _ = cli(*settings, "--judge", "none")
    assert code == 0
    assert shown.startswith("16 of 16 episodes")
    assert len(list(Journal(path))) == 16
    before = path.read_bytes()
    assert cli(*settings, "--judge", "none")[0] == 0
    assert path.read_bytes() == before


def test_ctrl_c_keeps_what_was_played_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "j.jsonl"
    command = [sys.executable, "-c", "from sotopia_gym.cli import main; main()", "benchmark"]
    settings = ("--suite", "starter", "--agent", "scripted/fair", "--partner", "scripted/firm")
    more = ("--judge", "outcome", "--repetitions", "100", "--episodes-out", str(path))
    process = subprocess.Popen(
        [*command, *settings, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(Journal(path))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"with --episodes-out {path} plays the rest" in told
    assert all(episode.complete for episode in Journal(path))


def test_published_rows_are_shown_beside_ours(official_suites, tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "from_spec", lambda spec, options=None: Canned())
    out = tmp_path / "out.json"
    code, shown, _ = cli(
        *("benchmark", "--suite", "sotopia-hard", "--agent", "scripted/random"),
        *("--partner", "scripted/silent", "--out", out, "--episodes-out", tmp_path / "j.jsonl"),
    )
    assert code == 0
    result = Result.load(out)
    assert (result.config.tasks, result.config.scenarios, result.counts.scored) == (70, 14, 140)
    assert "BC+SR" in shown
    assert "SOTOPIA-pi, arXiv 2403.08715v3" in shown
    row = next(r for r in result.published.rows if (r.model, r.episodes) == ("BC+SR", 140))
    assert row.scores["goal"] == 5.34
    for difference in row.differences:
        assert difference in shown
    # The numbers of episodes are those of the paper, so that nothing is said of them.
    assert [told.split(":")[0] for told in row.differences] == ["judge", "partner"]
