"""Division of items: two people split several kinds of things, or get nothing.

Source of the task: Deal or No Deal (Lewis et al. 2017, arXiv 1706.05125), ten scenarios of which
are in SOTOPIA's official suite.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.base import (
    Family,
    Outcome,
    Score,
    Scoring,
    Script,
    Split,
    Temperament,
    draw_characters,
    read_spec,
    require_read,
    said_to_all,
)
from sotopia_gym.tasks.families.negotiation import Reading, Statement
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task


class Item(BaseModel):
    """One kind of thing to divide.

    Attributes:
        singular: Its name, e.g. ``"camp stove"``.
        plural: Its name in the plural.
        count: How many there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    singular: str
    plural: str
    count: PositiveInt

    def counted(self, count: int) -> str:
        """``"1 camp stove"``, ``"3 camp stoves"``."""
        return f"{count} {self.singular if count == 1 else self.plural}"


class DivisionSpec(BaseModel):
    """Ground truth of a division task.

    Attributes:
        items: What there is to divide.
        values: For each of the two agents the points that one of each item is worth to it, in
            the order of ``items``: at least 0, and not all 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["division"] = "division"
    items: tuple[Item, ...]
    values: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _complete(self) -> DivisionSpec:
        if not self.items:
            raise ValueError("there must be something to divide")
        if len(self.values) != 2:
            raise ValueError(f"two agents divide, got values for {sorted(self.values)}")
        for agent, values in self.values.items():
            if len(values) != len(self.items) or min(values) < 0 or max(values) <= 0:
                raise ValueError(
                    f"{agent} needs {len(self.items)} values of at least 0, not all 0; got {values}"
                )
        return self

    @property
    def counts(self) -> tuple[int, ...]:
        """How many there are of each item."""
        return tuple(item.count for item in self.items)

    def points(self, agent: str, share: Sequence[int]) -> float:
        """What ``share`` (a count of each item) is worth to ``agent``."""
        return float(sum(n * v for n, v in zip(share, self.values[agent], strict=True)))

    def goal(self, agent: str, share: Sequence[int]) -> float:
        """Goal score: ``10 * points(share) / points(everything)``, from 0 to 10."""
        return 10 * self.points(agent, share) / self.points(agent, self.counts)

    def possible(self, shares: Mapping[str, Sequence[int]]) -> bool:
        """Whether the two shares together are exactly what there is."""
        if shares.keys() != self.values.keys():
            return False
        if any(len(share) != len(self.items) for share in shares.values()):
            return False
        totals = tuple(map(sum, zip(*shares.values(), strict=True)))
        return totals == self.counts and all(n >= 0 for s in shares.values() for n in s)

    def pareto_optimal(self, shares: Mapping[str, Sequence[int]]) -> bool:
        """Whether no other split is worth more to one and no less to the other."""
        one, other = self.values
        had = self.points(one, shares[one]), self.points(other, shares[other])
        for mine in splits(self.counts):
            got = self.points(one, mine), self.points(other, rest(self.counts, mine))
            if got[0] >= had[0] and got[1] >= had[1] and got != had:
                return False
        return True


class DivisionFamily(Family):
    """Dividing several kinds of items between two people."""

    name = "division"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"division-{self.version}-{split}-{seed}")
        setting = rng.choice(load_content("division", split)["settings"])
        relationship = RelationshipType[rng.choice(setting["relationships"]).upper()]
        kinds = rng.sample(setting["items"], rng.choice((3, 3, 3, 4)))
        items = tuple(Item(**kind, count=rng.choice((1, 1, 2, 2, 3, 4))) for kind in kinds)
        values = {agent: _draw_values(items, rng) for agent in ("agent_0", "agent_1")}
        while values["agent_0"] == values["agent_1"]:
            values["agent_1"] = _draw_values(items, rng)
        reasons = rng.sample(setting["reasons"], 2)
        task_id = f"division-v{self.version}-{split}-{seed}"
        spec = DivisionSpec(items=items, values=values)
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"division: {setting['id'].replace('-', ' ')}",
                source="sotopia_gym division family",
                context=setting["scene"].format(items=_listed([i.counted(i.count) for i in items])),
                goals=tuple(
                    _goal(items, points, reason, rng)
                    for points, reason in zip(values.values(), reasons, strict=True)
                ),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(spec.model_dump(mode="json")),
            ),
            characters=draw_characters(load_cast(split), relationship, rng),
        )

    def check(self, task: Task) -> None:
        division_spec(task)

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """The split agreed: :mod:`.negotiation` has the rule, :func:`read_statement` the offers.

        Only splits that give away every item exactly once are offers, so that an impossible one
        can never be agreed on.
        """
        spec = division_spec(task)
        one, other = spec.values
        standing = negotiation.follow(
            Statement(e.agent, e.turn, _as_share_of(one, e.agent, e.action.argument, spec.items))
            for e in said_to_all(events, spec.values)
        )
        if standing.agreement is None:
            return Outcome(family=self.name, status="no-agreement")
        share = standing.agreement.terms
        return Outcome(
            family=self.name,
            status="agreement",
            terms={"shares": {one: list(share), other: list(rest(spec.counts, share))}},
            turn=standing.agreement.turn,
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`DivisionSpec.goal`; no agreement and impossible splits are 0 for both.

        A rational partner is no worse off than without an agreement even with nothing, so the
        ceiling is everything and ``normalised`` is ``goal / 10``.
        """
        require_read(outcome, self.name)
        spec = division_spec(task)
        shares = outcome.terms.get("shares", {})
        if not outcome.agreed or not spec.possible(shares):
            return Scoring({agent: Score(0.0, 0.0) for agent in spec.values}, 0.0, False)
        goals = {agent: spec.goal(agent, shares[agent]) for agent in spec.values}
        return Scoring(
            scores={agent: Score(goal, goal / 10) for agent, goal in goals.items()},
            surplus=sum(goals.values()),
            pareto_optimal=spec.pareto_optimal(shares),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        items = items_in(brief.scene, brief.goal) if _POINTS.search(brief.goal) else []
        shares = math.prod(item.count + 1 for item, _ in items)
        if len(items) < 2 or shares > _MOST_SHARES:
            return None
        return _Divider(brief, items, temperament=temperament, rng=rng)


def division_spec(task: Task) -> DivisionSpec:
    """The division ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "division", DivisionSpec)
    if not spec.values.keys() <= set(task.agents):
        raise TaskError(f"task {task.task_id}: those who divide must be among {task.agents}.")
    return spec


def splits(counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Every share that one side can have of these counts."""
    return list(itertools.product(*(range(count + 1) for count in counts)))


def rest(counts: Sequence[int], share: Sequence[int]) -> tuple[int, ...]:
    """What is left of ``counts`` without ``share``."""
    return tuple(count - taken for count, taken in zip(counts, share, strict=True))


# --- generation -----------------------------------------------------------------------------

_GOALS: Final = (
    "Come away with as many points as you can. To you, {worth}. Without an agreement you get "
    "nothing.",
    "You want the share that is worth most to you: {worth}. If the two of you cannot agree, nobody "
    "gets anything.",
    "Divide the things so that your own points add up as high as possible, where {worth}. No "
    "agreement means no points.",
    "What counts is what the things are worth to you: {worth}. Get as much of that as you can; "
    "leave without an agreement and it is all lost.",
    "Make the most of the division for yourself. For you {worth}. The other values things "
    "differently, and with no agreement both go without.",
)


def _goal(items: Sequence[Item], values: Sequence[float], reason: str, rng: random.Random) -> str:
    worth = _listed(
        [
            f"the {item.plural} are worth {_points(value)} each"
            if item.count > 1
            else f"the {item.singular} is worth {_points(value)}"
            for item, value in zip(items, values, strict=True)
        ]
    )
    dearest = items[max(range(len(items)), key=lambda index: values[index])]
    text = rng.choice(_GOALS).format(worth=worth)
    private = reason.format(item=dearest.plural)
    return f"{text} (<extra_info>Extra information: {private}</extra_info>)"


def _draw_values(items: Sequence[Item], rng: random.Random) -> tuple[float, ...]:
    """Whole points from 0 to 8 with a clear favourite, so that there is something to trade."""
    while True:
        values = [rng.randint(0, 8) for _ in items]
        if max(values) >= 4 and sorted(values)[-2] >= 1 and len(set(values)) > 1:
            return tuple(float(value) for value in values)


def _points(value: float) -> str:
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]


