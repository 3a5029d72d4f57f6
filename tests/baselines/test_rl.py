"""Recipes of reinforcement learning: every step, the control, and going on after a kill."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from baselines.recipe import CONFIGS
from sotopia_gym.errors import ConfigError, TrainingError
from sotopia_gym.llm.convert import trained
from tests.integrations.test_grpo import by_ids
from tests.tiny_model import save_tiny_model
from tests.training.test_trajectories import made

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")
rl = pytest.importorskip("baselines.rl")
ppo = pytest.importorskip("baselines.ppo")
grpo = pytest.importorskip("baselines.grpo")
TrainerState = pytest.importorskip("transformers").TrainerState

METHODS = {"ppo": ppo, "grpo": grpo}
SIZE = {
    "max_turns": 4,
    "train.count": 2,
    "heldout.count": 1,
    "batch": 1,
    "group": 2,
    "iterations": 3,
    "save_every": 1,
    "threads": 1,
    "model.max_tokens": 64,
    "evaluation.partners": ["scripted/expert"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield str(save_tiny_model(tmp_path_factory.mktemp("tiny")))
    torch.set_num_threads(before)


def steps_of(method, model, out, **changes):
    module = METHODS[method]
    settings = [f"{key}={json.dumps(value)}" for key, value in (SIZE | changes).items()]
    recipe = rl.load("rl_price_cpu", settings, kind=rl.Recipe)
    return rl.pipeline(method, module.run, module.Settings, recipe, model, 0, out, control=True)


def run(steps, *names):
    for name in names or steps.steps:
        steps.run(steps.steps[name])


@pytest.fixture
def rewarded(monkeypatch):
    """A random model never makes a deal: members of a group would all have the same goal score."""
    monkeypatch.setattr(rl, "Terminal", lambda _: by_ids)


def weights(folder):
    from safetensors.torch import load_file

    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.usefixtures("rewarded")
@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_trains_measures_and_compares(method, model, tmp_path):
    steps = steps_of(method, model, tmp_path, **{f"training.{method}.learning_rate": 1e-3})
    run(steps)
    found = json.loads((tmp_path / "seed-0/report/report.json").read_text())
    arms = {"start", method, f"{method}-shuffled"}
    assert arms < set(found["arms"])
    assert {found["arms"][arm]["episodes"] for arm in arms} == {2}
    assert f"{method} - start" in found["differences"]
    assert f"{method} - {method}-shuffled" in found["differences"]
    told = json.loads((tmp_path / f"seed-0/{method}/train/metrics.json").read_text())
    assert [line["iteration"] for line in told["history"]] == [0, 1, 2]
    assert all(line["grad_norm"] > 0 and line["unscored"] == 0 for line in told["history"])
    assert not (tmp_path / f"seed-0/{method}/train/checkpoints").exists()
    made, control = (
        weights(tmp_path / f"seed-0/{method}{kind}/train/model") for kind in ("", "-shuffled")
    )
    assert not equal(made, weights(Path(model)))
    assert not equal(made, control)


@pytest.mark.usefixtures("rewarded")
@pytest.mark.parametrize(("method", "lora"), [("ppo", 0), ("ppo", 2), ("grpo", 0), ("grpo", 2)])
def test_a_run_that_was_killed_goes_on_with_the_same_curve(
    method, lora, model, tmp_path, monkeypatch
):
    """Killed in its fourth batch, while the checkpoint is that of the second."""

    class Killed(BaseException):
        pass

    needed = ("common/start/model", "seed-0/tasks")
    settings = {"learning_rate": 1e-3, "lora": lora}
    changes = {f"training.{method}.{key}": value for key, value in settings.items()}
    changes |= {"save_every": 2, "iterations": 4}
    whole = steps_of(method, model, tmp_path / "whole", **changes)
    run(whole, *needed, f"seed-0/{method}/train")
    cut = steps_of(method, model, tmp_path / "cut", **changes)
    run(cut, *needed)
    played = rl.RolloutSource.play

    def dies(self, iteration):
        if iteration == 3:
            raise Killed
        return played(self, iteration)

    with monkeypatch.context() as patched:
        patched.setattr(rl.RolloutSource, "play", dies)
        with pytest.raises(Killed):
            run(cut, f"seed-0/{method}/train")
    # As if it had been killed while it wrote another one.
    unfinished = {"ppo": "checkpoint-00004.part", "grpo": "checkpoint-4"}[method]
    (tmp_path / f"cut/seed-0/{method}/train/checkpoints" / unfinished).mkdir()
    run(cut, f"seed-0/{method}/train")
    curves = []
    for out in ("whole", "cut"):
        path = tmp_path / out / f"seed-0/{method}/train/metrics.json"
        curves.append(json.loads(path.read_text())["history"])
    for one, other in zip(*curves, strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }
    assert all(line["grad_norm"] > 0 for line in curves[0])
    made = [weights(tmp_path / out / f"seed-0/{method}/train/model") for out in ("whole", "cut")]
    assert equal(*made)


@pytest.mark.usefixtures("rewarded")
@pytest.mark.parametrize("method", METHODS)
def test_an_exploding_divergence_stops_the_run_and_is_in_no_checkpoint(method, model, tmp_path):
    changes = {
        f"training.{method}.learning_rate": 0.5,
        "max_kl": 0.01,
        "iterations": 6,
    }
    steps = steps_of(method, model, tmp_path, **changes)
    run(steps, "common/start/model", "seed-0/tasks")
    # The first update does it; the batch after it shows that.
    with pytest.raises(TrainingError, match=r"iteration 1 went wrong \(kl above 0\.01"):
        run(steps, f"seed-0/{method}/train")
    assert not (tmp_path / f"seed-0/{method}/train/model").exists()
    assert not list((tmp_path / f"seed-0/{method}/train/checkpoints").glob("checkpoint-*"))


def test_an_explosion_of_grpo_leaves_the_checkpoint_before_it(tmp_path):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        TrainerState().save_to_json(str(tmp_path / f"checkpoint-{step}" / "trainer_state.json"))
    guard = grpo._Guard(0.5, None)
    told = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=3), None
    guard.on_log(*told, logs={"loss": 0.1, "kl": 0.4})
    with pytest.raises(TrainingError, match=r"last good checkpoint is .*checkpoint-1\."):
        guard.on_log(*told, logs={"loss": 0.1, "kl": 0.6})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    with pytest.raises(TrainingError, match=r"went wrong \(loss\)"):
        guard.on_log(*told, logs={"loss": float("nan"), "kl": 0.1})


def test_a_bound_on_a_divergence_that_nobody_measures_is_refused(model, tmp_path):
    steps = steps_of("grpo", model, tmp_path, **{"training.grpo.beta": 0, "max_kl": 0.5})
    run(steps, "common/start/model", "seed-0/tasks")
    with pytest.raises(ConfigError, match=r"beta above 0, or max_kl to null"):
        run(steps, "seed-0/grpo/train")


@pytest.mark.usefixtures("rewarded")
def test_adapters_are_trained_and_play_and_are_trained_on(model, tmp_path):
    changes = {"training.grpo.lora": 2, "training.grpo.learning_rate": 1e-2, "iterations": 1}
    steps = steps_of("grpo", model, tmp_path / "first", **changes)
    run(steps, "common/start/model", "common/heldout", "seed-0/tasks")
    run(steps, "seed-0/grpo/train", "seed-0/grpo/eval")
    made = tmp_path / "first/seed-0/grpo/train/model"
    learned = weights(made)
    assert all("lora_" in name for name in learned)
    assert any(matrix.any() for name, matrix in learned.items() if "lora_B" in name)
    found = json.loads((tmp_path / "first/seed-0/grpo/eval/result.json").read_text())
    assert found["counts"]["complete"] == 2

    # All weights, from where the adapter left them.
    changes = {"training.ppo.learning_rate": 1e-12, "iterations": 1}
    steps = steps_of("ppo", str(made), tmp_path / "second", **changes)
    run(steps, "common/start/model", "seed-0/tasks", "seed-0/ppo/train")
    folder = tmp_path / "second/seed-0/ppo/train"
    now, before = weights(folder / "model"), trained(made).state_dict()
    assert all(torch.allclose(now[name], before[name], atol=1e-6) for name in now)
    assert not equal(now, weights(Path(model)))
    assert not (folder / "base").exists()


def test_what_is_measured_is_not_what_settings_were_chosen_on(model, tmp_path):
    steps = steps_of("ppo", model, tmp_path, **{"heldout.count": 2, "heldout_first": 7})
    run(steps, "common/heldout")
    suite = json.loads((tmp_path / "common/heldout/suite.json").read_text())
    assert [task["task_id"] for task in suite["tasks"]] == [
        "price-v1-heldout-7",
        "price-v1-heldout-8",
    ]


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_grpo_reads_no_padding_and_finds_what_trl_finds(model, tmp_path, monkeypatch):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = grpo.Trainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            report_to="none",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["x"]}),
    )
    # Rows of 5, 9 and 4 ids: prompts to the left of column 6, what follows to the right.
    ids = torch.randint(3, 90, (3, 13), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros_like(ids)
    for row, (begin, end) in enumerate([(3, 8), (0, 9), (5, 9)]):
        mask[row, begin:end] = 1
    read = []
    whole = GRPOTrainer._get_per_token_logps_and_entropies

    def noted(self, network, ids, *rest, **options):
        read.append(tuple(ids.shape))
        return whole(self, network, ids, *rest, **options)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", noted)
    with torch.no_grad():
        options = {"batch_size": 1, "compute_entropy": True}
        expected = whole(trainer, trainer.model, ids, mask, 7, **options)
        found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 7, **options)
    assert read == [(1, 5), (1, 9), (1, 4)]
    for one, other in zip(found[:2], expected[:2], strict=True):
        own = mask[:, 6:].bool()
        assert one.shape == other.shape == (3, 7)
        assert torch.allclose(one[own], other[own], atol=1e-5)
        assert (one[own] != 0).all()


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS.glob("rl_*.toml")])
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_is_one(name, method):
    recipe = rl.load(name, kind=rl.Recipe)
    assert recipe.name == name
    METHODS[method].Settings.model_validate(recipe.training[method])


def test_a_server_of_vllm_writes_the_answers_where_a_recipe_says_so(model, tmp_path):
    from sotopia_gym.agents.policy import PolicyAgent
    from sotopia_gym.training.hooks import RolloutSource
    from sotopia_gym.training.rewards import Terminal

    policy = PolicyAgent.load(model, name="policy")
    source = RolloutSource(policy, [heldout()], rewards=Terminal("goal"), batch=1)
    policy.sampler = grpo.served(policy.sampler, "http://localhost:1")
    recipe = rl.load("rl_qwen2_5_7b", ["training.grpo.bfloat16=false"], kind=rl.Recipe)
    settings = grpo.Settings.model_validate(recipe.training["grpo"])
    job = rl.Run(recipe, settings, model, source, tmp_path, 0, False)
    told = grpo.arguments(job, 8, tmp_path)
    policy.close()
    assert (told.use_vllm, told.vllm_mode) == (True, "server")
    assert told.vllm_server_base_url == recipe.training["grpo"]["vllm"]
    assert told.temperature == recipe.temperature == 1.0


def heldout():
    from sotopia_gym.tasks.families import families

    return families()["price"].generate(0, "heldout")


def test_shuffled_rewards_are_the_same_ones_elsewhere():
    from sotopia_gym.training.hooks import Experience
    from tests.training.test_rows import turn

    chosen = tuple(
        made([turn(1, 0, (1,), (2,)), turn(3, 2, (3,), (4,))], (0.5, float(number)))
        for number in range(8)
    )
    experience = Experience(3, 0, 1.0, chosen, 0, 0, 0.0)
    found = rl.shuffled(experience, seed=0)
    assert sorted(each.total for each in found.trajectories) == [n + 0.5 for n in range(8)]
    assert [each.total for each in found.trajectories] != [n + 0.5 for n in range(8)]
    assert all(each.rewards[0] == 0 for each in found.trajectories)
    assert [each.turns for each in found.trajectories] == [each.turns for each in chosen]
    assert rl.shuffled(experience, seed=0) == found
    assert rl.shuffled(experience, seed=1) != found


def test_the_command_names_what_is_wrong(model, tmp_path, capsys):
    given = ["--model", model, "--out", str(tmp_path)]
    assert rl.main(
        "ppo", ppo.run, ppo.Settings, [*given, "--set", "batch=0"], config="rl_price_cpu"
    )
    assert "batch" in capsys.readouterr().err
