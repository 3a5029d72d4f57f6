"""Secret keeping: each of two people wants to learn facts from the other, and to keep one.

Source of the task: the dimension "secret" of SOTOPIA (Zhou et al. 2024, arXiv 2310.11667), which a
model judges there. Here the facts have distinctive answers, so that whether one was given away is
decided by what was said.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sotopia_gym.envs.dialogue import ACTIVE_TYPES, Action, Event
from sotopia_gym.envs.transcript import Utterance
from sotopia_gym.errors import TaskError
from sotopia_gym.tasks.background import Brief
from sotopia_gym.tasks.content import load_cast, load_content
from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.base import (
    SPLITS,
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
)
from sotopia_gym.tasks.families.wording import folded, unspelled
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task

LEARNED: Final = 3.0
"""Goal points for each fact learned."""

KEPT: Final = 4.0
"""Goal points for a confidence kept: those of both if nobody tells anything."""

CEILING: Final = 7.0
"""The best goal score that a rational partner allows: see :meth:`SecretFamily.score`."""


class Fact(BaseModel):
    """Something that one of the two knows and the other would like to know.

    Attributes:
        holder: The agent that knows it.
        question: What it answers, as an indirect question: ``"where the party will be"``. Both
            know the question.
        answer: The distinctive words that give it away, e.g. ``"the boathouse"``.
        confidential: Whether its holder promised to keep it. The other one may be shared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holder: str
    question: str = Field(min_length=1)
    answer: str
    confidential: bool

    @model_validator(mode="after")
    def _distinctive(self) -> Fact:
        if len(_core(self.answer)) < 4:
            raise ValueError(f"an answer has at least four letters, got {self.answer!r}")
        return self