# --- reading --------------------------------------------------------------------------------

_NUMBER_WORDS: Final = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"a": 1, "an": 1, "no": 0}
_SUBJECTS: Final = dict.fromkeys("i i'll i'd i've".split(), True) | dict.fromkeys(
    "you you'll you'd you've".split(), False
)
_OBJECTS: Final = {"me": True, "myself": True, "yourself": False}
_OTHERS: Final = frozenset("we we'll us they he she it he's she's".split())
_GIVING: Final = frozenset("give giving leave leaving let letting hand handing pass offer".split())
_TAKING: Final = frozenset(
    "take taking get getting have having keep keeping receive want grab claim".split()
)
_WISHING: Final = frozenset("i'd you'd would".split())
_TELLING: Final = frozenset("suggest suggesting propose proposing say think idea".split())
_REST: Final = (
    r"(?:the|all the) rest|everything else|what(?:'s| is) left"
    r"|the remaining (?:items|things|ones)|the remainder|all the others?"
)
_EVERYTHING: Final = (
    r"(?:everything|it all|all of (?:it|them))"
    r"(?=\s*(?:$|[.,!?;]|and\b|while\b|for\b|(?:goes )?to (?:me|you)\b|is (?:mine|yours)\b))"
)
_OWNER_AFTER: Final = (
    r"(?:\s(?:would |will |can |should )?(?:go(?:es)?|be|is|are))?\s(?:for|to)\s(?P<owner>me|you)\b"
    r"|\s(?:is|are|be)\s(?P<whose>mine|yours)\b"
)
# Where one of these is, the numbers do not say who gets how many.
_VAGUE: Final = re.compile(
    r"\b(?:each|apiece|(?:some|any)thing(?! ?:)|whatever|whichever|except|besides|apart from"
    r"|other than|excluding|minus|everything but|all but)\b"
)
_MENTION: Final = re.compile(
    r"\b(?:said|proposed|offered|suggested|asked|claimed|you (?:want me|say|propose|suggest|offer)"
    r"|your (?:offer|proposal|idea|split)|suggesting|saying"
    r"|(?: have|'ve) (?:taken|given|had|got|kept|left|liked|wanted|offered)"
    r"|instead of|rather than|earlier|last time|used to)\b"
)


