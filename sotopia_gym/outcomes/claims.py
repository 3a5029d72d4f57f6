"""Who gets what, by what one person says in a division."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from sotopia_gym.outcomes.counts import Thing, Token, Vocabulary

Side = Literal["speaker", "other"]
Owner = Literal["speaker", "other", "both", "unsaid"]

_TAKING: Final = frozenset(
    "take takes taking get gets getting have has having keep keeps keeping receive receiving grab "
    "claim claiming use hold settle accept end ending".split()
)
_WANTING: Final = frozenset(
    "want wants wanting need needs needing like love prefer hoping hope looking require "
    "requesting request".split()
)
_GIVING: Final = frozenset(
    "give gives giving offer offering leave leaves leaving spare sparing hand pass trade trading "
    "swap exchange part sacrifice provide send concede bring".split()
)
_PERSONS: Final = dict.fromkeys("i we me myself us".split(), "speaker") | dict.fromkeys(
    "you yourself".split(), "other"
)
_OBJECTS: Final = frozenset("me myself you yourself".split())
_MODALS: Final = frozenset("can could may will would should".split())
_OTHERS: Final = frozenset("they he she someone everyone people person".split())
_SHARING: Final = frozenset("split splitting share sharing divide dividing".split())
_LETTING: Final = frozenset("let letting allow allowing".split())
_NEGATING: Final = frozenset("not never without nor neither hardly".split())
_REASONS: Final = frozenset("because since cause cuz bc as".split())
_TURNS: Final = frozenset("but if unless while so".split())
_STOPS: Final = frozenset(".!?;\n")
# "the hats [can go] to me"
_LINKING: Final = frozenset(
    "go goes going will can would could should may is are be being all just only".split()
)
# A denial reaches over "I" in "I don't think I can give you ...", not in "I can't, I need ...".
_OPENING: Final = frozenset("think want that believe can could will".split())
# Words that leave a bare list of things a proposal: "ok, how about 2 hats and the ball?"
_FILLERS: Final = frozenset(
    ", : and plus also with ok okay okey hmm hm well so then how about what please maybe sure yes "
    "yeah yep no nope just only deal hi hello hey the a of for alright fine sorry at be great "
    "good perfect thanks now final best my offer to it is that me instead hows sound work would "
    "make let us do can could i you if maybe friend need".split()
)
_BEFORE_NUMBER: Final = _TAKING | _GIVING | _WANTING | set("you me only just other all".split())
_AFTER_NUMBER: Final = frozenset(
    ", and for if while you i so but then of each to instead or too as is we with me please".split()
)


@dataclass(slots=True)
class Claim:
    """That someone gets something.

    Attributes:
        owner: Who: the speaker, the other, each of the two, or ``"unsaid"`` where things are only
            listed; None where it was not understood.
        thing: What.
        weak: Whether it may be a wish or a motive only ("since I need the water").
    """

    owner: Owner | None
    thing: Thing
    weak: bool = False


@dataclass(slots=True)
class Message:
    """What one message claims.

    Attributes:
        claims: Who gets what, in the order said.
        unclear: Whether it also names things in a way that was not understood.
        denies: Whether it also names things that it says someone does not get.
    """

    claims: list[Claim] = field(default_factory=list)
    unclear: bool = False
    denies: bool = False


def read_claims(tokens: Sequence[Token], vocabulary: Vocabulary, focus: int | None) -> Message:
    """The claims of one message.

    Things that are denied or asked about ("I can't give you the hat", "do you want the books?")
    are no claims.

    Args:
        tokens: Its words and things, from ``vocabulary``.
        vocabulary: The items.
        focus: The item that was talked about before, which a number alone would mean.
    """
    message = Message()
    if not any(isinstance(t, Thing) or t.isdigit() or t in ("them", "those") for t in tokens):
        return message
    last: Owner | None = None
    clause: list[Token] = []
    for token in [*tokens, "."]:
        if not isinstance(token, str) or token not in _STOPS:
            clause.append(token)
            continue
        clause, focus = _with_numbers(clause, vocabulary, focus)
        message.unclear = message.unclear or _counts_unknown(clause)
        if any(isinstance(word, Thing) for word in clause):
            reading = _Clause(clause, vocabulary)
            claims, unclear = _settled(clause, reading.claims(), last)
            unclear = unclear or reading.unclear or _offers_choice(clause)
            message.claims += claims
            message.denies = message.denies or reading.denying
            message.unclear = message.unclear or unclear
            if claims:
                last = None if claims[-1].owner == "unsaid" else claims[-1].owner
        clause = []
    return message


class _Clause:
    """Goes through the words of a clause and keeps track of who gets what is named next."""

    def __init__(self, clause: Sequence[Token], vocabulary: Vocabulary) -> None:
        self._clause = clause
        self._counts = [item.count for item in vocabulary.items]
        self._claims: list[Claim] = []
        self._listed: list[Claim] = []  # since the last word on who gets it
        self._segment: list[Claim] = []  # of these, since the last comma
        self._subject: Owner | None = None  # who would "take" or "give"
        self._owner: Owner | None = None  # who gets what is named next
        self._giving = self._letting = self._sharing = False
        self._negated = self._asking = self._comparing = False
        self._reason = self._wanting = False
        self.unclear = False  # whether it cannot be told who gets something that is named
        self.denying = False  # whether something is named that someone does not get

    def claims(self) -> list[Claim]:
        """What is claimed; the owner is None where the clause does not say."""
        for position, token in enumerate(self._clause):
            before = self._at(position - 1)
            if isinstance(token, Thing):
                self._name(token, before)
            elif token in _PERSONS:
                self._person(token, position)
            elif not self._verb(token, position) and not self._turn(token, position):
                self._link(token, position)
        return self._claims

    def _at(self, position: int) -> Token:
        return self._clause[position] if 0 <= position < len(self._clause) else ""

    def _restart(self, owner: Owner | None) -> None:
        self._owner, self._listed, self._segment = owner, [], []

    def _name(self, thing: Thing, before: Token) -> None:
        claim = Claim(self._owner, thing, weak=self._reason or self._wanting)
        if self._reason and self._wanting and thing.exact and self._claims:
            self.unclear = True  # "you get a hat since it is what I want and a ball": who the ball?
        if self._sharing:
            claim = Claim("both", self._half(thing))
        if not (self._negated or self._asking or self._comparing):
            self._claims.append(claim)
        self.denying = self.denying or (self._negated and not self._wanting)
        self._listed.append(claim)
        self._segment.append(claim)
        if before == "or" and len(self._listed) > 1:
            for option in self._listed[-2:]:
                option.thing = replace(option.thing, count=None, remaining=False)

    def _person(self, word: str, position: int) -> None:
        person: Owner = "other" if _PERSONS[word] == "other" else "speaker"
        before, after = self._at(position - 1), self._at(position + 1)
        if before in ("for", "to", "with") and word in _OBJECTS:
            self._prepositional(person, str(before), position)
        elif self._giving and not isinstance(before, Thing) and word in ("me", "you", "us"):
            self._giving = False
            self._restart(person)
        elif self._letting:
            self._letting = False
            self._subject, self._owner = person, None
        else:
            together = word in ("we", "us") and (
                after in _SHARING
                or after == "each"
                or (after == "both" and self._at(position + 2) in _TAKING)
            )
            self._begin("both" if together else person, position)

    def _prepositional(self, person: Owner, preposition: str, position: int) -> None:
        if self._segment and _follows_thing(self._clause[: position - 1]):
            self._assign(person)
        elif preposition != "with" or self._giving:
            if preposition == "for":
                self._subject = person
            self._restart(person)
        else:  # "are you fine with me taking the hats"
            self._subject = person
            self._restart(None)

    def _assign(self, person: Owner) -> None:
        """Give what was just listed to ``person``; of what already is another's, the last only."""
        if any(claim.owner not in (None, person) for claim in self._segment):
            chosen = self._segment[-1:]
        elif all(claim.owner is None for claim in self._listed):
            chosen = self._listed
        else:
            chosen = self._segment
        for claim in chosen:
            claim.owner = person
        self._restart(None)

    def _begin(self, subject: Owner, position: int) -> None:
        word, before, after = (self._at(position + step) for step in (0, -1, 1))
        if before not in _OPENING:
            self._negated = False
        self._asking = word == "you" and (
            before in ("do", "are", "did") or (before == "would" and after in _WANTING)
        )
        self._subject = subject
        self._giving = self._sharing = self._comparing = False
        listing = (
            position == 0 and after in (",", ":") and isinstance(self._at(position + 2), Thing)
        )
        owned = listing or subject == "both" or isinstance(after, Thing)
        self._restart(subject if owned else None)

    def _verb(self, word: str, position: int) -> bool:
        """Take note of ``word`` if it says who gets or gives; whether it does."""
        before = self._at(position - 1)
        if word in ("mine", "yours"):
            if self._segment and before != "of":
                self._assign("speaker" if word == "mine" else "other")
        elif word in _LETTING:
            self._letting, self._giving = True, False
        elif word in ("evenly", "equally"):
            for claim in self._segment:
                if claim.owner in (None, "both"):
                    claim.owner, claim.thing = "both", self._half(claim.thing)
        elif word in _SHARING:
            self._sharing = True
        elif word in _GIVING and not (word == "exchange" and before == "in"):
            self._giving, self._wanting, self._sharing = True, False, False
            self._restart(opposite(self._subject))
        elif word in _TAKING or word in _WANTING:
            if word in ("like", "love") and before not in (
                *("would", "i", "also", "really", "you", "we", "to", "just", ""),
            ):
                return True
            self._sharing = self._giving = False
            self._subject = self._subject or _unnamed_taker(word)
            self._wanting = (
                word in _WANTING
                or word == "use"
                or (word in ("have", "has", "having") and before not in _MODALS)
            )
            self._restart(self._subject)
        else:
            return False
        return True

    def _turn(self, word: str, position: int) -> bool:
        """Take note of ``word`` if something else begins with it; whether it does."""
        before = self._at(position - 1)
        if word in _OTHERS:
            if before not in ("for", "of"):
                self._subject = None
        elif word in _NEGATING:
            self._negated = self._negated or before != "why"
        elif word in _REASONS:
            self._reason = True
        elif (
            word in ("but", "except", "minus")
            and isinstance(before, Thing)
            and before.kind == "everything"
        ):
            claim = self._listed[-1]
            claim.thing = Thing("rest")
            self._restart(opposite(claim.owner))
        elif word in _TURNS:
            self._negated = self._asking = self._comparing = False
            self._sharing = self._giving = self._reason = False
            self._subject = None
            self._restart(None)
        else:
            return False
        return True

    def _link(self, word: str, position: int) -> None:
        before, after = self._at(position - 1), self._at(position + 1)
        if word in ("is", "that") and not isinstance(before, Thing):
            self._giving = False
        elif word == "each" and (isinstance(before, Thing) or after in ("", ",")):
            for claim in self._listed:
                claim.owner = "both"
        elif word == "than" or (word == "of" and before == "instead"):
            self._comparing = True
        elif word == "for" and self._owner is None and _is_exact(before) and _is_exact(after):
            self.unclear = True  # "I can do 2 hats for 2 books": who would get the hats?
        elif word in ("for", "in") and self._listed and self._owner in ("speaker", "other"):
            if isinstance(after, Thing) or after in ("exchange", "return"):
                self._restart(opposite(self._owner))  # "2 hats for the ball"
        elif word == ",":
            self._segment = []

    def _half(self, thing: Thing) -> Thing:
        if thing.item is None:
            return replace(thing, count=None)
        half, odd = divmod(self._counts[thing.item], 2)
        even = thing.count in (None, half, 2 * half) and not odd
        return replace(thing, count=half if even else None)


