"""Published numbers of the official suites, with how a run's protocol differs from theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from sotopia_gym.benchmark.result import Config, Counts, Published, PublishedRow
from sotopia_gym.tasks.suites import OFFICIAL_SUITES

SELF_PLAY: Final = "itself"
"""The partner of an agent that plays all roles."""

PEOPLE: Final = "people"
"""The judge of scores that people gave, and the partner of agents that met people."""

_DATE: Final = re.compile(r"-\d{4}(-\d\d-\d\d)?$")
"""How the name of a model's snapshot ends: "-0613", "-2024-08-06"."""


class PublishedAgreement(BaseModel):
    """How far a judge and people, or people among themselves, agreed.

    Attributes:
        source: The paper.
        suite: The suite whose episodes were scored; None if they are of several.
        between: Whose scores are compared.
        judge: The judge; None where people are compared among themselves.
        model: Whose episodes they are; ``"all"`` for those of all models together.
        measure: Pearson's correlation, the share of pairs of raters whose scores are in the same
            bin, or Randolph's free-marginal kappa of these bins.
        values: Dimension to value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    suite: str | None
    between: Literal["judge and people", "people"]
    judge: str | None
    model: str
    measure: Literal["pearson", "pairwise_agreement", "randolph_kappa"]
    values: dict[str, float]


class PublishedSafety(BaseModel):
    """What a model did in a dilemma, where one character is set on harm and one on preventing it.

    Attributes:
        source: The paper.
        tasks: How many dilemmas it is from.
        episodes: How many episodes of each role.
        model: The model.
        roles: Agent to measure to its mean: ``agent_0`` is set on the harm (``engagement`` and
            ``harm`` are shares of episodes, ``toxic_words`` a number an episode) and ``agent_1`` on
            preventing it (shares ``engagement`` and ``prevention``, number of ``solutions``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    tasks: int
    episodes: int
    model: str
    roles: dict[str, dict[str, float]]


class PublishedKnowledge(BaseModel):
    """How much of a multiple-choice test a model answers rightly.

    Attributes:
        source: The paper.
        test: The test.
        shots: How many solved examples precede each question.
        model: The model.
        accuracy: Share of right answers, from 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    test: str
    shots: int
    model: str
    accuracy: float


def published(config: Config, counts: Counts) -> Published:
    """The published rows of the suite that a run played, next to what the run did otherwise."""
    if config.suite not in OFFICIAL_SUITES:
        return Published(
            note=f"Published numbers are of other tasks ({', '.join(OFFICIAL_SUITES)}) and not "
            f"comparable with suite {config.suite!r}."
        )
    rows = [
        row.model_copy(update={"differences": tuple(_differences(row, config, counts))})
        for row in published_rows()
        if row.suite == config.suite
    ]
    return Published(
        note=f"Published numbers of {config.suite}. They were made by other protocols: what is "
        "known to differ from this run is listed for each row.",
        rows=tuple(rows),
    )


@lru_cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All mean scores that papers report, each with its protocol."""
    raw = _raw()
    return tuple(
        PublishedRow(
            model=model,
            source=raw["sources"][table["source"]],
            **{key: table[key] for key in table if key not in ("source", "columns", "rows")},
            scores=dict(zip(table["columns"], values, strict=True)),
        )
        for table in raw["tables"]
        for model, values in table["rows"].items()
    )


@lru_cache
def published_agreement() -> tuple[PublishedAgreement, ...]:
    """What papers report of how far judges and people agree."""
    raw = _raw()
    return tuple(
        PublishedAgreement(
            model=model,
            source=raw["sources"][table["source"]],
            **{key: table[key] for key in table if key not in ("source", "rows")},
            values=values,
        )
        for table in raw["agreement"]
        for model, values in table["rows"].items()
    )


@lru_cache
def published_safety() -> tuple[PublishedSafety, ...]:
    """What papers report of models in dilemmas."""
    raw = _raw()
    return tuple(
        PublishedSafety(
            source=raw["sources"][table["source"]],
            tasks=table["tasks"],
            episodes=table["episodes"],
            model=model,
            roles={
                agent: dict(zip(table[agent], values, strict=True))
                for agent, values in zip(("agent_0", "agent_1"), roles, strict=True)
            },
        )
        for table in raw["safety"]
        for model, roles in table["rows"].items()
    )


@lru_cache
def published_knowledge() -> tuple[PublishedKnowledge, ...]:
    """What papers report of models' knowledge before and after social training."""
    raw = _raw()
    return tuple(
        PublishedKnowledge(
            source=raw["sources"][table["source"]],
            test=table["test"],
            shots=table["shots"],
            model=model,
            accuracy=accuracy,
        )
        for table in raw["knowledge"]
        for model, accuracy in table["rows"].items()
    )


def _raw() -> dict[str, Any]:
    text = (files("sotopia_gym") / "published.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _differences(row: PublishedRow, config: Config, counts: Counts) -> Iterator[str]:
    """What this run did otherwise, in words."""
    if row.judge == PEOPLE:
        yield f"judge: people rated theirs, ours is {config.judge}"
    else:
        yield from _another("judge", row.judge, config.judge, config.judge_models)
        if config.judge_prompt:
            yield f"judge's prompt: ours is worded by this library (version {config.judge_prompt})"
    if len(config.partners) > 1:
        how = "every one of" if config.every_partner else "one drawn from"
        yield f"partner: theirs is {row.partner}, ours is {how} {', '.join(config.partners)}"
    else:
        (ours,) = config.partners or (SELF_PLAY,)
        yield from _another("partner", row.partner, ours, config.models.get(ours, ()))
    yield from _episodes_differ(row, config, counts)
    if row.max_turns is not None and row.max_turns != config.rules.max_turns:
        yield f"turns: theirs end after {row.max_turns}, ours after {config.rules.max_turns}"
    if config.rules.turn_order != "round-robin":
        yield f"turn order: ours is {config.rules.turn_order!r}, SOTOPIA's 'round-robin'"
    if row.roles == "both" and config.roles != "both":
        yield f"roles: theirs are both, ours the {config.roles}"
    if config.prompts:
        versions = sorted({version for used in config.prompts.values() for version in used})
        yield f"players' prompts: ours are {', '.join(versions)}, theirs are not recorded here"


def _episodes_differ(row: PublishedRow, config: Config, counts: Counts) -> Iterator[str]:
    counted = f"{counts.scored} scored of {config.scenarios} scenarios"
    if row.episodes is None:
        yield f"episodes: how many theirs are is not recorded here, ours are {counted}"
    elif (row.episodes, row.scenarios) != (counts.scored, config.scenarios):
        yield f"episodes: theirs are {row.episodes} of {row.scenarios} scenarios, ours {counted}"
    if counts.scored < counts.planned:
        missing = counts.planned - counts.scored
        yield f"missing: {missing} of our {counts.planned} episodes have no score"
    if config.split is not None:
        yield f"tasks: ours are those of the split {config.split!r} only"


def _another(what: str, theirs: str | None, ours: str, answered: Sequence[str]) -> Iterator[str]:
    """How two models differ, if they do.

    Args:
        what: What they are there for.
        theirs: The model of a paper, as it calls it.
        ours: The spec of ours.
        answered: How the server of ours names it.
    """
    dated = f"{ours}, answered as {', '.join(answered)}" if answered else ours
    if theirs is None:
        yield f"{what}: theirs is not recorded here, ours is {dated}"
        return
    # Of a spec, the model without its address and prompt.
    name = re.split(r"[@?]", ours)[0].casefold()
    if name == theirs.casefold():
        same, known = True, _DATE.search(name) is not None or theirs == SELF_PLAY
    else:
        same, known = _DATE.sub("", name) == theirs.casefold(), False
    if not same:
        yield f"{what}: theirs is {theirs}, ours is {dated}"
    elif not known:
        yield f"{what}'s snapshot: theirs is told as {theirs} only, ours is {dated}"