def read_statement(text: str, items: Sequence[Item]) -> Reading[tuple[tuple[int, ...], ...]]:
    """What a statement means in a negotiation over ``items``.

    It is an offer if it says who gets every single item: both shares in numbers that add up to
    what there is ("I take 2 books and the ball, you get 1 book and both hats"), or one share and
    "the rest". Anything less, or more than there is, is no offer; nor is what only reports an
    offer or leaves a number open ("you said ...", "2 or 3 books", "one book each"). One side gets
    all only if that is said ("everything", or "nothing" for the other).

    Returns:
        A reading whose offer is (the speaker's share, the other's share).
    """
    stance: Reading[tuple[tuple[int, ...], ...]] = negotiation.read_stance(text)
    parts = _joined(negotiation.standing_clauses(text.lower().replace("’", "'")))
    telling = [index for index, clause in enumerate(parts) if _assignments(clause, items)]
    asks = any(negotiation.hedged(*parts[index : index + 2]) for index in telling)
    if asks and any(map(negotiation.rejected, parts[telling[-1] + 1 :])):
        return stance  # "You get the ball and I get the rest? That is unfair."
    shares = _read_shares(parts, items)
    if shares is None:
        # "Deal, I take the books" must not accept another split that is on the table.
        accepts = stance.accepts and not telling
        return Reading(accepts=accepts, rejects=stance.rejects, retracts=stance.retracts)
    return Reading(offer=shares, retracts=stance.retracts, asks=asks)


def _as_share_of(
    agent: str, speaker: str, text: str, items: Sequence[Item]
) -> Reading[tuple[int, ...]]:
    """The same with the offer told as one agent's share, whoever speaks."""
    reading = read_statement(text, items)
    offer = None if reading.offer is None else reading.offer[0 if speaker == agent else 1]
    return Reading(offer, reading.accepts, reading.rejects, reading.retracts, reading.asks)