def opposite(owner: Owner | None) -> Side | None:
    """The one of the two that is not ``owner``; None where that is neither."""
    if owner == "speaker":
        return "other"
    return "speaker" if owner == "other" else None


def _unnamed_taker(word: str) -> Owner | None:
    """Who takes where no one is named: "take the hats" and "need the ball"."""
    if word in _WANTING or word in ("taking", "getting", "having", "keeping", "get"):
        return "speaker"
    return "other" if word in ("take", "keep", "have") else None


def _follows_thing(words: Sequence[Token]) -> bool:
    """Whether the last of ``words``, but for words like "goes", is a thing."""
    last = next((word for word in reversed(words) if word not in _LINKING), "")
    return isinstance(last, Thing)


def _settled(
    clause: Sequence[Token], claims: list[Claim], last: Owner | None
) -> tuple[list[Claim], bool]:
    """The claims of a clause with owners for those that need no word, and whether any is unclear.

    Args:
        clause: The clause.
        claims: What it names, in order.
        last: Who got what was named last, in an earlier clause.
    """
    unowned = [claim for claim in claims if claim.owner is None]
    owned = [claim for claim in claims if claim.owner is not None]
    if owned and claims[: len(unowned)] == unowned:
        for claim in unowned:  # "just the ball, and I take the rest"
            claim.owner = opposite(owned[0].owner)
    elif not owned:
        going_on = last is not None and clause[0] in ("and", "plus", "also", "with")
        fillers = all(isinstance(t, Thing) or t in _FILLERS or t.isdigit() for t in clause)
        if fillers or any(_counts_as_said(claim.thing) for claim in unowned):
            for claim in unowned:
                claim.owner = last if going_on else "unsaid"
    unclear = (
        any(claim.owner is None and _counts_as_said(claim.thing) for claim in claims)
        or any(claim.thing.kind == "part" for claim in claims)
        or (bool(owned) and _has_stray_number(clause))
    )
    kept = [c for c in claims if c.owner is not None and c.thing.kind != "part"]
    return kept, unclear


