"""What the rules read from people who were asked for a donation."""

import json
import time
from pathlib import Path

import pytest

from sotopia_gym.outcomes.base import Said
from sotopia_gym.outcomes.donation import read

NAMES = {"A": "agent_0", "G": "agent_1"}
LABELS = Path(__file__).parents[2] / "eval" / "persuasion_said.json"


def verdict(lines):
    """The sum, or the status where there is none, from ("A: words" or "G: words")."""
    said = [Said(NAMES[line[0]], line[3:]) for line in lines]
    found = read(said, asker="agent_0", giver="agent_1")
    assert found.family == "donation"
    return found.terms["amount"] if found.agreed else found.status


HOW_MUCH = "A: How much would you like to donate?"

AGREEMENTS = [
    (2, [HOW_MUCH, "G: I'll give $2."]),
    (0.5, [HOW_MUCH, "G: 50 cents"]),
    (0.5, [HOW_MUCH, "G: fifty cents please"]),
    (0.5, [HOW_MUCH, "G: i can do half a dollar"]),
    (1, [HOW_MUCH, "G: One dollar sounds fine to me"]),
    (1, [HOW_MUCH, "G: I could spare a buck"]),
    (1.5, [HOW_MUCH, "G: I'd be happy to contribute a dollar and a half."]),
    (2.25, [HOW_MUCH, "G: I will give two dollars and 25 cents"]),
    (0.25, [HOW_MUCH, "G: I have twenty-five cents I can give"]),
    (0.25, [HOW_MUCH, "G: You can have .25 from me, I would like to donate .25"]),
    (0.1, [HOW_MUCH, "G: Ill donate .10 cents"]),
    (0.3, [HOW_MUCH, "G: id be willing to pledge 0.30$"]),
    (0.01, [HOW_MUCH, "G: I will contribute a penny"]),
    (1200, [HOW_MUCH, "G: I am going to donate $1,200 to you"]),
    (1, [HOW_MUCH, "G: Half of the $2, I'll give that. So $1."]),
    (1, [HOW_MUCH, "G: I want to donate half of my $2"]),
    (2, [HOW_MUCH, "G: All of it, $2."]),
    (0.5, ["A: Do you want to help?", "G: Yes, put me down for 50 cents", "A: Thanks!"]),
    (0.75, ["A: Would you donate 75 cents?", "G: Sure!"]),
    (0.75, ["A: Would you donate 75 cents?", "G: Yes, happily. It is for children."]),
    (1, ["A: How about $1?", "G: That works."]),
    (1, ["A: I'll put you down for $1, ok?", "G: Yes."]),
    (1, [HOW_MUCH, "G: maybe $1?", "A: So you are giving $1, right?", "G: Correct"]),
    # What is only considered counts once the asker takes it up.
    (0.2, [HOW_MUCH, "G: Maybe 20 cents", "A: Wonderful, thank you so much!"]),
    (0.2, ["A: It is for children.", "G: Would 20 cents be ok?", "A: Every bit helps!"]),
    (1, [HOW_MUCH, "G: I was thinking $1", "A: That is so generous of you"]),
    # The last commitment counts.
    (1, [HOW_MUCH, "G: I will give 50 cents", "A: Could you do a little more?", "G: Ok, $1."]),
    (0.4, ["G: I'll give 50 cents", "A: Great", "G: Sorry, I have to make it 40 cents"]),
    # What is declined after a commitment is to give more.
    (0.5, ["G: I'll donate 50 cents.", "A: Would you give $2 instead?", "G: No, I can't."]),
    (0.5, ["G: I'll donate 50 cents.", "A: Any more?", "G: I can't afford to give more."]),
    # It may come after a refusal.
    (
        0.1,
        ["A: Will you donate?", "G: No, sorry.", "A: Not even 10 cents?", "G: Ok, 10 cents."],
    ),
    # Other sums are talked about, too.
    (0.3, [HOW_MUCH, "G: Out of the $2 I'll donate 30 cents."]),
    (1, [HOW_MUCH, "G: I'll give $1 and keep the other $1 for my rent"]),
    (1, [HOW_MUCH, "G: I gave $20 to a shelter last month, but I can donate $1 today"]),
    (1, ["G: I will donate $1.", "A: If everybody gave $5, imagine!", "G: Yes, wow."]),
    (1, ["G: I will donate $1.", "A: Thanks!", "G: You should give $2, maybe even $3 :)"]),
]

