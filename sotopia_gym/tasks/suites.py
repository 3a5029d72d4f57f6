"""Named suites: the one that ships, the ones that were imported, and files."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from sotopia_gym.errors import MissingSuiteError, TaskError, UnknownIdError, did_you_mean
from sotopia_gym.files import suites_folder, write_whole
from sotopia_gym.tasks.content import load_cast, load_content, read_text
from sotopia_gym.tasks.families import SPLITS, Family, Split, families, get_family
from sotopia_gym.tasks.pairing import pairs
from sotopia_gym.tasks.schema import (
    Constraint,
    RelationshipType,
    Scenario,
    Suite,
    Task,
    canonical_json,
)

STARTER_SHA256 = "9b8497839059327cf58203831c8cdb58967c9fa30cca74fe48197ea1f13722b9"
"""SHA-256 of the file of the frozen ``starter`` suite, version 1."""

_STARTER_FAMILIES = ("price", "division")
_STARTER_TASKS: Mapping[Split, int] = {"train": 40, "heldout": 20}  # of each family
_FAMILIES_TASKS: Mapping[Split, int] = {"train": 20, "heldout": 10}
_PLAN_TASKS: Mapping[Split, int] = {"train": 40, "heldout": 20}
_OPEN_PAIRS = 3

OFFICIAL_SUITES = ("sotopia-all", "sotopia-hard")
_HOW_TO_GET_OFFICIAL = (
    "Its texts are SOTOPIA's and do not come with this library. Get them with\n"
    "  sotopia-gym tasks fetch sotopia\n"
    "or, if you have the files agent_profiles.jsonl, environment_profiles.jsonl, "
    "env_agent_combo_storages.jsonl and relationship_profiles.jsonl in a folder, with\n"
    "  sotopia-gym tasks import FOLDER"
)


def load_suite(name: str | Path) -> Suite:
    """Load a suite.

    Args:
        name: One that comes with the library (:data:`BUILT_IN`), e.g. ``"starter"``; the name of
            an imported suite, e.g. ``"sotopia-all"`` or ``"sotopia-hard"``; or the path of a suite
            file, ending in ``.json``.

    Raises:
        MissingSuiteError: If the suite is known but not on this machine; the message says how to
            get it.
        UnknownIdError: If there is no such suite; the message suggests the nearest.
        TaskError: If its file is malformed.
    """
    if str(name) in BUILT_IN:
        return BUILT_IN[str(name)]()
    if str(name).endswith(".json"):
        path = Path(name)
        if not path.is_file():
            raise UnknownIdError(f"no suite file {str(path)!r}.")
        return _read(path)
    path = suites_folder() / f"{name}.json"
    if path.is_file():
        return _read_imported(path, path.stat().st_mtime_ns)
    if name in OFFICIAL_SUITES:
        raise MissingSuiteError(
            f"suite {name!r} is not on this machine (looked for {path}). {_HOW_TO_GET_OFFICIAL}"
        )
    known = {*list_suites(), *OFFICIAL_SUITES}
    raise UnknownIdError(f"no suite {str(name)!r}. {did_you_mean(str(name), known)}")


def list_suites() -> list[str]:
    """Names of the suites on this machine."""
    imported = sorted(path.stem for path in suites_folder().glob("*.json"))
    return [*BUILT_IN, *imported]


def save_suite(suite: Suite, path: Path | None = None) -> Path:
    """Write a suite to a file, whole or not at all.

    Args:
        suite: The suite.
        path: Where to; by default among the imported suites, under its name.

    Returns:
        Where it was written.
    """
    path = path or suites_folder() / f"{suite.name}.json"
    write_whole(path, [_dump(suite)])
    return path


def build_family(name: str, split: str, seeds: Iterable[int]) -> Suite:
    """A suite of tasks of one family.

    Args:
        name: The family.
        split: ``"train"`` or ``"heldout"``.
        seeds: Numbers of the tasks.

    Raises:
        UnknownIdError: If there is no such family or split.
    """
    family = get_family(name)
    chosen = next((known for known in SPLITS if known == split), None)
    if chosen is None:
        raise UnknownIdError(f"no split {split!r}. {did_you_mean(split, SPLITS)}")
    return Suite(
        name=f"{name}-{split}",
        version=family.version,
        tasks=tuple(family.generate(seed, chosen) for seed in seeds),
    )


def build_starter() -> Suite:
    """Generate the ``starter`` suite anew: price and division, half the number held out."""
    chosen = [get_family(name) for name in _STARTER_FAMILIES]
    return _of_families("starter", chosen, lambda seed: seed, _STARTER_TASKS)


@lru_cache
def _build_families() -> Suite:
    """Tasks of every family for two, so many of each; half the training number held out."""
    pairs = [f for f in families().values() if len(f.generate(0).characters) == 2]
    return _of_families("families", pairs, lambda seed: seed, _FAMILIES_TASKS)


@lru_cache
def _build_plan(size: int) -> Suite:
    """Plans of a group of this size."""
    # The family makes groups of 3, 4 and 5 in turn.
    smallest, sizes = 3, 3
    return _of_families(
        f"plan-{size}",
        [get_family("plan")],
        lambda index: index * sizes + size - smallest,
        _PLAN_TASKS,
    )


def _of_families(
    name: str, chosen: Sequence[Family], seed: Callable[[int], int], counts: Mapping[Split, int]
) -> Suite:
    tasks = {
        split: [family.generate(seed(index), split) for index in range(count) for family in chosen]
        for split, count in counts.items()
    }
    return Suite(
        name=name,
        version=1,
        tasks=tuple(task for part in tasks.values() for task in part),
        splits={split: tuple(task.task_id for task in part) for split, part in tasks.items()},
    )


@lru_cache
def _load_open() -> Suite:
    """Every open-ended scenario with several pairs of characters who fit it."""
    tasks: dict[str, list[Task]] = {}
    for split in SPLITS:
        cast = load_cast(split)
        for entry in load_content("open", split)["scenarios"]:
            scenario = Scenario(
                scenario_id=f"open-{entry['id']}",
                codename=entry["codename"],
                source=f"sotopia_gym open suite: {entry['category']}, {entry['setting']}",
                context=entry["context"],
                goals=tuple(entry["goals"]),
                relationship=RelationshipType[entry["relationship"].upper()],
                constraints=tuple(map(Constraint.model_validate, entry["constraints"])),
            )
            rng = random.Random(f"pairs/{scenario.scenario_id}")
            tasks.setdefault(split, []).extend(
                Task(
                    task_id=f"{scenario.scenario_id}-{number}",
                    scenario=scenario,
                    characters=characters,
                )
                for number, characters in enumerate(
                    pairs(scenario, cast, rng, _OPEN_PAIRS), start=1
                )
            )
    return Suite(
        name="open",
        version=1,
        tasks=tuple(task for part in tasks.values() for task in part),
        splits={split: tuple(task.task_id for task in part) for split, part in tasks.items()},
    )


@lru_cache
def _load_starter() -> Suite:
    text = read_text("starter.json")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != STARTER_SHA256:
        raise TaskError(
            f"the starter suite has SHA-256 {digest}, expected {STARTER_SHA256}: the installation "
            "is damaged or was edited. Install sotopia-gym again."
        )
    return Suite.model_validate_json(text)


BUILT_IN: Mapping[str, Callable[[], Suite]] = MappingProxyType(
    {
        "starter": _load_starter,
        "families": _build_families,
        "open": _load_open,
        "plan-3": partial(_build_plan, 3),
        "plan-4": partial(_build_plan, 4),
        "plan-5": partial(_build_plan, 5),
    }
)
"""The suites that come with the library."""


@lru_cache(maxsize=4)
def _read_imported(path: Path, modified: int) -> Suite:  # noqa: ARG001  # part of the cache key
    return _read(path)


def _read(path: Path) -> Suite:
    try:
        return Suite.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise TaskError(f"{path} is not a suite file: {error}") from error


def _dump(suite: Suite) -> bytes:
    return canonical_json(suite.model_dump(mode="json", exclude_defaults=True)).encode() + b"\n"
