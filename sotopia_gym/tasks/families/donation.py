"""Donation and borrowing: one asks another for money, and the other commits to a sum or does not.

Source of the task: PersuasionForGood (Wang et al. 2019, arXiv 1906.06725), where one person tries
to persuade another to give part of a payment to a charity; ten scenarios of SOTOPIA's official
suite derive from it. Unlike in bargaining, one side alone decides: what counts is the commitment
of the giver.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sotopia_gym.envs.dialogue import Event
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families.base import (
    Family,
    Outcome,
    Score,
    Scoring,
    Script,
    Split,
    Temperament,
    draw_characters,
    read_spec,
    require_read,
    said_to_all,
)
from sotopia_gym.tasks.families.donation_reading import (
    Period,
    Statement,
    follow,
    read_asker,
    read_giver,
)
from sotopia_gym.tasks.families.donation_script import SUFFIXES, Kind, player, rounded
from sotopia_gym.tasks.families.price import money
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task

NOTHING_GIVEN: Final = 5.0
"""Goal score of the giver without an agreement: the money is kept, and nobody is helped."""


class DonationSpec(BaseModel):
    """Ground truth of a donation task. Amounts are in dollars, per ``period``.

    Attributes:
        asker: The agent that asks for money.
        giver: The agent that is asked.
        kind: Whether the money is given or lent.
        target: What the asker hopes for.
        planned: What the giver came to give; None if that is not stated.
        limit: The most the giver can give; None if that is not stated.
        minimum: Less than this does not count: it is as if nothing had been given.
        period: Whether the amounts are given once, or every day or month.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["donation"] = "donation"
    asker: str
    giver: str
    kind: Kind = "donation"
    target: float = Field(gt=0, allow_inf_nan=False)
    planned: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    minimum: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    period: Period = "once"

    @model_validator(mode="after")
    def _consistent(self) -> DonationSpec:
        if self.asker == self.giver:
            raise ValueError("asker and giver must be different agents")
        if self.planned is not None and self.limit is not None and self.planned > self.limit:
            raise ValueError(f"planned ({self.planned}) must be at most limit ({self.limit})")
        return self

    @property
    def agents(self) -> tuple[str, ...]:
        """Who can be scored: both, or only the asker where the giver's limit is not stated."""
        return (self.asker,) if self.limit is None else (self.asker, self.giver)

    @property
    def feasible(self) -> bool:
        """Whether the giver can give as much as the asker needs at least."""
        return self.limit is None or self.minimum <= self.limit

    def counts(self, amount: float) -> bool:
        """Whether ``amount`` is a sum of money that is of use to the asker."""
        return math.isfinite(amount) and amount > 0 and amount >= self.minimum

    def goal(self, agent: str, amount: float | None) -> float:
        """Goal score of ``agent`` if ``amount`` is given; None is nothing.

        Asker: ``10 * min(1, amount / target)``, the share of what it hoped for; 0 without an
        agreement.

        Giver: 10 up to ``planned`` (0 if not stated), from there linearly down to 5 at ``limit``
        and on with the same slope to 0. Without an agreement 5, so that the giver is indifferent
        between giving its limit and giving nothing: it keeps what it does not give, as those who
        were asked in PersuasionForGood did. Where ``limit`` equals ``planned`` the slope is
        infinite, so that the score is 0 above it.

        An amount that does not count (:meth:`counts`) is nothing, to both.

        Raises:
            ValueError: If ``agent`` is a giver whose limit is not stated.
        """
        given = amount if amount is not None and self.counts(amount) else 0.0
        if agent == self.asker:
            return 10 * min(1.0, given / self.target)
        if self.limit is None:
            raise ValueError(f"{agent} has no score: its limit is not stated")
        if not given:
            return NOTHING_GIVEN
        planned = self.planned or 0.0
        if given <= planned:
            return 10.0
        if self.limit == planned:
            return 0.0
        return max(0.0, 10 - 5 * (given - planned) / (self.limit - planned))

    def nothing(self, agent: str) -> float:
        """Goal score of ``agent`` without an agreement."""
        return self.goal(agent, None)

    def ceiling(self, agent: str) -> float:
        """The best goal score ``agent`` can have while the other is no worse off than without.

        Asker: ``10 * min(1, limit / target)``. Giver: 10, or what it has from giving ``minimum``
        where that is more than planned. Where there is no better than nothing, or the giver's
        limit is not stated, it is 10.
        """
        best = 10.0
        if self.limit is not None and self.feasible:
            at = self.limit if agent == self.asker else max(self.minimum, self.planned or 0.0)
            best = self.goal(agent, at) if self.counts(at) else 10.0
        return best if best > self.nothing(agent) else 10.0

    def pareto_optimal(self, amount: float | None) -> bool:
        """Whether no other amount, nor nothing, is better for one and worse for none.

        Where the giver cannot be scored, whether the asker has 10.
        """
        mine = tuple(self.goal(agent, amount) for agent in self.agents)
        if self.limit is None:
            return mine == (10.0,)
        # Both scores are monotone and piecewise linear in the amount: if any amount dominates,
        # one of the corners does.
        planned = self.planned or 0.0
        corners = (planned, self.limit, 2 * self.limit - planned, self.target, self.minimum)
        others: list[float | None] = [None]
        others += [max(corner, self.minimum) for corner in corners]
        return not any(
            _dominates(tuple(self.goal(agent, other) for agent in self.agents), mine)
            for other in others
        )


