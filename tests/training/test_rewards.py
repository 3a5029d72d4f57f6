"""Rewards of turns: where they fall, what they sum to, what is refused, what keeps the optimum."""

import json
import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sotopia_gym.agents.prompts import CHAT
from sotopia_gym.envs.dialogue import NOTHING, Action, Event
from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement, TurnCredit, TurnTokens
from sotopia_gym.errors import ConfigError, JudgeError, TaskError
from sotopia_gym.judges.outcome import OutcomeJudge
from sotopia_gym.rollout import Rollout, Rules
from sotopia_gym.tasks.families import families
from sotopia_gym.tasks.families.price import NO_DEAL_GOAL, price_spec
from sotopia_gym.tasks.schema import Character, Scenario, Task
from sotopia_gym.training.rewards import (
    Clipped,
    Credited,
    Overlong,
    RunningNormaliser,
    Scaled,
    Shaping,
    Terminal,
    Unreadable,
    WeightedSum,
    own_events,
    shaping_rewards,
    standing_offer,
)
from tests.self_play import self_play
from tests.tiny_model import save_tiny_model

ME, OTHER = "agent_0", "agent_1"
patient = settings(deadline=None)
TASK = Task(
    task_id="fence-0",
    scenario=Scenario(
        scenario_id="fence",
        context="A fence between two gardens.",
        goals=("Get the ladder back.", "Keep the ladder until Sunday."),
        relationship=3,
    ),
    characters=(
        Character(character_id="ada", first_name="Ada"),
        Character(character_id="bo", first_name="Bo"),
    ),
)


def judgement(goal, *, marks=None, judge="j", **dimensions):
    """Of both agents alike; ``marks`` are those of ``agent_0``, turn to mark."""
    scores = {name: DimensionScore(score=s) for name, s in {"goal": goal, **dimensions}.items()}
    credits = [TurnCredit(turn=turn, mark=mark) for turn, mark in (marks or {}).items()]
    return Judgement(
        judge=judge,
        scores=dict.fromkeys((ME, OTHER), scores),
        credits={ME: tuple(credits)} if marks else {},
    )


def episode(*actions, judged=(), **fields):
    """The agents act in turns, ``agent_0`` first; a string is what is said."""
    said = [Action("speak", a) if isinstance(a, str) else a for a in actions]
    events = tuple(
        Event(n + 1, (ME, OTHER)[n % 2], action, action.note) for n, action in enumerate(said)
    )
    known = {"task": TASK, "key": "k1", "events": events, "ending": "left"}
    return Episode(**{**known, "judgements": judged, **fields})


def tokens(*lengths):
    """Of every other turn, from the first, so many ids sampled."""
    return {
        ME: tuple(
            TurnTokens(turn=2 * n + 1, prompt=(1,), sampled=(7,) * length)
            for n, length in enumerate(lengths)
        )
    }


THREE = ("My ladder?", "No.", "Please!", "Well.", "Thanks.", Action("leave"))
FAILED = Judgement(judge="j", error="the server is gone")
TERMS = (
    Terminal(),
    Credited(),
    Shaping(lambda *_: 1.0),
    Overlong(4, 2, "words"),
    Unreadable(),
    WeightedSum([(1.0, Unreadable())]),
    Clipped(Unreadable(), -1, 0),
    Scaled(Unreadable(), RunningNormaliser()),
)


def chatter(task, events, agent):
    """A potential that tells from every word how things stand."""
    return float(sum(len(e.action.argument) * (1 if e.agent == agent else -2) for e in events))


def true_goal(judgement, agent):
    return judgement.true_goals.get(agent)


