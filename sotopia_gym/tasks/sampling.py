"""Which task comes next, and against whom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from sotopia_gym.errors import ConfigError
from sotopia_gym.tasks.schema import Suite, Task


class Sampler(ABC):
    """Draws the tasks of a suite for an environment, and hears how each went."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Task:
        """The next task; everything random comes from ``rng``."""

    def update(self, task: Task, success: float) -> None:
        """Take note of a finished episode.

        Args:
            task: What was played.
            success: How well it went for the agents together: the mean of their normalised goal
                scores where there is ground truth, else of their goal scores divided by 10.
        """


class UniformSampler(Sampler):
    """Every task is as likely as any other.

    Args:
        suite: The tasks.
    """

    def __init__(self, suite: Suite) -> None:
        self._tasks = _some(suite.tasks)

    def draw(self, rng: np.random.Generator) -> Task:
        return self._tasks[int(rng.integers(len(self._tasks)))]


class StratifiedSampler(Sampler):
    """Every stratum is as likely as any other, and within it every task.

    Args:
        suite: The tasks.
        stratum: The stratum of a task, e.g. :func:`family` or ``by_difficulty(...)``.
    """

    def __init__(self, suite: Suite, stratum: Callable[[Task], Hashable]) -> None:
        strata: dict[Hashable, list[Task]] = {}
        for task in _some(suite.tasks):
            strata.setdefault(stratum(task), []).append(task)
        self._strata = list(strata.values())

    def draw(self, rng: np.random.Generator) -> Task:
        stratum = self._strata[int(rng.integers(len(self._strata)))]
        return stratum[int(rng.integers(len(stratum)))]


class CurriculumSampler(Sampler):
    """Starts with the easiest tasks and opens harder ones as those that are open succeed.

    Of the tasks in order of difficulty a growing share is open. Whenever the mean success of the
    last ``window`` episodes reaches ``threshold``, the share grows by ``step`` and the count starts
    anew. Open tasks are drawn uniformly.

    Args:
        suite: The tasks.
        difficulty: Task id to difficulty, as :func:`measured_difficulty` gives it.
        start: Share of the tasks that is open at first, above 0 and at most 1.
        step: How much it grows.
        threshold: Mean success at which it grows.
        window: Episodes that the mean is taken over.
    """

    def __init__(
        self,
        suite: Suite,
        difficulty: Mapping[str, float],
        *,
        start: float = 0.2,
        step: float = 0.1,
        threshold: float = 0.7,
        window: int = 50,
    ) -> None:
        if not 0 < start <= 1 or step <= 0 or window < 1:
            raise ConfigError(
                f"a curriculum needs 0 < start <= 1, step > 0 and window >= 1; got {start}, "
                f"{step} and {window}."
            )
        missing = [task.task_id for task in suite if task.task_id not in difficulty]
        if missing:
            raise ConfigError(
                f"no difficulty is known for {len(missing)} tasks, e.g. {missing[0]}; measure it "
                "by playing them with a reference agent."
            )
        self._tasks = sorted(_some(suite.tasks), key=lambda t: (difficulty[t.task_id], t.task_id))
        self._share, self._step = start, step
        self._threshold, self._window = threshold, window
        self._successes: list[float] = []

    @property
    def open_tasks(self) -> Sequence[Task]:
        """The tasks that may be drawn now, easiest first."""
        return self._tasks[: max(1, round(self._share * len(self._tasks)))]

    def draw(self, rng: np.random.Generator) -> Task:
        return self.open_tasks[int(rng.integers(len(self.open_tasks)))]

    def update(self, task: Task, success: float) -> None:
        self._successes.append(success)
        if len(self._successes) < self._window:
            return
        if np.mean(self._successes[-self._window :]) >= self._threshold:
            self._share = min(1.0, self._share + self._step)
            self._successes.clear()


def family(task: Task) -> str:
    """The family of a task with ground truth; ``"open"`` for the others."""
    return "open" if task.scenario.outcome is None else task.scenario.outcome.family


def by_difficulty(
    difficulty: Mapping[str, float], edges: Sequence[float] = (0.25, 0.5, 0.75)
) -> Callable[[Task], int]:
    """A stratum for each range of difficulty.

    Args:
        difficulty: Task id to difficulty.
        edges: Where one range ends and the next begins, ascending.

    Returns:
        A function of a task; it raises KeyError for one whose difficulty is not known.
    """
    if list(edges) != sorted(edges):
        raise ConfigError(f"edges must ascend, got {list(edges)}.")
    return lambda task: int(np.searchsorted(edges, difficulty[task.task_id], side="right"))


def measured_difficulty(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How hard each task is: 1 minus the mean normalised score of a reference agent in it.

    0 is a task in which the reference had all that could be had, 1 one in which it had no more than
    without an agreement; above 1 it ended worse off.

    Args:
        scores: Task id to the normalised scores of the reference, at least one each.
    """
    empty = [task_id for task_id, values in scores.items() if len(values) == 0]
    if empty:
        raise ConfigError(f"task {empty[0]} was never played by the reference agent.")
    return {task_id: 1.0 - float(np.mean(values)) for task_id, values in scores.items()}


def _some(tasks: Sequence[Task]) -> Sequence[Task]:
    if not tasks:
        raise ConfigError("there are no tasks to draw from.")
    return tasks
