"""The ``open`` suite: enough scenarios, all different, each discreet and for anybody to play."""

import itertools
import re
from collections import Counter

import pytest

from sotopia_gym.tasks.background import background
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import SPLITS
from sotopia_gym.tasks.pairing import plausible
from sotopia_gym.tasks.schema import Constraint, RelationshipType, Task
from sotopia_gym.tasks.suites import load_suite
from sotopia_gym.tasks.visibility import ENVIRONMENT, render

CATEGORIES = {
    "persuading",
    "comforting",
    "apologising",
    "setting-a-boundary",
    "competing",
    "cooperating",
    "asking-for-help",
    "giving-bad-news",
}
SETTINGS = {
    "workplace",
    "family",
    "friends",
    "couple",
    "neighbours",
    "strangers",
    "online",
    "community",
}
ENTRIES = [
    {**entry, "split": split}
    for split in SPLITS
    for entry in load_content("open", split)["scenarios"]
]
PAIRS = 3

# Two scenarios of the suite share hardly more than 2 in 100 of their word triples; a paraphrase
# that leaves hardly a sentence as it was shares more than 10. The limit lies between the two.
MOST_ALIKE = 0.05

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])


def texts(entry):
    return [entry["context"], *entry["goals"]]


def words(text):
    return re.findall(r"[^\W\d_]+", re.sub(r"<[^<>]*>", " ", text).casefold())


def runs(entry_texts, length):
    """Every run of so many words in these texts, none across two of them."""
    found = set()
    for text in entry_texts:
        listed = words(text)
        found |= {tuple(listed[i : i + length]) for i in range(len(listed) - length + 1)}
    return found


def likeness(one, two):
    """Jaccard index of the word triples of two scenarios."""
    a, b = runs(texts(one), 3), runs(texts(two), 3)
    return len(a & b) / len(a | b)


def extra_info(goal):
    return " ".join(re.findall(r"<extra_info>\s*Extra information:(.*?)</extra_info>", goal, re.S))


def told_words(entry, others):
    """The distinctive words of somebody's private information that are found where it is not.

    Distinctive is a word of four letters or more that no other scenario uses.
    """
    common = {word for other in others for text in texts(other) for word in words(text)}
    told = set()
    for mine, theirs in itertools.permutations(entry["goals"], 2):
        distinctive = {w for w in words(extra_info(mine)) if len(w) >= 4} - common
        told |= distinctive & {*words(entry["context"]), *words(theirs)}
    return told


def told_runs(task):
    """Runs of six words of one's goal that are found in the background of the other."""
    one, two = task.agents
    told = set()
    for mine, theirs in ((one, two), (two, one)):
        seen = runs([background(task, theirs, max_turns=20)], 6)
        told |= seen & runs([render(task.goal(mine), ENVIRONMENT)], 6)
    return told


def with_texts(entry, old, new):
    changed = {
        "context": entry["context"].replace(old, new),
        "goals": [goal.replace(old, new) for goal in entry["goals"]],
    }
    assert changed != {key: entry[key] for key in changed}
    return {**entry, **changed}


def entry_of(name):
    return next(entry for entry in ENTRIES if entry["id"] == name)


# ------------------------------------------------------------------ what there is


