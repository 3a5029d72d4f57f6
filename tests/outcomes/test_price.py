"""What the rules read from bargaining in words that follow no rules."""

import json
import time

import pytest

from sotopia_gym.outcomes.base import Said
from sotopia_gym.outcomes.price import read

NAMES = {"B": "agent_0", "S": "agent_1"}


def said(*lines):
    """What was said, from ("B: words" or "S: words")."""
    return [Said(NAMES[line[0]], line[3:]) for line in lines]


def outcome(lines, listing=100.0):
    return read(said(*lines), buyer=NAMES["B"], seller=NAMES["S"], listing=listing)


def verdict(lines, listing=100.0):
    """The price agreed on, or the status where there is none."""
    found = outcome(lines, listing)
    return found.terms["price"] if found.agreed else found.status


# (listing, price, lines)
AGREEMENTS = [
    (100, 80, ["B: would you take 80?", "S: sure"]),
    (100, 80, ["B: would you take 80?", "S: Sold!"]),
    (100, 80, ["B: Would $80 be ok", "S: yeah that works"]),
    (100, 80, ["B: I could give you 80 bucks today", "S: you got yourself a deal"]),
    (100, 80, ["B: 80 cash?", "S: its yours"]),
    (100, 80, ["S: I can let it go for 80", "B: deal"]),
    (100, 80, ["S: how about $80?", "B: ok I'll take it"]),
    (100, 80, ["S: how about $80?", "B: 80 it is"]),
    (
        100,
        80,
        ["S: how about $80?", "B: okay 80 and could you throw in the pump?", "S: sure thing"],
    ),
    (100, 80, ["S: i could do 80.", "B: Fine by me, when can I come by?"]),
    (100, 80, ["S: Lowest I go is 80.", "B: Alright, I can live with that."]),
    (100, 80, ["S: I can't go below 80.", "B: ok, see you at noon then"]),
    (100, 80, ["S: make it 80 and you have a deal", "B: Deal!"]),
    (100, 80, ["B: i'd pay 70", "S: 80 and I'll throw in the lock", "B: ok great, thanks"]),
    (100, 75, ["B: 70?", "S: 80.", "B: meet in the middle at 75?", "S: 75 it is"]),
    (100, 75, ["B: 70?", "S: 80.", "B: can we split the difference?", "S: so 75. ok", "B: deal"]),
    (100, 75, ["B: 70?", "S: too low, sorry. 75", "B: hmm. fine, you win"]),
    (100, 90, ["B: I'll give you 70", "S: No, 90.", "B: Well, I really need it. I'll pay the 90."]),
    (100, 90, ["S: I'm asking 100 but I could do 90", "B: sounds good!"]),
    (100, 85, ["S: 85?", "B: is it still in the box?", "S: yes it is", "B: Great, I'll take it!"]),
    (100, 85, ["B: 85?", "S: do you have cash?", "B: yes", "S: then we have a deal"]),
    (100, 85, ["S: 90", "B: 80", "S: 85", "B: 82", "S: I said 85, no less", "B: ok ok 85"]),
    (100, 85, ["B: I'll offer 85.", "S: I accept your offer of $85.", "B: Thank you!"]),
    (100, 85, ["B: 85 if you deliver", "S: I can do that", "B: thanks, see you tomorrow"]),
    (100, 85, ["S: $85, pick up only.", "B: No problem, I'm on my way."]),
    (100, 85, ["B: 85", "S: ok", "B: I saw one for 60 at the store but yours is nicer"]),
    (100, 85, ["B: 85", "S: ok deal", "B: can i pick it up at 5?", "S: 5 is fine"]),
    (100, 62.5, ["B: 62.50?", "S: Agreed."]),
    (1500, 1200, ["B: i can do 1.2k", "S: done"]),
    (1500, 1200, ["B: Would you accept $1,200?", "S: Yes, I can do that."]),
    (1500, 1200, ["B: 1200$", "S: ok deal"]),
    (15000, 13500, ["B: how about 13.5?", "S: 13.5 works for me"]),
    (15000, 13500, ["B: I have 13,500 to spend. 13500?", "S: sounds fair"]),
    (4000, 3500, ["B: It's a 2009. 3500?", "S: Built in 2010, but ok, 3500."]),
    (2000, 1800, ["B: $1800/mo and I sign for a year?", "S: That would work for us."]),
    (2000, 1800, ["S: 1800 a month, deposit is $500.", "B: Sounds good to me!"]),
    (40, 30, ["S: 40, it is 21 inches high", "B: would 30 do?", "S: ok come get it"]),
    (40, 30, ["B: can u do 30", "S: yep"]),
    (None, 45, ["B: Would you sell it for $45?", "S: Absolutely, it's a deal."]),
    (100, 80, ["B: Why not $80?", "S: Why not! Deal."]),
    (100, 80, ["S: I paid $150 for it. I'd take 80.", "B: Perfect, thank you"]),
    (100, 90, ["S: i could take 10 dollars off", "B: 90 it is then!"]),
    (100, 80, ["B: 80?", "S: if you can come today that works for me", "B: ok"]),
    (100, 80, ["B: $60?", "S: $60 is too low. $80?", "B: okay, I guess that's fair"]),
]

NO_AGREEMENTS = [
    ["B: 50?", "S: No way, 95.", "B: Then I'll look elsewhere, thanks."],
    ["B: 50 is all I have.", "S: I don't think we can make a deal then."],
    ["S: 95 is firm", "B: No deal."],
    ["B: 60", "S: 90", "B: I'm going to pass."],
    ["B: 60", "S: 90", "B: I will pass on it", "S: ok, have a nice day"],
    ["B: 60", "S: 90", "B: out of my range, good luck with it"],
    ["B: 60", "S: ok deal", "B: Actually forget it, I'm not interested any more."],
]

