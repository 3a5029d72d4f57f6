"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) of a language model.

    python -m baselines.ppo --model runs/sotopia_pi_cpu/seed-0/bc/train/model

The policy plays a batch of episodes, every id that it drew is judged by how much better the episode
went than a value head expected, and the weights are moved by the clipped objective, held near a
reference policy. With ``advantages = "rloo"`` there is no value head: an episode is compared with
the others of its group (REINFORCE leave-one-out, Ahmadian et al. 2024, arXiv 2402.14740).

:class:`PPO` is a :class:`~sotopia_gym.training.hooks.Learner`; everything else is a pure function.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from baselines import rl
from sotopia_gym.agents.base import derive_seed
from sotopia_gym.integrations.trl import CHECKPOINTS
from sotopia_gym.training.hooks import Experience, train
from sotopia_gym.training.rewards import RunningNormaliser
from sotopia_gym.training.trajectories import Scores, Tokens, Trajectory, collate, score

_STATE: Final = "ppo.pt"


class Settings(BaseModel):
    """How a policy is trained.

    Attributes:
        advantages: ``"gae"``: generalised advantage estimation with a value head. ``"rloo"``: the
            episode's reward less the mean of the others of its group.
        decisions: What a value is of, and what ``gamma`` and ``lam`` count: each ``"token"``, or
            each ``"turn"``, whose ids then share an advantage. Before a turn the model's state
            may not tell yet what it will say; before its words it does.
        learning_rate: Of the policy.
        value_learning_rate: Of the value head.
        value_epochs: How often the value head reads a batch: it is one layer on states that the
            policy has made already, so that this costs next to nothing.
        epochs: How often a batch is read.
        minibatch: Rows of an update.
        micro_batch: Most rows that are read at a time; gradients are summed up to a minibatch.
        clip: How far the ratio of probabilities may go from 1 before an id stops counting.
        gamma: Discount.
        lam: Lambda of GAE: 0 trusts the values, 1 the rewards.
        kl: Weight of the divergence from the reference policy, at first.
        kl_target: Nats an id at which ``kl`` is held (Ziegler et al. 2019, arXiv 1909.08593,
            section 2.2); None leaves the weight as it is.
        entropy: Weight of the entropy, in nats, which is rewarded.
        normalise_rewards: Whether rewards are divided by the standard deviation of the returns of
            all batches so far.
        normalise_advantages: Whether those of a batch get mean 0 and standard deviation 1.
        max_grad_norm: Norm that gradients are clipped to.
        weight_decay: Of AdamW.
        bfloat16: Whether to compute in bfloat16; weights stay as they are.
        lora: Rank of adapters that are trained instead of all weights; 0 for all weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    advantages: Literal["gae", "rloo"] = "gae"
    decisions: Literal["token", "turn"] = "token"
    learning_rate: float = Field(default=1e-5, gt=0)
    value_learning_rate: float = Field(default=1e-3, gt=0)
    value_epochs: int = Field(default=20, ge=1)
    epochs: int = Field(default=1, ge=1)
    minibatch: int = Field(default=16, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    clip: float = Field(default=0.2, gt=0, lt=1)
    gamma: float = Field(default=1.0, ge=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    kl: float = Field(default=0.02, ge=0)
    kl_target: float | None = Field(default=None, gt=0)
    entropy: float = Field(default=0.0, ge=0)
    normalise_rewards: bool = True
    normalise_advantages: bool = True
    max_grad_norm: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    bfloat16: bool = False
    lora: int = Field(default=0, ge=0)


# --- The arithmetic


def gae(
    rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    Args:
        rewards: What each decision of one episode brought, shape (decisions,).
        values: What was expected before each, shape (decisions,). After the last it is 0.
        gamma: Discount.
        lam: Lambda.

    Returns:
        Advantages, and returns: what the values should have been.
    """
    advantages, ahead, following = [0.0] * len(rewards), 0.0, 0.0
    for step in reversed(range(len(rewards))):
        surprise = rewards[step] + gamma * following - values[step]
        ahead = surprise + gamma * lam * ahead
        advantages[step], following = ahead, values[step]
    returns = [advantage + value for advantage, value in zip(advantages, values, strict=True)]
    return advantages, returns