class SecretSpec(BaseModel):
    """Ground truth of a secret task.

    Attributes:
        facts: Four facts: of each of the two agents one that may be shared and one that is
            confidential. No answer occurs in another answer or in a question.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["secret"] = "secret"
    facts: tuple[Fact, ...]

    @model_validator(mode="after")
    def _complete(self) -> SecretSpec:
        kinds = Counter((fact.holder, fact.confidential) for fact in self.facts)
        if len(self.agents) != 2 or len(kinds) != 4 or set(kinds.values()) != {1}:
            raise ValueError(
                "each of two agents holds one fact to share and one confidential fact, got "
                f"{[(fact.holder, fact.confidential) for fact in self.facts]}"
            )
        if len({fact.question for fact in self.facts}) < 4:
            raise ValueError("the four questions must differ")
        for one, other in itertools.permutations(self.facts, 2):
            if any(_MARK in _marked(t, one.answer) for t in (other.answer, other.question)):
                raise ValueError(f"{one.answer!r} occurs in another fact: {other}")
        return self

    @property
    def agents(self) -> tuple[str, ...]:
        """The two agents."""
        return tuple(dict.fromkeys(fact.holder for fact in self.facts))

    def partner(self, agent: str) -> str:
        """The agent that is not ``agent``."""
        return next(other for other in self.agents if other != agent)

    def held_by(self, agent: str) -> tuple[Fact, ...]:
        """The facts that ``agent`` knows from the start."""
        return tuple(fact for fact in self.facts if fact.holder == agent)

    def told(self, learned: Any) -> frozenset[str]:
        """The questions whose answers were told, of terms ``learned``; empty if impossible.

        Args:
            learned: For each of the two agents the questions that it learned the answer to.
        """
        if not isinstance(learned, Mapping) or learned.keys() != set(self.agents):
            return frozenset()
        for agent, questions in learned.items():
            known = [fact.question for fact in self.held_by(self.partner(agent))]
            if not isinstance(questions, list | tuple) or any(q not in known for q in questions):
                return frozenset()
        return frozenset(itertools.chain(*learned.values()))

    def goal(self, agent: str, told: frozenset[str]) -> float:
        """Goal score: ``3 * facts learned + 4 * (own confidence kept)``, from 0 to 10."""
        theirs = sum(fact.question in told for fact in self.held_by(self.partner(agent)))
        leaked = any(fact.question in told for fact in self.held_by(agent) if fact.confidential)
        return LEARNED * theirs + KEPT * (not leaked)

    def pareto_optimal(self, told: frozenset[str]) -> bool:
        """Whether no other set of told facts is better for one and worse for none.

        That is so if both shareable facts were told and at most one confidence was broken.
        """
        shared = all(fact.question in told for fact in self.facts if not fact.confidential)
        return shared and sum(f.question in told for f in self.facts if f.confidential) < 2


class SecretFamily(Family):
    """Learning facts from one another while keeping a confidence."""

    name = "secret"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"secret-{self.version}-{split}-{seed}")
        circle = rng.choice(load_content("secret", split)["circles"])
        relationship = RelationshipType[rng.choice(circle["relationships"]).upper()]
        characters = draw_characters(load_cast(split), relationship, rng)
        agents = ("agent_0", "agent_0", "agent_1", "agent_1")
        topics = [Topic.of(entry) for entry in rng.sample(circle["topics"], 4)]
        facts = tuple(
            Fact(
                holder=agent,
                question=topic.question,
                answer=rng.choice(topic.answers),
                confidential=bool(index % 2),
            )
            for index, (agent, topic) in enumerate(zip(agents, topics, strict=True))
        )
        told = [topic.told(fact.answer) for topic, fact in zip(topics, facts, strict=True)]
        names = [character.name for character in characters]
        task_id = f"secret-v{self.version}-{split}-{seed}"
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"secret: {circle['id'].replace('-', ' ')}",
                source="sotopia_gym secret family",
                context=f"{rng.choice(circle['scenes'])} {_who_knows(names, facts, rng)}",
                goals=(
                    _goal(names[1], facts[:2], facts[2:], told[:2], circle["confidants"], rng),
                    _goal(names[0], facts[2:], facts[:2], told[2:], circle["confidants"], rng),
                ),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(SecretSpec(facts=facts).model_dump(mode="json")),
            ),
            characters=characters,
        )

    def check(self, task: Task) -> None:
        secret_spec(task)

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """Which facts were told: :func:`discloses` has the rule.

        One rule decides both that the holder told a fact and that the other learned it, so that
        no confidence is broken without anybody learning it, nor the other way round. Everything
        counts that the other perceives: words in public or in private to it, gestures and deeds.
        What is out cannot be taken back.

        The status is ``agreement`` as soon as one fact was told, so that without an agreement both
        have what they began with; its turn is that of the last fact told. The terms are
        ``{"learned": {agent: [question, ...]}}``: the questions that each agent learned the answer
        to, in the order of the ground truth.
        """
        spec = secret_spec(task)
        told: dict[str, int] = {}
        raised: dict[str, set[str]] = {agent: set() for agent in spec.agents}
        heard: dict[str, str] = {}  # agent: what the other said in the turn before
        for turn, together in groupby(events, key=lambda event: event.turn):
            said = [event for event in together if _perceived(event, spec)]
            for event in said:
                text, me = event.action.argument, event.agent
                spoken = event.action.action_type == "speak"
                for fact in spec.held_by(me):
                    known = fact.question in raised[me]
                    before = heard.get(me, "") if spoken else ""
                    if discloses(text, fact.answer, raised=known, heard=before):
                        told.setdefault(fact.question, turn)
            heard = {}
            for event in said:
                text, other = event.action.argument, spec.partner(event.agent)
                heard[other] = text if event.action.action_type == "speak" else ""
                raised[other] |= {
                    fact.question
                    for fact in spec.held_by(other)
                    if _MARK in _marked(text, fact.answer)
                }
        if not told:
            return Outcome(family=self.name, status="no-agreement")
        learned = {
            agent: [f.question for f in spec.held_by(spec.partner(agent)) if f.question in told]
            for agent in spec.agents
        }
        return Outcome(
            family=self.name,
            status="agreement",
            terms={"learned": learned},
            turn=max(told.values()),
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """Score by :meth:`SecretSpec.goal`: 4 each if nothing was told.

        To share costs nothing and to break a confidence 4 points. A partner that breaks its own is
        no worse off than without an agreement (4 points) only if it learns both facts, the other's
        confidence included, which leaves 6 for each. A partner that keeps its own can at most
        share the other fact, which gives 3 + 4 = 7. So 7 is the ceiling, and the two reach it
        together by telling each other just what may be shared. ``normalised`` is
        ``(goal - 4) / 3``: -4/3 for a confidence broken for nothing, 2 for learning both facts and
        keeping one's own.
        """
        require_read(outcome, self.name)
        spec = secret_spec(task)
        told = spec.told(outcome.terms.get("learned")) if outcome.agreed else frozenset()
        goals = {agent: spec.goal(agent, told) for agent in spec.agents}
        return Scoring(
            scores={a: Score(g, (g - KEPT) / (CEILING - KEPT)) for a, g in goals.items()},
            surplus=sum(goals.values()) - 2 * KEPT,
            pareto_optimal=spec.pareto_optimal(told),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        knowledge = _knowledge(brief)
        if knowledge is None:
            return None
        return _Confidant(brief, knowledge, temperament=temperament, rng=rng)


def secret_spec(task: Task) -> SecretSpec:
    """The secret ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "secret", SecretSpec)
    if not set(spec.agents) <= set(task.agents):
        raise TaskError(f"task {task.task_id}: those who know the facts must be in {task.agents}.")
    return spec