# --- turns ----------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
@pytest.mark.parametrize("ending", ["failed", "interrupted"])
def test_what_is_no_result_has_no_rewards(term, ending):
    played = episode(*THREE, judged=[judgement(7, marks={1: 1, 3: 2, 5: 0})], ending=ending)
    assert term(played, ME) is None


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
def test_there_is_one_reward_for_each_turn_of_the_agent(term):
    played = episode(*THREE, judged=[judgement(7, marks={1: 1, 3: 2, 5: 0})])
    assert len(term(played, ME)) == 3
    with pytest.raises(ConfigError, match=r"k1 has no agent 'agent_2'\. Did you mean 'agent_"):
        term(played, "agent_2")


def test_turns_that_pass_and_the_one_that_leaves_are_turns():
    played = episode(NOTHING, "Hello?", NOTHING, Action("leave"))
    assert [event.turn for event in own_events(played, ME)] == [1, 3]
    assert [event.turn for event in own_events(played, OTHER)] == [2, 4]


def test_tokens_of_other_turns_than_were_played_are_refused():
    played = episode(*THREE, tokens=tokens(3, 3), judged=[judgement(7)])
    with pytest.raises(ConfigError, match=r"k1: agent_0 acted in the turns \[1, 3, 5\]"):
        Terminal()(played, ME)


def test_everything_can_be_pickled():
    reward = Scaled(
        Clipped(
            WeightedSum(
                [
                    (0.1, Terminal({"goal": 1.0, "knowledge": 0.5}, judge="j")),
                    (0.2, Terminal(true_goal)),
                    (1, Credited("goal", by="mark")),
                    (0.1, Shaping(standing_offer, 0.9)),
                    (0.5, Overlong(8, 4, "words")),
                    (0.5, Unreadable()),
                ]
            ),
            -2.0,
            2.0,
        ),
        RunningNormaliser(),
    )
    family = families()["price"]
    task = family.generate(3)
    played = Episode(task=task, events=self_play(family, task, "fair", 3).events, ending="left")
    marks = {e.turn: 2 for e in own_events(played, ME) if e.action.action_type == "speak"}
    judged = judgement(6, marks=marks, knowledge=3).model_copy(update={"true_goals": {ME: 5.0}})
    played = played.with_judgement(judged)
    rewards = reward(played, ME)
    assert len(set(rewards)) > 1
    assert pickle.loads(pickle.dumps(reward))(played, ME) == rewards


# --- from judgements ------------------------------------------------------------------------


def test_the_reward_of_the_episode_is_at_the_last_turn():
    played = episode(*THREE, judged=[judgement(7, knowledge=4)])
    assert Terminal()(played, ME) == (0.0, 0.0, 7.0)
    assert Terminal("knowledge")(played, ME) == (0.0, 0.0, 4.0)
    assert Terminal({"goal": 0.1, "knowledge": 0.5})(played, ME) == (0.0, 0.0, 0.7 + 2)
    assert Terminal(lambda j, agent: j.goal(agent) - 5)(played, ME) == (0.0, 0.0, 2.0)


def test_a_failed_judge_masks_the_episode_out():
    for judged in ([], [FAILED], [Judgement(judge="j", scores={OTHER: {}})]):
        played = episode(*THREE, judged=judged)
        assert Terminal()(played, ME) is None
        assert Credited()(played, ME) is None
    assert Terminal(lambda j, agent: None)(episode(*THREE, judged=[judgement(7)]), ME) is None
    assert Terminal("knowledge")(episode(*THREE, judged=[judgement(7)]), ME) is None


def test_the_judge_asked_for_counts_or_the_latest_who_scored():
    judged = [judgement(7, judge="a"), judgement(3, judge="b"), FAILED]
    played = episode("Hi.", "Hi.", judged=judged)
    assert Terminal()(played, ME) == (3.0,)
    assert Terminal(judge="a")(played, ME) == (7.0,)
    assert Terminal(judge="c")(played, ME) is None


def test_who_never_had_a_turn_has_no_rewards():
    played = episode(Action("leave"), judged=[judgement(7)])
    assert Terminal()(played, OTHER) == Credited()(played, OTHER) == ()
    assert Shaping(chatter)(played, OTHER) == Overlong(8, 4)(played, OTHER) == ()


