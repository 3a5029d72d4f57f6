"""Selecting seats of collected episodes to learn from, and a report of what went and stayed.

Nothing here reads or writes a file or changes an episode, and nothing depends on the order of the
episodes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.summary import count_cause, scored
from sotopia_gym.errors import ConfigError, did_you_mean
from sotopia_gym.judges.reward import Reward, RewardFunction, to_function
from sotopia_gym.training.filters import Candidate, Filter, Per

Unusable = Literal["failed", "interrupted", "no conversation", "unjudged", "unscored", "no value"]
"""Why a seat is no candidate."""

_DERIVED: Final[Mapping[str, RewardFunction]] = MappingProxyType(
    {
        "overall": lambda judgement, agent: judgement.overall(agent),
        "normalised": lambda judgement, agent: judgement.normalised.get(agent),
        "true_goal": lambda judgement, agent: judgement.true_goals.get(agent),
    }
)
"""Values that are no dimension of a judge."""

_RANGES: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {name: (dimension.low, dimension.high) for name, dimension in DIMENSIONS.items()}
    | {
        "overall": (
            sum(dimension.low for dimension in DIMENSIONS.values()) / len(DIMENSIONS),
            sum(dimension.high for dimension in DIMENSIONS.values()) / len(DIMENSIONS),
        ),
        "normalised": (0.0, 1.0),
        "true_goal": (0.0, 10.0),
    }
)

_BINS: Final = 10


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Change(_Model):
    """How many seats there were and how many stayed.

    Attributes:
        before: Candidates.
        after: Those that stayed.
    """

    before: int
    after: int


class Step(Change):
    """What one filter did.

    Attributes:
        settings: The filter, as :func:`~sotopia_gym.training.filters.from_config` takes it.
    """

    settings: dict[str, Any]


class Distribution(_Model):
    """How values are distributed. What no values have is None.

    Attributes:
        n: How many values.
        mean: Their mean.
        sd: Their sample standard deviation; None with fewer than two.
        minimum: The lowest.
        lower_quartile: Linearly interpolated, as are the next two.
        median: The middle.
        upper_quartile: Three quarters are below it.
        maximum: The highest.
        edges: Edges of the histogram's bins, ascending, one more than bins. They span the value's
            range where that is known, and the values; equal before and after.
        counts: How many values each bin holds; an edge belongs to the bin above it, the last to the
            last bin.
    """

    n: int
    mean: float | None
    sd: float | None
    minimum: float | None
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None
    maximum: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __str__(self) -> str:
        if self.mean is None:
            return "no values"
        spread = "" if self.sd is None else f", sd {self.sd:.2f}"
        five = (
            self.minimum,
            self.lower_quartile,
            self.median,
            self.upper_quartile,
            self.maximum,
        )
        quartiles = " | ".join(f"{value:.2f}" for value in five if value is not None)
        return f"mean {self.mean:.2f}{spread}, quartiles {quartiles}"


class FilterReport(_Model):
    """What went, what stayed, and why.

    ``seats`` is the sum of ``unusable`` and ``candidates``; ``candidates`` less what each step took
    away is ``kept``, and so it is in each of the ``by_...``.

    Attributes:
        value: What candidates were compared by: its name, weights of dimensions, or the name of a
            function.
        judge: Whose judgements were asked for; None for each episode's latest that has scores.
        judges: Judge to the candidates whose values are its. Where these are several, values of
            different judges were compared.
        episodes: How many episodes there were.
        seats: How many roles of the agent in them.
        unusable: Why seats were no candidates, to how many were not.
        causes: Why episodes failed or were not scored, to how many; most frequent first, digits are
            shown as ``#``.
        candidates: Seats with a value.
        kept: Those that all filters kept.
        steps: What each filter did, in order.
        by_role: Role to its candidates.
        by_family: Task family, or ``"open-ended"``, to its candidates.
        by_partner: Names of the partners to the candidates that met them.
        before: The values of the candidates.
        after: The values of those that were kept.
    """

    value: str | dict[str, float]
    judge: str | None
    judges: dict[str, int]
    episodes: int
    seats: int
    unusable: dict[Unusable, int]
    causes: dict[str, int]
    candidates: int
    kept: int
    steps: tuple[Step, ...]
    by_role: dict[str, Change]
    by_family: dict[str, Change]
    by_partner: dict[str, Change]
    before: Distribution
    after: Distribution

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The report for people, line by line."""
        yield f"{self.episodes} episodes, {self.seats} seats, {self.candidates} with a value"
        for reason, count in self.unusable.items():
            yield f"  {count} without: {reason}"
        for cause, count in self.causes.items():
            yield f"    {count} episodes: {cause}"
        for step in self.steps:
            told = [f"{k}={v}" for k, v in step.settings.items() if k != "name"]
            described = " ".join([str(step.settings["name"]), *told])
            yield f"  {step.before} -> {step.after}  {described}"
        yield f"kept {self.kept} of {self.candidates}"
        parts = {"role": self.by_role, "family": self.by_family, "partner": self.by_partner}
        for what, changes in parts.items():
            for name, change in changes.items():
                yield f"  {change.before} -> {change.after}  {what} {name}"
        judges = ", ".join(f"{name} {count}" for name, count in self.judges.items())
        yield f"value {self.value}, judged by {judges or 'nobody'}"
        yield f"  before: {self.before}"
        yield f"  after: {self.after}"


