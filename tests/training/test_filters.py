"""Which seats are learned from: hand-computed rules, ties, what never passes, and the report."""

import json
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sotopia_gym
from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement, Source
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.schema import Character, OutcomeSpec, Scenario, Task
from sotopia_gym.training.filters import (
    FILTERS,
    BalanceRoles,
    BehaviourCloning,
    Percentile,
    Threshold,
    TopK,
    TopShare,
    best_and_worst,
    best_of_n,
    from_config,
    self_reinforcement,
)
from sotopia_gym.training.selection import FilterReport, select

ROLES = ("agent_0", "agent_1")


def task(scene="fence", pair=0, family=None):
    return Task(
        task_id=f"{scene}-{pair}",
        scenario=Scenario(
            scenario_id=scene,
            context="A fence between two gardens.",
            goals=("Get the ladder back.", "Keep the ladder until Sunday."),
            relationship=3,
            outcome=None if family is None else OutcomeSpec(family=family),
        ),
        characters=(
            Character(character_id="ada", first_name="Ada"),
            Character(character_id="bo", first_name="Bo"),
        ),
    )


def judgement(*goals, judge="j", **fields):
    scores = {
        role: {"goal": DimensionScore(score=goal)}
        for role, goal in zip(ROLES, goals, strict=False)
        if goal is not None
    }
    return Judgement(judge=judge, scores=scores, **fields)


def episode(key, *goals, scene="fence", pair=0, family=None, met="bob", **fields):
    """An episode in which the agent ``me`` played all the roles, or only the one in ``focal``."""
    focal = fields.get("focal")
    agents = {role: "me" if focal in (None, role) else met for role in ROLES}
    known = {
        "task": task(scene, pair, family),
        "key": key,
        "agents": agents,
        "events": (Event(1, "agent_0", Action("speak", "My ladder?")),),
        "ending": "left",
        "judgements": (judgement(*goals),) if goals else (),
    }
    return Episode(**{**known, **fields})


def seat(key, role, value, **fields):
    """An episode of one seat, which has ``value`` as its goal."""
    goals = [value if each == role else 0 for each in ROLES]
    return episode(key, *goals, focal=role, **fields)


def column(prefix, role, values, **fields):
    return [seat(f"{prefix}{i:02}", role, value, **fields) for i, value in enumerate(values)]


def names(candidates):
    return [f"{candidate.key}/{candidate.role[-1]}" for candidate in candidates]


def kept(episodes, *filters, **settings):
    return names(select(episodes, filters, **settings).kept)


UNUSABLE = (
    episode("failed", 10, 10, ending="failed", error="ModelError: down after 12 tries"),
    episode("stopped", 10, 10, ending="interrupted"),
    episode("unjudged"),
    episode("unscored", judgements=(Judgement(judge="j", error="no answer in 3 tries"),)),
    episode(
        "bare",
        10,
        10,
        source=Source(format="release", record_id="bare", transcript=False),
    ),
)


