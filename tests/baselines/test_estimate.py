"""What a recipe is estimated to take."""

import pytest

from baselines.estimate import Estimate, grounds, playing, training
from baselines.recipe import load
from sotopia_gym.judges.llm import TYPICAL_TOKENS
from sotopia_gym.llm.prices import PRICES


def of_collection(recipe, name):
    collection = recipe.collections[name]
    return playing(recipe, recipe.train, collection, [collection.agent])


def test_scripts_that_are_scored_by_arithmetic_cost_nothing():
    found = of_collection(load("sotopia_pi_cpu"), "expert")
    assert found == Estimate(episodes=3 * 28 * 2 * 2)


def test_the_model_itself_takes_time_and_no_money():
    found = of_collection(load("sotopia_pi_cpu"), "own")
    assert found.calls == found.episodes * 10
    assert found.seconds > 0
    assert found.dollars == 0


def test_an_expert_with_itself_takes_every_turn_of_every_episode():
    recipe = load("sotopia_pi_mistral_7b", ["judge=outcome"])
    found = of_collection(recipe, "expert")
    assert found.episodes == 1000
    assert found.calls == 1000 * 20
    assert found.dollars == PRICES["gpt-4o-2024-08-06"].cost(int(found.read), int(found.written))


def test_a_judge_is_called_once_an_episode():
    recipe = load("sotopia_pi_cpu", ["judge=gpt-4"])
    found, exact = (of_collection(r, "expert") for r in (recipe, load("sotopia_pi_cpu")))
    assert found.calls == found.episodes
    assert (found.read, found.written) == tuple(found.episodes * n for n in TYPICAL_TOKENS)
    assert found.dollars > exact.dollars == 0


def test_each_member_of_a_panel_is_paid():
    recipe = load("sotopia_pi_cpu", ["judge=panel:gpt-4+gpt-4.1+outcome"])
    found = of_collection(recipe, "expert")
    assert found.calls == 2 * found.episodes


def test_partners_behind_an_address_take_turns_about():
    recipe = load("sotopia_pi_cpu", ['collections.own.partners=["gpt-4o-mini","scripted/fair"]'])
    found = of_collection(recipe, "own")
    assert found.calls == found.episodes * (10 + 5)


def test_a_model_without_a_price_is_named_and_not_free():
    recipe = load("sotopia_pi_cpu", ["collections.expert.agent=mine@http://127.0.0.1:1/v1"])
    found = of_collection(recipe, "expert")
    assert found.unpriced == {"mine@http://127.0.0.1:1/v1"}
    assert "$0.00 and more" in str(found)
    assert any("for want of a price: mine@" in line for line in grounds(recipe, found))


def test_a_suite_that_is_not_here_is_named_with_the_size_it_is_taken_to_have(tmp_path, monkeypatch):
    monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path))
    recipe = load("sotopia_pi_mistral_7b_all")
    found = playing(recipe, recipe.heldout, recipe.evaluation, [None])
    assert found.episodes == 180  # as in the paper
    hard = load("sotopia_pi_mistral_7b")
    assert playing(hard, hard.heldout, hard.evaluation, [None]).episodes == 140
    (told,) = found.missing
    assert "sotopia-all" in told
    assert "90 tasks" in told


def test_episodes_of_suites_on_this_machine_are_counted():
    recipe = load("sotopia_pi_cpu", ['heldout={"suite":"starter","split":"heldout"}'])
    found = playing(recipe, recipe.heldout, recipe.evaluation, [None])
    assert found.episodes == 40 * 2 * 2
    assert not found.missing


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_training_takes_as_much_as_there_is_kept_and_no_more_than_its_steps(method):
    def tokens(*changes):
        recipe = load("sotopia_pi_cpu", [f"stages.bc.method={method}", *changes])
        return training(recipe, recipe.stages["bc"]).trained

    assert tokens("stages.bc.training.epochs=2") == 2 * tokens()
    assert 0 < tokens("stages.bc.training.max_steps=1") < tokens()
    assert tokens("collections.expert.tasks=7") < tokens()


def test_turn_by_turn_everything_is_read_again():
    def tokens(layout):
        recipe = load("sotopia_pi_cpu", [f"stages.bc.layout={layout}"])
        return training(recipe, recipe.stages["bc"]).trained

    assert tokens("turns") > 3 * tokens("packed")


def test_a_sum_is_of_everything():
    one = Estimate(calls=1, dollars=2, unpriced=frozenset("a"))
    other = Estimate(calls=3, seconds=4000, unpriced=frozenset("b"))
    assert one + other == Estimate(calls=4, dollars=2, seconds=4000, unpriced=frozenset("ab"))
    assert str(one + other) == "4 calls, $2.00 and more, 67 min"
    assert str(Estimate()) == ""
