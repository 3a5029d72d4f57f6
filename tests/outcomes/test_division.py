"""Rules that read what real people agreed on in a division."""

import json
import re

import pytest

from sotopia_gym.outcomes.base import Said
from sotopia_gym.outcomes.division import read
from sotopia_gym.tasks.families.division import DivisionSpec, Item

BOOKS = (
    Item(singular="book", plural="books", count=2),
    Item(singular="hat", plural="hats", count=3),
    Item(singular="ball", plural="balls", count=1),
)
SUPPLIES = tuple(Item(singular=n, plural=n, count=3) for n in ("food", "water", "firewood"))
CAMP = (
    Item(singular="camp stove", plural="camp stoves", count=1),
    Item(singular="sleeping bag", plural="sleeping bags", count=2),
    Item(singular="lantern", plural="lanterns", count=4),
)
PANTRY = (
    Item(singular="jar of honey", plural="jars of honey", count=3),
    Item(singular="peach", plural="peaches", count=6),
    Item(singular="loaf", plural="loaves", count=2),
)
GARDEN = (
    Item(singular="rake", plural="rakes", count=2),
    Item(singular="watering can", plural="watering cans", count=1),
    Item(singular="rose bush", plural="rose bushes", count=4),
    Item(singular="bench", plural="benches", count=1),
)


def said_by(dialogue):
    lines = [line.strip().split(": ", 1) for line in dialogue.strip().splitlines()]
    return [Said(agent, text) for agent, text in lines]


def outcome(items, dialogue, parties=("A", "B")):
    said = said_by(dialogue) if isinstance(dialogue, str) else dialogue
    return read(said, parties=parties, items=items)


