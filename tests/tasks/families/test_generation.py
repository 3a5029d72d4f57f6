"""What the families generate: valid, reproducible, varied, separate and discreet tasks."""

import re
from functools import lru_cache
from itertools import permutations, product
from random import Random

import pytest

from sotopia_gym.tasks.background import background, read_background
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import SPLITS, families, family_of, get_family
from sotopia_gym.tasks.schema import Task
from sotopia_gym.tasks.suites import build_starter, load_suite

FAMILIES = sorted(families())
COUNT = 1000
everywhere = pytest.mark.parametrize(
    ("name", "split"), [(name, split) for name in FAMILIES for split in SPLITS]
)


@lru_cache
def tasks(name, split):
    return [get_family(name).generate(seed, split) for seed in range(COUNT)]


def masked(task):
    """The scene without numbers and names."""
    text = task.scenario.context
    for name in task.names.values():
        for part in name.split():
            text = re.sub(rf"\b{re.escape(part)}\b", "NAME", text)
    return re.sub(r"\d[\d,.]*", "N", text)


@everywhere
def test_every_task_is_valid_and_can_be_scored(name, split):
    for task in tasks(name, split):
        assert Task.model_validate(task.model_dump()) == task
        family_of(task).check(task)
        assert family_of(task).name == name
        assert all(
            constraint.admits(character)
            for constraint, character in zip(
                task.scenario.constraints, task.characters, strict=True
            )
        )
    assert len({task.task_id for task in tasks(name, split)}) == COUNT


@everywhere
def test_the_same_number_gives_the_same_task(name, split):
    again = [get_family(name).generate(seed, split) for seed in reversed(range(COUNT))]
    assert again[::-1] == tasks(name, split)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_scenes_are_varied(name):
    assert len({masked(task) for task in tasks(name, "train")}) >= 200


@pytest.mark.parametrize("name", FAMILIES)
def test_held_out_tasks_share_no_character_and_no_scene_with_training(name):
    train, heldout = tasks(name, "train"), tasks(name, "heldout")
    assert not {n for t in train for n in t.names.values()} & {
        n for t in heldout for n in t.names.values()
    }
    assert not {masked(task) for task in train} & {masked(task) for task in heldout}


def test_held_out_content_is_never_used_in_training():
    for field in ("character_id", "name", "secret", "public_info"):
        one, other = ({getattr(c, field) for c in load_cast(split)} for split in SPLITS)
        assert not one & other, field
    for name, key, field in [
        ("price", "goods", "noun"),
        ("price", "places", "scene"),
        ("division", "settings", "id"),
        ("division", "settings", "scene"),
        ("donation", "causes", "cause"),
        ("donation", "occasions", "scene"),
        ("donation", "needs", "need"),
        ("donation", "settings", "scene"),
        ("dilemma", "settings", "id"),
        ("dilemma", "settings", "scene"),
        ("joint_choice", "settings", "id"),
        ("joint_choice", "settings", "scene"),
        ("secret", "circles", "id"),
        ("mutual_friend", "scenes", "scene"),
        ("mutual_friend", "remarks", "text"),
        ("mutual_friend", "first_names", "name"),
        ("mutual_friend", "surnames", "name"),
        ("plan", "settings", "id"),
        ("plan", "settings", "scene"),
        ("plan", "reasons", "text"),
    ]:
        one, other = ({e[field] for e in load_content(name, split)[key]} for split in SPLITS)
        assert one
        assert other
        assert not one & other, (name, key, field)


def test_held_out_items_are_never_divided_in_training():
    one, other = (
        {i["singular"] for s in load_content("division", split)["settings"] for i in s["items"]}
        for split in SPLITS
    )
    assert not one & other


@everywhere
def test_no_agent_can_read_the_goal_or_the_reason_of_the_other(name, split):
    for task in tasks(name, split):
        for agent, other in permutations(task.agents, 2):
            seen = background(task, agent, max_turns=20)
            goal = task.goal(other)
            reason = re.search(
                r"<extra_info>Extra information: (.*?)</extra_info>",
                task.scenario.goals[task.agents.index(other)],
            )
            assert goal not in seen
            assert reason is None or reason[1] not in seen
            assert task.character(other).secret not in seen
            assert task.goal(agent) in seen


@pytest.mark.parametrize("split", SPLITS)
def test_every_brief_is_claimed_by_the_script_of_its_own_family_and_by_no_other(split):
    for name, seed in product(FAMILIES, range(60)):
        task = get_family(name).generate(seed, split)
        for agent in task.agents:
            brief = read_background(background(task, agent, max_turns=20))
            scripts = {f: get_family(f).script(brief, "expert", Random(seed)) for f in FAMILIES}
            assert [f for f, script in scripts.items() if script is not None] == [name], (
                seed,
                agent,
            )


def test_the_starter_suite_that_ships_is_the_one_that_is_generated():
    assert build_starter() == load_suite("starter")
    assert build_starter().sha256 == load_suite("starter").sha256
