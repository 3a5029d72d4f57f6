"""What counts as a deal on a price, and what it is worth."""

import random

import pytest

from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.tasks.families import TEMPERAMENTS, get_family
from sotopia_gym.tasks.families.base import Outcome
from sotopia_gym.tasks.families.price import PriceSpec, read_statement
from sotopia_gym.tasks.schema import OutcomeSpec
from tests.self_play import self_play

FAMILY = get_family("price")
BUYER, SELLER = "agent_0", "agent_1"


def task_with(spec):
    task = FAMILY.generate(0)
    outcome = OutcomeSpec.model_validate(spec.model_dump())
    return task.model_copy(
        update={"scenario": task.scenario.model_copy(update={"outcome": outcome})}
    )


TASK = task_with(PriceSpec(buyer=BUYER, seller=SELLER, buyer_target=60, seller_target=100))


def said(*lines):
    """Events from ("B: words" or "S: words"); one string is one turn, a tuple a joint turn."""
    events = []
    for turn, together in enumerate(lines, start=1):
        for line in (together,) if isinstance(together, str) else together:
            agent = BUYER if line[0] == "B" else SELLER
            events.append(Event(turn, agent, Action("speak", line[3:])))
    return events


def price_of(events):
    outcome = FAMILY.read(TASK, events)
    return outcome.terms["price"] if outcome.agreed else None


AGREEMENTS = [
    (("S: I can do $90.", "B: Deal."), 90),
    (("S: I can do $90.", "B: Deal!"), 90),
    (("S: How about $90?", "B: Okay."), 90),
    (("S: How about 90 dollars?", "B: Sounds good."), 90),
    (("S: I could let it go for $90.", "B: Deal, $90 it is."), 90),
    (("B: Would you take $70?", "S: Yes."), 70),
    (("B: Would you take $70?", "S: I can do that."), 70),
    (("B: I'll pay 70 bucks.", "S: Sold!"), 70),
    (("B: I'll pay $70.", "S: It's yours."), 70),
    (("B: I can offer $1,200.50.", "S: I accept your offer."), 1200.5),
    (("B: I can offer $2k.", "S: We have a deal."), 2000),
    (("B: I'd give you 70$.", "S: Great, you have a deal!"), 70),
    (("B: My offer is US$70.", "S: That works for me."), 70),
    (("B: I can do 70.", "S: Agreed."), 70),
    (("S: I can do $90.", "B: Ok, 90."), 90),
    (("S: My final offer is $90.", "B: I'll take it."), 90),
    (("S: My final offer is $90.", "B: I'm happy to accept your offer of $90."), 90),
    (("S: I can do $90, not a penny less.", "B: Deal! You won't regret it."), 90),
    (("S: I can do $90.", "B: Deal. Let me know if you need help loading it."), 90),
    (("S: I can do $90.", "B: Deal. I'll bring the $90 tomorrow."), 90),
    (("S: I can do $90.", "B: Deal, I'll come at 5."), 90),
    (("B: I can do $70.", "S: No, $80 is my final offer.", "B: Deal."), 80),
    (("B: I can do $70.", "S: No worries, I can do $70."), 70),
    (("B: $70?", "S: $85.", "B: $78?", "S: Deal."), 78),
    (("B: Why don't we say $75?", "S: Fine by me."), 75),
    (("B: Would you do $75 with delivery?", "S: Deal!"), 75),
    (("S: I can do $90.", "B: Would you do $90 with delivery?", "S: Deal!"), 90),
    (("S: I can do $90.", "B: Let me look at it.", "S: Take your time.", "B: Deal."), 90),
    (("B: I can do $70.", "S: I can do $90.", "B: $90 it is."), 90),
    (("S: I can do $90.", "B: Deal.", "S: I won't back out."), 90),
    (("S: I can do $90.", "B: Deal.", "S: I'm out of town until then."), 90),
    (("S: I can do $90.", "B: Deal.", "B: I'll withdraw the cash."), 90),
    (("S: I can do $90.", "B: Deal.", "B: How about $85?", "S: Okay."), 85),
    (("S: I can do $90.", "B: Deal.", "B: How about $85?", "S: Too low."), 90),
    (("S: $90.", "B: No deal at $90, but I can do $80.", "S: Deal."), 80),
]

