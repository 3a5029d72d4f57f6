"""SOTOPIA's own data: the official suite, and any scenarios in its format.

The format is four JSON Lines files (Zhou et al. 2024, arXiv 2310.11667): ``agent_profiles``,
``environment_profiles``, ``env_agent_combo_storages`` and ``relationship_profiles``. Objects
exported from the original system's database, with ``pk`` for the id, are read too.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from sotopia_gym.errors import TaskError
from sotopia_gym.files import write_whole
from sotopia_gym.tasks.content import load_cast
from sotopia_gym.tasks.ground_truth import derive
from sotopia_gym.tasks.pairing import pair
from sotopia_gym.tasks.schema import (
    Character,
    Constraint,
    Relationship,
    RelationshipType,
    Scenario,
    Suite,
    Task,
)
from sotopia_gym.tasks.suites import BUILT_IN, OFFICIAL_SUITES
from sotopia_gym.tasks.visibility import close_tags

FILES: Final = {
    "agent_profiles.jsonl": "1f2f74c07fd9105242c7f2a951d5378f52cd03a6df113f6020edb90d31202f1b",
    "env_agent_combo_storages.jsonl": (
        "46d5858322e8c8266c4aabc45e3ca5a6d8f91df0fc6f167b10adb5b1477a4815"
    ),
    "environment_profiles.jsonl": (
        "b75de0c5b1b951ebeb66eb223ab3eec996caa890263a0bcd48ce2d9f4ce3e109"
    ),
    "relationship_profiles.jsonl": (
        "33cd50cc1fbe93b8b7010ce5047e767e3a1ead421e791fee2bb1b9b2073327a2"
    ),
}
"""The files of the official suite, with their SHA-256."""

SOURCE_URL: Final = (
    "https://raw.githubusercontent.com/sotopia-lab/sotopia-space/"
    "0c22348b475f2f0efcfcdad360e0710ca48d1636/profiles/"
)

HARD_SCENARIOS: Final = frozenset(
    (
        "01H7VFHN5WVC5HKKVBHZBA553R",
        "01H7VFHN7A1ZX5KSMT2YN9RXC4",
        "01H7VFHN7WJK7VWVRZZTQ6DX9T",
        "01H7VFHN9W0WAFZCBT09PKJJNK",
        "01H7VFHNF4G18PC9JHGRC8A1R6",
        "01H7VFHNN7XTR99319DS8KZCQM",
        "01H7VFHNNYH3W0VRWVY178K2TK",
        "01H7VFHNV13MHN97GAH73E3KM8",
        "01H7VFHP8AN5643B0NR0NP00VE",
        "01H7VFHPDZVVCDZR3AARA547CY",
        "01H7VFHPQQQY6H4DNC6NBQ8XTG",
        "01H7VFHPS5WJW2694R1MNC8JFY",
        "01H7VFHPSWGDGEYRP63H2DJKV0",
        "01H7VFHQ11NAMZS4A2RDGDB01V",
    )
)
"""Ids of the scenarios of SOTOPIA-hard."""

_OFFICIAL_SCENARIOS: Final = 90
_OFFICIAL_TASKS: Final = 450
_OFFICIAL_IDS_SHA256: Final = "a23f37eb0db20228b07b8157f6337d48349e880fd2653098dd7d848db82af183"

_RESERVED: Final = (*BUILT_IN, *OFFICIAL_SUITES)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")

_MALFORMED: Final = (
    TaskError,
    ValidationError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)

_Model = TypeVar("_Model")


@dataclass(frozen=True)
class Problem:
    """One record that could not be read as it is.

    Attributes:
        record: Its file and line.
        what: What is wrong, or what was repaired.
    """

    record: str
    what: str


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Attributes:
        suites: The suites made of it.
        repaired: Records that were repaired.
        skipped: Records that were left out.
    """

    suites: tuple[Suite, ...]
    repaired: tuple[Problem, ...] = ()
    skipped: tuple[Problem, ...] = ()


