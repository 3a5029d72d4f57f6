"""Price bargaining: a buyer and a seller agree on the price of one good, or do not.

Source of the task: CraigslistBargain (He et al. 2018, arXiv 1808.09637), ten scenarios of which
are in SOTOPIA's official suite.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sotopia_gym.envs.dialogue import Action, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.amounts import AMOUNT, MONEY, NUMBER, TIME, UNREADABLE, value
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

NO_DEAL_GOAL: Final = 2.5
"""Goal score of both without a deal: utility -0.5, as in He et al. 2018."""


class PriceSpec(BaseModel):
    """Ground truth of a price task. Amounts are in dollars.

    Attributes:
        buyer: The agent that buys.
        seller: The agent that sells.
        buyer_target: The price the buyer hopes for.
        seller_target: The price the seller hopes for.
        listing: The asking price that both know, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["price"] = "price"
    buyer: str
    seller: str
    buyer_target: float = Field(gt=0)
    seller_target: float = Field(gt=0)
    listing: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _distinct(self) -> PriceSpec:
        if self.buyer == self.seller:
            raise ValueError("buyer and seller must be different agents")
        return self

    @property
    def half_width(self) -> float:
        """Half the distance of the targets, at least 5 % of the larger one (``h``)."""
        apart = abs(self.seller_target - self.buyer_target) / 2
        return max(apart, 0.05 * max(self.seller_target, self.buyer_target))

    def goal(self, agent: str, price: float) -> float:
        """Goal score of ``agent`` for a deal at ``price``.

        With half width ``h``, buyer target ``B`` and seller target ``S``, the utilities are
        ``u_seller = 1 + (price - S) / h`` and ``u_buyer = 1 + (B - price) / h`` (the linear
        utility of He et al. 2018: 1 at one's own target, 0 at the midpoint), and the goal score is
        ``clip(5 * (u + 1), 0, 10)``: 10 at one's own target, 5 at the midpoint of ordinary
        targets. Where the targets cross (``B > S``) both can have 10.
        """
        gain = price - self.seller_target if agent == self.seller else self.buyer_target - price
        utility = 1 + gain / self.half_width
        return min(10.0, max(0.0, 5 * (utility + 1)))

    def ceiling(self, agent: str) -> float:
        """The best goal score ``agent`` can have while the other is no worse off than without.

        The other is indifferent at utility -0.5, which is 1.5 half widths beyond its target.
        """
        if agent == self.seller:
            return self.goal(agent, self.buyer_target + 1.5 * self.half_width)
        return self.goal(agent, self.seller_target - 1.5 * self.half_width)

    def pareto_optimal(self, price: float) -> bool:
        """Whether no other price is better for one and worse for none."""
        h = self.half_width
        mine = self.goal(self.buyer, price), self.goal(self.seller, price)
        # Both scores are monotone and piecewise linear in the price, so that if any price
        # dominates, one of the corners does.
        corners = (
            self.buyer_target,
            self.buyer_target + 2 * h,
            self.seller_target,
            max(0.0, self.seller_target - 2 * h),
        )
        return not any(
            _dominates((self.goal(self.buyer, p), self.goal(self.seller, p)), mine) for p in corners
        )