AGREEMENTS = {
    "both sides in numbers": (
        BOOKS,
        """A: I'd take one book and 2 hats, so you'd have 1 book, 1 hat and the ball
        B: deal""",
        (1, 2, 0),
    ),
    "the rest": (
        BOOKS,
        """A: how bout i grab the ball and u get the rest
        B: sure, sounds fair""",
        (0, 0, 1),
    ),
    "everything else": (
        BOOKS,
        """B: The hats are all I care about, you take everything else if I can have the hats
        A: works for me!""",
        (2, 0, 1),
    ),
    "everything but": (
        BOOKS,
        """A: I will take everything but the ball
        B: okay, fine by me, deal""",
        (2, 3, 0),
    ),
    "two kinds asked for, the third is left": (
        BOOKS,
        """B: can i please have the books and the ball
        A: yes""",
        (0, 3, 0),
    ),
    "two kinds handed over": (
        BOOKS,
        """A: you can have both books and 1 ball
        B: perfect, thanks""",
        (0, 3, 0),
    ),
    "a counter-offer is accepted": (
        BOOKS,
        """A: I want the books and you get the hats and the ball
        B: I need one of the books. You keep the other book and one hat, I take the rest
        A: alright, agreed""",
        (1, 1, 0),
    ),
    "said again instead of accepted": (
        BOOKS,
        """A: i get 2 hats and the ball, you get the books and one hat
        B: ok so 2 books and 1 hat for me and 2 hats and the ball for you""",
        (0, 2, 1),
    ),
    "accepted and filled in": (
        BOOKS,
        """B: I'd like the books and the ball
        A: fine, then I take the 3 hats
        B: great""",
        (0, 3, 0),
    ),
    "trade": (
        BOOKS,
        """A: I'll give you both books and the ball for all three hats
        B: you got a deal""",
        (0, 3, 0),
    ),
    "one of each and the rest": (
        BOOKS,
        """A: Could I have one of each? You take the rest.
        B: that would be fine""",
        (1, 1, 1),
    ),
    "sides swapped within the sentence": (
        BOOKS,
        """A: you the ball and a book, me a book and all the hats?
        B: yep""",
        (1, 3, 0),
    ),
    "said of the things": (
        BOOKS,
        """B: books to you, hats and the ball to me
        A: Very well.""",
        (2, 0, 0),
    ),
    "mine and yours": (
        BOOKS,
        """A: the ball is mine, the books and the hats are yours
        B: okay""",
        (0, 0, 1),
    ),
    "compounds": (
        BOOKS,
        """A: you get the basketball and the notebooks if I keep the hats
        B: done""",
        (0, 3, 0),
    ),
    "confirmed after chat": (
        BOOKS,
        """A: hey there
        B: hi! which do you like
        A: just the hats, you can have the ball and the books
        B: good deal
        A: thanks, bye
        B: take care""",
        (0, 3, 0),
    ),
    "an alternative, then one of them in full": (
        CAMP,
        """A: you take the stove, I get the bags and the lanterns. Or we could swap those.
        B: Or you take the stove and I get the bags and all the lanterns?
        A: Good. I take the stove, you get both bags and the 4 lanterns.
        B: Deal.""",
        (1, 0, 0),
    ),
    "only for me": (
        SUPPLIES,
        """A: So 2 food, 3 water for you and 1 food, 3 firewood only for me?
        B: That's right.""",
        (1, 0, 3),
    ),
    "a reason at the end": (
        BOOKS,
        """A: You get the books and the ball since you need them, and I take all of the hats.
        B: Lovely, thanks!""",
        (0, 3, 0),
    ),
    "repeated in full after what does not work": (
        BOOKS,
        """A: I take the books, you take the hats and the ball.
        B: Right, I can't give up the ball, so you get 2 books and I get 3 hats and the ball.
        A: Yes.""",
        (2, 0, 0),
    ),
    "a refusal, then a deal": (
        BOOKS,
        """A: all of the hats and the ball for me, you get the books
        B: no, that doesn't work for me. you can have the hats, i keep the ball and the books
        A: ok, i can live with that""",
        (0, 3, 0),
    ),
    "no deal taken back": (
        BOOKS,
        """A: i keep the ball and the hats and you keep the books
        B: no deal
        A: then you take the ball and the books and i take the hats
        B: deal""",
        (0, 3, 0),
    ),
    "both get the same": (
        (BOOKS[0], Item(singular="hat", plural="hats", count=4)),
        """A: let's say we each get 1 book and 2 hats
        B: agreed""",
        (1, 2),
    ),
    "split evenly": (
        (BOOKS[0], Item(singular="hat", plural="hats", count=4)),
        """A: shall we split the books evenly, and I take 3 hats and you take 1 hat?
        B: sure thing""",
        (1, 3),
    ),
    "packages of supplies": (
        SUPPLIES,
        """A: I was hoping for 2 packages of food and 1 water. You could have all the firewood.
        B: That leaves me 1 food, 2 waters and 3 firewood, right? I'd take that.
        A: Right. Have a great trip!""",
        (2, 1, 0),
    ),
    "list of all kinds": (
        SUPPLIES,
        """B: I'd like 3 food, 1 bottle of water and 2 bundles of wood please.
        A: That sounds good to me.
        B: Thank you so much!""",
        (0, 2, 1),
    ),
    "one kind after the other": (
        SUPPLIES,
        """A: Could I have all the firewood, and you get all the food?
        B: Yes, that's fine.
        A: And I get 2 waters and you get 1?
        B: So that's 3 firewood and 2 water for you, 3 food and 1 water for me. Deal!""",
        (0, 2, 3),
    ),
    "last kind by itself": (
        SUPPLIES,
        """A: I need 3 waters, and you can have 3 food.
        B: Okay, deal.
        A: Can I also take 1 firewood?
        B: Sure, no problem.""",
        (0, 3, 1),
    ),
    "numbers without the item": (
        SUPPLIES,
        """A: You take all the water and all the food. Of the firewood I take 3.
        B: I need firewood too. How about you get 2 and I get 1, I take 3 food and 3 water?
        A: Ok, I agree.""",
        (0, 0, 2),
    ),
    "offer with reasons": (
        SUPPLIES,
        """B: Since it is going to be hot I'd take 3 waters. You get 2 food and 3 firewood and I get
        B: hit enter too early: I get 3 water and 1 food, you get 2 food and 3 firewood
        A: Sounds like a plan to me""",
        (2, 0, 3),
    ),
    "misspelt": (
        SUPPLIES,
        """A: ill take 2 firewod and 2 food, youll get 3 water 1 food and 1 fire wood
        B: yes that works""",
        (2, 0, 2),
    ),
    "number after the item": (
        SUPPLIES,
        """A: for me food: 2, water: 1, firewood: 0 and for you food: 1, water: 2, firewood: 3
        B: Agreed.""",
        (2, 1, 0),
    ),
    "families speak as we": (
        SUPPLIES,
        """A: We'll take 3 food and no water, my family can do with 1 firewood
        B: then your family gets 3 food and 1 firewood, we get 3 water and 2 firewood?
        A: exactly""",
        (3, 0, 1),
    ),
    "camp stove": (
        CAMP,
        """A: Leave me the camp stove and I'll leave you both sleeping bags and all the lanterns.
        B: It's a deal.""",
        (1, 0, 0),
    ),
    "last word of a name": (
        CAMP,
        """B: you can keep the stove and 2 lanterns if I get both bags and the other 2 lanterns
        A: fair enough""",
        (1, 0, 2),
    ),
    "all but one": (
        CAMP,
        """A: I take all but 1 of the lanterns and the stove, you take one lantern and the bags
        B: that's fine with me, deal""",
        (1, 0, 3),
    ),
    "out of": (
        CAMP,
        """A: give me 3 of the 4 lanterns and one sleeping bag and everything else is yours
        B: I accept""",
        (0, 1, 3),
    ),
    "name with of": (
        PANTRY,
        """A: I'd love 2 jars of honey and both loaves, and you get the peaches and 1 jar of honey
        B: lovely, let's do that""",
        (2, 0, 2),
    ),
    "half of them": (
        PANTRY,
        """B: I'll take half of the peaches, both loaves and 1 honey, the rest goes to you
        A: certainly!""",
        (2, 3, 0),
    ),
    "irregular plurals": (
        PANTRY,
        """A: you may have all 6 peaches and one loaf, I take one loaf and all the honey
        B: I'm happy with that""",
        (3, 0, 1),
    ),
    "four kinds": (
        GARDEN,
        """A: I would keep the bench and the rose bushes, you'd get the rakes and the watering can
        B: great, we have an agreement""",
        (0, 0, 4, 1),
    ),
    "four kinds, the rest": (
        GARDEN,
        """B: I get one rake, 2 rose bushes and the bench. Everything else is yours.
        A: Wonderful.""",
        (1, 1, 2, 0),
    ),
    "chat about everything else": (
        BOOKS,
        """A: hats for me, you get the books and the ball
        B: Deal! Has everything been cancelled at your place too?
        A: almost everything, and all of the team went home""",
        (0, 3, 0),
    ),
    "asked once more and answered": (
        BOOKS,
        """A: hats for me, books and ball for you
        B: okay
        A: deal?
        B: deal""",
        (0, 3, 0),
    ),
}

