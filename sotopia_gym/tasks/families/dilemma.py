"""Repeated dilemmas: in every round two people choose, each for itself, whether to help the other.

Sources of the task: the repeated prisoner's dilemma (Rapoport and Chammah 1965, "Prisoner's
Dilemma"; Axelrod 1984, "The Evolution of Cooperation") and its kin stag hunt and chicken.

The rules. There are a few rounds, played one after the other. In each both choose one of two moves
by saying so in words that name the round: "Round 2: I cover the evening." All other talk is free:
proposals, promises and threats are no moves. The first choice for a round stands. A round that
lacks a choice counts as if both had defected, so that who plays nothing has exactly what two
players without any trust have, and silence is never better than a move.

The moves of a round are made in sequence, by turns, and the second mover has heard the first. This
changes what rational players do, not what can come out: defection stays dominant in the prisoner's
dilemma; in the stag hunt mutual cooperation becomes the only subgame-perfect outcome; in chicken
the first mover has the advantage. So the scene asks one to go first in odd rounds and the other in
even ones. The rational ceiling is therefore one over all possible outcomes, whoever goes first.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator

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
from sotopia_gym.tasks.families.wording import folded
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task

Choice = Literal["cooperate", "defect"]
CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)
Round = tuple[Choice, Choice]
Game = Literal["prisoner", "stag_hunt", "chicken"]


class Move(BaseModel):
    """One of the two things to do in a round.

    Attributes:
        phrase: What follows "I" when it is announced: a verb in the present tense and its object
            in lower-case words, e.g. ``"cover the evening"``. Its first words alone, like
            ``"cover"``, mean the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phrase: str

    @field_validator("phrase")
    @classmethod
    def _words(cls, phrase: str) -> str:
        if not re.fullmatch(r"[a-z]+(?: [a-z]+)*", phrase):
            raise ValueError(f"expected a phrase of lower-case words, got {phrase!r}")
        return phrase

    @property
    def verb(self) -> str:
        """The first word."""
        return self.phrase.split()[0]


class Payoffs(BaseModel):
    """What a round is worth to one agent, in points of at least 0.

    Attributes:
        temptation: It defects, the other cooperates (``T``).
        reward: Both cooperate (``R``).
        punishment: Both defect (``P``).
        sucker: It cooperates, the other defects (``S``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temptation: NonNegativeInt
    reward: NonNegativeInt
    punishment: NonNegativeInt
    sucker: NonNegativeInt

    def points(self, mine: Choice, other: Choice) -> int:
        """Points of a round by the own move and the other's."""
        if mine == "cooperate":
            return self.reward if other == "cooperate" else self.sucker
        return self.temptation if other == "cooperate" else self.punishment

    def fits(self, game: Game) -> bool:
        """Whether the order of the pay-offs is that of ``game``.

        Prisoner's dilemma: ``T > R > P > S`` and ``2 R > T + S``; stag hunt: ``R > T >= P > S``;
        chicken: ``T > R > S > P``.
        """
        t, r, p, s = self.temptation, self.reward, self.punishment, self.sucker
        if game == "prisoner":
            return t > r > p > s and 2 * r > t + s
        return r > t >= p > s if game == "stag_hunt" else t > r > s > p