def _joined(parts: Sequence[str]) -> list[str]:
    """The clauses, each with what led up to it before a colon, and "all" with its "but"."""
    joined: list[str] = []
    for part in parts:
        if joined and (
            joined[-1].endswith(":")
            or (part.startswith("but") and re.search(r"\b(?:all|everything)$", joined[-1]))
        ):
            joined[-1] += f" {part}"
        else:
            joined.append(part)
    return joined


def _read_shares(parts: Sequence[str], items: Sequence[Item]) -> tuple[tuple[int, ...], ...] | None:
    counts = tuple(item.count for item in items)
    taken: dict[bool, dict[int, int]] = {True: {}, False: {}}  # mine?, item index, count
    named: set[bool] = set()
    whole: dict[str, set[bool]] = {"rest": set(), "everything": set(), "nothing": set()}
    for part in parts:
        assigned = _assignments(part, items)
        if assigned and _VAGUE.search(part):
            return None
        for mine, what, count in assigned:
            named.add(mine)
            if isinstance(what, str):
                whole[what].add(mine)
            elif count is None or taken[mine].get(what, count) != count:
                return None  # "some books", or two different numbers: not readable
            else:
                taken[mine][what] = count
    rest_to = whole["rest"] | whole["everything"]
    if len(rest_to) == 2 or (len(named) < 2 and not whole["everything"]):
        return None
    if any(any(taken[not mine].values()) for mine in whole["everything"]):
        return None  # "You get the ball, I get everything"
    shares = {owner: [taken[owner].get(i, 0) for i in range(len(items))] for owner in taken}
    for owner in rest_to:
        shares[owner] = [
            max(n, count - o)
            for n, o, count in zip(shares[owner], shares[not owner], counts, strict=True)
        ]
    if tuple(map(sum, zip(shares[True], shares[False], strict=True))) != counts:
        return None
    return tuple(shares[True]), tuple(shares[False])


@dataclass(slots=True)
class _Token:
    """A word, or something to give away.

    Attributes:
        word: The word, or ``""``.
        what: Index of the item, ``"rest"``, ``"everything"`` or ``"nothing"``; None for a word.
        count: How many of the item, or None if that is left open.
        owner: Whose it is (the speaker's?), once that is known.
    """

    word: str = ""
    what: int | str | None = None
    count: int | None = None
    owner: bool | None = None


def _assignments(clause: str, items: Sequence[Item]) -> list[tuple[bool, int | str, int | None]]:
    """Who gets what by ``clause``: (the speaker?, what, how many)."""
    plain = re.sub(r"\b(?:no|none|nothing)\b", "", clause)
    if negotiation.negated(plain) or _MENTION.search(clause):
        return []
    subject: bool | None = None  # who would "keep" or "take"
    owner: bool | None = None  # who gets what is named next
    giving = moving = False
    listed: list[_Token] = []  # what was named since the last word on who gets it
    tokens = _tokens(clause, items)
    for before, token in zip([_Token(), *tokens], tokens, strict=False):
        word = token.word
        if token.what is not None and token.owner is not None:
            # "... for me" is said of all in the list; if half of it was another's, it is unclear.
            for earlier in listed:
                earlier.count = earlier.count if earlier.owner is None else None
                earlier.owner = token.owner
            listed, owner = [], None
        elif token.what is not None:
            token.owner = owner if moving else None
            listed.append(token)
        elif word in _SUBJECTS or word in _OBJECTS:
            owner, listed = (_SUBJECTS | _OBJECTS)[word], []
            if word in _SUBJECTS and not giving:
                subject = owner
            giving = False
        elif word in _OTHERS:
            subject = owner = None
        elif word in _GIVING:
            owner, listed, giving = None, [], True
            moving = moving or not word.startswith("let")
        elif word in _TAKING or (word in ("like", "love") and before.word in _WISHING):
            listed, moving, giving = [], True, False
            if before.word in ("and", "then", "while"):
                owner = subject
        elif word in _TELLING or word == ":":
            moving = word == ":" and (before.word in _TAKING or before.word in ("i", "you", "me"))
            owner = owner if moving else None
    return [
        (token.owner, token.what, token.count)
        for token in tokens
        if token.what is not None and token.owner is not None
    ]