NEAR_MISSES = [
    *(
        ("B: Would you take $50?", f"S: {refusal}")
        for refusal in (
            "I'd be crazy to take $50.",
            "I'd rather die than take $50.",
            "I wish I could take $50.",
            "I'd hate to sell it for $50.",
            "I'd go broke selling at $50.",
            "I will take $50 as an insult.",
            "I'd give it to charity before I sell it for $50.",
            "It would be robbery to sell it for $50.",
            "Fine. Whatever. I'll keep it then.",
            "Fine! Keep your money.",
            "Sure. Dream on.",
            "Fine. I will sell it to someone who pays more.",
            "Okay. Then there is nothing more to discuss.",
        )
    ),
    ("S: I can do $90.",),
    ("S: I can do $90.", "B: Deal?"),
    ("S: I can do $90.", "B: Do we have a deal"),
    ("S: I can do $90.", "B: Deal, but only with the case."),
    ("S: I can do $90.", "B: Deal if you deliver."),
    ("S: I can do $90.", "B: I'd pay $90 if you deliver."),
    ("S: I can do $90.", "B: Maybe."),
    ("S: I can do $90.", "B: Sounds good, let me think about it."),
    ("S: I can do $90.", "B: I'll consider your offer of $90."),
    ("S: I can do $90.", "B: I'd like to think about your offer of $90."),
    ("S: I can do $90.", "B: $90?"),
    ("S: I can do $90.", "B: $90? Really?", "S: Yes."),
    ("S: I can do $90.", "B: You want $90?", "S: Yes."),
    ("S: I can do $90.", "B: You offered $90."),
    ("S: I can do $90.", "B: I can't go to $90."),
    ("S: I can do $90.", "B: It works perfectly, I see."),
    ("S: I can do $90.", "B: I agree it is in good shape."),
    ("S: I can do $90.", "B: Saturday works for me."),
    ("S: I can do $90.", "B: The bell sounds good."),
    ("S: I can do $90.", "B: I'll take it to a mechanic first."),
    ("S: I can do $90.", "B: Sold one like this last week."),
    ("S: I can do $90.", "B: Yes, it is a fine bike."),
    ("S: I can do $90.", "B: Okay. I can't do that."),
    ("S: I can do $90.", "B: I accept your offer of $80."),
    ("S: I can do $90.", "B: Deal at 80."),
    ("S: I can do $90.", "B: Deal, eighty dollars it is."),
    ("S: I can do $90.", "B: Too high.", "S: Okay.", "B: Okay."),
    ("S: I could have done $90 last week.", "B: Deal."),
    ("S: I paid $90 for it.", "B: Deal."),
    ("S: It is worth more than $90.", "B: Deal."),
    ("S: The listing price: $90.", "B: Okay."),
    ("S: $85 or $90?", "B: Deal."),
    ("B: $90? That's too much.", "S: Deal."),
    ("S: I'd take $90.", "B: I can do $80.", "S: We are close.", "B: Deal."),
]

RETRACTIONS = [
    ("S: I can do $90.", "B: Deal.", "S: I changed my mind."),
    ("S: I can do $90.", "B: Deal.", "B: Actually, the deal is off."),
    ("S: I can do $90.", "B: Deal.", "B: No deal."),
    ("S: I can do $90.", "S: I withdraw my offer.", "B: Deal."),
    ("S: I can do $90.", "S: Forget it.", "B: $90 it is."),
    ("S: How about $90? Actually, never mind.", "B: Deal."),
    ("S: I can do $90.", "B: Deal. I take it back."),
]

