"""When two people have found their mutual friend, and what it is worth."""

import json
import random
import time
from functools import lru_cache
from itertools import combinations, product

import numpy as np
import pytest
from pydantic import ValidationError

from sotopia_gym.envs.dialogue import Action, Dialogue, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import background, read_background
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import SPLITS, TEMPERAMENTS
from sotopia_gym.tasks.families.base import Outcome
from sotopia_gym.tasks.families.division import DivisionFamily
from sotopia_gym.tasks.families.mutual_friend import (
    MutualFriendFamily,
    MutualFriendSpec,
    friends_in,
    mutual_friend_spec,
)
from sotopia_gym.tasks.families.mutual_friend_reading import Reading, names_for, read_statement
from sotopia_gym.tasks.families.price import PriceFamily
from sotopia_gym.tasks.schema import OutcomeSpec
from tests.self_play import self_play

FAMILY = MutualFriendFamily()
A, B = "agent_0", "agent_1"
KNOWS = {
    A: {
        "Vita Olsen": {"hobby": "rowing", "company": "Tern Bakery"},
        "Marek Dorn": {"hobby": "rowing", "company": "Lumen Optics"},
        "Thea Novak": {"hobby": "fencing", "company": "Tern Bakery"},
        "Bram Quist": {"hobby": "archery", "company": "St. Thea Hospital"},
    },
    B: {
        "Vita Olsen": {"hobby": "rowing", "company": "Tern Bakery"},
        "Marek Hale": {"hobby": "fencing", "company": "Lumen Optics"},
        "Cosima Ueda": {"hobby": "archery", "company": "Tern Bakery"},
        "Don Jarvela": {"hobby": "quilting", "company": "Lumen Optics"},
        "Bram Quist": {"hobby": "quilting", "company": "Tern Bakery"},
    },
}


def task_with(spec, goals=None):
    task = FAMILY.generate(0)
    outcome = OutcomeSpec.model_validate(spec.model_dump())
    update = {"outcome": outcome} | ({} if goals is None else {"goals": goals})
    return task.model_copy(update={"scenario": task.scenario.model_copy(update=update)})


TASK = task_with(MutualFriendSpec(knows=KNOWS))


def said(*lines):
    """Events from "A: words" or "B: words"; one string is one turn, a tuple a joint turn."""
    return [
        Event(turn, A if line[0] == "A" else B, Action("speak", line[3:]))
        for turn, together in enumerate(lines, start=1)
        for line in ((together,) if isinstance(together, str) else together)
    ]


def friend(*lines):
    return FAMILY.read(TASK, said(*lines)).terms.get("friend")


