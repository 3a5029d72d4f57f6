"""When two people have agreed: the rule that all bargaining families share.

An agreement is an explicit offer that the other explicitly accepts, or identical terms stated by
both, and it stands until one of them takes it back or both agree on something else. Only what is
*said* counts: gestures and deeds are no words. A family says what a statement means
(:class:`Reading`); this module says what a sequence of statements amounts to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

Terms = TypeVar("Terms")

_CLAUSE = re.compile(
    r"""(?<=[.!?;:])\s+ | \n+ | \s[-–—]+\s | (?<=\w)—(?=\w) | (?<=\bno),\s+ | (?<=\bnope),\s+
      | ,\s+(?=(?:but|so)\b) | ,\s+(?=and\ (?:i|you)\b) | \s(?=but\b)""",
    re.I | re.X,
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|nor|neither|cannot|hardly|without|refuse|reject|decline)\b|n['’]t\b", re.I
)
# What denies without a "no": "I'd be crazy to take $50."
_DENIAL = re.compile(
    r"""(?:['’]d|\bwould)\ (?:much\ )?(?:rather|sooner)\b
      | \b(?:crazy|mad|insane|stupid|foolish|a\ fool|ashamed|embarrassed)\ to\b
      | \bhate\ to\b | \bi\ wish\b | \b(?:go|going)\ broke\b | \binsult(?:ing)?\b
      | \b(?:robbery|robbing)\b | \bbefore\ i\b | \bdream\ on\b | \bin\ your\ dreams\b""",
    re.I | re.X,
)
# What makes a "fine" or an "okay" beside it the end of the talk and no consent.
_PARTING = re.compile(
    r"""\bwhatever\b(?!\ you) | \bkeep\ your\ (?:money|cash|offer)\b | \belsewhere\b
      | \b(?:someone|somebody|anyone|anybody)\ (?:else|who)\b
      | \bnothing\ (?:more|left|else)\ to\b | \bwalk(?:ing)?\ away\b""",
    re.I | re.X,
)
# Phrases with a "no" or an "if" in them that deny and reserve nothing.
_IDIOM = re.compile(
    r"""\bno\ (?:problem|worries|doubt|rush|hurry)\b,?\s* | \bwhy\ (?:not|don['’]t\ we)\b
      | \bnot\ an?\ (?:penny|cent|dollar)\ (?:more|less)\b | \bcan['’]t\ wait\b
      | \bdon['’]t\ worry\b | \b(?:you\ )?won['’]t\ (?:regret|be\ (?:sorry|disappointed))\b
      | \blet\ me\ know\ if\b""",
    re.I | re.X,
)
_FILLER = r"""(?:(?:ok(?:ay)?|alright|all\ right|yes|yeah|yep|great|perfect|fine|good|well|then|sure
          |and|so|thanks|thank\ you)\b[\s,.!]*)*"""
_OFFER = r"(?:your|the|that|this)\ (?:offer|price|split|deal|proposal|division)"
_END = r"(?=\s*(?:$|[.,!;:]|(?:then|thank|thanks|today|now)\b))"
# Each must begin a clause or follow a comma: "the guitar sounds good" accepts nothing.
_ACCEPTANCE = re.compile(
    rf"""^{_FILLER}(?:
        (?:(?:it['’]?s|that['’]?s|we\ have|we['’]ve\ got|you\ have|you(?:['’]ve)?\ got)\ )?
          (?:yourself\ )?(?:an?\ )?(?:done\ )?deal{_END}
      | (?:agreed|sold|done|accepted|it['’]s\ yours|we(?:['’]re|\ are)\ agreed){_END}
      | (?:i\ (?:think|guess)\ )?we\ have\ (?:a\ deal|an\ agreement){_END}
      | i(?:['’]ll|\ will|['’]d|\ would|\ can|['’]m|\ am)?
          \ (?:(?:be\ )?(?:happy|glad)\ to\ |gladly\ |happily\ )?(?:take|accept)
          \ (?:it|that|them|this|{_OFFER}){_END}
      | (?:(?:that|this|{_OFFER})\ )?(?:works|would\ work)(?:\ for\ me)?{_END}
      | (?:(?:that|this|{_OFFER})\ )?sounds\ (?:good|fair|great|perfect)(?:\ to\ me)?{_END}
      | (?:(?:that|this|{_OFFER})(?:['’]s|\ is)\ )?fine\ (?:by|with)\ me{_END}
      | (?:i['’]m|i\ am)\ (?:happy|good|okay|ok|fine)\ with\ (?:it|that|this|{_OFFER}){_END}
      | i\ can\ (?:do|live\ with)\ (?:that|{_OFFER}){_END}
      | let['’]s\ (?:do|shake\ on)\ (?:it|that){_END}
    )""",
    re.I | re.X,
)
# These mean too much else to count but as a whole clause: "Yes, it is a fine bike."
_BRIEF_ACCEPTANCE = re.compile(
    rf"""^(?:(?:yes|yeah|yep|ok(?:ay)?|sure|fine|alright|all\ right)
      | {_FILLER}(?:i|we)\ (?:accept|agree)(?:\ (?:to|with))?(?:\ (?:it|that|this|{_OFFER}))?)
      (?:,\s+thank(?:s|\ you)[^,]*)?[\s.!]*$""",
    re.I | re.X,
)
_HEDGE = re.compile(
    r"""\b(?:if|but|unless|maybe|perhaps|almost|nearly|think\ (?:about|it\ over)|consider|not\ sure
      |however|depends|as\ long\ as|provided|except|once|until|might)\b""",
    re.I | re.X,
)
_RESERVATION = re.compile(r"^(?:but|if|unless|only|provided|as long as|except|however)\b", re.I)
_RETRACTION = re.compile(
    r"""(?P<denied>(?:\b(?:not|never)|n['’]t)\s(?:\w+\s){0,2}?)?
      (?:\bno\ deal\b | \bdeal(?:['’]s|\ is)\ off\b | \bchanged?\ my\ mind\b
      | \bcall(?:ing)?\ (?:it|this|the\ deal)\ off\b | \bback(?:ing)?\ out\b
      | \bwithdraw(?:ing)?\b(?!\ (?:\w+\ )?(?:cash|money))
      | \btak(?:e|ing)\ (?:it|that|my\ offer|my\ word)\ back\b | \bi\ take\ back\b
      | \bforget\ (?:it|the\ deal)\b | \bi['’]m\ out\b(?!\ of) | \bnever\ mind\b)""",
    re.I | re.X,
)
_REJECTION = re.compile(
    r"""^(?:no|nope|sorry|never)\b | \btoo\ (?:low|high|much|little|steep|expensive)\b
      | \bno\ thank | \bunfair\b | \bnot\ (?:fair|acceptable|enough)\b
      | (?:cannot|n['’]t)\ (?:work|accept|agree|do\ (?:it|that|this))\b""",
    re.I | re.X,
)


@dataclass(frozen=True, slots=True)
class Reading(Generic[Terms]):
    """What one statement means in a negotiation.

    Attributes:
        offer: The complete terms it states, or None.
        accepts: Whether it accepts, without reservation, what the other offered.
        rejects: Whether it turns down what the other offered.
        retracts: Whether it takes back what was offered or agreed before.
        asks: Whether it puts its offer as a question or with a reservation. Such an offer can be
            accepted, but does not itself accept the same terms.
        bare: Whether its offer is hardly more than a number, which may echo what the other said
            or, once there is an agreement, mean something else.
    """

    offer: Terms | None = None
    accepts: bool = False
    rejects: bool = False
    retracts: bool = False
    asks: bool = False
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Statement(Generic[Terms]):
    """A reading, with who said it and when."""

    speaker: str
    turn: int
    reading: Reading[Terms]


@dataclass(frozen=True, slots=True)
class Agreement(Generic[Terms]):
    """The terms agreed on, and the turn in which that happened."""

    terms: Terms
    turn: int


@dataclass(frozen=True, slots=True)
class Standing(Generic[Terms]):
    """Where a negotiation stands.

    Attributes:
        agreement: What is agreed, or None.
        offers: What each side has last offered and not taken back.
        on_the_table: Who made the offers that a plain "deal" of the other would accept: two only
            if both offered in the same turn.
    """

    agreement: Agreement[Terms] | None
    offers: dict[str, Terms]
    on_the_table: frozenset[str]


def follow(statements: Iterable[Statement[Terms]]) -> Standing[Terms]:
    """Where the negotiation stands after these statements, given oldest first.

    A plain acceptance refers to the latest offer, if the other made it in an earlier turn and it
    was not turned down since. Terms that both have stated need no further word, unless the second
    only asks. What is said in the same turn is said at once: its order means nothing, and two who
    accept each other's different offers in the same turn have agreed on neither.
    """
    agreement: Agreement[Terms] | None = None
    offers: dict[str, Terms] = {}
    table: dict[str, int] = {}
    for turn, said in groupby(statements, key=lambda statement: statement.turn):
        together = list(said)
        replies = [(s.reading, other) for s in together for other in table if other != s.speaker]
        accepted = [offers[other] for reading, other in replies if reading.accepts]
        refused = {other for reading, other in replies if reading.rejects}
        if accepted:
            table = {}
            if all(terms == accepted[0] for terms in accepted):
                agreement = Agreement(accepted[0], turn)
        table = {speaker: when for speaker, when in table.items() if speaker not in refused}
        if any(s.reading.retracts for s in together):
            agreement, offers, table = None, {}, {}
        # What is said at once answers what was said before; but two who say the same, one of them
        # outright, have agreed.
        before, agreed = dict(offers), agreement is not None
        for statement in together:
            speaker, reading = statement.speaker, statement.reading
            if reading.offer is None:
                continue
            stated = any(o == reading.offer for s, o in before.items() if s != speaker) or any(
                not (reading.asks and other.reading.asks) and other.reading.offer == reading.offer
                for other in together
                if other.speaker != speaker
            )
            if reading.bare and (agreed or (stated and reading.asks)):
                continue
            offers[speaker] = reading.offer
            if not stated or reading.asks:
                table = {s: when for s, when in table.items() if when == turn} | {speaker: turn}
                continue
            if agreement is None or agreement.terms != reading.offer:
                agreement = Agreement(reading.offer, turn)
            table = {s: when for s, when in table.items() if when == turn}
    return Standing(agreement, offers, frozenset(table))


def clauses(text: str) -> list[str]:
    """``text`` cut into parts that each make one point."""
    return [part for part in _CLAUSE.split(text.strip()) if part]


def negated(clause: str) -> bool:
    """Whether ``clause`` denies something."""
    said = _IDIOM.sub("", clause)
    return _NEGATION.search(said) is not None or _DENIAL.search(said) is not None


def hedged(clause: str, following: str = "") -> bool:
    """Whether ``clause`` asks, or reserves something: with "if" or "maybe", or by a "but" after."""
    said = re.sub(r"^but\b", "", _IDIOM.sub("", clause), flags=re.I)
    return (
        is_question(clause)
        or _HEDGE.search(said) is not None
        or _RESERVATION.search(_IDIOM.sub("", following)) is not None
    )


def is_question(clause: str) -> bool:
    """Whether ``clause`` ends in a question mark."""
    return clause.rstrip(" !)\"'”’").endswith("?")


def rejected(clause: str) -> bool:
    """Whether ``clause`` turns something down."""
    return _REJECTION.search(_IDIOM.sub("", clause)) is not None


def retracted(clause: str) -> bool:
    """Whether ``clause`` takes back what was said before: asking about it does not."""
    return not is_question(clause) and any(
        match["denied"] is None for match in _RETRACTION.finditer(clause)
    )


def standing_clauses(text: str) -> list[str]:
    """The clauses of ``text`` after the last one that takes something back."""
    parts = clauses(text)
    taken_back = [index for index, part in enumerate(parts, start=1) if retracted(part)]
    return parts[taken_back[-1] :] if taken_back else parts


def read_stance(text: str) -> Reading[Terms]:
    """Whether ``text`` accepts, rejects or retracts; offers are the family's to read.

    Questions, denials and reservations ("if", "but", "maybe", ...) accept nothing.
    """
    plain = _IDIOM.sub("", text)
    parts = clauses(plain)
    retracts = any(retracted(part) for part in parts)
    accepts = (
        not retracts
        and _HEDGE.search(plain) is None
        and not negated(plain)
        and _PARTING.search(plain) is None
        and any(_accepted(part) for part in parts)
    )
    rejects = not accepts and any(rejected(part) for part in parts)
    return Reading(accepts=accepts, rejects=rejects, retracts=retracts)


def _accepted(clause: str) -> bool:
    if is_question(clause):
        return False
    return _BRIEF_ACCEPTANCE.search(clause) is not None or any(
        _ACCEPTANCE.search(piece) for piece in (clause, *re.split(r",\s+", clause))
    )