@dataclass(frozen=True, slots=True)
class Selection:
    """What :func:`select` found.

    Attributes:
        kept: The candidates that all filters kept, in order of key and role.
        report: What went and what stayed.
    """

    kept: tuple[Candidate, ...]
    report: FilterReport


def select(
    episodes: Iterable[Episode],
    filters: Sequence[Filter] = (),
    *,
    value: Reward = "goal",
    judge: str | None = None,
) -> Selection:
    """Run filters over the seats of episodes, each over what the one before it kept.

    A seat of an episode that was not played to its end, has no conversation, or has no value is no
    candidate: no filter sees it, and the report says why it was left out.

    Args:
        episodes: The episodes, each once, as :func:`~sotopia_gym.episodes.store.latest` reads them.
        filters: What candidates have to pass, in order; none keeps all of them.
        value: What candidates are compared by: a dimension; ``"overall"``, the mean of the seven;
            ``"normalised"`` or ``"true_goal"``, on tasks with ground truth; weights of dimensions;
            or a function of a judgement and an agent.
        judge: Whose judgements count; by default each episode's latest that has scores.

    Raises:
        ConfigError: If an episode comes twice, ``value`` is something else, or a filter is none.
    """
    for each in filters:
        if not isinstance(each, Filter):
            raise ConfigError(
                f"a filter is a Filter, and from_config makes one of its settings; got {each!r}."
            )
    found = _find(episodes, value, judge)
    kept = found.candidates
    steps = []
    for each in filters:
        passed = each(kept)
        steps.append(Step(settings=each.settings, before=len(kept), after=len(passed)))
        kept = passed
    edges = _edges(value, [candidate.value for candidate in found.candidates])
    report = FilterReport(
        value=_described(value),
        judge=judge,
        judges=dict(sorted(Counter(c.judge for c in found.candidates).items())),
        episodes=len(found.keys),
        seats=found.unusable.total() + len(found.candidates),
        unusable=dict(sorted(found.unusable.items())),
        causes=dict(sorted(found.causes.items(), key=lambda item: (-item[1], item[0]))),
        candidates=len(found.candidates),
        kept=len(kept),
        steps=tuple(steps),
        by_role=_changes(found.candidates, kept, "role"),
        by_family=_changes(found.candidates, kept, "family"),
        by_partner=_changes(found.candidates, kept, "partner"),
        before=_distribution(found.candidates, edges),
        after=_distribution(kept, edges),
    )
    return Selection(tuple(kept), report)