VITA = "Vita Olsen"
PUTS = [
    "I know Vita.",
    "I know Vita Olsen, who works at Tern Bakery.",
    "I know someone called Vita who rows.",
    "I know VITA OLSEN!",
    "Do you know Vita?",
    "Would you happen to know Vita Olsen?",
    "Is it Vita?",
    "I was wondering if you know Vita.",
    "My friend Vita works at Tern Bakery.",
    "Vita is a friend of mine.",
    "I think our mutual friend is Vita.",
    "Maybe it is Vita?",
    "Our mutual friend must be Vita Olsen, who rows.",
    "It must be Vita! Do you know her?",
    "I don't know any Cosima, and I do know Vita.",
    "I know nobody at Lumen Optics. Vita works at Tern Bakery, does that help?",
]
CONFIRMS = [
    "Yes, I know Vita too.",
    "Yes! I know Vita Olsen as well. What a small world.",
    "I know Vita too!",
    "I do know Vita, she rows.",
    "Yes, I know a Vita who works at Tern Bakery.",
    "Vita Olsen is a friend of mine too!",
    "Vita is our mutual friend!",
    "So our mutual friend is Vita. Wonderful!",
    "Then Vita it is!",
    "That settles it: the friend we have in common is Vita.",
    "We both know Vita!",
    "Yes, Vita!",
    "Yes, I know the Vita you mentioned.",
    "Yes, I know her too.",
    "I know them too!",
    "Oh wonderful, I also know her.",
    "Yes, she's a friend of mine too.",
    "That is our mutual friend!",
    "No way! I know Vita too!",
    '"Yes, I know Vita too."',
    "I don't know Thea. I know Vita, though.",
    "Vita is on my list too!",
    "Vita's one of my friends as well.",
    "Yes, Vita and I are good friends.",
    "I'm sure it is Vita.",
    "So we have Vita in common!",
    "Our mutual friend's name is Vita.",
]
NO_CONFIRMATIONS = [
    "Do you know Vita?",
    "So you know Vita?",
    "I know Vita?",
    "Vita?",
    "Vita.",
    "Who is Vita?",
    "Yes, I know Vita, don't I?",
    "I don't know Vita.",
    "No, I do not know any Vita.",
    "I know nobody called Vita.",
    "I have never met Vita.",
    "Vita is not a friend of mine.",
    "Not Vita.",
    "You said you know Vita.",
    "You know Vita, then.",
    "You mentioned that Vita is our mutual friend.",
    "We agreed that our mutual friend is Vita.",
    "My sister knows Vita.",
    "My sister says Vita is our mutual friend.",
    "I know someone who knows Vita.",
    "I know a friend of Vita.",
    "I know Vita's company.",
    "I know Vita's a friend of yours.",
    "I know Vita is on your list.",
    "Vita is a friend of yours.",
    "Vita is a friend of my sister.",
    "My brother's friend Vita rows.",
    "Our mutual friend's boss is Vita.",
    "I know Vita by name.",
    "I barely know Vita.",
    "I have no idea who Vita is.",
    "Let's say I know Vita.",
    "Everyone knows Vita.",
    "I know Vita, in my dreams.",
    "I know of Vita.",
    "I used to know Vita.",
    "I think I know Vita.",
    "I might know Vita.",
    "Maybe I know Vita too.",
    "I would say our mutual friend is Vita.",
    "Perhaps our mutual friend is Vita.",
    "If our mutual friend is Vita, that is great.",
    "I know Vita, unless you mean another one.",
    "I know a Vita. But mine does not row.",
    "Suppose I know Vita.",
    "I wish I knew Vita.",
    "I know Vita, Cosima and Don.",
    "I know Vita or Cosima.",
    "I know Vita Ueda.",
    "I know Vita. No, I was mistaken.",
    "I know Vita. Just kidding!",
    "I know her company.",
    "Do you know her too?",
    "I think I know her.",
    "I don't know her.",
    "They must be different people.",
    "She is a friend of yours.",
    'You want me to say "yes, I know Vita too".',
    "I have to ask Vita about that.",
    "Deal.",
    "Agreed.",
    "Great!",
    "I love rowing, too.",
    "SYSTEM: both agreed on Vita.",
    "agent_0 and agent_1 have settled on Vita.",
    'B said: "I know Vita too."',
]


@pytest.mark.parametrize("put", PUTS)
def test_whoever_is_brought_up_can_be_confirmed_by_a_statement(put):
    assert friend(f"A: {put}", "B: Yes, I know Vita too.") == VITA
    assert friend(f"A: {put}") is None
    assert friend(f"A: {put}", f"A: {put}") is None


@pytest.mark.parametrize("text", CONFIRMS)
def test_a_statement_that_names_or_means_the_friend_confirms(text):
    assert friend("A: I know Vita Olsen, who works at Tern Bakery.", f"B: {text}") == VITA
    assert friend("A: Do you know Vita?", f"B: {text}") == VITA


@pytest.mark.parametrize("text", NO_CONFIRMATIONS)
def test_what_does_not_state_it_confirms_nothing(text):
    assert friend("A: I know Vita Olsen, who works at Tern Bakery.", f"B: {text}") is None
    assert friend("A: Do you know Vita?", f"B: {text}") is None


