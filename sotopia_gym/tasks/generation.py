"""New social tasks, written by a language model.

The first step of SOTOPIA-pi (Wang et al. 2024, arXiv 2403.08715): inspirational prompts, such as
those of Social Chemistry, Social IQa and NormBank, are turned into scenarios by a chat model with
examples before it. Nothing that it writes is taken on trust: each scenario is validated, compared
with all that is known, and given characters who fit it, or rejected with the reason.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from sotopia_gym.errors import (
    AnswerError,
    BadRequestError,
    ConfigError,
    JournalError,
    TaskError,
)
from sotopia_gym.files import appending, whole_lines
from sotopia_gym.llm.chat import ChatModel, Message, object_schema
from sotopia_gym.tasks.content import load_cast
from sotopia_gym.tasks.pairing import pairs
from sotopia_gym.tasks.schema import (
    Character,
    Constraint,
    RelationshipType,
    Scenario,
    Suite,
    Task,
    short_digest,
)
from sotopia_gym.tasks.similarity import (
    SAME_MEANING,
    SAME_NGRAMS,
    Embedder,
    Match,
    MeaningIndex,
    NgramIndex,
    ngrams,
    scenario_text,
    scenarios_of,
)
from sotopia_gym.tasks.visibility import render

PROMPT_VERSION: Final = "tasks-v2"

REASONS: Final = {
    "answer": "the answer is no JSON object of the schema, or there was none",
    "text": "a text is too short, too long, or empty",
    "tags": "a visibility tag is malformed",
    "minors": "a participant is a minor",
    "names": "a text names the participants, who are filled in later",
    "placeholder": "a text holds a placeholder instead of words",
    "same goal": "both goals are the same",
    "leak": "a goal is told in the scene or in the other's goal",
    "duplicate": "a scenario like it is known",
    "characters": "not enough pairs of characters fit it",
}
"""Why a scenario may be rejected."""

_LIMITS: Final = {"context": (40, 1200), "goal": (20, 800)}
"""Shortest and longest text, in characters."""
_SAME_PART: Final = 0.5
"""Overlap of word 3-grams from which a context or a goal is one that is known."""
_TOLD: Final = 6
"""So many words in a row of one's goal, in the scene or in the other's goal, tell it."""

_INSTRUCTION: Final = """\
You write scenarios for role-play between two adults. A scenario has a context that both know, one \
private goal for each, the relationship that they have, and what each must be like.

- The two goals partly conflict, and an observer of the conversation can tell how far each was \
reached.
- Neither the context nor one goal tells the other goal.
- Nobody has a name: write "your neighbour", "the other", and so on. All are adults.
- Private facts stand in the goal, as (<extra_info>Extra information: ...</extra_info>).
- It is a situation of its own, not one of the examples again.

Answer with one JSON object."""


@dataclass(frozen=True, slots=True)
class Inspiration:
    """What a scenario is to be about.

    Attributes:
        inspiration_id: Unique id.
        text: A few words or a sentence.
        source: Where it comes from, e.g. ``"social_chem"``; may be empty.
    """

    inspiration_id: str
    text: str
    source: str = ""


def read_inspirations(path: Path) -> list[Inspiration]:
    """Read a file of inspirational prompts, leaving out empty ones.

    Args:
        path: A table with a header and a column ``prompt`` (``source`` and ``pk`` are used if they
            are there), separated by ``|``, tabs or commas, ending in ``.csv`` or ``.tsv``; or any
            other text, one prompt a line.

    Raises:
        ConfigError: If there is no such column, or nothing in it.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".csv", ".tsv"):
        header = text.partition("\n")[0]
        separator = max("|\t,", key=header.count)
        rows = csv.DictReader(text.splitlines(), delimiter=separator)
        if "prompt" not in (rows.fieldnames or ()):
            raise ConfigError(f"{path} has no column 'prompt'; its columns are {rows.fieldnames}.")
        found = [(r.get("prompt") or "", r.get("source") or "", r.get("pk") or "") for r in rows]
    else:
        found = [(line, "", "") for line in text.splitlines()]
    inspirations: dict[str, Inspiration] = {}
    for prompt, source, key in found:
        words = prompt.strip()
        if words and words != "nan":
            # The same prompt may stand under several keys, and a key under several prompts.
            digest = hashlib.sha256(f"{source}|{key}|{words}".encode()).hexdigest()[:16]
            inspirations.setdefault(digest, Inspiration(digest, words, source))
    if not inspirations:
        raise ConfigError(f"{path} holds no inspirational prompts.")
    return list(inspirations.values())