class DilemmaSpec(BaseModel):
    """Ground truth of a repeated dilemma.

    Attributes:
        rounds: How many rounds there are.
        moves: To cooperate, and to defect.
        payoffs: What a round is worth to each of the two agents.
        game: Which order the pay-offs of both have (:meth:`Payoffs.fits`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["dilemma"] = "dilemma"
    rounds: int = Field(ge=1, le=9)
    moves: tuple[Move, Move]
    payoffs: dict[str, Payoffs]
    game: Game

    @model_validator(mode="after")
    def _complete(self) -> DilemmaSpec:
        if self.moves[0].verb == self.moves[1].verb:
            raise ValueError(f"the moves must begin with different verbs, got {self.moves}")
        if len(self.payoffs) != 2:
            raise ValueError(f"two agents play, got pay-offs for {sorted(self.payoffs)}")
        for agent, payoffs in self.payoffs.items():
            if not payoffs.fits(self.game):
                raise ValueError(f"{agent}: {payoffs} are not the pay-offs of {self.game}")
        return self

    def points(self, played: Sequence[Round]) -> tuple[int, int]:
        """Points of the two agents: rounds that were not played are as if both had defected."""
        one, other = self.payoffs.values()
        missing = self.rounds - len(played)
        return (
            sum(one.points(a, b) for a, b in played) + missing * one.punishment,
            sum(other.points(b, a) for a, b in played) + missing * other.punishment,
        )

    def goal(self, agent: str, points: int) -> float:
        """Goal score: ``10 * points / (rounds * max(T, R))``, from 0 to 10.

        It is 10 for the best that could happen to this agent in every single round.
        """
        payoffs = self.payoffs[agent]
        return 10 * points / (self.rounds * max(payoffs.temptation, payoffs.reward))

    def possible_points(self) -> frozenset[tuple[int, int]]:
        """What the two agents can have in the end, over all ways to play all rounds.

        The order of the rounds does not matter, so only how often each of the four outcomes of a
        round occurs is enumerated.
        """
        outcomes: list[Round] = [(mine, other) for mine in CHOICES for other in CHOICES]
        return frozenset(
            self.points(played)
            for played in itertools.combinations_with_replacement(outcomes, self.rounds)
        )

    def ceiling(self, agent: str) -> float:
        """The best goal score ``agent`` can have while the other is no worse off than without.

        Without means that both always defect. In chicken and the stag hunt the ceiling is 10; in
        the prisoner's dilemma the other must get as much out of rounds of mutual cooperation as it
        loses in those in which it is exploited.
        """
        me = tuple(self.payoffs).index(agent)
        floor = self.points([])[1 - me]
        best = max(points[me] for points in self.possible_points() if points[1 - me] >= floor)
        return self.goal(agent, best)

    def pareto_optimal(self, points: tuple[int, int]) -> bool:
        """Whether no way to play gives more to one and no less to the other."""
        return not any(
            p[0] >= points[0] and p[1] >= points[1] and p != points for p in self.possible_points()
        )


class DilemmaFamily(Family):
    """Playing a prisoner's dilemma, a stag hunt or a game of chicken several times in a row."""

    name = "dilemma"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"dilemma-{self.version}-{split}-{seed}")
        content = load_content("dilemma", split)
        setting = rng.choice(content["settings"])
        relationship = RelationshipType[rng.choice(setting["relationships"]).upper()]
        game: Game = rng.choice(setting["games"])
        spec = DilemmaSpec(
            rounds=rng.choice((3, 4, 4, 5)),
            moves=(Move(phrase=setting["cooperate"]), Move(phrase=setting["defect"])),
            payoffs={agent: _draw_payoffs(game, rng) for agent in ("agent_0", "agent_1")},
            game=game,
        )
        characters = draw_characters(load_cast(split), relationship, rng)
        scene = setting["scene"].format(detail=rng.choice(setting["details"]), rounds=spec.rounds)
        rules = rng.choice(content["rules"])["text"]
        names = [character.name for character in characters]
        reasons = rng.sample(setting["reasons"], 2)
        task_id = f"dilemma-v{self.version}-{split}-{seed}"
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"dilemma: {setting['id'].replace('-', ' ')}",
                source="sotopia_gym dilemma family",
                context=f"{scene} {_filled(rules, spec, setting['unit'], names, rng)}",
                goals=tuple(
                    _goal(rng.choice(content["goals"])["text"], spec, payoffs, reason, rng)
                    for payoffs, reason in zip(spec.payoffs.values(), reasons, strict=True)
                ),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(spec.model_dump(mode="json")),
            ),
            characters=characters,
        )

    def check(self, task: Task) -> None:
        dilemma_spec(task)

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """What both chose in each round, by :func:`read_choices` and :func:`follow`.

        Only words count, no deeds. The status is ``agreement`` if every round was played.
        Otherwise the terms still hold the rounds that were.
        """
        spec = dilemma_spec(task)
        one, other = spec.payoffs
        choices, turn = follow(
            ((e.agent, e.turn, e.action.argument) for e in said_to_all(events, spec.payoffs)),
            (one, other),
            spec.moves,
            spec.rounds,
        )
        played = [list(pair) for pair in zip(choices[one], choices[other], strict=False)]
        terms = {"rounds": played} if played else {}
        if len(played) < spec.rounds:
            return Outcome(family=self.name, status="no-agreement", terms=terms)
        return Outcome(family=self.name, status="agreement", terms=terms, turn=turn)

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`DilemmaSpec.goal`, rounds that were not played as if both had defected.

        So what was played counts even where the game was not finished. ``normalised`` is ``(goal -
        none) / (ceiling - none)`` with the goal score ``none`` of always defecting both.
        """
        require_read(outcome, self.name)
        spec = dilemma_spec(task)
        points = spec.points(_played(spec, outcome))
        scores: dict[str, Score] = {}
        surplus = 0.0
        for agent, mine, least in zip(spec.payoffs, points, spec.points([]), strict=True):
            goal, none = spec.goal(agent, mine), spec.goal(agent, least)
            scores[agent] = Score(goal, (goal - none) / (spec.ceiling(agent) - none))
            surplus += goal - none
        return Scoring(scores, surplus, spec.pareto_optimal(points))

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        table = _table_in(brief)
        return None if table is None else _Player(brief, table, temperament=temperament, rng=rng)


def dilemma_spec(task: Task) -> DilemmaSpec:
    """The dilemma ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "dilemma", DilemmaSpec)
    if not spec.payoffs.keys() <= set(task.agents):
        raise TaskError(f"task {task.task_id}: those who play must be among {task.agents}.")
    return spec


