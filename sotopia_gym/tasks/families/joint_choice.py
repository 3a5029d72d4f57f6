"""Joint choice: two people settle on one option out of a list that both know, or on none.

Each has private values for the options. Meetings are the classical case: the values are those of
the slots in a private calendar (Sen and Durfee 1998, "A formal study of distributed meeting
scheduling", Group Decision and Negotiation 7). Nothing can be paid or divided, so that all there is
to gain lies in finding an option that is good for both.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, model_validator

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
from sotopia_gym.tasks.families.wording import enquires, listed
from sotopia_gym.tasks.schema import Constraint, OutcomeSpec, RelationshipType, Scenario, Task


class JointChoiceSpec(BaseModel):
    """Ground truth of a joint choice.

    Attributes:
        options: What there is to choose from, as it is named in the scene. Every option has a word
            or a time that each other option lacks, so that its name means no other.
        values: For each of the two agents what each option is worth to it, in the order of
            ``options``: 0 to 10, the best being 10.
        fallback: What it is worth to each agent to part without a choice: at least 0, below 10.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["joint_choice"] = "joint_choice"
    options: tuple[str, ...]
    values: dict[str, tuple[float, ...]]
    fallback: dict[str, float]

    @model_validator(mode="after")
    def _complete(self) -> JointChoiceSpec:
        if len(self.options) < 2:
            raise ValueError(f"there must be two options or more, got {self.options}")
        for option in self.options:
            if named(option, self.options).option != option:
                raise ValueError(f"{option!r} cannot be told from the others of {self.options}")
        if len(self.values) != 2 or self.values.keys() != self.fallback.keys():
            raise ValueError(
                f"two agents choose, each with values and a fallback; got values for "
                f"{sorted(self.values)}, a fallback for {sorted(self.fallback)}"
            )
        for agent, values in self.values.items():
            if len(values) != len(self.options) or min(values) < 0 or max(values) != 10:
                raise ValueError(
                    f"{agent} needs {len(self.options)} values from 0 to 10, the best 10; "
                    f"got {values}"
                )
            if not 0 <= self.fallback[agent] < 10:
                raise ValueError(
                    f"the fallback of {agent} must be at least 0 and below 10, "
                    f"got {self.fallback[agent]}"
                )
        return self

    def goals(self, option: str | None) -> dict[str, float]:
        """Goal score of each agent: what ``option`` is worth to it; None is no agreement."""
        if option is None:
            return dict(self.fallback)
        index = self.options.index(option)
        return {agent: values[index] for agent, values in self.values.items()}

    def ceiling(self, agent: str) -> float:
        """The best goal score ``agent`` can have while the other is no worse off than without.

        It is the fallback where no option is better for ``agent`` and tolerable for the other.
        """
        (other,) = self.values.keys() - {agent}
        tolerable = [
            mine
            for mine, theirs in zip(self.values[agent], self.values[other], strict=True)
            if theirs >= self.fallback[other]
        ]
        return max([self.fallback[agent], *tolerable])

    def normalised(self, agent: str, goal: float) -> float:
        """``(goal - fallback) / (ceiling - fallback)``: 0 is no agreement, 1 the ceiling.

        Where the ceiling is the fallback there is nothing to gain from a rational partner; then
        ``(goal - fallback) / (10 - fallback)``, so that parting is still 0 and every option that
        the agent should have refused is below.
        """
        fallback, ceiling = self.fallback[agent], self.ceiling(agent)
        return (goal - fallback) / ((ceiling if ceiling > fallback else 10) - fallback)

    @property
    def feasible(self) -> bool:
        """Whether some option is worse than none for nobody, and better for one."""
        return any(
            all(goal >= self.fallback[agent] for agent, goal in goals.items())
            and goals != self.fallback
            for goals in map(self.goals, self.options)
        )

    def pareto_optimal(self, option: str | None) -> bool:
        """Whether neither another option nor parting is better for one and worse for none."""
        had = self.goals(option)
        return not any(
            got != had and all(got[agent] >= goal for agent, goal in had.items())
            for got in map(self.goals, (None, *self.options))
        )


