"""The scripted players of the plan family."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sotopia_gym.envs.dialogue import Action
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.base import Script, Temperament
from sotopia_gym.tasks.families.plan_reading import (
    Choice,
    Issue,
    Plan,
    Remark,
    Standing,
    named_in,
    points,
    read_statement,
    settle,
)
from sotopia_gym.tasks.families.wording import listed

_WORTH: Final = re.compile(r"\bfor the ([a-z][a-z ]*), ((?:[^;,.]+? \d+(?:, | and )?){2,})(?=[;.])")
_POINTS: Final = re.compile(r"(?:^|, | and )([^,;]+?) (\d+)(?=$|,| and )")
PACT: Final = re.compile(
    r"\bcome along on (?P<wish>.+?), and I will back (?P<promise>.+?)[.!]", re.I
)
"""How a private trade is suggested: a wish, and a promise in return."""

_DISLIKED: Final = re.compile(
    r"\b(?:out of the question|impossible|not for me|hard for me|nothing for me|cannot|can['’]t"
    r"|never|won['’]t|rather not|no use to me)\b",
    re.I,
)
_WEIGHTY: Final = re.compile(r"\b(?:matters? most|most important|means? most|care most)\b", re.I)


def player(brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
    """The player for the character with this brief, or None if it is not one of this family."""
    worth = _worth_in(brief.scene, brief.goal)
    if len(worth) < 2 or not any(any(values) for _, values in worth):
        return None
    return _Planner(brief, worth, temperament=temperament, rng=rng)


def _worth_in(scene: str, goal: str) -> list[tuple[Issue, tuple[float, ...]]]:
    """The issues of a scene, with what a goal says that their options are worth."""
    found = []
    for name, options in _WORTH.findall(goal):
        pairs = _POINTS.findall(options)
        issue = Issue(name=name, options=tuple(option for option, _ in pairs))
        if all(option in scene for option in (name, *issue.options)):
            found.append((issue, tuple(float(points) for _, points in pairs)))
    return found


@dataclass(frozen=True, slots=True)
class _Style:
    """How somebody bargains.

    Attributes:
        first: Share of its best plan that it aspires to at first.
        last: The same when there is just time for one more proposal.
        beta: Concession exponent: below 1 late, above 1 early.
        floor: What it still accepts when there is no time for another proposal.
        whispers: Whether it tries a private word.
    """

    first: float
    last: float
    beta: float
    floor: float
    whispers: bool = False


_PRESS: Final = 0.2
"""How much less one takes, as a share of one's best plan, when all the others have agreed."""


