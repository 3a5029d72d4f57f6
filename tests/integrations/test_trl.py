"""Fine-tuning with TRL: what is trained on, resumption, adapters, and what is refused."""

import json
import shutil

import pytest

from sotopia_gym.errors import ConfigError, ModelError
from sotopia_gym.training.rows import Row
from tests.tiny_model import save_tiny_model

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")

from sotopia_gym.agents.decoding import Sampling  # noqa: E402
from sotopia_gym.agents.sampling import Sampler  # noqa: E402
from sotopia_gym.integrations import trl as module  # noqa: E402
from sotopia_gym.integrations.trl import Lora, Pair, Settings, fine_tune, prefer  # noqa: E402

FAST = Settings(
    learning_rate=1e-2,
    max_steps=4,
    batch_size=2,
    micro_batch=2,
    max_tokens=64,
    save_steps=1,
    report_to=(),
)
LORA = Lora(r=4, dropout=0.1, target_modules=("q_proj", "v_proj"))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def rows(count=6):
    """Rows of different lengths, each with two spans that are trained on."""
    made = []
    for number in range(count):
        ids = tuple(3 + (7 * number + i * i) % 200 for i in range(20 + 5 * number))
        made.append(Row(ids, tuple(8 <= i < 14 or i >= 17 for i in range(len(ids)))))
    return made


def weights(folder):
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    """Ends a run as a signal would."""


def kill_after(monkeypatch, step):
    """Have the next run end when this many updates are done and their checkpoint is written."""
    import trl
    from transformers import TrainerCallback

    class Kill(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise Killed

    whole = trl.SFTTrainer

    def trainer(*args, **kwargs):
        return whole(*args, callbacks=[Kill()], **kwargs)

    monkeypatch.setattr(trl, "SFTTrainer", trainer)


# --- the result ------------------------------------------------------------------------------


def test_the_loss_falls_and_the_folder_tells_how(folder, tmp_path):
    some = rows()
    settings = FAST.model_copy(update={"max_steps": 12, "report_to": ("tensorboard",)})
    told = fine_tune(folder, some, tmp_path / "out", settings)
    losses = [entry["loss"] for entry in told["history"]]
    assert len(losses) == told["updates"] == 12
    assert losses[-1] < losses[0] - 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_bytes()) == told
    assert told["rows"] == 6
    assert told["tokens"] == sum(len(row.ids) for row in some)
    assert told["trained_tokens"] == sum(row.trained for row in some)
    assert list((tmp_path / "out" / "tensorboard").rglob("events.out.tfevents.*"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model",
        "metrics.json",
        "tensorboard",
    }
    assert not same(weights(folder), weights(tmp_path / "out" / "model"))


def test_the_first_loss_is_that_of_the_policys_own_ids(folder, tmp_path):
    from transformers import AutoModelForCausalLM

    some = rows()
    settings = FAST.model_copy(update={"batch_size": 6, "micro_batch": 2, "max_steps": 1})
    told = fine_tune(folder, some, tmp_path, settings)
    model = AutoModelForCausalLM.from_pretrained(folder)
    total = 0.0
    with torch.no_grad():
        for row in some:
            logprobs = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
            total -= sum(
                logprobs[i - 1, row.ids[i]].item() for i, own in enumerate(row.mask) if own
            )
    expected = total / sum(row.trained for row in some)
    assert told["history"][0]["loss"] == pytest.approx(expected, abs=1e-4)


def test_what_is_not_the_policys_own_has_no_effect_of_its_own(folder, tmp_path):
    """The ids that come after the last trained one change nothing."""
    some = [Row(row.ids[:14], row.mask[:14]) for row in rows()]
    longer = [Row((*row.ids, *range(9)), (*row.mask, *[False] * 9)) for row in some]
    fine_tune(folder, some, tmp_path / "a", FAST)
    fine_tune(folder, longer, tmp_path / "b", FAST)
    one, other = weights(tmp_path / "a" / "model"), weights(tmp_path / "b" / "model")
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_equal_seeds_give_equal_weights(folder, tmp_path, activation_checkpointing):
    settings = FAST.model_copy(
        update={"lora": LORA, "activation_checkpointing": activation_checkpointing, "max_steps": 2}
    )
    found = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        fine_tune(folder, rows(), out, settings, seed=seed)
        found.append(weights(out / "model"))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_rows_of_an_update_are_as_many_as_asked_for(folder, tmp_path, monkeypatch):
    arguments = module._arguments(tmp_path, FAST.model_copy(update={"batch_size": 8}), 0, 8)
    assert arguments["per_device_train_batch_size"] == 2
    odd = FAST.model_copy(update={"batch_size": 8, "micro_batch": 3})
    arguments = module._arguments(tmp_path, odd, 0, 8)
    each, times = (arguments[f"{name}"] for name in BATCH)
    assert each * times == 8
    assert each <= 3
    import accelerate

    monkeypatch.setattr(accelerate, "PartialState", lambda: type("State", (), {"num_processes": 3}))
    with pytest.raises(ConfigError, match="batch_size is 8, expected a multiple of the 3 devices"):
        module._arguments(tmp_path, odd, 0, 8)


BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


# --- what is refused -------------------------------------------------------------------------


def test_no_rows_and_rows_that_cannot_be_trained_on_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="no rows"):
        fine_tune(folder, [], tmp_path, FAST)
    long = Row(tuple(range(65)), (True,) * 65)
    with pytest.raises(ConfigError, match="a row has 65 tokens, at most 64"):
        fine_tune(folder, [long], tmp_path, FAST)
    with pytest.raises(ConfigError, match="no id of the policy's own"):
        fine_tune(folder, [*rows(), Row((1, 2, 3), (False,) * 3)], tmp_path, FAST)
    with pytest.raises(ConfigError, match="no pairs"):
        prefer(folder, [], tmp_path, FAST)
    with pytest.raises(ModelError, match="no model could be loaded"):
        fine_tune(tmp_path / "nothing", rows(), tmp_path, FAST)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_differs_from_the_rows_stops_all(folder, tmp_path, monkeypatch):
    import trl

    whole = trl.SFTTrainer.get_train_dataloader

    def loader(self):
        for batch in whole(self):
            yield {**batch, "labels": batch["input_ids"].clone()}

    monkeypatch.setattr(trl.SFTTrainer, "get_train_dataloader", loader)
    with pytest.raises(ModelError, match="batch is not what the rows say"):
        fine_tune(folder, rows(), tmp_path, FAST)
    assert not (tmp_path / "model").exists()