def test_there_are_many_scenarios_each_with_an_id_of_its_own():
    assert len(ENTRIES) >= 60
    assert len({entry["id"] for entry in ENTRIES}) == len(ENTRIES)
    assert len({entry["codename"] for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("split", SPLITS)
def test_every_category_and_every_setting_is_there(split):
    entries = [entry for entry in ENTRIES if entry["split"] == split]
    categories = Counter(entry["category"] for entry in entries)
    settings = Counter(entry["setting"] for entry in entries)
    assert categories.keys() == CATEGORIES
    assert settings.keys() == SETTINGS
    assert min(*categories.values(), *settings.values()) >= 2


def test_a_third_is_held_out():
    heldout = sum(entry["split"] == "heldout" for entry in ENTRIES)
    assert 0.3 <= heldout / len(ENTRIES) <= 0.36


def test_the_file_is_in_order():
    for split in SPLITS:
        keys = [(e["category"], e["id"]) for e in ENTRIES if e["split"] == split]
        assert keys == sorted(keys)


# ------------------------------------------------------------------ who plays it


@every_entry
def test_enough_pairs_of_characters_fit(entry):
    constraints = [Constraint.model_validate(c) for c in entry["constraints"]]
    relationship = RelationshipType[entry["relationship"].upper()]
    fitting = [
        pair
        for pair in itertools.permutations(load_cast(entry["split"]), 2)
        if plausible(pair, relationship)
        and all(c.admits(who) for c, who in zip(constraints, pair, strict=True))
    ]
    assert len(fitting) >= PAIRS


@every_entry
def test_whoever_may_play_the_first_role_finds_a_second(entry):
    # The first is drawn without a look at the second.
    first, second = (Constraint.model_validate(c) for c in entry["constraints"])
    relationship = RelationshipType[entry["relationship"].upper()]
    cast = load_cast(entry["split"])
    for one in filter(first.admits, cast):
        assert any(
            second.admits(two) and plausible((one, two), relationship)
            for two in cast
            if two is not one
        )


def test_the_suite_has_several_fitting_pairs_for_every_scenario():
    suite = load_suite("open")
    of_scenario = {}
    for task in suite:
        assert Task.model_validate(task.model_dump()) == task
        assert plausible(task.characters, task.scenario.relationship)
        for constraint, character in zip(task.scenario.constraints, task.characters, strict=True):
            assert constraint.admits(character)
        pair = tuple(character.character_id for character in task.characters)
        of_scenario.setdefault(task.scenario.scenario_id, []).append(pair)
    assert of_scenario.keys() == {f"open-{entry['id']}" for entry in ENTRIES}
    assert all(len(set(pairs)) == len(pairs) == PAIRS for pairs in of_scenario.values())


def test_splits_share_neither_scenario_nor_character():
    suite = load_suite("open")
    ids = [task.task_id for task in suite]
    assert len(set(ids)) == len(ids)
    split_of = {task_id: split for split, part in suite.splits.items() for task_id in part}
    assert split_of.keys() == set(ids)
    assert len(split_of) == sum(len(part) for part in suite.splits.values())
    held = {split: set() for split in SPLITS}
    for task in suite:
        who = {character.character_id for character in task.characters}
        held[split_of[task.task_id]] |= {task.scenario.scenario_id, *who}
    assert held["train"]
    assert held["heldout"]
    assert not held["train"] & held["heldout"]


# ------------------------------------------------------------------ no two alike


def test_no_two_scenarios_are_alike():
    alike = [
        (one["id"], two["id"])
        for one, two in itertools.combinations(ENTRIES, 2)
        if likeness(one, two) > MOST_ALIKE
    ]
    assert alike == []


def test_a_paraphrase_would_be_noticed():
    paraphrase = {
        "context": "At the village show class 14 is for marmalade, one jar a household, and the "
        "entries close at noon. Two jars are standing on the kitchen counter, a dark one and a "
        "pale one, each of them made by one half of the couple living here. There is a single "
        "line for the name on the form, and the clock says a quarter past eleven.",
        "goals": [
            "The dark one is yours: make sure that this jar goes to the show, with your name "
            "alone on the form. If that fails, demand a blind tasting by somebody else before "
            "twelve.",
            "The pale one is yours. Have it entered under both names, and agree with your partner "
            "on another class in which the other jar could compete instead.",
        ],
    }
    original = entry_of("marmalade-class-fourteen")
    assert likeness(original, paraphrase) > 2 * MOST_ALIKE
    others = [entry for entry in ENTRIES if entry is not original]
    assert max(likeness(other, paraphrase) for other in others) < MOST_ALIKE


# ------------------------------------------------------------------ nothing leaks


@every_entry
def test_private_information_is_told_nowhere_else(entry):
    assert not told_words(entry, [other for other in ENTRIES if other is not entry])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        # In the scene, and in the goal of the other.
        ("marmalade-class-fourteen", "two jars, one dark", "two jars, one with a splash, dark"),
        ("front-of-the-dragon", "Have it settled", "Never mind the mayor. Have it settled"),
    ],
)
def test_a_leak_of_private_information_would_be_noticed(name, old, new):
    entry = with_texts(entry_of(name), old, new)
    assert told_words(entry, [other for other in ENTRIES if other["id"] != name])


def test_no_background_holds_the_goal_of_the_other():
    for task in load_suite("open"):
        one, two = task.agents
        for mine, theirs in ((one, two), (two, one)):
            seen = background(task, theirs, max_turns=20)
            goal = task.scenario.goals[task.agents.index(mine)]
            assert task.goal(mine) not in seen
            if private := extra_info(goal).strip():
                assert private not in seen
        assert not told_runs(task), task.task_id


def test_a_goal_in_the_scene_would_be_noticed():
    task = load_suite("open").tasks[0]
    sentence = " ".join(task.goal("agent_1").split()[:12])
    scenario = task.scenario.model_copy(update={"context": f"{task.scenario.context} {sentence}"})
    assert told_runs(task.model_copy(update={"scenario": scenario}))


# ------------------------------------------------------------------ how it is written


@every_entry
def test_anybody_can_play_it(entry):
    names = {
        part
        for split in SPLITS
        for character in load_cast(split)
        for part in character.name.split()
    }
    for text in texts(entry):
        # Not even for third persons: beside two people of any gender, a "her" is ambiguous.
        gendered = re.findall(r"\b(?:he|she|him|her|his|hers|himself|herself)\b", text, re.I)
        assert gendered == []
        assert not names & set(re.findall(r"\w+", text))


@every_entry
def test_texts_are_whole(entry):
    for text in texts(entry):
        shown = render(text, ENVIRONMENT)
        assert not re.search(r"[{}\[\]<>_*#]|\bagent\b|\bTODO\b|\bXXX\b|\.\.\.|  |\n", shown)
        assert shown[0].isupper() or shown[0] == '"'
        assert shown[-1] in ".?)"
    assert 40 <= len(words(entry["context"])) <= 110


@every_entry
def test_goals_are_long_enough_and_speak_to_the_player(entry):
    assert len(entry["goals"]) == len(set(entry["goals"])) == 2
    for goal in entry["goals"]:
        aim = re.sub(r"\(?<extra_info>.*?</extra_info>\)?", "", goal, flags=re.S)
        assert 20 <= len(words(aim)) <= 90
        assert {"you", "your", "yours", "yourself"} & set(words(aim))
        # Neither the first person nor a report about the player, save in direct speech.
        spoken = re.sub(r'"[^"]*"', "", aim)
        assert not {"i", "my", "me", "we", "our"} & set(words(spoken))
