"""What a run of SOTOPIA-pi consists of, as a small TOML file."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sotopia_gym.agents.prompts import PROMPTS
from sotopia_gym.errors import ConfigError, did_you_mean
from sotopia_gym.integrations.trl import Settings
from sotopia_gym.tasks.families import families
from sotopia_gym.tasks.schema import Suite
from sotopia_gym.training.filters import from_config

CONFIGS: Final = Path(__file__).parent / "configs"
_NAME: Final = r"^[a-z0-9_-]+$"
_TAKEN: Final = ("base", "report", "tasks")
"""Names that steps of every recipe have."""

Name = Annotated[str, Field(pattern=_NAME)]
_Kind = TypeVar("_Kind", bound="Study")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Model):
    """The model that is trained, and how it plays.

    Attributes:
        base: ``"local/NAME"`` for an embedded model, else a folder, or a name on the hub.
        prompt: What it is asked with; one of :data:`sotopia_gym.agents.prompts.PROMPTS`.
        temperature: Of sampling.
        top_p: Of sampling.
        max_tokens: Longest answer.
        context: Most tokens of a prompt and its answer; None for as many as the model can read.
        guided: Whether sampling is held to actions that are allowed.
        exact: Whether episodes are the same whatever is played beside them.
        dtype: Precision it plays in.
        max_batch: Most answers written at once.
    """

    base: str
    prompt: str = "chat"
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=160, ge=1)
    context: int | None = Field(default=None, ge=16)
    guided: bool = False
    exact: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_batch: int = Field(default=48, ge=1)

    @field_validator("prompt")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PROMPTS:
            raise ValueError(f"no prompt {value!r}. {did_you_mean(value, PROMPTS)}")
        return value


class Tasks(_Model):
    """Which tasks: of families, made here, or of a suite.

    Attributes:
        families: Families with ground truth.
        count: Tasks of each; every seed of the recipe gets others to train on.
        suite: Name or file of a suite, e.g. one that ``sotopia-gym tasks generate`` wrote.
        split: Its split; None for all.
        pairs: How many tasks of each of its scenarios, that is pairs of characters; None for all.
    """

    families: tuple[str, ...] = ()
    count: int = Field(default=0, ge=0)
    suite: str | None = None
    split: Literal["train", "heldout"] | None = None
    pairs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_way(self) -> Tasks:
        if bool(self.families) == bool(self.suite) or bool(self.families) != bool(self.count):
            raise ValueError("give families and count, or suite")
        if self.families and (self.split or self.pairs):
            raise ValueError("split and pairs are of a suite; families have none")
        for name in self.families:
            if name not in families():
                raise ValueError(f"no family {name!r}. {did_you_mean(name, families())}")
        return self

    def part_of(self, suite: Suite) -> Suite:
        """The part of the suite that is meant."""
        suite = suite if self.split is None else suite.split(self.split)
        if self.pairs is None:
            return suite
        seen: Counter[str] = Counter()
        kept = []
        for task in suite.tasks:
            seen[task.scenario.scenario_id] += 1
            if seen[task.scenario.scenario_id] <= self.pairs:
                kept.append(task)
        return Suite(name=suite.name, version=suite.version, tasks=tuple(kept))


class Collection(_Model):
    """Which episodes are played to learn from.

    Attributes:
        agent: Whose turns are learned; None for the model itself.
        partners: Whom it meets, one drawn for each episode; none: itself in all roles.
        repetitions: Episodes of each task and role.
        tasks: How many of the tasks to train on, of each family or of the suite; None for all.
        skip: How many of those to leave out before them, for rounds that shall not share tasks.
    """

    agent: str | None = None
    partners: tuple[str, ...] = ()
    repetitions: int = Field(default=1, ge=1)
    tasks: int | None = Field(default=None, ge=1)
    skip: int | None = Field(default=None, ge=1)


class Stage(_Model):
    """One way to make a better model of a model.

    Attributes:
        collection: The name of a collection; one whose agent is the model is played anew.
        value: What episodes are kept by.
        filters: What keeps them, in order; see :mod:`sotopia_gym.training.filters`.
        method: ``"sft"`` imitates what was kept; ``"dpo"`` prefers the best episode of each task,
            role and partner to the worst.
        gap: Smallest difference in value of a pair, above 0; for ``"dpo"``.
        layout: ``"packed"``: an episode is one row; ``"turns"``: each turn is.
        silent_turns: Whether turns in which nothing was done are imitated too.
        training: How.
    """

    collection: str
    value: str = "goal"
    filters: tuple[dict[str, Any], ...] = ()
    method: Literal["sft", "dpo"] = "sft"
    gap: float = Field(default=1.0, gt=0)
    layout: Literal["packed", "turns"] = "packed"
    silent_turns: bool = True
    training: Settings

    @field_validator("filters")
    @classmethod
    def _read(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for each in value:
            from_config(each)
        return value


class Evaluation(_Model):
    """How every model is measured, on tasks and partners that it did not learn with.

    Attributes:
        partners: Whom it meets.
        every_partner: Whether it meets each of them in each task, instead of one that is drawn.
        repetitions: Episodes of each task, role and partner.
        seed: Seed of the episodes: the same for all models and seeds of the recipe, so that they
            are compared on the same luck.
        floors: Agents that play the same episodes, for comparison.
        name: Told apart by it are evaluations of the same models, in one folder: recipes that
            differ in nothing but ``heldout`` and ``evaluation`` share all that is trained.
    """

    partners: tuple[str, ...] = Field(min_length=1)
    every_partner: bool = True
    repetitions: int = Field(default=1, ge=1)
    seed: int = 0
    floors: tuple[str, ...] = ()
    name: str | None = Field(default=None, pattern=_NAME)


class Study(_Model):
    """What all recipes say: the model, the tasks, and how it is measured.

    Attributes:
        name: Its name; results are kept under it.
        description: What it is for.
        model: The model.
        train: Tasks to learn on.
        heldout: Tasks to be measured on.
        judge: Who scores.
        judge_max_cost: US dollars after which a step that plays stops; run again, it goes on, and
            may spend as much again.
        max_turns: Turns of an episode.
        concurrency: Episodes in flight.
        requests: Requests in flight at an address.
        evaluation: How models are measured.
        threads: Threads that each step computes with.
    """

    name: str
    description: str = ""
    model: Model
    train: Tasks
    heldout: Tasks
    judge: str = "outcome"
    judge_max_cost: float | None = Field(default=None, gt=0)
    max_turns: int = Field(default=20, ge=2)
    concurrency: int = Field(default=48, ge=1)
    requests: int = Field(default=8, ge=1)
    evaluation: Evaluation
    threads: int = Field(default=1, ge=1)


class Recipe(Study):
    """A whole run of SOTOPIA-pi.

    Attributes:
        arms: The models that are compared: ``"base"``, or stages joined by ``+`` in the order in
            which they are applied, e.g. ``"bc+sr"``.
        collections: Collections by name.
        stages: Stages by name.
        launch: What training is started with in place of the interpreter alone, e.g.
            ``["accelerate", "launch", "--config_file", FILE]`` with one of
            ``baselines/configs/accelerate``.
        seconds_per_1k_tokens: For estimates of time: of the model's playing, per thousand tokens of
            conversation, and of training, per thousand tokens read.
    """

    arms: tuple[str, ...]
    collections: dict[Name, Collection]
    stages: dict[Name, Stage]
    launch: tuple[str, ...] = ()
    seconds_per_1k_tokens: tuple[float, float] = (10.0, 10.0)

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        for name in (*self.stages, *self.collections):
            if name in _TAKEN or (name in self.stages and name in self.collections):
                raise ValueError(f"{name!r} is taken; give the stage or collection another name")
        for name, stage in self.stages.items():
            if stage.collection not in self.collections:
                raise ValueError(
                    f"stage {name!r} learns from {stage.collection!r}, which is no collection. "
                    f"{did_you_mean(stage.collection, self.collections)}"
                )
        for arm in self.arms:
            for stage_name in stages_of(arm):
                if stage_name not in self.stages:
                    known = did_you_mean(stage_name, self.stages)
                    raise ValueError(f"arm {arm!r} has no known stage {stage_name!r}. {known}")
        return self


def stages_of(arm: str) -> list[str]:
    """The stages of an arm, in the order in which they are applied; none for ``"base"``."""
    return [] if arm == "base" else arm.split("+")


def load(
    name: str | Path,
    changes: Sequence[str] = (),
    *,
    kind: type[_Kind] = Recipe,  # type: ignore[assignment]  # no default fits every kind
) -> _Kind:
    """Read a recipe.

    A file may begin with ``extends = "NAME"``: it then has all that the other one has, but for what
    it says itself. Tables are merged, everything else is replaced.

    Args:
        name: A file, or the name of one in ``baselines/configs``.
        changes: Settings to change, as ``KEY=VALUE`` with dots in the key, e.g.
            ``"stages.bc.training.epochs=2"``; values are JSON, or text.
        kind: What recipe it is.

    Raises:
        ConfigError: If there is no such file, or it is not a recipe; the message says where.
    """
    path = _path(name)
    settings = _read(path)
    for change in changes:
        _change(settings, change)
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(map(str, each['loc'])) or 'recipe'}: {each['msg']}"
            for each in error.errors()
        )
        raise ConfigError(f"{path} is not a recipe:\n{problems}") from None


def _path(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix != ".toml":
        path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        known = sorted(found.stem for found in CONFIGS.glob("*.toml"))
        raise ConfigError(f"no recipe {str(name)!r}. {did_you_mean(str(name), known)}")
    return path


def _read(path: Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings in a file, and in those that it extends."""
    if path in within:
        raise ConfigError(f"{path} extends itself.")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    beside = path.parent / f"{parent}.toml"
    known = _read(beside if beside.is_file() else _path(parent), (*within, path))
    return _merged(known, settings)


def _merged(known: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        both_tables = isinstance(value, dict) and isinstance(known.get(key), dict)
        known[key] = _merged(known[key], value) if both_tables else value
    return known


def _change(settings: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"expected KEY=VALUE, got {change!r}.")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{change!r}: {parent!r} is a value and has no parts.")
    settings[last] = value