UNREAD = {
    "nothing is said": (BOOKS, "A: hi"),
    "no items are named": (
        BOOKS,
        """A: shall we do the usual?
        B: deal""",
    ),
    "nobody accepts": (BOOKS, "A: you take the ball and I take the rest"),
    "only questions": (
        BOOKS,
        """A: would you like the books?
        B: do you want the hats?
        A: yes""",
    ),
    "an open number": (
        BOOKS,
        """A: I need at least one book, and you can have some of the hats and the ball
        B: ok deal""",
    ),
    "alternatives": (
        BOOKS,
        """A: i take the ball or the books and you get the hats
        B: sounds good""",
    ),
    "more than there is": (
        BOOKS,
        """A: I take 4 books and you get 3 hats and the ball
        B: deal""",
    ),
    "does not add up": (
        BOOKS,
        """A: I take 1 book and 1 hat, you take 1 hat, 1 book and the ball
        B: deal""",
    ),
    "accepted with a reservation": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        B: only if you pay for lunch""",
    ),
    "turned down": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        B: no, that is not fair
        A: hmm""",
    ),
    "turned down after the deal": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        B: deal
        B: no wait, that does not work for me""",
    ),
    "asked once more and not answered": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        B: okay
        A: deal?""",
    ),
    "opened again": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        B: deal
        A: actually I want the ball too""",
    ),
    "what is left out may mean two things": (
        BOOKS,
        """A: I want the hats and one book
        B: I want the ball and one hat
        A: okay""",
    ),
    "a trade without who gives what": (
        SUPPLIES,
        """A: I can do 2 water for 2 food, and I'd let you have 3 firewood
        B: Great, thank you""",
    ),
    "two numbers in a row": (
        SUPPLIES,
        """A: 2 3 water, 1 food and no firewood for me
        B: Perfect, agreed
        A: Great, thanks""",
    ),
    "an alternative to what was accepted": (
        BOOKS,
        """A: I get the hats, you get the books and the ball
        B: Fine with me. Or we turn it around and I get all 3 hats.
        A: Sounds good""",
    ),
    "a list that goes on after a reason": (
        SUPPLIES,
        """A: I'd give you 1 food since it is what I need, 2 water and 2 firewood
        B: Very kind, deal""",
    ),
    "only a part of an offer is taken up": (
        BOOKS,
        """A: I get the ball and a hat, you get everything else
        B: how about just the ball?
        A: okay, deal""",
    ),
    "a part is named after something is denied": (
        BOOKS,
        """A: I'd like 1 hat and both books and the ball
        B: I can't give up any hats. You can have the books and the ball though
        A: deal""",
    ),
    "a part is named and more is asked for": (
        SUPPLIES,
        """A: I take 3 water and 1 food, you get 3 firewood and 2 food
        B: If you get all the water I would ask to get more items overall
        A: I guess that's fair""",
    ),
    "asked what there is in return": (
        BOOKS,
        """A: I would like both books and one hat
        B: ok, what will you give me?
        A: you can have the rest""",
    ),
    "a number of something unknown": (
        BOOKS,
        """A: I take 1 book and 1 hat, you get 1 book, 2 hats and the ball
        B: Okay, but I can't see them any more. I need two of what is on top
        A: ok then you get two of those""",
    ),
    "worse than before": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        B: That's worse. You can have the books
        A: ok""",
    ),
    "no deal yet": (
        BOOKS,
        """A: I must have the ball
        B: Me too, so we have no deal yet
        A: Well, let's keep talking""",
    ),
    "one kind of three": (
        SUPPLIES,
        """A: Can I have 2 water?
        B: Sure, no problem.
        A: Thank you!""",
    ),
    "something unknown in the list": (
        SUPPLIES,
        """A: I take 3 food, 1 water and 2 tents
        B: deal""",
    ),
    "preferences only": (
        SUPPLIES,
        """A: I need food the most, then water.
        B: I need firewood.
        A: Great, sounds like we can agree.
        B: Perfect, deal""",
    ),
    "the acceptance is of one's own offer": (
        BOOKS,
        """A: I take the books, you take the hats and the ball
        A: deal""",
    ),
}