class DonationFamily(Family):
    """Asking for a donation or a loan."""

    name = "donation"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"donation-{self.version}-{split}-{seed}")
        content = load_content("donation", split)
        kind: Kind = rng.choice(("donation", "donation", "loan"))
        matter = rng.choice(content["causes" if kind == "donation" else "needs"])
        place = rng.choice(content["occasions" if kind == "donation" else "settings"])
        monthly = kind == "donation" and matter["monthly"] and rng.random() < 0.3
        period: Period = "month" if monthly else "once"
        asker_first = rng.random() < 0.5
        spec = DonationSpec(
            asker="agent_0" if asker_first else "agent_1",
            giver="agent_1" if asker_first else "agent_0",
            kind=kind,
            period=period,
            **_draw_amounts(matter["monthly"] if monthly else matter["target"], rng),
        )
        subject = matter["cause" if kind == "donation" else "need"]
        scene = place["scene"].format(cause=subject, need=subject)
        relationship = RelationshipType[rng.choice(place["relationships"]).upper()]
        reasons = [entry["text"] for entry in content["reasons"] if entry["kind"] == kind]
        goals = [
            _asker_goal(spec, subject, rng.choice(matter["asker_reasons"]), rng),
            _giver_goal(spec, subject, rng.choice(reasons), rng),
        ]
        task_id = f"donation-v{self.version}-{split}-{seed}"
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"{kind}: {matter['id'].replace('-', ' ')}",
                source="sotopia_gym donation family",
                context=f"{scene} {rng.choice(matter['details'])}",
                goals=tuple(goals if asker_first else reversed(goals)),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(spec.model_dump()),
            ),
            characters=draw_characters(load_cast(split), relationship, rng),
        )

    def check(self, task: Task) -> None:
        if donation_spec(task).limit is None:
            raise TaskError(
                f"task {task.task_id}: the giver's limit is not stated, so that the giver cannot "
                "be scored; the asker can."
            )

    def feasible(self, task: Task) -> bool:
        self.check(task)
        return donation_spec(task).feasible

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """The amount that the giver has committed to: :func:`follow` has the rule."""
        spec = donation_spec(task)
        standing = follow(
            Statement(
                e.turn,
                e.agent == spec.giver,
                (read_giver if e.agent == spec.giver else read_asker)(
                    e.action.argument, spec.period
                ),
            )
            for e in said_to_all(events, (spec.asker, spec.giver))
        )
        if standing.pledge is None:
            return Outcome(family=self.name, status="no-agreement")
        return Outcome(
            family=self.name,
            status="agreement",
            terms={"amount": standing.pledge},
            turn=standing.turn,
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`DonationSpec.goal`.

        ``normalised`` is ``(goal - nothing) / (ceiling - nothing)`` with the agent's goal score
        without an agreement (asker 0, giver 5) and :meth:`DonationSpec.ceiling`; in an infeasible
        task and where the giver's limit is not stated that is ``goal / 10`` for the asker. A giver
        whose limit is not stated has no score.
        """
        require_read(outcome, self.name)
        spec = donation_spec(task)
        amount = float(outcome.terms.get("amount", 0.0)) if outcome.agreed else None
        goals = {agent: spec.goal(agent, amount) for agent in spec.agents}
        gains = {agent: goal - spec.nothing(agent) for agent, goal in goals.items()}
        return Scoring(
            scores={
                agent: Score(goal, gains[agent] / (spec.ceiling(agent) - spec.nothing(agent)))
                for agent, goal in goals.items()
            },
            surplus=sum(gains.values()),
            pareto_optimal=spec.pareto_optimal(amount),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        return player(brief, temperament, rng)


def donation_spec(task: Task) -> DonationSpec:
    """The donation ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "donation", DonationSpec)
    if not {spec.asker, spec.giver} <= set(task.agents):
        raise TaskError(f"task {task.task_id}: asker and giver must be among {task.agents}.")
    return spec


# --- generation -----------------------------------------------------------------------------

