"""Which seats of collected episodes are good enough to learn from.

A *candidate* is one seat (an episode, and in it one role of the agent that the episode is about)
with its value. A *filter* maps candidates to those that stay;
:func:`sotopia_gym.training.selection.select` makes the candidates and runs filters in order.
Nothing depends on the order of the candidates: ties are broken by the episode's key, then by the
role.

The rules of SOTOPIA-pi (Wang et al. 2024, arXiv 2403.08715) are :class:`BehaviourCloning` and
:func:`self_reinforcement`, as the paper's text has them. The code that was released with it
(github.com/sotopia-lab/sotopia-pi, ``data_process/utils``) does otherwise:

- For behaviour cloning, the notebook that its README points to keeps the one best seat of each
  position in a task (by goal, ties by the overall score): two a task, with no ranks 3 to 10.
- ``goal_filter_per_env_agent``, which comes closest to the text, keeps the upper part of the
  ranking (of ten, ranks 1 to 4) whatever its scores, and has no last rank. Its bar is the smaller
  of each position's own mean in the task and a constant, not of the task's and the overall mean.
  Of a rank that passes it keeps both seats of the *first* position's episode, so that the second
  position's seat is not the one whose score passed.
- For self-reinforcement, one function ranks the seats of all tasks together, by the overall score,
  and keeps 70 % by default; the other is that of behaviour cloning. Neither keeps 20 % of a task.
- A seat without scores counts as 0 in some of its means; ties go by the order of the database.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, get_args

import numpy as np

from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.summary import OPEN_ENDED
from sotopia_gym.errors import ConfigError, did_you_mean

Per = Literal["task", "scenario", "role", "partner", "family"]
"""What candidates of a group have in common."""

_SLACK: Final = 1e-9
"""What a value may be short of a bar: a mean of equal values can come out above each of them."""


# --- Candidates


@dataclass(frozen=True, slots=True)
class Candidate:
    """One seat that might be learned from. Equal ones are of the same episode.

    Attributes:
        episode: The episode.
        key: What it is known by: its ``key``, without one its ``episode_id``.
        role: The agent whose turns would be learned from, e.g. ``"agent_0"``.
        value: How good that agent was; finite.
        judge: Whose judgement the value is taken from.
    """

    episode: Episode = field(compare=False, repr=False)
    key: str
    role: str
    value: float
    judge: str

    def common(self, what: Per) -> str:
        """What it has in common with others, e.g. its scenario's id."""
        scenario = self.episode.task.scenario
        if what == "task":
            return self.episode.task.task_id
        if what == "scenario":
            return scenario.scenario_id
        if what == "partner":
            return self.episode.partners_of(self.role)
        if what == "family":
            return OPEN_ENDED if scenario.outcome is None else scenario.outcome.family
        return self.role


def grouped(
    candidates: Iterable[Candidate], per: Sequence[Per]
) -> dict[tuple[str, ...], list[Candidate]]:
    """Candidates by what they have in common; all in one group if ``per`` is empty."""
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(tuple(candidate.common(what) for what in per), []).append(candidate)
    return groups


def best_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates from the highest value to the lowest; equal ones by key, then by role."""
    return sorted(candidates, key=lambda c: (-c.value, c.key, c.role))


# --- Filters


@dataclass(frozen=True, slots=True)
class Filter(ABC):
    """Maps candidates to those that stay, whatever order they come in.

    A filter of your own is a frozen dataclass whose fields are what a configuration may set.
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those of ``candidates`` that stay, in the order they came in."""

    @property
    def settings(self) -> dict[str, Any]:
        """What :func:`from_config` makes the same filter of."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        listed = {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}
        return {"name": self.name, **listed}