def test_rewards_that_cannot_be_meant_are_refused():
    played = episode(*THREE, judged=[judgement(7)])
    for reward in ("gaol", {"gaol": 1.0}):
        with pytest.raises(ConfigError, match=r"no judge scores 'gaol'\. Did you mean 'goal'"):
            Terminal(reward)(played, ME)
    for weight in (math.nan, math.inf):
        with pytest.raises(ConfigError, match="the weight of 'goal' must be a finite number"):
            Terminal({"goal": weight})
    with pytest.raises(ConfigError, match="a reward is a dimension"):
        Terminal(3)
    for value in (math.nan, -math.inf):
        with pytest.raises(ConfigError, match=f"of agent_0 in episode k1 is {value}"):
            Terminal(lambda j, agent, value=value: value)(played, ME)
    with pytest.raises(ConfigError, match="by must be one of 'share', 'mark', got 'shares'"):
        Credited(by="shares")


# --- credit ---------------------------------------------------------------------------------


def test_sotopia_rl_by_hand():
    played = episode(*THREE, judged=[judgement(6, marks={1: 1, 3: 3, 5: 0})])
    assert Credited(by="mark")(played, ME) == (2.0, 6.0, 0.0)
    assert Credited(by="share")(played, ME) == (1.5, 4.5, 0.0)


actions = st.sampled_from([Action("speak", "Hm."), Action("action", "waves"), NOTHING])


@patient
@given(st.lists(st.tuples(actions, st.integers(0, 3)), min_size=1, max_size=12), st.floats(-9, 9))
@example([(NOTHING, 0)], -5.0)
@example([(Action("speak", "Hm."), 0), (NOTHING, 0)], 0.1)
def test_shares_sum_to_the_score_whatever_was_done(turns, score):
    played = episode(*(each for action, _ in turns for each in (action, "Hm.")))
    marks = {2 * n + 1: mark for n, (action, mark) in enumerate(turns) if action is not NOTHING}
    played = played.with_judgement(judgement(score, marks=marks))
    shares = Credited()(played, ME)
    assert sum(shares) == score
    assert all(share * score >= 0 for share in shares)
    if marks:
        assert all(
            share == 0
            for share, (action, _) in zip(shares, turns, strict=True)
            if action is NOTHING
        )
    for reward, n in zip(Credited(by="mark")(played, ME), range(len(turns)), strict=True):
        assert reward == pytest.approx(score * marks.get(2 * n + 1, 0) / 3)


@pytest.mark.parametrize("marks", [None, {1: 3, 3: 3}, {1: 3, 3: 3, 5: 0, 6: 1}])
def test_marks_of_other_turns_than_the_agent_acted_in_are_no_marks(marks):
    played = episode(*THREE, judged=[judgement(6, marks=marks)])
    with pytest.raises(JudgeError, match=r"in episode k1, which acted in \[1, 3, 5\].*credit=True"):
        Credited()(played, ME)


# --- shaping --------------------------------------------------------------------------------

discounts = st.floats(0, 1)
words = st.lists(st.text("abc ", min_size=1, max_size=6).filter(str.strip), max_size=14)


def discounted(rewards, discount):
    return math.fsum(discount**n * reward for n, reward in enumerate(rewards))


@patient
@given(st.lists(st.floats(-1e3, 1e3), max_size=20), discounts)
def test_the_discounted_sum_is_that_of_the_first_potential_alone(potentials, discount):
    rewards = shaping_rewards(potentials, discount)
    assert len(rewards) == len(potentials)
    first = -potentials[0] if potentials else 0.0
    assert discounted(rewards, discount) == pytest.approx(first, abs=1e-8)


