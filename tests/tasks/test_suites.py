"""The suites that come with the library."""

import pytest

from sotopia_gym import load_suite
from sotopia_gym.errors import UnknownIdError
from sotopia_gym.tasks.families import families
from sotopia_gym.tasks.sampling import family
from sotopia_gym.tasks.suites import BUILT_IN, build_family, list_suites, save_suite


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_suite_has_tasks_and_splits_that_share_nothing(name):
    suite = load_suite(name)
    assert suite.name == name
    assert suite is load_suite(name)
    train, heldout = suite.split("train"), suite.split("heldout")
    assert len(train) + len(heldout) == len(suite)
    assert len(heldout) * 2 == len(train)
    scenes = [{task.scenario.context for task in part} for part in (train, heldout)]
    people = [{name for task in part for name in task.names.values()} for part in (train, heldout)]
    assert not scenes[0] & scenes[1]
    assert not people[0] & people[1]


def test_families_holds_every_family_for_two():
    counts = {}
    for task in load_suite("families"):
        counts[family(task)] = counts.get(family(task), 0) + 1
    assert counts == dict.fromkeys(set(families()) - {"plan"}, 30)


@pytest.mark.parametrize("size", [3, 4, 5])
def test_plans_are_suites_of_one_size(size):
    suite = load_suite(f"plan-{size}")
    assert suite.num_agents == size
    assert {family(task) for task in suite} == {"plan"}
    assert len({task.task_id for task in suite}) == len(suite) == 60


def test_a_suite_of_one_family_is_built_saved_and_loaded(tmp_path):
    suite = build_family("price", "heldout", range(5, 8))
    assert [task.task_id for task in suite] == [f"price-v1-heldout-{n}" for n in (5, 6, 7)]
    assert load_suite(save_suite(suite, tmp_path / "price.json")) == suite
    for arguments in (("prices", "train"), ("price", "test")):
        with pytest.raises(UnknownIdError, match=r"Did you mean|Known"):
            build_family(*arguments, range(2))


def test_the_built_in_suites_are_listed(home):
    assert list_suites()[: len(BUILT_IN)] == list(BUILT_IN)