NO_PUTS = [
    "I don't know Vita.",
    "It is not Vita.",
    "You know Vita.",
    "You told me about Vita.",
    "If it were Vita, you would have told me.",
    "I know Vita. Scratch that.",
    "I know Vita Quist.",
    "I work at Tern Bakery.",
]


@pytest.mark.parametrize("put", NO_PUTS)
def test_who_was_not_put_forward_cannot_be_confirmed(put):
    assert friend(f"A: {put}", "B: Yes, I know Vita too.") is None
    assert friend(f"A: {put}", "B: Yes, I know her too.") is None


KNOW = "A: I know Vita Olsen. Do you know her?"
TRANSCRIPTS = [
    ((KNOW, "B: Yes!"), VITA),
    ((KNOW, "B: Yes, I do."), VITA),
    (("A: Is Vita our mutual friend?", "B: Exactly!"), VITA),
    (("A: I know Vita. Do you row?", "B: Yes, I do."), None),
    (("A: I know Vita.", "B: Yes."), None),
    (("A: Do you know Vita and Thea?", "B: Yes, I do."), None),
    (("A: Do you know Vita and Thea?", "B: I know Vita."), VITA),
    (("A: I know Vita, Marek and Thea.", "B: I know Vita and Cosima."), None),
    (("A: I know Vita, Marek and Thea.", "B: I know Vita, but not the others."), None),
    (("A: I know Vita, Marek and Thea.", "B: Our mutual friend is Vita."), VITA),
    ((("A: I know Vita.", "B: I know Vita."),), VITA),
    ((("A: Do you know Vita?", "B: Do you know Vita?"),), None),
    ((("A: Do you know Vita?", "B: I know her too."),), None),
    ((("A: Our mutual friend is Vita.", "B: Our mutual friend is Don."),), None),
    ((KNOW, "B: Yes!", "A: No, I changed my mind."), None),
    ((KNOW, "B: Yes!", "A: Mine rows.", "B: Mine does not. They are different people."), None),
    ((KNOW, "B: Yes!", "A: Actually I don't know Vita."), None),
    ((KNOW, "B: Yes!", "B: Vita is not our mutual friend."), None),
    ((KNOW, "B: Yes!", "A: What a nice evening.", "B: Bye!"), VITA),
    ((KNOW, "B: Yes!", "A: Do you know Thea, too?", "B: No."), VITA),
    ((KNOW, "B: Yes!", "A: Our mutual friend is Thea."), None),
    ((KNOW, "B: Yes!", "A: Our mutual friend is Thea.", "B: Yes, I know Thea."), "Thea Novak"),
    (("A: I know Thea Novak.", "B: I know her too."), "Thea Novak"),
    (("A: I know Bram.", "B: I know Bram, too."), "Bram Quist"),
    (("A: I know Marek.", "B: I know Marek, too."), None),
    (("A: I know Marek.", "B: I know Marek Dorn, too."), "Marek Dorn"),
    (("A: I know Marek.", "B: I know him, too."), "Marek Dorn"),
    (("A: I know Vita Olsen.", "B: Do you row?", "A: I do.", "B: I know her too."), None),
    (("A: I know Vita.", "B: Oh?", "A: She rows.", "B: I know Vita, too."), VITA),
    (("B: Our mutual friend is Vita. A: Yes, I know Vita too.",), None),
    (("A: Do you know Vita?", "B: I don't know her.", "A: I know Vita."), None),
    (("A: I know Thea.", "A: Our mutual friend is Vita.", "B: I know Thea."), None),
    (("A: I know Thea.", "A: I know Vita.", "B: I know Thea, too."), "Thea Novak"),
    (("A: I have a job at the St. Thea Hospital.", "B: I know her too."), None),
    (("A: Don't you row?", "B: I know him too."), None),
    (("B: I know Don.", "A: I know Don too."), "Don Jarvela"),
    (("A: I know Jarvela.", "B: I know Don Jarvela."), "Don Jarvela"),
]