@dataclass(frozen=True, slots=True)
class Threshold(Filter):
    """Those whose value is high enough.

    Attributes:
        minimum: Lowest value that stays, in the value's own units.

    Raises:
        ConfigError: If it is no finite number.
    """

    name: ClassVar[str] = "threshold"
    minimum: float

    def __post_init__(self) -> None:
        _check(self, "minimum", self.minimum, -math.inf, math.inf)

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [candidate for candidate in candidates if _passes(candidate, self.minimum)]


@dataclass(frozen=True, slots=True)
class TopK(Filter):
    """The best few of each group, or all of a smaller group.

    Attributes:
        k: How many stay, at least 1.
        per: What the members of a group have in common.

    Raises:
        ConfigError: If an attribute is out of its range.
    """

    name: ClassVar[str] = "top_k"
    k: int
    per: Sequence[Per] = ("task", "role")

    def __post_init__(self) -> None:
        _check(self, "k", self.k, 1, math.inf, whole=True)
        _check_per(self)

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        groups = grouped(candidates, self.per).values()
        return _only(candidates, (c for group in groups for c in best_first(group)[: self.k]))


@dataclass(frozen=True, slots=True)
class TopShare(Filter):
    """The best share of each group, rounded up: of every group at least one stays.

    It keeps an exact number, however many values are equal; :class:`Percentile` keeps all that are.

    Attributes:
        share: Share that stays, above 0 and at most 1.
        per: What the members of a group have in common.

    Raises:
        ConfigError: If an attribute is out of its range.
    """

    name: ClassVar[str] = "top_share"
    share: float
    per: Sequence[Per] = ("scenario",)

    def __post_init__(self) -> None:
        _check(self, "share", self.share, 0, 1, above=True)
        _check_per(self)

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        groups = grouped(candidates, self.per).values()
        return _only(
            candidates,
            (c for group in groups for c in best_first(group)[: self._count(len(group))]),
        )

    def _count(self, size: int) -> int:
        # 0.28 of 25 is 7, though the product of the two floats is a little more.
        return max(1, math.ceil(self.share * size - _SLACK))


@dataclass(frozen=True, slots=True)
class Percentile(Filter):
    """Those that reach a percentile of their group, linearly interpolated; all equal ones do.

    Attributes:
        percentile: 0 (all stay) to 100 (only the best, and those equal to it).
        per: What the members of a group have in common; empty for one group of all.

    Raises:
        ConfigError: If an attribute is out of its range.
    """

    name: ClassVar[str] = "percentile"
    percentile: float
    per: Sequence[Per] = ()

    def __post_init__(self) -> None:
        _check(self, "percentile", self.percentile, 0, 100)
        _check_per(self)

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        kept: list[Candidate] = []
        for group in grouped(candidates, self.per).values():
            bar = float(np.percentile([c.value for c in group], self.percentile))
            kept.extend(candidate for candidate in group if _passes(candidate, bar))
        return _only(candidates, kept)


@dataclass(frozen=True, slots=True)
class BalanceRoles(Filter):
    """As many of each role as of the rarest, the worst of the others being dropped.

    All roles of the tasks count: of a group in which one has no candidate, none stays.

    Attributes:
        per: Within what the roles are balanced; empty for all candidates together.

    Raises:
        ConfigError: If ``per`` holds what groups cannot be made by, or the role itself.
    """

    name: ClassVar[str] = "balance_roles"
    per: Sequence[Per] = ()

    def __post_init__(self) -> None:
        _check_per(self, without="role")

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        kept: list[Candidate] = []
        for group in grouped(candidates, self.per).values():
            roles = {role for candidate in group for role in candidate.episode.task.agents}
            by_role = grouped(group, ("role",))
            fewest = min(len(by_role.get((role,), ())) for role in roles)
            kept.extend(c for members in by_role.values() for c in best_first(members)[:fewest])
        return _only(candidates, kept)


