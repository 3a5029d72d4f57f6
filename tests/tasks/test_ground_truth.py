"""Ground truth read off SOTOPIA's scenarios, against a table made by hand."""

import pytest

from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.families import family_of
from sotopia_gym.tasks.ground_truth import derive
from sotopia_gym.tasks.schema import RelationshipType, Scenario
from sotopia_gym.tasks.suites import load_suite

FORTY = ("craigslist_bargains", "deal-or-no-deal", "mutual_friends", "persuation_for_good")

# Read by a person. Prices: buyer's target, seller's target, asking price.
PRICES = {
    "00000": (454, 610, 650),
    "00001": (174, 263, 349),
    "00002": (152, 172.5, 200),
    "00003": (14, 17.3, 20),
    "00004": (9, 8, 15),
    "00005": (112, 76.9, 125),
    "00006": (4600, 3260, 5000),
    "00007": (30, 58.6, 60),
    "00008": (418, 312, 550),
    "00009": (46, 26.5, 50),
}
# Counts of the items, and what one of each is worth to either.
DIVISIONS = {
    "01H7VFHP2XBZ6KDPGEAZ2FN1P2": ("books 4 hats 6 balls 2", (3, 2, 1), (1, 3, 2)),
    "01H7VFHP3DPGRXH1Y500VQKFZA": ("books 3 hats 2 balls 1", (5, 3, 2), (2, 5, 3)),
    "01H7VFHP43QEZA1WZB3B3J2D9X": ("books 3 hats 2 balls 1", (3, 2, 1), (2, 3, 1)),
    "01H7VFHP4TX1J43FS1QQJ1QFND": ("books 3 hats 2 balls 1", (2, 3, 5), (3, 2, 4)),
    "01H7VFHP5H5GY9Z62J4NJYJQN1": ("apples 1 bananas 4 oranges 3", (5, 3, 7), (2, 4, 10)),
    "01H7VFHP66D5XEX2Z32SKRT2XY": ("apples 3 bananas 2 oranges 1", (2, 1, 3), (1, 2, 3)),
    "01H7VFHP6XZVT1P4R7YKAH65HJ": ("apples 3 bananas 2 oranges 1", (1, 2, 3), (2, 1, 3)),
    "01H7VFHP7K0EN9QX5JTD8B9NSQ": ("apples 3 bananas 2 oranges 1", (1, 2, 3), (3, 1, 2)),
    "01H7VFHP8AN5643B0NR0NP00VE": ("hats 3 balls 2 books 1", (1, 2, 3), (2, 1, 3)),
    "01H7VFHP90434Q69V7ADY0VWZJ": ("hats 3 balls 2 books 1", (2, 3, 5), (3, 2, 4)),
}
# Target, planned, limit, minimum, period; None: not stated.
DONATIONS = {
    "01H7VFHPDZVVCDZR3AARA547CY": (500, 200, 300, 0, "once"),
    "01H7VFHPDE1AM74JSR8KBJJF3A": (3000, None, 2000, 3000, "once"),
    "01H7VFHPFYB1K1KMPZG7E31WDB": (500, 250, 800, 0, "once"),
    "01H7VFHPF8YEVH5VVNY37Q7Z1M": (1, None, None, 0, "day"),
    "01H7VFHPCKKZNRD5G8CKPR8WE5": (1, None, None, 0, "day"),
}
NOT_STATED = {
    "01H7VFHP9PAVDN6VYYBE3MPD15",
    "01H7VFHPAD4RA819KYESWBFRYS",
    "01H7VFHPB2RC4RHAJ80ESYF1HW",
    "01H7VFHPBTC4ES406NQ4ET12EQ",
    "01H7VFHPEMV6QHBGM9J094FRM4",
}
FRIENDS = {
    "00000": "Gracie",
    "00001": "Harvey",
    "00002": "Neoma",
    "00007": "Thanh",
    "00009": "Alvin",
}