class JointChoiceFamily(Family):
    """Settling on one option together: a time to meet, a place to eat, a name for the dog."""

    name = "joint_choice"
    version = 1

    def generate(self, seed: int, split: Split = "train") -> Task:
        rng = random.Random(f"joint_choice-{self.version}-{split}-{seed}")
        setting = rng.choice(load_content("joint_choice", split)["settings"])
        relationship = RelationshipType[rng.choice(setting["relationships"]).upper()]
        options = _draw_options(setting, rng)
        spec = _draw_spec(options, rng)
        reasons = rng.sample(setting["reasons"], 2)
        task_id = f"joint_choice-v{self.version}-{split}-{seed}"
        return Task(
            task_id=task_id,
            scenario=Scenario(
                scenario_id=task_id,
                codename=f"joint choice: {setting['id'].replace('-', ' ')}",
                source="sotopia_gym joint_choice family",
                context=setting["scene"].format(options=listed(options, "or")),
                goals=tuple(
                    _goal(spec, agent, reason, setting["fallback"], rng)
                    for agent, reason in zip(spec.values, reasons, strict=True)
                ),
                relationship=relationship,
                constraints=(Constraint(), Constraint()),
                outcome=OutcomeSpec.model_validate(spec.model_dump(mode="json")),
            ),
            characters=draw_characters(load_cast(split), relationship, rng),
        )

    def check(self, task: Task) -> None:
        joint_choice_spec(task)

    def feasible(self, task: Task) -> bool:
        return joint_choice_spec(task).feasible

    def read(self, task: Task, events: Sequence[Event]) -> Outcome:
        """The option agreed on, by the rule of :mod:`.negotiation` and :func:`read_statement`.

        Only options of the task are ever offers, so that nothing else can be agreed on.
        """
        spec = joint_choice_spec(task)
        said = [(e.agent, e.turn, e.action.argument) for e in said_to_all(events, spec.values)]
        agreement = negotiation.follow(read_statements(said, spec.options)).agreement
        if agreement is None:
            return Outcome(family=self.name, status="no-agreement")
        return Outcome(
            family=self.name,
            status="agreement",
            terms={"option": agreement.terms},
            turn=agreement.turn,
        )

    def score(self, task: Task, outcome: Outcome) -> Scoring:
        """The goal is the value of the option agreed on, without an agreement the fallback.

        ``normalised`` is :meth:`JointChoiceSpec.normalised`. An option that the task does not have
        counts as no agreement. Parting is Pareto-optimal where no option is better for one and
        worse for none, which is the right result of an infeasible task.
        """
        require_read(outcome, self.name)
        spec = joint_choice_spec(task)
        option = outcome.terms.get("option") if outcome.agreed else None
        option = option if option in spec.options else None
        goals = spec.goals(option)
        return Scoring(
            scores={a: Score(goal, spec.normalised(a, goal)) for a, goal in goals.items()},
            surplus=sum(goals.values()) - sum(spec.fallback.values()),
            pareto_optimal=spec.pareto_optimal(option),
        )

    def script(self, brief: Brief, temperament: Temperament, rng: random.Random) -> Script | None:
        fallback = _FALLBACK.search(brief.goal)
        if fallback is None:
            return None
        values = _values_in(brief.scene, brief.goal[: fallback.start()])
        if len(values) < 2:
            return None
        return _Chooser(brief, values, float(fallback[1]), temperament=temperament, rng=rng)


def joint_choice_spec(task: Task) -> JointChoiceSpec:
    """The joint-choice ground truth of ``task``.

    Raises:
        TaskError: If it has none, or a malformed one.
    """
    spec = read_spec(task, "joint_choice", JointChoiceSpec)
    if not spec.values.keys() <= set(task.agents):
        raise TaskError(f"task {task.task_id}: those who choose must be among {task.agents}.")
    return spec


# --- generation -----------------------------------------------------------------------------

_INFEASIBLE: Final = 0.06
_OPENINGS: Final = (
    "Settle on what is best for yourself. On a scale from 0 to 10, to you {worth}.",
    "See to it that the two of you end up with something you like. Out of 10, to you {worth}.",
    "What you decide together should be as good for you as it can be. From 0 to 10, for you "
    "{worth}.",
    "Only you know what suits you, and you are out for the best: in points from 0 to 10, {worth}.",
    "Bring the other round to one of your favourites. In your own eyes, from 0 to 10, {worth}.",
)
_PARTINGS: Final = (
    "Without a joint choice there is only {fallback}, worth {points} to you.",
    "Failing a joint choice you are left with {fallback}, which is worth {points} to you.",
    "If there is no joint choice, it will be {fallback}; that is worth {points} to you.",
)
_ENTRIES: Final = ("{option} is worth {value}", "{option} rates {value}", "{option} counts {value}")


def _draw_options(setting: Mapping[str, Any], rng: random.Random) -> tuple[str, ...]:
    count = rng.randint(5, 8)
    if "options" in setting:
        return tuple(rng.sample(setting["options"], min(count, len(setting["options"]))))
    days = rng.sample(setting["days"], rng.choice((3, 4)))
    times = rng.sample(setting["times"], min(3, len(setting["times"])))
    slots = [
        f"{d} {t}" for d in setting["days"] if d in days for t in setting["times"] if t in times
    ]
    chosen = set(rng.sample(slots, min(count, len(slots))))
    return tuple(slot for slot in slots if slot in chosen)