def _played(spec: DilemmaSpec, outcome: Outcome) -> list[Round]:
    """The rounds of ``outcome``; none if it is impossible."""
    rounds: Any = outcome.terms.get("rounds", [])
    possible = (
        isinstance(rounds, Sequence)
        and len(rounds) <= spec.rounds
        and outcome.agreed is (len(rounds) == spec.rounds)
        and all(len(pair) == 2 and set(pair) <= set(CHOICES) for pair in rounds)
    )
    return [(pair[0], pair[1]) for pair in rounds] if possible else []


# --- generation -----------------------------------------------------------------------------


def _filled(
    rules: str, spec: DilemmaSpec, unit: str, names: Sequence[str], rng: random.Random
) -> str:
    first, second = rng.sample(list(names), 2)
    # Which of the moves is named first is drawn, so that the order suggests none.
    x, y = rng.sample([move.phrase for move in spec.moves], 2)
    return rules.format(
        rounds=spec.rounds,
        unit=unit,
        x=x,
        y=y,
        d=spec.moves[1].phrase,
        examples=f'"Round 1: I {x}" or "Round 1: I {y}"',
        first=first,
        second=second,
    )


def _goal(goal: str, spec: DilemmaSpec, payoffs: Payoffs, reason: str, rng: random.Random) -> str:
    c, d = (move.phrase for move in spec.moves)
    rows = [
        (payoffs.reward, f"you both {c}"),
        (payoffs.punishment, f"you both {d}"),
        (payoffs.temptation, f"you {d} while the other chooses to {c}"),
        (payoffs.sucker, f"you {c} while the other chooses to {d}"),
    ]
    told = [f"{points} point{'' if points == 1 else 's'} if {case}" for points, case in rows]
    rng.shuffle(told)
    table = f"{', '.join(told[:-1])}, and {told[-1]}"
    text = goal.format(rounds=spec.rounds, table=table)
    return f"{text} (<extra_info>Extra information: {reason}</extra_info>)"