def _tokens(clause: str, items: Sequence[Item]) -> list[_Token]:
    """The words of ``clause`` and what it names to give away, with owners named right after."""
    tokens: list[_Token] = []
    position = 0
    for match in _named(items).finditer(clause):
        before = clause[position : match.start()]
        tokens.extend(_Token(word) for word in re.findall(r"[a-z']+|:", before))
        whose = match["owner"] or match["whose"]
        token = _Token(owner=None if whose is None else whose in ("me", "mine"))
        if match["whole"]:
            kinds = ("rest", "everything", "nothing")
            token.what = next(kind for kind in kinds if match[kind])
        else:
            token.what = next(i for i in range(len(items)) if match[f"i{i}"])
            singular = match[f"one{token.what}"] is not None
            if not _OPEN_NUMBER.search(before):
                token.count = _count(match["count"], items[token.what], singular=singular)
        tokens.append(token)
        position = match.end()
    tokens.extend(_Token(word) for word in re.findall(r"[a-z']+|:", clause[position:]))
    return tokens


_NUMBERS: Final = rf"(?:\d+|{'|'.join(sorted(_NUMBER_WORDS, key=len, reverse=True))})\b"
# Before an item's own number: "2 or 3 books", "2-3 books", "at least 2 books", "2 more books".
_OPEN_NUMBER: Final = re.compile(
    r"(?:\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten|few|couple|several|pair|least|most"
    r"|up|than|half|some|any|remaining|other|another)(?:\s+[a-z]+)?[\s./–-]*|[-−])$"
)


def _named(items: Sequence[Item]) -> re.Pattern[str]:
    nouns = "|".join(
        f"(?P<i{index}>{re.escape(item.plural)}|(?P<one{index}>{re.escape(item.singular)}))"
        for index, item in enumerate(items)
    )
    return re.compile(
        rf"(?:\b(?P<whole>(?P<rest>{_REST})|(?P<everything>{_EVERYTHING})|(?P<nothing>nothing))\b"
        rf"|(?P<count>(?:\b(?:all|both|none|half|some|any|most)\b\s*)?(?:\bof\b\s*)?"
        rf"(?:\b{_NUMBERS}\s(?:out\s)?of\s(?:the\s)?)?"
        rf"(?:\b(?:the|these|those|that|your|my)\b\s*)?(?:\b{_NUMBERS}\s*)?(?:\bof the\b\s*)?)"
        rf"\b(?:{nouns})\b)(?:{_OWNER_AFTER})?"
    )


def _count(words: str, item: Item, *, singular: bool) -> int | None:
    """The number that the words before an item mean, or None if they leave it open."""
    parts = words.split()
    numbers = [int(p) if p.isdigit() else _NUMBER_WORDS.get(p) for p in parts]
    number = next((n for n in numbers if n is not None), None)
    if any(part in ("half", "some", "any", "most") for part in parts):
        return None
    if number is not None:
        return number
    if singular and item.count > 1:
        return None  # "the lamp" of several lamps: which?
    if "none" in parts:
        return 0
    if "both" in parts:
        return 2 if item.count == 2 else None
    return item.count if not parts or "all" in parts or "the" in parts else None


# --- playing --------------------------------------------------------------------------------


_POINTS: Final = re.compile(r"\d points?\b")
_MOST_SHARES: Final = 10_000
"""Shares that one side can have; a script weighs each of them."""


def items_in(scene: str, goal: str) -> list[tuple[Item, float]]:
    """The items that a scene counts and a goal values, with what one of each is worth.

    It reads the texts of this family, and those of SOTOPIA's Deal or No Deal scenarios.
    """
    found: list[tuple[Item, float]] = []
    goal = goal.lower()
    for match in re.finditer(r"\b(\d+) ((?:[a-z][a-z'-]*\s?){1,3})", scene):
        count, words = int(match[1]), match[2].split()
        for length in range(len(words), 0, -1):
            item = _item(" ".join(words[:length]), count)
            forms = f"{re.escape(item.plural)}|{re.escape(item.singular)}"
            worth = re.search(rf"\b(?:{forms})\b[^.,;:\d]{{0,25}}?(\d+)", goal)
            if worth:
                found.append((item, float(worth[1])))
                break
    return found