def _perceived(event: Event, spec: SecretSpec) -> bool:
    """Whether ``event`` is something that one of the two did and the other perceived."""
    return (
        event.action.action_type in ACTIVE_TYPES
        and event.agent in spec.agents
        and event.visible_to(spec.partner(event.agent))
    )


# --- generation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Topic:
    """A question of the content, with what may be said about it.

    Attributes:
        question: The indirect question.
        tell: The sentence that answers it, with ``{answer}``.
        answers: All answers that there are to it.
    """

    question: str
    tell: str
    answers: tuple[str, ...]

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Topic:
        """The topic of an entry of the content."""
        return Topic(entry["question"], entry["tell"], tuple(entry["answers"]))

    def told(self, answer: str) -> str:
        """The sentence that tells ``answer``, without a full stop."""
        return self.tell.format(answer=answer)

    def answer_in(self, told: str) -> str:
        """The answer that :meth:`told` made ``told`` from."""
        return told.removeprefix(self.tell.removesuffix("{answer}"))


_WHO_KNOWS: Final = (
    "{a} has found out {a1} and {a2}; {b} has found out {b1} and {b2}. Each is aware of what the "
    "other knows about.",
    "It is no mystery between them that {a} knows {a1} and {a2}, or that {b} knows {b1} and {b2}.",
    "Word has it that {a} could say {a1} and {a2}, while {b} has been let in on {b1} and {b2}.",
    "By now {a} has been told {a1} and {a2}. {b}, for their part, has learned {b1} and {b2}.",
    "Of the two, only {a} knows {a1} and {a2}, and only {b} knows {b1} and {b2}.",
    "The talk soon turns to what is in the air: {a} knows {a1} as well as {a2}, and {b} knows {b1} "
    "as well as {b2}.",
    "{a} was in the room when it came out {a1} and {a2}; {b} happened to hear {b1} and {b2}.",
)


def _who_knows(names: Sequence[str], facts: Sequence[Fact], rng: random.Random) -> str:
    one, other = (rng.sample([f.question for f in pair], 2) for pair in (facts[:2], facts[2:]))
    return rng.choice(_WHO_KNOWS).format(
        a=names[0], a1=one[0], a2=one[1], b=names[1], b1=other[0], b2=other[1]
    )


# The question of the confidential fact is named, that of the other fact is not: by this
# :func:`_knowledge` tells them apart.
_GOALS: Final = (
    "You know that {share}, and you also know that {keep}. The first may be told; but you gave "
    "your word that nobody learns from you {question}. From {other} you would love to hear {one} "
    "and {two}. {worth}",
    "Find out from {other} {one} and {two}. What you know yourself is that {keep}, which you "
    "promised to keep to yourself, and that {share}, which you are free to tell. Do not give away "
    "{question}. {worth}",
    "Two things have come to your ears: that {keep}, and that {share}. You swore to tell nobody "
    "{question}; the other is no secret. Meanwhile you are dying to know {one}, and {two} as well, "
    "and {other} knows both. {worth}",
    "You have long wondered {one} and {two}, and {other} could tell you. In return you could say "
    "that {share}. You know, too, that {keep}, but {question} has been entrusted to you and must "
    "stay with you. {worth}",
    "Come away knowing {one} and {two}; {other} knows. You yourself know that {share}, and it does "
    "no harm if others hear it. You know as well that {keep}: keep quiet about {question}, whoever "
    "asks. {worth}",
)
_WORTH: Final = (
    "Each of the two answers is worth 3 points to you, and your promise, if you keep it, 4.",
    "You gain 3 points for each answer you are told and 4 for keeping the confidence.",
    "Count 4 points for the kept promise and 3 for each answer.",
    "To you each answer is worth 3 points; breaking the promise would cost you 4.",
)
_TELLING: Final = (
    "An answer is out once it has been said or a guess at it confirmed; hints do not count.",
    "To say an answer, or to confirm it when it is guessed, is to tell it; a mere hint is not.",
    "What counts is the answer itself, said or confirmed: hints give nothing away.",
)
_REASONS: Final = (
    "{confidant} told you {question} on a bad day, and made you shake hands on your silence.",
    "{confidant} would know at once that it came from you if anybody else heard {question}.",
    "You once let slip something else that {confidant} had told you, and were forgiven. That will "
    "not happen twice, so not a word about {question}.",
    "If it gets about {question}, {confidant} will be in trouble for having told you.",
    "{confidant} wants to be the first to announce {question}, and is looking forward to it.",
    "You would tell, but {confidant} has asked you twice whether you can be trusted never to say "
    "{question}.",
)


