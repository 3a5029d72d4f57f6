"""Episodes and scores recorded by others: SOTOPIA's databases, releases and rating studies.

What a record is, is seen from its fields, not from its file's name. Formats:

    ``episode_log``: an EpisodeLog of the original system's database.
    ``release``: an episode of the released data set.
    ``otree``: a transcript in the form that the rating study's platform showed.
    ``human_ratings``: one person's ratings of both agents; the conversation may be inside.
    ``expert_ratings``: one person's ratings of one agent.
    ``gpt4_scores``: an object from episode ids to GPT-4's scores of both agents.
    ``utterance_attribution``: an episode with marks of how much each utterance did for a goal.

Records with the same episode id become one episode. Its conversation, and each part of its task,
come from the format that stands first in this list; its judgements from all. Turns count from 1:
formats that count from 0 are shifted, and where turns have no number, utterances are counted.
Second copies of a conversation are not kept; fields that have no place in an :class:`Episode` are
in its ``extra``, by format, one entry a record. Records of the formats ``episode_log`` and
``release`` can be written again as they were (:mod:`sotopia_gym.episodes.sotopia`); of the others
the prompts that judges were asked with are not kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from sotopia_gym.envs.dialogue import NOTHING, Action, Ending, Event, TurnOrder
from sotopia_gym.episodes import sotopia
from sotopia_gym.episodes.dimensions import DIMENSIONS
from sotopia_gym.episodes.schema import HUMAN_PREFIX, DimensionScore, Episode, Judgement, Source
from sotopia_gym.errors import SotopiaGymError
from sotopia_gym.tasks import visibility
from sotopia_gym.tasks.schema import Character, RelationshipType, Scenario, Task
from sotopia_gym.version import __version__

FORMATS: Final = (
    "episode_log",
    "release",
    "otree",
    "human_ratings",
    "utterance_attribution",
    "expert_ratings",
    "gpt4_scores",
)
"""The formats, those whose conversations are preferred first."""

GPT4: Final = "gpt-4 (recorded)"
"""The judge's name of scores that GPT-4 gave and somebody recorded."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a record that its reader should know.

    Attributes:
        record: Where it is, for people.
        what: What is odd about it, or why it could not be read.
        lost: Whether something in the record could not be read; otherwise this is a remark.
    """

    record: str
    what: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made.

    Attributes:
        episodes: The episodes, in the order in which their ids first came.
        notes: What was lost, and what was odd, in the order of the records.
        records: Format to how many records of it were read, at least in part.
    """

    episodes: tuple[Episode, ...]
    notes: tuple[Note, ...]
    records: dict[str, int]


def import_episodes(paths: Sequence[Path]) -> Imported:
    """Read foreign episode files; scores and words come out as they were recorded.

    Args:
        paths: JSON Lines files, or JSON files of one object or list. A file given twice is read
            once.

    Raises:
        OSError: If a file cannot be opened. Anything wrong inside of one is a note.
    """
    reader = _Reader()
    for path in {path.resolve(): path for path in paths}.values():
        for place, raw in _records(path, reader.notes):
            reader.read(place, raw)
    return reader.finish()


# --- What a record says, whatever its format


class _RecordError(Exception):
    """A record, or a part of it, cannot be read."""


_UNREADABLE: Final = (
    _RecordError,
    SotopiaGymError,
    ValidationError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
)


@dataclass
class _Role:
    """What a record says of one agent; None where it says nothing."""

    name: str | None = None
    goal: str | None = None
    character: dict[str, Any] | None = None
    model: str | None = None


@dataclass
class _Talk:
    """A conversation."""

    events: list[Event]
    ending: Ending | Literal["unknown"] = "unknown"
    turn_order: TurnOrder | None = None