NO_AGREEMENTS = {
    "both say so": (
        BOOKS,
        """A: I must have the ball
        B: so must I
        A: no deal then
        B: no deal""",
    ),
    "nods": (
        BOOKS,
        """A: we can't make a deal like this, sorry
        B: ok""",
    ),
    "after offers": (
        CAMP,
        """A: the stove and all lanterns for me, you get the bags
        B: I need the stove.
        A: Me too. We will not reach an agreement.
        B: agreed""",
    ),
    "after a deal": (
        BOOKS,
        """A: I take the ball, you get the rest
        B: deal
        A: no, I think there is no deal after all""",
    ),
}


@pytest.mark.parametrize("name", AGREEMENTS)
def test_reads_the_split_that_was_agreed(name):
    items, dialogue, first = AGREEMENTS[name]
    result = outcome(items, dialogue)
    second = [item.count - n for item, n in zip(items, first, strict=True)]
    assert result.status == "agreement"
    assert result.terms == {"shares": {"A": list(first), "B": second}}
    spec = DivisionSpec(items=items, values={p: (1.0,) * len(items) for p in "AB"})
    assert spec.possible(result.terms["shares"])


@pytest.mark.parametrize("name", UNREAD)
def test_leaves_unread_what_the_words_do_not_carry(name):
    result = outcome(*UNREAD[name])
    assert (result.family, result.status, result.terms) == ("division", "unread", {})


@pytest.mark.parametrize("name", NO_AGREEMENTS)
def test_reads_that_there_is_no_deal(name):
    assert outcome(*NO_AGREEMENTS[name]).status == "no-agreement"