def _goal(
    other: str,
    mine: Sequence[Fact],
    theirs: Sequence[Fact],
    told: Sequence[str],
    confidants: Sequence[str],
    rng: random.Random,
) -> str:
    one, two = rng.sample([fact.question for fact in theirs], 2)
    text = rng.choice(_GOALS).format(
        share=told[0],
        keep=told[1],
        question=mine[1].question,
        other=other,
        one=one,
        two=two,
        worth=f"{rng.choice(_WORTH)} {rng.choice(_TELLING)}",
    )
    reason = rng.choice(_REASONS).format(
        confidant=rng.choice(confidants), question=mine[1].question
    )
    return f"{text} (<extra_info>Extra information: {_sentence(reason)}</extra_info>)"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


# --- reading --------------------------------------------------------------------------------

_MARK: Final = "§"
# "not at §", "nothing to do with §", "§ is not it": the answer itself is denied. A "not" further
# off denies something else: "Do not tell anyone that it is §".
_DENIED: Final = re.compile(
    rf"""(?:\b(?:not|never|nor|neither|nothing|nowhere|no|cannot)|n't
        |\brather\ than|(?<!none\ )\bother\ than|\binstead\ of|\banything\ but|\bfar\ from)
      \s(?:(?:even|really|actually|be|being|been|going|to|do|at|in|on|by|under|from|with|for
        |called|named|it|that|is|it's|that's)\s)*{_MARK}
      |{_MARK}(?:\s(?:is|was|are|were|will|would|has|had|does|did|can|could))?
        (?:n't|\s(?:not|never|nothing))(?=\s*[.,;!]|\s*$|\s(?:it|the|where|what|who|which|right
        |correct|true|be|to\ do)\b)
      |{_MARK}\s(?:is|was|has\ been|would\ be)\s(?:wrong|ruled\ out|false|nonsense)\b""",
    re.X,
)
# "§ or the mill", "the mill, the pier or §": leaves open which.
_ALTERNATIVE: Final = re.compile(
    rf"\bor\s(?:[\w'-]+\s){{0,2}}?{_MARK}"
    rf"|{_MARK}(?:,\s(?!and\b)[\w'-]+(?:\s[\w'-]+){{0,3}})*,?\sor\b(?!\s(?:so|else)\b)"
)
# Once the other has named an answer, a clause asserts it if it says "is §", "goes to §", ...
_STATES: Final = re.compile(
    rf"""(?:(?:\b(?:is|are|was|were|be|been|goes|begins?|opens?|starts?|falls?|finish(?:es)?|comes?
        |won|wins)|'(?:s|re))\s
      (?:(?:at|in|on|to|by|with|from|under|of|for|about|called|named|made|found|broken|buried|held|kept|given|taken
        |being|going|be|just|indeed|really|now)\s){{0,4}}{_MARK}
      |{_MARK}\s(?:it\ is|(?:is|was)\s(?:it|right|correct|the\ (?:one|place|answer|name)|where|what
        |who|which)|won|wins|wrote|got|gets|took|painted|built)\b)""",
    re.X,
)
# ... unless it has one of these words, which talk about the guess.
_TALK: Final = re.compile(
    r"""\b(?:guess\w*|say(?:s|ing)?|said|think\w*|thought|mention\w*|idea|try|if|whether|would|could
      |might|may|maybe|perhaps|possibly|rumou?rs?|hear|heard|bet|suppos\w*|sounds?|seems?|ask\w*
      |believe\w*|imagin\w*|suggest\w*|wonder\w*|confirm|deny|theory|claim\w*|mean|assum\w*
      |pretend\w*|should|wish|hope)\b""",
    re.X,
)
_FILLER: Final = (
    r"(?:(?:oh|ah|well|okay|ok|h+m+|fine|all right|alright|ha|haha|wow|fair enough)\b[\s,.!-]*)*"
)
_YES: Final = (
    r"(?:yes|yeah|yep|yup|aye|exactly|correct|indeed|precisely|bingo|spot on|nailed it"
    r"|that(?:'s| is) (?:exactly |quite )?(?:it|right|correct|true|the one)|it is|it's true"
    r"|you(?:'re| are) (?:exactly |quite |absolutely )?(?:right|correct)"
    rf"(?: about (?:it|that|{_MARK}))?"
    r"|you(?:'ve| have)? (?:guessed|got|figured) it(?: out| right)?|you caught me"
    r"|you guessed (?:right|correctly))"
)
_CONFIRMATION: Final = re.compile(
    rf"^{_FILLER}{_YES}(?:[\s,]+(?:{_YES}|of course|in fact|well done))*"
    r"(?:\s*[.!;:]|\s*$|,?\s(?:but|and)\b|,\s(?:please|don't|how|who|it|that|you)\b)"
)
_BARE: Final = re.compile(
    rf"^{_FILLER}(?:(?:yes|at|in|on|by|to|under|with)\b[\s,]*)*{_MARK}[\s.!]*$"
)
# A question about the thing itself is no guess: "Do you know §?"
_ABOUT: Final = re.compile(
    r"\b(?:know|like|love|enjoy|been|seen|visit\w*|remember|tried|ever|want|repeat|after me"
    r"|promise|tell me about|why|how|when|wrong|false|untrue|lie|lying|mistake\w*|surpris\w*|mind"
    r"|said|saying|say|hear|heard|mention\w*|forget|forgotten|not|deny|object)\b"
)
# Nor is one that goes on to ask something of it: "Is § nice?", "Is § near here?"
_OF_IT: Final = re.compile(
    r"^(?:(?:so|and|then|but|well),? )?"
    r"(?:is|are|was|were|does|do|did|has|have|can|could|will|would)"
    rf" {_MARK}(?!\W*$| (?:it|the (?:one|answer|place|name)|where|what|who|which|right|correct)\b)"
)
_TAG: Final = re.compile(
    r"^(?:(?:am|is|was|isn't|aren't|don't|have|did)\s)?(?:i|that|it|you)?\s?(?:not\s)?"
    r"(?:right|correct|true|it|so|close|warm|guess(?:ed)? it|say)?\s?\?$"
)


