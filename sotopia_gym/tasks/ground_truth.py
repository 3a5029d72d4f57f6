"""The ground truth that a scenario's own texts state.

Forty of SOTOPIA's ninety scenarios come from sources with a ground truth (CraigslistBargain, Deal
or No Deal, MutualFriends, PersuasionForGood), but carry it in words only. Here it is read off the
scene and the goals: what is not stated there is not derived.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from sotopia_gym.tasks import visibility
from sotopia_gym.tasks.families.amounts import AMOUNT, value
from sotopia_gym.tasks.families.division import DivisionSpec, items_in
from sotopia_gym.tasks.families.donation import DonationSpec
from sotopia_gym.tasks.families.mutual_friend import MutualFriendSpec, friends_in
from sotopia_gym.tasks.families.price import PriceSpec, role_and_target
from sotopia_gym.tasks.schema import OutcomeSpec, Scenario

_AGENTS: Final = ("agent_0", "agent_1")


@dataclass(frozen=True, slots=True)
class Derived:
    """What was derived from a scenario.

    Attributes:
        scenario: The scenario, with its ground truth if there is any.
        missing: What it would take; empty if the ground truth is there.
    """

    scenario: Scenario
    missing: str = ""


def derive(scenario: Scenario) -> Derived:
    """Read the ground truth off a scenario's texts; one that has it already keeps it."""
    if scenario.outcome is not None:
        return Derived(scenario)
    if len(scenario.goals) != len(_AGENTS):
        return Derived(scenario, "no family with ground truth has this number of goals")
    scene = visibility.render(scenario.context, "environment")
    goals = [
        visibility.render(goal, agent) for goal, agent in zip(scenario.goals, _AGENTS, strict=True)
    ]
    missing = "neither scene nor goals are those of a family with ground truth"
    for read in _READERS:
        found = read(scene, goals)
        if isinstance(found, BaseModel):
            outcome = OutcomeSpec.model_validate(found.model_dump(mode="json"))
            return Derived(scenario.model_copy(update={"outcome": outcome}))
        missing = found or missing
    return Derived(scenario, missing)


Found = BaseModel | str | None
"""A spec; or what is missing for one; or None if the texts are of another kind."""


def _price(scene: str, goals: list[str]) -> Found:
    told = [role_and_target(goal) for goal in goals]
    if None in told or {role for role, _ in filter(None, told)} != {"buyer", "seller"}:
        return None
    by_role = {
        role: (agent, target)
        for agent, (role, target) in zip(_AGENTS, filter(None, told), strict=True)
    }
    asked = AMOUNT.search(scene)
    return PriceSpec(
        buyer=by_role["buyer"][0],
        seller=by_role["seller"][0],
        buyer_target=by_role["buyer"][1],
        seller_target=by_role["seller"][1],
        listing=value(asked) if asked else None,
    )


def _division(scene: str, goals: list[str]) -> Found:
    if not all(re.search(r"\bpoints?\b", goal, re.I) for goal in goals):
        return None
    one, other = (items_in(scene, goal) for goal in goals)
    items = tuple(item for item, _ in one)
    if len(items) < 2 or items != tuple(item for item, _ in other):
        return "not every item has a count in the scene and a value in both goals"
    return DivisionSpec(
        items=items,
        values={
            agent: tuple(worth for _, worth in valued)
            for agent, valued in zip(_AGENTS, (one, other), strict=True)
        },
    )


def _mutual_friend(_scene: str, goals: list[str]) -> Found:
    knows = {agent: friends_in(goal) for agent, goal in zip(_AGENTS, goals, strict=True)}
    if not all(knows.values()):
        return None
    one, other = knows.values()
    common = [name for name in one if other.get(name) == one[name]]
    if len(common) != 1:
        return f"the lists have {len(common)} friends in common, expected one"
    return MutualFriendSpec(knows=knows)


_ASKS: Final = re.compile(
    r"^\W*(?:convince|persuade|get|ask)\b.{0,60}?\b(?:to|make|for)\b.{0,40}\bdonat", re.I | re.S
)
_GIVES: Final = re.compile(r"\b(?:donat|financ|budget)", re.I)
_SUM: Final = r"\$\s?(\d[\d,]*(?:\.\d+)?)"
_TARGETS: Final = (
    re.compile(rf"\bcould afford to donate {_SUM}", re.I),
    re.compile(rf"\bminimum donation\b[^.$]* is {_SUM}", re.I),
    re.compile(rf"\balready donated {_SUM}[^.]*\bmatch your donation", re.I),
    re.compile(rf"\bdonate {_SUM}(?: (?:a|per|each) (?P<period>day|month))?", re.I),
)
_MINIMUM: Final = _TARGETS[1]
_PLANNED: Final = re.compile(rf"\binitially planned to donate {_SUM}", re.I)
_HALF: Final = re.compile(r"\bhalf of what your friend donated\b", re.I)
_DONATED: Final = re.compile(rf"\balready donated {_SUM}", re.I)
_LIMITS: Final = (
    re.compile(rf"\bonly have {_SUM} (?:set aside|left)", re.I),
    re.compile(rf"{_SUM} (?:max|at most)\b", re.I),
)


def _donation(_scene: str, goals: list[str]) -> Found:
    asking = [bool(_ASKS.search(goal)) for goal in goals]
    if sum(asking) != 1:
        return None
    asks = goals[asking.index(True)]
    gives = goals[asking.index(False)]
    if not _GIVES.search(gives):
        return None
    # A plan of the giver that the asker knows is not what the asker is after.
    target = _first(_TARGETS, _PLANNED.sub("", asks))
    if target is None:
        return "no amount is stated"
    minimum = _MINIMUM.search(asks)
    donated = _DONATED.search(asks)
    planned = _amount(_PLANNED.search(asks) or _PLANNED.search(gives))
    if planned is None and donated is not None and _HALF.search(gives):
        planned = (_amount(donated) or 0.0) / 2
    return DonationSpec(
        asker=_AGENTS[asking.index(True)],
        giver=_AGENTS[asking.index(False)],
        target=_amount(target) or 0.0,
        planned=planned,
        limit=_amount(_first(_LIMITS, gives)),
        minimum=_amount(minimum) or 0.0,
        period=target.groupdict().get("period") or "once",
    )


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> re.Match[str] | None:
    return next((match for pattern in patterns if (match := pattern.search(text))), None)


def _amount(match: re.Match[str] | None) -> float | None:
    return None if match is None else float(match[1].replace(",", ""))


_READERS: Final[tuple[Callable[[str, list[str]], Found], ...]] = (
    _price,
    _division,
    _mutual_friend,
    _donation,
)