@dataclass
class _Part:
    """What one record says of an episode."""

    place: str
    format: str
    record_id: str
    roles: dict[int, _Role] = field(default_factory=dict)
    environment: str | None = None
    codename: str | None = None
    context: str | None = None
    talk: _Talk | None = None
    judgement: Judgement | None = None
    #: One of several records that a judgement is made of.
    piece: bool = False
    #: The record, if it can be written again.
    record: Mapping[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def remark(self, what: str) -> None:
        self.notes.append(Note(f"{self.place} ({self.record_id})", what))

    def lose(self, what: str) -> None:
        self.notes.append(Note(f"{self.place} ({self.record_id})", what, lost=True))

    def role(self, index: int) -> _Role:
        return self.roles.setdefault(index, _Role())

    def name_roles(self, names: Sequence[str]) -> None:
        for index, name in enumerate(names):
            self.role(index).name = name

    def converse(self, read: Callable[[], _Talk | None]) -> None:
        """Read the conversation; if that fails the record is read without it."""
        try:
            self.talk = read()
        except _UNREADABLE as error:
            self.lose(f"its conversation cannot be read: {_explain(error)}")


class _Reader:
    """Collects parts, and makes episodes of those with the same id."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._parts: dict[str, list[_Part]] = {}
        self._counts: Counter[str] = Counter()

    def read(self, place: str, raw: Any) -> None:
        try:
            for part in _parts(place, raw):
                _check_tags(part)
                self._parts.setdefault(part.record_id, []).append(part)
                self.notes += part.notes
                self._counts[part.format] += 1
        except _UNREADABLE as error:
            self.notes.append(Note(place, _explain(error), lost=True))

    def finish(self) -> Imported:
        episodes = []
        for record_id, parts in self._parts.items():
            try:
                episodes.append(self._episode(record_id, parts))
            except _UNREADABLE as error:
                places = ", ".join(part.place for part in parts)
                self.notes.append(Note(f"{places} ({record_id})", _explain(error), lost=True))
        return Imported(tuple(episodes), tuple(self.notes), dict(self._counts))

    def _episode(self, record_id: str, parts: list[_Part]) -> Episode:
        by_rank = sorted(parts, key=lambda part: FORMATS.index(part.format))
        roles, by_rank = self._agree(by_rank)
        parts = [part for part in parts if part in by_rank]
        with_talk = [part for part in by_rank if part.talk is not None]
        talk = with_talk[0].talk if with_talk else None
        for part in with_talk[1:]:
            if _acts(part.talk) != _acts(talk):
                self.notes.append(
                    Note(
                        f"{part.place} ({record_id})",
                        f"its conversation differs from the one in {with_talk[0].place}, which "
                        "was kept",
                    )
                )
        task, unrecorded = _task(record_id, by_rank, roles)
        extra: dict[str, Any] = {}
        for part in parts:
            if part.extra:
                extra.setdefault(part.format, []).append(part.extra)
        agents = {a: role.model for a, role in zip(task.agents, roles, strict=True) if role.model}
        episode = Episode(
            library_version=__version__,
            task=task,
            turn_order=talk.turn_order if talk else None,
            agents=agents,
            events=tuple(talk.events) if talk else (),
            ending=talk.ending if talk else "unknown",
            judgements=tuple(self._judgements(parts)),
            source=Source(
                format=with_talk[0].format if with_talk else parts[0].format,
                record_id=record_id,
                transcript=talk is not None,
                unrecorded=unrecorded,
            ),
            extra=extra,
        )
        kept = self._kept(episode, parts)
        return episode.model_copy(update={"extra": extra | kept}) if kept else episode

    def _kept(self, episode: Episode, parts: Sequence[_Part]) -> dict[str, Any]:
        """What it takes to write the first record of each of SOTOPIA's formats again."""
        kept: dict[str, Any] = {}
        for kind in sotopia.RECORD_FORMATS:
            part = next((part for part in parts if part.format == kind), None)
            if part is None:
                continue
            unlike = sotopia.unlike_ours(episode, kind, part.record)
            try:
                json.dumps(unlike, ensure_ascii=False, allow_nan=False).encode()
            except ValueError as error:
                self.notes.append(
                    Note(
                        f"{part.place} ({part.record_id})",
                        f"cannot be written again as it was: {error}",
                    )
                )
                continue
            if unlike:
                kept[kind] = unlike
        return {sotopia.KEPT: kept} if kept else {}

    def _agree(self, by_rank: list[_Part]) -> tuple[list[_Role], list[_Part]]:
        """The roles, each thing from the first record that tells it; and the records that fit."""
        fitting: list[_Part] = []
        roles: dict[int, _Role] = {}
        for part in by_rank:
            clash = [
                (role.name, roles[index].name)
                for index, role in part.roles.items()
                if role.name and index in roles and roles[index].name not in (None, role.name)
            ]
            if clash:
                self.notes.append(
                    Note(
                        f"{part.place} ({part.record_id})",
                        f"calls an agent {clash[0][0]!r} that {fitting[0].place} calls "
                        f"{clash[0][1]!r}; left out",
                        lost=True,
                    )
                )
                continue
            fitting.append(part)
            for index, role in part.roles.items():
                known = roles.setdefault(index, _Role())
                for name in ("name", "goal", "character", "model"):
                    if getattr(known, name) is None:
                        setattr(known, name, getattr(role, name))
        count = max(2, *(index + 1 for index in roles)) if roles else 2
        return [roles.get(index, _Role()) for index in range(count)], fitting

    def _judgements(self, parts: Iterable[_Part]) -> list[Judgement]:
        """The judgements, pieces of one put together."""
        made: list[tuple[Judgement, bool]] = []
        for part in parts:
            judgement = part.judgement
            if judgement is None:
                continue
            same = [i for i, (other, _) in enumerate(made) if other.judge == judgement.judge]
            for index in same:
                other, piece = made[index]
                if (piece or part.piece) and _compatible(other, judgement):
                    made[index] = (_united(other, judgement), piece and part.piece)
                    break
            else:
                if same:
                    self.notes.append(
                        Note(
                            f"{part.place} ({part.record_id})",
                            f"another judgement by {judgement.judge}; all are kept",
                        )
                    )
                made.append((judgement, part.piece))
        return [judgement for judgement, _ in made]


def _acts(talk: _Talk | None) -> list[tuple[str, Action]]:
    return [(e.agent, e.action) for e in talk.events if e.action != NOTHING] if talk else []


def _compatible(one: Judgement, other: Judgement) -> bool:
    return all(
        one.scores[agent][name].score == score.score
        for agent, scores in other.scores.items()
        for name, score in scores.items()
        if name in one.scores.get(agent, {})
    )


def _united(one: Judgement, other: Judgement) -> Judgement:
    scores = {agent: dict(given) for agent, given in one.scores.items()}
    for agent, given in other.scores.items():
        known = scores.setdefault(agent, {})
        for name, score in given.items():
            if name not in known or not known[name].reasoning:
                known[name] = score
    ordered = {agent: scores[agent] for agent in sorted(scores)}
    return one.model_copy(update={"scores": ordered, "metrics": one.metrics | other.metrics})


# --- The task


def _task(
    record_id: str, parts: Sequence[_Part], roles: Sequence[_Role]
) -> tuple[Task, tuple[str, ...]]:
    """What was played, and which of it had to be made up."""
    unrecorded = []
    context = _first(part.context for part in parts)
    if not context:
        unrecorded.append("context")
    characters, goals = [], []
    for index, role in enumerate(roles):
        if role.goal is None:
            unrecorded.append(f"goal of agent_{index}")
        goals.append(role.goal or "")
        if role.name is None or role.character is None:
            unrecorded.append(f"character of agent_{index}")
        first, _, last = (role.name or f"Agent {chr(ord('A') + index)}").partition(" ")
        told = {"character_id": role.name or f"{record_id}/agent_{index}", **(role.character or {})}
        characters.append(Character(first_name=first, last_name=last.strip(), **told))
    unrecorded.append("relationship")
    environment = _first(part.environment for part in parts)
    if not environment:
        known = hashlib.sha256(context.encode()).hexdigest()[:24] if context else record_id
        environment = f"unknown-{known}"
    names = [role.name.replace(" ", "-") for role in roles if role.name]
    played_by = "+".join(names) if len(names) == len(roles) else record_id
    scenario = Scenario(
        scenario_id=environment,
        codename=_first(part.codename for part in parts) or "",
        source="imported",
        context=context or "(The scene is not recorded.)",
        goals=tuple(goals),
        relationship=RelationshipType.STRANGER,
    )
    task = Task(
        task_id=f"{environment}/{played_by}", scenario=scenario, characters=tuple(characters)
    )
    return task, tuple(unrecorded)


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


_SECRETS: Final = re.compile(r"(?:^|\s)\S+'s? secrets?:\s")


def _biography(text: str) -> dict[str, Any]:
    """The fields of a character that is told of in one text."""
    found = list(_SECRETS.finditer(text))
    if not found:
        return {"public_info": text.strip()}
    last = found[-1]
    return {
        "public_info": text[: last.start()].strip(),
        "secret": text[last.end() :].strip(),
    }


def _context(text: str, names: Sequence[str]) -> dict[str, str]:
    """The sections of a text that introduces a conversation: heading to content."""
    headings = ["Scenario", "Participants"]
    headings += [f"{name}'s background" for name in names]
    headings += [f"{name}'s goal" for name in names]
    places = []
    position = 0
    for heading in headings:
        match = re.compile(rf"^{re.escape(heading)}:", re.MULTILINE).search(text, position)
        if match:
            places.append((heading, match.start(), match.end()))
            position = match.end()
    if not places:
        return {}
    stop = re.compile(r"^(?:Conversation Starts:|Turn #\d+)", re.MULTILINE).search(text, position)
    ends = [start for _, start, _ in places[1:]] + [stop.start() if stop else len(text)]
    return {
        heading: text[begin:end].strip()
        for (heading, _, begin), end in zip(places, ends, strict=True)
    }


def _participants(text: str) -> list[str]:
    match = re.search(r"^Participants: (.+)$", text, re.MULTILINE)
    if match is None:
        raise _RecordError("the text names no participants")
    return [name.strip() for name in re.split(r",? and |, ", match[1])]


def _introduce(part: _Part, index: int, names: Sequence[str], text: str) -> None:
    """Take from an introduction what it tells of one agent."""
    sections = _context(text, names)
    part.context = part.context or sections.get("Scenario")
    role = part.role(index)
    role.name = names[index]
    biography = sections.get(f"{names[index]}'s background", "")
    if biography not in ("", names[index]):
        role.character = {**(role.character or {}), **_biography(biography)}
    goal = sections.get(f"{names[index]}'s goal")
    if goal and goal != "Unknown":
        role.goal = goal


# --- The conversation

_KINDS: Final = ("[non-verbal communication] ", "[action] ")


def _act(text: str, part: _Part, to: tuple[str, ...] = ()) -> Action:
    """The action that a text of the original system describes."""
    if text == "did nothing":
        return NOTHING
    if text == "left the conversation":
        return Action("leave")
    if text.startswith('said: "'):
        words = text.removeprefix('said: "')
        if words.endswith('"'):
            words = words[:-1]
        else:
            part.remark(f"a quotation does not end: {text[-60:]!r}")
        return Action("speak", words, to)
    if text.startswith("[non-verbal communication]"):
        return Action("non-verbal communication", _after(text), to)
    if text.startswith("[action]"):
        return Action("action", _after(text), to)
    part.remark(f"not a known kind of action, kept as 'action': {text[:60]!r}")
    return Action("action", text, to)


def _after(text: str) -> str:
    return text[text.index("]") + 1 :].removeprefix(" ")


def _turns(part: _Part, messages: Any) -> _Talk:
    """The conversation in the messages of the original system."""
    turns: list[list[tuple[str, Action]]] = []
    agents = {role.name: f"agent_{index}" for index, role in part.roles.items()}
    for turn in messages:
        acts = []
        for sender, receiver, text in turn:
            if sender == "Environment":
                continue
            to = tuple(agents[name] for name in receiver.split(", ") if name in agents)
            acts.append((agents[sender], _act(text, part, to)))
        turns.append(acts)
    talk = _Talk([])
    in_turn = [f"agent_{index % len(part.roles)}" for index in range(len(turns))]
    if all(
        agent == due or action == NOTHING
        for acts, due in zip(turns, in_turn, strict=True)
        for agent, action in acts
    ):
        # Those whose turn it is not "did nothing" for the record only.
        talk.turn_order = "round-robin"
        turns = [[a for a in acts if a[0] == due] for acts, due in zip(turns, in_turn, strict=True)]
    for number, acts in enumerate(turns, start=1):
        talk.events += [Event(number, agent, action) for agent, action in acts]
    return talk


def _text(part: _Part, text: str) -> _Talk | None:
    """The conversation in a text with the turns' numbers.

    A heading counts only if its number is the next one and its form that of the first, so that
    turns which somebody quotes, or makes up, in a turn of their own remain what was said. The
    comma that ends some texts is not theirs.
    """
    names = [role.name or "" for _, role in sorted(part.roles.items())]
    first = re.search(r"^Turn #(\d+)(:?)", text, re.MULTILINE)
    if first is None:
        return None
    zero, colon = int(first[1]), first[2]
    text = text[first.start() :].rstrip().removesuffix(",").rstrip(" ")
    speakers = "|".join(map(re.escape, names))
    heading = r"^Turn #{number}:[ \n]?" if colon else r"^Turn #{number}(?:\n|:?[ ]?$)"
    bodies: list[str] = []
    position = 0
    while True:
        pattern = heading.replace("{number}", str(zero + len(bodies)))
        found = list(
            re.compile(rf"{pattern}(?=(?:{speakers}) |\s*(?:^Turn #|\Z))", re.MULTILINE).finditer(
                text, position
            )
        )
        if not found:
            break
        # Inside of a quotation there is no heading, unless the quotation never ends.
        before = [text[position : match.start()].rstrip() for match in found]
        whole = (
            m for m, b in zip(found, before, strict=True) if ' said: "' not in b or b[-1] == '"'
        )
        match = next(whole, found[0])
        if bodies:
            bodies[-1] = text[position : match.start()]
        bodies.append(text[match.end() :])
        position = match.end()
    order = [f"agent_{index}" for index in range(len(names))]
    talk = _Talk([])
    alternating = True
    for number, raw in enumerate(bodies, start=1):
        # Some set their turns apart by an empty line.
        body = raw.removesuffix("\n").removesuffix("\n" if colon else "")
        due = order[(number - 1) % len(order)]
        name = next((n for n in names if body.startswith(f"{n} ")), None)
        if name is None:
            talk.events.append(Event(number, due, NOTHING))
            if body.strip():
                part.remark(f"turn {number} names no speaker: {body[:60]!r}")
            continue
        agent = f"agent_{names.index(name)}"
        alternating &= agent == due
        talk.events.append(Event(number, agent, _act(body.removeprefix(f"{name} "), part)))
    if alternating:
        talk.turn_order = "round-robin"
    else:
        part.remark("speakers do not alternate; whose silent turns are whose is a guess")
    return talk


_CUT_TAIL: Final = re.compile(r"\s*^Turn #\d+:?,?\s*\Z", re.MULTILINE)


def _lines(part: _Part, conversation: Any) -> _Talk:
    """The conversation in a list of speakers and texts, as the rating study stored it."""
    agents = {role.name: f"agent_{index}" for index, role in part.roles.items()}
    talk = _Talk([])
    for number, said in enumerate(conversation, start=1):
        name, text = said["speaker"], said["dialogue"]
        text = text.lstrip().removeprefix(f"{name} ").removesuffix("\n")
        if number == len(conversation):
            text = _CUT_TAIL.sub("", text).removesuffix(",")
        if re.fullmatch(r"left the conversation[.,]?", text):
            action = Action("leave")
        elif text.startswith(_KINDS):
            action = _act(text, part)
        elif text.startswith('"'):
            action = _act(f"said: {text}", part)
        else:
            part.remark(f"no quotation and no action, kept as spoken: {text[:60]!r}")
            action = Action("speak", text)
        talk.events.append(Event(number, agents[name], action))
    return talk


def _ending(talk: _Talk | None, agents: int, comments: str = "") -> None:
    """Tell why a conversation ended, if that is known."""
    if talk is None:
        return
    left = {e.agent for e in talk.events if e.action.action_type == "leave"}
    if len(left) > agents - 2 or "is leaving" in comments:
        talk.ending = "left"
    elif "too long" in comments.replace("stales for too long", ""):
        talk.ending = "turn-limit"
    elif "stales" in comments:
        talk.ending = "silence"


# --- Scores


def _scores(
    part: _Part, given: Mapping[str, Any], reasons: Mapping[str, Any] | None = None
) -> dict[str, DimensionScore]:
    """The scores of one agent, as they were recorded."""
    found = {}
    for name, score in given.items():
        if name == "overall_score":
            continue
        if isinstance(score, bool) or not isinstance(score, int | float):
            part.lose(f"no score for {name}: {score!r}")
            continue
        if not math.isfinite(score):
            part.lose(f"the score for {name} is not finite: {score}")
            continue
        known = DIMENSIONS.get(name)
        if known is not None and not known.low <= score <= known.high:
            part.remark(f"{name} is {score:g}, outside of {known.low:g} to {known.high:g}; kept")
        reason = (reasons or {}).get(name) or ""
        found[name] = DimensionScore(score=score, reasoning=str(reason))
    overall = given.get("overall_score")
    if isinstance(overall, int | float) and all(name in found for name in DIMENSIONS):
        mean = math.fsum(found[name].score for name in DIMENSIONS) / len(DIMENSIONS)
        if abs(overall - mean) > 1e-6:
            part.remark(f"the recorded overall score is {overall:g}, the mean is {mean:g}")
            part.extra.setdefault("overall_scores", []).append(overall)
    return found


_COMMENTS: Final = re.compile(r"^Agent (\d+) comments:[ ]*\n", re.MULTILINE)


def _reasons(reasoning: str) -> tuple[str, dict[int, dict[str, str]]]:
    """What comes before the comments on agents, and agent to dimension to comment."""
    pieces = _COMMENTS.split(reasoning)
    found: dict[int, dict[str, str]] = {}
    for number, block in zip(pieces[1::2], pieces[2::2], strict=True):
        heads = re.split(rf"^({'|'.join(DIMENSIONS)}): ", block, flags=re.MULTILINE)
        found[int(number) - 1] = {
            name: text.removesuffix("\n")
            for name, text in zip(heads[1::2], heads[2::2], strict=True)
        }
    return pieces[0], found


def _judged(
    judge: str, scores: Iterable[tuple[int, dict[str, DimensionScore]]]
) -> Judgement | None:
    given = {f"agent_{index}": found for index, found in scores if found}
    return Judgement(judge=judge, scores=given) if given else None


# --- The formats


def _parts(place: str, raw: Any) -> Iterator[_Part]:
    if not isinstance(raw, dict):
        raise _RecordError(f"is a {type(raw).__name__}, not an object: no known format")
    fields = raw.keys()
    if "rewarded_utterances" in fields:
        yield _utterance_attribution(place, raw)
    elif {"agent1_scores", "agent2_scores"} & fields:
        yield _human_ratings(place, raw)
    elif {"scores", "agent", "rater"} <= fields:
        yield _expert_ratings(place, raw)
    elif "episode_id" in fields and {"raw_messages", "social_interactions"} & fields:
        yield _release(place, raw)
    elif {"messages", "rewards"} <= fields:
        yield _episode_log(place, raw)
    elif {"pk", "rewards_prompt"} <= fields:
        yield _otree(place, raw)
    elif raw and all(isinstance(v, dict) and {"agent1", "agent2"} & v.keys() for v in raw.values()):
        for record_id, given in raw.items():
            yield _gpt4_scores(place, record_id, given)
    else:
        raise _RecordError(f"no known format; its fields are {', '.join(list(raw)[:12]) or 'none'}")


def _start(place: str, kind: str, raw: Mapping[str, Any], key: str = "pk") -> _Part:
    record_id = raw.get(key)
    if not isinstance(record_id, str) or not record_id:
        raise _RecordError(f"a record of format {kind} without an id ({key})")
    return _Part(place, kind, record_id)


def _rest(raw: Mapping[str, Any], *used: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in used and value is not None}


def _models(part: _Part, models: Any) -> str:
    """Note who played; the name of who judged."""
    judge, *players = models or [""]
    for index, model in enumerate(players[: len(part.roles)]):
        part.role(index).model = str(model)
    return f"{judge or 'unknown'}{sotopia.RECORDED}"


def _messages(
    part: _Part, messages: Any, reasoning: str, rewards: Any, models: Any, ids: Any
) -> None:
    """What an EpisodeLog and the release have in common."""
    comments, reasons = _reasons(reasoning)
    if comments.strip():
        part.extra["comments"] = comments
    introductions = {r: text for s, r, text in messages[0] if s == "Environment"}
    names = list(introductions)
    if len(names) < 2:
        raise _RecordError(f"its first turn tells {len(names)} agents of the scene, not two")
    part.name_roles(names)
    for index, text in enumerate(introductions.values()):
        _introduce(part, index, names, text)
        if isinstance(ids, list) and index < len(ids):
            role = part.role(index)
            role.character = {**(role.character or {}), "character_id": str(ids[index])}
    judge = _models(part, models)
    part.converse(lambda: _turns(part, messages))
    _ending(part.talk, len(names), comments)
    scores = []
    for index, reward in enumerate(rewards or ()):
        given = reward[1] if isinstance(reward, list) and len(reward) == 2 else reward
        if not isinstance(given, dict):
            part.lose(f"no scores by dimension for agent_{index}: {reward!r}")
            part.extra["rewards"] = rewards
            continue
        scores.append((index, _scores(part, given, reasons.pop(index, None))))
    if reasons or (reasoning.strip() and not comments.strip() and not scores):
        part.extra["reasoning"] = reasoning
    part.judgement = _judged(judge, scores)


def _episode_log(place: str, raw: Mapping[str, Any]) -> _Part:
    part = _start(place, "episode_log", raw)
    part.record = raw
    part.environment = raw.get("environment")
    used = ("pk", "environment", "agents", "messages", "reasoning", "rewards", "rewards_prompt")
    part.extra = _rest(raw, *used)
    _messages(
        part,
        raw["messages"],
        raw.get("reasoning") or "",
        raw["rewards"],
        raw.get("models"),
        raw.get("agents"),
    )
    return part


def _release(place: str, raw: Mapping[str, Any]) -> _Part:
    part = _start(place, "release", raw, "episode_id")
    part.record = raw
    part.environment, part.codename = raw.get("environment_id"), raw.get("codename")
    part.context = raw.get("scenario")
    part.extra = _rest(
        raw,
        *("episode_id", "environment_id", "codename", "scenario", "agent_ids", "raw_messages"),
        *("agents_background", "social_goals", "social_interactions", "raw_rewards"),
        *("raw_rewards_prompt", "reasoning", "rewards", "scores"),
    )
    rewards = raw["rewards"]
    _messages(
        part,
        raw["raw_messages"],
        raw.get("reasoning") or "",
        rewards,
        raw.get("experiment_model_name_pairs"),
        raw.get("agent_ids"),
    )
    raw_rewards = raw.get("raw_rewards", [])
    if raw_rewards and [r[1] if isinstance(r, list) else r for r in raw_rewards] != rewards:
        part.remark("rewards and raw_rewards differ; rewards were kept")
        part.extra["raw_rewards"] = raw["raw_rewards"]
    for role in part.roles.values():
        biography = raw.get("agents_background", {}).get(role.name)
        if biography:
            told = role.character or {}
            role.character = {**told, "secret": "", **_biography(biography)}
        role.goal = raw.get("social_goals", {}).get(role.name, role.goal)
    return part


def _otree(place: str, raw: Mapping[str, Any]) -> _Part:
    part = _start(place, "otree", raw)
    part.environment = raw.get("environment")
    part.extra = _rest(raw, "pk", "environment", "agents", "rewards_prompt", "context2")
    text = raw["rewards_prompt"]
    names = _participants(text)
    part.name_roles(names)
    for index in range(len(names)):
        _introduce(part, index, names, text)
        ids = raw.get("agents")
        if isinstance(ids, list) and index < len(ids):
            role = part.role(index)
            role.character = {**(role.character or {}), "character_id": str(ids[index])}
    _models(part, raw.get("models"))
    part.converse(lambda: _text(part, text))
    _ending(part.talk, len(names))
    return part


def _human_ratings(place: str, raw: Mapping[str, Any]) -> _Part:
    part = _start(place, "human_ratings", raw)
    part.extra = _rest(
        raw,
        *("pk", "scenario", "names", "social_goal", "personal_info", "conversation"),
        *("agent1_scores", "agent2_scores", "agent1_reasons", "agent2_reasons", "_data_keys"),
    )
    part.context = raw.get("scenario")
    part.name_roles(raw.get("names") or [])
    for role in part.roles.values():
        role.goal = (raw.get("social_goal") or {}).get(role.name)
        told = (raw.get("personal_info") or {}).get(role.name)
        if told:
            role.character = _told(told)
    conversation = raw.get("conversation")
    if conversation:
        part.converse(lambda: _lines(part, conversation))
        _ending(part.talk, len(part.roles))
    rated = [
        (i, _scores(part, raw[f"agent{i + 1}_scores"], raw.get(f"agent{i + 1}_reasons")))
        for i in (0, 1)
        if raw.get(f"agent{i + 1}_scores") is not None
    ]
    part.judgement = _judged(f"{HUMAN_PREFIX}{raw.get('rater') or 'unknown'}", rated)
    return part


def _told(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a character that the rating study took apart."""
    age = str(told.get("age") or "")
    return {
        "age": int(age) if age.isdecimal() and int(age) <= 130 else None,
        "pronouns": told.get("pronouns") or "",
        "occupation": told.get("profession") or "",
        "public_info": told.get("interests") or "",
        "personality": told.get("personality") or "",
        "secret": told.get("secrets") or "",
    }


def _expert_ratings(place: str, raw: Mapping[str, Any]) -> _Part:
    part = _start(place, "expert_ratings", raw)
    part.piece = True
    match = re.fullmatch(r"agent[ _]?([12])", str(raw["agent"]), re.IGNORECASE)
    if match is None:
        raise _RecordError(f"agent must be Agent1 or Agent2, got {raw['agent']!r}")
    index = int(match[1]) - 1
    part.role(index)
    part.extra = _rest(raw, "pk", "agent", "rater", "scores", "reasons")
    rated = _scores(part, raw["scores"], raw.get("reasons"))
    part.judgement = _judged(f"{HUMAN_PREFIX}{raw['rater']}", [(index, rated)])
    return part


def _gpt4_scores(place: str, record_id: str, raw: Mapping[str, Any]) -> _Part:
    part = _Part(place, "gpt4_scores", record_id)
    part.environment = raw.get("env_pk")
    part.extra = _rest(raw, "env_pk", "agent1", "agent2")
    rated = []
    for index in (0, 1):
        given = raw.get(f"agent{index + 1}")
        if isinstance(given, dict):
            rated.append((index, _scores(part, given)))
        elif given is not None:
            part.lose(f"agent{index + 1} holds {given!r}, no scores")
    part.judgement = _judged(GPT4, rated)
    return part


def _utterance_attribution(place: str, raw: Mapping[str, Any]) -> _Part:
    """One agent's view of an episode; whoever spoke first is ``agent_0``."""
    part = _start(place, "utterance_attribution", raw, "episode_id")
    part.piece = True
    me = 0 if raw["is_first_speaker"] else 1
    part.context = raw.get("scenario")
    part.role(me).name, part.role(me).goal = raw["agent"], raw.get("goal")
    used = ("episode_id", "scenario", "agent", "goal", "score", "rewarded_utterances")
    part.extra = _rest(raw, *used, "is_first_speaker")
    talk = _Talk([])
    marks: list[dict[str, Any]] = []
    for turn, (label, value) in enumerate(raw["rewarded_utterances"].items(), start=1):
        match = re.fullmatch(r"Utterance (\d+) by (.+)", label)
        if match is None:
            raise _RecordError(f"not the label of an utterance: {label!r}")
        index = me if match[2] == raw["agent"] else 1 - me
        if part.role(index).name not in (None, match[2]):
            raise _RecordError(f"a third speaker: {match[2]!r}")
        part.role(index).name = match[2]
        text, mark, *people = value
        said = text.removeprefix(match[2]).removeprefix(":").removeprefix(" ")
        talk.events.append(Event(turn, f"agent_{index}", _act(said, part)))
        marks.append(
            {
                "turn": turn,
                "agent": f"agent_{index}",
                "utterance": int(match[1]),
                "mark": mark,
                "people": people[0] if people else {},
            }
        )
    part.talk = talk
    _ending(talk, 2)
    part.extra |= {"agent": f"agent_{me}", "marks": marks}
    if raw.get("score") is not None:
        rated = _scores(part, {"goal": raw["score"]})
        part.judgement = _judged(GPT4, [(me, rated)])
    return part


def _check_tags(part: _Part) -> None:
    """Texts whose tags are malformed cannot be shown to anybody: make them plain."""
    for index, role in sorted(part.roles.items()):
        if role.goal is not None:
            role.goal = _plain(part, role.goal, f"goal of agent_{index}")
    if part.context is not None:
        part.context = _plain(part, part.context, "context")


def _plain(part: _Part, text: str, where: str) -> str:
    try:
        visibility.check(text, where=where)
    except SotopiaGymError as error:
        part.remark(f"{error}; its tags were taken off")
        part.extra[where] = text
        return re.sub(r"<[^<>]*>?", "", text)
    return text


# --- Files


def _records(path: Path, notes: list[Note]) -> Iterator[tuple[str, Any]]:
    """The records of a file, with their places."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        notes.append(Note(path.name, f"is not UTF-8 text: {error}", lost=True))
        return
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        yield from _json_lines(path.name, text, notes)
        return
    if isinstance(whole, list) and all(isinstance(record, dict) for record in whole):
        for number, record in enumerate(whole, start=1):
            yield f"{path.name}, record {number}", record
        return
    yield path.name, whole


def _json_lines(name: str, text: str, notes: list[Note]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            notes.append(Note(place, f"is not JSON: {error}", lost=True))
            continue
        yield place, record


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        details = error.errors()[0]
        where = ".".join(map(str, details["loc"]))
        return f"{where + ': ' if where else ''}{details['msg'].removeprefix('Value error, ')}"
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    if isinstance(error, _RecordError | SotopiaGymError):
        return str(error)
    return f"is not laid out as expected: {error}"