def _counts_as_said(thing: Thing) -> bool:
    """Whether ``thing`` is hardly named by the way, as in "everything is packed"."""
    return thing.exact or thing.kind in ("rest", "part", "each")


def _is_exact(token: Token) -> bool:
    return isinstance(token, Thing) and token.exact


def _offers_choice(clause: Sequence[Token]) -> bool:
    """Whether the clause says what else could be done: "or you take the hats"."""
    for position, token in enumerate(clause):
        after = clause[position + 1 :]
        if token == "or" and (position == 0 or (after and after[0] in _PERSONS)):
            return any(isinstance(word, Thing) for word in after)
    return False


def _has_stray_number(clause: Sequence[Token]) -> bool:
    """Whether a list of things goes on with a number of something unknown."""
    listing = False
    for token in clause:
        if isinstance(token, Thing):
            listing = True
        elif token.isdigit() and listing:
            return True
        elif token not in (",", "and", "plus", "with"):
            listing = False
    return False


def _counts_unknown(clause: Sequence[Token]) -> bool:
    """Whether someone is to get a number of something unknown ("you take 2 of the long ones")."""
    triples = zip(clause, clause[1:], clause[2:], strict=False)
    verbs = (_TAKING | _WANTING | _GIVING) - {"have", "has", "having"}
    return any(
        verb in verbs and isinstance(number, str) and number.isdigit() and of == "of"
        for verb, number, of in triples
    )