@pytest.mark.parametrize("agent", [ME, OTHER])
@patient
@given(words, words, st.floats(-9, 9), st.floats(-9, 9), discounts)
def test_conversations_that_begin_alike_are_shifted_by_the_same(agent, one, other, a, b, discount):
    """Whatever is done after: so what was better before stays better, by the same amount."""
    shaped = WeightedSum([(1.0, Terminal()), (1.0, Shaping(chatter, discount))])
    shifts = []
    for said, score in ((one, a), (other, b)):
        played = episode("Hello.", *said, "Hm.", "Hm.", judged=[judgement(score)])
        plain, more = (discounted(r(played, agent), discount) for r in (Terminal(), shaped))
        shifts.append(more - plain)
    # The second agent's first state holds the first one's greeting, the first one's nothing.
    start = chatter(TASK, played.events[:1] if agent == OTHER else (), agent)
    assert shifts == pytest.approx([-start, -start], abs=1e-8)


def test_a_potential_is_told_only_what_happened_before():
    seen = []

    def spy(task, events, agent):
        seen.append((task.task_id, [(e.turn, e.agent) for e in events], agent))
        return 0.0

    events = tuple(Event(t, a, Action("speak", "Hm.")) for t in (1, 2) for a in (ME, OTHER))
    played = episode(events=events, turn_order="simultaneous")
    assert Shaping(spy)(played, OTHER) == (0.0, 0.0)
    # What is said in the same turn is said at once.
    assert seen == [("fence-0", [], OTHER), ("fence-0", [(1, ME), (1, OTHER)], OTHER)]


def test_shaping_that_cannot_be_meant_is_refused():
    for discount in (-0.1, 1.1, math.nan, True, "1"):
        with pytest.raises(ConfigError, match="discount must be"):
            Shaping(chatter, discount)
        with pytest.raises(ConfigError, match="discount must be"):
            shaping_rewards([1.0], discount)
    with pytest.raises(ConfigError, match="a potential is a function of a task"):
        Shaping(3.0)
    with pytest.raises(ConfigError, match="of agent_0 in episode k1 is nan"):
        Shaping(lambda *_: math.nan)(episode(*THREE), ME)


class TestStandingOffer:
    TASK = families()["price"].generate(0)

    def said(self, *words):
        return tuple(
            Event(n + 1, (ME, OTHER)[n % 2], Action("speak", text)) for n, text in enumerate(words)
        )

    def worth(self, agent, *words):
        return standing_offer(self.TASK, self.said(*words), agent)

    def test_it_is_the_goal_at_the_price_that_the_other_offers(self):
        spec = price_spec(self.TASK)
        prices = (spec.buyer_target + spec.seller_target) / 2, spec.seller_target
        for price in map(round, prices):
            for agent in (ME, OTHER):
                offered = (
                    (f"I offer ${price}.",) if agent == OTHER else ("Hi.", f"How about ${price}?")
                )
                assert self.worth(agent, *offered) == pytest.approx(spec.goal(agent, price))

    def test_without_an_offer_of_the_other_it_is_that_of_no_deal(self):
        price = round(price_spec(self.TASK).buyer_target)
        assert self.worth(ME) == NO_DEAL_GOAL
        assert self.worth(ME, f"I offer ${price}.") == NO_DEAL_GOAL
        assert self.worth(OTHER, f"I offer ${price}.", "No, that is too low.") == NO_DEAL_GOAL

    @pytest.mark.parametrize("name", sorted(families()))
    def test_it_ends_at_the_score_in_every_family(self, name):
        family = families()[name]
        met = 0
        for seed in range(3):
            task = family.generate(seed)
            events = tuple(self_play(family, task, "generous", seed).events)
            outcome = family.read(task, events)
            if not outcome.agreed:
                continue
            met += 1
            for agent, score in family.score(task, outcome).scores.items():
                potentials = [standing_offer(task, events[:n], agent) for n in range(len(events))]
                assert all(0 <= potential <= 10 for potential in potentials)
                assert standing_offer(task, events, agent) == pytest.approx(score.goal)
        assert met

    def test_it_needs_ground_truth(self):
        with pytest.raises(TaskError, match="no ground truth"):
            standing_offer(TASK, (), ME)


