"""Fine-tuning with TRL: on rows of token ids, or on pairs of a better and a worse answer.

What is trained on is made here, token for token; TRL, transformers, PEFT and accelerate do the
rest. Both functions may run under ``accelerate launch``.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sotopia_gym.errors import ConfigError, ModelError, missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.llm import convert
from sotopia_gym.training.rows import IGNORED, Row

MODEL: Final = "model"
METRICS: Final = "metrics.json"
BASE: Final = "base"
CHECKPOINTS: Final = "checkpoints"
_LOGS: Final = "tensorboard"


class Lora(BaseModel):
    """Low-rank adapters in place of all weights (Hu et al. 2021).

    Attributes:
        r: Rank.
        alpha: Scale; the update is multiplied by ``alpha / r``.
        dropout: Dropout before the adapters, 0 to below 1.
        target_modules: Names of the linear layers that get one; ``"all-linear"`` for all of them.
        quantised: Whether the frozen weights are in 4 bits, NF4 (QLoRA, Dettmers et al. 2023); it
            needs bitsandbytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=16, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = ("q_proj", "v_proj")
    quantised: bool = False


class Settings(BaseModel):
    """How a model is fine-tuned.

    Attributes:
        learning_rate: Largest learning rate.
        epochs: How often all rows are seen.
        max_steps: Updates after which it ends, whatever ``epochs`` says; None for no limit.
        batch_size: Rows of one update, on all devices together.
        micro_batch: Most rows that a device reads at a time.
        schedule: How the learning rate falls after the warm-up.
        warmup: Share of all updates in which it rises.
        weight_decay: Weight decay of AdamW.
        max_grad_norm: Norm that gradients are clipped to.
        max_tokens: Longest row, or prompt with one of its answers, in tokens.
        dtype: Precision of the weights, and of the computation.
        lora: Adapters; None trains all weights.
        activation_checkpointing: Whether activations are computed again instead of kept.
        beta: How closely a model that is trained on pairs stays to what it was (DPO).
        save_steps: Updates between checkpoints, from which a killed run goes on.
        report_to: Where metrics go beside the file, e.g. ``"tensorboard"``, ``"wandb"``,
            ``"trackio"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=1e-4, gt=0)
    epochs: float = Field(default=1, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=8, ge=1)
    micro_batch: int = Field(default=4, ge=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=2048, ge=16)
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: Lora | None = None
    activation_checkpointing: bool = False
    beta: float = Field(default=0.1, gt=0)
    save_steps: int = Field(default=20, ge=1)
    report_to: tuple[str, ...] = ("tensorboard",)


class Pair(BaseModel):
    """Two answers to one prompt, as messages.

    Attributes:
        prompt: The chat that asked.
        chosen: The better answer.
        rejected: The worse one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: tuple[Mapping[str, str], ...]
    chosen: tuple[Mapping[str, str], ...]
    rejected: tuple[Mapping[str, str], ...]


def fine_tune(
    model: Path | str, rows: Sequence[Row], out: Path | str, settings: Settings, *, seed: int = 0
) -> dict[str, Any]:
    """Fine-tune a model with the loss on the policy's own ids only.

    A run that was killed goes on from its last checkpoint when it is called again in the same way.

    Args:
        model: A folder that ``save_pretrained`` wrote, of a model, or of an adapter of peft, which
            is merged into its base; or the name of a model on the hub.
        rows: What is trained on.
        out: Folder for the result: the model in ``model/``, with its tokenizer; ``metrics.json``;
            logs for TensorBoard in ``tensorboard/``. Where an adapter is trained that follows on
            another, the model that it belongs to is in ``base/``.
        settings: How.
        seed: Seed of the order of the rows, and of dropout.

    Returns:
        What is in ``metrics.json``: rows, tokens, trained tokens, updates, and a history of the
        loss in nats a token.

    Raises:
        ConfigError: If there are no rows, one is longer than ``max_tokens``, or has nothing to
            train on; or if ``batch_size`` is no multiple of the number of devices.
        ModelError: If TRL would train on something else than the rows say, or the loss is no
            number; no model is kept then.
        MissingDependencyError: If the extra ``train``, or bitsandbytes, is not installed.
    """
    _check(rows, settings)
    trl = _trl()
    from datasets import Dataset

    folder = Path(out)
    arguments = _arguments(folder, settings, seed, len(rows))
    start = whole_model(model, folder)
    data = Dataset.from_list([{"input_ids": list(r.ids), "labels": r.labels} for r in rows])
    trainer = trl.SFTTrainer(
        model=_model(start, settings),
        args=trl.SFTConfig(max_length=None, **arguments),
        train_dataset=data,
        processing_class=_tokenizer(start),
        peft_config=_peft(settings),
    )
    _check_labels(trainer, rows)
    told = {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "trained_tokens": sum(row.trained for row in rows),
    }
    return _trained(trainer, folder, told)