class TestCandidates:
    def test_a_seat_is_what_the_episode_is_about(self):
        found = select([episode("a", 3, 9), seat("b", "agent_1", 5)]).kept
        assert names(found) == ["a/0", "a/1", "b/1"]
        assert [candidate.value for candidate in found] == [3, 9, 5]

    def test_unusable_seats_never_pass_and_are_counted_with_why(self):
        selection = select([*UNUSABLE, episode("ok", 4)], [Threshold(-100)])
        assert names(selection.kept) == ["ok/0"]
        report = selection.report
        assert report.unusable == {
            "failed": 2,
            "interrupted": 2,
            "no conversation": 2,
            "no value": 1,
            "unjudged": 2,
            "unscored": 2,
        }
        assert report.causes == {"ModelError: down after # tries": 1, "no answer in # tries": 1}

    def test_the_latest_judgement_with_scores_counts_or_that_of_a_named_judge(self):
        twice = episode(
            "a",
            judgements=(
                judgement(2, 2, judge="strict"),
                judgement(8, 8, judge="kind"),
                Judgement(judge="strict", error="no answer"),
            ),
        )
        values = {
            judge: [c.value for c in select([twice], judge=judge).kept]
            for judge in (None, "strict", "kind", "nobody")
        }
        assert values == {None: [8, 8], "strict": [2, 2], "kind": [8, 8], "nobody": []}
        assert select([twice]).report.judges == {"kind": 2}
        assert select([twice], judge="nobody").report.unusable == {"unjudged": 2}

    def test_values_of_every_kind(self):
        seven = {name: DimensionScore(score=i) for i, name in enumerate(DIMENSIONS)}
        given_ = Judgement(
            judge="j",
            scores={"agent_0": seven},
            normalised={"agent_0": 0.25},
            true_goals={"agent_0": 4.5},
        )
        one = episode("a", judgements=(given_,), focal="agent_0")

        def value(of):
            return [candidate.value for candidate in select([one], value=of).kept]

        assert value("goal") == [6]
        assert value("relationship") == [1]
        assert value("overall") == [3]
        assert value("normalised") == [0.25]
        assert value("true_goal") == [4.5]
        assert value({"goal": 1.0, "relationship": 0.5}) == [6.5]
        assert value(lambda judgement, agent: len(agent)) == [7]
        assert value(lambda judgement, agent: None) == []
        assert value(lambda judgement, agent: float("nan")) == []

    def test_a_dimension_that_was_not_judged_leaves_out_and_a_misspelt_one_is_refused(self):
        report = select([episode("a", 3, 9)], value="knowledge").report
        assert (report.candidates, report.unusable) == (0, {"no value": 2})
        with pytest.raises(ConfigError, match=r"'gaol' to compare by\. Did you mean 'goal'"):
            select([episode("a", 3, 9)], value="gaol")
        with pytest.raises(ConfigError, match="'overall' to compare"):
            select([episode("a", 3, 9)], value={"goal": 1, "overall": 1})
        with pytest.raises(ConfigError, match="a reward is"):
            select([], value=3)

    def test_a_judges_own_dimension_is_a_value(self):
        own = Judgement(judge="j", scores={"agent_0": {"wit": DimensionScore(score=2)}})
        assert kept([episode("a", judgements=(own,))], value="wit") == ["a/0"]

    def test_an_episode_comes_once(self):
        with pytest.raises(ConfigError, match=r"the episode a comes twice.*latest"):
            select([episode("a", 1, 1), episode("a", 2, 2)])
        imported = [
            episode("", 5, source=Source(format="release", record_id=name, transcript=True))
            for name in ("x", "y")
        ]
        assert kept(imported) == ["x/0", "y/0"]

    def test_episodes_stay_as_they_are(self):
        given_ = [episode("b", 3, 9), episode("a", 4, 4)]
        before = [each.model_dump_json() for each in given_]
        select(given_, [TopK(1), BalanceRoles()])
        assert [each.model_dump_json() for each in given_] == before