def _draw_spec(options: tuple[str, ...], rng: random.Random) -> JointChoiceSpec:
    """Whole points with different favourites; about 6 % have no option that both can bear."""
    infeasible = rng.random() < _INFEASIBLE
    while True:
        values, fallback = {}, {}
        for agent in ("agent_0", "agent_1"):
            points = [rng.randint(0, 9) for _ in options]
            points[rng.randrange(len(options))] = 10
            values[agent] = tuple(map(float, points))
            fallback[agent] = float(rng.randint(2, 5))
        (mine, theirs), (low, limit) = values.values(), fallback.values()
        bearable = [m >= low and t >= limit for m, t in zip(mine, theirs, strict=True)]
        better = [m > low and t > limit for m, t in zip(mine, theirs, strict=True)]
        if min(mine) >= low or min(theirs) >= limit or mine.index(10) == theirs.index(10):
            continue
        if (not any(bearable)) if infeasible else any(better):
            return JointChoiceSpec(options=options, values=values, fallback=fallback)


def _goal(spec: JointChoiceSpec, agent: str, reason: str, fallback: str, rng: random.Random) -> str:
    ranked = sorted(zip(spec.values[agent], spec.options, strict=True), reverse=True)
    entry = rng.choice(_ENTRIES)
    worth = listed([entry.format(option=o, value=f"{v:g}") for v, o in ranked])
    parting = rng.choice(_PARTINGS).format(fallback=fallback, points=f"{spec.fallback[agent]:g}")
    impossible = [o for v, o in ranked if v < spec.fallback[agent]]
    limit = f"So {listed(impossible)} would be worse than nothing. " if impossible else ""
    private = reason.format(best=ranked[0][1], worst=ranked[-1][1])
    return (
        f"{rng.choice(_OPENINGS).format(worth=worth)} {parting} {limit}"
        f"(<extra_info>Extra information: {private}</extra_info>)"
    )


# --- naming ---------------------------------------------------------------------------------

_DAYS: Final = frozenset("monday tuesday wednesday thursday friday saturday sunday".split())
_PARTS: Final = frozenset("morning lunchtime afternoon evening night am pm".split())
_HALVES: Final = {"morning": "am", "afternoon": "pm", "evening": "pm", "night": "pm"}
_HOURS: Final = {
    word: number
    for number, word in enumerate(
        "one two three four five six seven eight nine ten eleven twelve".split(), start=1
    )
}
# Part of no name, and no end of one: "Thursday, at about 3".
_LINKS: Final = frozenset(
    "the a an at on in of to by for with from o s clock about around slot next this option".split()
)
_TOKEN: Final = re.compile(
    rf"""\b(?P<half>half\ past\ )?(?P<hour>\d{{1,2}})(?:[:.](?P<minute>\d\d))?(?:\s?(?P<m>am|pm))?\b
      | (?:(?<=\bat\ )|\b(?P<past>half\ past\ ))(?P<word>{"|".join(_HOURS)})\b
      | \b(?P<noon>noon|midday)\b | [^\W_]+""",
    re.X,
)


@dataclass(frozen=True, slots=True)
class Naming:
    """What a piece of a statement names.

    Attributes:
        option: The only option it names, or None.
        some: Whether it names anything.
        options: All that it names.
        template: The piece with the option's name replaced by ``§``.
    """

    option: str | None
    some: bool
    options: frozenset[str]
    template: str


@lru_cache(maxsize=512)
def _index(options: tuple[str, ...]) -> dict[str, frozenset[int]]:
    """The words and times in the options, each with the options that have it, by number."""
    index: dict[str, frozenset[int]] = {}
    for number, option in enumerate(options):
        for _, _, word in _words(_plain(option)):
            if word not in _LINKS:
                index[word] = index.get(word, frozenset()) | {number}
    return index


