"""Joint plans: three to five people agree on one option for every issue, or on no plan at all.

The task is a multi-issue negotiation with private points (Raiffa 1982, *The Art and Science of
Negotiation*) under unanimity. Members may talk in private; only what all of them hear commits.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, model_validator

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
from sotopia_gym.tasks.families.plan_reading import (
    Issue,
    Plan,
    Remark,
    bare,
    points,
    read_statement,
    settle,
)
from sotopia_gym.tasks.families.plan_script import player
from sotopia_gym.tasks.families.wording import listed
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task


class PlanSpec(BaseModel):
    """Ground truth of a plan task.

    Attributes:
        issues: What there is to settle; no option occurs twice.
        values: For each of the three to five agents and each issue the points of its options: at
            least 0, and not all 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["plan"] = "plan"
    issues: tuple[Issue, ...]
    values: dict[str, tuple[tuple[float, ...], ...]]

    @model_validator(mode="after")
    def _complete(self) -> PlanSpec:
        options = [bare(option) for issue in self.issues for option in issue.options]
        if not self.issues or min(len(issue.options) for issue in self.issues) < 2:
            raise ValueError("there must be issues, each with at least two options")
        if len(set(options)) != len(options):
            raise ValueError(f"an option occurs twice in {options}")
        if not 3 <= len(self.values) <= 5:
            raise ValueError(f"three to five agents plan, got values for {sorted(self.values)}")
        shape = [len(issue.options) for issue in self.issues]
        for agent, values in self.values.items():
            worth = [point for row in values for point in row]
            if [len(row) for row in values] != shape or min(worth) < 0 or max(worth) <= 0:
                raise ValueError(
                    f"{agent} needs {shape} values of at least 0, not all 0; got {values}"
                )
        return self

    def plans(self) -> list[Plan]:
        """All plans that there are."""
        return list(itertools.product(*(range(len(issue.options)) for issue in self.issues)))

    def goal(self, agent: str, plan: Plan) -> float:
        """Goal score: ``10 * points(plan) / points(the best plan for the agent)``, 0 to 10."""
        best = sum(max(row) for row in self.values[agent])
        return 10 * points(self.values[agent], plan) / best

    def pareto_optimal(self, plan: Plan) -> bool:
        """Whether no other plan is worth more to one and no less to any."""
        had = [points(values, plan) for values in self.values.values()]
        for other in self.plans():
            got = [points(values, other) for values in self.values.values()]
            if got != had and all(g >= h for g, h in zip(got, had, strict=True)):
                return False
        return True

    def named(self, plan: Plan) -> dict[str, str]:
        """The plan in words: issue to option."""
        pairs = zip(self.issues, plan, strict=True)
        return {issue.name: issue.options[choice] for issue, choice in pairs}

    def plan_of(self, terms: Mapping[str, Any]) -> Plan | None:
        """The plan with these words, or None if there is none."""
        wanted = terms.get("plan")
        return next((plan for plan in self.plans() if self.named(plan) == wanted), None)


class PlanFamily(Family):
    """Planning something together in a group of three to five."""

    name = "plan"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        """The task with this number; it has ``3 + seed % 3`` agents.

        Some plan is worth at least :data:`WORTHWHILE` goal points to each of them, and they do
        not all want the same.
        """
        rng = random.Random(f"plan-{self.version}-{split}-{seed}")
        content = load_content("plan", split)
        setting = rng.choice(content["settings"])
        relationship = RelationshipType[rng.choice(setting["relationships"]).upper()]
        chosen = rng.sample(setting["issues"], rng.choice((2, 3, 3)))
        issues = tuple(
            Issue(name=i["name"], options=tuple(rng.sample(i["options"], rng.choice((3, 4)))))
            for i in chosen
        )
        agents = [f"agent_{index}" for index in range(3 + seed % 3)]
        spec = _draw_spec(issues, agents, rng)
        reasons = _draw_reasons(spec, [issue["kind"] for issue in chosen], content["reasons"], rng)
        task_id = f"plan-v{self.version}-{split}-{seed}"
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"plan: {setting['id'].replace('-', ' ')}",
                source="sotopia_gym plan family",
                context=_scene(setting, issues, len(agents), rng),
                goals=tuple(
                    f"{rng.choice(_GOALS).format(worth=_worth(issues, spec.values[agent]))} "
                    f"(<extra_info>Extra information: {reasons[agent]}</extra_info>)"
                    for agent in agents
                ),
                relationship=relationship,
                constraints=(Constraint(),) * len(agents),
                outcome=OutcomeSpec.model_validate(spec.model_dump(mode="json")),
            ),
            characters=draw_characters(load_cast(split), relationship, rng, len(agents)),
        )

    def check(self, task: Task) -> None:
        plan_spec(task)

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """The plan settled: :func:`settle` has the rule, :func:`read_statement` the meaning.

        Only what every member could hear counts. What is settled when the first member leaves
        stands; after that nothing can be settled, since one who has left cannot agree.
        """
        spec = plan_spec(task)
        left = [e.turn for e in events if e.action.action_type == "leave"]
        names = task.names
        members = tuple(sorted(names.values()))
        standing = settle(
            (
                Remark(
                    names[e.agent],
                    e.turn,
                    read_statement(e.action.argument, spec.issues, members),
                )
                for e in said_to_all(events, spec.values)
                if not left or e.turn <= left[0]
            ),
            members,
        )
        if standing.agreement is None:
            return Outcome(family=self.name, status="no-agreement")
        return Outcome(
            family=self.name,
            status="agreement",
            terms={"plan": spec.named(standing.agreement.terms)},
            turn=standing.agreement.turn,
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`PlanSpec.goal`; no plan and impossible plans are 0 for all.

        Nobody is worse off with any plan than without, so the ceiling of each role is its own
        best plan and ``normalised`` is ``goal / 10``.
        """
        require_read(outcome, self.name)
        spec = plan_spec(task)
        plan = spec.plan_of(outcome.terms) if outcome.agreed else None
        if plan is None:
            return Scoring({agent: Score(0.0, 0.0) for agent in spec.values}, 0.0, False)
        goals = {agent: spec.goal(agent, plan) for agent in spec.values}
        return Scoring(
            scores={agent: Score(goal, goal / 10) for agent, goal in goals.items()},
            surplus=sum(goals.values()),
            pareto_optimal=spec.pareto_optimal(plan),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        return player(brief, temperament, rng)


def plan_spec(task: Task) -> PlanSpec:
    """The plan ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "plan", PlanSpec)
    if spec.values.keys() != set(task.agents):
        raise TaskError(
            f"task {task.task_id}: a plan needs the values of all of {task.agents}, "
            f"got those of {sorted(spec.values)}."
        )
    return spec


