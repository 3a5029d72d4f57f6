"""When two people have agreed, whatever they bargain over."""

import pytest

from sotopia_gym.tasks.families.negotiation import Reading, Statement, follow, read_stance


def standing(*turns):
    return follow(
        Statement(speaker, turn, reading)
        for turn, said in enumerate(turns, start=1)
        for speaker, reading in said.items()
    )


OFFER, OTHER = Reading(offer=1), Reading(offer=2)
YES, NO, OUT = Reading(accepts=True), Reading(rejects=True), Reading(retracts=True)
ASK, ECHO = Reading(offer=1, asks=True), Reading(offer=1, asks=True, bare=True)
NUMBER = Reading(offer=2, bare=True)

CASES = [
    ([{"a": OFFER}, {"b": YES}], 1),
    ([{"a": OFFER}, {"b": OFFER}], 1),
    ([{"a": OFFER, "b": OFFER}], 1),
    ([{"a": ASK}, {"b": OFFER}], 1),
    ([{"a": OFFER}, {"b": ASK}], None),
    ([{"a": OFFER}, {"b": ASK}, {"a": YES}], 1),
    ([{"a": OFFER}, {"b": ECHO}, {"a": YES}], None),
    ([{"a": OFFER}, {"b": ECHO}, {"a": YES}, {"b": YES}], 1),
    ([{"a": OFFER}, {"a": YES}], None),
    ([{"b": YES}, {"a": OFFER}], None),
    ([{"a": OFFER, "b": YES}], None),
    ([{"a": ASK, "b": OFFER}], 1),
    ([{"a": ASK, "b": ASK}], None),
    ([{"b": OTHER}, {"a": ASK, "b": OFFER}], 1),
    ([{"b": OFFER}, {"a": OFFER, "b": OTHER}], 1),
    ([{"b": OFFER}, {"a": OFFER, "b": OTHER}, {"a": YES}], 2),
    ([{"a": OFFER}, {"b": NO}, {"b": YES}], None),
    ([{"a": OFFER}, {"b": NO}, {"b": OFFER}], 1),
    ([{"a": OFFER}, {"b": OTHER}, {"b": YES}], None),
    ([{"a": OFFER}, {"a": OTHER}, {"b": YES}], 2),
    ([{"a": OFFER}, {"a": OTHER}, {"b": OFFER}], None),
    ([{"a": OFFER}, {"a": OUT}, {"b": YES}], None),
    ([{"a": OFFER}, {"a": OUT}, {"b": OFFER}], None),
    ([{"a": OFFER}, {"b": YES}, {"b": OUT}], None),
    ([{"a": OFFER}, {"b": YES}, {"a": OUT}, {"a": OFFER}, {"b": YES}], 1),
    ([{"a": OFFER}, {"a": OUT, "b": YES}], None),
    ([{"a": OFFER}, {"b": YES}, {"a": OTHER}], 1),
    ([{"a": OFFER}, {"b": YES}, {"a": OTHER}, {"b": YES}], 2),
    ([{"a": OFFER}, {"b": YES}, {"a": NUMBER}, {"b": YES}], 1),
    ([{"a": OFFER, "b": OTHER}, {"a": YES}], 2),
    ([{"a": OFFER, "b": OTHER}, {"b": YES}], 1),
    ([{"a": OFFER, "b": OTHER}, {"a": YES, "b": YES}], None),
    ([{"a": OFFER, "b": OTHER}, {"a": YES}, {"b": YES}], 2),
]


@pytest.mark.parametrize(("turns", "terms"), CASES)
def test_offers_and_answers_amount_to_the_expected_agreement(turns, terms):
    agreement = standing(*turns).agreement
    assert (agreement and agreement.terms) == terms
    flipped = standing(*(dict(reversed(turn.items())) for turn in turns)).agreement
    assert flipped == agreement


def test_the_agreement_is_dated_by_the_turn_it_came_about_in():
    assert standing({"a": OFFER}, {"b": YES}, {"a": OFFER}).agreement.turn == 2


def test_both_offers_of_one_turn_lie_on_the_table():
    assert standing({"a": OFFER, "b": OTHER}).on_the_table == {"a", "b"}
    assert standing({"a": OFFER}, {"b": OTHER}).on_the_table == {"b"}
    assert standing({"a": OFFER}, {"b": NO}).on_the_table == set()


@pytest.mark.parametrize(
    "text",
    [
        "Deal.",
        "Okay, deal!",
        "It's a deal",
        "It’s a deal.",
        "Agreed.",
        "Yes.",
        "Sure!",
        "I accept.",
        "We have a deal.",
        "That works.",
        "I'll take it.",
        "You've got yourself a deal.",
        "I agree.",
        "Let's do it.",
        "Sounds good to me.",
        "I can live with that.",
        "No problem, deal.",
        "Sold!",
        "Nice talking to you, deal.",
        "Deal! When can I come?",
        "Deal. I can't wait!",
    ],
)
def test_plain_acceptances_are_heard(text):
    assert read_stance(text) == Reading(accepts=True)


@pytest.mark.parametrize(
    "text",
    [
        "Deal?",
        "Is it a deal?",
        "Not a deal.",
        "Deal, if you hurry.",
        "Maybe. Okay.",
        "A great deal",
        "Deal with it.",
        "Let's do it tomorrow, perhaps.",
        "Hello.",
        "That never works.",
        "I'll see.",
        "He sold it.",
        "Done with school.",
        "I agree with most of that.",
        "Okay, but why?",
    ],
)
def test_what_only_resembles_an_acceptance_is_none(text):
    assert not read_stance(text).accepts


@pytest.mark.parametrize(
    ("text", "retracts"),
    [
        ("I changed my mind.", True),
        ("The deal’s off.", True),
        ("I'm backing out.", True),
        ("I take it back.", True),
        ("No deal.", True),
        ("I'm out.", True),
        ("I won't back out.", False),
        ("I'm not going to change my mind.", False),
        ("Are you backing out?", False),
        ("I'm out of town.", False),
        ("I'll withdraw the cash.", False),
    ],
)
def test_only_taking_something_back_is_a_retraction(text, retracts):
    assert read_stance(text).retracts is retracts