def _item(noun: str, count: int) -> Item:
    for split in ("train", "heldout"):
        for setting in load_content("division", split)["settings"]:
            for kind in setting["items"]:
                if noun in kind.values():
                    return Item(**kind, count=count)
    stem = noun.removesuffix("s") if count > 1 else noun
    return Item(singular=stem, plural=noun if count > 1 else f"{noun}s", count=count)


class _Divider(Script):
    """Asks for its best shares first and lowers its aspiration as time passes.

    Of the shares that are good enough it proposes the one that leaves the other most of what it
    has asked for (the trade-off tactic of Faratin, Sierra and Jennings 2002).
    """

    # temperament: share of all points to aspire to at first, at last, and beta of the concession
    _STYLES: Final[dict[Temperament, tuple[float, float, float]]] = {
        "expert": (0.95, 0.45, 0.8),
        "fair": (0.8, 0.45, 1.0),
        "generous": (0.7, 0.3, 2.0),
        "firm": (0.95, 0.55, 0.4),
        "stubborn": (1.0, 0.75, 0.2),
    }
    _PROPOSALS: Final = (
        "How about this: {split}?",
        "I have a proposal: {split}.",
        "Let me suggest something: {split}.",
        "What would you say to this? {split}.",
        "Could we do it like this: {split}?",
    )
    _ACCEPTANCES: Final = (
        "Agreed. Then {split}.",
        "Deal. So {split}.",
        "That works for me: {split}.",
    )

    def __init__(
        self,
        brief: Brief,
        worth: Sequence[tuple[Item, float]],
        *,
        temperament: Temperament,
        rng: random.Random,
    ) -> None:
        self._first, self._last, self._beta = self._STYLES[temperament]
        self._brief, self._rng = brief, rng
        self._items = tuple(item for item, _ in worth)
        self._counts = tuple(item.count for item in self._items)
        values = [value for _, value in worth]
        everything = sum(n * v for n, v in zip(self._counts, values, strict=True)) or 1.0
        self._worth = {
            share: sum(n * v for n, v in zip(share, values, strict=True)) / everything
            for share in splits(self._counts)
        }

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        me = self._brief.name
        statements = [
            Statement(u.name, u.turn, _as_share_of(me, u.name, u.argument, self._items))
            for u in utterances
            if u.action_type == "speak"
        ]
        standing = negotiation.follow(statements)
        if standing.agreement is not None:
            return Action("leave")
        aspiration = self._aspiration(turn)
        theirs = [share for name, share in standing.offers.items() if name != me]
        if theirs and self._worth[theirs[-1]] >= aspiration:
            return self._say(self._ACCEPTANCES, theirs[-1])
        return self._say(self._PROPOSALS, self._propose(aspiration, statements))

    def _aspiration(self, turn: int) -> float:
        passed = min(1.0, turn / max(1, self._brief.max_turns - 4))
        return self._first + float(passed ** (1 / self._beta)) * (self._last - self._first)

    def _propose(
        self, aspiration: float, statements: Sequence[Statement[tuple[int, ...]]]
    ) -> tuple[int, ...]:
        wanted = [0.0] * len(self._counts)
        for statement in statements:
            offer = statement.reading.offer
            if offer is not None and statement.speaker != self._brief.name:
                wanted = [
                    w + left for w, left in zip(wanted, rest(self._counts, offer), strict=True)
                ]
        good = [share for share, worth in self._worth.items() if worth >= aspiration - 1e-9]
        # Most of what the other asked for, then most items at all, then what is best for oneself.
        return max(
            good,
            key=lambda share: (
                sum(w * n for w, n in zip(wanted, rest(self._counts, share), strict=True)),
                -sum(share),
                self._worth[share],
            ),
        )

    def _say(self, lines: Sequence[str], mine: tuple[int, ...]) -> Action:
        mine_told, yours_told = self._told(mine), self._told(rest(self._counts, mine))
        split = f"I take {mine_told} and you take {yours_told}"
        return Action("speak", self._rng.choice(lines).format(split=split))

    def _told(self, share: tuple[int, ...]) -> str:
        parts = [i.counted(n) for i, n in zip(self._items, share, strict=True) if n]
        return _listed(parts) if parts else "nothing"