NO_AGREEMENTS = [
    ["A: Would you like to donate?", "G: No thank you."],
    ["A: Would you like to donate?", "G: No, sorry"],
    ["A: Would you like to donate?", "G: I'm afraid I can't give anything right now"],
    ["A: Would you like to donate?", "G: I won't be donating today."],
    ["A: Would you like to donate?", "G: not at this time"],
    ["A: Would you like to donate?", "G: I think I'll pass"],
    ["A: Would you like to donate?", "G: I would rather not donate."],
    ["A: Would you like to donate?", "G: Honestly I don't want to give money to this."],
    [HOW_MUCH, "G: $0"],
    [HOW_MUCH, "G: I choose to donate $0, I need it myself."],
    ["A: Could you spare $1?", "G: No.", "A: 50 cents?", "G: no i cannot"],
    ["A: Would you donate?", "G: I'm not able to donate.", "A: I see.", "G: I volunteer, though."],
    ["G: I'll donate $1.", "A: Thanks!", "G: I changed my mind, I won't donate anything"],
]

UNREAD = [
    [],
    ["A: Hello!", "G: Hi, how are you?"],
    ["A: Would you like to donate?", "G: I would love to!"],
    ["A: Would you like to donate?", "G: Maybe, tell me more."],
    ["A: Would you like to donate?", "G: Let me read about it first."],
    ["A: Would you like to donate?", "G: Sure, I can give a little bit."],
    [HOW_MUCH, "G: all of my payment"],
    [HOW_MUCH, "G: I will donate half of what I earn here"],
    [HOW_MUCH, "G: I will donate $1 next month."],
    [HOW_MUCH, "G: I will donate $10 a month."],
    [HOW_MUCH, "G: I'd give $5 if I had a job"],
    [HOW_MUCH, "G: either $1 or $2"],
    [HOW_MUCH, "G: A couple of dollars"],
    [HOW_MUCH, "G: Maybe $1, maybe nothing."],
    [HOW_MUCH, "G: How much will you give? $5?"],
    ["A: You can choose any amount from $0 to $2.", "G: Between $0 and $2, I see."],
    ["A: I gave $5.", "G: Great!"],
    ["A: Do you ever donate?", "G: No, never."],
    ["A: Do you have any questions?", "G: No."],
    ["A: Would you donate $1?", "G: What is it for?"],
    ["A: Would you donate $1?", "G: Yes, but let me think about it first"],
    ["A: Would you donate even 5 cents?", "G: Yes"],
    ["G: I'll donate $1.", "A: Thanks!", "G: Actually I will donate my whole bonus"],
    ["A: Will you donate?", "G: I can't donate.", "A: Not a cent?", "G: Ok, I will donate some."],
]


@pytest.mark.parametrize(("amount", "lines"), AGREEMENTS)
def test_a_commitment_to_a_sum_is_read(amount, lines):
    assert verdict(lines) == amount


@pytest.mark.parametrize("lines", NO_AGREEMENTS)
def test_a_clear_refusal_is_read(lines):
    assert verdict(lines) == "no-agreement"


@pytest.mark.parametrize("lines", UNREAD)
def test_what_the_words_leave_open_is_not(lines):
    assert verdict(lines) == "unread"


def test_bystanders_are_not_heard():
    said = [Said("agent_1", "I'll give $1."), Said("agent_2", "I'll give $9.")]
    assert read(said, asker="agent_0", giver="agent_1").terms == {"amount": 1.0}


def test_nobody_asks_themselves():
    with pytest.raises(ValueError, match="different agents"):
        read([], asker="agent_0", giver="agent_0")


@pytest.mark.parametrize("bit", ["it is ", "$1 or ", "1", "$", "i do not want ", "yes ok ", "¤"])
def test_long_messages_are_read_in_little_time(bit):
    said = [Said("agent_0", HOW_MUCH[3:]), Said("agent_1", bit * (10_000 // len(bit)))]
    start = time.process_time()
    read(said, asker="agent_0", giver="agent_1")
    assert time.process_time() - start < 5


def test_on_labelled_conversations_of_people(data):
    labels = json.loads(LABELS.read_text(encoding="utf-8"))["labels"]
    file = data / "negotiations" / "persuasion_for_good_dev.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file.name}")
    right, verdicts = 0, 0
    for record in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        if record["id"] in labels:
            speakers = {"persuader": "A", "persuadee": "G"}
            found = verdict([f"{speakers[t['role']]}: {t['text']}" for t in record["turns"]])
            label = labels[record["id"]]
            verdicts += found != "unread"
            right += found == ("no-agreement" if label == "none" else label)
    assert len(labels) == 50
    assert verdicts >= 35
    assert right >= 0.95 * verdicts