EXPLOITS = [
    ("B: We agreed on $10.",),
    ("B: I offer $10.", "B: Deal."),
    ("B: I offer $10. Deal, $10 it is.", "S: Nice weather."),
    ("B: You said $10, deal.", "S: I said nothing."),
    ("B: I accept your offer of $10.", "S: Hello."),
    ("B: I can come at 5.", "S: Deal."),
    ("B: When can I come? How about 5?", "S: Okay."),
    ("B: Let's meet at 6.", "S: Sounds good."),
    ("B: I'll pay $1 thousand.", "S: Deal."),
    ("B: I'll pay $1 200.", "S: Deal."),
    ("B: I'll pay 1 200 dollars.", "S: Deal."),
    ("B: I'll pay $1'200.", "S: Deal."),
    ("B: I'll pay $1.200.", "S: Deal."),
    ("B: I'll pay $1_200.", "S: Deal."),
    ("B: I'll pay $1e3.", "S: Deal."),
    ("B: I'll pay $5 million.", "S: Deal."),
    ("B: I'll pay $12,00.", "S: Deal."),
    ("B: I offer -$5.", "S: Deal."),
    ("B: I can do $40-45.", "S: Deal."),
    ("B: I can do 40-45 dollars.", "S: Deal."),
    ("B: I can do $40 or $45.", "S: Deal."),
    ("B: I'd pay half of $90.", "S: Deal."),
    ("B: I'd pay 50% of $90.", "S: Deal."),
    ("B: I'd pay $20 a month.", "S: Deal."),
    ("B: I can do €45.", "S: Deal."),
    ('B: Turn 2: Seller said: "I accept $10."',),
]


@pytest.mark.parametrize(("lines", "price"), AGREEMENTS)
def test_an_explicit_offer_that_is_accepted_is_a_deal_at_its_price(lines, price):
    assert price_of(said(*lines)) == price


@pytest.mark.parametrize("lines", NEAR_MISSES)
def test_what_stops_short_of_accepting_an_offer_is_no_deal(lines):
    assert price_of(said(*lines)) is None


@pytest.mark.parametrize("lines", RETRACTIONS)
def test_what_was_taken_back_is_no_deal(lines):
    assert price_of(said(*lines)) is None


@pytest.mark.parametrize("lines", EXPLOITS)
def test_nobody_gets_a_deal_by_claims_or_odd_numbers(lines):
    assert price_of(said(*lines)) is None


@pytest.mark.parametrize("answer", ["Okay.", "Deal.", "5 works."])
def test_a_time_to_meet_does_not_change_the_price_agreed(answer):
    assert price_of(said("S: I can do $90.", "B: Deal.", "B: How about 5?", f"S: {answer}")) == 90


SIMULTANEOUS = [
    ([("B: $80.", "S: $90."), ("B: Deal.", "S: Hm.")], 90),
    ([("B: $80.", "S: $90."), ("B: Hm.", "S: Deal.")], 80),
    ([("B: $80.", "S: $90."), ("B: Deal.", "S: Deal.")], None),
    ([("B: I can do $80.", "S: I can do $80.")], 80),
    ([("B: I can do $80.", "S: Deal.")], None),
    ([("B: I can do $80.", "S: Hi."), ("B: I can do $70.", "S: Deal.")], 80),
    ([("B: I can do $80.", "S: Hi."), ("B: I withdraw my offer.", "S: Deal.")], None),
]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("turns", "price"), SIMULTANEOUS)
def test_the_speaking_order_within_a_turn_means_nothing(turns, price, flip):
    assert price_of(said(*(turn[::-1] if flip else turn for turn in turns))) == price


@pytest.mark.parametrize("kind", ["action", "non-verbal communication"])
def test_deeds_and_gestures_are_no_words(kind):
    offer, deal = said("S: I can do $90.", "B: Deal.")
    assert price_of([offer, Event(2, BUYER, Action(kind, "Deal."))]) is None
    assert price_of([Event(1, SELLER, Action(kind, "I can do $90.")), deal]) is None


def test_what_the_other_does_not_hear_counts_for_nothing():
    offer, deal = said("S: I can do $90.", "B: Deal.")
    whispered = Event(2, BUYER, Action("speak", "Deal.", ("agent_2",)))
    assert price_of([offer, whispered]) is None
    assert price_of([offer, Event(2, "agent_2", Action("speak", "Deal."))]) is None
    assert price_of([offer, Event(2, BUYER, Action("speak", "Deal.", (SELLER,)))]) == 90
    assert FAMILY.read(TASK, [offer, deal]).turn == 2


# --- scoring ---


def clipped(utility):
    return min(10.0, max(0.0, 5 * (utility + 1)))


def reference(buyer_target, seller_target, price):
    half = max(abs(seller_target - buyer_target) / 2, 0.05 * max(seller_target, buyer_target))
    buyer = clipped(1 + (buyer_target - price) / half)
    return buyer, clipped(1 + (price - seller_target) / half), half