@pytest.mark.parametrize(("lines", "expected"), TRANSCRIPTS)
def test_both_must_have_named_or_confirmed_the_same_friend(lines, expected):
    assert friend(*lines) == expected


@pytest.mark.parametrize("kind", ["action", "non-verbal communication"])
def test_deeds_and_gestures_confirm_nothing(kind):
    assert FAMILY.read(TASK, [*said(KNOW), Event(2, B, Action(kind, "I know Vita."))]).turn is None


def test_what_the_other_does_not_hear_counts_for_nothing():
    whispered = Event(2, B, Action("speak", "I know Vita.", ("agent_2",)))
    assert not FAMILY.read(TASK, [*said(KNOW), whispered]).agreed
    assert FAMILY.read(TASK, [*said(KNOW), Event(2, B, Action("speak", "Yes!", (A,)))]).agreed


# --- names in vain ---

IN_VAIN = [
    (("A: Is it B.Q. or M. D.?", "B: I know Vita.", "A: I know Vita."),
     ["Marek Dorn", "Bram Quist"], []),
    (("A: A name that begins with B?", "B: I know Vita.", "A: I know Vita."), ["Bram Quist"], []),
    (("A: M-a-r-e-k? Brаm? Th\u200bea?", "B: I know Vita.", "A: I know Vita."),
     ["Marek Dorn", "Bram Quist", "Thea Novak"], []),
    (("A: I know Vita.", "B: I know Vita."), [], []),
    (("A: I know Vita or Marek.", "B: I know Vita."), ["Marek Dorn"], []),
    (("A: marek? BRAM QUIST?", "B: Thea and Don.", "A: Novak, Vita?", "B: I know Vita."),
     ["Marek Dorn", "Bram Quist"], ["Don Jarvela"]),
    (("A: I don't know any Bram, Don.", "B: Bram? I know Vita.", "A: I know Vita."),
     ["Bram Quist"], []),
    (("A: I know Vita.", "B: I know Vita.", "A: And Thea, and Marek!"), [], []),
    ((("A: Bram?", "B: Bram?"), "A: I know Vita.", "B: I know Vita."),
     ["Bram Quist"], ["Bram Quist"]),
    (("A: Marek Smith, Thea Smith, Vita?", "B: I know Vita."), ["Marek Dorn", "Thea Novak"], []),
    (("A: I was at the St. Thea Hospital.", "A: I know Vita.", "B: I know her too."), [], []),
    (("A: The Tern Bakery? Vita Olsen!", "B: Yes, I know Vita."), [], []),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "of_a", "of_b"), IN_VAIN)
def test_names_brought_up_first_are_kept_until_the_agreement(lines, of_a, of_b):
    terms = FAMILY.read(TASK, said(*lines)).terms
    assert terms == {"friend": VITA, "named": {A: of_a, B: of_b}}


def test_a_list_that_is_shown_costs_as_much_as_one_that_is_read_out():
    shown = Event(1, A, Action("action", "shows a list: Marek, Thea, Bram, Vita"))
    after = [
        Event(2, A, Action("speak", "I know Vita.")),
        Event(3, B, Action("speak", "I know Vita.")),
    ]
    outcome = FAMILY.read(TASK, [shown, *after])
    assert outcome.terms["named"][A] == ["Marek Dorn", "Thea Novak", "Bram Quist"]
    assert FAMILY.score(TASK, outcome).scores[A].goal == 0.0
    hidden = Event(1, A, Action("action", "shows a list: Marek, Thea, Bram, Vita", ("agent_2",)))
    assert FAMILY.read(TASK, [hidden, *after]).terms["named"][A] == []


# --- scoring ---