class Attempt(BaseModel):
    """One scenario that was asked for.

    Attributes:
        inspiration_id: What it was to be about.
        settings: Hash of all that it was asked with.
        number: Number of the try at this inspiration, from 0.
        answer: What the model said.
        reason: Why it was rejected, one of :data:`REASONS`; empty if it was accepted.
        detail: More about the reason.
        tasks: What it became; empty if it was rejected.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        cost: US dollars; None if the price is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inspiration_id: str
    settings: str
    number: int = 0
    answer: str = ""
    reason: str = ""
    detail: str = ""
    tasks: tuple[Task, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0


class RejectedError(TaskError):
    """A scenario that a model wrote is of no use.

    Attributes:
        reason: One of :data:`REASONS`.
        detail: More about it.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{REASONS[reason]}: {detail}" if detail else REASONS[reason])
        self.reason, self.detail = reason, detail


class Generator:
    """Asks a model for scenarios, and lets through what is of use.

    Args:
        model: Who writes.
        examples: Suite that the examples are drawn from.
        known: Suites whose scenarios must not come again; those of ``examples`` are known anyhow.
        cast: The characters.
        shots: Examples in each prompt.
        pairs: Pairs of characters for each scenario.
        attempts: How often a scenario is asked for before the next inspiration.
        embed: Finds duplicates by meaning too; without it word n-grams alone do.
        temperature: Sampling temperature; 1.0 in the paper.
        max_tokens: Longest answer.
        bounded: Whether the schema bounds the length of texts. It keeps the smallest models from
            writing on for ever; not every server can enforce it.
        seed: Seed of examples and pairs, and of the model where it has one.
    """

    def __init__(
        self,
        model: ChatModel,
        examples: Suite,
        known: Sequence[Suite] = (),
        *,
        cast: Sequence[Character] | None = None,
        shots: int = 2,
        pairs: int = 5,
        attempts: int = 2,
        embed: Embedder | None = None,
        temperature: float = 1.0,
        max_tokens: int = 1000,
        bounded: bool = False,
        seed: int = 0,
    ) -> None:
        scenarios = {t.scenario.scenario_id: t.scenario for t in examples}
        self._examples = [s for s in scenarios.values() if len(s.goals) == 2]
        if len(self._examples) < shots or min(shots, pairs, attempts) < 1:
            raise ConfigError(
                f"shots, pairs and attempts are at least 1, and the examples at least as many as "
                f"shots; got {shots}, {pairs}, {attempts} and {len(self._examples)} examples."
            )
        self.model = model
        self._cast = tuple(cast if cast is not None else load_cast("train"))
        self._shots, self._pairs, self._attempts = shots, pairs, attempts
        self._temperature, self._max_tokens, self._seed = temperature, max_tokens, seed
        self._known = NgramIndex()
        self._meaning = MeaningIndex(embed) if embed else None
        self._parts = NgramIndex()
        self._vocabulary: set[str] = set()
        heard_of = scenarios_of([examples, *known])
        texts = {key: scenario_text(scenario) for key, scenario in heard_of.items()}
        for key, text in texts.items():
            self._known.add(key, text)
            self._remember_parts(key, heard_of[key])
            self._vocabulary.update(_WORD.findall(text))
        if self._meaning is not None:
            self._meaning.add(texts)
        self._schema = _schema(bounded=bounded)
        people = [character.character_id for character in self._cast]
        asked: list[Any] = [_INSTRUCTION, self._schema, model.name, sorted(texts), people]
        asked += [shots, pairs, attempts, embed is not None, temperature, max_tokens, seed]
        self.settings = f"{PROMPT_VERSION}:{short_digest(asked)}"

    async def generate(
        self,
        inspirations: Sequence[Inspiration],
        done: Sequence[Attempt] = (),
        *,
        concurrency: int = 8,
    ) -> AsyncIterator[Attempt]:
        """Ask for a scenario for each inspiration.

        What comes out does not depend on ``concurrency``, nor on where an earlier run was cut off:
        scenarios are asked for together, but let through one after the other, so that of two that
        are alike the first stays. Second tries come after the first tries of all inspirations.

        Args:
            inspirations: What they are to be about.
            done: Attempts of earlier runs; those with other settings are refused.
            concurrency: Inspirations that are worked on at the same time.

        Yields:
            Every new attempt. Where the model fails for good its error is raised after what was
            answered before.
        """
        if any(attempt.settings != self.settings for attempt in done):
            raise ConfigError(
                "these attempts were made with another model, examples or settings. Go on with "
                "the same, or write to another file."
            )
        finished: Counter[str] = Counter()
        for attempt in done:
            finished[attempt.inspiration_id] += self._attempts if attempt.tasks else 1
            if attempt.tasks:
                self._remember(attempt.tasks[0].scenario)
        waiting = [(i, finished[i.inspiration_id]) for i in inspirations]
        waiting = [(i, number) for i, number in waiting if number < self._attempts]
        waiting.sort(key=lambda pair: pair[1])
        while waiting:
            batch, waiting = waiting[:concurrency], waiting[concurrency:]
            answers = await asyncio.gather(
                *(self._ask(inspiration, number) for inspiration, number in batch),
                return_exceptions=True,
            )
            failure: BaseException | None = None
            for (inspiration, number), answer in zip(batch, answers, strict=True):
                if isinstance(answer, BaseException):
                    failure = failure or answer
                    continue
                attempt = self._let_through(inspiration, answer)
                yield attempt
                if not attempt.tasks and number + 1 < self._attempts:
                    waiting.append((inspiration, number + 1))
            if failure is not None:
                raise failure

    def messages(self, inspiration: Inspiration, number: int = 0) -> list[Message]:
        """What the model is asked."""
        rng = random.Random(f"{self._seed}/{inspiration.inspiration_id}/{number}")
        shown = "\n".join(
            json.dumps(_as_answer(example), ensure_ascii=False)
            for example in rng.sample(self._examples, self._shots)
        )
        return [
            {"role": "system", "content": _INSTRUCTION},
            {
                "role": "user",
                "content": f"Examples:\n{shown}\n\nWrite a new scenario inspired by this: "
                f"{json.dumps(inspiration.text, ensure_ascii=False)}",
            },
        ]

    async def _ask(self, inspiration: Inspiration, number: int) -> Attempt:
        attempt = Attempt(
            inspiration_id=inspiration.inspiration_id, settings=self.settings, number=number
        )
        try:
            completion = await self.model.complete(
                self.messages(inspiration, number),
                schema=self._schema,
                temperature=self._temperature,
                seed=self._seed,
                max_tokens=self._max_tokens,
                attempt=number,
            )
        except (AnswerError, BadRequestError) as error:
            text = error.text if isinstance(error, AnswerError) else ""
            return attempt.model_copy(
                update={"answer": text, "reason": "answer", "detail": str(error)}
            )
        return attempt.model_copy(
            update={
                "answer": completion.text,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
                "cost": completion.cost,
            }
        )

    def _let_through(self, inspiration: Inspiration, attempt: Attempt) -> Attempt:
        """The attempt with the tasks that came of it, or with why none did."""
        if attempt.reason:
            return attempt
        try:
            scenario = read_scenario(attempt.answer, inspiration, self._cast, self._vocabulary)
            self._check_new(scenario)
            tasks = self._cast_tasks(scenario)
        except RejectedError as rejected:
            update = {"reason": rejected.reason, "detail": rejected.detail}
            return attempt.model_copy(update=update)
        self._remember(scenario)
        return attempt.model_copy(update={"tasks": tasks})

    def _check_new(self, scenario: Scenario) -> None:
        text = scenario_text(scenario)
        nearest = {SAME_NGRAMS: self._known.nearest(text)}
        if self._meaning is not None:
            nearest[SAME_MEANING] = self._meaning.nearest(text)
        for threshold, match in nearest.items():
            if match.similarity >= threshold:
                raise RejectedError("duplicate", _like(match))
        for part in (scenario.context, *scenario.goals):
            if (match := self._parts.nearest(part)).similarity >= _SAME_PART:
                raise RejectedError("duplicate", _like(match))

    def _remember(self, scenario: Scenario) -> None:
        text = scenario_text(scenario)
        self._known.add(scenario.scenario_id, text)
        self._remember_parts(scenario.scenario_id, scenario)
        if self._meaning is not None:
            self._meaning.add({scenario.scenario_id: text})

    def _remember_parts(self, key: str, scenario: Scenario) -> None:
        for number, part in enumerate((scenario.context, *scenario.goals)):
            self._parts.add(f"{key}, part {number}", part)

    def _cast_tasks(self, scenario: Scenario) -> tuple[Task, ...]:
        """The scenario with several different pairs of characters."""
        rng = random.Random(f"{self._seed}/pairs/{scenario.scenario_id}")
        try:
            chosen = pairs(scenario, self._cast, rng, self._pairs)
        except TaskError as error:
            raise RejectedError("characters", str(error)) from error
        return tuple(
            Task(
                task_id=f"{scenario.scenario_id}-{number}", scenario=scenario, characters=characters
            )
            for number, characters in enumerate(chosen, start=1)
        )