def _with_numbers(
    clause: Sequence[Token], vocabulary: Vocabulary, focus: int | None
) -> tuple[list[Token], int | None]:
    """The clause with things for numbers and words that stand for the item in focus.

    Returns:
        The clause ("I take 2 and you get 1" of books is of things now), and the item named last.
    """
    result: list[Token] = []
    for position, token in enumerate(clause):
        if isinstance(token, Thing):
            focus = token.item if token.kind == "item" else focus
        elif focus is not None and _is_elliptic(clause, position):
            total = vocabulary.items[focus].count
            count = int(token) if token.isdigit() else total
            if count <= total:
                result.append(Thing("item", focus, count, exact=token.isdigit()))
                continue
        result.append(token)
    return result, focus


def _is_elliptic(clause: Sequence[Token], position: int) -> bool:
    """Whether the word at ``position`` is a number, or "them", without the item it is of."""
    word = clause[position]
    if not isinstance(word, str) or not (word.isdigit() or word in ("them", "those")):
        return False
    before = clause[position - 1] if position else ""
    after, later = (*clause[position + 1 : position + 3], ",", "")[:2]
    if isinstance(before, Thing) or isinstance(after, Thing) or after not in _AFTER_NUMBER:
        return False
    if after == "of" and later not in ("them", "those", "it"):
        return False
    return before in _BEFORE_NUMBER or later in _OBJECTS