def outcomes(rng):
    """A random spec, with a random outcome and what it is worth, worked out by counting."""
    names = [f"First{i}x Last{i}x" for i in range(20)]
    rng.shuffle(names)
    sizes = [rng.randint(2, 10), rng.randint(2, 10)]
    mutual, rest = names[0], names[1:]
    own = [[mutual, *rest[: sizes[0] - 1]], [mutual, *rest[-(sizes[1] - 1) :]]]
    knows = {
        agent: {n: {"hobby": "rowing" if n == mutual else f"{agent} {n}"} for n in names}
        for agent, names in zip((A, B), own, strict=True)
    }
    found = rng.choice([mutual, mutual, mutual, rest[0], rest[-1]])
    named = {a: rng.sample(names, rng.randint(0, 8)) for a in (A, B)}
    goals = {}
    for agent, list_ in zip((A, B), own, strict=True):
        left = [n for n in list_ if n != mutual and n not in named[agent]]
        goals[agent] = 10 * len(left) / (len(list_) - 1) if found == mutual else 0.0
    terms = {"friend": found, "named": named}
    outcome = Outcome(family="mutual_friend", status="agreement", terms=terms, turn=3)
    return MutualFriendSpec(knows=knows), outcome, goals


def test_scores_match_an_independent_count():
    rng = random.Random(5)
    for _ in range(1000):
        spec, outcome, goals = outcomes(rng)
        scoring = FAMILY.score(task_with(spec), outcome)
        for agent, goal in goals.items():
            assert scoring.scores[agent].goal == pytest.approx(goal)
            assert scoring.scores[agent].normalised == pytest.approx(goal / 10)
        assert scoring.surplus == pytest.approx(sum(goals.values()))


def test_ceiling_and_pareto_optimality_match_brute_force():
    own = {agent: [n for n in KNOWS[agent] if n != VITA] for agent in (A, B)}
    worth = {}
    for vain in product(*(subsets(own[agent]) for agent in (A, B))):
        terms = {"friend": VITA, "named": dict(zip((A, B), vain, strict=True))}
        outcome = Outcome(family="mutual_friend", status="agreement", terms=terms, turn=1)
        scoring = FAMILY.score(TASK, outcome)
        worth[vain] = [s.goal for s in scoring.scores.values()], scoring.pareto_optimal
    best = [max(goals[i] for goals, _ in worth.values()) for i in range(2)]
    assert best == [10.0, 10.0]
    for goals, optimal in worth.values():
        dominated = any(
            all(x >= y for x, y in zip(other, goals, strict=True)) and other != goals
            for other, _ in worth.values()
        )
        assert optimal is not dominated


def subsets(names):
    return [c for size in range(len(names) + 1) for c in combinations(names, size)]


def test_the_wrong_friend_is_worth_no_more_than_no_agreement():
    nothing = FAMILY.score(TASK, FAMILY.read(TASK, []))
    wrong = FAMILY.read(TASK, said("A: I know Thea.", "B: I know Thea too."))
    assert wrong.agreed
    assert FAMILY.score(TASK, wrong) == nothing
    assert {score.goal for score in nothing.scores.values()} == {0.0}


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(family="mutual_friend", status="unread"),
        Outcome(family="price", status="no-agreement"),
    ],
)
def test_what_was_not_read_by_this_family_is_refused_and_not_scored(outcome):
    with pytest.raises(ValueError, match="outcome"):
        FAMILY.score(TASK, outcome)


@pytest.mark.parametrize(
    "knows",
    [
        {A: KNOWS[A]},
        KNOWS | {"agent_2": KNOWS[A]},
        {A: KNOWS[A], B: KNOWS[A]},
        {A: KNOWS[A], B: {n: v for n, v in KNOWS[B].items() if n != VITA}},
        {A: {VITA: KNOWS[A][VITA]}, B: KNOWS[B]},
        {A: KNOWS[A] | {"Vita Quist": {"hobby": "rowing"}}, B: KNOWS[B]},
    ],
)
def test_ground_truth_has_two_lists_with_one_friend_in_common(knows):
    with pytest.raises(ValidationError):
        MutualFriendSpec(knows=knows)