class TestBehaviourCloning:
    def test_two_stay_in_any_case_and_further_ranks_only_where_all_positions_pass(self):
        # Task mean (9+8+7+6+5 + 10+10+9+2+1) / 10 = 6.7 is also the overall mean. Rank 3: 7 and 9
        # pass. Rank 4: 6 does not. Rank 5: neither does.
        episodes = [
            *column("a", "agent_0", [9, 8, 7, 6, 5]),
            *column("b", "agent_1", [10, 10, 9, 2, 1]),
        ]
        expected = ["a00/0", "a01/0", "a02/0", "b00/1", "b01/1", "b02/1"]
        assert kept(episodes, BehaviourCloning()) == expected

    def test_one_position_that_fails_takes_the_other_with_it(self):
        # Mean 7: rank 3 is 8 and 3.
        episodes = [
            *column("a", "agent_0", [9, 8, 8]),
            *column("b", "agent_1", [8, 6, 3]),
        ]
        assert kept(episodes, BehaviourCloning()) == ["a00/0", "a01/0", "b00/1", "b01/1"]

    def test_the_bar_is_the_smaller_of_the_tasks_mean_and_the_mean_of_all(self):
        # Easy has mean 9, hard 2.75, all of it 76 / 14 = 5.43. Rank 3 of easy, 8, passes by the
        # mean of all; that of hard, 3, by its own; rank 4 of hard, 1, by neither.
        easy = [
            *column("a", "agent_0", [10, 9, 8], scene="easy"),
            *column("b", "agent_1", [10, 9, 8], scene="easy"),
        ]
        hard = [
            *column("c", "agent_0", [4, 3, 3, 1], scene="hard"),
            *column("d", "agent_1", [4, 3, 3, 1], scene="hard"),
        ]
        found = kept([*easy, *hard], BehaviourCloning())
        assert found == [
            f"{prefix}{rank:02}/{role}"
            for prefix, role in (("a", 0), ("b", 1), ("c", 0), ("d", 1))
            for rank in range(3)
        ]
        assert len(kept(easy, BehaviourCloning())) == 4

    def test_all_equal_values_pass_though_their_mean_is_a_little_more(self):
        assert math.fsum([0.1] * 6) / 6 > 0.1
        episodes = [episode(f"e{i}", 0.1, 0.1, pair=i) for i in range(3)]
        assert len(kept(episodes, BehaviourCloning())) == 6

    def test_no_rank_beyond_the_tenth_stays_and_ties_go_by_key(self):
        episodes = [episode(f"e{i:02}", 10, 10, pair=i) for i in range(12)]
        random.Random(0).shuffle(episodes)
        assert kept(episodes, BehaviourCloning()) == [
            f"e{i:02}/{role}" for i in range(10) for role in (0, 1)
        ]

    def test_a_tie_at_the_second_rank_keeps_the_first_key(self):
        # Mean 5.5: nobody but the first two of a position could pass.
        episodes = [
            *column("a", "agent_0", [9, 5, 5, 5]),
            *column("b", "agent_1", [5, 5, 5, 5]),
        ]
        expected = ["a00/0", "a01/0", "b00/1", "b01/1"]
        assert kept(reversed(episodes), BehaviourCloning()) == expected

    def test_pairs_of_characters_are_one_task(self):
        episodes = [episode(f"e{i}", goal, 0, pair=i) for i, goal in enumerate([10, 9, 0, 0])]
        assert kept(episodes, BehaviourCloning()) == ["e0/0", "e0/1", "e1/0", "e1/1"]
        assert len(kept(episodes, BehaviourCloning(per=["task"]))) == 8

    def test_fewer_episodes_than_ranks_and_one_sided_scores(self):
        # Agent 1 of e2 and e3 is unscored, so that its position has no rank 3.
        episodes = [
            episode("e0", 10, 10),
            episode("e1", 10, 10),
            episode("e2", 10, None),
            episode("e3", 10, None),
        ]
        assert kept(episodes, BehaviourCloning()) == ["e0/0", "e0/1", "e1/0", "e1/1"]
        assert kept(episodes[:1], BehaviourCloning()) == ["e0/0", "e0/1"]
        assert kept([], BehaviourCloning()) == []

    def test_where_one_position_was_played_it_is_judged_alone(self):
        # Mean 7: rank 3 passes, rank 4 does not.
        episodes = column("a", "agent_1", [10, 9, 7, 2])
        assert kept(episodes, BehaviourCloning()) == ["a00/1", "a01/1", "a02/1"]


class TestSelfReinforcement:
    def test_a_fifth_of_each_task_stays_with_both_positions_ranked_together(self):
        first = [episode(f"a{i}", i, 9.5 if i == 0 else 0, pair=i) for i in range(10)]
        second = [episode(f"b{i}", 1, 1, scene="gate", pair=i) for i in range(5)]
        found = kept([*second, *first], self_reinforcement())
        assert found == ["a0/1", "a7/0", "a8/0", "a9/0", "b0/0", "b0/1"]

    @pytest.mark.parametrize(("size", "count"), [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2)])
    def test_a_share_is_rounded_up(self, size, count):
        assert len(kept(column("a", "agent_0", range(size)), TopShare(0.2))) == count

    def test_what_floats_are_off_by_rounds_nothing_up(self):
        assert 0.28 * 25 > 7
        assert len(kept(column("a", "agent_0", range(25)), TopShare(0.28))) == 7

    def test_groups_may_be_finer(self):
        episodes = [episode(f"a{i}", 10 - i, i) for i in range(5)]
        assert kept(episodes, TopShare(0.2, per=("scenario", "role"))) == ["a0/0", "a4/1"]
        assert kept(episodes, TopShare(0.2)) == ["a0/0", "a1/0"]


