"""Reads by rules what two people agreed on who divided several kinds of items.

People build up a split in turns: "I'd like the books" - "you can have those, I take the rest" -
"deal". :mod:`.counts` finds what a message names, :mod:`.claims` who is to get it, and
:mod:`.shares` the split that this adds up to. Here the messages are followed: what is on the table,
and whether the other accepts it, in words of acceptance or by saying the same split.

What an offer leaves out may be meant for the other ("I just want the ball") or stand as it was
talked over before. Where these differ, or numbers are open or do not fit, the outcome is unread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sotopia_gym.outcomes.base import Said
from sotopia_gym.outcomes.claims import Message, read_claims
from sotopia_gym.outcomes.counts import Thing, Token, Vocabulary
from sotopia_gym.outcomes.shares import Proposal, read_proposal
from sotopia_gym.tasks.families import Outcome
from sotopia_gym.tasks.families.division import Item, rest

Split = tuple[int, ...]


def read(said: Sequence[Said], *, parties: tuple[str, str], items: Sequence[Item]) -> Outcome:
    """What was agreed.

    Args:
        said: What was said, oldest first; what others than the two parties say is passed over.
        parties: The two who divide.
        items: What there is to divide.

    Returns:
        ``agreement`` with the ``shares`` of both, as the division family gives them, where one
        accepted a whole split of the other; ``no-agreement`` where the last that was said of it is
        that there is no deal; else ``unread``.
    """
    vocabulary = Vocabulary(items)
    counts = tuple(item.count for item in items)
    talk = _Talk(parties, counts)
    focus: int | None = None
    for one in said:
        if one.agent not in parties:
            continue
        tokens = vocabulary.tokens(one.text)
        talk.hear(one.agent, read_claims(tokens, vocabulary, focus), _read_stance(tokens))
        named = {t.item for t in tokens if isinstance(t, Thing) and t.item is not None}
        talk.mentioned |= named
        if named:
            focus = next(iter(named)) if len(named) == 1 else None
    share = talk.settled()
    if share is None:
        status = "no-agreement" if talk.broken_off else "unread"
        return Outcome.model_validate({"family": "division", "status": status})
    shares = {parties[0]: list(share), parties[1]: list(rest(counts, share))}
    return Outcome(family="division", status="agreement", terms={"shares": shares})


# --- how a message takes what was said before ------------------------------------------------

_VERY: Final = (
    r"(?:(?:really|very|pretty|just|totally|so|all|also|definitely|perfectly|completely|quite"
    r"|like|an?|the|more|than) )*"
)
_GOOD: Final = (
    r"(?:good|great|fair|fine|ok|okay|right|perfect|reasonable|deal|plan|excellent|awesome"
    r"|wonderful|amazing|nice|cool|correct|lovely|fantastic|agreeable|acceptable|doable|alright)"
)
_IT: Final = (
    r"(?:that|this|it|those|everything|which|(?:the|that|your) (?:offer|deal|split|proposal))"
)
_WILL: Final = r"(?:(?:does|should|would|will|can|could|might) )?"
_ACCEPTANCE: Final = re.compile(
    r"^(?:(?:i think|i guess|i suppose|well|then|so|and|oh|hm+|yes|ok|okay|yeah|great|ah|aw+|lol"
    r"|haha|hey|now|sure) )*"
    r"(?:ok|okay|okey|oke|kk?|sure|yes+|yeah?|yea|yep|yup|ya|aye|agreed?|accepted|accept|done"
    r"|alright|all right|fine|perfect|great|excellent|awesome|cool|wonderful|fair|very well"
    r"|absolutely|definitely|certainly|of course|good(?! point)|nice|amazing|deal|ditto|correct"
    r"|exactly|right|sold|works|thank you|thanks|thx|ty|no problem|you got it"
    r"|i (?:suppose|guess))\b"
    rf"|\b{_WILL}(?:sounds?|seems?|looks?) {_VERY}{_GOOD}\b"
    rf"|\b{_IT} {_WILL}(?:\w+ )?works?\b"
    rf"|\b{_IT} (?:is|would be|will be|should be) {_VERY}{_GOOD}\b"
    r"|\b(?:it is|its|we have|you have|you got|we got|have|got)(?: got)?(?: yourself| ourselves)?"
    r"(?: an?)?(?: \w+)? (?:deal|agreement)\b"
    r"|\bi (?:\w+ )?(?:can|could|will|would|am) (?:\w+ )?"
    rf"(?:do|accept|agree|take|live|work|go|deal|manage)(?: (?:to|with|for|on))?(?: {_IT}\b|$)"
    rf"|\bi (?:am|would be|will be) {_VERY}(?:ok|okay|fine|happy|good|cool|willing|agreeable)"
    r" (?:with|to)\b"
    r"|\b(?:i|we)(?: \w+)?(?: can| will)? (?:agree|accept)\b"
    r"|\blet us (?:do|go|make|finalize|submit)(?: with| for)? (?:it|that|this|the deal|a deal)\b"
    r"|\bin agreement\b"
)
_DENIAL: Final = re.compile(
    r"\b(?:not|never|no(?! (?:problem|worries|need|prob|doubt|issue))|nope|unfortunately|hardly"
    r"|neither|unless|if|bad|unfair|terrible)\b"
)
_REJECTION: Final = re.compile(
    r"^(?:no|nope|nah|never)\b(?! (?:problem|worries|prob|doubt|issue))"
    r"|\bnot (?:\w+ ){0,3}(?:work|accept|agree|do (?:that|it|this)|happen|fair|enough|acceptable"
    r"|good|a (?:good|fair) deal)\b"
    r"|\b(?:no way|not a chance|unfair|(?:that|this) is (?:\w+ )?worse|bad deal)\b"
)
_COUNTER: Final = re.compile(
    r"\b(?:how|what) about\b(?! (?:you|yourself)(?:$| \?))|\binstead\b|\brather\b|\bwhat if\b"
)
_ASKS_FOR_OFFER: Final = re.compile(
    r"\bwhat (?:will|would|can|could|do|are) (?:you|i) (?:\w+ )?"
    r"(?:give|giving|get|getting|offer|offering)\b"
)
_NO_DEAL: Final = re.compile(
    r"\bno (?:\w+ )?(?:deal|agreement)\b"
    r"|\bnot (?:\w+ ){0,3}(?:make|reach|do|come to|get to) (?:\w+ ){0,2}(?:deal|agreement)\b"
    r"|\bnot (?:\w+ )?(?:going to |able to )?agree$"
    r"|\b(?:neither|none) of us gets?\b"
    r"|\bi (?:will|am going to|have to|would rather|am) (?:\w+ )?walk(?:ing)? away\b"
    r"|\bwe (?:both )?(?:disagree|get nothing|get 0|walk away)\b|\bimpasse\b"
    r"|\b(?:nothing|leave it) then\b"
)
_CONDITION: Final = re.compile(r"\b(?:or|if|unless|otherwise|without|before|until|yet)\b")


@dataclass(slots=True)
class _Stance:
    """How a message takes what was said before.

    Attributes:
        accepts: Whether it accepts that.
        confirms: Whether it asks whether that is accepted ("deal?").
        counters: Whether it brings up something else ("how about ...").
        rejects: Whether it turns that down.
        breaks_off: Whether it says that there is no deal.
    """

    accepts: bool = False
    confirms: bool = False
    counters: bool = False
    rejects: bool = False
    breaks_off: bool = False


def _read_stance(tokens: Sequence[Token]) -> _Stance:
    words = " ".join(token if isinstance(token, str) else "@" for token in tokens)
    stance = _Stance()
    for sentence in re.findall(r"[^.!?;\n]+\??", words):
        conditional = _CONDITION.search(sentence) is not None
        for part in filter(None, map(str.strip, re.split(r",|\bbut\b", sentence))):
            asks = part.endswith("?")
            if "@" not in part and not _DENIAL.search(part) and _ACCEPTANCE.search(part):
                stance.accepts = stance.accepts or not asks
                stance.confirms = stance.confirms or asks
            stance.counters = stance.counters or _COUNTER.search(part) is not None
            stance.rejects = stance.rejects or _REJECTION.search(part) is not None
            if not asks and not conditional and _NO_DEAL.search(part):
                stance.breaks_off = True
    if stance.rejects or stance.counters or _ASKS_FOR_OFFER.search(words):
        stance.accepts = False
    return stance


# --- what is on the table --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Offer:
    """A split that someone proposed, as the share of the first party.

    Attributes:
        speaker: Who proposed it.
        told: The split if all of it was said.
        complement: The split if what was not named is for the one whose things were not named.
        merged: The split if what was not named stays as it was on the table.
        named: Of how many items it was said who gets them.
        stood: Whether both had agreed before on all that was not named.
        fresh: Whether what was not named had never been talked about.
        one_sided: Whether it says only what one of the two would get.
        doubtful: Whether it cannot be relied on.
        guessed: Whether it was only guessed from the table who gets what was listed.
    """

    speaker: str
    told: Split | None
    complement: Split | None
    merged: Split | None
    named: int
    stood: bool
    fresh: bool
    one_sided: bool
    doubtful: bool
    guessed: bool

    def fits(self, shares: Mapping[int, int]) -> bool:
        """Whether it may mean a split with these shares."""
        readings = (self.told, self.complement, self.merged)
        return any(_fits(split, shares) is not None for split in readings)

    def narrowed(self, shares: Mapping[int, int]) -> _Offer:
        """The offer without the meanings that have not these shares."""
        return _Offer(
            speaker=self.speaker,
            told=_fits(self.told, shares),
            complement=_fits(self.complement, shares),
            merged=_fits(self.merged, shares),
            named=self.named,
            stood=self.stood,
            fresh=self.fresh,
            one_sided=self.one_sided,
            doubtful=self.doubtful,
            guessed=self.guessed,
        )

    def meaning(self, items: int) -> Split | None:
        """The one split of ``items`` items that it can be relied on to mean, or None."""
        if self.doubtful:
            return None
        if self.told is not None:
            return self.told
        if self.complement is None:
            return None
        if self.merged is None:
            alone = self.named == items - 1 and self.fresh and not self.guessed
            return self.complement if alone else None
        if self.named == 1:  # item by item
            return self.merged if self.stood else None
        return self.merged if self.merged == self.complement else None


def _fits(split: Split | None, shares: Mapping[int, int]) -> Split | None:
    """``split`` if it has these shares."""
    if split is None or any(split[item] != share for item, share in shares.items()):
        return None
    return split


@dataclass(slots=True)
class _Talk:
    """Where a division stands while its messages are heard.

    Attributes:
        parties: The two who divide.
        counts: How many there are of each item.
        mentioned: The items that were talked about.
        broken_off: Whether the last word was that there is no deal.
    """

    parties: tuple[str, str]
    counts: Split
    mentioned: set[int] = field(default_factory=set)
    broken_off: bool = False
    _table: dict[int, int] = field(default_factory=dict)  # item to share of the first party
    _backers: dict[int, set[str]] = field(default_factory=dict)  # who stated or accepted that
    _offer: _Offer | None = None
    _agreed: _Offer | None = None
    _confirmed: bool = False
    _last_word: bool = False  # whether the latest message is a first acceptance

    def settled(self) -> Split | None:
        """The share of the first party that both agreed on, or None if that cannot be told."""
        if self._agreed is None:
            return None
        if self._agreed.told is not None and self._agreed.one_sided and self._last_word:
            return None  # nobody had the chance to say that the other's share was misunderstood
        return self._agreed.meaning(len(self.counts))

    def hear(self, speaker: str, message: Message, stance: _Stance) -> None:
        """Take note of a message."""
        said, guessed = self._understood(speaker, message)
        settles = said is not None and bool(said.share)
        self._last_word = False
        if stance.breaks_off and not settles:
            self._clear()
            self.broken_off = True
        elif message.unclear and not settles:
            self._clear()
        elif said is not None:
            offer = self._put(speaker, message, said, stance, guessed)
            partial = offer.told is None and (message.unclear or message.denies or stance.counters)
            self._weigh(offer, said, repeats=not (partial or said.open or stance.rejects))
        elif stance.accepts:
            self._accept(speaker)
        elif stance.rejects:
            self._agreed = None
            if self._offer is not None and self._offer.speaker != speaker:
                self._offer = None
        elif stance.confirms and not self._confirmed and self._by(speaker):
            self._agreed = None  # asked for once more, and not yet answered

    def _by(self, speaker: str) -> bool:
        """Whether it is an offer of ``speaker`` that is agreed on."""
        return self._agreed is not None and self._agreed.speaker == speaker

    def _clear(self) -> None:
        self._offer = self._agreed = None
        self._table, self._backers = {}, {}

    def _accept(self, speaker: str) -> None:
        for backers in self._backers.values():
            backers.add(speaker)
        if self._agreed is not None:
            self._confirmed = True
        elif self._offer is not None and self._offer.speaker != speaker:
            self._agreed, self._confirmed, self._last_word = self._offer, False, True

    def _understood(self, speaker: str, message: Message) -> tuple[Proposal | None, bool | None]:
        """What a message proposes, and whether it was guessed who gets what it lists.

        Of the two ways to read a bare list ("2 hats and the ball?") a proposal means the one that
        is nearer to what is on the table. None for the guess: neither is.
        """
        mine = read_proposal(message, self.counts)
        if mine is None or not mine.listed:
            return mine, False
        theirs = read_proposal(message, self.counts, "other")
        if theirs is None or mine.open or theirs.open:
            return mine, None
        near, far = self._distance(speaker, mine), self._distance(speaker, theirs)
        if near is None or far is None or near == far:
            return mine, None
        return (mine, True) if near < far else (theirs, True)

    def _distance(self, speaker: str, said: Proposal) -> int | None:
        shares = self._first(speaker, said.share)
        on_table = shares.keys() & self._table.keys()
        return sum(abs(self._table[i] - shares[i]) for i in on_table) if on_table else None

    def _first(self, speaker: str, share: Mapping[int, int]) -> dict[int, int]:
        """Shares of ``speaker`` as shares of the first party."""
        if speaker == self.parties[0]:
            return dict(share)
        return {item: self.counts[item] - count for item, count in share.items()}

    def _put(
        self,
        speaker: str,
        message: Message,
        said: Proposal,
        stance: _Stance,
        guessed: bool | None,
    ) -> _Offer:
        """Put what was said on the table; the offer that it makes."""
        shares = self._first(speaker, said.share)
        for item in said.open:
            self._table.pop(item, None)
        for item in self._table.keys() - shares.keys() if stance.accepts else ():
            self._backers[item].add(speaker)
        for item, share in shares.items():
            if self._table.get(item) != share:
                self._table[item], self._backers[item] = share, set()
            self._backers[item].add(speaker)
        told = complement = merged = None
        if len(shares) == len(self.counts):
            told = self._split(shares)
        else:
            if said.complement is not None:
                complement = self._split(self._first(speaker, dict(enumerate(said.complement))))
            if len(self._table) == len(self.counts):
                merged = self._split(self._table)
        one_sided = len(said.sides) == 1
        others = self._table.keys() - shares.keys()
        return _Offer(
            speaker=speaker,
            told=told,
            complement=complement,
            merged=merged,
            named=len(shares),
            stood=all(len(self._backers[item]) == 2 for item in others),
            fresh=self.mentioned <= shares.keys(),
            one_sided=one_sided,
            doubtful=said.doubtful
            or message.unclear
            or guessed is None
            or (guessed and one_sided and told is not None),
            guessed=bool(guessed),
        )

    def _split(self, shares: Mapping[int, int]) -> Split:
        return tuple(shares[item] for item in range(len(self.counts)))

    def _weigh(self, offer: _Offer, said: Proposal, *, repeats: bool) -> None:
        """Whether an offer says again what the other offered, or what was agreed.

        Args:
            offer: The offer.
            said: What it was read from.
            repeats: Whether it can be a repetition. "How about just the ball?" is something else
                than the split that it would fit.
        """
        shares = self._first(offer.speaker, said.share)
        sure = bool(shares) and repeats
        before, self._offer, self.broken_off = self._offer, offer, False
        if sure and before is not None and before.speaker != offer.speaker and before.fits(shares):
            base = before
        elif sure and self._agreed is not None and self._agreed.fits(shares):
            base = self._agreed
        else:
            self._agreed = None
            return
        self._agreed = self._offer = offer if offer.told is not None else base.narrowed(shares)
        self._confirmed = False