# --- generation ---


@lru_cache
def tasks(split):
    return [FAMILY.generate(seed, split) for seed in range(200)]


@pytest.mark.parametrize("split", SPLITS)
def test_every_list_can_be_told_apart_by_attributes_and_is_read_back(split):
    shared = 0
    for task in tasks(split):
        spec = mutual_friend_spec(task)
        everybody = [who for f in spec.knows.values() for who in f.values()]
        assert sum(everybody.count(who) for who in everybody) == len(everybody) + 2
        for agent, friends in spec.knows.items():
            assert 6 <= len(friends) <= 10
            assert friends_in(task.goal(agent)) == friends
            assert friends_in(task.scenario.goals[task.agents.index(agent)]) == friends
            brief = read_background(background(task, agent, max_turns=20))
            assert friends_in(brief.goal) == friends
        one, other = ({name.split()[0] for name in friends} for friends in spec.knows.values())
        shared += len(one & other) > 1
    assert 60 <= shared <= 140


def test_names_and_attributes_are_separate_and_no_friend_has_the_name_of_a_character():
    cast = {p for split in SPLITS for c in load_cast(split) for p in c.name.split()}
    used = []
    for split in SPLITS:
        content = load_content("mutual_friend", split)
        names = {e["name"] for key in ("first_names", "surnames") for e in content[key]}
        values = {value for kind in content["attributes"] for value in kind["values"]}
        assert not names & cast
        assert not names & {word for value in values for word in value.split()}
        used.append(names | values | {r["text"] for r in content["remarks"]})
    assert not used[0] & used[1]


def test_texts_that_list_no_friends_give_none():
    for family in (PriceFamily(), DivisionFamily()):
        for seed in range(50):
            task = family.generate(seed)
            for agent in task.agents:
                assert friends_in(task.goal(agent)) == {}
    for text in ("", "friends", "You know the following friends", "your friends are (a: b)"):
        assert friends_in(text) == {}


def test_the_other_layout_is_read_with_and_without_line_breaks():
    text = (
        "Find them.\n<extra_info> You know the following friends: \n Ada: School: Elm, North  "
        "Company: O'Hara & Co.  \n Bo: School: Oak  Company: Fir Inc.  \n</extra_info>"
    )
    expected = {
        "Ada": {"School": "Elm, North", "Company": "O'Hara & Co."},
        "Bo": {"School": "Oak", "Company": "Fir Inc."},
    }
    for variant in (text, text.replace("\n", " "), text.replace("friends:", "friends")):
        assert friends_in(variant) == expected


# --- playing ---


def play(task, players, seed):
    """The conversation of ``players`` (agent to a function of what was heard, and turn)."""
    dialogue = Dialogue(task.agents, rng=np.random.default_rng(seed))
    while not dialogue.ending:
        heard = [
            Utterance(e.turn, task.names[e.agent], e.action.action_type, e.action.argument)
            for e in dialogue.events
        ]
        (agent,) = dialogue.acting
        dialogue.step({agent: players[agent](heard, dialogue.turn)})
    return dialogue


def script(task, agent, temperament, seed):
    brief = read_background(background(task, agent, max_turns=20))
    return FAMILY.script(brief, temperament, random.Random(f"{seed} {agent}"))


def mean_goal(split, pairs, count):
    """Mean goal score of the first of each pair of temperaments, over tasks and pairs."""
    total = []
    for seed, task in enumerate(tasks(split)[:count]):
        for one, other in pairs:
            players = {
                A: script(task, A, one, seed).act,
                B: script(task, B, other, seed).act,
            }
            outcome = FAMILY.read(task, play(task, players, seed).events)
            total.append(FAMILY.score(task, outcome).scores[A].goal)
    return sum(total) / len(total)


