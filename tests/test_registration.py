"""Ids, and what an import costs."""

import subprocess
import sys

import pytest

import sotopia_gym
from sotopia_gym.errors import MissingSuiteError, UnknownIdError


def test_ids_are_listed():
    assert sotopia_gym.list_envs() == [
        "sotopia-all-v0",
        "sotopia-families-v0",
        "sotopia-hard-v0",
        "sotopia-numeric-division-v0",
        "sotopia-numeric-joint-choice-v0",
        "sotopia-numeric-price-v0",
        "sotopia-open-v0",
        "sotopia-plan-v0",
        "sotopia-v0",
    ]


@pytest.mark.parametrize("wrong", ["sotopia", "sotopia-v1", "Sotopia-v0"])
def test_an_unknown_id_suggests_the_nearest(wrong):
    with pytest.raises(UnknownIdError, match="Did you mean 'sotopia-v0'"):
        sotopia_gym.make(wrong)


def test_an_unknown_suite_suggests_the_nearest():
    with pytest.raises(UnknownIdError, match="Did you mean 'starter'"):
        sotopia_gym.load_suite("startr")


def test_a_missing_suite_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path))
    with pytest.raises(MissingSuiteError, match="tasks fetch sotopia") as caught:
        sotopia_gym.make("sotopia-hard-v0")
    assert "sotopia-gym tasks import FOLDER" in str(caught.value)


def test_users_register_their_own():
    suite = sotopia_gym.load_suite("starter").split("heldout")
    sotopia_gym.register("registered-in-a-test-v0", suite=suite, max_turns=6)
    env = sotopia_gym.make("registered-in-a-test-v0")
    assert (env.max_turns, len(env.suite)) == (6, 40)
    with pytest.raises(ValueError, match="taken"):
        sotopia_gym.register("registered-in-a-test-v0")
    with pytest.raises(ValueError, match="version"):
        sotopia_gym.register("no version")
    from sotopia_gym import registration

    del registration._registry["registered-in-a-test-v0"]


def test_importing_loads_nothing_heavy_and_no_test_code():
    code = "import sys, sotopia_gym; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    loaded = {module.partition(".")[0] for module in modules}
    heavy = {"torch", "transformers", "ray", "openai", "trl", "rich", "typer", "xllamacpp", "scipy"}
    assert not loaded & (heavy | {"pytest", "hypothesis", "tests"})
    assert not [module for module in modules if module.startswith("pettingzoo.test")]


def test_every_public_name_is_there():
    for name in sotopia_gym.__all__:
        assert getattr(sotopia_gym, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sotopia_gym.nonsense