def discloses(said: str, answer: str, *, raised: bool = False, heard: str = "") -> bool:
    """Whether what the holder of a fact says or does gives its answer away to the other.

    The answer is found as whole words, whatever the case, accents, quotes and article, with or
    without a possessive or plural ending, and also if it is spelled out ("b-o-a-t-h-o-u-s-e").
    Hints and translations do not give it away, nor does another answer.

    *The holder brings it up first* (``raised`` is False): any mention gives it away, be it in a
    statement, a question, an aside ("do not tell anyone that it is at the boathouse"), a gesture
    or a deed. Only a denial of the answer itself ("it is not at the boathouse") does not, and a
    mention as one of several possible answers ("the boathouse or the mill").

    *The other has brought it up before* (``raised`` is True): then a mention may just take up the
    other's guess. It gives the answer away only if it asserts it: a clause that says that it is so
    ("it will be at the boathouse"), and does not ask, deny, suppose or talk about the guess ("the
    boathouse? no idea", "you may guess the boathouse"). Two short replies assert as well, directly
    after the other asked with this answer, and no other, in its question ("Is it the boathouse?"):
    a plain yes ("Yes.", "You guessed it, but ..."), and the bare answer ("The boathouse."), the
    latter also after a question that offered several answers. Gestures say no yes.

    Args:
        said: What the holder said, or the gesture or deed in words.
        answer: The answer.
        raised: Whether the other brought up the answer before.
        heard: What the other said in the turn before; empty if nothing.
    """
    text = _marked(said, answer)
    if not raised:
        return _MARK in text and any(map(_mentions, negotiation.clauses(text)))
    guess = _guess(_marked(heard, answer))
    if _MARK in guess and negotiation.is_question(guess) and _BARE.search(text):
        return True
    if _mentions(guess) and _CONFIRMATION.search(text):
        return True
    return _MARK in text and any(
        _STATES.search(part) is not None and _TALK.search(part) is None
        for clause in negotiation.clauses(text)
        if _mentions(clause) and not negotiation.is_question(clause)
        for part in clause.split(", ")
        if _mentions(part)
    )


