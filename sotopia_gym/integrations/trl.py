"""Fine-tuning with TRL: on rows of token ids, or on pairs of a better and a worse answer.

What is trained on is made here, token for token; TRL, transformers, PEFT and accelerate do the
rest. Both functions may run under ``accelerate launch``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sotopia_gym.errors import ConfigError, ModelError, missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.training.rows import IGNORED, Row

MODEL: Final = "model"
METRICS: Final = "metrics.json"
_CHECKPOINTS: Final = "checkpoints"
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
        micro_batch: Rows that a device reads at a time.
        schedule: How the learning rate falls after the warm-up.
        warmup: Share of all updates in which it rises.
        weight_decay: Weight decay of AdamW.
        max_grad_norm: Norm that gradients are clipped to.
        max_tokens: Longest row, in tokens.
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
        model: A folder that ``save_pretrained`` wrote, or the name of a model on the hub.
        rows: What is trained on.
        out: Folder for the result: the model in ``model/``, with its tokenizer; ``metrics.json``;
            logs for TensorBoard in ``tensorboard/``.
        settings: How.
        seed: Seed of the order of the rows, and of dropout.

    Returns:
        What is in ``metrics.json``: rows, tokens, trained tokens, updates, and a history of the
        loss in nats a token.

    Raises:
        ConfigError: If there are no rows, or one is longer than ``max_tokens``.
        ModelError: If TRL would train on something else than the rows say.
        MissingDependencyError: If the extra ``train``, or bitsandbytes, is not installed.
    """
    _check(rows, settings)
    trl = _trl()
    from datasets import Dataset

    folder = Path(out)
    data = Dataset.from_list([{"input_ids": list(r.ids), "labels": r.labels} for r in rows])
    trainer = trl.SFTTrainer(
        model=_model(model, settings),
        args=trl.SFTConfig(max_length=None, **_arguments(folder, settings, seed, len(rows))),
        train_dataset=data,
        processing_class=_tokenizer(model),
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
        ConfigError: If there are no pairs.
        MissingDependencyError: If the extra ``train``, or bitsandbytes, is not installed.
    """
    if not pairs:
        raise ConfigError("there are no pairs to train on; keep more episodes, or play more.")
    trl = _trl()
    from datasets import Dataset

    folder = Path(out)
    arguments = _arguments(folder, settings, seed, len(pairs))
    trainer = trl.DPOTrainer(
        model=_model(model, settings),
        args=trl.DPOConfig(max_length=settings.max_tokens, beta=settings.beta, **arguments),
        train_dataset=Dataset.from_list([pair.model_dump() for pair in pairs]),
        processing_class=_tokenizer(model),
        peft_config=_peft(settings),
    )
    return _trained(trainer, folder, {"pairs": len(pairs)})


# --- inside


def _check(rows: Sequence[Row], settings: Settings) -> None:
    if not rows:
        raise ConfigError("there are no rows to train on; keep more episodes, or play more.")
    longest = max(len(row.ids) for row in rows)
    if longest > settings.max_tokens:
        raise ConfigError(
            f"a row has {longest} tokens, at most {settings.max_tokens} may be trained on "
            "(max_tokens). Make rows with this limit, or raise it."
        )


def _arguments(folder: Path, settings: Settings, seed: int, count: int) -> dict[str, Any]:
    """The arguments that TRL's trainers share."""
    import accelerate
    import torch

    devices = accelerate.PartialState().num_processes
    micro = min(settings.micro_batch, max(1, settings.batch_size // devices))
    steps = max(1, settings.batch_size // (micro * devices))
    on_gpu = torch.cuda.is_available()
    updates = settings.max_steps or max(1, round(settings.epochs * count / settings.batch_size))
    logs = [name for name in settings.report_to if name != "none"]
    return {
        "output_dir": str(folder / _CHECKPOINTS),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": steps,
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
    known = {row.ids: row.labels for row in rows}
    pairs = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
    for (ids, labels), seen in zip(pairs, batch["attention_mask"].tolist(), strict=True):
        length = sum(seen)
        if known.get(tuple(ids[:length])) != labels[:length] or set(labels[length:]) - {IGNORED}:
            raise ModelError(
                "the trainer's batch is not what the rows say: its labels would train on other "
                "ids than the policy's own. This version of TRL does not fit; use the one that "
                "constraints.txt names."
            )


def _trained(trainer: Any, folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Train, from the last checkpoint if there is one, and write model and metrics."""
    from transformers.trainer_utils import get_last_checkpoint

    checkpoints = folder / _CHECKPOINTS
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    with _logs(folder):
        trainer.train(resume_from_checkpoint=last)
    history = [
        {k: v for k, v in entry.items() if isinstance(v, int | float)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    if any(entry["loss"] != entry["loss"] for entry in history):
        raise ModelError(
            f"the loss became NaN in {folder}; no model was kept. Lower the learning rate, or use "
            "float32."
        )
    result = {**told, "updates": trainer.state.global_step, "history": history}
    if trainer.is_world_process_zero():
        # A folder that is there is whole.
        unfinished = folder / f".{MODEL}"
        shutil.rmtree(unfinished, ignore_errors=True)
        trainer.model.save_pretrained(unfinished)
        trainer.processing_class.save_pretrained(unfinished)
        unfinished.rename(folder / MODEL)
        write_whole(folder / METRICS, [json.dumps(result, indent=1).encode() + b"\n"])
        shutil.rmtree(checkpoints, ignore_errors=True)
    return result


@contextlib.contextmanager
def _logs(folder: Path) -> Iterator[None]:
    """Have TensorBoard's files written into the result's folder."""
    import os

    known = os.environ.get("TENSORBOARD_LOGGING_DIR")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / _LOGS)
    try:
        yield
    finally:
        if known is None:
            del os.environ["TENSORBOARD_LOGGING_DIR"]
        else:
            os.environ["TENSORBOARD_LOGGING_DIR"] = known


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
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
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
