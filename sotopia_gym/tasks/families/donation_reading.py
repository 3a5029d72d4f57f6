"""When a giver is committed to a sum of money: how the donation family reads conversations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Final, Literal

from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.amounts import AMOUNT, MONEY, NUMBER, TIME, UNREADABLE, value

Period = Literal["once", "day", "month"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one statement means.

    Attributes:
        amount: What the giver commits to, or what the asker asks for.
        accepts: Whether it is the plain yes of a giver.
        declines: Whether it is the no of a giver to what it was asked.
        withdraws: Whether a giver will give nothing, or an asker wants nothing any more.
        presses: Whether an asker asks for a sum, or for more.
    """

    amount: float | None = None
    accepts: bool = False
    declines: bool = False
    withdraws: bool = False
    presses: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """What was said, when, and by whom."""

    turn: int
    by_giver: bool
    said: Said


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a conversation stands.

    Attributes:
        pledge: What the giver is committed to, or None.
        turn: The turn in which that came about.
        ask: What a plain yes of the giver would accept: the sum that the asker's last statement
            asks for, unless it was turned down.
        pressed: Whether the asker's last statement asks for another sum than the pledge, or for
            more: a plain no then turns down that, and not the pledge.
    """

    pledge: float | None = None
    turn: int | None = None
    ask: float | None = None
    pressed: bool = False


def follow(statements: Iterable[Statement]) -> Standing:
    """Where the conversation stands after these statements, given oldest first.

    The last commitment of the giver stands: a sum that it says it will give, or its plain yes to
    the sum that the asker's last statement, of an earlier turn, asked for. It is taken back if the
    giver says so, will give nothing, or says no without having been asked for more; and if the
    asker no longer wants it. Nothing else that the asker says makes or changes a commitment. What
    is said in the same turn is said at once: its order means nothing.
    """
    now = Standing()
    for turn, said in groupby(statements, key=lambda statement: statement.turn):
        together = list(said)
        asked = [s.said for s in together if not s.by_giver]
        if any(words.withdraws for words in asked):
            now = Standing()
        for words in (s.said for s in together if s.by_giver):
            now = _answered(now, words, turn)
        for words in asked:
            other = words.presses and (words.amount is None or words.amount != now.pledge)
            now = replace(now, ask=words.amount, pressed=other)
    return now


def _answered(now: Standing, words: Said, turn: int) -> Standing:
    amount = now.ask if words.accepts else words.amount
    if amount is not None:
        return Standing(amount, now.turn if amount == now.pledge else turn)
    if words.withdraws or (words.declines and not now.pressed):
        return Standing()
    return replace(now, ask=None) if words.declines else now


_MARK: Final = "¤"  # stands for an amount in what the expressions below search
_START: Final = (
    r"(?:^|,\s|\b(?:and|so|then|but|well|yes|yeah|sure|okay|ok|fine|alright|right|course|case|still"
    r"|actually|deal|agreed)\s)"
)
_GLAD: Final = r"(?:happy|glad|pleased|delighted|honou?red|willing|prepared|ready|able)\ to"
_ADVERB: Final = (
    r"(?:(?:gladly|happily|certainly|definitely|surely|absolutely|of\ course|just|also|only|then"
    rf"|now|even|still|simply|willingly|be\ {_GLAD})\s)*"
)
_GIVE: Final = (
    r"(?:give|donate|lend|loan|advance|contribute|pledge|offer|chip\ in|put\ (?:in|up|down)"
    r"|throw\ in|pay|spare|do|hand|send|transfer|wire|bring|manage|match|commit(?:\ to)?"
    r"|make\ (?:it|that)|let\ you\ (?:have|borrow)|part\ with|accept|agree\ to"
    r"|help\ (?:you\ |them\ )?(?:out\ )?with|support\ (?:you|it|them|this)\ with"
    r"|(?:go|stretch)\ to|(?:raise|increase)\ (?:it|that|my\ \w+)\ to"
    r"|(?:stay|stick)\ (?:at|with|to)|(?:leave|keep)\ it\ at|settle\ (?:on|for))"
)
_GIVING: Final = (
    r"(?:giving|donating|lending|contributing|pledging|offering|chipping\ in|putting\ in|sending"
    r"|bringing|in\ (?:for|with)|good\ for|(?:staying|sticking)\ (?:at|with|to))"
)
_GAP: Final = (
    r"(?:(?:you|them|him|her|us|my|an?|of|donation|gift|loan|exactly|in|over|with|to|for|full)\s"
    r"|(?:the|your|our|their|this|that)\s(?:\w+\s){0,3}?){0,5}?"
)
_GIFT: Final = r"(?:\w+\s)?(?:offer|gift|donation|pledge|contribution|share|loan|answer)"
_OKAY: Final = (
    r"(?:yes|yeah|okay|ok|alright|all\ right|fine|deal|agreed|sure|gladly|of\ course|very\ well)"
)
# What commits a giver to an amount: it is said in the first person, of now, and of this amount.
_PLEDGE: Final = re.compile(
    rf"""{_START}(?:
        (?:i(?:'ll|\ will|\ shall|\ can|(?:'m|\ am)\ (?:going\ to|{_GLAD})
            |(?:'d|\ would)\ (?:like\ to|love\ to|be\ {_GLAD})|\ want\ to
            |(?:\ have|'ve)\ decided\ to|\ promise\ to|\ agree\ to)|let\ me)
          \s{_ADVERB}{_GIVE}\s{_GAP}¤
      | i(?:'m|\ am)\s{_ADVERB}{_GIVING}\s{_GAP}¤
      | i\s{_ADVERB}(?:pledge|offer|promise|commit(?:\ to)?|agree\ to|(?:lend|give)\ you)\s{_GAP}¤
      | you\ (?:can|may|shall)\s{_ADVERB}(?:have|borrow|take|count\ on|keep
          |put\ me\ down\ for)\s{_GAP}¤
      | you(?:'ll|\ will)\ (?:have|get|receive)\s{_GAP}¤\ from\ me\b
      | (?:please\ )?(?:put|count|mark|sign|write)\ me\ (?:down|in|up)\ (?:for|with)\s{_GAP}¤
      | (?:here(?:'s|\ is|\ are)|(?:please\ )?take)\s{_GAP}¤
      | (?:let'?s\ (?:say|do|settle\ on|agree\ on|make\ it|leave\ it\ at|keep\ it\ at)
          |make\ (?:it|that))\ ¤
      | my\ {_GIFT}\ (?:is|will\ be|stays\ at|stands\ at|remains)\s{_GAP}¤
      | (?:that's\ |that\ is\ )?¤\ (?:from\ me|is\ yours|is\ my\ {_GIFT}
          |is\ what\ (?:i\ (?:can|will)|i'll)\ {_GIVE})\b
      | ¤,?\ (?:it\ is|then|agreed|deal|gladly)[.!]*$)
      | ^(?:{_OKAY}[,!.]?\s)+¤[.!]*$""",
    re.I | re.X,
)
_SOME: Final = r"(?:,?\ [\w'-]+){0,6}?,?\ "
# What asks a giver for an amount.
_ASK: Final = re.compile(
    rf"""\b(?:(?:could|can|would|will|might)\ you|(?:if|chance|that)\ you\ (?:could|can|would))
          {_SOME}(?:{_GIVE}|consider|see\ your\ way){_SOME}¤
      | \b(?:may|can|could)\ i{_SOME}(?:borrow|ask|have|count\ on|put){_SOME}¤
      | \bi(?:\ \w+|'\w+){{0,4}}?\ (?:ask(?:ing)?|borrow|hop(?:e|ing)|need){_SOME}¤
      | \b(?:how|what)\ about{_SOME}¤
      | \b(?:let'?s|could\ we|shall\ we)\ (?:say|make\ it|do|settle\ on|agree\ on)\ ¤
      | \b(?:would|is)\ ¤\ (?:\w+\ )?(?:be|possible|okay|ok|all\ right|alright|work)\b
      | {_START}(?:please\ )?(?:lend\ me|give\ (?:me|us)|make\ it|donate){_SOME}¤
      | \b(?:so|then)\ you(?:'ll|\ will|\ can|'d)?\ (?:give|donate|lend){_SOME}¤
      | \bi(?:'ll|\ will)\ put\ you\ down\ for\ ¤
      | ^(?:(?:and|or|so|then|maybe|perhaps|even|just|with)[,\s]+)*¤(?:,?\ then)?\?""",
    re.I | re.X,
)
# A "yes" to a question about a sum ("Is $500 a lot?", "Can you see that I need $500?") gives none.
_ABOUT_IT: Final = re.compile(
    r"""\btoo\ much\b | \b(?:whether|that\ (?:i|we|they|it)|if\ (?:i|we|they|it))\b
      | \bif\ (?:¤|you\ (?!could|can|would))
      | \b(?:see(?!\ your\ way)|believe|understand|know|remember|think|agree|feel|sounds?|seems?
        |looks?|hate|mind|lot|silly|refuse)\b
      | ¤[^¤]{0,80}\b(?:and|or)
          \ (?:do|are|is|have|has|did|will|was|were|does|what|how|why|where|who)\b
      | \bas\ an?\b""",
    re.I | re.X,
)
# What is only mentioned, compared, estimated, reported or meant for others is no such amount.
_MENTION: Final = re.compile(
    r"""\b(?:said|says|told|asked|claim\w*|heard|read|wrote|gave|given|donated|lent|used\ to
      |already|(?:wants?|wanted|expect\w*|asks?|asking|like)\ me\b
      |(?:could|would|should|might)(?:'ve|\ have)|last\ (?:year|month|week|time)|earlier|yesterday
      |ago|pretend|imagine|suppos\w+|hypothetical\w*|jok(?:e|ing)|kidding|between|or\ so|around
      |roughly|approximately|at\ (?:least|most)|(?:less|more|fewer|higher|other)\ than
      |maximum|minimum|half|twice|double|plus|minus|worth|another|extra|additional
      |on\ top|elsewhere|some(?:one|body)\ else|other\ (?:charit|caus)\w+|thought|matter\ of|as\ if
      |like\ hell|over\ my\ dead\ body|only\ (?:to|for)\ (?:my|family|friends)
      |you\ say|raised|costs?|total|altogether)\b
      | (?:(?<!how\ )(?<!what\ )about|over|under)\ ¤
      | ¤\s(?:more|extra|each|or\s(?:more|less)|from\ (?!me\b|you\b|my\b|now\b|today|tomorrow|next))
      | \b(?:give|donate|offer|lend|spare)\b.{0,80}\bup\ to\ ¤
      | \bto\ (?:an?|my|some)\ (?:\w+\ )?(?:charity|cause|church|shelter|hospice)\b""",
    re.I | re.X,
)
# What the giver is not yet sure of, or makes depend on something, is no commitment.
_UNSURE: Final = re.compile(
    r"""\bi\ (?:think|guess|suppose|believe|hope|wish|wonder)\b
      | \b(?:try|probably|possibly|potentially|hopefully|ideally|someday|when|as\ soon\ as
      |assuming|in\ (?:return|exchange)|on\ (?:the\ )?condition|after\ (?:i|you|we)
      |before\ (?:i|you|we)|whether|should\ i|dream)\b""",
    re.I | re.X,
)
_AFTERWARDS: Final = re.compile(r"^(?:as soon as|when|once|after (?:i|you|we))\b", re.I)
_MORE: Final = (
    r"(?:more|higher|further|extra|beyond|above|increase|(?:that|so|this|as|quite\ that|too)\ much"
    r"|(?:full|whole|entire)|all\ of|everything|everyone|a\ (?:bit|little))\b"
)
_NOT_I: Final = (
    r"\bi(?:'m|\ am)?\ (?:(?:really|simply|just|honestly|still)\ )?(?:can'?t|cannot|can\ not"
    r"|won'?t|will\ not|not|don't\ want\ to|would\ rather\ not|had\ better\ not|refuse\ to)"
    r"(?:\ (?:going|able|willing|prepared|here)\ to)?"
)
_WITHDRAWAL: Final = re.compile(
    rf"""{_NOT_I}\ (?:really\ )?(?:giv|donat|lend|contribut|pay|help|pledg|spar|commit|promis)\w*\b
          (?!\ but\b)(?!.{{0,80}}(?:{_MORE}|¤))
      | \bi(?:'d|\ would)\ (?:rather|prefer|better)\ (?:not|keep)\b(?!.{{0,80}}(?:{_MORE}|¤))
      | \bi\ (?:must\ |have\ to\ |will\ have\ to\ )?(?:decline|refuse|say\ no|pass)\b
      | \bi(?:'ll|\ will)\ (?:have\ to\ )?(?:pass|decline)\b | \bcount\ me\ out\b
      | \bnothing\ from\ me\b | \bkeep\ my\ money\b
      | \b(?:just|only)\ (?:kidding|joking)\b""",
    re.I | re.X,
)
_CANNOT: Final = re.compile(
    rf"""(?:{_NOT_I}(?:\ (?:do|afford)(?:\ (?:it|that|this))?)?(?:\ right\ now|\ after\ all)?
      | ^(?:actually,?\ |wait,?\ )*not)[.!]*$""",
    re.I | re.X,
)
_UNWANTED: Final = re.compile(
    r"""\b(?:keep\ your\ money|i\ (?:can'?t|cannot|won'?t|will\ not|don't\ want\ to)
      \ (?:accept|take)\ (?:it|that|this|your|any)|i\ don't\ (?:want|need)\ your\ money)\b""",
    re.I | re.X,
)
_YES: Final = re.compile(
    rf"""^(?:{_OKAY}[,!.]?\s)*(?:(?:of\ course|certainly|gladly|with\ pleasure|happily|absolutely
      |definitely|consider\ it\ done|count\ me\ in|you've\ got\ it)
      |i(?:'ll|\ will|\ can|(?:'d|\ would)\ be\ {_GLAD})\s{_ADVERB}(?:do|give|lend|donate|spare)
      \ (?:you\ |them\ )?(?:it|that|this)|you\ (?:can|may)\ (?:have|borrow)\ (?:it|that))
      (?:,\ \w+)?[.!]*$""",
    re.I | re.X,
)
_NOT_YET: Final = re.compile(
    r"\b(?:tell\ me|explain|let\ me|first|go\ on|hear|think|wonder|later|another\ time)\b|\?", re.I
)
_CORRECTION: Final = re.compile(r"^(?:but\s)?(?:actually|no|in fact|wait|you know what)\b", re.I)
# These are no denials, reservations or retractions of a sum of money.
_HARMLESS: Final = re.compile(
    r"""\b(?:and\ |but\ )?(?:no|not(?:\ a\ (?:cent|penny|dollar))?)\ (?:more|further|higher)
          (?:\ than\ that)?\b
      | \b(?:no|without)\ (?:any\ )?(?:interest|strings|hesitation|hurry|need\ to\ thank\ me)\b
      | \bdon't\ mention\ it\b | \b(?:just\ )?this\ once\b
      | \buntil\b(?!\ (?:i|you|we|then)\b) | \btake\ it\ back\ (?=on|by|in|next|when)
      | \b(?:you\ can\ |just\ |please\ )?(?:pay|give)\ (?:me|it)\ back\b[^.,;!?]*
      | \b(?:that\ )?you\ (?:asked\ for|asked\ me\ for|need)\b | \bas\ i\ (?:said|told\ you)\b,?""",
    re.I | re.X,
)
# A "but" after the sum that only says that it is the last word, or when a loan is due.
_LIMITING: Final = re.compile(
    r"""^but\ (?:that(?:'s|\ is)|this\ is|it(?:'s|\ is))\ (?:really\ )?
        (?:all|my\ limit|the\ most|as\ (?:far|much))\b.*
      | ^but\ (?:not|no)\ (?:a\ \w+\ )?more\b.*
      | ^but\ i\ (?:really\ |just\ )?(?:can'?t|cannot|won'?t)\ \w+(?:\ (?:any|you))?
        \ (?:more|higher|further|beyond|above|the\ (?:full|whole)|¤).*
      | ^but\ (?:please|i(?:'d|\ would)?\ (?:need|want|like|must)|you)\b
        (?!.*\b(?:if|unless|only|first)\b).*\b(?:back|return\w*|repa[yi]\w*)\b.*""",
    re.I | re.X,
)
_EVERY: Final = re.compile(
    r"\s?(?:\b(?:an?|per|each|every)\s|/\s?)(?P<unit>day|week|month|year)\b"
    r"|\s?\b(?P<often>dai|week|month|year)ly\b",
    re.I,
)
_DURATION: Final = re.compile(
    r"\b(?:for|in|within|over)\s(?:an?|one|two|three|\d+)\s(?:day|week|month|year)s?\b", re.I
)
_ASIDE: Final = re.compile(
    rf"\s(?:instead of|rather than)\s(?:the\s|your\s)?(?:{AMOUNT.pattern})"
    rf"|\sfrom\s(?:the\s|my\s)?\$(?:{NUMBER})(?=\sto\b)",
    re.I,
)
_BARE: Final = re.compile(
    r"(?P<lead>\b(?:give|give you|donate|lend|lend you|do|for|make it|make that|go to|spare|pledge"
    rf"|contribute|manage|say)\s)(?P<b>{NUMBER})(?=\s*(?:[.!?,;]|$|then\b|it is\b))",
    re.I,
)
_QUOTED: Final = re.compile(r"[“\"][^“”\"]*[”\"]")


@lru_cache(maxsize=1024)
def read_giver(text: str, period: Period = "once") -> Said:
    """What a statement of the giver means, where amounts are given once or per ``period``.

    It commits the giver if it names exactly one amount, in the first person and without "if",
    "maybe", a denial or a question ("I will donate $40", "Put me down for $40", "You can have $60
    until Friday"). Amounts that are reported, compared, estimated or for others commit to nothing;
    nor do two different amounts, unless the second corrects the first ("Actually, ...").
    """
    pledge: float | None = None
    withdraws = declines = clash = unread = False
    lead = ""
    parts = _parts(text)
    for number, clause in enumerate(parts):
        marked, amounts = _marked(clause, period)
        # What leads up to a colon says what the amount after it is: "My brother said: ..."
        scope, lead = f"{lead} {marked}", clause if clause.rstrip().endswith(":") else ""
        following = _marked(parts[number + 1], period)[0] if number + 1 < len(parts) else ""
        if _takes_back(marked, amounts):
            pledge, withdraws, clash = None, True, False
        elif _CANNOT.search(marked) and not negotiation.is_question(marked):
            pledge, declines, clash = None, True, False
        elif amounts and _PLEDGE.search(marked) and not _open(scope, following):
            if _CORRECTION.search(clause):
                pledge, clash = None, False
            clash = clash or len(amounts) > 1 or pledge not in (None, *amounts)
            pledge = amounts.pop()
        else:
            unread = unread or MONEY.search(clause) is not None
    if pledge is not None and not clash:
        return Said(pledge, withdraws=withdraws)
    plain = " ".join(parts)
    stance: negotiation.Reading[float] = negotiation.read_stance(plain)
    yes = stance.accepts or (
        any(_YES.search(part) for part in parts)
        and not any(negotiation.negated(part) or negotiation.hedged(part) for part in parts)
    )
    sure = not (withdraws or clash or unread or amounts_in(plain) or _NOT_YET.search(plain))
    return Said(
        accepts=yes and sure and _UNSURE.search(plain) is None,
        declines=declines or stance.rejects,
        withdraws=withdraws or stance.retracts,
    )


@lru_cache(maxsize=1024)
def read_asker(text: str, period: Period = "once") -> Said:
    """What a statement of the asker means, where amounts are given once or per ``period``.

    It asks for an amount if it names exactly one in words that ask for it ("Could you lend me
    $60?"), and does not go on to ask something else, which a "yes" might answer.
    """
    amounts: set[float] = set()
    wants = True
    presses = False
    for clause in _parts(text):
        marked, named = _marked(clause, period)
        question = negotiation.is_question(clause)
        if negotiation.retracted(clause) or _UNWANTED.search(marked):
            amounts, wants = set(), False
        elif named and _ABOUT_IT.search(marked):
            amounts, presses = set(), True
        elif named and _ASK.search(marked) and not _denied(marked):
            amounts, wants, presses = amounts | named, True, True
        elif question:
            amounts = set()
            presses = presses or re.search(_MORE, clause, re.I) is not None
    amount = amounts.pop() if len(amounts) == 1 else None
    return Said(amount, withdraws=not wants, presses=presses)


def amounts_in(text: str) -> set[float]:
    """All amounts that can be read in ``text``."""
    return {value(match) for match in AMOUNT.finditer(text)}


def _parts(text: str) -> list[str]:
    """The clauses of ``text``, without what it quotes unless all of it is in quotes."""
    said = text.strip().replace("’", "'")
    quoted = _QUOTED.fullmatch(said)
    said = said[1:-1] if quoted else _QUOTED.sub(" ", said)
    return negotiation.clauses(_HARMLESS.sub("", said.replace(_MARK, "€")))


def _marked(clause: str, period: Period) -> tuple[str, set[float]]:
    """``clause`` with a mark for each amount, and the amounts; none if one cannot be read."""
    said = _ASIDE.sub("", clause)
    amounts = amounts_in(said)
    marked = AMOUNT.sub(_MARK, said)
    if not amounts and not MONEY.search(said) and not TIME.search(said):
        amounts = {value(match) for match in _BARE.finditer(said)}
        marked = _BARE.sub(rf"\g<lead>{_MARK}", said)
    lasting = _DURATION.sub("", marked)
    units = {
        (m["unit"] or m["often"].replace("dai", "day")).lower() for m in _EVERY.finditer(lasting)
    }
    if UNREADABLE.search(marked) or units - {period}:
        return marked, set()
    return (_EVERY.sub("", lasting) if units else marked), amounts


def _open(scope: str, following: str) -> bool:
    """Whether a clause denies, mentions, asks, doubts or reserves the amount that it names."""
    reserved = "" if _LIMITING.search(following) else following
    return (
        _denied(scope)
        or negotiation.hedged(scope.strip(), reserved)
        or _AFTERWARDS.search(following) is not None
        or _UNSURE.search(scope) is not None
    )


def _denied(marked: str) -> bool:
    return negotiation.negated(marked) or _MENTION.search(marked) is not None


def _takes_back(marked: str, amounts: set[float]) -> bool:
    """Whether a giver says that it will give nothing."""
    if negotiation.is_question(marked):
        return False
    nothing = amounts == {0.0} and _PLEDGE.search(marked) is not None
    return nothing or negotiation.retracted(marked) or _WITHDRAWAL.search(marked) is not None
