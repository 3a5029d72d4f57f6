"""What counts as an agreed split, and what it is worth."""

import itertools
import random

import pytest

from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.tasks.families import TEMPERAMENTS, get_family
from sotopia_gym.tasks.families.base import Outcome
from sotopia_gym.tasks.families.division import DivisionSpec, Item, division_spec, read_statement
from sotopia_gym.tasks.schema import OutcomeSpec
from tests.self_play import self_play

FAMILY = get_family("division")
A, B = "agent_0", "agent_1"
ITEMS = (
    Item(singular="book", plural="books", count=3),
    Item(singular="hat", plural="hats", count=2),
    Item(singular="ball", plural="balls", count=1),
)


def task_with(spec):
    task = FAMILY.generate(0)
    outcome = OutcomeSpec.model_validate(spec.model_dump())
    return task.model_copy(
        update={"scenario": task.scenario.model_copy(update={"outcome": outcome})}
    )


TASK = task_with(DivisionSpec(items=ITEMS, values={A: (1, 2, 3), B: (2, 1, 2)}))


def said(*lines):
    """Events from ("A: words" or "B: words"); one string is one turn, a tuple a joint turn."""
    events = []
    for turn, together in enumerate(lines, start=1):
        for line in (together,) if isinstance(together, str) else together:
            agent = A if line[0] == "A" else B
            events.append(Event(turn, agent, Action("speak", line[3:])))
    return events


def share_of_a(events):
    outcome = FAMILY.read(TASK, events)
    if not outcome.agreed:
        return None
    shares = outcome.terms["shares"]
    assert [x + y for x, y in zip(shares[A], shares[B], strict=True)] == [3, 2, 1]
    return tuple(shares[A])


OFFERS = [
    ("I take 2 books and the ball and you take 1 book and 2 hats.", (2, 0, 1)),
    ("I take two books and the ball, you get one book and both hats.", (2, 0, 1)),
    ("How about this: I take 2 books and you take 1 book, 2 hats and 1 ball?", (2, 0, 0)),
    ("You can have all the books if I get both hats and the ball.", (0, 2, 1)),
    ("I'll give you the ball and 1 book and keep the rest.", (2, 2, 0)),
    ("I'll let you have the ball and keep the rest.", (3, 2, 0)),
    ("I suggest 2 books and the ball for you, and the rest for me.", (1, 2, 0)),
    ("The books go to you, the rest goes to me.", (0, 2, 1)),
    ("The books are yours, the rest is mine.", (0, 2, 1)),
    ("Me: the books. You: the hats and the ball.", (3, 0, 0)),
    ("- Me: 3 books\n- You: 2 hats and 1 ball", (3, 0, 0)),
    ("I take 2 of the 3 books and you get everything else.", (2, 0, 0)),
    ("I take the books and the ball, leaving you with the hats.", (3, 0, 1)),
    ("I don't want the books. You get the books, I take the hats and the ball.", (0, 2, 1)),
    ("I take 3 books, 2 hats and 1 ball and you take nothing.", (3, 2, 1)),
    ("You get everything.", (0, 0, 0)),
    ("Let me suggest something: you get the books, I get the hats and the ball.", (0, 2, 1)),
    ("I'd like to propose 2 books and the ball for you, and the rest for me.", (1, 2, 0)),
    ("I have an idea: 2 books and the ball for you, and the rest for me.", (1, 2, 0)),
    ("I offer 2 books and the ball to you and keep the rest.", (1, 2, 0)),
    ("You give me the books and take the rest.", (3, 0, 0)),
    ("I’d like the ball. You can have the rest.", (0, 0, 1)),
    ("That doesn't work for me. How about I take the ball and you get the rest?", (0, 0, 1)),
]