def leave_one_out(totals: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Each episode's reward less the mean of the others of its group; 0 for one that is alone."""
    of: dict[str, list[float]] = {}
    for total, group in zip(totals, groups, strict=True):
        of.setdefault(group, []).append(total)
    return [
        (total * len(of[group]) - sum(of[group])) / (len(of[group]) - 1)
        if len(of[group]) > 1
        else 0.0
        for total, group in zip(totals, groups, strict=True)
    ]


def policy_loss(
    logprobs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float
) -> torch.Tensor:
    """The clipped objective of PPO (eq. 7), negated, for each id; all shapes are the same."""
    ratio = (logprobs - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def divergence(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """An estimate of KL(policy || reference) for each id drawn from the policy.

    It is never negative and unbiased: r - 1 - log r with r = reference / policy (Schulman 2020,
    "Approximating KL divergence", k3).
    """
    log_ratio = reference - logprobs
    return log_ratio.exp() - 1 - log_ratio


def adapted(weight: float, kl: float, target: float) -> float:
    """The weight of the divergence after a batch in which it was ``kl`` (Ziegler et al. 2019)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return weight * (1 + 0.1 * error)


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 foresees all, 0 no more than the mean does."""
    spread = returns.var(correction=0)
    if spread == 0:
        return 0.0
    return float(1 - (returns - values).var(correction=0) / spread)


# --- The learner


class PPO:
    """Trains a policy on its own episodes.

    Args:
        model: A causal language model of transformers, or of peft; the one that is sampled.
        reference: The model to stay near, with frozen weights; None for the base of ``model``'s
            adapters, if it has any, or none at all.
        settings: How.
        pad: The id that rows are padded with.
        seed: Seed of the order of rows.
    """

    def __init__(
        self,
        model: Any,
        reference: Any | None,
        settings: Settings,
        *,
        pad: int = 0,
        seed: int = 0,
    ) -> None:
        self.model, self._reference, self.settings = model, reference, settings
        self._pad, self._seed = pad, seed
        self._kl = settings.kl
        self._scale = RunningNormaliser()
        weights = [it for it in model.parameters() if it.requires_grad]
        self._value: torch.nn.Linear | None = None
        if settings.advantages == "gae":
            # It starts at 0: at first the advantages are the rewards.
            self._value = torch.nn.Linear(model.config.hidden_size, 1, device=model.device)
            torch.nn.init.zeros_(self._value.weight)
            torch.nn.init.zeros_(self._value.bias)
            self._value_optimiser = torch.optim.AdamW(
                self._value.parameters(), lr=settings.value_learning_rate, weight_decay=0.0
            )
        self._optimiser = torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def learn(self, experience: Experience) -> dict[str, float]:
        """Update the policy on one batch; see :class:`~sotopia_gym.training.hooks.Learner`."""
        chosen, settings = experience.trajectories, self.settings
        tokens = collate(chosen, pad=self._pad).to(self.model.device)
        self.model.eval()  # dropout would make the ratio another thing than a change of weights
        decisions = _decisions(tokens, settings.decisions)
        reference, states = self._before(tokens, decisions, experience.temperature)
        values = torch.zeros_like(tokens.logprobs)
        if self._value is not None:
            with torch.no_grad():
                values[decisions] = self._value(states)[..., 0]
        advantages, returns = self._advantages(chosen, tokens, values, decisions)
        batch = _Batch(tokens, reference, advantages, experience.temperature)
        sums: dict[str, float] = {}
        updates, norms, mismatch = 0, 0.0, 0.0
        for epoch in range(settings.epochs):
            order = list(range(len(tokens)))
            seed = f"{experience.iteration}-{epoch}"
            random.Random(derive_seed(self._seed, seed)).shuffle(order)
            for begin in range(0, len(order), settings.minibatch):
                told, norm = self._update(batch, order[begin : begin + settings.minibatch])
                # Before the first update the trainer's numbers must be the sampler's.
                farthest = told.pop("farthest")
                mismatch = farthest if updates == 0 else mismatch
                for name, value in told.items():
                    sums[name] = sums.get(name, 0.0) + value
                updates, norms = updates + 1, norms + norm
        found = {name: value / sums["ids"] for name, value in sums.items() if name != "ids"}
        if reference is not None:
            # Where the policy drew: after updates some ids are all but impossible, and the estimate
            # of a batch that somebody else drew has no bound.
            drawn = divergence(tokens.logprobs[tokens.mask], reference[tokens.mask])
            found["kl"] = float(drawn.mean())
        found |= {
            "kl_weight": self._kl,
            "sampler_mismatch": mismatch,
            "updates": updates,
            "grad_norm": norms / updates,
        }
        if self._value is not None:
            found["explained_variance"] = explained_variance(values[decisions], returns[decisions])
            found["value_loss"] = self._fit(states, returns[decisions])
        if settings.kl_target is not None and self._has_reference:
            self._kl = adapted(self._kl, found["kl"], settings.kl_target)
        return found

    def save(self, folder: Path) -> None:
        """Write model, value head and optimisers."""
        torch.save(
            {
                "weights": self.model.state_dict(),
                "value": self._value and self._value.state_dict(),
                "value_optimiser": self._value and self._value_optimiser.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "kl": self._kl,
                "scale": self._scale.state_dict(),
            },
            folder / _STATE,
        )

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        state = torch.load(folder / _STATE, map_location=self.model.device, weights_only=True)
        self.model.load_state_dict(state["weights"])
        if self._value is not None:
            self._value.load_state_dict(state["value"])
            self._value_optimiser.load_state_dict(state["value_optimiser"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._kl = state["kl"]
        self._scale.load_state_dict(state["scale"])

    # --- inside

    def _before(
        self, tokens: Tokens, decisions: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The reference's log-probabilities, and the states of the decisions; no gradients."""
        reference = torch.zeros_like(tokens.logprobs) if self._has_reference else None
        states = []
        with torch.no_grad():
            for rows in _parts(range(len(tokens)), self.settings.micro_batch):
                part = tokens.rows(rows)
                columns = part.ids.shape[1]
                if reference is not None:
                    reference[rows, :columns] = self._of_reference(part, temperature).logprobs
                if self._value is not None:
                    hidden = self._scored(self.model, part, temperature, hidden=True).hidden
                    assert hidden is not None
                    states.append(hidden[decisions[rows, :columns]])
        return reference, torch.cat(states) if states else tokens.logprobs.new_zeros(0)

    def _fit(self, states: torch.Tensor, returns: torch.Tensor) -> float:
        """Have the value head expect the returns; gives half its mean squared error before."""
        assert self._value is not None
        losses = []
        for _ in range(self.settings.value_epochs):
            loss = 0.5 * (self._value(states)[..., 0] - returns).square().mean()
            self._value_optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._value_optimiser.step()
            losses.append(loss.detach())
        return float(losses[0])

    def _advantages(
        self,
        chosen: Sequence[Trajectory],
        tokens: Tokens,
        values: torch.Tensor,
        decisions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages of all ids, and returns of the decisions; 0 elsewhere."""
        rewards = [list(it.rewards or ()) for it in chosen]
        if self.settings.normalise_rewards:
            self._scale.update([sum(each) for each in rewards], "the batch")
            rewards = [list(self._scale.scaled(each)) for each in rewards]
        if self._value is None:
            alone = leave_one_out([sum(each) for each in rewards], [it.group for it in chosen])
            of_rows = torch.tensor(alone, device=values.device)[tokens.owner]
            advantages = torch.where(tokens.mask, of_rows[:, None], 0.0)
            returns = torch.zeros_like(values)
        else:
            advantages, returns = self._over_decisions(rewards, tokens, values, decisions)
        if self.settings.normalise_advantages:
            known = advantages[tokens.mask]
            advantages = torch.where(
                tokens.mask, (advantages - known.mean()) / (known.std(correction=0) + 1e-8), 0.0
            )
        return advantages, returns

    def _over_decisions(
        self,
        rewards: Sequence[Sequence[float]],
        tokens: Tokens,
        values: torch.Tensor,
        decisions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages by what was expected at each decision, and returns."""
        advantages, returns = torch.zeros_like(values), torch.zeros_like(values)
        for owner, brought in enumerate(rewards):
            of = torch.where(tokens.mask & (tokens.owner == owner)[:, None])
            made = decisions[of]
            places = tuple(index[made] for index in of)
            found, expected = gae(
                _rewarded(tokens.steps[of].tolist(), made.tolist(), brought),
                values[places].tolist(),
                self.settings.gamma,
                self.settings.lam,
            )
            returns[places] = torch.tensor(expected, device=values.device)
            # An id has the advantage of the decision that it belongs to.
            advantages[of] = torch.tensor(found, device=values.device)[made.cumsum(0) - 1]
        return advantages, returns

    def _update(self, batch: _Batch, rows: Sequence[int]) -> tuple[dict[str, float], float]:
        """One step of the optimiser; returns sums over the ids, and the norm of the gradient."""
        ids = int(batch.tokens.mask[rows].sum())
        sums: dict[str, float] = {"ids": ids, "farthest": 0.0}
        self._optimiser.zero_grad(set_to_none=True)
        for chosen in _parts(rows, self.settings.micro_batch):
            loss, told = self._loss(batch, chosen, ids)
            loss.backward()
            sums["farthest"] = max(sums["farthest"], told.pop("farthest"))
            for name, value in told.items():
                sums[name] = sums.get(name, 0.0) + value
        (weights,) = (group["params"] for group in self._optimiser.param_groups)
        norm = torch.nn.utils.clip_grad_norm_(weights, self.settings.max_grad_norm)
        self._optimiser.step()
        return sums, float(norm)

    def _loss(
        self, batch: _Batch, rows: Sequence[int], ids: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of some rows of a minibatch of so many ids, and sums to tell."""
        settings, part = self.settings, batch.tokens.rows(rows)
        columns, mask = part.ids.shape[1], part.mask
        scores = self._scored(self.model, part, batch.temperature)
        drawn, old = scores.logprobs[mask], part.logprobs[mask]
        advantages = batch.advantages[rows, :columns][mask]
        losses = policy_loss(drawn, old, advantages, settings.clip)
        total = losses.sum() - settings.entropy * scores.entropy[mask].sum()
        told = {
            "policy_loss": losses.sum(),
            "entropy": scores.entropy[mask].sum(),
            "kl_old": divergence(drawn, old).sum(),
            "clipped": ((drawn - old).exp() - 1).abs().gt(settings.clip).sum(),
            "farthest": (drawn - old).abs().max(),
        }
        if batch.reference is not None:
            kl = divergence(drawn, batch.reference[rows, :columns][mask])
            total = total + self._kl * kl.sum()
        return total / ids, {name: float(value.detach()) for name, value in told.items()}

    def _scored(self, model: Any, part: Tokens, temperature: float, hidden: bool = False) -> Scores:
        with self._precision():
            return score(model, part, temperature=temperature, hidden=hidden)

    def _of_reference(self, part: Tokens, temperature: float) -> Scores:
        if self._reference is not None:
            return self._scored(self._reference, part, temperature)
        with self.model.disable_adapter():
            return self._scored(self.model, part, temperature)

    @property
    def _has_reference(self) -> bool:
        return self._reference is not None or hasattr(self.model, "disable_adapter")

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.settings.bfloat16:
            return nullcontext()
        cast: AbstractContextManager[Any] = torch.autocast(self.model.device.type, torch.bfloat16)
        return cast


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch of episodes, ready to learn from; tensors have the shape of ``tokens``."""

    tokens: Tokens
    reference: torch.Tensor | None
    advantages: torch.Tensor
    temperature: float


def _decisions(tokens: Tokens, of: Literal["token", "turn"]) -> torch.Tensor:
    """True where a decision is made: at each id of the policy, or at the first of each turn."""
    if of == "token":
        return tokens.mask
    before = torch.nn.functional.pad(tokens.steps, (1, 0), value=-1)[:, :-1]
    return tokens.mask & (tokens.steps != before)


def _rewarded(steps: Sequence[int], made: Sequence[bool], rewards: Sequence[float]) -> list[float]:
    """What each decision brought: a turn's reward comes with the last decision in it."""
    decided = [step for step, is_made in zip(steps, made, strict=True) if is_made]
    return [
        rewards[step] if place + 1 == len(decided) or decided[place + 1] != step else 0.0
        for place, step in enumerate(decided)
    ]


def _parts(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    for begin in range(0, len(rows), size):
        yield list(rows[begin : begin + size])


class _Shuffled(PPO):
    """The control: learns from rewards that are not its episodes' own."""

    def learn(self, experience: Experience) -> dict[str, float]:
        return super().learn(rl.shuffled(experience, self._seed))


def run(job: rl.Run) -> list[dict[str, float]]:
    """Train a policy as a recipe says; see :class:`baselines.rl.Run`."""
    settings: Settings = job.settings
    policy = job.source.policy.sampler
    reference = None
    if settings.lora:
        policy.model = rl.adapters(policy.model, settings.lora, job.seed)
    elif settings.kl or job.recipe.max_kl is not None:
        reference = policy.frozen("reference").model.requires_grad_(False)
    kind = _Shuffled if job.control else PPO
    learner = kind(policy.model, reference, settings, pad=policy.template.stop, seed=job.seed)
    history = train(
        job.source,
        learner,
        job.folder / CHECKPOINTS,
        iterations=job.recipe.iterations,
        save_every=job.recipe.save_every,
        max_kl=job.recipe.max_kl,
        progress=lambda found: print(json.dumps(dict(found)), flush=True),
    )
    policy.save(job.folder / "model")
    shutil.rmtree(job.folder / CHECKPOINTS)
    return history


if __name__ == "__main__":
    sys.exit(rl.main("ppo", run, Settings, config="rl_price_cpu"))
