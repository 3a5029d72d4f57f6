"""Sharing the reward of an episode out over its turns: none is made, none is lost."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sotopia_gym import Episode
from sotopia_gym.envs.dialogue import NOTHING, Action, Event
from sotopia_gym.episodes.schema import TurnCredit
from sotopia_gym.errors import AnswerError
from sotopia_gym.judges.credit import MAX_MARK, credit_messages, credit_schema, read_credit
from sotopia_gym.judges.credit import turn_rewards as share
from sotopia_gym.tasks.suites import load_suite

marks = st.lists(st.integers(0, MAX_MARK), min_size=1, max_size=30)
rewards = st.floats(-100, 100)


def credits_of(given_marks):
    return [TurnCredit(turn=2 * n + 1, mark=mark) for n, mark in enumerate(given_marks)]


class TestSharing:
    @given(marks, rewards)
    @example([1, 1, 1], 10.0)
    @example([0, 0, 0], 10.0)
    @example([3, 0, 0], 0.1)
    @example([1, 2, 3, 1, 2, 3, 1], 7.3)
    @example([1, 2], 0.8910886974351749)
    @example([1, 2], 5e-324)
    def test_the_parts_sum_to_the_reward(self, given_marks, reward):
        parts = share(credits_of(given_marks), reward)
        assert list(parts) == [credit.turn for credit in credits_of(given_marks)]
        assert sum(parts.values()) == reward
        assert sum(reversed(parts.values())) == reward
        assert all(part * reward >= 0 for part in parts.values())

    @given(marks.filter(any), rewards)
    def test_in_proportion_to_the_marks(self, given_marks, reward):
        parts = share(credits_of(given_marks), reward).values()
        for mark, part in zip(given_marks, parts, strict=True):
            expected = reward * mark / sum(given_marks)
            assert part == pytest.approx(expected, rel=1e-9, abs=1e-9)

    @given(st.integers(1, 30), rewards)
    def test_in_equal_parts_where_nothing_helped(self, turns, reward):
        for part in share(credits_of([0] * turns), reward).values():
            assert part == pytest.approx(reward / turns, rel=1e-9, abs=1e-9)

    def test_none_where_the_agent_never_acted(self):
        assert share([], 10.0) == {}

    def test_a_single_turn_takes_it_all(self):
        assert share(credits_of([0]), 0.1) == {1: 0.1}
        assert share(credits_of([3]), -0.1) == {1: -0.1}


class TestReading:
    def test_one_mark_for_each_turn_in_the_order_of_the_turns(self):
        assert read_credit('{"5": 0, "1": 3}', [1, 5]) == (
            TurnCredit(turn=1, mark=3),
            TurnCredit(turn=5, mark=0),
        )
        assert read_credit("{}", []) == ()

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            "[]",
            "[3, 0]",
            "3",
            "null",
            '{"1": 3}',
            '{"1": 3, "5": 0, "6": 1}',
            '{"1": 3, "5": 0, "5": 0}',
            '{"1": 3, "05": 0}',
            '{"1": 3, " 5": 0}',
            '{"turn 1": 3, "turn 5": 0}',
            '{"1": 3, "5": 0',
            'Sure: {"1": 3, "5": 0}',
            '{"1": 3, "5": 0} Done.',
            '```json\n{"1": 3, "5": 0}\n```',
            *(
                f'{{"1": 3, "5": {mark}}}'
                for mark in (
                    *("4", "-1", "0.5", "2.999", "NaN", "Infinity", "1e999", "true", "false"),
                    *("null", '"2"', "[2]", '{"mark": 2}', "02", "9" * 400, "9" * 10_000),
                )
            ),
            '{"1":' * 100_000,
        ],
        ids=lambda text: text[:40] or "empty",
    )
    def test_anything_else_is_an_error(self, text):
        with pytest.raises(AnswerError) as caught:
            read_credit(text, [1, 5])
        assert len(str(caught.value)) < 1000

    @given(st.text(max_size=60))
    def test_no_text_makes_it_fail_in_another_way(self, text):
        with pytest.raises(AnswerError):
            read_credit(text, [1, 5])

    @given(st.sets(st.integers(1, 40), max_size=12), st.data())
    def test_what_follows_the_schema_is_read(self, chosen, data):
        turns = sorted(chosen)
        schema = credit_schema(turns)
        answer = {
            key: data.draw(st.sampled_from(schema["properties"][key]["enum"]))
            for key in schema["required"]
        }
        found = read_credit(json.dumps(answer), turns)
        assert {str(credit.turn): credit.mark for credit in found} == answer


def test_only_turns_in_which_the_agent_did_something_are_asked_for():
    task = next(iter(load_suite("starter")))
    events = (
        Event(1, "agent_0", Action("speak", "Hello.")),
        Event(2, "agent_1", Action("speak", "Hello.")),
        Event(3, "agent_0", NOTHING),
        Event(4, "agent_1", Action("action", "opens the window")),
        Event(5, "agent_0", Action("non-verbal communication", "smiles")),
        Event(6, "agent_1", Action("leave")),
    )
    episode = Episode(task=task, seed=0, events=events, ending="left")
    messages, turns = credit_messages(episode, "agent_0")
    assert turns == [1, 5]
    assert "1, 5" in messages[0]["content"] + messages[1]["content"].split("\n")[-1]
    assert credit_messages(episode, "agent_1")[1] == [2, 4]
