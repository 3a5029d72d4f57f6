"""The price that people agreed on in words of their own, read by rules.

A state machine follows who has proposed what. A price counts as agreed once one side has named it
and the other accepts or repeats it, and only while nothing reopens it: another price, a refusal, an
amount "off" or "plus" that nobody has worked out. Where the words leave that open, nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, Literal

from sotopia_gym.outcomes.base import Said
from sotopia_gym.tasks.families import Outcome


def read(said: Sequence[Said], *, buyer: str, seller: str, listing: float | None) -> Outcome:
    """What a buyer and a seller agreed on.

    Args:
        said: What was said, oldest first; what others than the two say is not read.
        buyer: The agent that buys.
        seller: The agent that sells.
        listing: The asking price in dollars that both know, if there is one. It tells a price
            from a year, a size or a count, and "13.5" from "13,500".

    Returns:
        An outcome of family ``price``: ``agreement`` with ``terms["price"]`` in dollars;
        ``no-agreement`` where the last words end the talk without a deal; else ``unread``.

    Raises:
        ValueError: If buyer and seller are the same agent.
    """
    if buyer == seller:
        raise ValueError(f"buyer and seller must be different agents; got {buyer!r} for both.")
    bargain = _Bargain()
    for line in said:
        if line.agent in (buyer, seller):
            selling = line.agent == seller
            move = _read_move(line.text, selling=selling, listing=listing)
            bargain.hear(line.agent, buyer if selling else seller, move)
    if bargain.agreed is not None:
        terms = {"price": round(bargain.agreed, 2)}
        return Outcome(family="price", status="agreement", terms=terms)
    return Outcome(family="price", status="no-agreement" if bargain.left else "unread")


# --- bargaining -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Move:
    """What one message does in the bargaining.

    Attributes:
        prices: The prices it proposes or repeats, oldest first.
        doubted: Those of them that it turns down, if the other proposed them.
        mentions: Prices it only talks about: what the good cost, or costs elsewhere.
        unsettled: Whether it names an amount that leaves the price open: "10 off", "45-50".
        accepts: Whether it accepts something.
        plainly: Whether it does so in words of agreement, and not by a "yes" that could answer
            anything.
        refused: Whether it turns something down anywhere in it.
        refuses: Whether it turns something down, and does not accept after that.
        declines: Whether it declines a service, such as delivery.
        conditional: Whether it makes a condition, or asks for something.
        arranges: Whether it settles how the good changes hands, or says goodbye.
        asks: Whether it asks anything.
        asks_else: Whether it ends with a question about something else than the price.
        leaves: Whether it ends the talk without a deal.
    """

    prices: tuple[float, ...] = ()
    doubted: frozenset[float] = frozenset()
    mentions: frozenset[float] = frozenset()
    unsettled: bool = False
    accepts: bool = False
    plainly: bool = False
    refused: bool = False
    refuses: bool = False
    declines: bool = False
    conditional: bool = False
    arranges: bool = False
    asks: bool = False
    asks_else: bool = False
    leaves: bool = False


@dataclass(slots=True)
class _Bargain:
    """Where the bargaining stands.

    Attributes:
        offers: What each side has last proposed; None is an amount that the words leave open.
        heard: All prices that each side has named.
        table: Who made the last proposal; nobody once it is turned down.
        fresh: Whether a mere "yes" of the other would accept it: nothing was said in between.
        agreed: The price agreed on, if any.
        conditional: Whether that depends on a condition the other has not met.
        left: Whether the last to speak ended the talk without a deal.
    """

    offers: dict[str, float | None] = field(default_factory=dict)
    table: str | None = None
    heard: dict[str, set[float]] = field(default_factory=dict)
    fresh: bool = False
    agreed: float | None = None
    conditional: bool = False
    left: bool = False

    def hear(self, me: str, other: str, move: _Move) -> None:
        """Take in what ``me`` said to ``other``."""
        theirs = self.offers.get(other)
        prices = [p for p in move.prices if p != theirs or p not in move.doubted]
        known = self.heard.get(other, set())
        self.heard.setdefault(me, set()).update(move.prices, move.mentions)
        silent = not (prices or move.unsettled or move.conditional or move.asks)
        self.left = silent and (self.left or move.leaves)
        if self.table == me:
            self.fresh = False
        if move.unsettled:
            self._propose(me, None)
        elif prices:
            self._name(me, prices, theirs, move, known)
        elif self.agreed is not None:
            if move.refuses or (self.conditional and move.declines):
                self.agreed = None
            self.conditional = self.conditional and not move.accepts
        elif self.table == other and (move.accepts or move.arranges):
            if self.fresh or move.plainly:
                self._agree(theirs, move)
        elif move.refuses and self.table == other:
            self.table = None
        if self.table == me and move.asks_else:
            self.fresh = False

    def _name(
        self, me: str, prices: list[float], theirs: float | None, move: _Move, known: Set[float]
    ) -> None:
        """Take in the prices that ``me`` names; ``known`` are those the other has named."""
        price = prices[-1]
        # "I could take 10 off." - "Deal, 90 it is." settles what the other's words left open.
        settles = price in known or (theirs is None and self.table not in (None, me))
        if len(prices) > 1 and theirs in prices:
            self._propose(me, None)
        elif price == theirs and move.refused and not move.plainly:
            # "Too low. The lowest is 50.", after 50 was offered: one of the two is a slip.
            self._propose(me, None)
        elif price == theirs or (len(prices) == 1 and move.plainly and settles):
            self._propose(me, price)
            self._agree(price, move)
        elif price != self.agreed:
            self._propose(me, price)

    def _propose(self, me: str, price: float | None) -> None:
        self.offers[me], self.table, self.fresh, self.agreed = price, me, True, None

    def _agree(self, price: float | None, move: _Move) -> None:
        self.agreed, self.conditional = price, move.conditional


# --- messages -------------------------------------------------------------------------------

# People leave apostrophes out; contractions are written out before anything is matched.
_SPELLINGS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[’‘`´]", "'"),
        (r"[“”]", '"'),
        (r"[–—−]", "-"),
        (r"[*_]+", ""),
        (r"\b(?:can't|cant|can not)\b", "cannot"),
        (r"\b(?:won't|wont)\b", "will not"),
        (r"n't\b", " not"),
        (r"\b(do|does|did|is|are|was|would|could|should|have|has)nt\b", r"\1 not"),
        (r"\b(?:i'm|im)\b", "i am"),
        (r"\b(?:let's|lets)\b", "let us"),
        (r"\b(\w+)'ll\b", r"\1 will"),
        (r"\bill\b", "i will"),
        (r"\b(\w+)'re\b", r"\1 are"),
        (r"\byoure\b", "you are"),
        (r"\b(\w+)'ve\b", r"\1 have"),
        (r"\b(i|you|we)ve\b", r"\1 have"),
        (r"\b(\w+)'d\b", r"\1 would"),
        (r"\b(that|it|what|here|there|he|she)'?s\b", r"\1 is"),
        (r"\bhave got\b", "have"),
        (r"\bgot(?:ta)?\b", "have"),
        (r"\b(?:okay|okey|okk+|oki|k)\b", "ok"),
        (r"\b(?:yea|yeah|yep|yup|ya|yess+|yas|aye)\b", "yes"),
        (r"\bu\b", "you"),
        (r"\bur\b", "your"),
        (r"\ball right\b", "alright"),
        (r"\s+", " "),
    )
)
# Phrases with a "no", a "not" or a "sorry" in them that refuse nothing.
_IDIOM: Final = re.compile(
    r"""\bno\ (?:problem|worries|doubt|rush|hurry|issues?|need|trouble)\b | \bwhy\ not\b
      | \bcannot\ (?:wait|beat|argue|complain)\b | \bdo\ not\ worry\b
      | \bnot\ (?:a\ problem|bad|an\ issue)\b | \bhow\ about\ that\b
      | \bwill\ not\ (?:regret|be\ (?:sorry|disappointed))\b""",
    re.X,
)
_DECLINED: Final = re.compile(
    r"\b(?:cannot|could not|will not|do not) (?:\w+ ){0,2}?"
    r"(?:deliver|ship|bring|drive|pick|install|fit|haul|throw|include|meet)\b"
)
_SEGMENT_END: Final = re.compile(
    r"(?P<end>[.!?;]+(?=\s|$|[a-z])|\.{2,}|,\s+|\s-+\s"
    r"|\s(?=(?:but|so|although|though|however)\b)|\sand\s(?=(?:i|you|we)\b))"
)
_IF: Final = re.compile(r"\b(?:if|unless|as long as|provided|only|once|assuming|would need)\b")
# "If that works for you" accepts nothing; "if you come today that works" does.
_IF_THAT: Final = re.compile(rf"{_IF.pattern}(?:\s\w+){{0,2}}\W*$")
_CONDITION: Final = re.compile(
    rf"{_IF.pattern}|\b(?:throw in|includ\w+|deliver\w*|bring|ship|free)\b"
)
_QUESTION: Final = re.compile(
    r"^\W*(?:(?:ok|yes|so|and|well|then|great|but|now)\W+)*(?:do|does|can|could|would|will|is|are"
    r"|how about|what about|how|what|when|where|why|may|should|did)\b(?!\s(?:not|it is))"
)
_MAY_I: Final = re.compile(
    r"\bif\b|^\W*(?:(?:ok|yes|so|and|well|then|great|but|now)\W+)*"
    r"(?:do|does|can|could|would|will|is|are)\b"
)
_ABOUT_PRICE: Final = re.compile(
    r"\d|\b(?:deals?|sounds?|work|ok|think|say|accept|take|agree|offer|price|fair|that|do it"
    r"|interested|it)\b"
)


def _read_move(text: str, *, selling: bool, listing: float | None) -> _Move:
    words = text.lower()
    for pattern, replacement in _SPELLINGS:
        words = pattern.sub(replacement, words)
    words = _IDIOM.sub("ok", words)
    declines = _DECLINED.search(words) is not None
    words = _DECLINED.sub("", words).strip()
    timed = _TIME.search(words) is not None
    prices: list[float] = []
    doubted: set[float] = set()
    mentions: set[float] = set()
    unsettled = _SURCHARGE.search(words) is not None
    vague = _VAGUE.search(words) is not None
    accepts = plainly = refused = refuses = arranges = asks = asks_else = False
    for segment, question in _segments(words):
        stance = _stance(segment, question=question)
        named: list[float] = []
        for amount in _amounts(segment, selling=selling, listing=listing, timed=timed):
            if amount.price is None:
                vague = True
            elif amount.mentioned and stance not in ("accepts", "yes"):
                mentions.add(amount.price)
            else:
                named.append(amount.price)
        if len(set(named)) > 1 and _EITHER.search(segment):
            unsettled = True
        prices = [p for p in prices if p not in named] + list(dict.fromkeys(named))
        doubted.difference_update(named)
        if stance == "refuses":
            accepts, refuses, refused = False, True, True
            doubted.update(named or prices)
        elif stance is not None:
            accepts, refuses, plainly = True, False, plainly or stance == "accepts"
            doubted.clear()
        asks = asks or question
        asks_else = question and not _ABOUT_PRICE.search(segment)
        arranges = arranges or (
            _ARRANGEMENT.search(segment) is not None and _MAY_I.search(segment) is None
        )
    return _Move(
        prices=tuple(prices),
        doubted=frozenset(doubted),
        mentions=frozenset(mentions),
        unsettled=unsettled or (vague and not prices),
        accepts=accepts,
        plainly=accepts and plainly,
        refused=refused,
        refuses=refuses,
        declines=declines,
        conditional=_CONDITION.search(words) is not None,
        arranges=arranges and not refuses,
        asks=asks,
        asks_else=asks_else,
        leaves=_BREAK.search(words) is not None or _FAREWELL.search(words) is not None,
    )


def _segments(words: str) -> Iterator[tuple[str, bool]]:
    """The parts of a message that each make one point, and whether they end in "?"."""
    start = 0
    for match in _SEGMENT_END.finditer(words):
        part = words[start : match.start()].strip()
        if part:
            yield part, "?" in match["end"]
        start = match.end()
    if words[start:].strip():
        yield words[start:].strip(), False


# --- stances --------------------------------------------------------------------------------

_OFFER: Final = r"(?:your|the|that|this) (?:offer|price|deal|amount)"
_THAT: Final = rf"(?:that|this|{_OFFER})"
_IT: Final = rf"(?:it|them|those|that|this|{_OFFER})"
_VERY: Final = (
    r"(?:(?:more than|like|an?|very|really|pretty|quite|so|just|actually|totally|about|all|kind of"
    r"|absolutely|definitely|perfectly)\s)*"
)
_FAIR: Final = r"(?:fair|reasonable|acceptable|agreeable|doable)"
_GOOD: Final = (
    rf"(?:{_FAIR}|good|great|perfect|fine|ok|awesome|wonderful|excellent|fantastic|amazing"
    r"|alright|cool|right|lovely|nice)"
)
# "A great deal" by itself is praise of the good; "we have a great deal" is none.
_AGREEMENT: Final = re.compile(
    rf"""\b(?:we|you|you\ have|have|make\ it|call\ it|make|call)\ (?:have\ )?
           (?:yourself\ |your\ self\ )?an?\ (?:done\ )?deal\b
      | \b(?:it|this|that)\ is\ an?\ (?:done\ )?deal\b
      | ^\W*(?:(?:ok|yes|alright|great|cool|sure|well|and|then|it\ is)\W+)*
          (?:an?\ )?(?:done\ )?deal\b
      | (?<!good\ )(?<!great\ )(?<!best\ )(?<!a\ fair\ )(?<!any\ )\bdeal$
      | \bsounds\ like\ a\ (?:\w+\ )?deal\b
      | \byou\ have\ it\b(?!\ (?:for|listed|posted|priced|at|on|up))
      | ^\W*(?:(?:ok|yes|alright|great|well|then)\W+)*sold\b(?!\ (?:it|my|the|a|one|out|for))
      | \bconsider\ it\ (?:done|sold)\b | \b{_THAT}\ (?:will|would)\ do\b | \bi\ am\ in$
      | \bagreed\b | \b(?:i|we)\ (?:agree|accept)\b | ^accepted\b | ^done\b
      | \b(?:it\ is|they\ are)\ (?:all\ )?yours\b | \byou\ can\ have\ (?:it|them)\b
      | \b(?:i|we)\ (?:(?:can|could|will|would|guess|think|suppose|definitely|probably|gladly
            |happily|be|happy|glad|willing|to|am|should|able|just|certainly|even|go|ahead|and
            |then)\ )*
          (?:do|take|accept|go\ (?:with|for)|agree\ (?:to|with|on)|live\ with|manage|make|swing
            |work\ with|buy|handle|(?:let\ (?:it|them)\ go|sell\ (?:it|them)
            |let\ you\ have\ (?:it|them)|give\ (?:it|them)\ to\ you)\ (?:for|at))
          \ (?:both\ of\ )?{_IT}\b
      | \blet\ us\ (?:do|shake\ on|go\ with|call)\ {_IT}\b
      | \d\ it\ is\b | \b(?:happy|ok|good|fine|cool)\ with\ {_IT}\b | \bfine\ (?:by|with)\ me\b
      | \b{_THAT}\ (?:(?:will|would|should|does|can|could|price|offer|all|have\ to)\ )*works?\b
      | (?<!it\ )\b(?:will|would|can)\ (?:have\ to\ )?work\b | ^works\b | \bworks?\ for\ me\b
      | \bsounds?\ {_VERY}(?:{_GOOD}|plan)\b
      | \b{_THAT}\ (?:is|seems|looks|would\ be|will\ be|sounds)\ {_VERY}{_GOOD}\b
      | \b(?:it|price|\d)\ (?:is|seems|sounds)\ {_VERY}{_FAIR}\b
      | \bi\ will\ (?:gladly\ |happily\ |definitely\ )?take\ (?:the|both|all)\b""",
    re.X,
)
_YES: Final = (
    r"ok|yes|sure|fine|alright|great|perfect|awesome|cool|absolutely|definitely|certainly"
    r"|of course|good|wonderful|excellent|fantastic"
    r"|fair enough|i can|i will|i would|no problem|we do|you bet"
)
_FILLER: Final = (
    r"very|well|then|thanks?|thank you|so much|very much|a lot|nice|amazing|wow|oh|man|sir"
    r"|my friend|friend|buddy|i guess|i suppose|right|for sure|please|i do|just|lovely|super|and"
    r"|sweet|haha|lol|hm+|exactly|enough|it is|that is|we are|i am|for you|you|now|today|and i"
)
_SAYS_YES: Final = re.compile(
    rf"^(?:(?:{_FILLER})\b\W*)*(?:{_YES})\b\W*(?:(?:{_YES}|{_FILLER})\b\W*)*$"
)
_ARRANGEMENT: Final = re.compile(
    r"""\bsee\ you\b | \bon\ my\ way\b | \bpleasure\b | \b(?:nice|good|great)\ doing\ business\b
      | \bthanks?\ (?:you\ )?for\ (?:working|your\ business|doing|the\ (?:deal|offer))
      | \benjoy\b | \blook(?:ing)?\ forward\b
      | \b(?:i|we)\ (?:will|can|could)\ (?:\w+\ ){0,2}?(?:be\ (?:there|over|by|at|right)|pick
          |come|bring|head|meet|stop|swing|drop|deliver|get\ it|send|write|enter|put|submit|make
          |draw|prepare|have\ it|hold)\b
      | \bcome\ (?:and\ )?(?:get|pick)\b | \bpick\ (?:it|them)\ up\b
      | \bwhen\ (?:can|could|would|will|should)\ (?:i|you|we)\b
      | \bwhat\ (?:time|is\ your\ address)\b | \bwhere\ (?:can|could|should|do)\ (?:i|we)\b
      | \b(?:your|the)\ address\b""",
    re.X,
)
_REFUSAL: Final = re.compile(
    r"""\btoo\ (?:low|high|much|little|steep|cheap|expensive|far|rich)\b
      | \b(?:bit|little|kind\ of|kinda|sort\ of|pretty|quite|rather|very|really|way|tad|somewhat)
          \ (?:too\ |more\ |of\ a\ )?
          (?:low|lower|high|higher|steep|cheap|expensive|pricey|stretch)\b
      | \b(?:cannot|could\ not|will\ not|would\ not|not\ able\ to|unable\ to
            |not\ (?:really\ )?(?:willing|going)\ to)\ (?:\w+\ ){0,3}?
          (?:do|go|accept|take|sell|let|come|afford|pay|part|drop|justify|give|agree|budge|spend
            |consider|swing|match|lower|raise|negotiate|be)\b
      | \b(?:cannot|unable|not\ willing|do\ not\ (?:want|think|know)|not\ sure|rather\ not)$
      | \bdo\ not\ think\b | \brather\ not\b | \bnot\ sure\ (?:i|that|about)\b
      | ^\W*(?:(?:oh|well|um+|hm+|yes|ok)\W+)*(?:how\ about\ )?(?:no|nope|nah)
          (?:$|\W*(?:i|we|that|it|sir|way|sorry|not|but|can|the\ price)\b)
      | \bno\ (?:deal|thanks?|way|can\ do)\b
      | \bnot\ (?:enough|fair|acceptable|interested|possible|work|gonna|quite)\b
      | \bsorry\b | \bunfortunately\b | \bi\ am\ afraid\b | \bfirm\b
      | \b(?:go|come|do|be|any|bit|little)\ (?:any\ |a\ (?:bit|little)\ )?(?:lower|higher|less)\b
      | \b(?:can|could|able\ to|open\ to|some|like\ to|hoping\ to)\ (?:we\ )?negotiate\b
      | \b(?:over|above|beyond|outside|out\ of|out)\ (?:\w+\ )?(?:my|our|the)
          \s(?:budget|price|range|reach|means)\b
      | \btoo\ bad\b | \bhave\ (?:to\ )?quit\b
      | \bmore\ than\ (?:i|my)\b | \binsult | \blow\s?ball | \bthink\ about\ it\b
      | \b(?:best|lowest|highest|cheapest|least)\ (?:you|price\ you)\b""",
    re.X,
)
_BREAK: Final = re.compile(
    r"""\bno\ deal\b | \bno\ thank | \bnever\ ?mind\b | \bforget\ it\b | \bnot\ interested\b
      | \b(?:not|cannot)\ (?:\w+\ ){0,4}?(?:reach|come\ to|make|have)\ an?\ (?:deal|agreement)\b
      | \bnot\ (?:\w+\ ){0,4}?(?:agree|work\ out|work)\b
      | \bi\ (?:will\ |am\ going\ to\ |think\ i\ will\ )?(?:have\ to\ )?pass\b
      | \b(?:look|looking|shop|find|check)\ (?:\w+\ ){0,2}?
          (?:elsewhere|somewhere\ else|(?:an)?other)\b""",
    re.X,
)
# Polite after a deal as well as without one.
_FAREWELL: Final = re.compile(r"\bgood luck\b|\bthanks? (?:you )?for your time\b")


def _stance(segment: str, *, question: bool) -> Literal["refuses", "accepts", "yes"] | None:
    """Whether a part of a message refuses, accepts in words of agreement, or just says yes."""
    if question:
        return None
    if _REFUSAL.search(segment) or _BREAK.search(segment):
        return "refuses"
    match = _AGREEMENT.search(segment)
    if match is None:
        return "yes" if _SAYS_YES.search(segment) else None
    if _IF_THAT.search(segment[: match.start()]) or _QUESTION.search(segment[: match.end()]):
        return None
    return "accepts"


# --- amounts --------------------------------------------------------------------------------

_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?|\d+(?:\.\d{1,2})?)"
_AMOUNT: Final = re.compile(
    rf"""(?<![\w.,:/\#*+-])(?P<sign>\$\s?)?(?P<number>{_NUMBER})
        (?:\s?(?P<unit>k|grand|thousand|hundred)\b)?
        (?P<currency>\s?(?:\$|dollars?\b|bucks\b|usd\b|cash\b))?
        (?![\w%"'°]|[.,:/x+*-]\d|\s?(?:%|percent|-\s?\d|x\s?\d))""",
    re.X,
)
_UNITS: Final = {None: 1, "hundred": 100, "k": 1000, "grand": 1000, "thousand": 1000}
# What may follow a number without a currency, if it is a price.
_AFTER_PRICE: Final = re.compile(
    r"""\s*(?:$|[.,!?;:)(-]|/\s?mo|(?:a|per)\ month|(?:all|and|as|at|because|but|by|can|could
      |considering|deal|delivered|do|does|due|even|final|firm|flat|for|how|i|if|in\ cash|including
      |instead|is|it\ is|just|looks|lol|max|maybe|monthly|my|no|now|obo|ok|on|or|please|right|seems
      |since|so|sounds?|thanks?|that|the|then|this|though|to|today|tomorrow|tonight|tops|total|was
      |we|when|will|with|works?|would|yes|you|a\ (?:fair|good))\b)""",
    re.X,
)
# What comes before a count, a year or the name of a model.
_BEFORE_OTHER: Final = re.compile(
    r"""\b(?:in|since|from|year|circa|model|an?|my|size|number|phone|iphone|galaxy|ps|xbox|route
      |highway|version|gen|series|hero|unit|apt|room|past|last|next|every|within|has|have|had|with
      |(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)\w*)\s*$""",
    re.X,
)
_TIME: Final = re.compile(r"\b(?:come|be there|meet|see you|pick|tomorrow|tonight|around|today)\b")
# Amounts that change a price: "10 off", "come down 20".
_CHANGE_AFTER: Final = re.compile(
    r"\s?(?:off|discount|less|more|cheaper|lower|higher|difference)\b"
)
_CHANGE_BEFORE: Final = re.compile(
    r"\b(?:knock(?:ed)?(?: off)?|(?:off|down|lower|drop|reduce|up|raise|discount)"
    r"(?: it| the price)? (?:by|of|another)|discount of|take off|come down|go down|come up)"
    r"\s(?:about\s|a\s)?$"
)
_SURCHARGE: Final = re.compile(
    rf"\b(?:plus|extra|additional|another|add)\s\$?\s?{_NUMBER}(?![\w%\"'])"
    rf"(?!\s(?:\w+ )?(?:days?|weeks?|months?|years?|miles|minutes|hours|people|gift|gas|card))"
    rf"|\$?{_NUMBER}\$?\s(?:dollars |bucks )?(?:extra\b|for (?:delivery|shipping))"
    rf"|\b\d+ (?:for|at) \$\s?\d"
    rf"|\$\s?{_NUMBER} (?:each|apiece|a piece)\b"
    r"|\binstall?ments?\b|\bpayment plan\b|\bdown payment\b"
    rf"|\b{_NUMBER} now\b.*\b(?:later|rest|next|tomorrow)\b"
)
_EITHER: Final = re.compile(r"\d\W.*\bor\b.*\d|\bfirst\b.*\d.*\bsecond\b.*\d")
# Words for a price that only arithmetic would give.
_VAGUE: Final = re.compile(
    rf"""(?<!\b100)(?<=\d)\s?(?:%|percent)
      | \$?{_NUMBER}\s?(?:-|\sto\s)\s?\$\s?{_NUMBER} | \${_NUMBER}-{_NUMBER}
      | \bmeet\ (?:me\ |you\ |us\ )?(?:\w+\ )?(?:in\ the\ middle|half\s?way)
      | \bsplit\ (?:it|the\ difference|that)\b | \bin\ the\ middle\b | \bmiddle\ ground\b
      | \bhalf\s?way\b
      | \b(?:ten|fifteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand)
          (?:[\s-]\w+)?\s(?:dollars|bucks)\b
      | \b(?:one|two|three|four|five|six|seven|eight|nine|a)\ (?:hundred|thousand|grand)\b
          (?!\ (?:miles|percent|times|thanks|years))""",
    re.X,
)
_SIDE_AFTER: Final = re.compile(
    r"\s?(?:(?:gas|gift|store|visa|amazon)\b|deposit|security|fee\b|credit|towards|voucher|card\b"
    r"|(?:a|per|each|every) (?:week|day|hour|year)|for (?:gas|repairs))"
)
_SIDE_BEFORE: Final = re.compile(
    r"\b(?:deposit|fees?|shipping|delivery|gas|utilities|insurance|tax(?:es)?|savings?|save you"
    r"|card|credit|tip|repairs?|save)(?: (?:is|of|for|are|would be|costs?|me|about|would cost))*\s$"
)
_MENTION_BEFORE: Final = re.compile(
    r"""\b(?:worth|retails?|paid|bought|costs?|original(?:ly)?|new\ for|market|valued?|blue\ book
      |others?|someone|another\ (?:offer|buyer|person)|online|amazon|ebay|store|saw|seen|see|sells
      |sell\ for|selling\ (?:\w+\ )?for|sold|less\ than|more\ than|over|under|below|above|beyond
      |you\ (?:are\ |were\ )?(?:ask|want|said|offer|list|mention)
      |(?<!let\ )you\ have\ (?:it|them)\ (?:for|listed|at|posted|priced)
      |i\ (?:offered|asked|said|was\ asking)|listed|listing|offers|meant|instead\ of|down\ from
      |between|priced|went|goes\ for|(?:they|these|ones)\ go\ for|going\ for
      |your\ (?:asking|price)|comps|similar|why)
      \b[^.!?]*$""",
    re.X,
)
_MENTION_AFTER: Final = re.compile(
    r"""\W*(?:\w+\ ){0,2}?(?:is|seems|would\ be|sounds|looks|was)\ (?:\w+\ ){0,3}?
          (?:low|high|steep|much|lower|higher|over|more|cheap|little|out|less|below|insult|not)\b
      | \W*(?:is\ )?(?:too|way)\b
      | \W*(?:new|retail|brand\ new|online|on\ (?:amazon|ebay)|at\ the\ store)\b""",
    re.X,
)
_NEW_CLAUSE: Final = re.compile(
    r"\b(?:then|(?=(?:i|we) (?:can|could|will|would)\b)|how about|what about|would you|can you)\b"
)
_NEGATION: Final = re.compile(r"\b(?:not|cannot|never|no|unable|nor|without)\b")
_FLOOR: Final = re.compile(r"\b(?:lower|less|below|under|down|cheaper)\b")
_CEILING: Final = re.compile(r"\b(?:higher|more|above|over|past|exceed)\b")


@dataclass(frozen=True, slots=True)
class _Amount:
    """A price, proposed or only mentioned; None if it is a change of a price instead."""

    price: float | None
    mentioned: bool = False


def _amounts(
    segment: str, *, selling: bool, listing: float | None, timed: bool
) -> Iterator[_Amount]:
    """The amounts of money in a part of a message that could concern the price."""
    start = 0
    for match in _AMOUNT.finditer(segment):
        before, after = segment[start : match.start()], segment[match.end() :]
        marked = bool(match["sign"] or match["currency"] or match["unit"])
        value = _value(match, listing)
        if _SIDE_AFTER.match(after) or _SIDE_BEFORE.search(before):
            continue
        if _CHANGE_AFTER.match(after) or _CHANGE_BEFORE.search(before):
            if marked:
                yield _Amount(None)
            continue
        if _plausible(value, listing, marked=marked) and (
            marked or _looks_like_price(value, before, after, timed=timed)
        ):
            start = match.end()
            yield _Amount(value, mentioned=_mentioned(before, after, selling=selling))


def _value(match: re.Match[str], listing: float | None) -> float:
    value = float(match["number"].replace(",", "")) * _UNITS[match["unit"]]
    if listing is not None and value < listing / 50 and 0.3 <= value * 1000 / listing <= 1.3:
        return value * 1000
    return value


def _plausible(value: float, listing: float | None, *, marked: bool) -> bool:
    if listing is None:
        return value > 0
    low, high = (0.1, 2.0) if marked else (0.2, 1.5)
    return low * listing <= value <= high * listing


def _looks_like_price(value: float, before: str, after: str, *, timed: bool) -> bool:
    """Whether a number without a currency is money, and no year, count or time of day."""
    ordinary = value >= 100 and not 1900 <= value <= 2035
    return (
        _AFTER_PRICE.match(after) is not None
        and (ordinary or _BEFORE_OTHER.search(before) is None)
        and not (timed and value <= 12)
    )


def _mentioned(before: str, after: str, *, selling: bool) -> bool:
    """Whether a price is denied, compared or reported rather than proposed."""
    before = _NEW_CLAUSE.split(before)[-1]
    if _NEGATION.search(before):
        # "I can't go below 80" proposes 80 if the seller says it.
        return (_FLOOR if selling else _CEILING).search(before) is None
    return _MENTION_BEFORE.search(before) is not None or _MENTION_AFTER.match(after) is not None