def import_folder(
    folder: Path,
    *,
    name: str | None = None,
    repair: bool = False,
    skip_invalid: bool = False,
    seed: int = 0,
) -> Imported:
    """Read a folder of SOTOPIA's format.

    With all of the official 90 scenarios and 450 combinations and no ``name``, the suites are
    ``sotopia-all`` and ``sotopia-hard``. A folder without combinations is paired: every scenario
    gets characters who fit it, from the folder or, if it has none, from the library's own cast.
    A suite of scenarios of different sizes gets a split for each, e.g. ``2-agents``.

    Args:
        folder: Where the files are; ``environment_profiles.jsonl`` is needed.
        name: Name of the suite; needed unless it is the official one, and not one of its names.
        repair: Close tags that are still open where a text ends.
        skip_invalid: Leave malformed scenarios, and combinations of them, out.
        seed: Seed of the pairing.

    Raises:
        TaskError: If a file is missing or a record malformed; the message lists the places.
    """
    if name is not None and (name in _RESERVED or not _NAME.fullmatch(name)):
        raise TaskError(
            f"a suite cannot be imported under the name {name!r}: use letters, digits, - and _, "
            f"and none of {', '.join(_RESERVED)}."
        )
    missing = [filename for filename in FILES if not (folder / filename).is_file()]
    if missing and name is None:
        raise TaskError(
            f"{folder} holds no {', '.join(missing)}, which the official suite needs. To import "
            "what is there as a suite of its own, give it a name (--name)."
        )
    reader = _Reader(folder, repair=repair, skip_invalid=skip_invalid)
    scenarios = reader.read("environment_profiles.jsonl", _scenario)
    combos = reader.read("env_agent_combo_storages.jsonl", _combo, required=False)
    characters = reader.read("agent_profiles.jsonl", _character, required=bool(combos))
    relationships = reader.read("relationship_profiles.jsonl", _relationship, required=False)
    if combos:
        tasks = reader.collect(
            combos.items(),
            lambda combo: _task(combo[0], combo[1], scenarios, characters, relationships),
        )
    else:
        cast = list(characters.values()) or [*load_cast("train"), *load_cast("heldout")]
        rng = random.Random(f"pairing-{seed}")
        tasks = reader.collect(
            scenarios.items(),
            lambda entry: Task(
                task_id=entry[0], scenario=entry[1], characters=pair(entry[1], cast, rng)
            ),
        )
    reader.raise_problems()
    if not tasks:
        raise TaskError(f"{folder} holds nothing that could be imported.")
    tasks.sort(key=lambda task: task.task_id)
    suites = [_suite(name, tasks)] if name else _official_suites(folder, tasks)
    return Imported(tuple(suites), tuple(reader.repaired), tuple(reader.skipped))


def fetch(download: Callable[[str], bytes], folder: Path) -> None:
    """Download the official files into ``folder``, each whole, verified by its SHA-256.

    Args:
        download: Gives the content of a URL.
        folder: Where to.

    Raises:
        TaskError: If what came is not the file that was expected. Files verified so far stay.
    """
    for filename, expected in FILES.items():
        content = download(SOURCE_URL + filename)
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected:
            raise TaskError(
                f"{SOURCE_URL + filename} has SHA-256 {digest}, expected {expected}. The file was "
                "changed on its way or at its source; nothing was imported."
            )
        write_whole(folder / filename, [content])


