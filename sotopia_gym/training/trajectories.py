"""Trajectories: what a policy read, sampled and was rewarded for, as ids and never as text.

Tokenising a transcript again gives other ids than those that were sampled, so trainers are fed from
what the sampler recorded (:class:`~sotopia_gym.episodes.schema.TurnTokens`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from sotopia_gym.episodes.schema import Episode, TurnTokens
from sotopia_gym.errors import ConfigError, missing_extra
from sotopia_gym.training.rewards import TurnReward
from sotopia_gym.training.rows import by_turn, packed

if TYPE_CHECKING:
    import torch

Layout = Literal["packed", "turns"]

_LAYOUTS: Final = {"packed": packed, "turns": by_turn}


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one policy did in one episode.

    Attributes:
        episode: The key of the episode.
        agent: The role that the policy had.
        group: Equal for trajectories that may be compared: same task, role, partners and luck.
        turns: What it read and sampled in each of its turns.
        rewards: The reward of each of these turns, the last of which carries what the end of the
            episode brought; None if the episode failed or could not be scored. Such a trajectory
            is no zero: trainers leave it out.
    """

    episode: str
    agent: str
    group: str
    turns: tuple[TurnTokens, ...]
    rewards: tuple[float, ...] | None

    @property
    def total(self) -> float | None:
        """The sum of the rewards; None if unscored."""
        return None if self.rewards is None else math.fsum(self.rewards)

    @property
    def sampled(self) -> int:
        """How many ids the policy produced."""
        return sum(len(turn.sampled) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Segment:
    """One row of a trajectory: all four are as long, and say something of the same id.

    Attributes:
        ids: The ids.
        mask: True for each id that the policy produced.
        logprobs: Natural log-probability of each id that it produced, under the distribution that
            it was sampled from; 0 for the others.
        steps: Which of the trajectory's turns each id that it produced belongs to, from 0; -1 for
            the others.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    logprobs: tuple[float, ...]
    steps: tuple[int, ...]


def trajectories(episode: Episode, rewards: TurnReward) -> Iterator[Trajectory]:
    """The trajectories of an episode: one for each agent that recorded its ids.

    Args:
        episode: The episode. If it was broken off, its trajectories are unscored.
        rewards: What each turn is worth; see :mod:`sotopia_gym.training.rewards`.

    Raises:
        ConfigError: If there is not one finite reward for each turn, or the ids have no
            log-probabilities, because somebody else wrote them.
    """
    for agent, turns in episode.tokens.items():
        if not turns:
            continue
        for turn in turns:
            if len(turn.logprobs) != len(turn.sampled):
                raise ConfigError(
                    f"turn {turn.turn} of {agent} in episode {episode.key or episode.episode_id} "
                    "has no log-probabilities: its words were not sampled by a policy."
                )
        found = rewards(episode, agent) if episode.complete else None
        yield Trajectory(
            episode=episode.key or episode.episode_id,
            agent=agent,
            group=f"{episode.task.task_id}/{agent}/{episode.partners_of(agent)}/{episode.seed}",
            turns=turns,
            rewards=None if found is None else _checked(found, turns, episode, agent),
        )


def segments(trajectory: Trajectory, layout: Layout = "packed") -> Iterator[Segment]:
    """The rows of a trajectory, in which each id that the policy produced is once.

    Args:
        trajectory: The trajectory.
        layout: ``"turns"``: each turn is a row, after its whole prompt. ``"packed"``: a row goes
            on as long as each prompt continues the turn before. The ids are read after the same
            ids either way, so that their probabilities are the same.

    Raises:
        ConfigError: If there is no such layout.
    """
    if layout not in _LAYOUTS:
        raise ConfigError(f"no layout {layout!r}; expected 'packed' or 'turns'.")
    produced = (
        (logprob, step) for step, turn in enumerate(trajectory.turns) for logprob in turn.logprobs
    )
    for row in _LAYOUTS[layout](trajectory.turns):
        told = [next(produced) if own else (0.0, -1) for own in row.mask]
        yield Segment(
            row.ids,
            row.mask,
            tuple(logprob for logprob, _ in told),
            tuple(step for _, step in told),
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Rows as tensors of shape (rows, longest row), padded on the right.

    Column ``t`` of every tensor is about the id in column ``t``: its log-probability comes from
    what the model says after the column before.

    Attributes:
        ids: int64; padded with ``pad``.
        attention_mask: int64: 1 for ids, 0 for padding.
        mask: bool: True for the ids that the policy produced.
        logprobs: float32: as the sampler had them; 0 where ``mask`` is False.
        steps: int64: as in :class:`Segment`, -1 for padding too.
        owner: int64, shape (rows,): which of the trajectories a row is of.
    """

    ids: torch.Tensor
    attention_mask: torch.Tensor
    mask: torch.Tensor
    logprobs: torch.Tensor
    steps: torch.Tensor
    owner: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Any) -> Tokens:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, chosen: Sequence[int]) -> Tokens:
        """Some of the rows, without the columns that only others need."""
        longest = int(self.attention_mask[chosen].sum(-1).max())
        return self._each(
            lambda tensor: tensor[chosen][:, :longest] if tensor.dim() == 2 else tensor[chosen]
        )

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Tokens:
        return Tokens(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def collate(chosen: Iterable[Trajectory], *, pad: int = 0, layout: Layout = "packed") -> Tokens:
    """The rows of trajectories as tensors.

    Args:
        chosen: The trajectories; at least one.
        pad: The id that rows are filled up with; it is never attended to.
        layout: As for :func:`segments`.

    Raises:
        ConfigError: If there are no trajectories.
        MissingDependencyError: If torch is not installed.
    """
    torch = _torch()
    rows = [
        (owner, row)
        for owner, trajectory in enumerate(chosen)
        for row in segments(trajectory, layout)
    ]
    if not rows:
        raise ConfigError("there are no trajectories to make a batch of.")
    longest = max(len(row.ids) for _, row in rows)

    def padded(values: Iterable[Sequence[Any]], filler: Any, dtype: Any) -> Any:
        filled = [[*row, *[filler] * (longest - len(row))] for row in values]
        return torch.tensor(filled, dtype=dtype)

    return Tokens(
        ids=padded((row.ids for _, row in rows), pad, torch.int64),
        attention_mask=padded(([1] * len(row.ids) for _, row in rows), 0, torch.int64),
        mask=padded((row.mask for _, row in rows), False, torch.bool),
        logprobs=padded((row.logprobs for _, row in rows), 0.0, torch.float32),
        steps=padded((row.steps for _, row in rows), -1, torch.int64),
        owner=torch.tensor([owner for owner, _ in rows], dtype=torch.int64),
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says of the ids that a policy produced, in the shape of :class:`Tokens`.

    Attributes:
        logprobs: Natural log-probability of each of those ids; 0 elsewhere.
        entropy: Entropy, in nats, of the distribution that each was drawn from; 0 elsewhere.
        hidden: The last hidden states that each was drawn from, shape (rows, columns, features), 0
            elsewhere; None if they were not asked for.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor
    hidden: torch.Tensor | None = None


def score(model: Any, tokens: Tokens, *, temperature: float = 1.0, hidden: bool = False) -> Scores:
    """Log-probabilities of what was sampled, with gradients where they are enabled.

    Under the weights that sampled they are what the sampler recorded, within the precision of
    sums. Logits are made for the policy's own ids only.

    Args:
        model: A causal language model of transformers, or of peft.
        tokens: The rows, on the model's device.
        temperature: What the sampler divided logits by; above 0.
        hidden: Whether hidden states are wanted, for a value head.
    """
    torch = _torch()
    # The id in column t is drawn after column t - 1.
    before = tokens.mask[:, 1:].any(0).nonzero()[:, 0]
    out = model(
        input_ids=tokens.ids,
        attention_mask=tokens.attention_mask,
        use_cache=False,
        logits_to_keep=before,
        output_hidden_states=hidden,
    )
    known = torch.log_softmax(out.logits.float() / temperature, -1)
    after, own = before + 1, tokens.mask[:, before + 1]
    drawn = known.gather(-1, tokens.ids[:, after, None])[..., 0]

    def placed(values: Any) -> Any:
        where = own if values.dim() == 2 else own[..., None]
        whole = values.new_zeros((*tokens.ids.shape, *values.shape[2:]))
        return whole.index_copy(1, after, torch.where(where, values, 0.0))

    return Scores(
        logprobs=placed(drawn),
        entropy=placed(-(known.exp() * known).sum(-1)),
        hidden=placed(out.hidden_states[-1][:, before].float()) if hidden else None,
    )


# --- inside


def _checked(
    rewards: Sequence[float], turns: Sequence[TurnTokens], episode: Episode, agent: str
) -> tuple[float, ...]:
    if len(rewards) != len(turns) or not all(math.isfinite(reward) for reward in rewards):
        raise ConfigError(
            f"expected one finite reward for each of the {len(turns)} turns of {agent} in episode "
            f"{episode.key or episode.episode_id}, got {list(rewards)}."
        )
    return tuple(float(reward) for reward in rewards)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "train", "a batch of trajectories") from error
    return torch