def prefer(
    model: Path | str, pairs: Sequence[Pair], out: Path | str, settings: Settings, *, seed: int = 0
) -> dict[str, Any]:
    """Train a model to prefer the better answer of each pair (DPO, Rafailov et al. 2023).

    Args:
        model: As for :func:`fine_tune`.
        pairs: What is trained on.
        out: As for :func:`fine_tune`.
        settings: How.
        seed: Seed of the order of the pairs, and of dropout.

    Returns:
        What is in ``metrics.json``: pairs, updates, and a history of the loss.

    Raises:
        ConfigError: If there are no pairs, or one is longer than ``max_tokens``; or if
            ``batch_size`` is no multiple of the number of devices.
        ModelError: If the loss is no number; no model is kept then.
        MissingDependencyError: If the extra ``train``, or bitsandbytes, is not installed.
    """
    if not pairs:
        raise ConfigError("there are no pairs to train on; keep more episodes, or play more.")
    trl = _trl()
    from datasets import Dataset

    folder = Path(out)
    arguments = _arguments(folder, settings, seed, len(pairs))
    tokenizer = _tokenizer(model)
    _check_length(max(_length(pair, tokenizer) for pair in pairs), "pair", settings)
    start = whole_model(model, folder)
    trainer = trl.DPOTrainer(
        model=_model(start, settings),
        args=trl.DPOConfig(max_length=settings.max_tokens, beta=settings.beta, **arguments),
        train_dataset=Dataset.from_list([pair.model_dump() for pair in pairs]),
        processing_class=tokenizer,
        peft_config=_peft(settings),
    )
    return _trained(trainer, folder, {"pairs": len(pairs)})


def whole_model(model: Path | str, folder: Path) -> Path | str:
    """Where the model is that training starts from; an adapter is merged into its base first.

    Args:
        model: A folder of a model or of an adapter of peft, or the name of a model on the hub.
        folder: The folder of the run; a merged model is in ``base/`` of it.
    """
    if not convert.is_adapter(model):
        return model
    import accelerate

    base, state = folder / BASE, accelerate.PartialState()
    with state.main_process_first():
        goes_on = base.exists() and (folder / CHECKPOINTS).is_dir()
        if state.is_main_process and not goes_on:
            _save(convert.trained(Path(model)), convert.tokenizer(model), base)
    return base


def last_checkpoint(checkpoints: Path) -> tuple[str | None, Any]:
    """The newest checkpoint that is whole, and its state, which is written last; or twice None.

    Args:
        checkpoints: The ``output_dir`` of a trainer of transformers.
    """
    from transformers.trainer_callback import TrainerState

    found = {int(path.name.rpartition("-")[2]): path for path in checkpoints.glob("checkpoint-*")}
    for _, path in sorted(found.items(), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            return str(path), TrainerState.load_from_json(str(path / "trainer_state.json"))
    return None, None


def go_on(trainer: Any, checkpoints: Path) -> None:
    """Train from the last checkpoint that is whole, if there is one.

    Args:
        trainer: A trainer of transformers or TRL.
        checkpoints: Its ``output_dir``.
    """
    last, state = last_checkpoint(checkpoints)
    if state is not None and state.global_step >= state.max_steps:
        # It was killed after its last update; from here transformers would make one more.
        trainer._load_from_checkpoint(last)
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=last)


# --- inside


def _check(rows: Sequence[Row], settings: Settings) -> None:
    if not rows:
        raise ConfigError("there are no rows to train on; keep more episodes, or play more.")
    _check_length(max(len(row.ids) for row in rows), "row", settings)
    if not all(row.trained for row in rows):
        raise ConfigError("a row has no id of the policy's own to train on; leave it out.")


def _check_length(longest: int, what: str, settings: Settings) -> None:
    if longest > settings.max_tokens:
        raise ConfigError(
            f"a {what} has {longest} tokens, at most {settings.max_tokens} may be trained on "
            f"(max_tokens). Make {what}s with this limit, or raise it."
        )


