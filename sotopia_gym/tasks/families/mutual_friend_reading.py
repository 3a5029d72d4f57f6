"""Who is named as a friend, and when two people have agreed on one: the rules of mutual friends.

Only what is *said* agrees: a friend counts once both have named them or confirmed them in so many
words, the second as a statement. :func:`read_statement` says what one statement means,
:func:`follow` what a sequence of statements amounts to.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final, Literal

from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.wording import folded, unspelled

# Names that are words as well: they count only with a capital.
_WORDS: Final = frozenset(
    "art bill bob christian dawn don drew faith frank gene grace grant hope jack joy june lee may "
    "mark miles nick pat ray rob rose sue will".split()
)


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """The people that a speaker may name.

    Attributes:
        people: Their full names.
        handles: Full, first and last names, in lower case, and whom each means.
        pattern: What finds a handle in a text.
        values: What finds an attribute value, which may hold somebody's name, or None.
    """

    people: tuple[str, ...]
    handles: Mapping[str, str]
    pattern: re.Pattern[str]
    values: re.Pattern[str] | None

    def encode(self, text: str) -> tuple[str, list[str]]:
        """``text`` with ``@i`` for person ``i``, and whom it names, in order.

        Somebody with another surname is another person, yet is among those named: an invented
        surname hides nobody.
        """
        named: list[str] = []
        plain = unspelled(folded(text), self._spelled).replace("@", " ")
        if self.values is not None:
            plain = self.values.sub("□", plain)

        def code(match: re.Match[str]) -> str:
            person = self.handles[" ".join(match[0].lower().split())]
            named.append(person)
            alone = " " not in match[0] and " " in person
            if alone and _SURNAME.match(match.string, match.end()):
                return "□"
            return f"@{self.people.index(person)}"

        return self.pattern.sub(code, plain), named

    def hinted(self, text: str) -> list[str]:
        """Whom ``text`` gives away by initials or a first letter, which stand for a name."""
        plain = folded(text)
        initials = {"".join(filter(None, m.groups())).lower() for m in _INITIALS.finditer(plain)}
        letters = {(m["letter"] or m["other"]).lower() for m in _LETTER.finditer(plain)}
        return [
            person
            for person in self.people
            if person[0].lower() in letters
            or (person[0] + person.split()[-1][0]).lower() in initials
        ]

    def _spelled(self, letters: str) -> str | None:
        person = self.handles.get(letters.lower())
        return None if person is None else letters.capitalize()


# "V.O.", "initials V O", "a name that begins with V", "the first letter is V"
_INITIALS: Final = re.compile(
    r"\b([A-Z])\.\s?([A-Z])\b|\b[Ii]nitials?\b[^.?!]{0,20}?\b([A-Z])[.\s]{0,2}([A-Z])\b"
)
_LETTER: Final = re.compile(
    r"""\b(?:begins?|starts?|beginning|starting)\ (?:with|in)\ (?:an?\ |the\ letter\ )?["'“]?
          (?P<letter>[a-z])\b
      | \b(?:first\ letter|initial)\ (?:\w+\ ){0,3}?(?:is|an?)\ ["'“]?(?P<other>[a-z])\b""",
    re.I | re.X,
)
_SURNAME: Final = re.compile(
    r"\s(?!(?:And|Or|Is|Was|From|Who|At|Works?|Too|Also|Yes|No|It|The|She|He|They|Our|Do)\b)"
    r"[^\W\d_a-z][^\W\d_A-Z]"
)


@lru_cache(maxsize=512)
def names_for(own: tuple[str, ...], others: tuple[str, ...], values: tuple[str, ...]) -> Names:
    """The people a speaker may name: of two with the same first name, the one on its own list.

    Args:
        own: Full names on the speaker's list.
        others: Full names on the other's list.
        values: Attribute values on both lists.
    """
    people = tuple(dict.fromkeys((*own, *others)))
    handles: dict[str, str] = {}
    for name in people:
        for handle in (name, name.split()[0], name.split()[-1]):
            handles.setdefault(handle.lower(), name)
    words = "|".join(handle.capitalize() for handle in sorted(handles.keys() & _WORDS)) or r"\b\B"
    return Names(
        people,
        handles,
        re.compile(
            rf"(?<!\w)(?:(?i:{_either(handles.keys() - _WORDS)})|{words})(?!\w|{_CONTRACTED})"
        ),
        values_pattern(values) if values else None,
    )


def values_pattern(values: Iterable[str]) -> re.Pattern[str]:
    """What finds any of these attribute values, or its plural, whatever its case."""
    return re.compile(rf"(?<!\w)(?:{_either(set(values))})(?=s?(?!\w))", re.I)


def _either(texts: Iterable[str]) -> str:
    """A pattern for any of ``texts``: of two that begin alike, the longer."""
    ordered = sorted(texts, key=lambda text: (-len(text), text))
    return "|".join(re.escape(text).replace(r"\ ", r"\s+") for text in ordered) or r"\b\B"


_CONTRACTED: Final = r"['’](?!s\b)\w"  # "don't" names no Don, but "Don's" does


@dataclass(frozen=True, slots=True)
class Reading:
    """What one statement says about friends by name.

    Attributes:
        named: Everybody named in it, in whatever way, in order.
        known: Friends it states to know.
        claimed: Those it states to be the mutual friend.
        asked: Those it names otherwise, without denying anything: in a question, with a hedge, or
            just so.
        denied: Those it states not to know, or not to be the one.
        confirms: Whether it confirms, without a name, that it knows whoever the other has named:
            ``"person"`` with words for a person ("I know her too"), ``"yes"`` with words for
            anything ("Yes!", "Me too."), which count only if that is what was asked.
        retracts: Whether it takes back what was said before.
        closing: Whom its last sentence claims or asks about, if it names nobody else.
    """

    named: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    claimed: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    confirms: Literal["person", "yes"] | None = None
    retracts: bool = False
    closing: str | None = None

    @property
    def only(self) -> str | None:
        """The one friend it puts forward, if it puts forward one."""
        put = self.known | self.claimed | self.asked
        return next(iter(put)) if len(put) == 1 and put == set(self.named) - self.denied else None

    @property
    def settled(self) -> str | None:
        """The one friend it commits to: the one it claims or, failing that, states to know."""
        committed = (self.claimed or self.known) - self.denied
        return next(iter(committed)) if len(committed) == 1 else None


_N: Final = r"@\d+\b(?!['’]s\b)"
# What may stand between "I know" and a name: nothing that makes it somebody else's friend.
_GAP: Final = (
    r"(?:(?!\b(?:knows?|knew|like|about|of(?!\s(?:mine|course)\b)|than|to|that|whether|what|how|why"
    r"|where|when|nobody|none|whose|with|for)\b)[^@]){0,60}?"
)
_SURE: Final = r"""(?:\ (?:also|do|too|really|certainly|definitely|indeed|personally|already
    |both))*"""
_FILLER: Final = r"""^(?:(?:ah|oh|ok(?:ay)?|yes|yeah|yep|great|perfect|wonderful|right|exactly
    |indeed|well|then|so|and|in\ that\ case|of\ course|absolutely|definitely|wow|agreed)\b
    [\s,.!]*)*"""
_FRIEND: Final = r"(?:friends?|pals?|budd(?:y|ies)|mates?|acquaintances?)\b"
_MINE: Final = r"(?!['’]s|\ of\ (?!mine\b|ours\b|course\b))"
_ONE: Final = r"(?:mutual|common|shared)\ (?:friend|acquaintance|contact|person|one)\b"
_KNOWN: Final = re.compile(
    rf"""\bi(?:['’]ve|['’]m|\ am|\ have)?{_SURE}\ (?:know|have|got|met
        |(?:good\ |close\ |old\ )?friends\ with)\b{_GAP}{_N}(?!\ (?:is|was|has|had|will|would)\b)
      | \bmy\ (?:\w+\ ){{0,2}}?{_FRIEND},?\ (?:is\ |named\ |called\ )?{_N}
      | @\d+(?:['’]s|\ is|,)\ (?:also\ )?(?:an?|my|one\ of\ my)\ (?:\w+\ ){{0,2}}?{_FRIEND}{_MINE}
      | @\d+(?:['’]s|\ is)\ (?:also\ )?(?:on\ my\ list|(?:among|one\ of)\ my\ friends)\b
      | {_N}\ and\ i\ are\ (?:\w+\ )?friends\b""",
    re.I | re.X,
)
_CLAIM: Final = re.compile(
    rf"""(?:\b{_ONE}(?!['’]s\ (?!name\b))
          |\b(?:in\ common|we\ (?:both\ know|share|both\ have)|looking\ for)\b)
        [^@]{{0,40}}?(?:\bis|['’]s|:|\b(?:must|has\ to|can\ only)\ be|,)
        \ (?:(?:called|named|indeed|surely)\ )?{_N}
      | \bwe\ (?:do\ )?both\ (?:know|are\ friends\ with|have)\ {_N}
      | \bwe\ (?:do\ )?(?:both\ )?(?:share|have)\ {_N}\ (?:in\ common|as\ (?:a|our))\b
      | {_FILLER}(?:i(?:['’]m|\ am)\ (?:sure|certain|confident|positive)\ (?:that\ )?)?
          (?:it|that|he|she|they)(?:['’]s|\ is|\ must\ be|\ has\ to\ be)\ {_N}
      | @\d+(?:['’]s|\ (?:is|must\ be|has\ to\ be))\ (?:\w+ly\ |indeed\ )?(?:our|the|my)
          \ (?:{_ONE}|(?:one|friend\ we|friend\ in\ common|person\ we|match)\b)
      | {_N}\ it\ is\b
      | ^(?:yes|yeah|yep|exactly|indeed|correct|of\ course|absolutely)[\s,!.]+
          (?:it(?:['’]s|\ is)\ )?{_N}[\s.!]*$""",
    re.I | re.X,
)
_DENIAL: Final = re.compile(
    rf"""(?:n['’]t|\bnot|\bnever|\bcannot)\ (?:\w+\ ){{0,3}}?
        (?:know|met|heard\ of|have|place)\b[^@]{{0,60}}{_N}
      | \b(?:isn['’]t|not|no|nobody|no\ one|neither|nor)\ (?:[\w□]+\ ){{0,4}}?{_N}
      | {_N}\ (?:is\ not|isn['’]t|cannot\ be|can['’]t\ be)
        \ (?:our|the|an?|my|on|among|one|it|someone)\b""",
    re.I | re.X,
)
_NOBODY: Final = re.compile(r"\b(?:nobody|no[ -]one|none)\b", re.I)
# What is told of others, of earlier talk, or in play is no word of one's own.
_REPORT: Final = re.compile(
    r"""\b(?:said|says?|saying|told|tells?|telling|mentioned|claim(?:ed|s)?|asked|asks|answered
      |replied|wrote|writes|quot(?:e|es|ed)|repeat(?:ed)?|established|decided|concluded
      |according\ to|allegedly|supposed(?:ly)?|rumou?rs?|heard|read|pretend(?:ing)?
      |imagin(?:e|ing)|lie|lied|lying|dream(?:t|ed|s)?|used\ to
      |you(?:['’]ve|\ have)?\ (?:also\ |both\ |already\ )?(?:know|knew|confirm(?:ed)?|agreed?)
      |(?:we|both)(?:['’]ve|\ have)?\ (?:already\ |just\ |both\ )*(?:agreed?|confirmed|settled)
      )\b""",
    re.I | re.X,
)
# "I know the Vita you described" reports nothing but adorns a name.
_ADORNED: Final = re.compile(
    r"""(@\d+),?\ (?:(?:that|whom?)\ )?you(?:['’]ve|\ have)?\ (?:just\ )?
        (?:mentioned|described|asked\ about|named|brought\ up)""",
    re.I | re.X,
)
_CONDITION: Final = re.compile(r"\b(?:if|unless|whether|suppose|were to|wish|would have)\b", re.I)
_WONDERING: Final = re.compile(
    r"\b(?:wonder(?:ing|ed)?|curious|ask(?:ing)?|tell me|know) (?:if|whether) you\b", re.I
)
_UNSURE: Final = re.compile(
    r"""\b(?:think|believe|guess|assume|probably|possibly|likely|could|would|may|seems?|sounds?
      |looks?|hope|certain\ that\ you|vaguely|barely|scarcely|by\ name|suspect|bet|almost
      |pretty\ sure|fairly|sort\ of|kind\ of|by\ any\ chance|feel|feeling|not\ sure
      |as\ though)\b""",
    re.I | re.X,
)
_TAKEN_BACK: Final = re.compile(
    r"""\bdifferent\ (?:person|people|persons|one|ones|friends?|@\d+)\b
      | (?:\bnot|n['’]t)\ (?:\w+\ )?(?:the\ )?(?:same|(?:our\ )?(?:mutual|common)\ friend)\b
      | \bi(?:['’]m|\ (?:was|am|must\ be|got\ (?:it|that)))\ (?:wrong|mistaken|confused)\b
      | \bmy\ mistake\b | \bscratch\ that\b | \bmade\ (?:that|it|her|him|them|@\d+)\ up\b
      | (?<!\bnot\ )(?<!n['’]t\ )\b(?:just\ |only\ )?(?:kidding|joking)\b | \bi\ lied\b
      | (?:\bnot|n['’]t)\ (?:\w+\ )?know\ (?:her|him|them)\b""",
    re.I | re.X,
)
_PERSON: Final = re.compile(
    rf"""{_FILLER}(?:
        (?:i|we\ both){_SURE}\ know
          \ (?:her|him|them|(?:that|the\ same)\ (?:person|friend|one))
          (?=\s*(?:$|[.,!;:]|(?:too|as\ well|also|well|very|personally|from|through|and)\b))
      | (?:she|he|they|that)(?:['’]s|\ is|\ are)\ (?:also\ |indeed\ )?
          (?:(?:a|my)\ (?:good\ |dear\ |old\ )?friend(?:\ of\ mine)?|our\ friend|on\ my\ list
            |(?:a|our|the)\ (?:{_ONE}|friend\ (?:in\ common|we\ share))|the\ one)
          (?=\s*(?:$|[.,!;:]|(?:too|as\ well|also|then|indeed|we)\b))
    )""",
    re.I | re.X,
)
_YES: Final = re.compile(
    r"""^(?:(?:oh|ah|why|well)[\s,]+)?(?:yes|yeah|yep|yup|indeed|exactly|correct|absolutely
      |certainly|of\ course|i\ (?:sure\ )?do|so\ do\ i|me\ too|same\ here|that['’]s\ right)
      (?:[\s,.!]+(?:indeed|i\ (?:sure\ |certainly\ )?do(?:\ too)?|of\ course|exactly
        |that['’]s\ right))*[\s.!]*$""",
    re.I | re.X,
)
_KNOW_THEM: Final = re.compile(r"\b(?:do|would)\syou\s(?:\w+\s)?know\s(?:her|him|them)\b", re.I)
_QUOTED: Final = re.compile(r"[“\"][^“”\"]*\s[^“”\"]*\s[^“”\"]*[”\"]")


@lru_cache(maxsize=4096)
def read_statement(text: str, names: Names) -> Reading:
    """What a statement says about friends by name.

    Questions, hedges, denials, reports of what was said, quotations and hypotheses state nothing.
    Words after one that takes something back are read alone.
    """
    coded, named = names.encode(text.strip().strip('"“”'))
    if not named:
        parts = sentences(_QUOTED.sub(" ", coded))
        return _unnamed(parts)
    parts = sentences(_ADORNED.sub(r"\1", _QUOTED.sub(" ", coded)))
    back = [i for i, part in enumerate(parts, start=1) if _takes_back(part)]
    parts = parts[back[-1] :] if back else parts
    known: set[str] = set()
    claimed: set[str] = set()
    asked: set[str] = set()
    denied: set[str] = set()
    for number, clause in enumerate(parts, start=1):
        here = _people(clause, names)
        if not here:
            continue
        if negotiation.is_question(clause) or _WONDERING.search(clause):
            asked |= here
        elif _REPORT.search(clause) or _CONDITION.search(clause):
            continue
        elif negotiation.negated(clause) or _NOBODY.search(clause):
            denied |= here if _DENIAL.search(clause) else set()
        elif negotiation.hedged(clause, *parts[number : number + 1]) or _UNSURE.search(clause):
            asked |= here
        elif _CLAIM.search(clause):
            claimed |= here
        elif _KNOWN.search(clause):
            known |= here
        else:
            asked |= here
    return Reading(
        named=tuple(named),
        known=frozenset(known),
        claimed=frozenset(claimed),
        asked=frozenset(asked - known - claimed - denied),
        denied=frozenset(denied),
        retracts=bool(back),
        closing=_closing(parts, names, claimed, denied),
    )


def _unnamed(parts: Sequence[str]) -> Reading:
    retracts = any(map(_takes_back, parts))
    if retracts or any(
        _REPORT.search(p) or _CONDITION.search(p) or _UNSURE.search(p) for p in parts
    ):
        return Reading(retracts=retracts)
    for number, part in enumerate(parts, start=1):
        following = parts[number : number + 1]
        if negotiation.negated(part) or negotiation.hedged(part, *following):
            continue
        if _PERSON.search(part):
            return Reading(confirms="person")
    if parts and _YES.search(parts[0]) and not any(map(negotiation.negated, parts)):
        return Reading(confirms=None if any(map(negotiation.hedged, parts[:1])) else "yes")
    return Reading()


def _takes_back(clause: str) -> bool:
    return negotiation.retracted(clause) or (
        not negotiation.is_question(clause) and _TAKEN_BACK.search(clause) is not None
    )


def _people(clause: str, names: Names) -> set[str]:
    return {names.people[int(i)] for i in re.findall(r"@(\d+)", clause)}


def _closing(
    parts: Sequence[str], names: Names, claimed: Collection[str], denied: Collection[str]
) -> str | None:
    """Whom "Yes" would confirm."""
    everybody = {person for part in parts for person in _people(part, names)}.difference(denied)
    if len(everybody) != 1:
        return None
    last = parts[-1]
    if negotiation.is_question(last):
        return everybody.pop() if _people(last, names) or _KNOW_THEM.search(last) else None
    return everybody.pop() if _people(last, names) and claimed else None


def sentences(text: str) -> list[str]:
    """``text`` cut into clauses, each with what led up to it before a colon."""
    joined: list[str] = []
    for part in negotiation.clauses(text):
        if joined and joined[-1].endswith(":"):
            joined[-1] += f" {part}"
        else:
            joined.append(part)
    return joined


@dataclass(frozen=True, slots=True)
class Statement:
    """A reading, with who said it and when."""

    speaker: str
    turn: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Agreement:
    """The friend agreed on, and the turn in which that happened."""

    friend: str
    turn: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a search stands.

    Attributes:
        agreement: What is agreed, or None.
        put: For each speaker the friends it has put forward and not taken back.
    """

    agreement: Agreement | None
    put: dict[str, frozenset[str]]


def follow(statements: Iterable[Statement], speakers: Collection[str]) -> Standing:
    """Where the search stands after these statements, given oldest first.

    A friend is put forward by whoever states to know them, or brings them up first in any words
    that deny nothing. There is an agreement once a speaker commits to one friend whom the other has
    put forward: by a statement that names them ("I know Vita too", "Our mutual friend is Vita"), or
    that confirms, in a later turn, the only one the other has just named ("Yes, I know her too").
    To call one the mutual friend takes back all others. An agreement stands until one of its two
    sides takes the friend back or both agree on another.
    """
    agreement: Agreement | None = None
    put: dict[str, set[str]] = {speaker: set() for speaker in speakers}
    latest: dict[str, Reading] = {}
    heard: set[str] = set()
    for turn, said in groupby(statements, key=lambda statement: statement.turn):
        together = list(said)
        settled: set[str] = set()
        for statement in together:
            own, reading = put[statement.speaker], statement.reading
            if reading.retracts:
                own.clear()
            own -= reading.denied
            own |= reading.known | reading.claimed | (reading.asked - heard)
            target = reading.settled or _confirmed(statement, latest, put)
            if target is not None:
                settled.add(target)
                own.add(target)
            if reading.claimed and target is not None:
                own &= {target}
        for statement in together:
            latest[statement.speaker] = statement.reading
            heard.update(statement.reading.named)
        shared = settled.intersection(*put.values())
        if agreement is not None and not all(agreement.friend in own for own in put.values()):
            agreement = None
        if len(shared) == 1 and (agreement is None or agreement.friend not in shared):
            agreement = Agreement(shared.pop(), turn)
    return Standing(agreement, {speaker: frozenset(own) for speaker, own in put.items()})


def _confirmed(
    statement: Statement, latest: Mapping[str, Reading], put: Mapping[str, Collection[str]]
) -> str | None:
    """Whom a statement without a name confirms: the only one in the other's latest words."""
    for speaker, reading in latest.items():
        if speaker != statement.speaker and statement.reading.confirms is not None:
            wholly = statement.reading.confirms == "person"
            target = reading.only if wholly else reading.closing
            if target is not None and target in put[speaker]:
                return target
    return None