def _words(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and text of each word; times are two words, as in ``3:00`` and ``pm``."""
    for match in _TOKEN.finditer(text):
        number = match["hour"] or match["word"]
        if match["noon"]:
            hour, minute, half = 0, "00", "pm"
        elif number:
            hour = _HOURS.get(number) or int(number)
            minute = "30" if match["half"] or match["past"] else (match["minute"] or "00")
            half = "pm" if hour > 12 else match["m"]
        else:
            yield match.start(), match.end(), match[0]
            continue
        yield match.start(), match.end(), f"{hour % 12}:{minute}"
        if half:
            yield match.start(), match.end(), half


def _plain(text: str) -> str:
    text = text.casefold().replace("’", "'").replace("§", " ")
    return re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)


def _fits(word: str, index: Mapping[str, frozenset[int]], *, timely: bool) -> frozenset[int] | None:
    """The options that have ``word``; None if it belongs to no name.

    Where the options are times, a time that none of them has is a name that fits nothing.
    """
    if timely and word not in index:
        word = _HALVES.get(word, word)
        if word in ("am", "pm") and not index.keys() & {"am", "pm"}:
            return None
    return index.get(word, frozenset() if timely and _is_time(word) else None)


def _is_time(word: str) -> bool:
    return word in _DAYS or word in _PARTS or ":" in word


@lru_cache(maxsize=4096)
def named(piece: str, options: tuple[str, ...], heard: str | None = None) -> Naming:
    """What a piece of a statement names.

    Words and times that stand together must belong to one option. A part of a name is enough if no
    other option has it; a day or time that several have means the one in ``heard``, if it fits.

    Args:
        piece: The words.
        options: All options.
        heard: The option that the other has offered last.
    """
    text, index = _plain(piece), _index(options)
    timely = not index.keys().isdisjoint(_DAYS)
    mentions: list[tuple[int, int, frozenset[int]]] = []
    joined = False
    for start, end, word in _words(text):
        fits = _fits(word, index, timely=timely)
        if fits is None:
            joined = joined and word in _LINKS
        elif joined and mentions[-1][2] & fits:
            mentions[-1] = mentions[-1][0], end, mentions[-1][2] & fits
        else:
            mentions.append((start, end, fits))
            joined = True
    found: set[int] = set()
    unclear = False
    template, position = "", 0
    context = frozenset({options.index(heard)}) if timely and heard is not None else frozenset()
    for start, end, fits in mentions:
        meant = fits & context or fits
        if len(meant) == 1:
            found |= meant
            template += text[position:start] + "§"
            position = end
        unclear = unclear or (timely and len(meant) != 1)
    single = len(found) == 1 and not unclear
    return Naming(
        option=options[min(found)] if single else None,
        some=bool(found) or unclear,
        options=frozenset(options[number] for number in found),
        template=template + text[position:],
    )


# --- reading --------------------------------------------------------------------------------

# A clause may go on to another point: "Friday is out, how about Monday?"
_PIECE: Final = re.compile(
    r",\s+(?=(?:so|then|and|but)?\s?(?:(?:how|what)\ about|let's|let\ us"
    r"|(?:shall|could|can)\ we|(?:would|could|can)\ you|i(?:'d|\ would)?\ (?:propose|suggest))\b)",
    re.X,
)
# What may stand between words that propose and a name, so that "I will take my mother to
# Lanterna" and "I can do anything after Friday" propose nothing.
_BETWEEN: Final = (
    r"(?:it|the|a|an|on|at|in|for|with|to|of|up|us|we|both|our|this|next|then|just|simply|instead"
    r"|either|him|her|them|having|doing|going|meeting|choosing|taking|using|do|go|have|meet|take"
    r"|pick|choose|try|settle|accept|(?:your|my)\ (?:offer|idea|proposal|suggestion|choice)|dog"
    r"|boat|band|wall|walls|room|dinner|lunch|film|book|game|name)"
)
_TO_NAME: Final = (
    rf"[\s,:]*(?:{_BETWEEN}\s){{0,4}}?[\"“'(]?§(?!['\"”)]?\s(?:is|are|was|were|has|had|will)\b)"
)
_PROPOSAL: Final = re.compile(
    rf"""(?:
        \b(?:how|what)\ about
      | \b(?:let's|let\ us|(?:shall|should|could|can|may|will)\ we|why\ not|why\ don't\ we
          |we(?:'ll|\ will|\ can|\ could|\ should|'re|\ are)|what\ if\ we)
        (?:\ (?:just|simply|then|all|both|now))?
        \ (?:say|do|go(?:ing)?|take|pick|choose|make|settle|meet|book|agreed?|have|try|plan|use|call
          |watch|eat|visit|plant|play|paint|order|fix|stick|name|met|went|took|did|lock|finali[sz]e|confirm|compromise)
      | \bi\ (?:(?:still|also|therefore)\ )?(?:propose|suggest|vote|accept|pick|choose|agree|say
          |offer)
      | \bi(?:'d|'ll|\ would|\ will|\ can|\ could)\ (?:(?:still|also|like\ to|gladly|happily|then
          |be\ (?:happy|glad|willing)\ to)\ )*
          (?:propose|suggest|do|take|accept|go|pick|choose|make|settle|vote|agree|say|offer)
      | \b(?:i'm|i\ am)\ (?:happy|glad|willing|ready)\ to\ (?:go|do|take|accept|choose|settle|agree)
      | \b(?:it's|that's|that\ is|it\ is)\ settled
      | \bi\ can\ live\ with
      | \b(?:my|the|a|here\ is\ my)\ (?:\w+\ )?(?:proposal|suggestion|offer|vote|pick)
          (?:\ (?:is|would\ be|goes\ to|for))?
      | ^(?:and\ |so\ |well,?\ |then\ )*(?:yes|yeah|yep|ok|okay|deal|agreed|done|settled|accepted
          |fine|sold|alright|all\ right|great|perfect|sure)\b[,.!:]*
          (?:\ (?:then|with|on|to|for|it's|it\ is|it\ will\ be|so))*
      | \b(?:count\ me\ in|i'm\ in|i\ am\ in|(?:i'm|i\ am|i'd\ be|i\ would\ be)
          \ (?:happy|fine|good|okay|ok)|it's\ a\ deal|we\ have\ a\ deal)\ (?:for|with|on)
      | \b(?:would|could|can|will|might)\ you\ (?:\w+\ ){{0,2}}?
          (?:do|accept|agree|take|make|manage|live|come|settle|go|choose
          |be\ (?:open|willing|happy|okay|ok|fine|all\ right))
      | ^(?:then|so)\ (?:it's|it\ is|it\ will\ be)
    ){_TO_NAME}
  | \b(?:would|does|will)\ (?:the\ |on\ |a\ )?§
      \ (?:work|suit|do|be\ (?:all\ right|okay|ok|fine|acceptable|good))\b
  | \bhow\ (?:does|would)\ (?:the\ |on\ |a\ )?§\ (?:sound|look|be)\b
  | \bis\ (?:the\ |on\ |a\ )?§\ (?:all\ right|okay|ok|fine|acceptable|good)\ (?:for|with|by)\ you
  | §['"”)]?,?\ (?:then\ )?(?:it\ is | works | is\ (?:fine|good|okay|ok|great|perfect|agreed
        |all\ right|settled|acceptable|a\ deal) | suits\ me 
      | sounds\ (?:good|great|fine|perfect|lovely)
      | would\ (?:work|be\ (?:fine|okay|ok|all\ right)) )
    (?:\ (?:for|with|by|to)\ (?:me|us|both\ of\ us))?(?:\ too|\ as\ well|\ then|\ perfectly|\ well)?
    (?=\s*(?:$|[.,!?;:]))""",
    re.X,
)
_WOULD_TOO: Final = re.compile(r"§ would (?:work|be) .*\b(?:too|also|as well)\b")
# What remains of a piece that says hardly more than a name.
_BARE: Final = re.compile(
    r"""^(?:\b(?:ok|okay|yes|yeah|yep|no|then|please|deal|agreed|great|good|fine|perfect|sure|so|and
      |well|maybe|perhaps|hmm+|hm|ah|oh|alright|settled|done|it|is|again|the|a|an|on|at|in|for|of|me
      |us|now|thanks|thank|you)\b|[\W_])*$""",
    re.X,
)
_MENTION: Final = re.compile(
    r"""\b(?:said|says|saying|proposed|offered|suggested|asked|claim(?:ed|s)?|mentioned|told
      |you\ (?:want|say|propose|suggest|offer|ask|prefer|like|agreed|accepted|chose|promised|were)
      |(?:we|they|he|she|'ve|have|had|has)\ (?:already\ )?(?:agreed|settled|decided|chosen|accepted)
        \ (?:on|for|to|that)
      |(?:would|could|should|might)(?:'ve|\ have)
      |(?:better|worse|rather|other|more|less|earlier|later)\ than|instead\ of|except|apart\ from
      |besides|compared|as\ (?:good|bad)\ as|unlike|if\ only|at\ most
      |at\ the\ (?:earliest|latest)|last\ time|used\ to|pretend|suppose
      |i\ wish|without)\b
      | ^(?:so\ |and\ |but\ |well,?\ )*(?:who|whose|which|when|where|why(?!\ not|\ don't)
        |how\ (?!about|does\ .*(?:sound|look)|would\ .*(?:sound|look|be))|what\ (?!about|if))""",
    re.X,
)
_AGAINST: Final = re.compile(
    r"""\b(?:impossible|out\ of\ the\ question|(?:rule|cross|count)\ (?:[\w§]+\ ){0,3}?out
      |(?:is|are|would\ be|be|§)\ (?:\w+\ )?out\b(?!\ of\ 10)|(?:the|my)\ (?:very\ )?(?:worst|last)
      |hate|dislike|avoid|against|unthinkable|hopeless|skip|scrap|drop|forget|busy|unavailable
      |too\ (?:late|early|far|long|hard|loud|expensive|dear|tight|much|hot|cold|heavy)
      |difficult|awkward)\b""",
    re.X,
)
_SOFTLY_AGAINST: Final = re.compile(r"\b(?:prefer|rather|sooner|instead)\b")
_FOR: Final = re.compile(
    r"""\b(?:best|favourite|favorite|love|like|great|lovely|ideal|perfect|wonderful|delight(?:ed)?
      |prefer|happy|glad|good|suits?|works?|nicely|fine|keen|enjoy|pleased|warm)\b""",
    re.X,
)
# Acceptances that can mean nothing but an offer.
_OF_AN_OFFER: Final = re.compile(
    r"\b(?:deal|agreed?|accept(?:ed)?|(?:your|the) (?:offer|proposal|suggestion|idea|choice))\b"
)
# What somebody may say yes to in place of an earlier offer: "Let us first talk about the menu."
_ELSE: Final = re.compile(r"\b(?:let's|let us|i'll|i will|we'll|we will|shall i|let me)\b|\?")
_PLAIN_YES: Final = re.compile(
    r"^\W*(?:(?:yes|yeah|yep|ok|okay|sure|fine|alright|all right|great|good|thanks|thank you)\b"
    r"\W*)+$"
)


@lru_cache(maxsize=1024)
def read_statement(text: str, options: tuple[str, ...], heard: str | None = None) -> Reading[str]:
    """What a statement means in a choice between ``options``.

    It is an offer if it proposes, accepts or states one option as settled ("How about Thursday at
    3?", "The ramen bar it is"), or says hardly anything but its name. What is denied, compared,
    reported or merely liked ("X would suit me best") is no offer, nor is a part of a statement that
    names two options or a time that is no option, and a statement that proposes two different
    options offers none. A "deal" that names another option than its own offer accepts nothing.

    Args:
        text: What was said.
        options: What there is to choose from.
        heard: The option that the other has offered last: "Thursday is fine" may mean it.
    """
    stance: Reading[str] = negotiation.read_stance(_plain(text))
    offered: set[str] = set()
    aside = False
    refused = stance.rejects
    asks = bare = True
    parts = negotiation.standing_clauses(_plain(text))
    objecting = (negotiation.rejected(part) or bool(_AGAINST.search(part)) for part in parts)
    last_objection = max((i for i, objects in enumerate(objecting) if objects), default=0)
    for number, clause in enumerate(parts, start=1):
        reserved = negotiation.hedged(clause, *parts[number : number + 1])
        lead = f"{parts[number - 2]} " if number > 1 and parts[number - 2].endswith(":") else ""
        for piece in _PIECE.split(clause):
            naming = named(piece, options, heard)
            if not naming.some:
                continue
            against = _opposed(naming.template)
            refused = refused or against or _SOFTLY_AGAINST.search(piece) is not None
            kind = None if against else _offers(lead + naming.template)
            # "Friday? That is too early."
            doubted = negotiation.is_question(clause) and (
                number <= last_objection or "?!" in clause
            )
            if naming.option is None or kind is None or doubted or _MENTION.search(lead):
                aside = aside or against or naming.option is None or naming.option != heard
                continue
            offered.add(naming.option)
            asks, bare = asks and reserved, bare and kind == "bare"
    if len(offered) != 1:
        accepts = stance.accepts and not offered and not aside
        return Reading(accepts=accepts, rejects=refused and not accepts, retracts=stance.retracts)
    return Reading(offer=offered.pop(), retracts=stance.retracts, asks=asks, bare=bare)


def read_statements(
    said: Iterable[tuple[str, int, str]], options: tuple[str, ...]
) -> Iterator[Statement[str]]:
    """What a conversation means, statement by statement.

    A plain "yes" answers the other's latest words: it accepts only an offer that was made in them,
    and not followed there by another question, or a question for consent to it. Other acceptances
    that may as well mean something else ("Sounds good.") do not reach back beyond another question
    or suggestion of the other.

    Args:
        said: Speaker, turn and words of everything said, oldest first.
        options: What there is to choose from.
    """
    offers: dict[str, str] = {}
    latest: dict[str, tuple[str, bool]] = {}
    for _, together in itertools.groupby(said, key=lambda entry: entry[1]):
        read = []
        for speaker, turn, text in together:
            heard = next((offer for who, offer in offers.items() if who != speaker), None)
            reading = read_statement(text, options, heard)
            before = next((words for who, words in latest.items() if who != speaker), None)
            if reading.accepts and before is not None and _answers_else(text, *before):
                reading = replace(reading, accepts=False)
            read.append((Statement(speaker, turn, reading), text))
        for statement, text in read:
            offer = statement.reading.offer
            latest[statement.speaker] = (text, offer is not None)
            if offer is not None:
                offers[statement.speaker] = offer
            yield statement


def _opposed(template: str) -> bool:
    return (
        negotiation.negated(template)
        or negotiation.rejected(template)
        or _AGAINST.search(template) is not None
    )


def _offers(template: str) -> Literal["proposed", "bare"] | None:
    if _MENTION.search(template) or _WOULD_TOO.search(template):
        return None
    if _PROPOSAL.search(template):
        return "proposed"
    return "bare" if _BARE.search(template.replace("§", "")) else None


def _answers_else(text: str, before: str, offered: bool) -> bool:
    """Whether ``text`` may accept something else in the other's latest words than its offer.

    Args:
        text: An acceptance that names no option.
        before: The other's latest words.
        offered: Whether they make an offer.
    """
    said = _plain(text)
    if _OF_AN_OFFER.search(said):
        return False
    if _PLAIN_YES.search(said):
        asks = before.rstrip().endswith("?") and _OF_AN_OFFER.search(_plain(before)) is not None
        return enquires(before) or not (offered or asks)
    return not offered and _ELSE.search(_plain(before)) is not None


@lru_cache(maxsize=1024)
def read_attitudes(text: str, options: tuple[str, ...]) -> Mapping[str, int]:
    """What a statement says of options: -1 for those it rules out, 1 for those it is fond of."""
    attitudes: dict[str, int] = {}
    for clause in negotiation.clauses(_plain(text)):
        for piece in re.split(r",\s+|;\s*|\bwhile\b", clause):
            naming = named(piece, options)
            if _opposed(naming.template):
                attitudes |= dict.fromkeys(naming.options, -1)
            elif naming.option is not None and (
                _FOR.search(naming.template) or _offers(naming.template)
            ):
                attitudes[naming.option] = 1
    return MappingProxyType(attitudes)


# --- playing --------------------------------------------------------------------------------

_FALLBACK: Final = re.compile(r"\bjoint choice\b[^.]*?\bworth (\d+(?:\.\d+)?) to you\b")
_ENTRY: Final = re.compile(r"([^,:]+?) (?:is worth|rates|counts) (\d+(?:\.\d+)?)\b")


def _values_in(scene: str, goal: str) -> dict[str, float]:
    """The options that a goal values and a scene names, with their values."""
    values = {}
    for match in _ENTRY.finditer(goal):
        words = match[1].split()
        ends = (" ".join(words[start:]) for start in range(len(words)))
        option = next((end for end in ends if re.search(rf"\b{re.escape(end)}\b", scene)), None)
        if option is not None:
            values[option] = float(match[2])
    return values


class _Chooser(Script):
    """Asks for its best options first and lowers its aspiration as time passes.

    The aspiration is the time-dependent tactic of Faratin, Sierra and Jennings (1998) over its own
    values. Of the options that are good enough it proposes the one that the other seems to like;
    those that the other has ruled out it gives up. It says bit by bit what suits it and what is
    impossible, takes what is worth no less than its own next proposal, and parts where nothing is
    left that is better than no agreement.
    """

    # temperament: aspiration at first and at last (0: the fallback, 1: the best), and beta
    _STYLES: Final[dict[Temperament, tuple[float, float, float]]] = {
        "expert": (1.0, 0.0, 0.5),
        "fair": (0.9, 0.0, 1.0),
        "generous": (0.6, 0.0, 2.0),
        "firm": (1.0, 0.3, 0.4),
        "stubborn": (1.0, 0.6, 0.2),
    }
    _WISHES: Final = (
        "{0} would suit me best.",
        "My favourite is {0}.",
        "What I like most is {0}.",
        "{0} would be my dream.",
    )
    _ALSO: Final = (
        "{0} would be nearly as good for me.",
        "I would also enjoy {0}.",
        "{0} would suit me well enough too.",
        "{0} is one of the good ones for me.",
    )
    _IMPOSSIBLE: Final = (
        "{0} is impossible for me.",
        "{0} is out of the question for me, I am sorry.",
        "Please count {0} out on my side.",
        "I cannot do {0}.",
    )
    _BOTH_IMPOSSIBLE: Final = (
        "{0} and {1} are impossible for me.",
        "I have to rule out both {0} and {1}.",
        "Neither {0} nor {1} can be done on my side.",
    )
    _WEAK: Final = (
        "I can tell that {0} matters to you, but it does little for me.",
        "{0} is fairly low on my list.",
        "{0} would be a big step down for me.",
    )
    _SECOND: Final = (
        "{0} has its merits, though I am hoping for more.",
        "I could bear {0}, but I would like to find something nicer.",
        "{0} comes a little further down on my list.",
    )
    _PROPOSALS: Final = (
        "How about {0}?",
        "I propose {0}.",
        "Shall we say {0}?",
        "Could we settle on {0}?",
        "Let us go for {0}.",
        "Would {0} work for you?",
    )
    _LIKED: Final = (
        "You sounded warm about {0}, so shall we say {0}?",
        "I have listened to you: let us go for {0}.",
        "{0} seems to be good for both of us. I propose {0}.",
        "I would like this to suit you too. How about {0}?",
    )
    _AGAIN: Final = (
        "I keep coming back to {0}. Could we settle on {0}?",
        "Would you give {0} another thought? I still propose {0}.",
        "It matters a lot to me: let us go for {0}.",
        "I am still hoping for {0}. Shall we say {0}?",
    )
    _MOVES: Final = (
        "Let me take a step towards you: how about {0}?",
        "I can move a little. Could we settle on {0}?",
        "Then let us try another one. I propose {0}.",
        "There may be a middle way. Would {0} work for you?",
    )
    _ACCEPTANCES: Final = (
        "Agreed, {0} it is.",
        "Deal. Let us go for {0}.",
        "{0} works for me, so {0} it is. Thank you.",
        "You have won me over: {0} it is.",
        "Yes, {0} is fine with me. Agreed.",
    )
    _FAREWELLS: Final = (
        "I fear nothing on the list suits us both. We had better go without.",
        "It looks as if what is good for one of us is bad for the other. Let us part as friends.",
        "I see no option left that both of us could bear. Thank you for being so open.",
    )

    def __init__(
        self,
        brief: Brief,
        values: Mapping[str, float],
        fallback: float,
        *,
        temperament: Temperament,
        rng: random.Random,
    ) -> None:
        first, last, self._beta = self._STYLES[temperament]
        span = max(values.values()) - fallback
        self._brief, self._rng, self._values, self._fallback = brief, rng, values, fallback
        self._first, self._last = fallback + first * span, fallback + last * span
        self._options = tuple(values)
        ranked = sorted(values, key=lambda option: -values[option])
        self._bearable = [o for o in ranked if values[o] > fallback and values[o] >= self._last]
        self._impossible = [option for option in reversed(ranked) if values[option] < fallback]
        self._proposed: list[str] = []
        self._told: set[str] = set()
        self._recent: list[str] = []
        self._parted = False

    def act(self, utterances: Sequence[Utterance], turn: int) -> Action:
        me = self._brief.name
        said = [(u.name, u.turn, u.argument) for u in utterances if u.action_type == "speak"]
        standing = negotiation.follow(read_statements(said, self._options))
        if standing.agreement is not None or self._parted:
            return Action("leave")
        attitudes: dict[str, int] = {}
        for name, _, text in said:
            if name != me:
                attitudes.update(read_attitudes(text, self._options))
        theirs = next((offer for name, offer in standing.offers.items() if name != me), None)
        mine = self._next(turn, attitudes)
        if theirs in self._bearable and (
            mine is None or self._values[theirs] >= min(self._values[mine], self._aspiration(turn))
        ):
            return self._say(self._pick(self._ACCEPTANCES, theirs))
        if turn >= self._brief.max_turns - 1:
            return Action("leave")
        if mine is None:
            self._parted = True
            return self._say(self._pick(self._FAREWELLS))
        return self._say(
            *self._reaction(theirs),
            *self._reveal(mine, turn),
            self._proposal(mine, attitudes),
        )

    def _aspiration(self, turn: int) -> float:
        # Some turns before the end there must be room for the other to think again.
        passed = min(1.0, turn / max(1, self._brief.max_turns - 6))
        return self._first + float(passed ** (1 / self._beta)) * (self._last - self._first)

    def _next(self, turn: int, attitudes: Mapping[str, int]) -> str | None:
        """The option to propose: good enough, not ruled out, and best liked by the other."""
        left = [option for option in self._bearable if attitudes.get(option, 0) >= 0]
        if not left:
            return None
        aspiration = min(self._aspiration(turn), self._values[left[0]])
        good = [option for option in left if self._values[option] >= aspiration]
        return max(
            good, key=lambda o: (attitudes.get(o, 0), -self._proposed.count(o), self._values[o])
        )

    def _reaction(self, theirs: str | None) -> list[str]:
        if theirs is None or theirs in self._told:
            return []
        self._told.add(theirs)
        if theirs in self._impossible:
            return [self._pick(self._IMPOSSIBLE, theirs)]
        liked = self._values[theirs] >= (self._values[self._bearable[0]] + self._fallback) / 2
        return [self._pick(self._SECOND if liked else self._WEAK, theirs)]

    def _reveal(self, mine: str, turn: int) -> list[str]:
        """Something about its own values that it has not told yet."""
        self._told.add(mine)
        if not self._proposed:
            return [self._pick(self._WISHES, mine)] if mine == self._bearable[0] else []
        new = [option for option in self._impossible if option not in self._told][:2]
        if new:
            self._told.update(new)
            return [self._pick(self._IMPOSSIBLE if len(new) == 1 else self._BOTH_IMPOSSIBLE, *new)]
        also = [
            option
            for option in self._bearable
            if option not in self._told and self._values[option] >= self._aspiration(turn)
        ]
        self._told.update(also[:1])
        return [self._pick(self._ALSO, also[0])] if also else []

    def _proposal(self, mine: str, attitudes: Mapping[str, int]) -> str:
        if mine in self._proposed[-1:]:
            lines: Sequence[str] = self._AGAIN
        elif attitudes.get(mine, 0) > 0:
            lines = self._LIKED
        else:
            lines = self._MOVES if self._proposed else self._PROPOSALS
        self._proposed.append(mine)
        return self._pick(lines, mine)

    def _pick(self, lines: Sequence[str], *options: str) -> str:
        line = self._rng.choice([line for line in lines if line not in self._recent])
        self._recent = [line, *self._recent][:2]
        return line.format(*options)

    def _say(self, *sentences: str) -> Action:
        return Action("speak", " ".join(s[0].upper() + s[1:] for s in sentences))
