"""Recipes: every file in configs, changes, and what is said about one that is wrong."""

import json
import tomllib

import pytest

from baselines.recipe import CONFIGS, load, stages_of
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.suites import load_suite

NAMES = sorted(path.stem for path in CONFIGS.glob("sotopia_pi*.toml"))
FULL_SIZE = [name for name in NAMES if "7b" in name]


def written(folder, *lines):
    path = folder / "mine.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def message(name, *changes):
    with pytest.raises(ConfigError) as caught:
        load(name, changes)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_loads(name):
    recipe = load(name)
    assert recipe.arms[0] == "base"
    assert recipe.description


def test_there_are_recipes_of_both_sizes():
    assert len(FULL_SIZE) == 4
    assert {"sotopia_pi_cpu", "sotopia_pi_quick", "sotopia_pi_dpo"} < set(NAMES)


@pytest.mark.parametrize("name", ["sotopia_pi_mistral_7b", "sotopia_pi_qwen2_5_7b"])
def test_the_full_size_is_that_of_the_paper(name):
    recipe = load(name)
    bc, sr = recipe.stages["bc"], recipe.stages["sr"]
    assert (bc.training.epochs, sr.training.epochs) == (20, 5)
    for stage in (bc, sr):
        training, lora = stage.training, stage.training.lora
        assert (training.learning_rate, training.schedule) == (5e-5, "cosine")
        assert (training.warmup, training.batch_size, training.max_tokens) == (0.03, 4, 4096)
        assert (lora.r, lora.alpha, lora.dropout, lora.quantised) == (8, 16, 0.05, True)
        assert lora.target_modules == ("q_proj", "v_proj")
        assert stage.layout == "turns"
    assert (recipe.model.prompt, recipe.model.temperature) == ("sotopia", 1.0)
    assert recipe.arms == ("base", "sr", "bc", "bc+sr", "sr+bc", "bc+sr+sr")
    expert, own = recipe.collections["expert"], recipe.collections["own"]
    # 100 scenarios with 10 pairs each, the player in both roles; the rounds share no scenario.
    assert recipe.train.pairs == 10
    assert expert.tasks == own.tasks == own.skip == 1000
    assert expert.partners == own.partners == ()


@pytest.mark.parametrize("name", ["sotopia_pi_mistral_7b", "sotopia_pi_qwen2_5_7b"])
def test_the_second_evaluation_differs_in_nothing_else(name):
    hard, everything = load(name), load(f"{name}_all")
    assert (hard.heldout.suite, everything.heldout.suite) == ("sotopia-hard", "sotopia-all")
    changed = {"heldout", "evaluation"}
    assert hard.model_dump(exclude=changed) == everything.model_dump(exclude=changed)
    assert hard.evaluation.partners == everything.evaluation.partners


def test_stages_of_an_arm_are_in_the_order_in_which_they_are_applied():
    assert stages_of("base") == []
    assert stages_of("sr+bc") == ["sr", "bc"]


def test_settings_are_changed_by_their_names():
    changes = ("stages.bc.training.epochs=3", 'arms=["base"]', "model.base=local/other")
    recipe = load("sotopia_pi_cpu", changes)
    assert recipe.stages["bc"].training.epochs == 3
    assert recipe.arms == ("base",)
    assert recipe.model.base == "local/other"


def test_an_equals_sign_may_be_in_the_value():
    spec = "m@http://127.0.0.1:1/v1?prompt=sotopia"
    recipe = load("sotopia_pi_cpu", [f"collections.expert.agent={spec}"])
    assert recipe.collections["expert"].agent == spec


def test_a_recipe_extends_another(tmp_path):
    path = written(
        tmp_path, 'extends = "sotopia_pi_cpu"', "max_turns = 6", "[stages.bc]", 'layout = "turns"'
    )
    recipe, known = load(path), load("sotopia_pi_cpu")
    assert recipe.max_turns == 6
    assert recipe.stages["bc"].layout == "turns"
    assert recipe.stages["bc"].training == known.stages["bc"].training
    assert recipe.stages["sr"] == known.stages["sr"]


def test_a_recipe_extends_one_in_its_own_folder_first(tmp_path):
    base = (CONFIGS / "sotopia_pi_cpu.toml").read_text(encoding="utf-8")
    own = base.replace("max_turns = 20", "max_turns = 8")
    (tmp_path / "sotopia_pi_cpu.toml").write_text(own, encoding="utf-8")
    assert load(written(tmp_path, 'extends = "sotopia_pi_cpu"')).max_turns == 8


def test_no_recipe_extends_itself(tmp_path):
    assert "extends itself" in message(written(tmp_path, 'extends = "mine"'))


def test_an_unknown_recipe_is_told_the_nearest():
    assert "Did you mean 'sotopia_pi_cpu'" in message("sotopia_pi_cpus")


def test_what_is_no_toml_is_named_with_its_place(tmp_path):
    said = message(written(tmp_path, 'name = "x"', "arms = [base]"))
    assert "mine.toml is not TOML" in said
    assert "line 2" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('arms=["base","bcc"]', "arm 'bcc' has no known stage 'bcc'. Did you mean 'bc'?"),
        ('stages.bc.filters=[{"name":"top_shares"}]', "no filter 'top_shares'"),
        ('stages.bc.filters=[{"name":"top_share","share":2}]', "stages.bc.filters"),
        ('train.families=["prize"]', "no family 'prize'. Did you mean 'price'?"),
        ("train.suite=starter", "give families and count, or suite"),
        ("train.pairs=2", "families have none"),
        ("stages.bc.collection=experts", "Did you mean 'expert'?"),
        ("stages.bc.training.epoch=2", "stages.bc.training.epoch: Extra inputs"),
        ("stages.bc.gap=0", "stages.bc.gap"),
        ("model.prompt=brif", "Did you mean 'brief'?"),
        ("model.temperature=hot", "model.temperature"),
        ("evaluation.partners=[]", "evaluation.partners"),
        ("max_turns", "expected KEY=VALUE, got 'max_turns'"),
        ("judge.name=x", "'judge' is a value and has no parts"),
    ],
)
def test_what_is_wrong_is_named(change, said):
    assert said in message("sotopia_pi_cpu", change)


@pytest.mark.parametrize("name", ["base", "tasks", "report", "expert"])
def test_stages_must_not_take_the_folder_of_another_step(name):
    settings = tomllib.loads((CONFIGS / "sotopia_pi_cpu.toml").read_text(encoding="utf-8"))
    stage = json.dumps(settings["stages"]["bc"])
    assert f"{name!r} is taken" in message("sotopia_pi_cpu", f"stages.{name}={stage}")


def test_of_each_scenario_only_so_many_pairs():
    changes = ('heldout={"suite":"open","split":"heldout","pairs":1}',)
    part = load("sotopia_pi_cpu", changes).heldout.part_of(load_suite("open"))
    scenarios = [task.scenario.scenario_id for task in part.tasks]
    assert len(scenarios) == len(set(scenarios)) == 24


@pytest.mark.parametrize("file", sorted((CONFIGS / "accelerate").glob("*.yaml")), ids=str)
def test_accelerate_reads_its_files(file):
    config = pytest.importorskip("accelerate.commands.config.config_args")
    read = config.load_config_from_file(str(file))
    assert read.num_processes > 1
    assert load("sotopia_pi_mistral_7b").stages["bc"].training.batch_size % 2 == 0