def _draw_payoffs(game: Game, rng: random.Random) -> Payoffs:
    """Small whole numbers in the order of ``game``, times 1, 2, 5 or 10."""
    scale = rng.choice((1, 1, 2, 5, 10))
    while True:
        t, r, p, s = (rng.randint(0, 9) for _ in range(4))
        payoffs = Payoffs(
            temptation=t * scale, reward=r * scale, punishment=p * scale, sucker=s * scale
        )
        if payoffs.fits(game) and r - p >= 2 and (game != "prisoner" or r - p >= t - r):
            return payoffs


# --- reading --------------------------------------------------------------------------------

_NUMBERS: Final = {
    word: number
    for words in ("one two three four five six seven eight nine", "first second third fourth fifth")
    for number, word in enumerate(words.split(), start=1)
} | {"1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5}
_ROUND: Final = (
    r"(?:(?:the\s)?round\s(?:number\s|no\.?\s?|\#)?(?:[1-9]|{cardinals})\b(?:\sof\s\w+)?"
    r"|(?:the\s)?(?:{ordinals})\sround)(?:\s?\([^()]*\))?"
).format(
    cardinals="|".join(w for w in list(_NUMBERS)[:9]),
    ordinals="|".join(w for w in list(_NUMBERS)[9:]),
)
# What may come before: words that say nothing, a name, a reason.
_LEAD: Final = r"""(?:(?:ok(?:ay)?|alright|all\ right|right|yes|yeah|great|good|perfect|fine|well|so
      |then|now|and|but|thanks|thank\ you|sure|agreed|deal|next|again|finally|for\ my\ part
      |as\ for\ me|here\ goes|very\ well|in\ that\ case)\b[\s,:!–—-]*)*
    (?:(?:since|because|as|given|now\ that|with)\b[^:]*?,\s)?(?:[\w'-]+(?:\s[\w'-]+)?,\s)?"""
_WILL: Final = r"""i(?:\ have|'ve|'ll|\ will|\ shall|\ am|'m)?
    (?:\ (?:gladly|happily|simply|just|still|also|again|now|once\ (?:more|again)|definitely
      |certainly|do|hereby|therefore|then|too|of\ course))*
    (?:\ (?:choose|chose|chosen|choosing|pick|picked|decide|decided|deciding|opt|opted|elect|going
      |commit|go|glad|happy)(?:\ (?:to|for|on|with))?)?\ """
_MINE: Final = r"my\ (?:choice|move|decision|answer|pick)"
# After the move the sentence ends, or goes on with something that cannot turn it around.
_TAIL: Final = r"""(?=\s*(?:$|[.,!;:()])|\s[–—-]|\s(?:again|too|as|and|because|since|so|with|for|to
      |like|just|then|once|now|here|today|tonight|this|anyway|either\ way|regardless|no\ matter
      |whatever|also|of\ course|happily|gladly|in|during|at|before|after|one\ last)\b)"""
# No move with one of these words is an unconditional one.
_OPEN: Final = re.compile(
    r"""\?\W*$ | \b(?:if|unless|maybe|perhaps|might|provided|providing|except|depend(?:s|ing)?
      |(?:as|so)\ (?:long|soon)\ as|subject\ to|in\ your\ dreams|assuming|until
      |suppose|supposing|imagine|or|once(?!\ (?:more|again))
      |probably|possibly|pretend(?:ing)?|only\ when|condition|in\ case|in\ theory|for\ example
      |hypothetically)\b""",
    re.X,
)
_AFTERTHOUGHT: Final = re.compile(
    r"""^(?:(?:but|and|that\ is|or|though),?\ )?(?:(?:only|just)\ (?:if|when|once)\b|unless\b
      |provided\b|(?:as|so)\ (?:long|soon)\ as\b|subject\ to\b|assuming\b
      |on\ (?:the\ |one\ )?condition\b|if\ [^,]*$
      |(?:(?:it|that|this|which)\ )?(?:all\ )?depends\b|or\ (?:maybe|perhaps|not)\b)""",
    re.X,
)
_REPORT: Final = re.compile(
    r"\b(?:said|say|says|saying|told|tell|claim\w*|promised?|wrote|asked|quote|example|instance"
    r"|he|she|they|let's|would|could|should|heard?|not|never|no)\b|n't\b"
)
_PRETENCE: Final = re.compile(r"^as [^,]*,|\b(?:false|lie|believes?|please|your|when|once)\b")
_TAKEN_BACK: Final = re.compile(
    r"\b(?:(?<!not )(?<!n't )(?:kidding|joking)|i lied|scratch that|strike that|no,? wait|wait,? no"
    r"|on second thoughts?|correction|not really|i take that back)\b|^not[.!]*$"
)
_SENTENCE: Final = re.compile(r"(?<=[.!?;])\s+|\n+|,?\s+and\s+(?=(?:(?:in|for)\s)?round\s\w+\s?:)")


def read_choices(text: str, moves: tuple[Move, Move]) -> dict[int, Choice]:
    """The rounds for which ``text`` announces a move, and which.

    An announcement is a sentence in the first person, or on "my choice", that names the round by
    its number and one of the moves: "Round 2: I cover the evening.", "In round 2 I'll cover.",
    "My choice for the second round is to cover the evening." Questions, conditions ("if", "unless",
    "or", ...), wishes and intentions ("I would", "I want to", "I plan to"), denials, reports and
    quotations announce nothing; nor does a text that announces both moves for the same round, or
    one that takes the announcement back in the same breath.
    """
    found: dict[int, set[Choice]] = {}
    sentences = _sentences(text)
    for sentence, following in itertools.zip_longest(sentences, sentences[1:], fillvalue=""):
        if _TAKEN_BACK.search(sentence) or negotiation.retracted(sentence):
            found.clear()
        announced = _announced(sentence, moves)
        if announced is not None and not _AFTERTHOUGHT.search(following):
            found.setdefault(announced[0], set()).add(announced[1])
    return {number: next(iter(told)) for number, told in found.items() if len(told) == 1}


def follow(
    said: Iterable[tuple[str, int, str]],
    players: tuple[str, str],
    moves: tuple[Move, Move],
    rounds: int,
) -> tuple[dict[str, list[Choice]], int | None]:
    """The moves that two players have made.

    A move counts if it is the player's first in its round, and if both have moved in all rounds
    before, the other in an earlier turn: what is said of later rounds is no move, and what is said
    in the same turn is said at once.

    Args:
        said: Who said what in which turn, oldest first: (player, turn, words).
        players: The two.
        moves: To cooperate, and to defect.
        rounds: How many rounds there are.

    Returns:
        The moves of each player by round, and the turn of the last move that counted.
    """
    choices: dict[str, list[Choice]] = {player: [] for player in players}
    last: int | None = None
    for turn, together in itertools.groupby(said, key=lambda statement: statement[1]):
        before = {player: len(made) for player, made in choices.items()}
        for player, _, text in together:
            other = players[1 - players.index(player)]
            for number, choice in sorted(read_choices(text, moves).items()):
                made = choices[player]
                if number == len(made) + 1 <= min(rounds, before[other] + 1):
                    made.append(choice)
                    last = turn
    return choices, last


def _sentences(text: str) -> list[str]:
    plain = re.sub(r"[*_`]", "", folded(text).lower().replace("’", "'")).strip()
    plain = re.sub(r"[“”]", '"', plain)
    if plain.count('"') == 2 and plain[0] == plain[-1] == '"':
        plain = plain[1:-1]
    plain = re.sub(r'"[^"]*\bround\b[^"]*"', '" "', plain)
    plain = re.sub(r"\s*:\s+", ": ", plain.replace('"', ""))
    plain = re.sub(r"^((?:the\s)?round\s\w+)\.\s", r"\1: ", plain, flags=re.M)
    parts = [part.strip(" -•") for part in _SENTENCE.split(plain)]
    return [re.sub(r"\s+", " ", part) for part in parts if part]


def _announced(sentence: str, moves: tuple[Move, Move]) -> tuple[int, Choice] | None:
    if "round" not in sentence or _OPEN.search(sentence):
        return None
    match = next((m for m in (p.match(sentence) for p in _patterns(moves)) if m), None)
    if match is None or _REPORT.search(match["lead"]) or _PRETENCE.search(match["lead"]):
        return None
    choice = 0 if match["c"] else 1
    after = sentence[match.end() :]
    contrary = re.escape(moves[1 - choice].phrase)
    if re.match(rf"\W*(?:not\b|never\b|(?:and|then)\b(?: then| i| also)* {contrary}\b)", after):
        return None
    number = re.findall(rf"[1-9]|\b(?:{'|'.join(_NUMBERS)})\b", match["round"])[0]
    return _NUMBERS.get(number) or int(number), CHOICES[choice]


@lru_cache(maxsize=256)
def _patterns(moves: tuple[Move, Move]) -> tuple[re.Pattern[str], ...]:
    """Sentences that announce a move: round first, round last, "my choice for round 2 is to"."""
    move = rf"(?:(?P<c>{_forms(moves[0])})|(?P<d>{_forms(moves[1])}))"
    where = rf"(?P<round>{_ROUND})"
    i = rf"(?:{_WILL}|{_MINE}\ (?:is|stays|remains)(?:\ to|:)?\ )"
    labelled = rf"(?:(?:in|for)\ )?{where}\s?[:,.–—-]*\s?{i}{move}"
    forms = (
        (_LEAD, rf"(?:{_MINE}:\ )?{labelled}"),
        (_LEAD, rf"{i}{move}(?:\ (?:again|too|as\ well))?,?\ (?:in|for)\ {where}"),
        (_LEAD, rf"{_MINE}\ (?:for|in)\ {where}(?:\ is(?:\ to|:)?\ |:\ (?:{_WILL}|to\ )?){move}"),
        # "I want us both to do well, so Round 1: I cover.", "My choice is round 1: I cover."
        (
            r"(?=[^:]*?\b(?:i|i'm|me|my|we|us|you)\b)"
            rf"(?:[^:]*?(?:,|\ and|\ so|:|{_MINE}\ is)\ )(?:so\ |and\ |then\ )?",
            labelled,
        ),
    )
    return tuple(re.compile(f"(?P<lead>{lead}){form}{_TAIL}", re.X) for lead, form in forms)


def _forms(move: Move) -> str:
    """A pattern for the phrase or its first words, the verb as it is or with "-ing"."""
    verb, *rest = move.phrase.split()
    stem = verb.removesuffix("e")
    words = ""
    for word in reversed(rest):
        said = r"(?:\ (?:the|my|our|your|this|that))?" if word == "the" else rf"\ {word}"
        words = f"(?:{said}{words})?"
    return rf"\b(?:{verb}|{stem}{stem[-1]}?ing){words}"


# --- playing --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """What a player can tell from its brief.

    Attributes:
        rounds: How many rounds there are.
        moves: To cooperate, and to defect.
        payoffs: Its own points.
        opens: The player who is asked to choose first in odd rounds.
    """

    rounds: int
    moves: tuple[Move, Move]
    payoffs: Payoffs
    opens: str


_EXAMPLES: Final = re.compile(r'"Round 1: I ([a-z ]+)" or "Round 1: I ([a-z ]+)"')


def _table_in(brief: Brief) -> _Table | None:
    rounds = re.search(r"\b([1-9]) rounds\b", brief.scene)
    examples = _EXAMPLES.search(brief.scene)
    opens = [n for n in (brief.name, *brief.others) if f"{n} chooses first in odd" in brief.scene]
    if rounds is None or examples is None or len(opens) != 1:
        return None
    x, y = examples.groups()
    points = {
        (mine, other): re.search(rf"\b(\d+) points? if you {case}\b", brief.goal)
        for mine, other, case in (
            (x, x, f"both {x}"),
            (y, y, f"both {y}"),
            (x, y, f"{x} while the other chooses to {y}"),
            (y, x, f"{y} while the other chooses to {x}"),
        )
    }
    worth = {pair: int(match[1]) for pair, match in points.items() if match}
    if len(worth) < 4:
        return None
    # In all three games mutual cooperation is worth more than mutual defection.
    c, d = (x, y) if worth[x, x] > worth[y, y] else (y, x)
    return _Table(
        rounds=int(rounds[1]),
        moves=(Move(phrase=c), Move(phrase=d)),
        payoffs=Payoffs(
            temptation=worth[d, c],
            reward=worth[c, c],
            punishment=worth[d, d],
            sucker=worth[c, d],
        ),
        opens=opens[0],
    )


class _Player(Script):
    """Plays one of the strategies that are known from Axelrod's tournaments, and talks about it.

    ``fair`` is tit for tat, ``generous`` forgives half of the defections, ``firm`` is the grim
    trigger, and ``stubborn`` cooperates only after two cooperative moves in a row. The second
    mover in a round answers the move that it has just heard. The ``expert`` begins nicely,
    forgives early defections where there is time left to profit from it, then retaliates, and
    makes up with whoever cooperates again. As the last to move it does what is best for itself.
    """

    _ANNOUNCEMENTS: Final = (
        "Round {n}: I {move}.",
        "Round {n}: I {move}.",
        "Round {n}: I will {move}.",
        "In round {n} I {move}.",
        "For round {n}, I choose to {move}.",
        "My choice for round {n} is to {move}.",
        "I {move} in round {n}.",
    )
    # (the other's last move, own move): what to say before announcing it
    _COMMENTS: Final[dict[tuple[Choice | None, Choice], tuple[str, ...]]] = {
        (None, "cooperate"): (
            "Somebody has to show good faith, {other}, so let it be me.",
            "I think we both come out ahead when we both {c}, so I will make a start.",
            "{other}, I would like us to look after one another here.",
            "Let us begin well and see how far that takes us.",
            "It is worth more to me when we both {c}, and I hope to you as well.",
        ),
        (None, "defect"): (
            "I will be frank, {other}: at first I look after myself.",
            "We do not know each other in this yet, so I will be careful.",
            "Trust takes me a while, {other}.",
        ),
        ("cooperate", "cooperate"): (
            "Thank you, {other}, that helps me more than you may think.",
            "Good, that is how I like it, and I answer in kind.",
            "You kept your side, {other}, and I keep mine.",
            "This works well for both of us.",
            "I appreciate that, {other}.",
            "Let us go on just like this.",
        ),
        ("cooperate", "defect"): (
            "Thank you, {other}. I cannot return it this time.",
            "You have been good to me, and still I have to think of myself now.",
            "I know that this is not what you hoped for, {other}.",
            "That was decent of you. I take the safer way for myself here.",
        ),
        ("defect", "cooperate"): (
            "I will let that pass, {other}, and hope that you join me.",
            "Let us put that behind us and try again.",
            "One bad round need not spoil the rest, {other}.",
            "I would rather mend this than count who owes what.",
        ),
        ("defect", "defect"): (
            "I noticed, {other}, and I answer in the same way. I will gladly change when you do.",
            "That cost me something. Choose to {c} and so will I.",
            "I cannot carry this alone, {other}. We could both do better.",
            "As things are I have to protect myself. A kinder move from you would change that.",
        ),
    }
    _PROMPTS: Final = (
        "Round {n} is open, {other}. Shall we both {c}?",
        "What will you do in round {n}, {other}? I would be glad to see us both {c}.",
        "I am listening, {other}: which is it for you in round {n}, {c} or {d}?",
        "Your choice for round {n} is still open, {other}. We both gain when we both {c}.",
    )
    _PATIENCE: Final = 3
    _FORGIVEN: Final = 2

    def __init__(
        self, brief: Brief, table: _Table, *, temperament: Temperament, rng: random.Random
    ) -> None:
        self._brief, self._table, self._temperament, self._rng = brief, table, temperament, rng
        self._waited = 0  # own turns in a row in which nothing had come from the other
        self._known = -1
        self._told_last: list[str] = []

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        me, other = self._brief.name, self._brief.others[0]
        choices, _ = follow(
            ((u.name, u.turn, u.argument) for u in utterances if u.action_type == "speak"),
            (me, other),
            self._table.moves,
            self._table.rounds,
        )
        mine, theirs = choices[me], choices[other]
        if len(mine) == len(theirs) == self._table.rounds:
            return Action("leave")
        self._waited = self._waited + 1 if len(theirs) == self._known else 0
        self._known = len(theirs)
        if self._waited > self._PATIENCE:
            return Action("leave")
        lines: list[str] = []
        while self._may_choose(len(mine), len(theirs)):
            choice = self._choose(mine, theirs)
            if not lines:
                lines.append(self._told(self._COMMENTS[theirs[-1] if theirs else None, choice]))
            move = self._table.moves[CHOICES.index(choice)].phrase
            lines.append(self._told(self._ANNOUNCEMENTS, n=len(mine) + 1, move=move))
            mine.append(choice)
        if not lines:
            lines.append(self._told(self._PROMPTS, n=len(theirs) + 1))
        return Action("speak", " ".join(lines))

    def _may_choose(self, mine: int, theirs: int) -> bool:
        if mine == self._table.rounds or mine > theirs:
            return False
        odd = mine % 2 == 0
        asked = odd is (self._table.opens == self._brief.name)
        # To go first in the last round is worth nothing but trust: that is not to be waited for.
        out_of_turn = self._waited > 0 and mine + 1 < self._table.rounds
        return mine < theirs or asked or out_of_turn

    def _choose(self, mine: Sequence[Choice], theirs: Sequence[Choice]) -> Choice:
        """The move in round ``len(mine) + 1``; the other's may be known already."""
        match self._temperament:
            case "expert":
                return self._best(mine, theirs)
            case "firm":
                return "defect" if "defect" in theirs else "cooperate"
            case "stubborn":
                return "cooperate" if theirs[-2:] == ["cooperate"] * 2 else "defect"
            case "generous" if self._rng.random() < 0.5:
                return "cooperate"
            case _:
                return theirs[-1] if theirs else "cooperate"

    def _best(self, mine: Sequence[Choice], theirs: Sequence[Choice]) -> Choice:
        """Best reply in the last round if the other has moved; before, a patient tit for tat.

        A defection is forgiven up to twice, if what mutual cooperation in the rounds after this
        one is worth exceeds what being exploited costs.
        """
        payoffs = self._table.payoffs
        left = self._table.rounds - len(mine) - 1
        if left == 0 and len(theirs) > len(mine):
            return max(CHOICES, key=lambda choice: payoffs.points(choice, theirs[-1]))
        if not theirs or theirs[-1] == "cooperate":
            return "cooperate"
        gain = left * (payoffs.reward - payoffs.punishment)
        cost = payoffs.punishment - payoffs.sucker
        forgives = theirs.count("defect") <= self._FORGIVEN and gain > cost and left > 0
        return "cooperate" if forgives else "defect"

    def _told(self, lines: Sequence[str], **values: Any) -> str:
        """One of the lines that was not told just before, filled in."""
        line = self._rng.choice([line for line in lines if line not in self._told_last])
        self._told_last = [*self._told_last[-1:], line]
        c, d = (move.phrase for move in self._table.moves)
        return line.format(c=c, d=d, other=self._brief.others[0].split()[0], **values)
