"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300) with TRL's trainer.

    python -m baselines.grpo --model runs/sotopia_pi_cpu/seed-0/bc/train/model

Conversations come from :class:`~sotopia_gym.integrations.grpo.GroupRollouts`; everything after that
is TRL's. With ``vllm`` a server writes the policy's answers, and TRL brings it the new weights. It
is started beside this, on another GPU:

    export VLLM_SERVER_DEV_MODE=1
    vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}' --max-logprobs -1
        --logprobs-mode processed_logprobs
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.functional import pad
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from baselines import rl
from sotopia_gym.agents.sampling import Sampler
from sotopia_gym.agents.served import ServedSampler
from sotopia_gym.errors import ConfigError, TrainingError
from sotopia_gym.integrations.grpo import GroupRollouts
from sotopia_gym.integrations.trl import CHECKPOINTS, go_on, last_checkpoint


class Settings(BaseModel):
    """How a policy is trained; names are those of :class:`trl.GRPOConfig`.

    Attributes:
        learning_rate: Of AdamW, constant.
        beta: Weight of the divergence from the start; 0 does without, and is cheaper, but then
            nobody knows it, so that the recipe must have no ``max_kl``.
        epsilon: How far the ratio of probabilities may go from 1 before an id stops counting.
        micro_batch: Rows that are read at a time.
        max_grad_norm: Norm that gradients are clipped to.
        loss_type: How ids are averaged.
        scale_rewards: What advantages are divided by.
        bfloat16: Whether to compute in bfloat16; weights stay as they are.
        activation_checkpointing: Whether activations are computed again instead of kept.
        lora: Rank of adapters that are trained instead of all weights; 0 for all weights.
        vllm: Where a server of vLLM is, e.g. ``"http://localhost:8000"``; None samples here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=1e-5, gt=0)
    beta: float = Field(default=0.02, ge=0)
    epsilon: float = Field(default=0.2, gt=0)
    micro_batch: int = Field(default=2, ge=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    loss_type: str = "dapo"
    scale_rewards: str = "group"
    bfloat16: bool = False
    activation_checkpointing: bool = False
    lora: int = Field(default=0, ge=0)
    vllm: str | None = None


def run(job: rl.Run) -> list[dict[str, float]]:
    """Train a policy as a recipe says; see :class:`baselines.rl.Run`."""
    # TRL warns at every start that rollout_func may change; constraints.txt pins the version.
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    policy, settings = job.source.policy, job.settings
    if job.recipe.max_kl is not None and not settings.beta:
        raise ConfigError(
            f"max_kl is {job.recipe.max_kl}, but with beta = 0 the divergence is not measured; set "
            "training.grpo.beta above 0, or max_kl to null."
        )
    if settings.lora:
        policy.sampler.model = rl.adapters(policy.sampler.model, settings.lora, job.seed)
    if settings.vllm is not None:
        policy.sampler = served(policy.sampler, settings.vllm)
    sampler = policy.sampler
    rollouts = GroupRollouts(job.source, _shuffle(job.seed) if job.control else None)
    checkpoints = job.folder / CHECKPOINTS
    trainer = Trainer(
        model=sampler.model,
        reward_funcs=rollouts.scores,
        args=arguments(job, rollouts.rows, checkpoints),
        train_dataset=Dataset.from_dict({"prompt": rollouts.prompts(job.recipe.iterations)}),
        processing_class=sampler.tokenizer,
        rollout_func=rollouts,
        callbacks=[_Guard(job.recipe.max_kl, rollouts)],
    )
    go_on(trainer, checkpoints)
    sampler.save(job.folder / "model")
    shutil.rmtree(checkpoints)
    return [_told(entry) for entry in trainer.state.log_history if "reward" in entry]


def served(sampler: Sampler, base_url: str) -> ServedSampler:
    """The same model, sampled by a server."""
    return ServedSampler(
        sampler.model,
        sampler.tokenizer,
        base_url=base_url,
        name=sampler.name,
        sampling=sampler.sampling,
        context=sampler.context,
    )


def arguments(job: rl.Run, rows: int, checkpoints: Path) -> GRPOConfig:
    """What the trainer is told, for batches of so many rows."""
    settings: Settings = job.settings
    sampler = job.source.policy.sampler
    return GRPOConfig(
        output_dir=str(checkpoints),
        num_generations=job.source.group,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=rows // settings.micro_batch,
        generation_batch_size=rows,
        shuffle_dataset=False,
        temperature=sampler.sampling.temperature,
        max_completion_length=sampler.context,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        beta=settings.beta,
        epsilon=settings.epsilon,
        max_grad_norm=settings.max_grad_norm,
        loss_type=settings.loss_type,
        scale_rewards=settings.scale_rewards,
        max_steps=job.recipe.iterations,
        activation_checkpointing=settings.activation_checkpointing,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=job.recipe.save_every,
        save_total_limit=2,  # the newest is not known to be good until it has played a batch
        report_to="none",
        disable_tqdm=True,
        seed=job.seed,
        use_cpu=sampler.model.device.type == "cpu",
        bf16=settings.bfloat16,
        use_vllm=settings.vllm is not None,
        vllm_mode="server",
        vllm_server_base_url=settings.vllm,
    )


class Trainer(GRPOTrainer):
    """TRL's trainer, which fills all rows of a batch up to its longest; here none is read so.

    Conversations differ in length, and most of such a batch would be padding.
    """

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        size = batch_size or len(input_ids)
        parts = []
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            used = mask.any(0).nonzero()[:, 0]
            begin, end = int(used[0]), int(used[-1]) + 1
            after = ids.shape[1] - end
            *found, loss = super()._get_per_token_logps_and_entropies(
                model, ids[:, begin:end], mask[:, begin:end], logits_to_keep - after, **options
            )
            parts.append((*(None if it is None else pad(it, (0, after)) for it in found), loss))
        logprobs, entropies, losses = zip(*parts, strict=True)
        return (
            torch.cat(logprobs),
            None if entropies[0] is None else torch.cat(entropies),
            None if losses[0] is None else torch.stack(losses).mean(),
        )


class _Guard(TrainerCallback):
    """Stops a run that has gone wrong; the last good checkpoint stays."""

    def __init__(self, max_kl: float | None, rollouts: GroupRollouts) -> None:
        self._max_kl, self._rollouts = max_kl, rollouts

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        found = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "reward" in found:
            state.log_history[-1]["unscored"] = self._rollouts.unscored
        print(json.dumps(found), flush=True)
        wrong = [name for name in ("loss", "grad_norm") if _is_nan(found, name)]
        if self._max_kl is not None and found.get("kl", 0.0) > self._max_kl:
            wrong.append(f"kl above {self._max_kl}")
            # The weights that played this batch are too far away already.
            played = Path(args.output_dir) / f"checkpoint-{state.global_step - 1}"
            shutil.rmtree(played, ignore_errors=True)
        if wrong:
            last, _state = last_checkpoint(Path(args.output_dir))
            kept = f"The last good checkpoint is {last}" if last else "There is no good checkpoint"
            raise TrainingError(
                f"iteration {state.global_step - 1} went wrong ({', '.join(wrong)}) and was not "
                f"kept: {json.dumps(found)}. {kept}."
            )


def _is_nan(found: dict[str, Any], name: str) -> bool:
    return name in found and not math.isfinite(found[name])


def _told(entry: dict[str, Any]) -> dict[str, float]:
    """A line of history, under the names that our own learner's has."""
    known = {
        "iteration": entry["step"] - 1,
        "reward": entry["reward"],
        "reward_sd": entry.get("reward_std"),
        "unscored": entry.get("unscored"),
        "kl": entry.get("kl"),
        "entropy": entry.get("entropy"),
        "clipped": entry.get("clip_ratio/region_mean"),
        "grad_norm": entry.get("grad_norm"),
        "sampled": entry.get("completions/mean_length"),
        "seconds": entry.get("step_time"),  # of playing and learning
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def _shuffle(seed: int) -> Callable[[int, list[float | None]], list[float | None]]:
    def change(iteration: int, scores: list[float | None]) -> list[float | None]:
        scored = [score for score in scores if score is not None]
        others = iter(rl.shuffle(scored, seed, iteration))
        return [None if score is None else next(others) for score in scores]

    return change


if __name__ == "__main__":
    sys.exit(rl.main("grpo", run, Settings, config="rl_price_cpu"))