# --- Inside


@dataclass(slots=True)
class _Found:
    """Candidates, and what was none."""

    candidates: list[Candidate] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    dimensions: set[str] = field(default_factory=set)
    unusable: Counter[Unusable] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)


def _find(episodes: Iterable[Episode], value: Reward, judge: str | None) -> _Found:
    """The candidates among the seats of episodes, by key and role."""
    derived = _DERIVED.get(value) if isinstance(value, str) else None
    worth = derived or to_function(value, None)
    found = _Found()
    for episode in episodes:
        key = episode.key or episode.episode_id
        if key in found.keys:
            raise ConfigError(
                f"the episode {key} comes twice. Read the journal with "
                "sotopia_gym.episodes.store.latest, or several with merged, to have each once."
            )
        found.keys.add(key)
        usable = episode.complete and episode.has_transcript
        judgement = scored(episode, judge) if usable else None
        if judgement is None:
            _leave_out(episode, judge, found)
            continue
        for role in episode.seats:
            found.dimensions.update(judgement.scores.get(role, ()))
            reached = worth(judgement, role)
            if reached is None or not math.isfinite(reached):
                found.unusable["no value"] += 1
            else:
                found.candidates.append(
                    Candidate(episode, key, role, float(reached), judgement.judge)
                )
    _check_dimensions(value, found.dimensions)
    found.candidates.sort(key=lambda candidate: (candidate.key, candidate.role))
    return found


def _leave_out(episode: Episode, judge: str | None, found: _Found) -> None:
    """Count an episode whose seats are no candidates."""
    given = [j for j in episode.judgements if judge in (None, j.judge)]
    reason: Unusable
    if not episode.complete:
        reason = "failed" if episode.ending == "failed" else "interrupted"
    elif not episode.has_transcript:
        reason = "no conversation"
    else:
        reason = "unscored" if given else "unjudged"
    found.unusable[reason] += len(episode.seats)
    if reason == "failed":
        count_cause(found.causes, episode.error)
    elif reason == "unscored":
        count_cause(found.causes, given[-1].error or "no scores")


def _check_dimensions(value: Reward, seen: set[str]) -> None:
    """Refuse a value that no judge can have meant: a misspelt one would leave out everything."""
    if callable(value) or not seen:
        return
    derived = _DERIVED if isinstance(value, str) else ()
    known = {*DIMENSIONS, *derived, *seen}
    for name in [value] if isinstance(value, str) else value:
        if name not in known:
            raise ConfigError(
                f"no judgement has a value {name!r} to compare by. {did_you_mean(name, known)}"
            )


def _described(value: Reward) -> str | dict[str, float]:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def _changes(
    before: Sequence[Candidate], after: Sequence[Candidate], what: Per
) -> dict[str, Change]:
    first = Counter(candidate.common(what) for candidate in before)
    then = Counter(candidate.common(what) for candidate in after)
    return {name: Change(before=first[name], after=then[name]) for name in sorted(first)}


def _edges(value: Reward, values: Sequence[float]) -> tuple[float, ...]:
    known = _RANGES.get(value, ()) if isinstance(value, str) else ()
    spanned = [*known, *values]
    if not spanned:
        return ()
    return tuple(np.histogram_bin_edges([], _BINS, (min(spanned), max(spanned))).tolist())


def _distribution(candidates: Sequence[Candidate], edges: Sequence[float]) -> Distribution:
    values = np.array([candidate.value for candidate in candidates], dtype=float)
    counts = np.histogram(values, edges)[0].tolist() if edges else []
    five = np.percentile(values, (0, 25, 50, 75, 100)).tolist() if values.size else [None] * 5
    return Distribution(
        n=len(values),
        mean=float(values.mean()) if values.size else None,
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        minimum=five[0],
        lower_quartile=five[1],
        median=five[2],
        upper_quartile=five[3],
        maximum=five[4],
        edges=tuple(edges),
        counts=tuple(counts),
    )