NO_OFFERS = [
    "I see there are 3 books, 2 hats and a ball.",
    "I like the books and you like the hats and the ball.",
    "You pick first and I take the rest.",
    "I'll take the rest.",
    "I take everything except the ball.",
    "I take everything but the ball.",
    "You get the ball, I get everything.",
    "I want everything to be fair.",
    "I take 2 or 3 books and you get the rest.",
    "I take 2-3 books and you get the rest.",
    "I take at least 2 books and you get the rest.",
    "I take 2 more books and you get the rest.",
    "I take some books and you get the rest.",
    "I take half of the books and you get the rest.",
    "I take one book each and you get the rest.",
    "I take the hat and you get the rest.",
    "I take 1 book, the hats and the ball, and you take the remaining books.",
    "I take 2.5 books and you get the rest.",
    "I take -1 books and you get the rest.",
    "I take 4 books, you get the hats and the ball.",
    "I take 3 books and the ball, you get 3 books and both hats.",
    "I take the books, you get the hats.",
    "I take 2 books and I take 1 book, you get the hats and the ball.",
    "I have this plan, 2 books and the ball for you, and the rest for me.",
    "I take everything except this: the ball.",
    "You said I take the books and you get the hats and the ball.",
    "I would have taken the books and you could have had the rest.",
    "I can't take the books and give you the rest.",
    "You get the ball and I get the rest? That is unfair.",
]


@pytest.mark.parametrize(("offer", "share"), OFFERS)
def test_a_complete_offer_that_is_accepted_is_an_agreement(offer, share):
    assert share_of_a(said(f"A: {offer}", "B: Deal.")) == share
    other = tuple(n - s for n, s in zip((3, 2, 1), share, strict=True))
    assert share_of_a(said(f"B: {offer}", "A: Deal.")) == other


@pytest.mark.parametrize("text", NO_OFFERS)
def test_what_does_not_say_who_gets_every_item_cannot_be_agreed_on(text):
    assert share_of_a(said(f"A: {text}", "B: Deal.")) is None


OFFER = "A: I take 2 books and the ball and you take 1 book and 2 hats."
FINE = (2, 0, 1)
TRANSCRIPTS = [
    ((OFFER, "B: Agreed. Then I take 1 book and 2 hats and you take 2 books and 1 ball."), FINE),
    ((OFFER, "B: So I get 1 book and 2 hats and you get the rest?"), None),
    ((OFFER, "B: You want me to take 1 book and 2 hats while you take the rest."), None),
    ((OFFER, "B: Deal, I take 2 books and 2 hats, you get the rest."), None),
    ((OFFER, "B: Deal, I take the books."), None),
    ((OFFER, "B: That works for me."), FINE),
    ((OFFER, "B: Deal, but give me the ball."), None),
    ((OFFER, "B: That doesn't work for me.", "A: Okay.", "B: Okay."), None),
    ((OFFER, "B: I take the ball and you get the rest.", "A: Deal."), (3, 2, 0)),
    ((OFFER, "A: Deal."), None),
    ((OFFER, "B: Deal.", "A: I changed my mind."), None),
    ((OFFER, "A: I withdraw my offer.", "B: Deal."), None),
    ((OFFER, "B: Deal.", "A: I'll have everything.", "B: That is too much."), FINE),
    ((OFFER, "B: Deal.", "A: How about I take everything?", "B: Okay."), (3, 2, 1)),
    (("A: We agreed that I take everything.",), None),
    (("A: I take everything. Deal.", "B: What a day."), None),
    (((OFFER, "B: I take 1 book and 2 hats and you take the rest."),), FINE),
    (((OFFER, "B: Deal."),), None),
    (((OFFER, "B: I take everything."), ("A: Deal.", "B: Deal.")), None),
    (((OFFER, "B: I take everything."), ("A: No.", "B: Deal.")), FINE),
]


@pytest.mark.parametrize(("lines", "share"), TRANSCRIPTS)
def test_an_agreement_takes_an_acceptance_or_the_same_split_from_both(lines, share):
    assert share_of_a(said(*lines)) == share


@pytest.mark.parametrize("kind", ["action", "non-verbal communication"])
def test_deeds_and_gestures_are_no_words(kind):
    assert share_of_a([*said(OFFER), Event(2, B, Action(kind, "Deal."))]) is None


def test_what_the_other_does_not_hear_counts_for_nothing():
    whispered = Event(2, B, Action("speak", "Deal.", ("agent_2",)))
    assert share_of_a([*said(OFFER), whispered]) is None
    assert share_of_a([*said(OFFER), Event(2, B, Action("speak", "Deal.", (A,)))]) == FINE