def test_with_the_standing_offer_progress_is_rewarded_when_it_is_made():
    family = families()["division"]
    task = family.generate(0)
    played = Episode(task=task, events=self_play(family, task, "fair", 0).events, ending="left")
    played = played.with_judgement(OutcomeJudge().judge(played))
    shaped = WeightedSum([(1.0, Terminal()), (1.0, Shaping(standing_offer))])(played, ME)
    goal = played.judgement.goal(ME)
    assert goal > 0
    first = standing_offer(task, (), ME)
    assert sum(shaped) == pytest.approx(goal - first)
    assert any(shaped[:-1])


# --- length and format ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "penalty"),
    [(0, 0), (15, 0), (16, 0), (17, -0.25), (18, -0.5), (19, -0.75), (20, -1), (21, -1), (99, -1)],
)
def test_overlong_by_hand(length, penalty):
    played = episode("Hm.", tokens=tokens(length))
    assert Overlong(limit=20, buffer=4)(played, ME) == (penalty,)


@patient
@given(st.integers(1, 60), st.data(), st.lists(st.integers(0, 90), min_size=1, max_size=9))
def test_overlong_is_that_of_trl(limit, data, lengths):
    rewards = pytest.importorskip("trl.rewards", reason="the extra 'train' is not installed")
    buffer = data.draw(st.integers(1, limit))
    played = episode(*("Hm.",) * (2 * len(lengths)), tokens=tokens(*lengths))
    expected = rewards.get_soft_overlong_punishment(limit, buffer)([[7] * n for n in lengths])
    assert list(Overlong(limit, buffer)(played, ME)) == pytest.approx(expected)


def test_words_are_counted_of_what_took_effect():
    played = episode("one two  three\nfour", "a b c d e f", NOTHING, Action("leave"))
    assert Overlong(5, 4, unit="words")(played, ME) == (-0.75, 0.0)
    assert Overlong(5, 4, unit="words")(played, OTHER) == (-1.0, 0.0)


def test_lengths_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match=r'k1 has no tokens of agent_0.*unit="words"'):
        Overlong(8, 4)(episode(*THREE), ME)
    for limit, buffer in ((0, 1), (8, 0), (8, 9), (8.0, 4), (True, True)):
        with pytest.raises(ConfigError, match=r"limit|buffer"):
            Overlong(limit, buffer)
    with pytest.raises(ConfigError, match="unit must be one of"):
        Overlong(8, 4, unit="characters")


def test_only_answers_that_are_no_action_are_unreadable():
    unread = Action("none", note="no valid action: it is not JSON. It wrote: 'Hm.'")
    refused = Action("none", note="addressed to agent_7, who is not in the conversation")
    played = episode(unread, "Hm.", refused, unread, "Hm.")
    assert Unreadable()(played, ME) == (-1.0, 0.0, 0.0)
    assert Unreadable()(played, OTHER) == (0.0, -1.0)


@pytest.mark.usefixtures("one_thread")
def test_a_policy_that_babbles_is_told_so_at_each_of_its_turns(tmp_path):
    pytest.importorskip("torch", reason="the extra 'train' is not installed")
    pytest.importorskip("transformers", reason="the extra 'train' is not installed")
    from sotopia_gym.agents.decoding import Sampling
    from sotopia_gym.agents.policy import PolicyAgent

    brief = replace(CHAT, name="brief", system="Play.", opening="{name}: {goal}\n")
    policy = PolicyAgent.load(
        str(save_tiny_model(tmp_path)), prompt=brief, sampling=Sampling(max_tokens=12)
    )
    tasks = [families()["price"].generate(seed) for seed in range(2)]
    rules = Rules(max_turns=6)
    try:
        played = list(Rollout(tasks, policy, "scripted/fair", rules=rules, judge="outcome"))
    finally:
        policy.close()
    assert len(played) == 4
    for one in played:
        (me,) = one.tokens
        sampled = [len(turn.sampled) for turn in one.tokens[me]]
        assert Unreadable()(one, me) == (-1.0,) * len(sampled)
        assert Overlong(16, 8)(one, me) == tuple(min(0.0, (8 - n) / 8) for n in sampled)
        # It said nothing, so that it has what it would have had without the conversation.
        assert Terminal()(one, me) == (0.0,) * (len(sampled) - 1) + (NO_DEAL_GOAL,)