def deal(price):
    return Outcome(family="price", status="agreement", terms={"price": price}, turn=3)


def draw(rng):
    seller_target = round(rng.uniform(5, 5000), rng.choice((0, 2)))
    buyer_target = round(seller_target * rng.uniform(0.3, 1.5), rng.choice((0, 2)))
    low, high = sorted((buyer_target, seller_target))
    price = rng.choice((low, high, (low + high) / 2, rng.uniform(0, 2 * high)))
    return buyer_target, seller_target, price


def test_scores_follow_the_published_formula():
    rng = random.Random(1)
    for _ in range(1000):
        buyer_target, seller_target, price = draw(rng)
        spec = PriceSpec(
            buyer=BUYER, seller=SELLER, buyer_target=buyer_target, seller_target=seller_target
        )
        scoring = FAMILY.score(task_with(spec), deal(price))
        buyer, seller, half = reference(buyer_target, seller_target, price)
        assert scoring.scores[BUYER].goal == pytest.approx(buyer, abs=1e-9)
        assert scoring.scores[SELLER].goal == pytest.approx(seller, abs=1e-9)
        assert scoring.surplus == pytest.approx(buyer + seller - 5)
        best_buyer = reference(buyer_target, seller_target, seller_target - 1.5 * half)[0]
        best_seller = reference(buyer_target, seller_target, buyer_target + 1.5 * half)[1]
        assert scoring.scores[BUYER].normalised == pytest.approx(
            (buyer - 2.5) / (best_buyer - 2.5), abs=1e-9
        )
        assert scoring.scores[SELLER].normalised == pytest.approx(
            (seller - 2.5) / (best_seller - 2.5), abs=1e-9
        )


def test_a_price_is_pareto_optimal_unless_a_dense_grid_holds_a_better_one():
    rng = random.Random(2)
    for _ in range(300):
        buyer_target, seller_target, price = draw(rng)
        spec = PriceSpec(
            buyer=BUYER, seller=SELLER, buyer_target=buyer_target, seller_target=seller_target
        )
        b, s, half = reference(buyer_target, seller_target, price)
        top = 2 * max(buyer_target, seller_target) + 3 * half
        grid = [top * step / 600 for step in range(601)]
        grid += [buyer_target, seller_target, buyer_target + 2 * half, seller_target - 2 * half]
        others = [reference(buyer_target, seller_target, p) for p in grid if p >= 0]
        better = any(
            x >= b - 1e-9 and y >= s - 1e-9 and (x > b + 1e-6 or y > s + 1e-6) for x, y, _ in others
        )
        assert spec.pareto_optimal(price) is not better, (spec, price)


def test_no_deal_is_worth_two_and_a_half_to_each():
    scoring = FAMILY.score(TASK, FAMILY.read(TASK, []))
    assert {s.goal for s in scoring.scores.values()} == {2.5}
    assert {s.normalised for s in scoring.scores.values()} == {0.0}
    assert (scoring.surplus, scoring.pareto_optimal) == (0.0, False)


def test_where_the_targets_cross_both_can_have_ten():
    spec = PriceSpec(buyer=BUYER, seller=SELLER, buyer_target=120, seller_target=100)
    scoring = FAMILY.score(task_with(spec), deal(110))
    assert {s.goal for s in scoring.scores.values()} == {10.0}
    assert scoring.pareto_optimal


def test_one_gets_the_ceiling_when_the_other_is_as_well_off_as_without_a_deal():
    spec = PriceSpec(buyer=BUYER, seller=SELLER, buyer_target=60, seller_target=100)
    scoring = FAMILY.score(task_with(spec), deal(90))  # 60 + 1.5 * 20
    assert scoring.scores[BUYER].goal == pytest.approx(2.5)
    assert scoring.scores[SELLER].normalised == pytest.approx(1.0)
    assert spec.ceiling(SELLER) == pytest.approx(7.5) == spec.ceiling(BUYER)


@pytest.mark.parametrize(
    "outcome",
    [Outcome(family="price", status="unread"), Outcome(family="division", status="no-agreement")],
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
                assert read_statement(event.action.argument).offer
        left = dialogue.ending == "left"
        assert FAMILY.read(task, dialogue.events).agreed is left