# --- scoring ---


def worth(values, share):
    return sum(v * n for v, n in zip(values, share, strict=True))


def draw(rng):
    counts = [rng.randint(1, 4) for _ in range(rng.randint(1, 4))]
    values = {agent: tuple(rng.randint(0, 8) for _ in counts) for agent in (A, B)}
    values = {agent: v if max(v) else (1,) * len(v) for agent, v in values.items()}
    share = [rng.randint(0, n) for n in counts]
    return counts, values, {A: share, B: [n - s for n, s in zip(counts, share, strict=True)]}


def spec_of(counts, values):
    items = tuple(
        Item(singular=f"item{i}", plural=f"item{i}s", count=n) for i, n in enumerate(counts)
    )
    return DivisionSpec(items=items, values=values)


def agreed(shares):
    return Outcome(family="division", status="agreement", terms={"shares": shares}, turn=2)


def test_scores_and_pareto_optimality_match_brute_force():
    rng = random.Random(3)
    for _ in range(1000):
        counts, values, shares = draw(rng)
        scoring = FAMILY.score(task_with(spec_of(counts, values)), agreed(shares))
        had = {agent: worth(values[agent], shares[agent]) for agent in (A, B)}
        goals = {agent: 10 * had[agent] / worth(values[agent], counts) for agent in (A, B)}
        for agent, goal in goals.items():
            assert scoring.scores[agent].goal == pytest.approx(goal)
            assert scoring.scores[agent].normalised == pytest.approx(goal / 10)
        assert scoring.surplus == pytest.approx(sum(goals.values()))
        dominated = False
        for mine in itertools.product(*(range(n + 1) for n in counts)):
            yours = [n - m for n, m in zip(counts, mine, strict=True)]
            gain = worth(values[A], mine) - had[A], worth(values[B], yours) - had[B]
            dominated = dominated or (min(gain) >= 0 and max(gain) > 0)
        assert scoring.pareto_optimal is not dominated


def test_everything_is_worth_ten_and_nothing_zero():
    scoring = FAMILY.score(TASK, agreed({A: [3, 2, 1], B: [0, 0, 0]}))
    assert (scoring.scores[A].goal, scoring.scores[B].goal) == (10.0, 0.0)
    assert scoring.scores[A].normalised == 1.0


@pytest.mark.parametrize(
    "shares",
    [
        {A: [3, 2, 1], B: [3, 2, 1]},
        {A: [1, 1, 0], B: [1, 1, 0]},
        {A: [4, 2, 1], B: [-1, 0, 0]},
        {A: [3, 2, 1]},
        {A: [3, 2, 1], "agent_2": [0, 0, 0]},
    ],
)
def test_an_impossible_split_is_worth_no_more_than_no_agreement(shares):
    scoring = FAMILY.score(TASK, agreed(shares))
    assert scoring == FAMILY.score(TASK, FAMILY.read(TASK, []))
    assert {s.goal for s in scoring.scores.values()} == {0.0}


@pytest.mark.parametrize("shares", [{A: [3, 2], B: [0, 0]}, {A: [3, 2, 1, 0], B: [0, 0, 0]}])
def test_a_split_of_other_items_is_worth_no_more_than_no_agreement(shares):
    assert FAMILY.score(TASK, agreed(shares)).surplus == 0.0


@pytest.mark.parametrize(
    "outcome",
    [Outcome(family="division", status="unread"), Outcome(family="price", status="no-agreement")],
)
def test_what_was_not_read_by_this_family_is_refused_and_not_scored(outcome):
    with pytest.raises(ValueError, match="outcome"):
        FAMILY.score(TASK, outcome)


# --- playing ---


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_every_line_of_the_scripted_players_is_read_as_the_offer_it_makes(temperament):
    for seed in range(20):
        task = FAMILY.generate(seed)
        dialogue = self_play(FAMILY, task, temperament, seed)
        for event in dialogue.events:
            if event.action.action_type == "speak":
                assert read_statement(event.action.argument, division_spec(task).items).offer
        left = dialogue.ending == "left"
        assert FAMILY.read(task, dialogue.events).agreed is left