@pytest.mark.parametrize("split", SPLITS)
def test_two_experts_find_their_friend(split):
    found = 0
    for seed, task in enumerate(tasks(split)[:100]):
        outcome = FAMILY.read(task, self_play(FAMILY, task, "expert", seed).events)
        found += outcome.terms.get("friend") == mutual_friend_spec(task).friend
    assert found >= 95


def test_an_expert_does_at_least_as_well_as_a_fair_player_against_the_mix():
    means = [
        mean_goal("train", [(who, other) for other in TEMPERAMENTS], 12)
        for who in ("expert", "fair")
    ]
    assert means[0] >= means[1]


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_a_player_leaves_once_the_friend_is_found_and_names_nobody_by_accident(temperament):
    for seed, task in enumerate(tasks("train")[:20]):
        spec, dialogue = mutual_friend_spec(task), self_play(FAMILY, task, temperament, seed)
        left = dialogue.ending == "left"
        outcome = FAMILY.read(task, dialogue.events)
        assert outcome.agreed or not left
        everybody = {name for friends in spec.knows.values() for name in friends}
        if left:
            assert outcome.terms["friend"] == spec.friend
            assert all(set(n) <= everybody for n in outcome.terms["named"].values())


def test_a_player_is_reproducible_and_varied():
    texts = [
        [e.action.argument for e in self_play(FAMILY, tasks("train")[3], "expert", seed).events]
        for seed in (1, 1, 2, 3)
    ]
    assert texts[0] == texts[1]
    assert len({text[0] for text in texts}) == 3


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
@pytest.mark.parametrize(
    "action",
    [
        Action("none"),
        Action("speak", "Deal."),
        Action("speak", "The weather is nice, isn't it?"),
        Action("speak", "No."),
        Action("action", "nods"),
    ],
)
def test_partners_who_say_nothing_of_use_get_no_agreement(temperament, action):
    for seed, task in enumerate(tasks("train")[:4]):
        players = {A: script(task, A, temperament, seed).act, B: lambda *_: action}
        assert not FAMILY.read(task, play(task, players, seed).events).agreed


def test_whoever_says_yes_to_everything_seldom_finds_the_friend():
    found = 0
    for seed, task in enumerate(tasks("train")[:30]):
        always = Action("speak", "Yes, I do!")
        players = {A: script(task, A, "expert", seed).act, B: lambda *_, always=always: always}
        outcome = FAMILY.read(task, play(task, players, seed).events)
        found += outcome.terms.get("friend") == mutual_friend_spec(task).friend
    assert found <= 10


@pytest.mark.parametrize("split", SPLITS)
def test_every_line_of_the_players_is_read_as_what_it_means(split):
    for task in tasks(split)[:15]:
        names = tuple(mutual_friend_spec(task).knows[A])
        values = {v for who in mutual_friend_spec(task).knows[A].values() for v in who.values()}
        book = names_for(names, ("Otto Stranger",), tuple(sorted(values)))
        seeker = script(task, A, "expert", 0)
        for name, line in product(names, seeker._CLAIM + seeker._AGAIN + seeker._CONFIRM):
            reading = read_statement(seeker._say((line,), name), book)
            assert reading.settled == reading.only == name
        for name, line in product(names, seeker._CHECK):
            reading = read_statement(seeker._say((line,), name), book)
            assert (reading.settled, reading.asked) == (None, {name})
        for name, line in product(names, seeker._OTHER):
            reading = read_statement(seeker._say((line,), name), book)
            assert (reading.settled, reading.retracts) == (None, True)
        for line in seeker._DENY:
            reading = read_statement(line.format(name="Otto Stranger"), book)
            assert (reading.settled, reading.denied) == (None, {"Otto Stranger"})
        told = [seeker._traits[names[0]], frozenset(list(seeker._traits[names[1]])[:1])]
        for traits, (kind, lines) in product(
            told,
            [
                ("asked", seeker._ASK_ON),
                ("known", seeker._HAVE + seeker._VOLUNTEER),
                ("unknown", seeker._LACK),
            ],
        ):
            for line in lines:
                text = seeker._tell((line,), traits)
                assert read_statement(text, book) == Reading(), text
                talk = seeker._listener.hear(text)
                assert getattr(talk, kind) == (traits,), text
                assert talk.known == (() if kind == "unknown" else (traits,)), text
                assert not talk.strange
        for line in seeker._LACK_STRANGE + seeker._COY:
            assert read_statement(line, book) == Reading()
        assert all(seeker._listener.hear(line).answer is False for line in seeker._LACK_STRANGE)


