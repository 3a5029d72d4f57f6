"""Players of the donation family: one who asks, and one who gives."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from sotopia_gym.envs.dialogue import Action
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.families.amounts import AMOUNT, NUMBER, value
from sotopia_gym.tasks.families.base import Script, Temperament
from sotopia_gym.tasks.families.donation_reading import (
    Period,
    Statement,
    follow,
    read_asker,
    read_giver,
)
from sotopia_gym.tasks.families.price import money

Kind = Literal["donation", "loan"]

SUFFIXES: Final[dict[Period, str]] = {"once": "", "day": " a day", "month": " a month"}
"""What follows an amount of each period."""


def rounded(amount: float) -> float:
    """To the steps in which people give."""
    step = next(step for below, step in _STEPS if amount < below)
    return float(max(step, round(amount / step) * step))


_STEPS: Final = ((20, 1), (150, 5), (500, 10), (float("inf"), 25))


_REQUEST: Final = re.compile(
    r"\ba (?:donation to|(?P<loan>loan towards)) (?P<matter>[^.,:;]+)[.,:;]"
)
_HOPE: Final = re.compile(rf"\bhope for(?: is)? \$({NUMBER})")
_LEAST: Final = re.compile(rf"\bless than \$({NUMBER})", re.I)
_PLANNED: Final = re.compile(rf"\bcame prepared to (?:give|lend) (?:nothing|\$({NUMBER}))")
_LIMIT: Final = re.compile(rf"\bup to \$({NUMBER})", re.I)
_MONTHLY: Final = re.compile(rf"\$(?:{NUMBER}) a month")
# What an asker says that it needs at least.
_CLAIM: Final = re.compile(
    rf"\b(?:(?:less|lower|fewer) than|under|below|at least|minimum (?:of|is)) (?:{AMOUNT.pattern})",
    re.I,
)
_TOPIC: Final = re.compile(
    r"\b(?:donat\w+|loan|lend|borrow|give|support|help|contribut\w+|money|spare|chip in|collect\w*"
    r"|raising|gift|pledge|dollars?)\b|\$",
    re.I,
)


def player(brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
    """The player in the role that the goal in ``brief`` describes; None if it describes none."""
    request = _REQUEST.search(brief.goal)
    if request is None or len(brief.others) != 1:
        return None
    lines = _Lines(
        kind="loan" if request["loan"] else "donation",
        matter=request["matter"],
        period="month" if _MONTHLY.search(brief.goal) else "once",
        brief=brief,
        rng=rng,
    )
    hope, planned, limit = (p.search(brief.goal) for p in (_HOPE, _PLANNED, _LIMIT))
    if hope is not None:
        least = _LEAST.search(brief.goal)
        return _Asker(lines, _number(hope[1]), _number(least[1]) if least else 0.0, temperament)
    if planned is not None and limit is not None:
        prepared = _number(planned[1]) if planned[1] else 0.0
        return _Giver(lines, prepared, _number(limit[1]), temperament)
    return None


def _number(digits: str) -> float:
    return float(digits.replace(",", ""))


@dataclass(slots=True)
class _Lines:
    """What both players know and how they speak: no line twice in a row."""

    kind: Kind
    matter: str
    period: Period
    brief: Brief
    rng: random.Random
    last: str = ""

    @property
    def detail(self) -> str:
        """The last sentence of the scene, which tells of the matter."""
        return re.split(r"(?<=[.!?])\s+", self.brief.scene.strip())[-1]

    def say(self, templates: Sequence[str], amount: float | None = None, **more: float) -> Action:
        """One of the templates, filled in."""
        lend = self.kind == "loan"
        sums = {"amount": amount or 0.0, **more}
        told = {name: money(sum_) + SUFFIXES[self.period] for name, sum_ in sums.items()}
        self.last = self.rng.choice([t for t in templates if t != self.last])
        words = self.last.format(
            matter=self.matter,
            detail=self.detail,
            name=self.brief.others[0].split()[0],
            give="lend you" if lend else "give",
            lend_me="lend me" if lend else "give",
            **told,
        )
        return Action("speak", words[0].upper() + words[1:])

    def heard(self, utterances: Sequence[Utterance], *, giver: bool) -> list[Statement]:
        """The statements, as one who is or is not the giver reads them."""
        statements = []
        for u in utterances:
            if u.action_type == "speak":
                by_giver = (u.name == self.brief.name) == giver
                read = read_giver if by_giver else read_asker
                statements.append(Statement(u.turn, by_giver, read(u.argument, self.period)))
        return statements


class _Asker(Script):
    """Asks for what it hopes for, and then for less, as long as that moves the giver."""

    # temperament: share of the target asked for first; how far each further ask comes down
    # towards the pledge; share of the target that contents it; asks without effect before it stops
    _STYLES: Final[dict[Temperament, tuple[float, float, float, int]]] = {
        "expert": (1.0, 0.2, 1.0, 2),
        "fair": (0.9, 0.4, 0.75, 2),
        "generous": (0.75, 0.5, 0.5, 1),
        "firm": (1.0, 0.1, 0.9, 2),
        "stubborn": (1.0, 0.05, 1.0, 3),
    }
    _OPENINGS: Final[dict[Kind, tuple[str, ...]]] = {
        "donation": (
            "Hello {name}, I am collecting for {matter}. {detail} Could you give {amount}?",
            "{name}, I have come to you about {matter}. {detail} Would you donate {amount}?",
            "May I tell you about {matter}? {detail} I would like to ask you for {amount}.",
            "{name}, you may have heard of {matter}. {detail} Would {amount} be possible?",
            "It is about {matter}, {name}. {detail} Might you contribute {amount}?",
        ),
        "loan": (
            "{name}, this is not easy for me: it is about {matter}. {detail} Could you lend me "
            "{amount}?",
            "I need your help with {matter}, {name}. {detail} May I borrow {amount} from you?",
            "{name}, I am a little short, and the reason is {matter}. {detail} Would you lend me "
            "{amount}?",
            "May I speak to you about {matter}? {detail} I would like to ask you for a loan of "
            "{amount}.",
        ),
    }
    _ASKS: Final[dict[Kind, tuple[str, ...]]] = {
        "donation": (
            "It would do a great deal of good, {name}. Could you manage {amount}?",
            "{detail} That is why I ask. Would {amount} be possible?",
            "I would not ask for myself. Might you give {amount} for {matter}?",
            "Perhaps a little less suits you better. Could you give {amount}?",
        ),
        "loan": (
            "You would have it back before long, {name}. Could you lend me {amount}?",
            "{detail} That is why I ask. Would {amount} be possible?",
            "I keep my word in such things. Could you manage {amount}?",
            "Perhaps a smaller loan suits you better. Might you lend me {amount}?",
        ),
    }
    _HIGHER: Final = (
        "That is kind of you, {name}. Could you make it {amount}?",
        "Thank you, that is a good start. Would {amount} be possible?",
        "You are generous, and I hardly dare to ask. Could you go to {amount}?",
        "Thank you for that. With a little more we would be nearly there. Might you {lend_me} "
        "{amount}?",
    )
    _TOO_LITTLE: Final = (
        "That is kind of you, {name}, but less than {least} would not help. Could you make it "
        "{amount}?",
        "Thank you. Sadly, with less than {least} it cannot be done at all. Would {amount} be "
        "possible?",
        "I am touched, and I have to be frank: less than {least} is of no use here. Could you "
        "{lend_me} {amount}?",
    )
    _THANKS: Final = (
        "Thank you, {name}. I am very grateful for the {pledge}.",
        "{pledge} is a real help, {name}. Thank you with all my heart.",
        "That is wonderful, {name}. I will not forget the {pledge}.",
        "Thank you so much. {pledge} will be put to good use.",
    )
    _FAREWELLS: Final = (
        "I understand, {name}. Thank you for hearing me out.",
        "That is quite all right, {name}. It was good to talk to you.",
        "Thank you for your time, {name}. There are no hard feelings.",
    )

    def __init__(
        self, lines: _Lines, target: float, minimum: float, temperament: Temperament
    ) -> None:
        first, self._step, content, self._patience = self._STYLES[temperament]
        self._lines, self._target, self._minimum = lines, target, minimum
        self._content = max(minimum, content * target)
        self._first = max(minimum, rounded(first * target))
        self._last: float | None = None
        self._seen: float | None = None
        self._vain = 0
        self._told = False
        self._done = False

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        if self._done:
            return Action("leave")
        statements = self._lines.heard(utterances, giver=False)
        pledge = follow(statements).pledge
        answers = [s.said for s in statements if s.by_giver]
        self._vain = 0 if pledge != self._seen else self._vain + (self._last is not None)
        self._seen = pledge
        refused = bool(answers) and (answers[-1].withdraws or answers[-1].declines)
        ask = self._next(pledge)
        # The thanks need a turn, and the last answer of the other another.
        late = turn >= self._lines.brief.max_turns - 3
        if late or self._stop(pledge, ask, refused=refused):
            self._done = True
            if pledge is not None and pledge >= self._minimum:
                return self._lines.say(self._THANKS, pledge=pledge)
            return self._lines.say(self._FAREWELLS)
        opening, self._last = self._last is None, ask
        kind = self._lines.kind
        if pledge is not None and pledge < self._minimum:
            self._told = True
            return self._lines.say(self._TOO_LITTLE, ask, least=self._minimum)
        if pledge is not None:
            return self._lines.say(self._HIGHER, ask)
        return self._lines.say((self._OPENINGS if opening else self._ASKS)[kind], ask)

    def _stop(self, pledge: float | None, ask: float, *, refused: bool) -> bool:
        if pledge is not None and (pledge >= self._content or ask <= pledge):
            return True
        cornered = refused and (self._told or (self._last or 0.0) <= self._minimum)
        return cornered or self._vain >= self._patience

    def _next(self, pledge: float | None) -> float:
        if self._last is None:
            return self._first
        floor = max(pledge or 0.0, self._minimum)
        lower = self._last - self._step * (self._last - floor)
        return max(self._minimum, rounded(lower))


class _Giver(Script):
    """Gives what it planned when it is asked; more as time passes, if it is of that sort.

    It gives more only to a partner that asks for less than before (reciprocal concessions,
    Cialdini et al. 1975). A partner that says how much it needs at least is believed, once: the
    giver then gives that, or, where it is too much, nothing.
    """

    # temperament: what it gives at first and at last, where 0 is nothing, 1 what it planned and
    # 2 its limit; beta of the concession; the most it gives to one who needs it
    _STYLES: Final[dict[Temperament, tuple[float, float, float, float]]] = {
        "expert": (1.0, 1.0, 1.0, 2.0),
        "fair": (0.8, 1.4, 1.0, 1.8),
        "generous": (1.0, 1.8, 2.0, 2.0),
        "firm": (0.6, 1.0, 0.5, 1.5),
        "stubborn": (0.4, 0.8, 0.3, 1.0),
    }
    _GREETINGS: Final = (
        "Hello {name}, how can I help?",
        "Good to see you, {name}. What is on your mind?",
        "{name}, you look as though you had something to ask.",
        "I have a few minutes, {name}. What is it about?",
    )
    _PLEDGES: Final[dict[Kind, tuple[str, ...]]] = {
        "donation": (
            "That sounds worthwhile to me, {name}. Put me down for {amount}.",
            "I like what you say about {matter}. I will gladly give {amount}.",
            "You have come to the right person. I will donate {amount}.",
            "Thank you for telling me about {matter}. I can give {amount}.",
            "Count me in for {amount}, {name}.",
        ),
        "loan": (
            "I am glad that you came to me, {name}. I can lend you {amount}.",
            "I know how that is. You can have {amount} from me.",
            "So it is about {matter}. I will lend you {amount}.",
            "Of course I know what it is like to be short. You can borrow {amount} from me.",
        ),
    }
    _YESES: Final = (
        "Yes, {name}, I will {give} {amount}.",
        "All right, {amount} it is.",
        "Gladly. I will {give} {amount}.",
        "That is within my means. I can {give} {amount}.",
    )
    _RAISES: Final = (
        "You have a point, {name}. I will make it {amount}.",
        "I had not thought to go so far, but you have moved me. I will {give} {amount}.",
        "Since it means so much to you, I can go to {amount}.",
        "You plead your case well. I will raise it to {amount}.",
    )
    _NEEDED: Final = (
        "I see that it takes {amount} to be of use. Then I will {give} {amount}.",
        "In that case I will make it {amount}, {name}, so that it does some good.",
        "There is no point in doing it by halves. I will {give} {amount}.",
    )
    _STAYS: Final = (
        "I wish that I had more to spare, {name}. I will stay with {amount}.",
        "I understand, and still I will leave it at {amount}.",
        "Thank you for asking so openly. My answer is {amount}, as before.",
        "My budget is what it is, {name}. I can {give} {amount}.",
    )
    _REFUSALS: Final = (
        "I am sorry, {name}, but that is beyond my means. I would rather not {give} a sum that "
        "helps nobody.",
        "That is more than I have to spare, {name}, so I have to decline. I hope that you find it "
        "elsewhere.",
        "I wish you luck, {name}, truly. As it is beyond me, I will have to pass.",
    )

    def __init__(
        self, lines: _Lines, planned: float, limit: float, temperament: Temperament
    ) -> None:
        self._lines, self._limit = lines, limit
        self._planned = planned or limit / 5
        first, last, self._beta, most = self._STYLES[temperament]
        self._first, self._final, self._most = first, last, self._sum(most)
        self._greeted = self._stays = 0
        self._refused = False

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        statements = self._lines.heard(utterances, giver=True)
        now = follow(statements)
        theirs = [u for u in utterances if u.name != self._lines.brief.name]
        spoken = [u.argument for u in theirs if u.action_type == "speak"]
        if now.pledge is not None and not now.pressed:
            return Action("leave")
        if not any(_TOPIC.search(text) for text in spoken):
            self._greeted += 1
            return self._lines.say(self._GREETINGS) if self._greeted <= 3 else Action("leave")
        asks = [s.said.amount for s in statements if not s.by_giver and s.said.amount is not None]
        yields = not asks or all(one > other for one, other in list(pairwise(asks))[-1:])
        aim = self._aim(turn) if now.pledge is None or yields else now.pledge
        claim = self._claim(spoken)
        if claim > aim and (now.ask is None or now.ask >= claim):
            if claim > self._most:
                return self._refuse()
            aim = claim
        amount = min(aim, now.ask) if now.ask else aim
        if now.pledge is None:
            lines = self._YESES if amount == now.ask else self._PLEDGES[self._lines.kind]
        elif amount > now.pledge:
            lines = self._NEEDED if amount == claim else self._RAISES
        else:
            amount, lines = now.pledge, self._STAYS
            self._stays += 1
            if self._stays > 2:
                return Action("leave")
        return self._lines.say(lines, amount)

    def _refuse(self) -> Action:
        if self._refused:
            return Action("leave")
        self._refused = True
        return self._lines.say(self._REFUSALS)

    def _claim(self, spoken: Sequence[str]) -> float:
        claims = (match for text in spoken for match in _CLAIM.finditer(text))
        first = next(claims, None)
        return value(first) if first else 0.0

    def _aim(self, turn: int) -> float:
        passed = min(1.0, turn / max(1, self._lines.brief.max_turns - 4))
        part = passed ** (1 / self._beta)
        return min(
            self._limit, rounded(self._sum(self._first + part * (self._final - self._first)))
        )

    def _sum(self, level: float) -> float:
        if level <= 1:
            return level * self._planned
        return self._planned + (level - 1) * (self._limit - self._planned)