class TestOtherFilters:
    def test_threshold(self):
        episodes = column("a", "agent_0", [6.9, 7, 7.1])
        assert kept(episodes, Threshold(7)) == ["a01/0", "a02/0"]

    def test_top_k(self):
        episodes = [
            *column("a", "agent_0", [1, 5, 5, 5]),
            *column("b", "agent_0", [2], met="eve"),
        ]
        assert kept(episodes, TopK(2, per=["scenario"])) == ["a01/0", "a02/0"]
        assert kept(episodes, TopK(1, per=["partner"])) == ["a01/0", "b00/0"]
        assert kept(episodes, TopK(9, per=[])) == ["a00/0", "a01/0", "a02/0", "a03/0", "b00/0"]

    def test_best_of_n_is_of_the_same_task_and_role(self):
        episodes = [
            episode("a", 1, 9, repetition=0),
            episode("b", 2, 8, repetition=1),
            episode("c", 0, 0, pair=1),
        ]
        assert kept(episodes, best_of_n()) == ["a/1", "b/0", "c/0", "c/1"]

    def test_percentile_overall_and_in_groups(self):
        episodes = [
            *column("a", "agent_0", [1, 2, 3, 4, 4], family="price"),
            *column("b", "agent_0", [8, 9], family="plan"),
        ]
        assert kept(episodes, Percentile(50)) == ["a03/0", "a04/0", "b00/0", "b01/0"]
        assert kept(episodes, Percentile(50, per=["family"])) == [
            *("a02/0", "a03/0", "a04/0"),
            "b01/0",
        ]
        assert kept(episodes, Percentile(100)) == ["b01/0"]
        assert len(kept(episodes, Percentile(0))) == 7

    def test_roles_are_balanced_by_dropping_the_worst(self):
        episodes = [
            *column("a", "agent_0", [5, 9, 7, 7]),
            *column("b", "agent_1", [1, 2]),
        ]
        assert kept(episodes, BalanceRoles()) == ["a01/0", "a02/0", "b00/1", "b01/1"]

    def test_roles_are_balanced_in_each_group(self):
        episodes = [
            *column("a", "agent_0", [5, 9], scene="gate"),
            *column("b", "agent_1", [1, 2]),
            *column("c", "agent_0", [1]),
        ]
        assert kept(episodes, BalanceRoles()) == ["a00/0", "a01/0", "b00/1", "b01/1"]
        assert kept(episodes, BalanceRoles(per=["scenario"])) == ["b01/1", "c00/0"]

    def test_a_role_that_never_passed_leaves_nothing_to_balance_with(self):
        episodes = [episode("a", 9, 1), episode("b", 8, 2)]
        assert kept(episodes, Threshold(5), BalanceRoles()) == []

    def test_filters_run_in_order(self):
        episodes = [
            *column("a", "agent_0", [9, 8]),
            *column("b", "agent_1", [7, 3]),
        ]
        assert kept(episodes, Threshold(5), BalanceRoles()) == ["a00/0", "b00/1"]
        assert kept(episodes, BalanceRoles(), Threshold(5)) == ["a00/0", "a01/0", "b00/1"]
        with pytest.raises(ConfigError, match="from_config"):
            select(episodes, [{"name": "threshold", "minimum": 5}])