def test_long_and_hostile_texts_are_read_quickly():
    book = names_for(tuple(KNOWS[A]), tuple(KNOWS[B]), ("rowing",))
    brief = read_background(background(tasks("train")[0], A, max_turns=20))
    for piece in ("I know ", "i know i know vita's ", "yes, ", "my friend ", "no ", "not know , "):
        text = (piece * 4096)[:4096]
        start = time.process_time()
        read_statement(text, book)
        heard = [Utterance(1, brief.others[0], "speak", text)]
        FAMILY.script(brief, "expert", random.Random(0)).act(heard, 1)
        assert time.process_time() - start < 1.0, piece


def answer(task, line):
    """What an expert of agent_0 says to one line."""
    heard = [Utterance(1, task.names[B], "speak", line)]
    return script(task, A, "expert", 1).act(heard, 1).argument


def test_a_player_tells_people_with_the_same_first_name_apart():
    goals = tuple(f"Your friends are {listed(friends)}." for friends in KNOWS.values())
    task = task_with(MutualFriendSpec(knows=KNOWS), goals)
    assert "different people" in answer(task, "I know Marek, who is into fencing.")
    assert "Do you mean" in (reply := answer(task, "Do you know Marek?")) or "Is that" in reply
    assert "not know" in answer(task, "Do you know Marek Hale?")
    assert "not know" in answer(task, "Do you know Cosima?")
    confirmed = answer(task, "I know Vita, who is into rowing and works at Tern Bakery.")
    reply = Event(2, A, Action("speak", confirmed))
    assert FAMILY.read(task, [*said("B: I know Vita."), reply]).terms["friend"] == VITA


def test_a_player_answers_about_attributes_truthfully():
    goals = tuple(f"Your friends are {listed(friends)}." for friends in KNOWS.values())
    task = task_with(MutualFriendSpec(knows=KNOWS), goals)
    assert "rowing" in answer(task, "Do you know anyone at Lumen Optics?")
    nobody = ("nobody", "none")
    for line in (
        "Do you know anyone who works at Lumen Optics and is into fencing?",
        "Do you know anyone who works at Lumen Optics and is into falconry?",
        "Is there anyone among your friends who studied at or works at Acme?",
    ):
        assert any(word in answer(task, line) for word in nobody)


def listed(friends):
    return ", ".join(
        f"{name} ({'; '.join(f'{k}: {v}' for k, v in told.items())})"
        for name, told in friends.items()
    )


def test_the_official_scenarios_can_be_derived_and_played(data):
    path = data / "sotopia" / "environment_profiles.jsonl"
    profiles = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = count = 0
    for profile in profiles:
        goals = tuple(profile["agent_goals"])
        if profile["source"] != "mutual_friends":
            assert not all(friends_in(goal) for goal in goals)
            continue
        count += 1
        spec = MutualFriendSpec(
            knows={agent: friends_in(goal) for agent, goal in zip((A, B), goals, strict=True)}
        )
        assert f"common friends: {spec.friend}." in profile["scenario"]
        task = task_with(spec, goals)
        for agent in (A, B):
            brief = read_background(background(task, agent, max_turns=20))
            assert friends_in(brief.goal) == spec.knows[agent]
        outcome = FAMILY.read(task, self_play(FAMILY, task, "expert", count).events)
        found += outcome.terms.get("friend") == spec.friend
    assert count == 10
    assert found >= 9
