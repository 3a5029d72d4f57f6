"""Where trainers plug in: batches of trajectories out, new weights in.

A :class:`RolloutSource` plays a policy and gives :class:`Experience`; a :class:`Learner` eats it
and changes the policy's weights; :func:`train` runs the two in turn, keeps a history and
checkpoints, and stops a run that has gone wrong. Anything that can learn from ids, masks,
log-probabilities and rewards can be the learner.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from sotopia_gym import agents, judges
from sotopia_gym.agents.base import Agent, derive_seed
from sotopia_gym.agents.policy import PolicyAgent
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.errors import ConfigError, TrainingError
from sotopia_gym.files import write_whole
from sotopia_gym.judges import Judge
from sotopia_gym.rollout.engine import Rollout
from sotopia_gym.rollout.jobs import Roles, Rules
from sotopia_gym.tasks.schema import Task
from sotopia_gym.training.rewards import TurnReward
from sotopia_gym.training.trajectories import Trajectory, trajectories

HISTORY: Final = "history.jsonl"
"""The file with one line of metrics for each iteration."""

_PART: Final = ".part"
"""Suffix of a checkpoint that is not whole yet."""

_POPULATION: Final = "population.pt"


@dataclass(frozen=True, slots=True)
class Experience:
    """What a policy did in one batch of episodes.

    Attributes:
        iteration: Which batch of the source this is, from 0.
        version: The version of the weights that played it, all of it; counted from when the policy
            was loaded.
        temperature: What logits were divided by when it was sampled.
        trajectories: Those that were scored.
        unscored: How many were left out, because the judge failed.
        failed: How many episodes a player broke off.
        seconds: How long playing and judging took.
    """

    iteration: int
    version: int
    temperature: float
    trajectories: tuple[Trajectory, ...]
    unscored: int
    failed: int
    seconds: float

    def summary(self) -> dict[str, float]:
        """Means over the trajectories, for a history: reward, turns, ids."""
        totals = [each.total for each in self.trajectories if each.total is not None]
        count = max(1, len(totals))
        mean = math.fsum(totals) / count
        return {
            "reward": mean,
            "reward_sd": math.sqrt(math.fsum((it - mean) ** 2 for it in totals) / count),
            "trajectories": len(totals),
            "unscored": self.unscored,
            "failed": self.failed,
            "turns": sum(len(each.turns) for each in self.trajectories) / count,
            "sampled": sum(each.sampled for each in self.trajectories) / count,
            "rollout_seconds": self.seconds,
        }


class Learner(Protocol):
    """What changes the policy's weights.

    Attributes:
        model: The model whose weights it changes: that of the source's policy.
    """

    model: Any

    def learn(self, experience: Experience) -> Mapping[str, float]:
        """Change the weights for one batch.

        Returns:
            Numbers for the history. ``kl`` is how far the weights that played the batch are from
            where they began, in nats an id, if the learner knows.
        """

    def save(self, folder: Path) -> None:
        """Write all that :meth:`load` needs to go on exactly from here, the weights included."""

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""


class PastSelves:
    """A partner that is the policy as it was: copies of its weights, one of which is met a batch.

    Args:
        policy: The policy; its model is copied.
        every: Batches between copies.
        size: How many copies are kept, the newest ones. Each takes as much memory as the model.

    Attributes:
        agent: The partner.

    Raises:
        ConfigError: If ``every`` or ``size`` is below 1.
    """

    def __init__(self, policy: PolicyAgent, *, every: int = 5, size: int = 4) -> None:
        if every < 1 or size < 1:
            raise ConfigError(f"every and size must be at least 1, got {every} and {size}.")
        self._every = every
        self._states: deque[dict[str, Any]] = deque(maxlen=size)
        self.agent = policy.frozen("past-self")

    def note(self, iteration: int, model: Any) -> None:
        """Take a copy of the weights that the batch is played with, if it is time for one."""
        if iteration % self._every == 0 or not self._states:
            state = {name: it.detach().cpu().clone() for name, it in model.state_dict().items()}
            self._states.append(state)

    def meet(self, rng: random.Random) -> None:
        """Have the partner be one of the copies, of which :meth:`note` has taken one."""
        self.agent.sampler.update(rng.choice(self._states))

    def save(self, folder: Path) -> None:
        """Write the copies, for :meth:`load`."""
        import torch

        torch.save(list(self._states), folder / _POPULATION)

    def load(self, folder: Path) -> None:
        """Go on with the copies that :meth:`save` wrote."""
        import torch

        states = torch.load(folder / _POPULATION, weights_only=True)
        self._states = deque(states, maxlen=self._states.maxlen)


class RolloutSource:
    """Plays a policy, batch after batch, for somebody who trains it.

    A batch is a function of the seed, its number and the weights: a run that was killed goes on
    with the very same batches. All of a batch is played with the same weights.

    Args:
        policy: The policy. Its sampling must leave the model's distribution as it is, but for the
            temperature: no guide, ``top_p`` 1, or nobody could compute its log-probabilities again.
        tasks: What is played; every task comes once before any comes again.
        partners: Who plays the other roles, one drawn for each: agents, such as a frozen policy, or
            specs of agents, scripted or behind an endpoint. Without any, and without
            ``population``, the policy plays all roles, and learns from all.
        rewards: What each turn is worth; see :mod:`sotopia_gym.training.rewards`.
        judge: Who scores; None if the rewards need no judge.
        batch: Tasks in a batch.
        group: Episodes of each task and role that differ only in what the policy draws: same
            partner, same luck.
        roles: Which roles the policy plays.
        seed: Seed of everything random.
        rules: The rules of the conversation.
        concurrency: Most episodes in flight.
        population: Past selves, as one more partner.

    Attributes:
        policy: The policy.
        seed: The seed.
        group: Members of a group.
        population: The past selves; None without.

    Raises:
        ConfigError: If the policy's log-probabilities could not be computed again, there are fewer
            tasks than in a batch, or a number makes no sense.
    """

    def __init__(
        self,
        policy: PolicyAgent,
        tasks: Sequence[Task],
        partners: Sequence[str | Agent] = (),
        *,
        rewards: TurnReward,
        judge: str | Judge | None = "outcome",
        batch: int = 8,
        group: int = 4,
        roles: Roles = "both",
        seed: int = 0,
        rules: Rules | None = None,
        concurrency: int = 64,
        population: PastSelves | None = None,
    ) -> None:
        sampling = policy.sampler.sampling
        if policy.guided or sampling.top_p != 1 or sampling.temperature <= 0:
            raise ConfigError(
                "a policy that is trained must be sampled with guided=False, top_p=1 and a "
                f"temperature above 0, got guided={policy.guided}, top_p={sampling.top_p}, "
                f"temperature={sampling.temperature}: log-probabilities of any other distribution "
                "cannot be computed again by a trainer."
            )
        if not 1 <= batch <= len(tasks):
            raise ConfigError(f"batch must be 1 to {len(tasks)}, the number of tasks, got {batch}.")
        self.policy, self.seed = policy, seed
        self._tasks, self._rewards, self._batch, self.group = tuple(tasks), rewards, batch, group
        self._partners = [agents.from_spec(partner) for partner in partners]
        self._given = [partner for partner in partners if isinstance(partner, Agent)]
        self._judge = judges.from_spec(judge)
        self._own_judge = self._judge if isinstance(judge, str) else None
        self._roles, self._rules, self._concurrency = roles, rules, concurrency
        self.population = population
        self._partnered = bool(partners) or population is not None

    def collect(self, iteration: int) -> Experience:
        """Play a batch, and leave out what could not be scored.

        Args:
            iteration: Its number, from 0.

        Raises:
            TrainingError: If none of its episodes could be scored.
        """
        started = time.monotonic()
        version = self.policy.sampler.weights_version
        episodes, found = self._played(iteration)
        scored = tuple(each for each in found if each.rewards is not None)
        return Experience(
            iteration=iteration,
            version=version,
            temperature=self.policy.sampler.sampling.temperature,
            trajectories=scored,
            unscored=len(found) - len(scored),
            failed=sum(not episode.complete for episode in episodes),
            seconds=time.monotonic() - started,
        )

    def trajectories(self, iteration: int) -> list[Trajectory]:
        """Play a batch; what could not be scored is there too, with no rewards.

        Raises:
            TrainingError: If none of its episodes could be scored.
        """
        return self._played(iteration)[1]

    def play(self, iteration: int) -> list[Episode]:
        """Play a batch; the episodes come in an order of their own, and those that failed too."""
        partners = list(self._partners)
        seed = derive_seed(self.seed, f"batch-{iteration}")
        if self.population is not None:
            self.population.note(iteration, self.policy.sampler.model)
            self.population.meet(random.Random(seed))
            partners.append(self.population.agent)
        rollout = Rollout(
            self._drawn(iteration),
            self.policy,
            partners,
            judge=self._judge,
            roles=self._roles,
            repetitions=self.group,
            grouped=True,
            seed=seed,
            rules=self._rules,
            concurrency=self._concurrency,
        )
        # Episodes come as they finish; a batch must not depend on when that was.
        return sorted(rollout, key=lambda episode: episode.key)

    def update(self) -> int:
        """Tell the policy that its weights have changed; returns their new version."""
        return self.policy.sampler.update()

    def close(self) -> None:
        """Let go of the partners and the judge that this made."""
        for partner in self._partners:
            if not any(partner is given for given in self._given):
                partner.close()
        if self._own_judge is not None:
            self._own_judge.close()

    @property
    def groups(self) -> int:
        """How many groups a batch has: one for each of its tasks and roles that are learned."""
        roles = 1 if self._roles != "both" and self._partnered else 2
        return self._batch * roles

    def _played(self, iteration: int) -> tuple[list[Episode], list[Trajectory]]:
        """A batch, with the trajectories of the policy itself, not of partners like it."""
        episodes = self.play(iteration)
        found = [
            each
            for episode in episodes
            for each in trajectories(episode, self._rewards)
            if episode.agents[each.agent] == self.policy.name
        ]
        if all(each.rewards is None for each in found):
            causes = {episode.error or "unscored" for episode in episodes}
            raise TrainingError(
                f"batch {iteration}: none of {len(episodes)} episodes could be scored: "
                f"{'; '.join(sorted(causes))[:500]}"
            )
        return episodes, found

    def _drawn(self, iteration: int) -> Iterator[Task]:
        """The tasks of a batch: the next ones of all tasks in an order that each round draws."""
        for place in range(iteration * self._batch, (iteration + 1) * self._batch):
            number, at = divmod(place, len(self._tasks))
            yield self._tasks[self._order(number)[at]]

    def _order(self, number: int) -> list[int]:
        """The order of a round, in which those that share a batch with its first ones come last."""
        count = len(self._tasks)
        order = list(range(count))
        random.Random(derive_seed(self.seed, f"round-{number}")).shuffle(order)
        begun = number * count % self._batch
        before = set(self._order(number - 1)[count - begun :]) if begun else set()
        return sorted(order, key=before.__contains__)


def train(
    source: RolloutSource,
    learner: Learner,
    folder: Path,
    *,
    iterations: int,
    save_every: int = 1,
    keep: int = 1,
    max_kl: float | None = None,
    progress: Callable[[Mapping[str, float]], object] | None = None,
) -> list[dict[str, float]]:
    """Collect, learn, collect, learn; goes on from the last checkpoint in ``folder``.

    Args:
        source: Who plays. Its policy has the learner's model.
        learner: Who learns.
        folder: For ``history.jsonl``, and checkpoints in ``checkpoint-NNNNN/``.
        iterations: Batches in all.
        save_every: Batches between checkpoints; there is one at the end, too.
        keep: How many checkpoints are kept, the newest ones. While it runs there is one more, until
            a batch was played with the newest and nothing was wrong with it.
        max_kl: Nats an id; a learner whose ``kl`` is above that is stopped. It is known of the
            weights that played a batch, and so never of the last ones.
        progress: Called with the numbers of every iteration.

    Returns:
        The history: for every batch the numbers of :meth:`Experience.summary` and of the learner.

    Raises:
        TrainingError: If a number is not finite or ``kl`` above ``max_kl``. The update that did it
            is not in any checkpoint that is left; the message names the last one.
        ConfigError: If a number makes no sense, or the models are not the same.
    """
    if learner.model is not source.policy.sampler.model:
        raise ConfigError("the learner must train the very model that the source's policy samples.")
    if iterations < 1 or save_every < 1 or keep < 1:
        raise ConfigError("iterations, save_every and keep must be at least 1.")
    folder.mkdir(parents=True, exist_ok=True)
    history = _resume(source, learner, folder)
    for iteration in range(len(history), iterations):
        experience = source.collect(iteration)
        started = time.monotonic()
        learned = {name: float(value) for name, value in learner.learn(experience).items()}
        found = {"iteration": iteration, **experience.summary(), **learned}
        found["learn_seconds"] = time.monotonic() - started
        _check(found, max_kl, folder)
        _prune(folder, keep)
        source.update()
        history.append(found)
        write_whole(folder / HISTORY, _lines(history))
        if (iteration + 1) % save_every == 0 or iteration + 1 == iterations:
            _save(source, learner, folder, history)
        if progress is not None:
            progress(found)
    _prune(folder, keep)
    return history


# --- inside


def _check(found: Mapping[str, float], max_kl: float | None, folder: Path) -> None:
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if max_kl is not None and found.get("kl", 0.0) > max_kl:
        wrong.append(f"kl above {max_kl}")
        # The weights that played this batch are too far away already.
        shutil.rmtree(_checkpoint(folder, int(found["iteration"])), ignore_errors=True)
    if not wrong:
        return
    last = _checkpoints(folder)
    raise TrainingError(
        f"iteration {found['iteration']:.0f} went wrong ({', '.join(wrong)}) and was not kept: "
        f"{json.dumps(dict(found))}. "
        + (f"The last good checkpoint is {last[-1]}." if last else "There is no good checkpoint.")
    )


def _checkpoint(folder: Path, iterations: int) -> Path:
    """Where the weights are kept that so many batches have made."""
    return folder / f"checkpoint-{iterations:05d}"


def _checkpoints(folder: Path) -> list[Path]:
    """The whole ones, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if path.suffix != _PART)


def _save(
    source: RolloutSource,
    learner: Learner,
    folder: Path,
    history: Sequence[Mapping[str, float]],
) -> None:
    """Write a checkpoint, whole or not at all."""
    path = _checkpoint(folder, len(history))
    part = path.with_suffix(_PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    learner.save(part)
    if source.population is not None:
        source.population.save(part)
    write_whole(part / HISTORY, _lines(history))
    part.rename(path)


def _prune(folder: Path, keep: int) -> None:
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def _resume(source: RolloutSource, learner: Learner, folder: Path) -> list[dict[str, float]]:
    """Go on from the last checkpoint, if there is one; returns the history until there."""
    found = _checkpoints(folder)
    if not found:
        return []
    learner.load(found[-1])
    if source.population is not None:
        source.population.load(found[-1])
    source.update()
    text = (found[-1] / HISTORY).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _lines(history: Sequence[Mapping[str, float]]) -> list[bytes]:
    return [f"{json.dumps(dict(line))}\n".encode() for line in history]