def _length(pair: Pair, tokenizer: Any) -> int:
    """Tokens of the prompt and the longer of the two answers."""
    chats = ([dict(m) for m in (*pair.prompt, *end)] for end in (pair.chosen, pair.rejected))
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    return max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)


def _arguments(folder: Path, settings: Settings, seed: int, count: int) -> dict[str, Any]:
    """The arguments that TRL's trainers share."""
    import accelerate
    import torch

    devices = accelerate.PartialState().num_processes
    each, rest = divmod(settings.batch_size, devices)
    if rest:
        raise ConfigError(
            f"batch_size is {settings.batch_size}, expected a multiple of the {devices} devices."
        )
    micro = max(n for n in range(1, min(settings.micro_batch, each) + 1) if each % n == 0)
    on_gpu = torch.cuda.is_available()
    updates = settings.max_steps or max(1, round(settings.epochs * count / settings.batch_size))
    logs = [name for name in settings.report_to if name != "none"]
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": each // micro,
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": round(settings.warmup * updates),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.dtype == "bfloat16" and on_gpu,
        "use_cpu": not on_gpu,
        "activation_checkpointing": settings.activation_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it logs a loss of 0 in place of NaN
        "save_steps": settings.save_steps,
        "save_total_limit": 1,
        "report_to": logs or "none",
        "seed": seed,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def _check_labels(trainer: Any, rows: Sequence[Row]) -> None:
    """The first batch must be, token for token, rows as they were made."""
    batch = next(iter(trainer.get_train_dataloader()))
    known = {(row.ids, tuple(row.labels)) for row in rows}
    pairs = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
    for (ids, labels), seen in zip(pairs, batch["attention_mask"].tolist(), strict=True):
        length = sum(seen)
        row = tuple(ids[:length]), tuple(labels[:length])
        if row not in known or set(labels[length:]) - {IGNORED}:
            raise ModelError(
                "the trainer's batch is not what the rows say: its labels would train on other "
                "ids than the policy's own. This version of TRL does not fit; use the one that "
                "constraints.txt names."
            )


def _trained(trainer: Any, folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Train, from the last checkpoint if there is one, and write model and metrics."""
    from transformers.integrations import TensorBoardCallback

    checkpoints = folder / CHECKPOINTS
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(folder / _LOGS)  # by default it is among the checkpoints
    go_on(trainer, checkpoints)
    history = [
        {k: v for k, v in entry.items() if isinstance(v, int | float)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    if not all(math.isfinite(entry["loss"]) for entry in history):
        # Whoever tries again with other settings must not go on from here.
        shutil.rmtree(checkpoints, ignore_errors=True)
        raise ModelError(
            f"the loss became NaN in {folder}; no model was kept. Lower the learning rate, or use "
            "float32."
        )
    result = {**told, "updates": trainer.state.global_step, "history": history}
    if trainer.is_world_process_zero():
        _save(trainer.model, trainer.processing_class, folder / MODEL)
        write_whole(folder / METRICS, [json.dumps(result, indent=1).encode() + b"\n"])
        shutil.rmtree(checkpoints, ignore_errors=True)
        if not convert.is_adapter(folder / MODEL):
            shutil.rmtree(folder / BASE, ignore_errors=True)
    return result


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model; a folder that is there is whole."""
    unfinished, former = (folder.with_name(f".{folder.name}{end}") for end in ("", ".former"))
    for path in (unfinished, former):
        shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    if folder.exists():  # a run that was killed right after, or is made anew
        folder.rename(former)
    unfinished.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def _trl() -> Any:
    try:
        import datasets  # noqa: F401  # only whether it is there
        import trl
    except ImportError as error:
        raise missing_extra(error.name or "trl", "train", "fine-tuning") from error
    return trl


def _model(path: Path | str, settings: Settings) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype)}
    if settings.lora is not None and settings.lora.quantised:
        options["quantization_config"] = _four_bits()
    try:
        return AutoModelForCausalLM.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"no model could be loaded from {str(path)!r}: {error}") from error


def _four_bits() -> Any:
    try:
        import bitsandbytes  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise missing_extra("bitsandbytes", "qlora", "training in 4 bits") from error
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def _tokenizer(path: Path | str) -> Any:
    tokenizer = convert.tokenizer(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _peft(settings: Settings) -> Any:
    lora = settings.lora
    if lora is None:
        return None
    from peft import LoraConfig

    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