def test_equal_ids_may_be_trained_on_in_different_parts(folder, tmp_path):
    (row,) = rows(1)
    other = Row(row.ids, tuple(not own for own in row.mask))
    assert fine_tune(folder, [row, other], tmp_path, FAST)["updates"] == 4


def test_a_loss_that_is_no_number_leaves_no_model(folder, tmp_path, monkeypatch):
    import trl

    step = trl.SFTTrainer.training_step

    def broken(self, *args, **kwargs):
        return step(self, *args, **kwargs) * (float("nan") if self.state.global_step else 1)

    with monkeypatch.context() as patch:
        patch.setattr(trl.SFTTrainer, "training_step", broken)
        with pytest.raises(ModelError, match="the loss became NaN"):
            fine_tune(folder, rows(), tmp_path, FAST)
    assert not list(tmp_path.rglob("*.safetensors"))
    told = fine_tune(folder, rows(), tmp_path, FAST)
    assert len(told["history"]) == 4


# --- killed, and started again ---------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_killed_run_goes_on_to_the_same_weights(folder, tmp_path, monkeypatch, lora):
    settings = FAST.model_copy(update={"lora": lora, "max_steps": 5})
    expected = fine_tune(folder, rows(), tmp_path / "whole", settings, seed=3)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            fine_tune(folder, rows(), tmp_path / "killed", settings, seed=3)
    assert not (tmp_path / "killed" / "model").exists()
    told = fine_tune(folder, rows(), tmp_path / "killed", settings, seed=3)
    losses, again = ([e["loss"] for e in run["history"]] for run in (expected, told))
    assert losses == again
    assert same(*(weights(tmp_path / name / "model") for name in ("whole", "killed")))


@pytest.mark.parametrize(("name", "lora"), [("_save", LORA), ("write_whole", None)])
def test_a_run_killed_at_its_very_end_makes_no_further_update(
    folder, tmp_path, monkeypatch, name, lora
):
    def killed(*args, **kwargs):
        raise Killed

    settings = FAST.model_copy(update={"lora": lora, "schedule": "constant"})
    expected = fine_tune(folder, rows(), tmp_path / "whole", settings)
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(Killed):
            fine_tune(folder, rows(), out, settings)
    assert fine_tune(folder, rows(), out, settings) == expected
    for _ in range(2):
        assert same(weights(out / "model"), weights(tmp_path / "whole" / "model"))
        assert {path.name for path in out.iterdir()} == {"model", "metrics.json"}
        fine_tune(folder, rows(), out, settings)  # anew, over what is there