class PriceFamily(Family):
    """Bargaining over the price of one good."""

    name = "price"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"price-{self.version}-{split}-{seed}")
        content = load_content("price", split)
        good = rng.choice(content["goods"])
        place = rng.choice(content["places"])
        relationship = RelationshipType[rng.choice(place["relationships"]).upper()]
        listing = _round_price(rng.uniform(*good["price"]))
        buyer_target, seller_target = _draw_targets(listing, rng)
        buyer_first = rng.random() < 0.5
        item = f"{good['article']} {good['noun']}"
        context = place["scene"].format(item=item, price=money(listing))
        goals = [
            _goal(_BUYER_GOALS, buyer_target, good["noun"], good["buyer_reason"], rng),
            _goal(_SELLER_GOALS, seller_target, good["noun"], good["seller_reason"], rng),
        ]
        roles = ("agent_0", "agent_1") if buyer_first else ("agent_1", "agent_0")
        task_id = f"price-v{self.version}-{split}-{seed}"
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"price: {good['noun']}",
                source="sotopia_gym price family",
                context=f"{context} {rng.choice(good['condition'])}",
                goals=tuple(goals if buyer_first else reversed(goals)),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(
                    PriceSpec(
                        buyer=roles[0],
                        seller=roles[1],
                        buyer_target=buyer_target,
                        seller_target=seller_target,
                        listing=listing,
                    ).model_dump()
                ),
            ),
            characters=draw_characters(load_cast(split), relationship, rng),
        )

    def check(self, task: Task) -> None:
        price_spec(task)

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """The price agreed: :mod:`.negotiation` has the rule, :func:`read_statement` the offers."""
        spec = price_spec(task)
        standing = negotiation.follow(
            Statement(e.agent, e.turn, read_statement(e.action.argument))
            for e in said_to_all(events, (spec.buyer, spec.seller))
        )
        if standing.agreement is None:
            return Outcome(family=self.name, status="no-agreement")
        return Outcome(
            family=self.name,
            status="agreement",
            terms={"price": standing.agreement.terms},
            turn=standing.agreement.turn,
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`PriceSpec.goal`; no deal is :data:`NO_DEAL_GOAL` for both.

        ``normalised`` is ``(goal - 2.5) / (ceiling - 2.5)``.
        """
        require_read(outcome, self.name)
        spec = price_spec(task)
        agents = (spec.buyer, spec.seller)
        if not outcome.agreed:
            return Scoring({a: Score(NO_DEAL_GOAL, 0.0) for a in agents}, 0.0, False)
        price = float(outcome.terms["price"])
        goals = {agent: spec.goal(agent, price) for agent in agents}
        return Scoring(
            scores={
                agent: Score(goal, (goal - NO_DEAL_GOAL) / (spec.ceiling(agent) - NO_DEAL_GOAL))
                for agent, goal in goals.items()
            },
            surplus=sum(goal - NO_DEAL_GOAL for goal in goals.values()),
            pareto_optimal=spec.pareto_optimal(price),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        told = role_and_target(brief.goal)
        if told is None:
            return None
        role, own = told
        listing = AMOUNT.search(brief.scene)
        return _Haggler(
            brief,
            role=role,
            target=own,
            listing=value(listing) if listing else own,
            temperament=temperament,
            rng=rng,
        )


def price_spec(task: Task) -> PriceSpec:
    """The price ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "price", PriceSpec)
    if not {spec.buyer, spec.seller} <= set(task.agents):
        raise TaskError(f"task {task.task_id}: buyer and seller must be among {task.agents}.")
    return spec


def money(amount: float) -> str:
    """``amount`` in dollars as people write it: ``$45``, ``$1,200``, ``$12.50``."""
    return f"${amount:,.2f}".removesuffix(".00")


# --- generation -----------------------------------------------------------------------------

_BUYER_GOALS: Final = (
    "You are the buyer of the {noun}. Your target price is {target}; every dollar above it hurts, "
    "every dollar below it is a gain.",
    "As the buyer, get the {noun} for as little as you can. You set yourself a target price of "
    "{target}. Walking away empty-handed is a poor result, but so is overpaying.",
    "You are the buyer and would like to leave with the {noun}, ideally at your target price of "
    "{target} or less.",
    "As the buyer of the {noun}, aim for a target price of {target}. The further above it you end, "
    "the worse for you; without a deal you have lost time for nothing.",
    "You are the buyer. What you had in mind for the {noun} is a target price of {target}: pay "
    "less and you can be proud of it, pay much more and you will regret it.",
    "Bring the {noun} home without spending too much: you are the buyer, with a target price of "
    "{target}.",
)
_SELLER_GOALS: Final = (
    "You are the seller of the {noun}. Your target price is {target}; every dollar below it hurts, "
    "every dollar above it is a gain.",
    "As the seller, get as much as you can for the {noun}. You set yourself a target price of "
    "{target}. Keeping it is a poor result, but so is giving it away.",
    "You are the seller and would like to part with the {noun}, ideally at your target price of "
    "{target} or more.",
    "As the seller of the {noun}, aim for a target price of {target}. The further below it you "
    "end, the worse for you; without a deal you have lost time for nothing.",
    "You are the seller. What you had in mind for the {noun} is a target price of {target}: get "
    "more and you can be proud of it, get much less and you will regret it.",
    "See the {noun} off without selling too cheap: you are the seller, with a target price of "
    "{target}.",
)


