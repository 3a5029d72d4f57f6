"""SOTOPIA-pi: which steps there are, what each leaves, and what a kill or another size changes."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from baselines.recipe import CONFIGS, load
from baselines.sotopia_pi import main, pipeline
from sotopia_gym.episodes.store import latest
from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.suites import load_suite
from tests import fault_server as faults
from tests.tiny_model import save_tiny_model

ROOT = Path(__file__).parents[2]
FULL_SIZE = sorted(path.stem for path in CONFIGS.glob("sotopia_pi*7b*.toml"))


def tiny(model, *changes):
    """What makes the quick recipe one of a random model, of a few seconds."""
    settings = {
        "model.base": model,
        "model.max_tokens": 64,
        "max_turns": 4,
        "stages.bc.training.max_tokens": 8192,
        "stages.sr.training.max_tokens": 8192,
        "stages.bc.training.report_to": [],
        "stages.sr.training.report_to": [],
        "stages.bc.training.save_steps": 1,
        "stages.sr.training.save_steps": 1,
    }
    return [*(f"{key}={json.dumps(value)}" for key, value in settings.items()), *changes]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
    pytest.importorskip("trl", reason="the extra 'train' is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield str(save_tiny_model(tmp_path_factory.mktemp("tiny")))
    torch.set_num_threads(before)


def steps_of(*arms, name="sotopia_pi_cpu", seed=3):
    changes = [f"arms={json.dumps(['base', *arms])}"]
    found = pipeline(load(name, changes), seed, Path("runs"))
    return {step.name: step.needs for step in found.steps.values()}


# --- Which steps


def test_behaviour_cloning_needs_the_expert_and_the_base():
    steps = steps_of("bc")
    assert list(steps) == [
        "common/heldout",
        "common/model",
        "common/floors",
        "seed-3/tasks",
        "seed-3/expert",
        "common/base/eval",
        "seed-3/bc/data",
        "seed-3/bc/train",
        "seed-3/bc/eval",
        "seed-3/report",
    ]
    assert steps["seed-3/expert"] == ("seed-3/tasks",)
    assert steps["seed-3/bc/data"] == ("seed-3/expert", "common/model")
    assert steps["seed-3/bc/train"] == ("seed-3/bc/data", "common/model")
    assert steps["seed-3/bc/eval"] == ("common/heldout", "seed-3/bc/train")
    assert steps["seed-3/report"] == ("common/base/eval", "seed-3/bc/eval", "common/floors")


def test_self_reinforcement_plays_with_the_model_that_it_makes_better():
    steps = steps_of("sr", "bc+sr", "bc+sr+sr")
    assert steps["seed-3/base.own"] == ("seed-3/tasks", "common/model")
    assert steps["seed-3/sr/train"] == ("seed-3/sr/data", "common/model")
    assert steps["seed-3/bc.own"] == ("seed-3/tasks", "seed-3/bc/train")
    assert steps["seed-3/bc+sr/data"] == ("seed-3/bc.own", "seed-3/bc/train")
    assert steps["seed-3/bc+sr.own"] == ("seed-3/tasks", "seed-3/bc+sr/train")
    assert steps["seed-3/bc+sr+sr/train"] == ("seed-3/bc+sr+sr/data", "seed-3/bc+sr/train")
    # What an arm goes on from is made, but not measured unless it is an arm itself.
    assert "seed-3/bc/eval" not in steps


def test_the_expert_s_episodes_serve_whatever_they_are_learned_by():
    steps = steps_of("bc", "sr+bc")
    assert steps["seed-3/sr+bc/data"] == ("seed-3/expert", "seed-3/sr/train")
    assert steps["seed-3/sr+bc/train"] == ("seed-3/sr+bc/data", "seed-3/sr/train")
    assert sum(name.endswith("expert") for name in steps) == 1


def test_every_arm_of_the_full_size_has_its_steps():
    recipe = load("sotopia_pi_mistral_7b")
    steps = pipeline(recipe, 0, Path("runs")).steps
    for arm in recipe.arms[1:]:
        assert {f"seed-0/{arm}/{part}" for part in ("data", "train", "eval")} <= set(steps)


def test_a_second_evaluation_shares_all_that_is_trained():
    hard, everything = (
        pipeline(load(name), 0, Path("runs")).steps
        for name in ("sotopia_pi_mistral_7b", "sotopia_pi_mistral_7b_all")
    )
    shared = {name for name in hard if name.endswith(("/train", "/data", "/tasks", "/expert"))}
    assert shared
    for name in shared:
        assert hard[name].settings == everything[name].settings
        assert hard[name].needs == everything[name].needs
    others = {"common/heldout-all", "common/base/eval-all", "seed-0/bc/eval-all"}
    assert others < set(everything) - set(hard)
    assert list(everything)[-1] == "seed-0/report-all"


def test_what_depends_on_nothing_that_was_changed_keeps_its_settings():
    one, other = (
        pipeline(load("sotopia_pi_cpu", changes), 0, Path("runs")).steps
        for changes in ((), ("stages.sr.training.epochs=2",))
    )
    differing = {name for name in one if one[name].settings != other[name].settings}
    assert differing == {"seed-0/sr/train", "seed-0/bc+sr/train"}


# --- The command line


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_dry_run_needs_neither_network_nor_models_nor_suites(name, capsys, monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("a dry run wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("SOTOPIA_GYM_HOME", str(tmp_path))
    assert main([f"--config={name}", "--dry-run", f"--out={tmp_path / 'run'}"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "seed-0/expert 1,000 episodes, 21,000 calls" in told
    assert "$" in told.split("left, one step at a time")[1].split("These are estimates")[0]
    assert "runs/sotopia_pi_tasks.json is not on this machine" in told
    assert not (tmp_path / "run").exists()


def test_a_step_is_named_in_short_or_in_full(capsys, tmp_path):
    for name in ("seed-0/bc/train", "bc/train", "bc"):
        assert main(["--list", f"--until={name}", f"--out={tmp_path}"]) == 0
        assert capsys.readouterr().out.split()[-1] == "seed-0/bc/train"
    assert main(["--list", f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out.split()[-1] == "seed-0/report"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config=sotopia_pi_cpus"], "Did you mean 'sotopia_pi_cpu'?"),
        (["--until=bc/trian"], "no step 'bc/trian'. Did you mean 'bc/train'?"),
        (["--only=seed-0/bc/data"], "needs seed-0/expert, common/model, which is not done"),
        (["--set=max_turns=1"], "max_turns"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(arguments, said, capsys, tmp_path):
    assert main([*arguments, f"--out={tmp_path}"]) == 1
    assert said in capsys.readouterr().err


def only(model, out, step, *changes, config="sotopia_pi_quick"):
    sets = [f"--set={change}" for change in tiny(model, *changes)]
    return main([f"--config={config}", f"--only={step}", f"--out={out}", *sets])


def test_one_step_at_a_time_from_the_command_line(model, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert only(model, tmp_path, "common/heldout") == 0
    assert only(model, tmp_path, "tasks") == 0
    assert (tmp_path / "seed-0" / "tasks" / "manifest.json").is_file()
    assert only(model, tmp_path, "tasks", "train.count=3") == 1
    assert "another settings 'count'" in capsys.readouterr().err


# --- What the steps leave


def run(recipe, out, *names, seed=0):
    """Do these steps, or all, in this process; returns their folder."""
    steps = pipeline(recipe, seed, out)
    for step in steps.up_to(names or [list(steps.steps)[-1]]):
        steps.run(step)
    return out


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def manifest(out, step):
    return json.loads((out / step / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def done(model, tmp_path_factory):
    """The whole recipe, with a second round and the other order."""
    arms = 'arms=["base","sr","bc","bc+sr","sr+bc","bc+sr+sr"]'
    recipe = load("sotopia_pi_quick", tiny(model, arms))
    return run(recipe, tmp_path_factory.mktemp("run"))


def test_tasks_to_learn_on_are_others_with_every_seed(model, tmp_path):
    recipe = load("sotopia_pi_quick", tiny(model))
    ids = []
    for seed in (0, 1):
        out = run(recipe, tmp_path, f"seed-{seed}/tasks", seed=seed)
        ids.append({task.task_id for task in load_suite(out / f"seed-{seed}/tasks/suite.json")})
    heldout = run(recipe, tmp_path, "common/heldout") / "common/heldout/suite.json"
    assert not ids[0] & ids[1]
    assert not (ids[0] | ids[1]) & {task.task_id for task in load_suite(heldout)}


def test_rounds_may_have_tasks_of_their_own(model, tmp_path):
    changes = ("collections.expert.tasks=1", "collections.own.skip=1", "collections.own.tasks=1")
    recipe = load("sotopia_pi_quick", tiny(model, *changes))
    out = run(recipe, tmp_path, "seed-0/expert", "seed-0/base.own")
    played = [
        {episode.task.task_id for episode in latest(out / "seed-0" / name / "episodes.jsonl")}
        for name in ("expert", "base.own")
    ]
    assert [len(ids) for ids in played] == [2, 2]  # one of each family
    assert not played[0] & played[1]


def test_more_tasks_than_there_are_are_refused(model, tmp_path):
    recipe = load("sotopia_pi_quick", tiny(model, "collections.expert.tasks=9"))
    with pytest.raises(ConfigError, match=r"wants 9 tasks .* but there are 2"):
        run(recipe, tmp_path, "seed-0/expert")


def test_episodes_are_played_by_whom_the_recipe_says(done):
    expert = list(latest(done / "seed-0/expert/episodes.jsonl"))
    assert len(expert) == 4 * 2 * 2
    assert {episode.agents[episode.focal] for episode in expert} == {"scripted/expert"}
    for node in ("base", "bc", "bc+sr"):
        own = list(latest(done / f"seed-0/{node}.own/episodes.jsonl"))
        assert len(own) == 4 * 2
        assert {e.agents[e.focal] for e in own} == {f"sotopia_pi_quick/{node}.own"}
        assert all(e.tokens[e.focal] for e in own)
    assert manifest(done, "seed-0/expert")["episodes"] == {
        "complete": 16,
        "unscored": 0,
        "failed": 0,
    }


def test_what_was_kept_is_there_as_rows_and_as_examples(done):
    folder = done / "seed-0/bc/data"
    rows = lines(folder / "data.jsonl")
    told = manifest(done, "seed-0/bc/data")
    assert len(rows) == told["rows"] == told["kept"]  # packed: an episode is a row
    assert sum(len(row["ids"]) for row in rows) == told["tokens"]
    trained = sum(end - begin for row in rows for begin, end in row["own"])
    assert trained == told["trained_tokens"] > 0
    examples = lines(folder / "examples.jsonl")
    assert len(examples) == sum(len(row["own"]) for row in rows)
    assert examples[0]["completion"][0]["role"] == "assistant"
    report = json.loads((folder / "filter.json").read_text())
    assert report["kept"] == told["kept"] < report["candidates"]
    assert "behaviour_cloning" in (folder / "filter.txt").read_text()


def test_training_says_what_it_trained_on(done):
    for node in ("sr", "bc", "bc+sr", "sr+bc", "bc+sr+sr"):
        data, trained = (manifest(done, f"seed-0/{node}/{part}") for part in ("data", "train"))
        assert trained["rows"] == data["rows"]
        assert trained["trained_tokens"] == data["trained_tokens"]
        assert trained["updates"] >= 1
        assert "model/config.json" in trained["outputs"]
        assert not (done / f"seed-0/{node}/train/checkpoints").exists()


def test_every_arm_and_floor_is_measured_on_the_same_episodes(done):
    found = json.loads((done / "seed-0/report/report.json").read_text())
    arms = {"base", "sr", "bc", "bc+sr", "sr+bc", "bc+sr+sr"}
    assert set(found["arms"]) == arms | {"silent", "random", "accepting", "expert"}
    assert {measured["scored"] for measured in found["arms"].values()} == {4}
    assert {"bc - base", "bc+sr - bc", "sr+bc - sr", "bc+sr+sr - bc+sr"} <= set(
        found["differences"]
    )
    assert "bc+sr+sr" in (done / "seed-0/report/report.txt").read_text()


def test_nothing_is_done_twice(model, done):
    arms = 'arms=["base","sr","bc","bc+sr","sr+bc","bc+sr+sr"]'
    steps = pipeline(load("sotopia_pi_quick", tiny(model, arms)), 0, done)
    assert all(steps.done(step) for step in steps.steps.values())
    assert not any(steps.run(step) for step in steps.steps.values())


def test_an_arm_may_be_left_out_later(model, done):
    steps = pipeline(load("sotopia_pi_quick", tiny(model)), 0, done)
    assert [step.name for step in steps.steps.values() if not steps.done(step)] == ["seed-0/report"]


def test_training_that_was_killed_after_its_last_word_is_not_repeated(model, done, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(done, out)
    (out / "seed-0/bc/train/manifest.json").unlink()
    weights = out / "seed-0/bc/train/model/model.safetensors"
    before = weights.stat().st_mtime_ns
    recipe = load("sotopia_pi_quick", tiny(model))
    run(recipe, out, "seed-0/bc/train")
    assert weights.stat().st_mtime_ns == before
    again, first = (manifest(folder, "seed-0/bc/train") for folder in (out, done))
    assert again["outputs"] == first["outputs"]


def test_pairs_of_the_best_and_the_worst_are_preferred(model, tmp_path):
    stage = {
        "collection": "several",
        "method": "dpo",
        "gap": 0.5,
        "training": {"max_steps": 2, "batch_size": 1, "micro_batch": 1, "max_tokens": 8192}
        | {"report_to": []},
    }
    collection = {"agent": "scripted/random", "partners": ["scripted/generous"], "repetitions": 6}
    changes = [
        'arms=["base","dpo"]',
        f"stages.dpo={json.dumps(stage)}",
        f"collections.several={json.dumps(collection)}",
        "max_turns=12",
    ]
    recipe = load("sotopia_pi_quick", tiny(model, *changes))
    out = run(recipe, tmp_path, "seed-0/dpo/train")
    pairs = lines(out / "seed-0/dpo/data/data.jsonl")
    assert len(pairs) == manifest(out, "seed-0/dpo/data")["pairs"] > 0
    for pair in pairs:
        assert set(pair) == {"prompt", "chosen", "rejected"}
        assert pair["chosen"] != pair["rejected"]
        assert pair["prompt"][-1]["role"] == "user"
    told = manifest(out, "seed-0/dpo/train")
    assert told["pairs"] == len(pairs)
    assert told["updates"] == 2


def test_the_best_of_n_are_imitated(model, tmp_path):
    training = json.dumps({"max_tokens": 8192, "report_to": [], "max_steps": 1, "batch_size": 2})
    changes = [
        *("collections.several.tasks=1", "collections.several.repetitions=3"),
        f"stages.bon.training={training}",
        'train={"families":["joint_choice"],"count":1}',
        'arms=["base","bon"]',
    ]
    recipe = load("sotopia_pi_best_of_n", tiny(model, *changes))
    out = run(recipe, tmp_path, "seed-0/bon/train")
    report = json.loads((out / "seed-0/bon/data/filter.json").read_text())
    assert (report["candidates"], report["kept"]) == (6, 2)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("sotopia_pi_mistral_7b", "Mistral"), ("sotopia_pi_qwen2_5_7b_all", "Qwen2")],
)
def test_the_full_size_recipe_trains_a_small_model_of_its_family(
    model, name, architecture, tmp_path
):
    base = save_tiny_model(tmp_path / "model", architecture=architecture)
    fast = {"max_steps": 2, "max_tokens": 8192, "dtype": "float32", "report_to": []}
    lora = {"r": 8, "alpha": 16, "dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
    fast |= {"lora": lora, "batch_size": 4, "micro_batch": 1, "activation_checkpointing": True}
    families = {"families": ["joint_choice"], "count": 3}
    changes = {
        "model.base": str(base),
        "model.dtype": "float32",
        "model.context": 8192,
        "model.max_tokens": 64,
        "judge": "outcome",
        "max_turns": 4,
        "train": families,
        "heldout": families | {"count": 1},
        "collections.expert": {"agent": "scripted/expert", "tasks": 1},
        "collections.own": {"tasks": 2, "skip": 1},
        "stages.bc.training": fast,
        "stages.sr.training": fast,
        "evaluation.partners": ["scripted/stubborn"],
        "arms": ["base", "bc", "bc+sr"],
    }
    recipe = load(name, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
    out = run(recipe, tmp_path / "run")
    for node in ("bc", "bc+sr"):
        told = manifest(out, f"seed-0/{node}/train")
        assert told["updates"] == 2
        assert "model/adapter_config.json" in told["outputs"]
    # Each turn is a row, and of the expert's own episodes both seats are learned from.
    (episode,) = latest(out / "seed-0/expert/episodes.jsonl")
    assert manifest(out, "seed-0/bc/data")["rows"] == len(episode.events)
    (report,) = out.glob("seed-0/report*/report.json")
    assert set(json.loads(report.read_text())["arms"]) == {"base", "bc", "bc+sr"}


def test_an_expert_may_be_a_model_behind_an_address(model, fault_server, tmp_path):
    fault_server.default = faults.ok('{"action_type": "speak", "argument": "Shall we agree?"}')
    spec = fault_server.spec("expert") + "?prompt=sotopia"
    recipe = load("sotopia_pi_quick", tiny(model, f"collections.expert.agent={spec}"))
    out = run(recipe, tmp_path, "seed-0/bc/train")
    told = manifest(out, "seed-0/expert")
    assert told["usage"]["requests"] == fault_server.count > 0
    assert told["usage"]["cost"] is None  # nobody knows its price
    assert told["episodes"]["complete"] == 16
    assert "Shall we agree?" in (out / "seed-0/bc/data/examples.jsonl").read_text()
    assert manifest(out, "seed-0/bc/train")["updates"] >= 1


def test_episodes_whose_player_failed_are_tried_again(model, fault_server, tmp_path):
    fault_server.script.extend([faults.error(400)] * 3)
    fault_server.default = faults.ok('{"action_type": "speak", "argument": "Hello."}')
    changes = (f"collections.expert.agent={fault_server.spec()}", "concurrency=1")
    out = run(load("sotopia_pi_quick", tiny(model, *changes)), tmp_path, "seed-0/expert")
    assert manifest(out, "seed-0/expert")["episodes"] == {
        "complete": 16,
        "unscored": 0,
        "failed": 0,
    }


# --- In processes of their own


def start(model, out, *changes):
    command = [sys.executable, "-m", "baselines.sotopia_pi", "--config=sotopia_pi_quick"]
    command += [f"--out={out}", *(f"--set={change}" for change in tiny(model, *changes))]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    told, _ = process.communicate()
    assert process.returncode == 0, told
    return told


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(model, tmp_path):
    changes = ('train={"families":["joint_choice","donation"],"count":4}', "max_turns=6")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    began = time.monotonic()
    told = finish(start(model, whole, *changes))
    assert "goal on held-out tasks" in told
    seconds = time.monotonic() - began
    rng, kills = random.Random(0), 0
    for _ in range(6):
        process = start(model, torn, *changes)
        try:
            process.wait(timeout=rng.uniform(0.1, 0.5) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 3
    finish(start(model, torn, *changes))
    report = "seed-0/report/report.json"
    assert (torn / report).read_bytes() == (whole / report).read_bytes()
    trained = "seed-0/bc+sr/train"
    assert manifest(torn, trained)["updates"] == manifest(whole, trained)["updates"]


@pytest.mark.slow
def test_training_under_accelerate_gives_what_training_alone_gives(model, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines=1"]
    launcher += ["--num_processes=1", "--mixed_precision=no", "--dynamo_backend=no"]
    alone, launched = (
        run(load("sotopia_pi_quick", tiny(model, *changes)), out, "seed-0/bc/train")
        for out, changes in (
            (tmp_path / "alone", ()),
            (tmp_path / "launched", (f"launch={json.dumps(launcher)}",)),
        )
    )
    weights = "model/model.safetensors"
    one, other = (manifest(out, "seed-0/bc/train") for out in (alone, launched))
    assert one["updates"] == other["updates"]
    assert one["outputs"][weights] == other["outputs"][weights]


@pytest.mark.slow
@pytest.mark.model
def test_the_quick_recipe_completes_with_the_embedded_model(tmp_path):
    command = [sys.executable, "-m", "baselines.sotopia_pi", "--config=sotopia_pi_quick"]
    done = subprocess.run(
        [*command, f"--out={tmp_path}"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "bc+sr" in done.stdout
    found = json.loads((tmp_path / "seed-0/report/report.json").read_text())
    assert all(measured["scored"] == 4 for measured in found["arms"].values())