# --- what is asked for ----------------------------------------------------------------------

_RELATIONSHIPS: Final = {kind.name.lower(): kind for kind in RelationshipType}


def _schema(*, bounded: bool) -> dict[str, Any]:
    """The JSON schema of an answer."""

    def text(longest: int) -> dict[str, Any]:
        return {"type": "string", "maxLength": longest} if bounded else {"type": "string"}

    age = {"type": "integer", "minimum": 18, "maximum": 99} if bounded else {"type": "integer"}
    occupations: dict[str, Any] = {"type": "array", "items": text(40)}
    if bounded:
        occupations["maxItems"] = 2
    person = object_schema({"min_age": age, "max_age": age, "occupations": occupations})
    return object_schema(
        {
            "codename": text(40),
            "context": text(500),
            "first_goal": text(300),
            "second_goal": text(300),
            "relationship": {"type": "string", "enum": list(_RELATIONSHIPS)},
            "first_person": person,
            "second_person": person,
        }
    )


class _Person(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    min_age: int
    max_age: int
    occupations: list[str]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    codename: str
    context: str
    first_goal: str
    second_goal: str
    relationship: str
    first_person: _Person
    second_person: _Person


def _as_answer(scenario: Scenario) -> dict[str, Any]:
    """An example, as the model would have to write it."""
    constraints = scenario.constraints or (Constraint(), Constraint())
    first, second = (
        {"min_age": c.min_age, "max_age": c.max_age, "occupations": list(c.occupations)}
        for c in constraints
    )
    return {
        "codename": scenario.codename,
        "context": scenario.context,
        "first_goal": scenario.goals[0],
        "second_goal": scenario.goals[1],
        "relationship": scenario.relationship.name.lower(),
        "first_person": first,
        "second_person": second,
    }


# --- validation -----------------------------------------------------------------------------

_MINORS: Final = re.compile(
    r"\b(?:two|three|a (?:pair|group) of|between|among)\b[^.]{0,30}"
    r"\b(?:kids?|children|teen(?:ager)?s?|toddlers?|pupils?|schoolmates?|minors?"
    r"|(?:middle|high|elementary|primary)[- ]school(?:ers?| students?))\b",
    re.I,
)
_PLACEHOLDER: Final = re.compile(
    r"\bagents?[\s_]?[0-9A-B]\b|\bperson [12AB]\b|[\[{][^\]}]{0,40}[\]}]|\bnan\b|\blorem ipsum\b",
    re.I,
)
_WORD: Final = re.compile(r"\b[a-z]+\b")
_CAPITALISED: Final = re.compile(r"\b[A-Z][a-z]+\b")
# Words that are written with a capital and name no participant.
_PROPER: Final = frozenset(
    """monday tuesday wednesday thursday friday saturday sunday january february march april may
    june july august september october november december christmas easter ramadan hanukkah diwali
    thanksgiving english french german spanish italian portuguese dutch polish russian arabic hindi
    turkish greek chinese japanese korean vietnamese thai african american asian european indian
    mexican british irish scottish swedish internet extra information hint""".split()
)
_YOUNG: Final = re.compile(
    r"\b(?:is|are|'re|'m|am|aged?|turned|turning)\s(?:only\s|just\s)?"
    r"(?:\d|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen"
    r"|fifteen|sixteen|seventeen)(?:\syears?\sold\b|\s?(?=[.,;!)]|$|and\b))",
    re.I,
)
_NAMED: Final = re.compile(
    r"\b(?:[Nn]amed|[Cc]alled)\s[A-Z][a-z]+\b"
    r"|(?:^|(?<=[a-z,.!?] ))(?!\w+day\b)[A-Z][a-z]+ and [A-Z][a-z]+\b"
)


def read_scenario(
    answer: str,
    inspiration: Inspiration,
    cast: Sequence[Character] = (),
    vocabulary: Collection[str] = (),
) -> Scenario:
    """The scenario in a model's answer, if it is one that can be played.

    Args:
        answer: The answer.
        inspiration: What it is about.
        cast: Characters whose names must not occur.
        vocabulary: Ordinary words. If there are any, a word with a capital that is none of them
            counts as a name: it is better to lose a scenario than to have one whose people have
            two names.

    Raises:
        RejectedError: If it is not; with the reason.
    """
    parsed = _parse(answer)
    context, goals = parsed.context.strip(), (parsed.first_goal.strip(), parsed.second_goal.strip())
    for kind, text in (("context", context), ("goal", goals[0]), ("goal", goals[1])):
        shortest, longest = _LIMITS[kind]
        if not shortest <= len(text) <= longest:
            raise RejectedError("text", f"the {kind} has {len(text)} characters")
    everything = "\n".join((context, *goals))
    if match := _PLACEHOLDER.search(everything):
        raise RejectedError("placeholder", match[0])
    people = (parsed.first_person, parsed.second_person)
    if min(person.min_age for person in people) < 18 or _MINORS.search(context):
        raise RejectedError("minors")
    if match := _YOUNG.search(everything):
        raise RejectedError("minors", match[0])
    if name := _name_in(everything, cast, vocabulary):
        raise RejectedError("names", name)
    try:
        scenario = Scenario(
            scenario_id=f"generated-{inspiration.inspiration_id}",
            codename=parsed.codename.strip()[:80],
            source=f"generated; inspired by {inspiration.source or 'a prompt'}",
            context=context,
            goals=goals,
            relationship=_RELATIONSHIPS[parsed.relationship],
            constraints=tuple(_constraint(person) for person in people),
        )
    except TaskError as error:
        raise RejectedError("tags", str(error)) from error
    _check_private(scenario)
    return scenario


def _parse(answer: str) -> _Answer:
    try:
        parsed = _Answer.model_validate_json(answer)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RejectedError("answer", f"{where}: {first['msg']}".strip(": ")) from error
    if parsed.relationship not in _RELATIONSHIPS:
        raise RejectedError("answer", f"no relationship {parsed.relationship!r}")
    for person in (parsed.first_person, parsed.second_person):
        if not 0 <= person.min_age <= person.max_age <= 130:
            raise RejectedError("answer", f"ages {person.min_age} to {person.max_age}")
    return parsed


def _constraint(person: _Person) -> Constraint:
    occupations = tuple(o.strip() for o in person.occupations if o.strip())
    return Constraint(min_age=person.min_age, max_age=person.max_age, occupations=occupations)


def _name_in(text: str, cast: Sequence[Character], vocabulary: Collection[str]) -> str:
    """A participant's name: one of the cast, what is introduced as one, or no ordinary word."""
    words = set(re.findall(r"[^\W\d_]+", text))
    known = sorted({c.first_name for c in cast} & words)
    if known:
        return known[0]
    if match := _NAMED.search(text):
        return str(match[0])
    if vocabulary:
        own = set(_WORD.findall(text))
        for word in _CAPITALISED.findall(text):
            if not {word.lower()} & (_PROPER | own) and word.lower() not in vocabulary:
                return str(word)
    return ""


def _check_private(scenario: Scenario) -> None:
    """Neither the scene nor the other's goal may tell a goal."""
    goals = [render(goal, f"agent_{index}") for index, goal in enumerate(scenario.goals)]
    if goals[0].casefold() == goals[1].casefold():
        raise RejectedError("same goal")
    for own, others in ((0, 1), (1, 0)):
        private = ngrams(goals[own], _TOLD)
        for where, text in (("the context", scenario.context), ("the other's goal", goals[others])):
            if told := private & ngrams(text, _TOLD):
                raise RejectedError("leak", f"{where} has {' '.join(min(told))!r}")


def _like(match: Match) -> str:
    return f"{match.similarity:.2f} like {match.key}"


# --- what is kept ---------------------------------------------------------------------------


def read_attempts(path: Path) -> Iterator[Attempt]:
    """The attempts in a file, oldest first; a line that a killed process left unfinished is not.

    Raises:
        JournalError: If a whole line is no attempt.
    """
    for number, line in whole_lines(path):
        try:
            yield Attempt.model_validate_json(line)
        except ValidationError as error:
            raise JournalError(f"{path}, line {number} is no attempt: {error}") from error


@contextmanager
def attempts_file(path: Path) -> Iterator[Callable[[Attempt], None]]:
    """Keep a file of attempts for oneself, and append to it; see :func:`~.files.appending`."""
    with appending(path) as write:
        yield lambda attempt: write(attempt.model_dump_json(exclude_defaults=True).encode())


def as_suite(name: str, attempts: Sequence[Attempt]) -> Suite:
    """The tasks that came of some attempts."""
    return Suite(name=name, tasks=tuple(task for attempt in attempts for task in attempt.tasks))


def report(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """How many scenarios were asked for, accepted, and rejected for which reason."""
    rejected = Counter(attempt.reason for attempt in attempts if not attempt.tasks)
    costs = [attempt.cost for attempt in attempts]
    return {
        "inspirations": len({attempt.inspiration_id for attempt in attempts}),
        "attempts": len(attempts),
        "accepted": sum(bool(attempt.tasks) for attempt in attempts),
        "tasks": sum(len(attempt.tasks) for attempt in attempts),
        "rejected": {reason: rejected[reason] for reason in REASONS if rejected[reason]},
        "prompt tokens": sum(attempt.prompt_tokens for attempt in attempts),
        "completion tokens": sum(attempt.completion_tokens for attempt in attempts),
        "cost": None if None in costs else sum(cost or 0.0 for cost in costs),
    }