def _goal(
    templates: Sequence[str], target: float, noun: str, reasons: Sequence[str], rng: random.Random
) -> str:
    text = rng.choice(templates).format(noun=noun, target=money(target))
    return f"{text} (<extra_info>Extra information: {rng.choice(reasons)}</extra_info>)"


def _draw_targets(listing: float, rng: random.Random) -> tuple[float, float]:
    """Targets below the listing price, crossing (buyer above seller) in about one task in six."""
    while True:
        seller = _round_price(listing * rng.uniform(0.72, 1.0))
        share = rng.uniform(1.05, 1.25) if rng.random() < 1 / 6 else rng.uniform(0.55, 0.9)
        buyer = _round_price(min(seller * share, listing))
        if abs(seller - buyer) >= 0.04 * listing:
            return buyer, seller


def _round_price(amount: float) -> float:
    """To the steps in which people price things."""
    step = next(step for limit, step in _STEPS if amount < limit)
    return float(max(step, round(amount / step) * step))


_STEPS: Final = ((60, 1), (250, 5), (1000, 10), (4000, 50), (float("inf"), 100))


# --- reading --------------------------------------------------------------------------------

_BARE_AMOUNT: Final = re.compile(
    rf"(?:do|about|pay|offer|accept|say|take|for|give you"
    r"|(?:go|down|up|settle|agreed?|deal|sell it|buy it|sold|stay|drop|offer is) (?:at|to|on|with))"
    rf"\s(?P<b>{NUMBER})"
    r"(?=\s*(?:[.!?;,]?\s*$|[.!?;,]\s|and\b|it is\b|then\b|for it\b|for the\b))"
    r"|^(?:(?:ok(?:ay)?|deal|agreed|yes|yeah|sure|fine|alright|great|sold|good)\b[,.!]?\s)*"
    rf"(?P<a>{NUMBER})(?=[.!?]?\s*$|\s(?:it is|then)\b)",
    re.I,
)
# A statement that names one amount is an offer of it only together with words that propose.
_PROPOSAL: Final = re.compile(
    r"""\b(?:
        (?:my|final|best|last|lowest|highest|counter)[\s-]?(?:\w+\s)?(?:offer|bid|price)\b
      | i(?:['’]d|\ would|['’]ll|\ will|\ can|\ could|\ might|['’]m)\ (?:\w+\ ){0,3}?
          (?:offer|give|pay|take|do|go|let|sell|accept|buy|manage|stretch|part|asking|say|want|need
          |like|offering|come|drop|raise|lower)\b
      | i\ (?:offer|accept|propose|suggest|want|need|ask|say|agree)\b
      | (?:how|what)\ about\b | why\ (?:not|don['’]t\ we)\b
      | (?:would|will|could|can)\ you\ (?:\w+\ ){0,3}?
          (?:take|accept|do|consider|sell|go|pay|give|let|come|drop|lower|raise|buy|agree)\b
      | let['’]?s\ (?:say|do|call|make|settle|agree|meet|go)\b
      | (?:settle|meet|agree|agreed|deal|sold|done|shake)\b
      | willing\ to\ (?:\w+\ )?(?:pay|go|do|sell|take|accept|offer|let|give|come)\b
      | yours\ for\b | it\ is\b | (?:take|have|sell|let|buy)\ (?:it|this|that|them|the\ \w+)\b
      | (?:sounds|works)\b
    )""",
    re.I | re.X,
)
# ... and none of the words that only mention, compare or report it.
_MENTION: Final = re.compile(
    r"""\b(?:too\ (?:high|low|much|little|steep|expensive)|(?:less|more|lower|higher|cheaper)\ than
      |at\ least|over|under|below|above|beyond|worth|asked|offered|said|listed|listing|marked|priced
      |paid|costs?|cost\ me|retail|brand\ new|originally|bought|spent|saved?|between|from|target
      |budget|you['’]re\ asking|you\ are\ asking|asking\ price|list\ price|did\ you|or\ so|around
      |roughly|discount|off|each|per|consider|think(?:ing)?\ (?:about|it|on|over)|sleep\ on
      |(?:could|would|should|might)(?:['’]ve|\ have)|you\ (?:want|ask|offer|say|propose|suggest)
      |half\ (?:of|the|that|your|my)|third|quarter|twice|double|triple|times|minus|plus\ \$?\d+
      |deposit|down\ payment|installments?|now\ and|a\ (?:day|week|month|year))\b""",
    re.I | re.X,
)
_SHORT = 4


