"""Conversations for TRL's ``GRPOTrainer``: its ``rollout_func``, over a source of batches.

TRL hands prompts out and wants one row back for each. Here a prompt only says which group of which
batch is meant; the source plays the batch, so that the members of a group have the same task,
characters, partner and luck, whatever TRL does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sotopia_gym.errors import ConfigError
from sotopia_gym.training.hooks import RolloutSource
from sotopia_gym.training.trajectories import Trajectory, segments

SCORE: Final = "score"
"""The field in which rows carry their reward."""

_SEPARATOR: Final = "/"


class GroupRollouts:
    """A ``rollout_func`` that plays whole conversations.

    Each row is one conversation of one role: the prompt of its first turn, and then, as the
    completion, everything that followed, with ``env_mask`` 1 on the ids that the policy drew. Ids
    are those that were sampled, and a row ends where the policy's last answer ended. Of what failed
    or could not be scored there is a row of no ids, with the score None, which TRL leaves out.

    The trainer must be made so that it asks for a batch at a time: ``num_generations`` the source's
    ``group``, ``generation_batch_size`` :attr:`rows`, ``shuffle_dataset=False``, one process, and
    the source's temperature. TRL's checkpoints know nothing of past selves: a run that goes on
    begins its population anew.

    Args:
        source: Where batches come from; its policy has the trainer's model.
        change: What is done to a batch's scores before they are given out, if anything.

    Attributes:
        rows: Rows of a batch.
        unscored: How many of the last batch's rows had no score.
    """

    def __init__(
        self,
        source: RolloutSource,
        change: Callable[[int, list[float | None]], list[float | None]] | None = None,
    ) -> None:
        self._source, self._change = source, change
        self.rows = source.groups * source.group
        self.unscored = 0
        self._played = -1

    def prompts(self, iterations: int) -> list[str]:
        """The prompts of a data set for so many batches, in order."""
        return [
            f"{iteration}{_SEPARATOR}{place}"
            for iteration in range(iterations)
            for place in range(self._source.groups)
        ]

    @staticmethod
    def scores(*_: Any, **fields: Any) -> list[float | None]:
        """The reward function for the trainer."""
        found: list[float | None] = fields[SCORE]
        return found

    def __call__(self, prompts: Sequence[str], _trainer: Any) -> dict[str, list[Any]]:
        """Play the batch that the prompts mean.

        Raises:
            ConfigError: If they are not one whole batch, each prompt as often as its group has
                members, or a conversation was longer than the context.
            TrainingError: If none of the episodes could be scored.
        """
        iteration = self._iteration(prompts)
        if iteration != self._played:
            self._source.update()  # the trainer has changed the weights since
        self._played = iteration
        groups: dict[str, list[Trajectory]] = {}
        for trajectory in self._source.trajectories(iteration):
            groups.setdefault(trajectory.group, []).append(trajectory)
        made = [
            row
            for name in sorted(groups)
            for row in _members(groups[name], self._source.group, self._stop)
        ]
        missing = self.rows - len(made)
        made += [_nothing((self._stop,), self._stop)] * missing
        found = {key: [row[key] for row in made] for key in made[0]}
        self.unscored = found[SCORE].count(None)
        if self._change is not None:
            found[SCORE] = self._change(iteration, found[SCORE])
        return found

    @property
    def _stop(self) -> int:
        return self._source.policy.sampler.template.stop

    def _iteration(self, prompts: Sequence[str]) -> int:
        """The batch that is asked for."""
        iterations = {prompt.partition(_SEPARATOR)[0] for prompt in prompts}
        iteration = prompts[0].partition(_SEPARATOR)[0] if prompts else "0"
        wanted = [
            f"{iteration}{_SEPARATOR}{place}"
            for place in range(self._source.groups)
            for _ in range(self._source.group)
        ]
        if list(prompts) != wanted:
            raise ConfigError(
                f"expected the {self.rows} prompts of one batch, in order, each "
                f"{self._source.group} times, but the trainer asked for {len(prompts)} of batches "
                f"{', '.join(sorted(iterations))}. Set num_generations={self._source.group}, "
                f"generation_batch_size={self.rows} and shuffle_dataset=False, and train in one "
                "process."
            )
        return int(iteration)


def _members(group: Sequence[Trajectory], count: int, stop: int) -> Iterator[dict[str, Any]]:
    """The rows of a group; for members of which there is nothing, rows that count for nothing."""
    for trajectory in group:
        scored = trajectory.rewards is not None
        yield _row(trajectory) if scored else _nothing(trajectory.turns[0].prompt, stop)
    for _ in range(count - len(group)):
        yield _nothing(group[0].turns[0].prompt, stop)


def _row(trajectory: Trajectory) -> dict[str, Any]:
    rows = list(segments(trajectory))
    if len(rows) > 1:
        raise ConfigError(
            f"a conversation (episode {trajectory.episode}) was longer than the context, so that "
            "it is no single row; give the policy a longer context, or play fewer turns."
        )
    (row,) = rows
    begin = len(trajectory.turns[0].prompt)
    return {
        "prompt_ids": list(row.ids[:begin]),
        "completion_ids": list(row.ids[begin:]),
        "logprobs": list(row.logprobs[begin:]),
        "env_mask": [int(own) for own in row.mask[begin:]],
        SCORE: trajectory.total,
    }


def _nothing(prompt: Sequence[int], stop: int) -> dict[str, Any]:
    return {
        "prompt_ids": list(prompt),
        "completion_ids": [stop],
        "logprobs": [0.0],
        "env_mask": [0],
        SCORE: None,
    }