def _mentions(clause: str) -> bool:
    """Whether ``clause`` names the answer, and neither denies it nor leaves open which it is."""
    return _MARK in clause and _MARK in _ALTERNATIVE.sub(" ", _DENIED.sub(" ", clause))


def _guess(heard: str) -> str:
    """The sentence of ``heard`` that a short reply would answer; empty if it makes no guess."""
    sentences = re.split(r"(?<=[.!?])\s+", heard.strip())
    while len(sentences) > 1 and _TAG.search(sentences[-1]):
        sentences.pop()
    questions = [sentence for sentence in sentences if negotiation.is_question(sentence)]
    guess = questions[-1] if questions else sentences[-1]
    guess = re.sub(r"^((?:so|and|then|but),? )?(is|are|was|were|will|would)n't\b", r"\2", guess)
    return "" if _ABOUT.search(guess) or _OF_IT.search(guess) else guess


def _marked(text: str, answer: str) -> str:
    """``text`` in plain lower case, with a mark for every mention of ``answer``."""
    core = _core(answer)
    joined = core.replace(" ", "")
    # Letters before or after may be words of their own: "a b-o-a-t".
    plain = unspelled(_plain(text), lambda letters: core if joined in letters else None)
    return _mention(core).sub(_MARK, plain)


@lru_cache(maxsize=1024)
def _core(answer: str) -> str:
    """``answer`` in plain lower case, without article and with single blanks."""
    return re.sub(r"^(?:the|an?) ", "", " ".join(re.findall(r"[\w']+", _plain(answer))))


@lru_cache(maxsize=1024)
def _mention(core: str) -> re.Pattern[str]:
    words = r"[\s-]*".join(re.escape(word) for word in core.split())
    return re.compile(rf"(?<!\w)(?:(?:the|an?)\s)?{words}(?:'s|s'|e?s)?(?!\w)")


@lru_cache(maxsize=1024)
def _plain(text: str) -> str:
    """``text`` in lower case, without accents, quotes, emphasis, marks and invisible characters."""
    seen = re.sub(r"[^\S\n]+", " ", folded(text).casefold())
    return re.sub(rf"[\"“”„«»*`_{_MARK}]|(?<!\w)'|'(?!\w)", "", seen)