class TestPairs:
    def test_the_best_and_the_worst_of_the_same(self):
        episodes = [
            *column("a", "agent_0", [0.2, 0.7, 0.5]),
            *column("b", "agent_1", [3, 3.2]),
            *column("c", "agent_0", [0.6], pair=1),
        ]
        found = best_and_worst(select(reversed(episodes)).kept, gap=0.5)
        assert [names((pair.best, pair.worst)) for pair in found] == [["a01/0", "a00/0"]]
        assert found[0].gap == pytest.approx(0.5)
        assert len(best_and_worst(select(episodes).kept, gap=0.1)) == 2

    def test_ties_go_by_key(self):
        episodes = column("a", "agent_0", [1, 9, 9, 1])
        (pair,) = best_and_worst(select(reversed(episodes)).kept, gap=1)
        assert names((pair.best, pair.worst)) == ["a01/0", "a03/0"]

    def test_only_against_the_same_partner(self):
        episodes = [
            *column("a", "agent_0", [1, 5], met="bob"),
            *column("b", "agent_0", [9, 6], met="eve"),
        ]
        candidates = select(episodes).kept
        (pair,) = best_and_worst(candidates, gap=1)
        assert names((pair.best, pair.worst)) == ["b00/0", "a00/0"]
        pairs = best_and_worst(candidates, gap=1, per=("task", "role", "partner"))
        assert [pair.gap for pair in pairs] == [4, 3]

    @pytest.mark.parametrize("gap", [0, -1, float("nan"), "1", True])
    def test_a_gap_is_above_0(self, gap):
        with pytest.raises(ConfigError, match="gap must be a number above 0"):
            best_and_worst([], gap=gap)
        with pytest.raises(ConfigError, match="Did you mean 'role'"):
            best_and_worst([], gap=1, per=["rol"])