# --- made of others -------------------------------------------------------------------------


def test_a_weighted_sum_is_taken_turn_by_turn():
    played = episode(*THREE, judged=[judgement(6)], tokens=tokens(8, 6, 2))
    reward = WeightedSum([(0.1, Terminal()), (2.0, Overlong(8, 4)), (1, lambda *_: (1, 2, 3))])
    assert reward(played, ME) == pytest.approx((-1.0, 1.0, 3.6))
    assert WeightedSum([(0.5, reward)])(played, ME) == pytest.approx((-0.5, 0.5, 1.8))


def test_one_part_that_cannot_be_told_leaves_the_episode_out():
    unscored = episode(*THREE, judged=[FAILED])
    terms = [(1.0, Unreadable()), (0.0, Terminal())]
    assert WeightedSum(terms)(unscored, ME) is None
    assert WeightedSum(terms[::-1])(unscored, ME) is None
    assert Clipped(WeightedSum(terms), -1, 1)(unscored, ME) is None
    assert Scaled(WeightedSum(terms), RunningNormaliser())(unscored, ME) is None


def test_rewards_are_clipped_turn_by_turn():
    clipped = Clipped(lambda *_: (-3.0, 0.5, 9.0), -1.0, math.inf)
    assert clipped(episode(*THREE), ME) == (-1.0, 0.5, 9.0)
    assert Clipped(clipped, 0.0, 2.0)(episode(*THREE), ME) == (0.0, 0.5, 2.0)


@pytest.mark.parametrize(
    "around",
    [
        lambda part: WeightedSum([(1.0, part)]),
        lambda part: Clipped(part, -1, 1),
        lambda part: Scaled(part, RunningNormaliser()),
    ],
    ids=["sum", "clipped", "scaled"],
)
def test_rewards_of_the_wrong_number_or_kind_are_refused(around):
    for wrong in ((), (1.0,), (1.0,) * 4):
        with pytest.raises(ConfigError, match=f"3 turns in episode k1.* gives {len(wrong)} reward"):
            around(lambda *_, wrong=wrong: wrong)(episode(*THREE), ME)
    with pytest.raises(ConfigError, match="of agent_0 in episode k1 is nan"):
        around(lambda *_: (0.0, math.nan, 0.0))(episode(*THREE), ME)
    with pytest.raises(ConfigError, match=r'must be a turn reward.*Terminal\("goal"\)'):
        around("goal")


def test_sums_and_bounds_that_cannot_be_meant_are_refused():
    for weight in (math.nan, math.inf, "1", None, True):
        with pytest.raises(ConfigError, match="a weight must be a finite number"):
            WeightedSum([(weight, Terminal())])
    for parts in ([], [Terminal()], {Terminal(): 0.1}, [(0.1, Terminal(), "goal")]):
        with pytest.raises(ConfigError, match="at least one pair of a weight and a turn reward"):
            WeightedSum(parts)
    for low, high in ((1, 0), (math.nan, 1), (0, math.nan)):
        with pytest.raises(ConfigError, match="low must be at most high"):
            Clipped(Terminal(), low, high)


# --- normalising ----------------------------------------------------------------------------

PLAYED = episode(*THREE)
values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def fed(batches):
    normaliser = RunningNormaliser()
    for batch in batches:
        normaliser.update(batch, "batch")
    return normaliser