class _Planner(Script):
    """Says what it wishes, then proposes what suits itself well enough and the others best.

    The aspiration falls with time as in Faratin, Sierra and Jennings (1998). Of the plans above
    it the one is proposed that seems best for whoever seems to like it least; what the others
    like is estimated from what they propose, accept, wish for and rule out.
    """

    _STYLES: Final[dict[Temperament, _Style]] = {
        "expert": _Style(0.95, 0.55, 0.7, 0.01, whispers=True),
        "fair": _Style(0.85, 0.5, 1.0, 0.25),
        "generous": _Style(0.75, 0.35, 1.5, 0.1, whispers=True),
        "firm": _Style(0.95, 0.6, 0.5, 0.3),
        "stubborn": _Style(1.0, 0.7, 0.3, 0.5),
    }

    def __init__(
        self,
        brief: Brief,
        worth: Sequence[tuple[Issue, Sequence[float]]],
        *,
        temperament: Temperament,
        rng: random.Random,
    ) -> None:
        self._style = self._STYLES[temperament]
        self._brief, self._rng = brief, rng
        self._members = tuple(sorted((brief.name, *brief.others)))
        self._issues = tuple(issue for issue, _ in worth)
        self._values = [tuple(values) for _, values in worth]
        best = sum(max(values) for values in self._values)
        self._worth = {
            plan: points(self._values, plan) / best
            for plan in itertools.product(*(range(len(values)) for values in self._values))
        }
        self._likings = {name: _Liking(self._issues) for name in brief.others}
        self._heard = 0
        self._spoken = False
        self._pact: frozenset[Choice] = frozenset()

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        public = [
            Remark(u.name, u.turn, read_statement(u.argument, self._issues, self._members))
            for u in utterances
            if u.action_type == "speak" and (not u.to or {u.name, *u.to} >= set(self._members))
        ]
        standing = settle(public, self._members)
        if standing.agreement is not None or any(u.action_type == "leave" for u in utterances):
            return Action("leave")
        self._listen(utterances[self._heard :])
        self._heard = len(utterances)
        aspiration = self._aspiration(turn)
        in_time = turn + len(self._members) <= self._brief.max_turns
        if standing.plan is not None:
            # The last one to agree has most to lose by refusing.
            press = _PRESS * len(standing.backers) / (len(self._members) - 1)
            enough = aspiration - press if in_time else self._style.floor
            mine = self._brief.name in standing.backers
            if not mine and self._worth[standing.plan] >= enough - 1e-9:
                return self._accept(standing)
        whisper = self._whisper(turn)
        if whisper is not None:
            return whisper
        return self._propose(self._best(aspiration), standing)

    def _aspiration(self, turn: int) -> float:
        style = self._style
        passed = min(1.0, turn / max(1, self._brief.max_turns - len(self._members)))
        return style.first + float(passed ** (1 / style.beta)) * (style.last - style.first)

    def _listen(self, utterances: Sequence[Utterance]) -> None:
        """Learn from what the others have said since what each of them seems to like."""
        for utterance in utterances:
            if utterance.action_type != "speak" or utterance.name not in self._likings:
                continue
            liking = self._likings[utterance.name]
            move = read_statement(utterance.argument, self._issues, self._members)
            if move.plan is not None and not utterance.to:
                liking.proposed(move.plan)
            liking.heard(utterance.argument)
            if utterance.to:
                self._consider(utterance, liking)

    def _consider(self, utterance: Utterance, liking: _Liking) -> None:
        """Take note of a trade that somebody has suggested in private."""
        offered = PACT.search(utterance.argument)
        if offered is not None:
            wish = named_in(offered["wish"], self._issues)
            promise = named_in(offered["promise"], self._issues)
            liking.like(wish, 1.0)
            liking.like(promise, 0.8)
            self._pact = wish | promise

    def _best(self, aspiration: float) -> Plan:
        def rank(plan: Plan) -> tuple[float, float, float]:
            liked = [liking.of(plan) for liking in self._likings.values()]
            kept = bool(self._pact) and self._pact <= set(enumerate(plan))
            return (round(min(liked) + 0.1 * kept, 6), round(sum(liked), 6), self._worth[plan])

        return max((p for p, worth in self._worth.items() if worth >= aspiration - 1e-9), key=rank)

    def _whisper(self, turn: int) -> Action | None:
        """Once, and only with turns to spare, suggest a trade to the one who can give most."""
        spare = turn + 3 * len(self._members) <= self._brief.max_turns
        if not (self._style.whispers and self._spoken and spare) or self._pact:
            return None
        gain, partner, wish, promise = max(
            (
                (self._lost(wish) - self._lost(promise), -number, wish, promise)
                for number, liking in enumerate(self._likings.values())
                for wish, promise in itertools.permutations(liking.favourites(), 2)
                if self._lost(promise) > 0
            ),
            default=(0.0, 0, (0, 0), (0, 0)),
        )
        if gain <= 0:
            return None
        mine = (wish[0], self._values[wish[0]].index(max(self._values[wish[0]])))
        self._pact = frozenset((mine, promise))
        name = self._brief.others[-partner]
        line = self._rng.choice(_WHISPERS).format(
            name=_first(name), wish=self._option(mine), promise=self._option(promise)
        )
        return Action("speak", line, (name,))

    def _lost(self, choice: Choice) -> float:
        """The points that an option costs against one's favourite."""
        issue, option = choice
        return max(self._values[issue]) - self._values[issue][option]

    def _accept(self, standing: Standing) -> Action:
        assert standing.plan is not None
        assert standing.author is not None
        self._spoken = True
        line = self._rng.choice(_ACCEPTANCES)
        return self._say(line, standing.plan, _first(standing.author))

    def _propose(self, best: Plan, standing: Standing) -> Action:
        author, me = standing.author, self._brief.name
        lines: Sequence[str]
        if standing.plan is not None and me in standing.backers:
            if len(standing.backers) > 1 or standing.plan == best:
                return self._say(self._rng.choice(_REPEATS), standing.plan, me)
            lines = _STEPS
        elif author is None or author == me:
            lines = _PROPOSALS
        else:
            lines = _COUNTERS
        line = self._rng.choice(lines)
        if not self._spoken:
            line = f"{self._wishes()} {self._rng.choice(_PROPOSALS)}"
            if author is not None:
                line = f"{self._rng.choice(_GREETINGS)} {line}"
        self._spoken = True
        return self._say(line, best, _first(author or me))

    def _wishes(self) -> str:
        """What matters most, and what would not do."""
        rows = self._values
        issue = max(range(len(rows)), key=lambda i: max(rows[i]))
        wishes = [self._rng.choice(_WEIGHTS).format(issue=self._issues[issue].name)]
        useless = [(i, row.index(0.0)) for i, row in enumerate(rows) if 0.0 in row]
        if useless:
            option = self._option(self._rng.choice(useless))
            wishes.append(self._rng.choice(_REFUSALS).format(option=option))
        return " ".join(wishes)

    def _option(self, choice: Choice) -> str:
        return self._issues[choice[0]].options[choice[1]]

    def _say(self, line: str, plan: Plan, author: str) -> Action:
        options = [self._option(choice) for choice in enumerate(plan)]
        if self._rng.random() < 0.3:
            pairs = zip(options, self._issues, strict=True)
            options = [f"{option} for the {issue.name}" for option, issue in pairs]
        return Action("speak", line.format(plan=listed(options), author=author))