class _Reader:
    """Reads records one by one and remembers what was wrong with which."""

    def __init__(self, folder: Path, *, repair: bool, skip_invalid: bool) -> None:
        self._folder, self._repair, self._skip = folder, repair, skip_invalid
        self.repaired: list[Problem] = []
        self.skipped: list[Problem] = []
        self._problems: list[Problem] = []

    def read(
        self,
        filename: str,
        convert: Callable[[dict[str, Any]], tuple[str, _Model]],
        *,
        required: bool = True,
    ) -> dict[str, _Model]:
        path = self._folder / filename
        if not path.is_file():
            if required:
                raise TaskError(f"{self._folder} holds no {filename}, which an import needs.")
            return {}
        found: dict[str, _Model] = {}
        for number, raw in _records(path):
            place = f"{filename}, line {number}"
            try:
                mended, closed = self._repaired(raw)
                key, value = convert(mended)
            except _MALFORMED as error:
                self._report(place, _explain(error))
                continue
            if key in found:
                self._report(place, f"a second record with the id {key}")
                continue
            if closed:
                tags = ", ".join(f"</{name}>" for name in closed)
                self.repaired.append(Problem(f"{place} ({key})", f"closed {tags}"))
            found[key] = value
        return found

    def collect(self, entries: Any, make: Callable[[Any], Task]) -> list[Task]:
        tasks = []
        for entry in entries:
            try:
                tasks.append(make(entry))
            except (TaskError, ValidationError) as error:
                self._report(f"task of {entry[0]}", _explain(error))
        return tasks

    def raise_problems(self) -> None:
        if self._problems:
            shown = "\n".join(f"  {p.record}: {p.what}" for p in self._problems[:10])
            more = len(self._problems) - 10
            raise TaskError(
                f"{len(self._problems)} records of {self._folder} cannot be read:\n{shown}"
                + (f"\n  ... and {more} more" if more > 0 else "")
                + "\nNothing was imported. Unclosed tags at the end of a text can be closed "
                "(--repair); records that stay malformed can be left out (--skip-invalid)."
            )

    def _report(self, place: str, what: str) -> None:
        (self.skipped if self._skip else self._problems).append(Problem(place, what))

    def _repaired(self, raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The record with its open tags closed, and the names of those tags."""
        goals = raw.get("agent_goals")
        if not self._repair or not isinstance(goals, list):
            return raw, []
        texts: list[Any] = []
        closed: list[str] = []
        for text in (raw.get("scenario"), *goals):
            mended, names = close_tags(text) if isinstance(text, str) else (text, ())
            texts.append(mended)
            closed.extend(names)
        return {**raw, "scenario": texts[0], "agent_goals": texts[1:]}, closed


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise TaskError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise TaskError(f"{path}, line {number} holds a {type(record).__name__}, not an object")
        yield number, record


def _id(raw: Mapping[str, Any], name: str) -> str:
    for key in (name, "pk"):
        if raw.get(key):
            return str(raw[key])
    raise TaskError(f"it has no id (neither {name} nor pk)")


def _scenario(raw: dict[str, Any]) -> tuple[str, Scenario]:
    scenario_id = _id(raw, "env_id")
    if not isinstance(raw["agent_goals"], list):
        raise TaskError(f"agent_goals must be a list of texts, got {raw['agent_goals']!r}")
    goals = tuple(raw["agent_goals"])
    _check_whole(goals)
    scenario = Scenario(
        scenario_id=scenario_id,
        codename=raw.get("codename") or "",
        source=raw.get("source") or "",
        context=raw["scenario"],
        goals=goals,
        relationship=_relationship_type(raw["relationship"]),
        constraints=_constraints(raw, len(goals)),
    )
    return scenario_id, derive(scenario).scenario


def _check_whole(goals: Sequence[Any]) -> None:
    """Refuse goals that are pieces of one quoted text, cut at its commas.

    Some scenarios that language models wrote were stored like that: they look as if they had more
    characters than they have, each with half a goal.
    """
    # A tag that closes behind the quote may come of a repair.
    texts = [re.sub(r"(</\w+>)+$", "", str(goal)).strip() for goal in goals]
    for quote in "\"'":
        opening = [i for i, t in enumerate(texts) if t[:1] == quote and t[-1:] != quote]
        closing = [i for i, t in enumerate(texts) if t[:1] != quote and t[-1:] == quote]
        if opening and closing and opening[0] < closing[-1]:
            raise TaskError(
                f"the goals of agent_{opening[0]} to agent_{closing[-1]} hold pieces of a quoted "
                f"text that was cut up: {texts[opening[0]][:60]!r} does not end in {quote}"
            )


def _character(raw: dict[str, Any]) -> tuple[str, Character]:
    character_id = _id(raw, "agent_id")
    values = [*raw.get("moral_values", ()), *raw.get("schwartz_personal_values", ())]
    return character_id, Character(
        character_id=character_id,
        first_name=raw["first_name"].strip(),
        last_name=raw.get("last_name", "").strip(),
        age=raw["age"],
        gender=raw["gender"],
        pronouns=raw["gender_pronoun"],
        occupation=raw["occupation"],
        public_info=raw["public_info"],
        personality=raw["personality_and_values"],
        secret=raw["secret"],
        traits={
            "big_five": raw.get("big_five", ""),
            "mbti": raw.get("mbti", ""),
            "values": ", ".join(value.strip() for value in values),
            "decision_making_style": raw.get("decision_making_style", ""),
        },
    )


_Pair = tuple[frozenset[str], RelationshipType]


def _relationship(raw: dict[str, Any]) -> tuple[str, tuple[_Pair, str]]:
    pair = frozenset((raw["agent1_id"], raw["agent2_id"]))
    return _id(raw, "relationship_id"), (
        (pair, _relationship_type(raw["relationship"])),
        raw.get("background_story") or "",
    )


def _combo(raw: dict[str, Any]) -> tuple[str, tuple[str, tuple[str, ...]]]:
    return _id(raw, "combo_id"), (raw["env_id"], tuple(raw["agent_ids"]))


def _relationship_type(value: Any) -> RelationshipType:
    try:
        return RelationshipType(float(str(value)))  # type: ignore[arg-type]  # 3.0 is 3, 3.7 is not
    except ValueError:
        known = ", ".join(f"{kind.value} ({kind.name.lower()})" for kind in RelationshipType)
        raise TaskError(f"relationship must be one of {known}; got {value!r}") from None


def _constraints(raw: Mapping[str, Any], count: int) -> tuple[Constraint, ...]:
    """The constraints of each role; they are Python literals, or ``nan``, as text."""
    ages = _literal(raw.get("age_constraint"))
    occupations = _literal(raw.get("occupation_constraint"))
    made = []
    for index in range(count):
        low, high = ages[index] if index < len(ages) else (18, 130)
        wanted = occupations[index] if index < len(occupations) else ()
        wanted = [wanted] if isinstance(wanted, str) else wanted
        made.append(
            Constraint(
                min_age=low,
                max_age=high,
                occupations=tuple(o for o in wanted if o not in ("nan", "any", "")),
            )
        )
    return tuple(made)


def _literal(text: Any) -> list[Any]:
    if text is None or str(text).strip() in ("", "nan", "none", "None"):
        return []
    try:
        value = ast.literal_eval(str(text))
    except (ValueError, SyntaxError):
        # "[actor, actor]": words without quotes
        value = re.findall(r"[A-Za-z][\w -]*", str(text))
    return list(value) if isinstance(value, list | tuple) else []


def _task(
    combo_id: str,
    combo: tuple[str, tuple[str, ...]],
    scenarios: Mapping[str, Scenario],
    characters: Mapping[str, Character],
    relationships: Mapping[str, tuple[_Pair, str]],
) -> Task:
    scenario_id, character_ids = combo
    missing = [i for i in (scenario_id,) if i not in scenarios] + [
        i for i in character_ids if i not in characters
    ]
    if missing:
        raise TaskError(f"refers to {', '.join(missing)}, which is not among the records read")
    scenario = scenarios[scenario_id]
    stories = dict(relationships.values())
    story = stories.get((frozenset(character_ids), scenario.relationship))
    return Task(
        task_id=combo_id,
        scenario=scenario,
        characters=tuple(characters[i] for i in character_ids),
        relationships=()
        if story is None
        else (
            Relationship(
                agents=("agent_0", "agent_1"), type=scenario.relationship, background_story=story
            ),
        ),
    )


def _suite(name: str, tasks: Sequence[Task]) -> Suite:
    sizes = sorted({len(task.characters) for task in tasks})
    splits = {
        f"{size}-agents": tuple(t.task_id for t in tasks if len(t.characters) == size)
        for size in sizes
    }
    return Suite(name=name, tasks=tuple(tasks), splits=splits if len(sizes) > 1 else {})


def _official_suites(folder: Path, tasks: Sequence[Task]) -> list[Suite]:
    if _ids_sha256(tasks) != _OFFICIAL_IDS_SHA256:
        scenarios = len({task.scenario.scenario_id for task in tasks})
        raise TaskError(
            f"{folder} is not the official suite: {scenarios} scenarios and {len(tasks)} tasks, "
            f"expected the official {_OFFICIAL_SCENARIOS} and {_OFFICIAL_TASKS}. To import it as a "
            "suite of its own, give it a name (--name)."
        )
    hard = [task for task in tasks if task.scenario.scenario_id in HARD_SCENARIOS]
    return [_suite("sotopia-all", tasks), _suite("sotopia-hard", hard)]


def _ids_sha256(tasks: Sequence[Task]) -> str:
    ids = sorted(f"{task.task_id} {task.scenario.scenario_id}" for task in tasks)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        details = error.errors()[0]
        # A tag error keeps its own message, without pydantic's wrapping.
        field = ".".join(map(str, details["loc"]))
        return f"{field + ': ' if field else ''}{details['msg'].removeprefix('Value error, ')}"
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    return str(error)