def cut(flat, places):
    edges = [0, *sorted(place % (len(flat) + 1) for place in places), len(flat)]
    return [flat[a:b] for a, b in pairwise(edges)]


@patient
@given(values, st.lists(st.integers(0, 40), max_size=8), st.sampled_from([0.0, 1e6]))
@example([1.0], [], 0.0)
@example([0.1] * 30, [1, 2, 3], 0.0)
def test_it_is_what_numpy_says_however_the_values_come(flat, places, offset):
    flat = [value + offset for value in flat]
    normaliser = fed(cut(flat, places))
    assert normaliser.count == len(flat)
    assert normaliser.mean == pytest.approx(np.mean(flat), rel=1e-9, abs=1e-9)
    assert normaliser.variance == pytest.approx(np.var(flat), rel=1e-9, abs=1e-6)


@patient
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40), st.data())
def test_what_comes_out_has_mean_0_and_deviation_1(flat, data):
    normaliser = fed(cut(flat, data.draw(st.lists(st.integers(0, 40), max_size=8))))
    out = normaliser.standardised(flat)
    assert np.mean(out) == pytest.approx(0, abs=1e-6)
    if np.std(flat) > 1e-6:
        assert np.std(out) == pytest.approx(1, rel=1e-6)
    assert normaliser.scaled(flat) == tuple(value / normaliser.deviation for value in flat)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9 / 3])
@pytest.mark.parametrize("size", [1, 3])
def test_equal_values_are_not_blown_up(value, size):
    normaliser = fed([[value] * size] * 500)
    assert normaliser.scaled([value]) == (value,)
    assert normaliser.standardised([value]) == pytest.approx((0.0,), abs=1e-6)
    assert RunningNormaliser().standardised([value]) == (value,)


@patient
@given(values, st.lists(st.integers(0, 40), max_size=6), st.integers(0, 7))
def test_a_run_that_was_stopped_goes_on_with_the_very_same_numbers(flat, places, stop):
    batches = cut(flat, places)
    whole = fed(batches)
    resumed = RunningNormaliser()
    resumed.load_state_dict(json.loads(json.dumps(fed(batches[:stop]).state_dict())))
    for batch in batches[stop:]:
        resumed.update(batch, "batch")
    assert resumed.state_dict() == whole.state_dict()
    assert resumed.standardised(flat) == whole.standardised(flat)


def test_what_is_not_finite_is_refused_with_its_source_and_changes_nothing():
    normaliser = fed([[1.0, 2.0]])
    before = normaliser.state_dict()
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ConfigError, match=f"of batch 7 is {value}, not a finite number"):
            normaliser.update([3.0, value], "batch 7")
        assert normaliser.state_dict() == before


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"count": 1, "mean": 0.0},
        {"count": 1, "mean": 0.0, "squares": 0.0, "version": 2},
        {"count": -1, "mean": 0.0, "squares": 0.0},
        {"count": 1.5, "mean": 0.0, "squares": 0.0},
        {"count": 1, "mean": math.nan, "squares": 0.0},
        {"count": 1, "mean": 0.0, "squares": -1.0},
        {"count": 1, "mean": "0", "squares": 0.0},
    ],
)
def test_what_is_no_state_of_it_is_refused_and_changes_nothing(state):
    normaliser = fed([[1.0, 2.0]])
    before = normaliser.state_dict()
    with pytest.raises(ConfigError, match="of a normaliser"):
        normaliser.load_state_dict(state)
    assert normaliser.state_dict() == before


def test_rewards_are_divided_by_the_deviation_so_far():
    normaliser = fed([[0.0, 4.0], [4.0, 0.0]])
    scaled = Scaled(lambda *_: (1.0, 2.0, -4.0), normaliser)
    assert scaled(PLAYED, ME) == (0.5, 1.0, -2.0)
    assert normaliser.count == 4