class _Liking:
    """An estimate of what somebody else likes: from 0 to 1 for each option."""

    _UNKNOWN: Final = 0.3

    def __init__(self, issues: tuple[Issue, ...]) -> None:
        self._issues = issues
        self._rows = [[self._UNKNOWN] * len(issue.options) for issue in issues]
        self._weights = [1.0] * len(issues)
        self._first: Plan | None = None

    def proposed(self, plan: Plan) -> None:
        """Its first plan shows its favourites, the later ones what it can live with."""
        self.like(frozenset(enumerate(plan)), 1.0 if self._first is None else 0.7)
        self._first = self._first or plan

    def heard(self, text: str) -> None:
        """Take note of what it says to matter and to be out of the question."""
        for clause in negotiation.clauses(text):
            if _DISLIKED.search(clause):
                for issue, option in named_in(clause, self._issues):
                    self._rows[issue][option] = 0.0
            if _WEIGHTY.search(clause):
                for number, issue_ in enumerate(self._issues):
                    if re.search(rf"\b{re.escape(issue_.name)}\b", clause, re.I):
                        self._weights[number] = 2.0

    def like(self, choices: frozenset[Choice], degree: float) -> None:
        """Take note that these are liked at least this much."""
        for issue, option in choices:
            self._rows[issue][option] = max(self._rows[issue][option], degree)

    def favourites(self) -> list[Choice]:
        """The options of the first plan that it proposed."""
        return [] if self._first is None else list(enumerate(self._first))

    def of(self, plan: Plan) -> float:
        """How much it seems to like ``plan``, from 0 to 1."""
        liked = [w * row[o] for w, row, o in zip(self._weights, self._rows, plan, strict=True)]
        return sum(liked) / sum(self._weights)


def _first(name: str) -> str:
    return name.split(maxsplit=1)[0]


_GREETINGS: Final = (
    "Thank you for that, {author}.",
    "I have listened to you, {author}, and let me add my own wishes.",
    "Good to hear where you stand, {author}.",
    "Thanks, {author}, that helps.",
)
_WEIGHTS: Final = (
    "To me the {issue} matters most.",
    "Of all these questions it is the {issue} that matters most to me.",
    "The {issue} is the most important thing for me.",
    "I care most about the {issue}.",
)
_REFUSALS: Final = (
    "I have to say that {option} is really not for me.",
    "On the other hand, {option} is out of the question for me.",
    "To be honest, {option} would be hard for me.",
    "I get next to nothing out of it if we end up with {option}: that is no use to me.",
)
_PROPOSALS: Final = (
    "How about {plan}?",
    "My proposal is this: {plan}.",
    "I would suggest {plan}.",
    "Could we all agree on {plan}?",
    "Let me make a proposal to everyone: {plan}.",
    "What about {plan}?",
)
_COUNTERS: Final = (
    "I see what you are after, {author}, and I would like to bring it together with the rest: how "
    "about {plan}?",
    "{author}, that is still a stretch for me. Could we all agree on {plan}?",
    "We are getting closer. My proposal to everyone: {plan}.",
    "There may be a middle way for us. I propose {plan}.",
    "I have listened to all of you. What about {plan}?",
    "Let me try to meet everybody halfway: I suggest {plan}.",
)
_STEPS: Final = (
    "Since nobody has taken that up, let me take a step: how about {plan}?",
    "I can move a little. I suggest {plan}.",
    "Then let me try something else: I propose {plan}.",
)
_REPEATS: Final = (
    "I am staying with {plan}.",
    "Let us settle on {plan}.",
    "I am still happy with {plan}. I hope you can all join in.",
)
_ACCEPTANCES: Final = (
    "Agreed, {author}: {plan}.",
    "That is a plan I can say yes to: I agree to {plan}.",
    "I am in, {author}. Let us do it like that: {plan}.",
    "Fair enough, I accept. So it is {plan}.",
    "Good, I support that: I vote for {plan}.",
    "Yes, {author}, I am happy with {plan}.",
    "I accept {author}'s proposal. I look forward to it already.",
    "I agree with {author}.",
)
_WHISPERS: Final = (
    "Just between the two of us, {name}: come along on {wish}, and I will back {promise}.",
    "A quiet word, {name}. Please come along on {wish}, and I will back {promise}. All right?",
    "{name}, let us help each other: you come along on {wish}, and I will back {promise}.",
)