_REQUESTS: Final = {"donation": "donation to {subject}", "loan": "loan towards {subject}"}
_ASKER_GOALS: Final = (
    "You are asking for a {request}. You hope for {target}: every dollar up to that counts the "
    "same, and more than that adds nothing.",
    "Win the other over for a {request}. What you hope for is {target}; half of it would be half a "
    "success, and anything above it is no use to you.",
    "Come away with a {request}. You hope for {target}, and the closer you come to it, the better. "
    "Beyond it nothing is gained.",
    "Today you bring yourself to ask for a {request}. You hope for {target}, where each dollar on "
    "the way counts as much as the next and those after it do not count.",
    "You want the other to say yes to a {request}. In your heart you hope for {target}; measure "
    "your success by how much of that you get.",
)
_NO_MINIMUM: Final = (
    "Any sum is of use, however small.",
    "Even a small sum would help.",
    "No sum is too small to be welcome; only with none at all you would go away empty-handed.",
)
_MINIMUM: Final = (
    "Less than {minimum} would not help at all: it would be as if nothing had been given.",
    "But less than {minimum} is of no use and counts as nothing; in that case a friendly no is "
    "just as good.",
    "It cannot be done by halves, however: less than {minimum} would count as nothing.",
)
_GIVER_GOALS: Final = (
    "You are about to be asked for a {request}. {prepared} You could go up to {limit}, but every "
    "dollar beyond {planned} takes a little away from the good feeling, and at {limit} you would "
    "be just as well off with a no. More would hurt.",
    "You are the one whose help is wanted with a {request}. {prepared} Up to {limit} is possible: "
    "the further you go beyond {planned}, the less you like it, until at {limit} you might as well "
    "have kept your money. More than that would hurt.",
    "The other would like a {request}, and it is for you to decide. {prepared} If need be you can "
    "go up to {limit}, though each dollar beyond {planned} costs you some of your pleasure in it, "
    "and at {limit} none is left. Above that you would be sorry.",
)
_PREPARED: Final = (
    "You came prepared to {give} {planned}, and to {give} that much or less leaves you entirely "
    "content.",
    "You came prepared to {give} {planned}: that is easily spared, and you would be fully "
    "satisfied with it.",
)
_UNPREPARED: Final = (
    "You came prepared to {give} nothing, though a very small sum would be a pure pleasure.",
    "You came prepared to {give} nothing; the smaller the sum that helps, the happier you are.",
)
_KEPT: Final = (
    "Giving nothing is half a success: the money is kept, but nobody is helped. A sum too small "
    "to be of use counts as nothing.",
    "With a no you are half content, because your money is kept and nobody is helped; the same "
    "goes for a sum that is too small to be of any use.",
)


def _asker_goal(spec: DonationSpec, subject: str, reason: str, rng: random.Random) -> str:
    request = _REQUESTS[spec.kind].format(subject=subject)
    suffix = SUFFIXES[spec.period]
    text = rng.choice(_ASKER_GOALS).format(request=request, target=money(spec.target) + suffix)
    least = rng.choice(_MINIMUM if spec.minimum else _NO_MINIMUM)
    least = least.format(minimum=money(spec.minimum) + suffix)
    return f"{text} {least} (<extra_info>Extra information: {reason}</extra_info>)"


def _giver_goal(spec: DonationSpec, subject: str, reason: str, rng: random.Random) -> str:
    suffix = SUFFIXES[spec.period]
    planned = money(spec.planned or 0.0) + suffix
    give = "give" if spec.kind == "donation" else "lend"
    prepared = rng.choice(_PREPARED if spec.planned else _UNPREPARED)
    text = rng.choice(_GIVER_GOALS).format(
        request=_REQUESTS[spec.kind].format(subject=subject),
        prepared=prepared.format(give=give, planned=planned),
        planned=planned if spec.planned else "that",
        limit=money(spec.limit or 0.0) + suffix,
    )
    kept = rng.choice(_KEPT)
    return f"{text} {kept} (<extra_info>Extra information: {reason}</extra_info>)"


def _draw_amounts(span: Sequence[float], rng: random.Random) -> dict[str, float]:
    """Amounts that agree with one another; in about 8 % the minimum is above the limit."""
    infeasible = rng.random() < 0.08
    while True:
        target = rounded(rng.uniform(*span))
        limit = rounded(target * rng.uniform(0.4, 0.75 if infeasible else 1.3))
        planned = 0.0 if rng.random() < 0.08 else rounded(limit * rng.uniform(0.2, 0.85))
        minimum = 0.0
        if infeasible:
            minimum = rounded(limit * rng.uniform(1.1, 1.6))
        elif rng.random() < 0.45:
            minimum = rounded(limit * rng.uniform(0.15, 0.9))
        possible = planned < limit and minimum <= target
        if possible and (minimum > limit if infeasible else minimum < limit):
            return {"target": target, "planned": planned, "limit": limit, "minimum": minimum}


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other