@dataclass(frozen=True, slots=True)
class BehaviourCloning(Filter):
    """What SOTOPIA-pi learns from an expert (Wang et al. 2024, arXiv 2403.08715).

    In each task (to the paper a scenario, with its ten pairs of characters) the candidates of each
    speaking position are ranked. The first two of each stay. Of ranks 3 to 10 the candidates of all
    positions stay together, if there is one of each and each reaches the smaller of the task's
    mean and the mean of all tasks, taken over all positions. Where only one position was ever
    played in a task, the rule holds for that one alone.

    The paper applies it to goal scores. How its released code differs is told in
    :mod:`sotopia_gym.training.filters`.

    Attributes:
        best: Ranks that stay in any case, at least 1.
        ranks: The last rank that may stay, at least ``best``.
        per: What the members of a task have in common.

    Raises:
        ConfigError: If an attribute is out of its range.
    """

    name: ClassVar[str] = "behaviour_cloning"
    best: int = 2
    ranks: int = 10
    per: Sequence[Per] = ("scenario",)

    def __post_init__(self) -> None:
        _check(self, "best", self.best, 1, math.inf, whole=True)
        _check(self, "ranks", self.ranks, self.best, math.inf, whole=True)
        _check_per(self, without="role")

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        kept: list[Candidate] = []
        overall = _mean(candidates)
        for task in grouped(candidates, self.per).values():
            bar = min(_mean(task), overall)
            positions = [best_first(seats) for seats in grouped(task, ("role",)).values()]
            for position in positions:
                kept.extend(position[: self.best])
            shortest = min(len(position) for position in positions)
            for rank in range(self.best, min(self.ranks, shortest)):
                level = [position[rank] for position in positions]
                if all(_passes(candidate, bar) for candidate in level):
                    kept.extend(level)
        return _only(candidates, kept)


def self_reinforcement(share: float = 0.2, per: Sequence[Per] = ("scenario",)) -> TopShare:
    """What SOTOPIA-pi learns from the agent's own episodes: the top 20 % of each task.

    Wang et al. 2024 (arXiv 2403.08715) apply it to goal scores. How the released code differs is
    told in :mod:`sotopia_gym.training.filters`.

    Args:
        share: Share that stays, above 0 and at most 1.
        per: What the members of a task have in common.

    Raises:
        ConfigError: If an argument is out of its range.
    """
    return TopShare(share, per)


def best_of_n(per: Sequence[Per] = ("task", "role")) -> TopK:
    """The best of however many times the same was played.

    Args:
        per: What makes it the same.

    Raises:
        ConfigError: If ``per`` holds what groups cannot be made by.
    """
    return TopK(1, per)


FILTERS: Final[Mapping[str, Callable[..., Filter]]] = MappingProxyType(
    {
        "threshold": Threshold,
        "top_k": TopK,
        "top_share": TopShare,
        "percentile": Percentile,
        "balance_roles": BalanceRoles,
        "behaviour_cloning": BehaviourCloning,
        "self_reinforcement": self_reinforcement,
        "best_of_n": best_of_n,
    }
)
"""What a configuration may name."""


def from_config(settings: Mapping[str, Any]) -> Filter:
    """The filter that a table of a configuration file describes.

    Args:
        settings: The ``name`` of the filter (:data:`FILTERS`) and its parameters, e.g.
            ``{"name": "top_share", "share": 0.2, "per": ["scenario", "role"]}``.

    Raises:
        ConfigError: If no filter has this name, or a parameter is missing, unknown or out of its
            range.
    """
    if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
        raise ConfigError(
            "a filter is described by its name and its parameters, as in "
            f'{{"name": "top_share", "share": 0.2}}; got {settings!r}.'
        )
    name = settings["name"]
    if name not in FILTERS:
        raise ConfigError(f"no filter {name!r}. {did_you_mean(name, FILTERS)}")
    known = inspect.signature(FILTERS[name]).parameters
    given = {key: value for key, value in settings.items() if key != "name"}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"the filter {name!r} has no parameter {key!r}. {did_you_mean(key, known)}"
            )
    missing = [k for k, p in known.items() if p.default is p.empty and k not in given]
    if missing:
        raise ConfigError(
            f"the filter {name!r} needs {' and '.join(map(repr, missing))}; got "
            f"{', '.join(map(repr, given)) or 'no parameters'}."
        )
    return FILTERS[name](**given)