ALL = {
    (kind, name): case[:2]
    for kind, cases in (("deal", AGREEMENTS), ("unread", UNREAD), ("none", NO_AGREEMENTS))
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", ALL.values(), ids=map(" ".join, ALL))
def test_swapping_the_parties_swaps_the_shares(case):
    items, dialogue = case
    before = outcome(items, dialogue)
    swapped = [Said("BA"["AB".index(s.agent)], s.text) for s in said_by(dialogue)]
    after = outcome(items, swapped)
    assert after.status == before.status
    if before.agreed:
        shares = before.terms["shares"]
        assert after.terms["shares"] == {"A": shares["B"], "B": shares["A"]}
    assert outcome(items, dialogue, parties=("B", "A")) == before


@pytest.mark.parametrize("case", ALL.values(), ids=map(" ".join, ALL))
def test_case_and_marks_at_the_end_do_not_matter(case):
    items, dialogue = case
    before = outcome(items, dialogue)
    for change in (str.upper, str.title, lambda text: re.sub(r"[.!\s]+$", "", text) + " !!"):
        said = [
            s if s.text.endswith("?") and change("a") == "a !!" else Said(s.agent, change(s.text))
            for s in said_by(dialogue)
        ]
        assert outcome(items, said) == before


def test_what_others_say_is_passed_over():
    said = said_by(
        """A: I take the ball, you get the rest
        B: deal
        C: I take the hats
        C: no deal"""
    )
    assert outcome(BOOKS, said).terms["shares"] == {"A": [0, 0, 1], "B": [2, 3, 0]}


def test_names_of_items_may_be_given_in_several_ways():
    named = {
        "mass nouns": ("{}", "{}"),
        "plurals": ("{}", "{}s"),
        "containers": ("package of {}", "packages of {}"),
    }
    dialogue = """A: I take 2 food and 1 water, you get 1 food, 2 packs of water and all the wood
    B: sounds good to me"""
    for singular, plural in named.values():
        items = [
            Item(singular=singular.format(n), plural=plural.format(n), count=3)
            for n in ("food", "water", "firewood")
        ]
        assert outcome(items, dialogue).terms["shares"] == {"A": [2, 1, 0], "B": [1, 2, 3]}


def measured(dialogues):
    """Coverage, and precision among what was read."""
    verdicts = []
    for items, said, truth in dialogues:
        result = read(said, parties=("one", "two"), items=items)
        if result.status != "unread":
            verdicts.append(result.terms.get("shares") == truth)
    return len(verdicts) / len(dialogues), sum(verdicts) / len(verdicts)


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def deal_or_no_deal(path):
    for record in records(path):
        items = [
            Item(singular=name, plural=f"{name}s", count=count)
            for name, count in zip(record["items"], record["counts"], strict=True)
        ]
        turns = [turn.split(":", 1) for turn in record["turns"]]
        said = [
            Said({"YOU": "one", "THEM": "two"}[who], text)
            for who, text in turns
            if "<selection>" not in text
        ]
        end = record["outcome"]
        yield items, said, {"one": end["you"], "two": end["them"]} if end["agreed"] else None


def casino(path):
    names = ("Food", "Water", "Firewood")
    who = {"mturk_agent_1": "one", "mturk_agent_2": "two"}
    clicks = {"Submit-Deal", "Accept-Deal", "Reject-Deal", "Walk-Away"}
    for record in records(path):
        items = [Item(singular=name, plural=name, count=3) for name in names]
        said = [
            Said(who[t["agent"]], t["text"]) for t in record["turns"] if t["text"] not in clicks
        ]
        end = record["outcome"]
        truth = (
            {one: [end["split"][agent][name] for name in names] for agent, one in who.items()}
            if end["agreed"]
            else None
        )
        yield items, said, truth


def test_reads_what_people_agreed_on_in_deal_or_no_deal(data):
    path = data / "negotiations" / "deal_or_no_deal_dev.jsonl"
    coverage, precision = measured(list(deal_or_no_deal(path)))
    assert coverage >= 0.58
    assert precision >= 0.94


def test_reads_what_people_agreed_on_in_casino(data):
    path = data / "negotiations" / "casino_dev.jsonl"
    coverage, precision = measured(list(casino(path)))
    assert coverage >= 0.42
    assert precision >= 0.96
