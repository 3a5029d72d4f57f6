"""Players that look for a mutual friend by talking about what their friends do and like."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from sotopia_gym.envs.dialogue import Action
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.base import Script, Temperament
from sotopia_gym.tasks.families.mutual_friend_reading import (
    Statement,
    follow,
    names_for,
    read_statement,
    sentences,
    values_pattern,
)

Friends = Mapping[str, Mapping[str, str]]
"""Friend to attributes: ``{"Vita Olsen": {"hobby": "rowing", "town": "Thornby"}}``."""

Traits = frozenset[tuple[str, str]]
"""Attributes, as pairs of kind and value, that somebody has together."""

# kind of attribute: how to say that somebody has it, and what talk of it sounds like
_KINDS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "hobby": (
        ("is into {}", "has {} for a hobby"),
        r"\binto\b|hobb|\bloves?\b|enjoy|free time|fun",
    ),
    "company": (("works at {}", "has a job at {}"), r"\bwork|compan|\bjobs?\b|employ|for a living"),
    "school": (
        ("went to {}", "studied at {}"),
        r"school|college|universit|stud[iy]|graduat|went to",
    ),
    "town": (
        ("lives in {}", "has a place in {}"),
        r"\bliv(?:es?|ing)\b|\btowns?\b|\bplace in\b|\bbased\b",
    ),
    "instrument": (("plays the {}",), r"\bplay|instrument|music"),
    "pet": (("has a pet {}", "keeps a {}"), r"\bpets?\b|\bkeeps?\b|animal"),
    "language": (("is learning {}", "takes lessons in {}"), r"language|learn|\bspeak|lessons"),
    "major": (("majored in {}", "has a degree in {}"), r"major|degree|\bstud[iy]"),
    "time preference": (("is at their best in the {}", "prefers the {}"), r"prefer|time of"),
    "location preference": (("likes {} activities best",), r"prefer|\bactivities"),
}
_NOBODY: Final = re.compile(r"\b(?:nobody|no[ -]one|none)\b", re.I)
_EXISTENCE: Final = re.compile(
    r"\b(?:nobody|no[ -]one|none|any(?:one|body)?|no friends?|neither|nor|not a single)\b", re.I
)
_LEADING: Final = re.compile(
    r"""^\W*(?:(?:oh|ah|well|hm+|sorry|i['’]m\ afraid|i\ am\ afraid|that(?:\ is)?)\W+)*
      (?:(?P<no>no|nope|none|nobody|not|i\ (?:do\ not|don['’]t))
      |(?P<yes>yes|yeah|yep|indeed|sure|i\ do|exactly|correct|absolutely))\b""",
    re.I | re.X,
)
_OPEN_QUESTION: Final = re.compile(
    r"\b(?:tell me|what (?:about|are|do)|how about|where do|describe|(?:and|about) yours)\b",
    re.I,
)
_WHICH: Final = re.compile(r"\b(?:what|where|which|how)\b", re.I)
_STRANGER: Final = re.compile(
    r"\b(?:[Kk]now|called|friend(?: we share)? (?:is|must be|has to be)) (?:(?:a|an|my friend) )?"
    r"(?P<name>(?!I\b)[^\W\d_a-z][\w'’-]+(?: [^\W\d_a-z][\w'’-]+)?)"
)


@dataclass(frozen=True, slots=True)
class Talk:
    """What one statement says about friends without their names.

    Attributes:
        known: Attributes that somebody the speaker knows has together.
        unknown: Attributes that nobody the speaker knows has together.
        asked: Attributes asked about; None stands for some that are not on one's own list.
        kinds: Kinds of attributes asked about without a value.
        answer: Whether it begins with a plain yes or no.
        strange: Whether a friend is described, or asked for, who cannot be on one's own list.
    """

    known: tuple[Traits, ...] = ()
    unknown: tuple[Traits, ...] = ()
    asked: tuple[Traits | None, ...] = ()
    kinds: tuple[str, ...] = ()
    answer: bool | None = None
    strange: bool = False


class _Listener:
    """Understands talk about attributes, as far as they are on one's own list."""

    def __init__(self, friends: Friends) -> None:
        self.traits = {name: frozenset(a.items()) for name, a in friends.items()}
        self._kinds = sorted({kind for kind, _ in self._all()})
        self._values = {value.lower(): (kind, value) for kind, value in self._all()}
        self._pattern = values_pattern(value for _, value in self._all())
        self._cues = {
            kind: re.compile(_KINDS.get(kind.lower(), ((), re.escape(kind)))[1], re.I)
            for kind in self._kinds
        }

    def _all(self) -> set[tuple[str, str]]:
        return {trait for traits in self.traits.values() for trait in traits}

    def hear(self, text: str, about: Callable[[str], bool] = bool) -> Talk:
        """What ``text`` says, in those of its clauses that ``about`` is true of."""
        found: list[tuple[str, str]] = []

        def code(match: re.Match[str]) -> str:
            found.append(self._values[match[0].lower()])
            return f"#{len(found) - 1}"

        coded = sentences(self._pattern.sub(code, text.replace("#", " ")))
        clauses = [clause for clause in coded if about(clause)]
        known: list[Traits] = []
        unknown: list[Traits] = []
        asked: list[Traits | None] = []
        kinds: list[str] = []
        strange = False
        for clause in clauses:
            traits = [found[int(index)] for index in re.findall(r"#(\d+)", clause)]
            question = negotiation.is_question(clause)
            odd = self._strange(clause)
            groups = _grouped(traits, clause)
            if not traits and question and odd and not _WHICH.search(clause):
                asked.append(None)
            elif not traits:
                if question or _OPEN_QUESTION.search(clause):
                    kinds += [k for k in self._kinds if self._cues[k].search(clause)] or ["any"]
            elif question:
                asked += [None] if odd else groups
                known += [] if odd else groups
                strange = strange or odd
            elif negotiation.negated(clause) or _NOBODY.search(clause):
                unknown += groups if _EXISTENCE.search(clause) and not odd else []
            elif odd:
                strange = True
            else:
                known += groups
        leading = _LEADING.search(clauses[0]) if clauses else None
        answer = None if leading is None else leading["yes"] is not None
        return Talk(tuple(known), tuple(unknown), tuple(asked), tuple(kinds), answer, strange)

    def _strange(self, clause: str) -> bool:
        """Whether ``clause`` tells an attribute in a value that one's own list does not have."""
        return any(
            "#" not in part and any(cue.search(part) for cue in self._cues.values())
            for part in re.split(r",\s|\s(?:and|or|who)\s", clause)
        )


def _grouped(traits: Sequence[tuple[str, str]], clause: str) -> list[Traits]:
    """All together, or each alone where they cannot, or need not, be the same person's."""
    kinds = [kind for kind, _ in traits]
    if len(set(kinds)) < len(set(traits)) or re.search(r"\b(?:or|nor)\b", clause):
        return [frozenset({trait}) for trait in traits]
    return [frozenset(traits)] if traits else []


@dataclass(slots=True)
class _Memory:
    """What a conversation has told a player, from its own point of view.

    Attributes:
        known: Attributes that somebody the other knows has together.
        unknown: Attributes that nobody the other knows has together.
        ruled_out: Friends that the other said no to.
        affirmed: Friends about whom a question of the player's was answered with yes.
        proposed: How often the player has named each friend.
        asked: Attributes that the player has asked about.
        lines: How many lines the player has spoken.
    """

    known: set[Traits] = field(default_factory=set)
    unknown: set[Traits] = field(default_factory=set)
    ruled_out: set[str] = field(default_factory=set)
    affirmed: set[str] = field(default_factory=set)
    proposed: Counter[str] = field(default_factory=Counter)
    asked: set[Traits] = field(default_factory=set)
    lines: int = 0


@dataclass(frozen=True, slots=True)
class _Style:
    """How a temperament plays.

    Attributes:
        sure: How probable a friend must be before the player names it, 0 to 1.
        clever: Whether it asks what tells most, not what comes to mind.
        details: How many more attributes it tells when it says yes.
        volunteers: How many friends it describes unasked in each line.
        coy: How often it wants to be told something before it answers.
        late: Whether it asks once more before it confirms.
    """

    sure: float
    clever: bool
    details: int
    volunteers: int = 0
    coy: int = 0
    late: bool = False


class Seeker(Script):
    """Keeps a probability for each of its friends, asks, and names one when it is sure enough.

    A friend who has the attributes told is as probable as before; one who lacks them remains
    possible, since the other may have meant somebody else: the likelier, the fewer attributes were
    told. A "no" rules out all who have them. The expert asks for the attributes whose answer tells
    most (expected information gain).
    """

    _STYLES: Final[dict[Temperament, _Style]] = {
        "expert": _Style(0.9, True, 4),
        "fair": _Style(0.55, False, 1),
        "generous": _Style(0.4, False, 4, volunteers=2),
        "firm": _Style(0.9, True, 0),
        "stubborn": _Style(0.95, False, 0, coy=2, late=True),
    }
    _ASK: Final = (
        "Do you know anyone who {traits}?",
        "Is there anyone among your friends who {traits}?",
        "Tell me, do you have a friend who {traits}?",
        "I am curious: does anyone you know fit this, somebody who {traits}?",
        "Would you happen to know a person who {traits}?",
    )
    _ASK_ON: Final = (
        *_ASK,
        "Let me try another way. Do you know somebody who {traits}?",
        "And is there someone you know who {traits}?",
    )
    _HAVE: Final = (
        "Yes, I know somebody who {traits}.",
        "Yes, a friend of mine {traits}.",
        "Indeed, there is someone in my circle who {traits}.",
        "Yes, one of my friends {traits}.",
    )
    _LACK: Final = (
        "No, nobody I know {traits}.",
        "No, none of my friends {traits}.",
        "I am afraid that nobody in my circle {traits}.",
    )
    _LACK_STRANGE: Final = (
        "No, nobody I know fits that.",
        "No, that is none of my friends.",
        "I am afraid that is nobody I know.",
    )
    _VOLUNTEER: Final = (
        "On my side there is somebody who {traits}.",
        "I can tell you that one of my friends {traits}.",
        "Somebody I know well {traits}.",
    )
    _CLAIM: Final = (
        "Then our mutual friend must be {name}, who {traits}!",
        "Our mutual friend has to be {name}, who {traits}. Do you know {first}?",
        "I know {name}, who {traits}. Do you know {first} too?",
        "Everything fits a friend of mine. The friend we share must be {name}, who {traits}.",
    )
    _AGAIN: Final = (
        "Just to be clear: I know {name}, who {traits}. Do you know {first}?",
        "Let me ask plainly. I know {name}, who {traits}. Is {first} a friend of yours as well?",
    )
    _CONFIRM: Final = (
        "Yes, I know {name} too! What a small world.",
        "Yes! {name} is a friend of mine as well. So it is {first} who links us.",
        "Wonderful, I know {name} too. Our mutual friend is {name}.",
        "Yes, I know {first} very well. Our mutual friend is {name}, then.",
    )
    _CHECK: Final = (
        "Is that the {first} who {traits}?",
        "Do you mean the {first} who {traits}?",
    )
    _OTHER: Final = (
        "No, my {first} {traits}. Those must be different people.",
        "No, the {first} I have in mind {traits}. They are different people.",
    )
    _DENY: Final = (
        "No, I do not know any {name}.",
        "No, I do not know anyone called {name}.",
    )
    _COY: Final = (
        "Before I say much about mine, tell me a little about your friends.",
        "You first. What are your friends like?",
    )
    _GREETINGS: Final = ("Hello, {other}. ", "Hi {other}! ", "Good to meet you, {other}. ", "", "")

    def __init__(
        self,
        brief: Brief,
        friends: Friends,
        *,
        temperament: Temperament,
        rng: random.Random,
    ) -> None:
        self._brief, self._rng, self._style = brief, rng, self._STYLES[temperament]
        self._listener = _Listener(friends)
        self._traits = self._listener.traits
        self._values = tuple(sorted({v for own in self._traits.values() for _, v in own}))
        self._names = names_for(tuple(friends), (), self._values)

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        me, others = self._brief.name, self._brief.others
        said = [u for u in utterances if u.action_type == "speak" and u.name in (me, *others)]
        self._names = names_for(tuple(self._traits), self._strangers(said), self._values)
        statements = [
            Statement(u.name, u.turn, read_statement(u.argument, self._names)) for u in said
        ]
        if follow(statements, (me, *others)).agreement is not None:
            return Action("leave")
        memory = self._remember(said, statements)
        latest = next((u.argument for u in reversed(said) if u.name != me), "")
        fresh = bool(said) and said[-1].name != me
        return Action("speak", " ".join(self._lines(latest if fresh else "", memory, turn)))

    def _strangers(self, said: Iterable[Utterance]) -> tuple[str, ...]:
        """The names that the other has brought up and that are not on one's own list."""
        own = names_for(tuple(self._traits), (), self._values)
        found = [
            match["name"]
            for utterance in said
            if utterance.name != self._brief.name
            for match in _STRANGER.finditer(utterance.argument)
            if not own.encode(match["name"])[0].startswith("@")
        ]
        return tuple(dict.fromkeys(found))

    def _remember(self, said: Sequence[Utterance], statements: Sequence[Statement]) -> _Memory:
        memory = _Memory()
        asked: tuple[Traits | None, ...] = ()
        proposed: str | None = None
        for utterance, statement in zip(said, statements, strict=True):
            talk, reading = self._listener.hear(utterance.argument), statement.reading
            if utterance.name == self._brief.name:
                asked, proposed = talk.asked, reading.only
                memory.asked.update(traits for traits in asked if traits)
                memory.lines += 1
                if proposed is not None:
                    memory.proposed[proposed] += 1
                continue
            if not reading.named:
                memory.known.update(talk.known)
            memory.unknown.update(talk.unknown)
            memory.ruled_out |= reading.denied
            if proposed is not None and (talk.answer is False or reading.retracts):
                memory.ruled_out.add(proposed)
            elif proposed is not None and talk.answer:
                memory.affirmed.add(proposed)
            elif talk.answer is False:
                memory.unknown.update(traits for traits in asked if traits)
            elif talk.answer and len(asked) == 1 and asked[0] and not talk.known:
                memory.known.add(asked[0])
            asked, proposed = (), None
        return memory

    def _lines(self, heard: str, memory: _Memory, turn: int) -> list[str]:
        reading, talk = read_statement(heard, self._names), self._listener.hear(heard)
        if reading.only in self._traits:
            return [self._on_name(reading.only, heard, memory, turn)]
        checked = [n for n in memory.affirmed if n not in memory.ruled_out]
        if checked and talk.answer:
            return [self._say(self._CONFIRM, checked[-1])]
        lines: list[str] = []
        if reading.only is not None:
            lines.append(self._rng.choice(self._DENY).format(name=reading.only))
        elif self._style.coy > memory.lines and not memory.known and heard:
            return [self._rng.choice(self._COY)]
        weights = self._weigh(memory)
        lines += self._answers(talk, weights)
        if not memory.lines:
            lines.insert(0, self._greeting())
        lines += self._volunteered(weights, memory)
        lines.append(self._next(weights, memory, turn))
        return [line for line in lines if line]

    def _on_name(self, name: str, heard: str, memory: _Memory, turn: int) -> str:
        """The answer to somebody who has named a friend on the player's list."""
        talk = self._listener.hear(heard, lambda clause: name in self._names.encode(clause)[1])
        told = {trait for traits in talk.known for trait in traits}
        if talk.strange or not told <= self._traits[name]:
            return self._say(self._OTHER, name)
        checked = memory.proposed[name] > 0
        sure = bool(told) or (" " in name and name.lower() in heard.lower())
        late = self._style.late and turn < self._brief.max_turns - 4
        if checked or (sure and not late):
            return self._say(self._CONFIRM, name)
        return self._say(self._CHECK, name)

    def _weigh(self, memory: _Memory) -> dict[str, float]:
        """How probable each friend is, given what was heard."""
        facts = [k for k in memory.known if not any(k < other for other in memory.known)]
        weights = {
            name: math.prod(1.0 if fact <= traits else self._chance(fact) for fact in facts)
            for name, traits in self._traits.items()
            if name not in memory.ruled_out and not any(no <= traits for no in memory.unknown)
        }
        if not weights:  # something was misunderstood: start afresh with those who are left
            left = [name for name in self._traits if name not in memory.ruled_out]
            weights = dict.fromkeys(left or self._traits, 1.0)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def _chance(self, fact: Traits) -> float:
        """How probable it is that the other knows somebody like this who is not the mutual one."""
        most = max(map(len, self._traits.values()))
        return 0.005 if len(fact) == most else (0.8, 0.45, 0.2)[min(len(fact), 3) - 1]

    def _answers(self, talk: Talk, weights: Mapping[str, float]) -> list[str]:
        lines = []
        for traits in talk.asked[:3]:
            fitting = [n for n, own in self._traits.items() if traits is not None and traits <= own]
            if traits is None:
                lines.append(self._rng.choice(self._LACK_STRANGE))
            elif fitting:
                best = max(fitting, key=lambda name: weights.get(name, 0.0))
                more = self._rng.sample(
                    sorted(self._traits[best] - traits),
                    min(self._style.details, len(self._traits[best] - traits)),
                )
                lines.append(self._tell(self._HAVE, traits | frozenset(more)))
            else:
                lines.append(self._tell(self._LACK, traits))
        if talk.kinds and not talk.asked and weights and not self._style.volunteers:
            (likely,) = self._rng.choices(list(weights), list(weights.values()))
            wanted = [t for t in sorted(self._traits[likely]) if t[0] in talk.kinds]
            lines.append(self._tell(self._VOLUNTEER, wanted or self._traits[likely]))
        return lines

    def _volunteered(self, weights: Mapping[str, float], memory: _Memory) -> list[str]:
        ordered = sorted(weights, key=lambda name: weights[name], reverse=True)
        start = memory.lines * self._style.volunteers
        told = (ordered * 2)[start % max(1, len(ordered)) :][: self._style.volunteers]
        lines = self._rng.sample(self._VOLUNTEER, len(told))
        return [
            self._tell((line,), self._traits[name]) for line, name in zip(lines, told, strict=True)
        ]

    def _next(self, weights: Mapping[str, float], memory: _Memory, turn: int) -> str:
        """The next question, or a name once it is sure enough or the time runs out."""
        unnamed = [name for name in weights if memory.proposed[name] < 3]
        likely = max(unnamed or weights, key=lambda name: weights[name])
        late = turn >= self._brief.max_turns - 5
        sure = unnamed and (late or weights[likely] >= self._style.sure)
        question = None if sure else self._question(weights, memory)
        if sure or (unnamed and question is None):
            return self._say(self._AGAIN if memory.proposed[likely] else self._CLAIM, likely)
        asked = question or self._traits[likely]
        return self._tell(self._ASK_ON if memory.lines else self._ASK, asked)

    def _question(self, weights: Mapping[str, float], memory: _Memory) -> Traits | None:
        """What to ask about, or None if no answer would tell anything."""
        gains: dict[Traits, float] = {}
        before = _entropy(weights.values())
        for name in weights:
            traits = sorted(self._traits[name])
            sizes = range(1, len(traits) + 1) if self._style.clever else (1, 2)
            for some in (frozenset(c) for size in sizes for c in combinations(traits, size)):
                known = some in memory.asked or any(some <= fact for fact in memory.known)
                if some not in gains and not known:
                    gains[some] = before - self._entropy_after(some, weights)
        if not gains or max(gains.values()) < 0.02:
            return None
        least = 0.9 * max(gains.values()) if self._style.clever else 0.02
        return self._rng.choice(sorted((t for t, g in gains.items() if g >= least), key=sorted))

    def _entropy_after(self, traits: Traits, weights: Mapping[str, float]) -> float:
        """Bits that are expected to be left by the answer to "Do you know anyone who ...?"."""
        chance = self._chance(traits)
        having = [w for name, w in weights.items() if traits <= self._traits[name]]
        others = [w for name, w in weights.items() if not traits <= self._traits[name]]
        after_yes = [*having, *(w * chance for w in others)]
        return _entropy(after_yes) + (1 - chance) * _entropy(others)

    def _greeting(self) -> str:
        other, _, _ = self._brief.others[0].partition(" ")
        if self._names.encode(other)[1]:
            return ""
        return self._rng.choice(self._GREETINGS).format(other=other).strip()

    def _say(self, lines: Sequence[str], name: str) -> str:
        traits = self._described(self._traits[name])
        line = self._rng.choice(lines)
        first, _, _ = name.partition(" ")
        return line.format(name=name, first=first, traits=traits)

    def _tell(self, lines: Sequence[str], traits: Collection[tuple[str, str]]) -> str:
        return self._rng.choice(lines).format(traits=self._described(traits))

    def _described(self, traits: Collection[tuple[str, str]]) -> str:
        parts = [
            self._rng.choice(_KINDS.get(kind.lower(), ((f"has {{}} for {kind}",), ""))[0]).format(
                value
            )
            for kind, value in sorted(traits)
        ]
        self._rng.shuffle(parts)
        return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _entropy(weights: Iterable[float]) -> float:
    """Entropy of unnormalised ``weights`` in bits, times their sum."""
    present = [weight for weight in weights if weight > 0]
    if not present:
        return 0.0
    total = sum(present)
    return total * math.log2(total) - sum(w * math.log2(w) for w in present)