# --- Pairs


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates of one group, one better than the other.

    Attributes:
        best: The best of its group.
        worst: The worst of it.
    """

    best: Candidate
    worst: Candidate

    @property
    def gap(self) -> float:
        """How much better it is, in the value's units."""
        return self.best.value - self.worst.value


def best_and_worst(
    candidates: Iterable[Candidate], *, gap: float, per: Sequence[Per] = ("task", "role")
) -> list[Pair]:
    """The best and the worst of each group, to learn what is preferred to what.

    Groups in which the two are closer than ``gap`` have no pair.

    Args:
        candidates: What to pair, e.g. the ``kept`` of a selection without filters.
        gap: How much better the best must be, above 0, in the value's units.
        per: What the members of a group have in common; add ``"partner"`` to have both meet the
            same one.

    Returns:
        At most one pair of each group, in the groups' order by name.

    Raises:
        ConfigError: If ``gap`` is not above 0, or ``per`` holds what groups cannot be made by.
    """
    _check_number("best_and_worst", "gap", gap, 0, math.inf, above=True)
    groups = grouped(candidates, _checked_per("best_and_worst", per))
    ordered = [best_first(groups[name]) for name in sorted(groups)]
    pairs = [Pair(best=group[0], worst=group[-1]) for group in ordered]
    return [pair for pair in pairs if pair.gap >= gap - _SLACK]


# --- Inside


def _mean(candidates: Sequence[Candidate]) -> float:
    """The mean value; NaN of none. It is the same in whatever order they come."""
    if not candidates:
        return math.nan
    return math.fsum(candidate.value for candidate in candidates) / len(candidates)


def _passes(candidate: Candidate, bar: float) -> bool:
    return candidate.value >= bar - _SLACK


def _only(candidates: Sequence[Candidate], kept: Iterable[Candidate]) -> list[Candidate]:
    chosen = set(kept)
    return [candidate for candidate in candidates if candidate in chosen]


def _check(
    owner: Filter,
    parameter: str,
    value: object,
    low: float,
    high: float,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    where = f"the filter {owner.name!r}"
    _check_number(where, parameter, value, low, high, above=above, whole=whole)


def _check_number(
    where: str,
    parameter: str,
    value: object,
    low: float,
    high: float,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Refuse what is no finite number from ``low`` to ``high``, or not above ``low``."""
    kind = int if whole else int | float
    if (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
        and not (above and value == low)
    ):
        return
    wanted = ["a whole number" if whole else "a number"]
    if math.isfinite(low):
        wanted.append(f"above {low}" if above else f"of at least {low}")
    if math.isfinite(high):
        wanted.append(f"and at most {high}")
    raise ConfigError(f"{where}: {parameter} must be {' '.join(wanted)}, got {value!r}.")


def _check_per(owner: Any, without: Per | None = None) -> None:
    """Make ``per`` of a filter a tuple of what groups can be made by."""
    per = _checked_per(f"the filter {owner.name!r}", owner.per, without)
    object.__setattr__(owner, "per", per)


def _checked_per(where: str, per: object, without: Per | None = None) -> tuple[Per, ...]:
    known = [what for what in get_args(Per) if what != without]
    if isinstance(per, str) or not isinstance(per, Sequence):
        raise ConfigError(
            f"{where}: per must be a list of {', '.join(map(repr, known))}, got {per!r}."
        )
    for what in per:
        if what not in known:
            hint = did_you_mean(str(what), known)
            raise ConfigError(f"{where}: groups cannot be made per {what!r}. {hint}")
    return tuple(per)