def test_a_checkpoint_that_was_being_written_is_passed_over(folder, tmp_path, monkeypatch):
    settings = FAST.model_copy(update={"max_steps": 3})
    fine_tune(folder, rows(), tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            fine_tune(folder, rows(), tmp_path / "killed", settings)
    torn = tmp_path / "killed" / "checkpoints" / "checkpoint-2"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"{")
    fine_tune(folder, rows(), tmp_path / "killed", settings)
    assert same(*(weights(tmp_path / name / "model") for name in ("whole", "killed")))


# --- adapters --------------------------------------------------------------------------------


def logits(path):
    sampler = Sampler.load(str(path), sampling=Sampling(max_tokens=4))
    with torch.inference_mode():
        found = sampler.model(torch.tensor([[5, 6, 7, 8]]).to(sampler.model.device)).logits
    answer = sampler.submit([5, 6, 7], seed="", episode=0).result()
    sampler.close()
    assert answer.ids
    return found


@pytest.mark.parametrize("second", [None, LORA])
def test_an_adapter_plays_and_is_trained_further(folder, tmp_path, second):
    settings = FAST.model_copy(update={"lora": LORA, "learning_rate": 1e-1})
    fine_tune(folder, rows(), tmp_path / "1", settings)
    first = tmp_path / "1" / "model"
    assert (first / "adapter_config.json").is_file()
    adapted = logits(first)
    assert not torch.allclose(adapted, logits(folder), atol=1e-2)

    tiny = settings.model_copy(update={"lora": second, "learning_rate": 1e-12, "max_steps": 1})
    fine_tune(first, rows(), tmp_path / "2", tiny)
    # With next to no change it is still the adapted model, not its base.
    torch.testing.assert_close(logits(tmp_path / "2" / "model"), adapted, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "2" / "base").is_dir() == (second is not None)
    shutil.rmtree(tmp_path / "1")
    assert logits(tmp_path / "2" / "model").isfinite().all()


def test_an_adapter_trained_further_goes_on_where_it_was_killed(folder, tmp_path, monkeypatch):
    settings = FAST.model_copy(update={"lora": LORA})
    fine_tune(folder, rows(), tmp_path / "1", settings)
    first = tmp_path / "1" / "model"
    fine_tune(first, rows(), tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            fine_tune(first, rows(), tmp_path / "killed", settings)
    fine_tune(first, rows(), tmp_path / "killed", settings)
    for part in ("base", "model"):
        assert same(*(weights(tmp_path / name / part) for name in ("whole", "killed")))


# --- preferences -----------------------------------------------------------------------------


def pairs():
    asked = [{"role": "system", "content": "Play."}, {"role": "user", "content": "$5?"}]
    made = []
    for better, worse in (("Yes.", "Never!"), ("Deal.", "Go away.")):
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (better, worse))
        made.append(Pair(prompt=asked, chosen=chosen, rejected=rejected))
    return made


def margin(path):
    """How much more probable the better answers are than the worse ones, in nats."""
    sampler = Sampler.load(str(path))
    template, total = sampler.template, 0.0
    for pair in pairs():
        prompt = template.opening([dict(message) for message in pair.prompt])
        for sign, (message,) in ((1, pair.chosen), (-1, pair.rejected)):
            answer = template.answer(message["content"])
            with torch.inference_mode():
                ids = torch.tensor([[*prompt, *answer]]).to(sampler.model.device)
                found = sampler.model(ids).logits[0].log_softmax(-1)
            for position, id_ in enumerate(answer, start=len(prompt) - 1):
                total += sign * found[position, id_].item()
    return total


@pytest.mark.parametrize("lora", [None, LORA])
def test_two_updates_shift_the_preference(folder, tmp_path, lora):
    settings = FAST.model_copy(update={"max_tokens": 128, "max_steps": 2, "lora": lora})
    told = prefer(folder, pairs(), tmp_path, settings)
    assert (told["pairs"], told["updates"]) == (2, 2)
    assert told["history"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert margin(tmp_path / "model") > margin(folder) + 0.1


def test_a_pair_too_long_is_refused_instead_of_cut(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"a pair has \d\d tokens, at most 32"):
        prefer(folder, pairs(), tmp_path, FAST.model_copy(update={"max_tokens": 32}))
