"""The rules of a conversation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotopia_gym.envs.dialogue import (
    ACTION_TYPES,
    MAX_ARGUMENT_LENGTH,
    NOTHING,
    TURN_ORDERS,
    Action,
    Dialogue,
)
from sotopia_gym.errors import ActionError, EpisodeStateError

A, B, C = "agent_0", "agent_1", "agent_2"
HELLO, LEAVE = Action("speak", "hello"), Action("leave")


def dialogue(agents=(A, B), **rules):
    return Dialogue(agents, rng=np.random.default_rng(0), **rules)


class TestTurnOrder:
    def test_round_robin_lets_one_agent_act_at_a_time(self):
        talk = dialogue((A, B, C))
        order = []
        for _ in range(7):
            order.append(talk.acting)
            talk.step({talk.acting[0]: HELLO})
        assert order == [(A,), (B,), (C,), (A,), (B,), (C,), (A,)]

    def test_round_robin_skips_who_left(self):
        talk = dialogue((A, B, C))
        talk.step({A: HELLO})
        talk.step({B: LEAVE})
        order = []
        for _ in range(3):
            order.append(talk.acting)
            talk.step({talk.acting[0]: HELLO})
        assert order == [(C,), (A,), (C,)]

    def test_simultaneous_lets_everybody_present_act(self):
        talk = dialogue((A, B, C), turn_order="simultaneous")
        assert talk.acting == (A, B, C)
        events = talk.step({A: HELLO, B: LEAVE, C: HELLO})
        assert [event.turn for event in events] == [1, 1, 1]
        assert talk.acting == (A, C)

    def test_random_is_fair_and_follows_the_generator(self):
        talk = dialogue(turn_order="random", max_turns=1000)
        counts = {A: 0, B: 0}
        while talk.ending is None:
            counts[talk.acting[0]] += 1
            talk.step({talk.acting[0]: HELLO})
        assert 400 < counts[A] < 600


class TestEnding:
    def test_twenty_utterances_in_all_as_in_the_paper(self):
        talk = dialogue()
        while talk.ending is None:
            talk.step({talk.acting[0]: HELLO})
        assert (talk.ending, len(talk.events)) == ("turn-limit", 20)
        assert [event.agent for event in talk.events].count(A) == 10

    def test_one_of_two_leaving_ends_it(self):
        talk = dialogue()
        talk.step({A: LEAVE})
        assert (talk.ending, talk.acting, talk.present) == ("left", (), (B,))

    def test_the_others_go_on_when_one_of_three_leaves(self):
        talk = dialogue((A, B, C))
        talk.step({A: LEAVE})
        assert talk.ending is None
        talk.step({B: LEAVE})
        assert talk.ending == "left"

    def test_three_silent_turns_in_a_row_end_it(self):
        talk = dialogue()
        for action in (NOTHING, NOTHING, HELLO, NOTHING, NOTHING):
            talk.step({talk.acting[0]: action})
        assert talk.ending is None
        talk.step({talk.acting[0]: NOTHING})
        assert talk.ending == "silence"

    def test_leaving_in_the_last_turn_counts_as_leaving(self):
        talk = dialogue(max_turns=1)
        talk.step({A: LEAVE})
        assert talk.ending == "left"

    def test_nothing_happens_after_the_end(self):
        talk = dialogue(max_turns=1)
        talk.step({A: HELLO})
        with pytest.raises(EpisodeStateError, match="turn-limit"):
            talk.step({B: HELLO})


class TestActions:
    def test_private_words_reach_only_who_they_are_addressed_to(self):
        talk = dialogue((A, B, C))
        (event,) = talk.step({A: Action("speak", "psst", (B,))})
        assert [event.visible_to(agent) for agent in (A, B, C)] == [True, True, False]

    def test_addressing_oneself_alone_is_public(self):
        talk = dialogue((A, B, C))
        (event,) = talk.step({A: Action("speak", "hm", (A,))})
        assert event.action.to == ()

    @pytest.mark.parametrize("blank", ["", " ", "\n\t"])
    def test_saying_nothing_is_silence_and_says_so(self, blank):
        (event,) = dialogue().step({A: Action("speak", blank)})
        assert event.action == NOTHING
        assert "without an argument" in event.note

    def test_what_comes_with_leaving_or_silence_is_dropped(self):
        (event,) = dialogue().step({A: Action("none", "ignored", (B,))})
        assert event.action == NOTHING

    def test_an_action_of_somebody_who_may_not_act_has_no_effect(self):
        talk = dialogue()
        talk.step({A: HELLO, B: LEAVE})
        assert talk.present == (A, B)

    def test_a_missing_action_is_an_error_that_changes_nothing(self):
        talk = dialogue()
        with pytest.raises(ActionError, match="agent_0"):
            talk.step({B: HELLO})
        assert (talk.turn, talk.events, talk.acting) == (0, [], (A,))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("shout", "hey"), "action_type must be one of"),
            (("speak", 3), "argument must be a string, got int"),
            (("speak", "x" * (MAX_ARGUMENT_LENGTH + 1)), f"at most {MAX_ARGUMENT_LENGTH}"),
            (("speak", "\ud800"), "lone surrogate"),
            (("speak", "hey", "agent_1"), "sequence of agent names"),
            (("speak", "hey", (1,)), "sequence of agent names"),
        ],
    )
    def test_what_is_no_action_says_what_is_wrong(self, arguments, message):
        with pytest.raises(ActionError, match=message):
            Action(*arguments)


@pytest.mark.parametrize(
    "rules",
    [
        {"turn_order": "chaos"},
        {"max_turns": 0},
        {"max_turns": 2.5},
        {"max_silent_turns": 0},
        {"agents": (A,)},
        {"agents": (A, A)},
    ],
)
def test_unplayable_rules_are_refused(rules):
    with pytest.raises(ValueError, match=r"must be|at least two"):
        dialogue(**rules)


actions = st.builds(
    Action,
    st.sampled_from(ACTION_TYPES),
    st.text(max_size=20),
    st.lists(st.sampled_from([A, B, C, "nobody"]), max_size=3).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(
    order=st.sampled_from(TURN_ORDERS),
    agents=st.sampled_from([(A, B), (A, B, C)]),
    max_turns=st.integers(1, 12),
    max_silent=st.integers(1, 4),
    plan=st.lists(st.fixed_dictionaries({A: actions, B: actions, C: actions}), min_size=12),
)
def test_whatever_is_done_the_rules_hold(order, agents, max_turns, max_silent, plan):
    talk = dialogue(agents, turn_order=order, max_turns=max_turns, max_silent_turns=max_silent)
    gone: set[str] = set()
    for chosen in plan:
        if talk.ending is not None:
            break
        acting, before = talk.acting, len(talk.events)
        assert acting
        assert not gone & set(acting)
        events = talk.step({agent: chosen[agent] for agent in agents})
        assert talk.events[before:] == list(events)
        assert tuple(event.agent for event in events) == acting
        for event in events:
            assert event.visible_to(event.agent)
            assert event.agent not in event.action.to
            assert set(event.action.to) <= set(agents)
            if event.action.action_type in ("none", "leave"):
                assert (event.action.argument, event.action.to) == ("", ())
            else:
                assert event.action.argument.strip()
            if event.action.action_type == "leave":
                gone.add(event.agent)
        assert set(talk.present) == set(agents) - gone
    assert talk.turn <= max_turns
    assert talk.ending is not None or len(plan) < max_turns or talk.turn == len(plan)
    last = [event.action.action_type for event in talk.events[-1:]]
    if talk.ending == "left":
        assert len(talk.present) < 2
    elif talk.ending == "silence":
        assert last == ["none"]
    elif talk.ending == "turn-limit":
        assert talk.turn == max_turns
    if talk.ending is not None:
        assert talk.acting == ()
        assert all(talk.allowed(agent) == ("none",) for agent in agents)