@lru_cache(maxsize=4096)
def read_statement(text: str) -> Reading[float]:
    """What a statement means in a price negotiation.

    It is an offer if it names exactly one amount in words that propose ("I can do $45", "How
    about 45 dollars?", "Deal, $45 it is"), or hardly anything but an amount ("$45?"). Amounts that
    are denied, compared, reported or estimated ("I can't go to $45", "more than $45", "you said
    $45") are no offers, and a statement that proposes two different amounts offers none. Amounts
    are read in digits only; those that cannot be read ("$1 200", "45-50 dollars") are never
    guessed at.
    """
    stance: Reading[float] = negotiation.read_stance(text)
    timed = TIME.search(text) is not None
    offered: set[float] = set()
    asks = bare = True
    lead = ""
    parts = negotiation.standing_clauses(text)
    for number, clause in enumerate(parts, start=1):
        # What leads up to a colon says what the amount after it is: "The list price: $45".
        scope, lead = f"{lead} {clause}", clause if clause.rstrip().endswith(":") else ""
        if negotiation.negated(scope) or _MENTION.search(scope):
            continue
        amounts, proposed = _named(clause, timed=timed)
        question = negotiation.is_question(clause)
        if not amounts or (question and any(map(negotiation.rejected, parts[number:]))):
            continue  # "$45? That is too much."
        offered.update(amounts)
        asks = asks and negotiation.hedged(scope, *parts[number : number + 1])
        bare = bare and not proposed
    if not offered and stance.accepts and not _MENTION.search(text):
        # "Deal. I will bring the $45." accepts $45, and not whatever is on the table.
        offered = {value(match) for match in AMOUNT.finditer(text)}
        asks = bare = False
    if len(offered) != 1:
        accepts = stance.accepts and not offered and MONEY.search(text) is None
        return Reading(accepts=accepts, rejects=stance.rejects, retracts=stance.retracts)
    return Reading(offer=offered.pop(), retracts=stance.retracts, asks=asks, bare=bare)


def _named(clause: str, *, timed: bool) -> tuple[list[float], bool]:
    """The amounts that ``clause`` offers, and whether in words that propose and with a unit."""
    proposes = _PROPOSAL.search(clause) is not None
    if not proposes and len(clause.split()) > _SHORT:
        return [], False
    amounts = [value(match) for match in AMOUNT.finditer(clause)]
    if UNREADABLE.search(AMOUNT.sub("", clause)):
        return [], False
    if amounts or timed or MONEY.search(clause):
        return amounts, proposes
    return [value(match) for match in _BARE_AMOUNT.finditer(clause)], False


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


# --- playing --------------------------------------------------------------------------------

_ROLE: Final = re.compile(r"\b(?:you are|as) the (?:\w+ )?(buyer|seller)\b", re.I)
_TARGET: Final = re.compile(rf"\btarget price\D{{0,20}}?\$\s?({NUMBER})", re.I)