class TestConfig:
    def test_a_table_is_a_filter_and_back(self):
        settings = {"name": "top_share", "share": 0.2, "per": ["scenario", "role"]}
        assert from_config(settings) == TopShare(0.2, per=("scenario", "role"))
        assert from_config(settings).settings == settings
        assert from_config({"name": "self_reinforcement"}) == TopShare(0.2, per=("scenario",))
        assert from_config({"name": "best_of_n"}) == TopK(1, per=("task", "role"))
        assert from_config({"name": "behaviour_cloning", "best": 1}).ranks == 10

    @pytest.mark.parametrize("name", FILTERS)
    def test_settings_of_every_filter_make_it_again(self, name):
        needed = {"threshold": {"minimum": 7}, "top_k": {"k": 3}}
        needed |= {"top_share": {"share": 1}, "percentile": {"percentile": 80}}
        made = from_config({"name": name, **needed.get(name, {})})
        assert from_config(json.loads(json.dumps(made.settings))) == made

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"name": "top_shar", "share": 0.2}, "no filter 'top_shar'. Did you mean 'top_share'"),
            ({"share": 0.2}, "described by its name"),
            ("top_share", "described by its name"),
            ({"name": "top_share"}, "needs 'share'; got no parameters"),
            ({"name": "top_share", "per": []}, "needs 'share'; got 'per'"),
            ({"name": "top_share", "shares": 0.2}, "no parameter 'shares'. Did you mean 'share'"),
            ({"name": "top_share", "share": 0}, "share must be a number above 0 and at most 1"),
            ({"name": "top_share", "share": 20}, "above 0 and at most 1, got 20"),
            ({"name": "top_share", "share": "0.2"}, "got '0.2'"),
            ({"name": "top_share", "share": True}, "got True"),
            ({"name": "top_share", "share": 0.2, "per": "role"}, "per must be a list of 'task'"),
            ({"name": "top_share", "share": 0.2, "per": ["roles"]}, "Did you mean 'role'"),
            ({"name": "top_share", "share": 0.2, "per": [1]}, "groups cannot be made per 1"),
            ({"name": "top_k", "k": 0}, "k must be a whole number of at least 1, got 0"),
            ({"name": "top_k", "k": 1.5}, "whole number"),
            ({"name": "threshold", "minimum": float("nan")}, "minimum must be a number, got nan"),
            ({"name": "percentile", "percentile": 101}, "at least 0 and at most 100, got 101"),
            ({"name": "balance_roles", "per": ["role"]}, "cannot be made per 'role'"),
            ({"name": "behaviour_cloning", "best": 3, "ranks": 2}, "ranks must be .* at least 3"),
            ({"name": "self_reinforcement", "share": 2}, "at most 1, got 2"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            from_config(settings)


class TestReport:
    EPISODES = (
        episode("a", 2, 9, family="price"),
        episode("b", 10, 10, scene="gate"),
        episode("c", 7, None),
        seat("d", "agent_1", 4, met="eve"),
        *UNUSABLE,
    )

    def test_it_adds_up(self):
        report = select(self.EPISODES, [Threshold(5), TopK(1, per=["role"])]).report
        assert (report.episodes, report.seats, report.candidates, report.kept) == (9, 17, 6, 2)
        assert report.seats == sum(report.unusable.values()) + report.candidates
        assert [(step.before, step.after) for step in report.steps] == [(6, 4), (4, 2)]
        assert report.steps[1].settings == {"name": "top_k", "k": 1, "per": ["role"]}
        for by in (report.by_role, report.by_family, report.by_partner):
            assert sum(change.before for change in by.values()) == 6
            assert sum(change.after for change in by.values()) == 2
        assert {n: (c.before, c.after) for n, c in report.by_partner.items()} == {
            "eve": (1, 0),
            "me": (5, 2),
        }
        assert set(report.by_family) == {"open-ended", "price"}
        assert report.by_role["agent_0"].before == 3

    def test_distributions_before_and_after(self):
        report = select(self.EPISODES, [Threshold(5)]).report
        before, after = report.before, report.after
        # 2, 4, 7, 9, 10, 10
        assert (before.n, before.mean, before.minimum, before.maximum) == (6, 7, 2, 10)
        assert before.sd == pytest.approx((56 / 5) ** 0.5)
        assert (before.lower_quartile, before.median, before.upper_quartile) == (4.75, 8, 9.75)
        assert before.edges == after.edges == tuple(range(11))
        assert before.counts == (0, 0, 1, 0, 1, 0, 0, 1, 0, 3)
        assert after.counts == (0, 0, 0, 0, 0, 0, 0, 1, 0, 3)

    def test_no_value_is_outside_of_the_histogram(self):
        episodes = column("a", "agent_0", [-3, 0, 12])
        report = select(episodes).report
        assert (report.before.edges[0], report.before.edges[-1]) == (-3, 12)
        assert sum(report.before.counts) == 3
        report = select(episodes, value={"goal": 2.0}).report
        assert (report.before.edges[0], report.before.edges[-1]) == (-6, 24)

    def test_nothing_is_nothing(self):
        report = select([], [BehaviourCloning(), Percentile(50), BalanceRoles()]).report
        assert (report.before.n, report.before.mean, report.before.counts) == (0, None, (0,) * 10)
        assert select([], value={"goal": 1.0}).report.before.edges == ()
        one = select([episode("a", 5)]).report
        assert (one.before.sd, one.before.median) == (None, 5)

    def test_it_is_stored_and_read(self):
        def wit(judgement, agent):
            return 1.0

        for value, name in (("goal", "goal"), ({"goal": 2.0}, {"goal": 2.0}), (wit, None)):
            report = select(self.EPISODES, [TopShare(0.5)], value=value).report
            assert FilterReport.model_validate_json(report.model_dump_json()) == report
            assert report.value == name or report.value.endswith("wit")
        assert "NaN" not in select([]).report.model_dump_json()

    def test_it_is_read_by_people(self):
        lines = str(select(self.EPISODES, [Threshold(5), TopK(1)]).report).splitlines()
        assert lines[0] == "9 episodes, 17 seats, 6 with a value"
        assert "  2 without: failed" in lines
        assert "    1 episodes: ModelError: down after # tries" in lines
        assert "  6 -> 4  threshold minimum=5" in lines
        assert "kept 4 of 6" in lines
        assert "  1 -> 0  partner eve" in lines
        assert "value goal, judged by j 6" in lines
        assert (
            lines[-2] == "  before: mean 7.00, sd 3.35, quartiles 2.00 | 4.75 | 8.00 | 9.75 | 10.00"
        )
        assert str(select([]).report).endswith("after: no values")


# Few different values, so that there are many ties.
scores = st.one_of(st.none(), st.sampled_from([0.0, 2.5, 5.0, 7.3, 10.0]))
played = st.lists(
    st.tuples(st.sampled_from("xy"), st.integers(0, 1), scores, scores), max_size=25
).map(
    lambda drawn: [
        episode(f"{i:02}", first, second, scene=scene, pair=pair)
        for i, (scene, pair, first, second) in enumerate(drawn)
    ]
)
pers = st.lists(st.sampled_from(["task", "scenario", "partner", "family"]), max_size=2)
idempotent = st.one_of(
    st.builds(Threshold, st.sampled_from([2.5, 6.0])),
    st.builds(TopK, st.integers(1, 4), pers),
    st.builds(BalanceRoles, pers),
    st.builds(best_of_n, pers),
    st.builds(Percentile, st.sampled_from([0, 100]), pers),
)
filters = st.one_of(
    idempotent,
    st.builds(TopShare, st.floats(0.01, 1), pers),
    st.builds(Percentile, st.floats(0, 100), pers),
    st.builds(BehaviourCloning, st.integers(1, 2), st.integers(2, 5), pers),
)


class TestProperties:
    @given(played, st.lists(filters, max_size=3), st.randoms(use_true_random=False))
    def test_what_is_kept_is_a_part_that_does_not_depend_on_the_order(self, episodes, chain, rng):
        everything = kept(episodes)
        selection = select(episodes, chain)
        found = names(selection.kept)
        assert Counter(found) <= Counter(everything)
        shuffled = rng.sample(episodes, len(episodes))
        assert select(shuffled, chain) == selection

    @given(played, filters, st.randoms(use_true_random=False))
    def test_a_filter_does_not_depend_on_the_order_of_candidates(self, episodes, each, rng):
        candidates = select(episodes).kept
        shuffled = rng.sample(candidates, len(candidates))
        assert set(each(shuffled)) == set(each(candidates))

    @given(played, idempotent)
    def test_these_filters_keep_all_that_they_kept(self, episodes, each):
        once = select(episodes, [each]).kept
        assert tuple(each(once)) == once

    @given(played, st.lists(filters, max_size=3))
    def test_unscored_seats_never_pass_and_every_seat_is_accounted_for(self, episodes, chain):
        selection = select([*episodes, *UNUSABLE], chain)
        scored = {
            f"{each.key}/{role[-1]}"
            for each in episodes
            for role in ROLES
            if each.judgement.goal(role) is not None
        }
        assert set(names(selection.kept)) <= scored
        report = selection.report
        assert report.candidates == len(scored) == report.before.n == sum(report.before.counts)
        assert report.seats == sum(report.unusable.values()) + report.candidates
        assert report.kept == len(selection.kept) == report.after.n == sum(report.after.counts)

    @given(played, filters)
    def test_a_better_seat_of_the_same_task_and_role_is_not_dropped_for_a_worse_one(
        self, episodes, each
    ):
        candidates = select(episodes).kept
        stay = set(each(candidates))
        for candidate in set(candidates) - stay:
            same = [
                other
                for other in stay
                if (other.common("task"), other.role) == (candidate.common("task"), candidate.role)
            ]
            assert all(other.value >= candidate.value for other in same)


def test_played_episodes_are_selected_by_the_exact_goal():
    env = sotopia_gym.make("sotopia-v0", split="heldout", judge="outcome")
    tasks = [each.task_id for each in sotopia_gym.load_suite("starter").split("heldout").tasks[:4]]
    episodes = [
        sotopia_gym.play(env, dict.fromkeys(ROLES, spec), seed=0, options={"task": each})
        for each in tasks
        for spec in ("scripted/fair", "scripted/stubborn")
    ]
    selection = select(episodes, [best_of_n(), BalanceRoles()], value="normalised")
    assert selection.report.judges == {"outcome": len(episodes) * 2}
    assert {candidate.common("task") for candidate in selection.kept} == set(tasks)
    assert set(selection.report.by_family) == {"price", "division"}
