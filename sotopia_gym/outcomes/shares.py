"""The split that the claims of one message add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sotopia_gym.outcomes.claims import Claim, Message, Owner, Side


@dataclass(frozen=True, slots=True)
class Proposal:
    """The split that a message proposes, as far as it says.

    Attributes:
        share: Item to how many of it the speaker would get, for all items that it settles.
        open: Items that it names without settling how many.
        sides: Whose things it names.
        complement: What the speaker would get if all that is not named went to the one whose
            things are not named; None if something is left open or both are named.
        doubtful: Whether it says different things of one item, or does not add up.
        listed: Whether it only lists things, and who gets them was assumed.
    """

    share: dict[int, int]
    open: frozenset[int]
    sides: frozenset[Side]
    complement: tuple[int, ...] | None
    doubtful: bool
    listed: bool


def read_proposal(
    message: Message, counts: Sequence[int], unsaid: Side = "speaker"
) -> Proposal | None:
    """What the claims of a message add up to; None if they settle nothing and leave nothing open.

    Args:
        message: The claims.
        counts: How many there are of each item.
        unsaid: Who is meant where things are only listed.
    """
    ledger = _Ledger(counts)
    for claim in _telling(message.claims):
        ledger.enter(claim, unsaid)
    return ledger.proposal(listed=any(claim.owner == "unsaid" for claim in message.claims))


def _telling(claims: Sequence[Claim]) -> list[Claim]:
    """The claims without mentions of a mass noun that say less than a number elsewhere."""
    counted = {c.thing.item for c in claims if not c.thing.mass and c.thing.count is not None}
    return [
        claim
        for claim in claims
        if not claim.thing.mass
        or not (claim.thing.count is None or claim.weak or claim.thing.item in counted)
    ]


@dataclass(slots=True)
class _Ledger:
    """Who gets how many, while the claims of a message are read; later claims overrule earlier."""

    counts: Sequence[int]
    taken: dict[Side, dict[int, int]] = field(default_factory=lambda: {"speaker": {}, "other": {}})
    rest_to: Side | None = None
    open: set[int] = field(default_factory=set)
    remaining: set[int] = field(default_factory=set)
    sides: set[Side] = field(default_factory=set)
    doubtful: bool = False

    def enter(self, claim: Claim, unsaid: Side) -> None:
        thing = claim.thing
        owners = _sides(claim.owner, unsaid)
        self.sides.update(owners)
        self.doubtful = self.doubtful or (thing.mass and thing.count is not None)
        if thing.kind in ("rest", "everything", "nothing"):
            self._enter_whole(thing.kind, owners)
            return
        for item in range(len(self.counts)) if thing.item is None else (thing.item,):
            if thing.remaining:
                self.remaining.add(item)
            elif thing.count is None or thing.count > self.counts[item]:
                if not any(item in taken for taken in self.taken.values()):
                    self.open.add(item)
            else:
                for owner in owners:
                    self._take(owner, item, thing.count)

    def _enter_whole(self, kind: str, owners: Sequence[Side]) -> None:
        if len(owners) > 1 or (kind == "rest" and self.rest_to not in (None, owners[0])):
            self.doubtful = True
        elif kind == "rest":
            self.rest_to = owners[0]
        else:
            other: Side = "other" if owners[0] == "speaker" else "speaker"
            getter = owners[0] if kind == "everything" else other
            for item, total in enumerate(self.counts):
                self.taken[getter].setdefault(item, total)

    def _take(self, owner: Side, item: int, count: int) -> None:
        against = self.taken["other" if owner == "speaker" else "speaker"]
        self.doubtful = self.doubtful or self.taken[owner].get(item, count) != count
        self.taken[owner][item] = count
        if against.get(item, 0) + count > self.counts[item]:
            del against[item]
            self.doubtful = True
        self.open.discard(item)

    def proposal(self, *, listed: bool) -> Proposal | None:
        share: dict[int, int] = {}
        for item, total in enumerate(self.counts):
            mine, theirs = (self.taken[side].get(item) for side in ("speaker", "other"))
            if mine is not None and theirs is not None and mine + theirs != total:
                self.open.add(item)
            elif mine is not None:
                share[item] = mine
            elif theirs is not None:
                share[item] = total - theirs
        self.open |= self.remaining - share.keys()
        named = share.keys() | self.open
        if not named:
            return None
        doubtful = self.doubtful or self._half_told()
        complement = None
        if self.rest_to is not None:
            for item, total in enumerate(self.counts):
                if item not in named:
                    share[item] = total if self.rest_to == "speaker" else 0
        elif not self.open and len(self.sides) == 1:
            complement = tuple(
                share.get(item, total if "other" in self.sides else 0)
                for item, total in enumerate(self.counts)
            )
        return Proposal(
            share=share,
            open=frozenset(self.open),
            sides=frozenset(self.sides),
            complement=complement,
            doubtful=doubtful,
            listed=listed,
        )

    def _half_told(self) -> bool:
        """Whether both sides are told in numbers, and of some item only one side's part."""
        mine, theirs = self.taken["speaker"], self.taken["other"]
        if self.rest_to is not None or not mine.keys() & theirs.keys():
            return False
        return any(
            (mine | theirs)[item] < self.counts[item] for item in mine.keys() ^ theirs.keys()
        )


def _sides(owner: Owner | None, unsaid: Side) -> tuple[Side, ...]:
    if owner == "both":
        return ("speaker", "other")
    return ("other",) if (unsaid if owner == "unsaid" else owner) == "other" else ("speaker",)