def role_and_target(goal: str) -> tuple[str, float] | None:
    """``"buyer"`` or ``"seller"`` and the target price, if ``goal`` is one of a price task.

    It reads the goals of this family, and those of SOTOPIA's CraigslistBargain scenarios.
    """
    role, target = _ROLE.search(goal), _TARGET.search(goal)
    if role is None or target is None:
        return None
    return role[1].lower(), float(target[1].replace(",", ""))


class _Haggler(Script):
    """Concedes from an opening to a limit as time passes, and takes what beats its next step.

    The concession is the time-dependent tactic of Faratin, Sierra and Jennings (1998): with
    ``t`` from 0 to 1 over the conversation, it stands at ``opening + t**(1/beta) * (limit -
    opening)``.
    """

    # temperament: opening beyond the target, limit short of it (shares of the target), beta
    _STYLES: Final[dict[Temperament, tuple[float, float, float]]] = {
        "expert": (0.20, 0.32, 0.7),
        "fair": (0.12, 0.30, 1.0),
        "generous": (0.05, 0.40, 2.0),
        "firm": (0.15, 0.20, 0.4),
        "stubborn": (0.10, 0.06, 0.2),
    }
    _OPENINGS: Final[dict[str, tuple[str, ...]]] = {
        "buyer": (
            "I like it. Would you take {price}?",
            "I have been looking for one like this. I can offer {price}.",
            "It is what I need. How about {price}?",
        ),
        "seller": (
            "Glad you are interested. I could let it go for {price}.",
            "It has served me well. How about {price}?",
            "There were others asking, but for you I can do {price}.",
        ),
    }
    _COUNTERS: Final = (
        "I hear you. I could go to {price}.",
        "That is not quite it for me. How about {price}?",
        "Let us find a way: I can do {price}.",
        "Hmm. Would {price} help? I can offer {price}.",
        "All right, a step towards you: my offer is {price}.",
    )
    _REPEATS: Final = (
        "I can only repeat it: my offer is {price}.",
        "{price} is my price. How about it?",
        "I am staying with my offer of {price}.",
    )
    _ACCEPTANCES: Final = (
        "Deal, {price} it is.",
        "Agreed, {price} it is. Thank you.",
        "You have a deal at {price}.",
    )

    def __init__(
        self,
        brief: Brief,
        *,
        role: str,
        target: float,
        listing: float,
        temperament: Temperament,
        rng: random.Random,
    ) -> None:
        ahead, back, self._beta = self._STYLES[temperament]
        sign = -1 if role == "buyer" else 1
        opening, limit = target * (1 + sign * ahead), target * (1 - sign * back)
        if role == "buyer":
            self._limit = max(target, min(limit, listing))
            self._opening = min(opening, listing)
        else:
            self._limit, self._opening = limit, max(target, min(opening, listing))
        self._brief, self._role, self._sign, self._rng = brief, role, sign, rng
        self._last: float | None = None

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        statements = [
            Statement(u.name, u.turn, read_statement(u.argument))
            for u in utterances
            if u.action_type == "speak"
        ]
        standing = negotiation.follow(statements)
        if standing.agreement is not None:
            return Action("leave")
        price = self._ask(turn)
        others = [p for name, p in standing.offers.items() if name != self._brief.name]
        offered = others[-1] if others else None
        if offered is not None and self._sign * (offered - price) >= 0:
            return self._say(self._ACCEPTANCES, offered)
        if self._last is None:
            lines = self._COUNTERS if offered is not None else self._OPENINGS[self._role]
        else:
            lines = self._REPEATS if price == self._last else self._COUNTERS
        self._last = price
        return self._say(lines, price)

    def _ask(self, turn: int) -> float:
        # Two own turns before the end there must be room for the other's last word.
        passed = min(1.0, turn / max(1, self._brief.max_turns - 4))
        price = self._opening + passed ** (1 / self._beta) * (self._limit - self._opening)
        rounded = _round_price(price)
        if self._last is not None and self._sign * (rounded - self._last) > 0:
            return self._last
        return rounded

    def _say(self, lines: Sequence[str], price: float) -> Action:
        return Action("speak", self._rng.choice(lines).format(price=money(price)))