@pytest.fixture
def scenarios(official_suites):
    return {t.scenario.scenario_id: t.scenario for t in load_suite("sotopia-all")}


def test_prices(scenarios):
    found = {
        s.codename[-5:]: s.outcome for s in scenarios.values() if s.source == "craigslist_bargains"
    }
    assert found.keys() == PRICES.keys()
    for number, outcome in found.items():
        told = (outcome.buyer_target, outcome.seller_target, outcome.listing)
        assert told == PRICES[number]
        assert (outcome.family, outcome.buyer, outcome.seller) == ("price", "agent_0", "agent_1")


def test_divisions(scenarios):
    found = {k: s.outcome for k, s in scenarios.items() if s.source == "deal-or-no-deal"}
    assert found.keys() == DIVISIONS.keys()
    for key, outcome in found.items():
        items = " ".join(f"{item['plural']} {item['count']}" for item in outcome.items)
        values = outcome.values
        told = (items, tuple(values["agent_0"]), tuple(values["agent_1"]))
        assert told == DIVISIONS[key]


def test_mutual_friends(scenarios):
    found = [s for s in scenarios.values() if s.source == "mutual_friends"]
    assert len(found) == 10
    for scenario in found:
        knows = scenario.outcome.knows
        (friend,) = [n for n in knows["agent_0"] if knows["agent_1"].get(n) == knows["agent_0"][n]]
        # The scene says who it is, for the environment only; the lists alone had to tell.
        assert f"common friends: {friend}." in scenario.context
        assert FRIENDS.get(scenario.codename[-5:], friend) == friend
        for agent, goal in zip(("agent_0", "agent_1"), scenario.goals, strict=True):
            lines = [line for line in goal.splitlines() if line.count(":") >= 2]
            assert {line.partition(":")[0].strip() for line in lines} == set(knows[agent])


def test_donations_and_what_is_not_stated(scenarios):
    found = {k: s for k, s in scenarios.items() if s.source == "persuation_for_good"}
    assert {k for k, s in found.items() if s.outcome is None} == NOT_STATED
    assert all(derive(found[key]).missing for key in NOT_STATED)
    for key, expected in DONATIONS.items():
        dumped = found[key].outcome.model_dump()
        names = ("target", "planned", "limit", "minimum", "period")
        assert tuple(dumped.get(name) for name in names) == expected
        assert (dumped["asker"], dumped["giver"]) == ("agent_0", "agent_1")


def test_nothing_is_derived_of_the_open_ended_ones(scenarios):
    assert sum(s.outcome is not None for s in scenarios.values()) == 35
    assert {s.source for s in scenarios.values() if s.outcome is not None} <= set(FORTY)


def test_every_derived_ground_truth_can_be_checked_by_its_family(official_suites):
    incomplete = {k for k, terms in DONATIONS.items() if terms[2] is None}
    for task in load_suite("sotopia-all"):
        if task.scenario.scenario_id in incomplete:
            with pytest.raises(TaskError, match="limit is not stated"):
                family_of(task).check(task)
        elif task.scenario.outcome is not None:
            family_of(task).check(task)


@pytest.mark.parametrize(
    ("context", "goals", "missing"),
    [
        (
            "Two friends share 3 books.",
            ("Get 4 points for each book.", "Get points."),
            "every item",
        ),
        (
            "At a charity evening.",
            ("Convince your friend to donate.", "Support it within your budget."),
            "no amount",
        ),
        (
            "A sale.",
            ("You are the buyer; your target price is $5.", "You are the buyer; pay $5."),
            "neither",
        ),
        ("A walk.", ("Ask for the time.", "Hurry on."), "neither"),
    ],
)
def test_what_is_not_stated_is_not_guessed(context, goals, missing):
    scenario = Scenario(
        scenario_id="x", context=context, goals=goals, relationship=RelationshipType.STRANGER
    )
    derived = derive(scenario)
    assert derived.scenario.outcome is None
    assert missing in derived.missing