# --- generation -----------------------------------------------------------------------------

WORTHWHILE: Final = 4.0
"""Goal points that some plan of a generated task is worth to everybody at least."""

_NUMBER: Final = {3: "three", 4: "four", 5: "five"}
_OPEN: Final = (
    "Still open: {issues}.",
    "What remains to be settled: {issues}.",
    "They have yet to choose: {issues}.",
    "Undecided so far: {issues}.",
)
_RULES: Final = (
    "A plan stands once somebody has put it forward in full and each of the others has agreed to "
    "it in front of all; if anyone leaves before that, there is no plan.",
    "It takes a complete plan to which all of them say yes in front of everybody: whoever leaves "
    "before that takes the plan along.",
    "Nothing is fixed until one complete plan has been proposed to the whole group and every other "
    "member has agreed out loud, and nobody can agree who has already left.",
)
_GOALS: Final = (
    "Get a plan that is worth as many points to you as possible. Your points: {worth}. Without a "
    "plan that everybody agrees to, you get nothing.",
    "See to it that the plan is to your liking. This is what the choices are worth to you in "
    "points: {worth}. Should the group not agree on a plan, nobody gets any.",
    "Bring the group to a plan with as many of your own points as you can. They are as follows: "
    "{worth}. No plan means no points.",
    "You care how this plan turns out, and the others care in ways of their own. Your points are "
    "these: {worth}. If even one of the group does not agree, there is no plan and there are no "
    "points.",
)


def _scene(
    setting: Mapping[str, Any], issues: Sequence[Issue], count: int, rng: random.Random
) -> str:
    open_issues = [f"the {i.name} ({listed(i.options, 'or')})" for i in issues]
    return " ".join(
        (
            setting["scene"].format(number=_NUMBER[count]),
            rng.choice(setting["details"]),
            rng.choice(_OPEN).format(issues=listed(open_issues)),
            rng.choice(_RULES),
        )
    )


def _worth(issues: Sequence[Issue], values: Sequence[Sequence[float]]) -> str:
    told = [
        f"for the {issue.name}, "
        + listed([f"{option} {point:g}" for option, point in zip(issue.options, row, strict=True)])
        for issue, row in zip(issues, values, strict=True)
    ]
    return "; ".join(told)


def _draw_spec(issues: tuple[Issue, ...], agents: Sequence[str], rng: random.Random) -> PlanSpec:
    while True:
        spec = PlanSpec(
            issues=issues, values={agent: _draw_values(issues, rng) for agent in agents}
        )
        favourites = {tuple(row.index(max(row)) for row in v) for v in spec.values.values()}
        if len(favourites) > 1 and any(
            min(spec.goal(agent, plan) for agent in agents) >= WORTHWHILE for plan in spec.plans()
        ):
            return spec


def _draw_values(issues: Sequence[Issue], rng: random.Random) -> tuple[tuple[float, ...], ...]:
    """Whole points with one favourite in each issue, the issues differing in importance."""
    rows = []
    for issue in issues:
        most = rng.randint(2, 9)
        row = [most, *(rng.randint(0, most - 1) for _ in issue.options[1:])]
        rng.shuffle(row)
        rows.append(tuple(map(float, row)))
    return tuple(rows)


def _draw_reasons(
    spec: PlanSpec,
    kinds: Sequence[str],
    reasons: Sequence[Mapping[str, str]],
    rng: random.Random,
) -> dict[str, str]:
    """For each agent why one of its favourites is one, never the same reason twice."""
    left = list(reasons)
    drawn = {}
    for agent, values in spec.values.items():
        by_weight = sorted(range(len(values)), key=lambda i: -max(values[i]))
        issue = next(i for i in by_weight if any(r["kind"] == kinds[i] for r in left))
        reason = rng.choice([r for r in left if r["kind"] == kinds[issue]])
        left.remove(reason)
        row = values[issue]
        favourite = spec.issues[issue].options[row.index(max(row))]
        drawn[agent] = reason["text"].format(option=favourite)
    return drawn