UNREAD = [
    [],
    ["B: hi", "S: hello"],
    ["B: Is it still available?", "S: Yes, it is!", "B: Great"],
    ["B: would you take 80?"],
    ["B: would you take 80?", "S: I'd rather have 90"],
    ["B: would you take 80?", "S: no"],
    ["B: would you take 80?", "S: can you come today?"],
    ["B: would you take 80?", "S: maybe", "B: let me know"],
    ["B: would you take 80?", "S: I can't accept that, sorry."],
    ["B: would you take 80?", "S: that sounds good but I need 90"],
    ["S: I can do 80. Do you live nearby?", "B: Yes."],
    ["S: 80?", "B: Would you include the case?", "S: sorry, no"],
    ["S: 80 is a great deal!", "B: what colour is it?", "S: red"],
    ["B: 80", "S: deal", "B: hmm, make it 75", "S: hmm"],
    ["B: I'll pass.", "S: and for 70?"],
    ["B: 80", "S: ok", "B: sorry, I can't pay that after all"],
    ["S: 80", "B: Deal if you deliver.", "S: I can't deliver."],
    ["S: $80 plus $10 for delivery", "B: ok"],
    ["S: 80 plus 10 for shipping", "B: sounds good"],
    ["S: i can take 10 off", "B: great, deal"],
    ["S: I'll give you a 10% discount", "B: perfect, I'll take it"],
    ["B: 60", "S: 90", "B: meet me in the middle?", "S: ok"],
    ["B: 60", "S: 90", "B: lets split the difference", "S: deal"],
    ["S: somewhere between $80-90", "B: ok"],
    ["S: 80 or 90 with the helmet", "B: ok"],
    ["S: they are 2 for $90", "B: deal"],
    ["S: $50 each", "B: ok deal"],
    ["B: 50 now and 40 later?", "S: ok"],
    ["B: I could pay 80 in installments", "S: ok"],
    ["B: would you trade it for my old camera?", "S: sure, deal!"],
    ["S: it is from 1995", "B: wow, great!"],
    ["S: it weighs 60 pounds", "B: ok, I can do that"],
    ["S: I bought it for 95", "B: sounds good"],
    ["B: you're asking 100, right?", "S: yes"],
    ["B: I was told 70 is too much", "S: ok"],
    ["S: call me at 555-0100", "B: will do, great"],
    ["S: come at 8:30", "B: perfect"],
    ["S: sixty five dollars", "B: ok"],
    ["B: 80?", "S: ok, and would you pay 85?", "B: hm"],
    ["B: 80?", "S: could you pick it up today?"],
    ["B: 80?", "S: let me know if that works for you"],
]


@pytest.mark.parametrize(("listing", "price", "lines"), AGREEMENTS)
def test_agreed_prices_are_read(listing, price, lines):
    assert verdict(lines, listing) == price


@pytest.mark.parametrize("lines", NO_AGREEMENTS)
def test_leaving_without_a_deal_is_read(lines):
    assert verdict(lines) == "no-agreement"


@pytest.mark.parametrize("lines", UNREAD)
def test_nothing_is_guessed(lines):
    assert verdict(lines) == "unread"


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: f"  {t} \n", lambda t: t.replace(" ", "  ")]
)
@pytest.mark.parametrize("lines", [a[2] for a in AGREEMENTS] + NO_AGREEMENTS + UNREAD)
def test_case_and_blanks_do_not_matter(lines, change):
    changed = [line[:3] + change(line[3:]) for line in lines]
    for listing in (40, 100, 1500, None):
        assert verdict(changed, listing) == verdict(lines, listing)


@pytest.mark.parametrize(("old", "new"), [("!", "."), ("!", "!!"), ("'", "’"), ("$", "$ ")])
@pytest.mark.parametrize(("listing", "price", "lines"), AGREEMENTS)
def test_punctuation_does_not_matter(listing, price, lines, old, new):
    assert verdict([line.replace(old, new) for line in lines], listing) == price


def test_what_others_say_is_not_read():
    talk = said("B: would you take 80?")
    talk.append(Said("agent_2", "Deal!"))
    assert read(talk, buyer="agent_0", seller="agent_1", listing=100).status == "unread"


def test_buyer_and_seller_differ():
    with pytest.raises(ValueError, match="different"):
        read([], buyer="agent_0", seller="agent_0", listing=None)


@pytest.mark.parametrize(
    "text", ["ok - - ( ( " * 2000, "i can be able to " * 1000, "ok thanks " * 2000, "80 now " * 500]
)
def test_no_text_takes_long(text):
    start = time.process_time()
    outcome([f"B: 80? {text}", f"S: {text}"])
    assert time.process_time() - start < 5


def craigslist(data):
    path = data / "negotiations" / "craigslist_bargain_dev.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_people_are_read_precisely_and_often(data):
    dialogues = craigslist(data)
    right = wrong = 0
    start = time.process_time()
    for dialogue in dialogues:
        messages = [
            Said(event["role"], event["data"])
            for event in dialogue["events"]
            if event["action"] == "message"
        ]
        found = read(messages, buyer="buyer", seller="seller", listing=dialogue["list_price"])
        if found.status == "unread":
            continue
        deal, price = dialogue["outcome"]["deal"], dialogue["outcome"]["price"]
        same = found.agreed and deal and round(price, 2) == found.terms["price"]
        hit = same or not (found.agreed or deal)
        right, wrong = right + hit, wrong + (not hit)
    seconds = time.process_time() - start
    assert right / (right + wrong) >= 0.95
    assert (right + wrong) / len(dialogues) >= 0.55
    assert seconds / len(dialogues) < 0.02