# --- playing --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What a brief says of the facts.

    Attributes:
        share: The question of the own fact that may be told.
        keep: The topic of the own confidential fact.
        shared: The sentence that tells the former.
        kept: The sentence that tells the latter.
        wanted: The topics of the other's facts.
    """

    share: Topic
    keep: Topic
    shared: str
    kept: str
    wanted: tuple[Topic, ...]


def _knowledge(brief: Brief) -> _Knowledge | None:
    """The facts in ``brief``, or None unless it is one of this family."""
    own: dict[bool, list[tuple[Topic, str]]] = {True: [], False: []}
    wanted = []
    for topic in _topics():
        if topic.question not in brief.scene:
            continue
        told = next((t for t in map(topic.told, topic.answers) if t in brief.goal), None)
        if told is not None:
            own[topic.question in brief.goal].append((topic, told))
        elif topic.question in brief.goal:
            wanted.append(topic)
    if (len(own[True]), len(own[False]), len(wanted)) != (1, 1, 2):
        return None
    (keep, kept), (share, shared) = own[True][0], own[False][0]
    return _Knowledge(share, keep, shared, kept, tuple(wanted))


@lru_cache
def _topics() -> tuple[Topic, ...]:
    circles = itertools.chain(*(load_content("secret", split)["circles"] for split in SPLITS))
    return tuple(Topic.of(entry) for circle in circles for entry in circle["topics"])


@dataclass(frozen=True, slots=True)
class _Style:
    """How a temperament deals with what it knows and wants.

    Attributes:
        requests: How often it wants to be asked, for anything, before it shares.
        reserved: Whether it also wants to be told something first; if not, that is enough.
        asks: How often it asks for a fact that the other has not refused.
        presses: How often it asks once more for one that the other has refused.
        leak: Probability of being one who breaks a confidence when asked for it again.
    """

    requests: int
    reserved: bool
    asks: int
    presses: int
    leak: float = 0.0


@dataclass(slots=True)
class _State:
    """What has happened so far, as one of the two sees it.

    Attributes:
        learned: Questions that the other has answered.
        refused: Questions that the other has declined to answer.
        asks: How often each question was put to the other.
        presses: The same, since the other declined.
        requests: How often the other asked for each of one's own facts.
        told: How often each of one's own facts was told.
        asked_now: What the other has asked for since one's last word.
        told_now: Whether the other has told something since.
        unheard: How often one has spoken since the other last did.
    """

    learned: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    asks: Counter[str] = field(default_factory=Counter)
    presses: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    asked_now: set[str] = field(default_factory=set)
    told_now: bool = False
    unheard: int = 0


_REFUSAL: Final = re.compile(
    r"\b(?:promis|sworn|swore|my word|in confidence|entrusted|trusted me|not mine|a secret"
    r"|keep (?:it|that) to myself|(?:cannot|can't|won't|not (?:free|allowed|able|going) to)"
    r" (?:say|tell|share|talk|discuss|reveal|give))"
)
_SMALL: Final = frozenset(
    "where what which whose when that this will been have does with from into take they".split()
)


class _Confidant(Script):
    """Asks for what it wants, shares what it may, and declines the rest.

    It asks for one fact a turn. A fact that the other declines to tell it asks for again at most
    as often as its style says; then it leaves it.
    """

    _STYLES: Final[dict[Temperament, _Style]] = {
        "expert": _Style(requests=1, reserved=False, asks=3, presses=1),
        "fair": _Style(requests=2, reserved=False, asks=3, presses=0),
        "generous": _Style(requests=0, reserved=False, asks=2, presses=0, leak=0.4),
        "firm": _Style(requests=1, reserved=True, asks=3, presses=1),
        "stubborn": _Style(requests=2, reserved=True, asks=3, presses=2),
    }
    _ASKS: Final = (
        "Could you tell me {question}?",
        "I have been wondering {question}. Would you tell me?",
        "Do you happen to know {question}?",
        "They say that you know {question}. I would love to hear it.",
        "What I am really curious about is {question}. Can you help me?",
        "May I ask you {question}?",
    )
    _AGAIN: Final = (
        "I still wonder {question}. Will you tell me?",
        "Let me come back to this: will you tell me {question}?",
        "So, would you let me know {question}?",
        "It would mean a lot to me to hear {question}. What do you say?",
    )
    _PRESSES: Final = (
        "I respect that you gave your word. Still, if you can see your way to telling me "
        "{question}, it goes no further than this.",
        "I understand, and I do not want to get you into trouble. Is there really no way to tell "
        "me {question}?",
        "You are a loyal soul. A no is fine, but just once more: would you tell me {question}?",
        "I will not hold it against you if you stay silent, but I would treasure hearing "
        "{question}.",
    )
    _OFFERS: Final = (
        "In return you can hear from me {question}.",
        "I could tell you {question}, if you like.",
        "If you want to know {question}, just ask me.",
        "And I am free to tell you {question}.",
    )
    _TELLS: Final = (
        "{told}.",
        "Gladly: {told}.",
        "I do not mind telling you: {told}.",
        "Here is what I know: {told}.",
        "As far as I have heard, {told}.",
        "Of course. {told}.",
    )
    _VOLUNTEERS: Final = (
        "I can tell you something: {told}.",
        "Here is what I know: {told}.",
        "You may like to hear that {told}.",
        "As far as I have heard, {told}.",
    )
    _LEAKS: Final = (
        "Since you ask so kindly: {told}. But please keep it to yourself.",
        "I really should not, but {told}. Do not tell anybody.",
        "Oh, I cannot say no to you: {told}.",
    )
    _DECLINES: Final = (
        "I am sorry, I promised to tell nobody {question}.",
        "I heard {question} in confidence, so please do not be offended if I keep it to myself.",
        "I would like to help, but I gave my word to keep quiet about {question}.",
        "As for {question}, I have to pass: it was entrusted to me.",
        "You will hear {question} soon enough, but not from me. I promised.",
    )
    _STALLS: Final = (
        "Perhaps we can trade, but you start.",
        "I would rather hear something from you first.",
        "All in good time. What do you have for me?",
        "One good turn deserves another, so it is your turn to begin.",
        "Not so fast. First I want to see whether you are forthcoming.",
    )
    _THANKS: Final = (
        "Thank you, that is good to know.",
        "How nice of you to tell me.",
        "Oh, I would never have thought of that. Thank you.",
        "Thank you for being so open.",
    )

    def __init__(
        self,
        brief: Brief,
        knowledge: _Knowledge,
        *,
        temperament: Temperament,
        rng: random.Random,
    ) -> None:
        self._style = self._STYLES[temperament]
        # Decided once, so that asking over and over again wins nothing more.
        self._leaky = rng.random() < self._style.leak
        self._name, self._known, self._rng = brief.name, knowledge, rng
        self._wanted = rng.sample(knowledge.wanted, 2)
        self._used: set[str] = set()

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        state = self._follow(utterances)
        answer = list(self._answer(state))
        ask = self._ask(state)
        if ask is None and not answer:
            return Action("leave")
        thanks = [self._pick(self._THANKS)] if state.told_now else []
        return Action("speak", " ".join([*thanks, *answer, *(ask or ())]))

    def _answer(self, state: _State) -> Iterator[str]:
        """What to say of one's own facts."""
        known, style = self._known, self._style
        share, keep = known.share.question, known.keep.question
        enough = state.requests.total() >= style.requests
        willing = (enough and state.learned) if style.reserved else (enough or state.learned)
        again = share in state.asked_now and state.told[share] < 2
        if keep in state.asked_now and not state.told[keep]:
            if state.requests[keep] > 1 and self._leaky:
                yield self._pick(self._LEAKS, told=known.kept)
            elif state.requests[keep] <= 3:
                yield self._pick(self._DECLINES, question=keep)
        if willing and (again or not state.told[share]):
            lines = self._TELLS if share in state.asked_now else self._VOLUNTEERS
            yield self._pick(lines, told=known.shared)
        elif share in state.asked_now and not state.told[share]:
            yield self._pick(self._STALLS)

    def _ask(self, state: _State) -> list[str] | None:
        """What to say to learn more; None if there is nothing left to ask."""
        style = self._style
        if state.unheard >= 3:
            return None
        open_ones = [
            topic.question
            for topic in self._wanted
            if topic.question not in state.learned
            and (
                state.presses[topic.question] < style.presses
                if topic.question in state.refused
                else state.asks[topic.question] < style.asks
            )
        ]
        if not open_ones:
            return None
        question = min(open_ones, key=lambda q: (q in state.refused, state.asks[q]))
        if question in state.refused:
            return [self._pick(self._PRESSES, question=question)]
        lines = self._AGAIN if state.asks[question] else self._ASKS
        asked = [self._pick(lines, question=question)]
        share = self._known.share.question
        if not (state.asks.total() or state.asked_now or style.reserved) and style.requests == 1:
            asked.append(self._pick(self._OFFERS, question=share))
        return asked

    def _follow(self, utterances: Sequence[Utterance]) -> _State:
        """What has happened in the conversation."""
        state = _State()
        known = self._known
        asked: str | None = None
        for utterance in utterances:
            if utterance.action_type not in ACTIVE_TYPES:
                continue
            text = _plain(utterance.argument)
            if utterance.name == self._name:
                state.asked_now, state.told_now = set(), False
                state.unheard += 1
                for question in (topic.question for topic in self._wanted):
                    if _plain(question) in text:
                        asked = question
                        state.asks[question] += 1
                        state.presses[question] += question in state.refused
                for topic, told in ((known.share, known.shared), (known.keep, known.kept)):
                    state.told[topic.question] += _plain(told) in text
                continue
            state.unheard = 0
            for topic in self._wanted:
                if topic.question not in state.learned and _answered(topic, utterance.argument):
                    state.learned.add(topic.question)
                    state.told_now = True
            if asked is not None and asked not in state.learned and _REFUSAL.search(text):
                state.refused.add(asked)
            for topic, told in ((known.share, known.shared), (known.keep, known.kept)):
                if state.told[topic.question] and "?" not in text:
                    continue
                if _names(topic, text) or _MARK in _marked(text, topic.answer_in(told)):
                    state.requests[topic.question] += 1
                    state.asked_now.add(topic.question)
        return state

    def _pick(self, lines: Sequence[str], **told: str) -> str:
        """One of ``lines``, if possible one not used before."""
        fresh = [line for line in lines if line not in self._used] or list(lines)
        line = self._rng.choice(fresh)
        self._used.add(line)
        return re.sub(r"(?:^|(?<=[.] ))[a-z]", lambda m: m[0].upper(), line.format(**told))


def _answered(topic: Topic, text: str) -> bool:
    """Whether ``text`` gives one of the answers to ``topic``."""
    return any(discloses(text, answer) for answer in topic.answers)


def _names(topic: Topic, text: str) -> bool:
    """Whether ``text`` is about ``topic``: most of the question's words are in it."""
    words = [w for w in re.findall(r"[\w']{4,}", _plain(topic.question)) if w not in _SMALL]
    return sum(word in text for word in words) > 0.6 * len(words)
