"""What members of a planning group say to one another, and when they have settled on a plan."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Final

from pydantic import BaseModel, ConfigDict

from sotopia_gym.tasks.families import negotiation
from sotopia_gym.tasks.families.negotiation import Agreement, Reading
from sotopia_gym.tasks.families.wording import enquires

Plan = tuple[int, ...]
"""The number of the option chosen for each issue."""


class Issue(BaseModel):
    """One thing to settle.

    Attributes:
        name: What it is called, e.g. ``"day"``.
        options: The choices, at least two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    options: tuple[str, ...]


def points(values: Sequence[Sequence[float]], plan: Plan) -> float:
    """What ``plan`` is worth to one with these values."""
    return float(sum(row[choice] for row, choice in zip(values, plan, strict=True)))


def bare(option: str) -> str:
    """The option as it is compared: in lower case and without its article."""
    return re.sub(r"^(?:the|an?)\s", "", option.lower())


Choice = tuple[int, int]
"""An option: the number of its issue, and its own in there."""

# A clause with options in it states them as a plan only with words that commit or propose ...
_COMMIT: Final = re.compile(
    r"""\b(?:let['’]?s|let\ us|we['’]ll|we\ (?:will|go|take|do|settle|choose|pick))\b
      | \bi(?:['’]d|\ would|['’]ll|\ will|\ can|\ could|['’]m|\ am|\ do)?
        (?:\ (?:still|also|then|now|gladly|happily|fully|just|certainly|definitely|therefore|be|like
          \ to|love\ to|(?:happy|glad|ready|willing|going|prepared|pleased)\ to))*
        \ (?:suggest(?:ing)?|propos(?:e|ing)|vot(?:e|ing)|go(?:ing)?|settle|accept|agree(?!\ that)
          |support|back|take(?!\ it)|choose|pick|second|confirm|join|stand|stay(?:ing)?|live\ with
          |(?:fine|happy|glad|okay|ok|good|on\ board)\ (?:with|for))\b
      | (?:^|,\s|\b(?:yes|yeah|ok|okay|good|great|fine|then|so|well|all)[,.]?\s)
        (?:it['’]s\ |we\ have\ |we['’]re\ |we\ are\ |i['’]ve\ |we['’]ve\ )?
        (?:agreed|(?:a\ )?deal|done|accepted|settled|it\ is)\b
      | \bit\ is[\s.!]*$ | \bwe\ (?:have\ )?(?:all\ )?agreed\b | \bcount\ me\ in\b
      | \b(?:fine|okay|ok|good)\ (?:by|with)\ me\b
      | \b(?:works|suits|sounds\ (?:good|great|fine|fair|perfect))
        (?=\s*(?:$|[.,!;])|\ (?:(?:for|to)\ )?(?:me|us|all|every(?:one|body))\b)
      | \b(?:my|our|new|final)\s(?:\w+\s)?(?:proposal|suggestion|vote|offer|plan|choice|pick)\b""",
    re.I | re.X,
)
_PROPOSE: Final = re.compile(
    r"""\b(?:how|what)\ about\b | \bwhat\ if\ we\b | \bwhy\ (?:not|don['’]t\ we)\b | \bshall\ we\b
      | \b(?:can|could|should|would|might|may)\ (?:we|you|every(?:body|one)|all\ of)\b
      | \bwe\ (?:could|should|can|might)\b | \bdo\ (?:you|we)(?:\ all)?\ agree\b
      | \b(?:an?|another|one|counter|following)[\s-](?:\w+\ )?
        (?:proposal|suggestion|offer|plan|compromise|idea)\b(?=[^:]*:)
      | \b(?:work|suit)\ (?:for\ )?(?:me|us|you|all|every(?:one|body))\b""",
    re.I | re.X,
)
# What is proposed is done by one of these verbs: "Let's drop Sunday" puts nothing forward.
_DOING: Final = re.compile(
    r"""\b(?:let['’]?s|let\ us|(?:can|could|should|shall|may|might|would|will)
          \ (?:we|you|every(?:body|one))|we\ (?:could|should|can|might|will)|we['’]ll|what\ if\ we)
        (?:\ (?:all|just|then|both|perhaps|maybe|now|simply|please|also|still|instead|be|like\ to
          |(?:happy|glad|ready|willing|able)\ to|really|finally))*
        \ (?P<verb>[a-z]+)\b
      | \b(?:how|what)\ about\ (?:(?:we|us|all|just|simply)\ )*(?P<verbing>[a-z]+ing)\b""",
    re.I | re.X,
)
_PUTTING_FORWARD: Final = re.compile(
    r"""(?:go|do|tak|say|settl|agree|choos|pick|hav|mak|plann?|meet|try|sett?|book|fix|us|lock
      |finali[sz]|combin|stick|stay|opt|decid|committ?|confirm|hold|serv|start|accept|support|back
      |com|liv|gett?|putt?|vot|keep|join|propos|suggest|runn?|eat|play|celebrat|adopt|select)
        (?:e|ing)?
      |on|for|at|in|with|the|an?|to|and|happy|fine|good|okay|ok|all""",
    re.I | re.X,
)
# ... and with none that report, wish, regret or turn down.
_REPORT: Final = re.compile(
    r"""\b(?:said|says|saying|proposed|suggested|offered|asked|mentioned|claim(?:s|ed)?|want(?:s|ed)
      |told|heard|prefers?|preferred|thought|thinks|hoped|hopes|voted|votes\ for|likes|insists?
      |insisted|according\ to|you(?:\ all)?\ (?:want|propose|suggest|offer|mean|like)
      |(?:you|they)(?:['’]re|\ are)\ (?:proposing|suggesting|offering)|they\ (?:want|propose|suggest
      |like)|last\ (?:year|time|month|week|night)|earlier|previous(?:ly)?|used\ to|was|were|had|been
      |saw|(?:would|could|should|might)(?:['’]ve|\ have)|if\ only|i\ wish|sounds?\ like|imagine
      |suppose|pretend|for\ example|never)\b""",
    re.I | re.X,
)
_DENIAL: Final = re.compile(
    r"""\b(?:impossible|out\ of\ the\ question|rul(?:e|ed|es)\ out|against|hate|dislike|object|veto
      |worst|terrible|awful|avoid|anything\ but|except|besides|too\ \w+|far\ from|opposed?
      |unacceptable|disagree|hard|nothing|little|least|less|bad|wrong|mistake|problem|difficult
      |discuss|talk|compare|consider|think\ about|wait|memories)\b""",
    re.I | re.X,
)
_FILLER: Final = frozenset(
    "the a an and on at in with for to of as then so plus please it's is be our plan everyone "
    "everybody all friends yes okay ok well".split()
)
_SYNONYM: Final = re.compile(r"\b(?:plan|suggestion|idea|compromise|version|package)\b", re.I)
_JOINING: Final = re.compile(
    r"""(?:(?<=^)|(?<=[.!?:;,—–-]\s)|(?<=\n))(?P<lead>
        (?:(?:yes|ok(?:ay)?|al(?:l\ )?right|fine|great|good|well|then|so|and|now)\b[,.!]?\s)*)
      (?:(?:i['’]m|i\ am)\ (?:in|on\ board|all\ for\ (?:it|that|this)|in\ favou?r(?:\ of\ (?:it|that
          |this|(?:the|this|that|your)\ proposal))?|with\ you)
        | (?:you\ can\ )?count\ me\ in
        | i\ (?:(?:fully|gladly|happily|can|will)\ )?(?:second|support|back)
            \ (?:it|that|this|(?:the|this|that|your)\ proposal)
        | you\ have\ my\ (?:vote|support|yes|agreement)
        | i\ (?:(?:fully|gladly|happily|can|will)\ )?(?:accept|agree)
            \ (?:(?:to|with)\ )?(?:it|that|this|you|(?:the|this|that|your)\ proposal)
      )\b(?=\s*(?:$|[.,!;:–—]))""",
    re.I | re.X,
)
_ECHO: Final = re.compile(r",?\s(?:too|as\ well)\b(?=\s*(?:$|[.,!;:]))", re.I)
_YES: Final = re.compile(
    r"^(?:(?:yes|yeah|yep|ok(?:ay)?|sure|fine|al(?:l )?right|done|thanks|thank you)\b[\s,.!]*)+$",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Move:
    """What one statement means in a group that plans.

    Attributes:
        plan: The complete plan that it states, or None.
        accepts: Whether it accepts, without reservation, the plan on the table.
        rejects: Whether it turns something down.
        retracts: Whether it takes back what was said before.
        asks: Whether it puts its plan as a question, with a reservation or without a word that
            commits, so that it does not accept the same plan of another; if it states no plan,
            whether it asks or reserves anything.
        named: The options that it names, if it states no plan.
        against: Those of them that it turns down.
        whose: Names of those whose plan it accepts, if it says so.
        only_yes: Whether it accepts with no more than "yes" or "okay", which might answer
            anything.
        enquires: Whether it ends in a question that a "yes" would answer instead of its plan.
    """

    plan: Plan | None = None
    accepts: bool = False
    rejects: bool = False
    retracts: bool = False
    asks: bool = False
    named: frozenset[Choice] = frozenset()
    against: frozenset[Choice] = frozenset()
    whose: frozenset[str] = frozenset()
    only_yes: bool = False
    enquires: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """A statement that all could hear: what it means, and who made it when."""

    speaker: str
    turn: int
    move: Move


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands.

    Attributes:
        agreement: The plan settled, or None.
        plan: The plan on the table, or None.
        backers: Those who have proposed or accepted it.
        author: Who put it on the table.
    """

    agreement: Agreement[Plan] | None = None
    plan: Plan | None = None
    backers: frozenset[str] = frozenset()
    author: str | None = None


@dataclass(slots=True)
class _Table:
    """A plan that is being discussed.

    Attributes:
        author: Who made it.
        backers: Those who have made or accepted it.
        closed: Those whose "deal" may mean something else that was said since.
        unsure: Those whose mere "yes" may.
    """

    plan: Plan
    author: str
    backers: set[str]
    closed: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)

    @property
    def choices(self) -> frozenset[Choice]:
        return frozenset(enumerate(self.plan))

    def accepted_by(self, remark: Remark) -> bool:
        move, speaker = remark.move, remark.speaker
        if not move.accepts or not move.named <= self.choices:
            return False
        if move.whose:
            return move.whose <= self.backers
        return speaker not in self.closed and not (move.only_yes and speaker in self.unsure)


def settle(remarks: Iterable[Remark], members: Collection[str]) -> Standing:
    """Where the group stands after these remarks, given oldest first.

    A plan is settled when one member has stated it in full and every other one has, afterwards,
    accepted it or stated it identically in words that commit. Another complete plan replaces the
    one on the table, and with it all acceptances; so does, until there is a new one, a withdrawal
    by anybody, which also undoes what was settled. One who turns the plan down no longer backs it.

    In a group "deal" may answer somebody else. So it counts only if since the plan was last
    stated or accepted no other member asked, reserved or turned down anything or named an option
    outside the plan, and a mere "yes" only if no other member said anything else at all, such as
    a question after the plan; stating the plan, or accepting "Ann's plan" by name, always counts.
    What is said in the same turn is said at once: different plans stated in the same turn leave
    none on the table.
    """
    everybody = frozenset(members)
    agreement: Agreement[Plan] | None = None
    table: _Table | None = None
    for turn, said in groupby(remarks, key=lambda remark: remark.turn):
        together = list(said)
        if any(remark.move.retracts for remark in together):
            agreement = table = None
        if table is not None:
            _discuss(table, [r for r in together if r.move.plan is None], everybody)
        stated = [r for r in together if r.move.plan is not None]
        plans = {r.move.plan for r in stated}
        if len(plans) > 1:
            table = None
        elif stated and (table is None or table.plan not in plans):
            plan = stated[0].move.plan
            assert plan is not None
            table = _Table(plan, stated[0].speaker, {r.speaker for r in stated})
            table.unsure = _questioned(stated, everybody)
        elif table is not None:
            _restate(table, stated, everybody)
        if table is not None and table.backers >= everybody:
            agreement, table = Agreement(table.plan, turn), None
    if table is None:
        return Standing(agreement)
    return Standing(agreement, table.plan, frozenset(table.backers), table.author)


def _discuss(table: _Table, remarks: Sequence[Remark], everybody: frozenset[str]) -> None:
    """Take note of remarks that state no plan."""
    accepting = [remark for remark in remarks if table.accepted_by(remark)]
    if accepting:
        table.backers.update(remark.speaker for remark in accepting)
        table.closed.clear()
        table.unsure.clear()
    for remark in remarks:
        others = everybody - {remark.speaker}
        if remark in accepting:
            table.unsure |= others if remark.move.asks else set()
            continue
        table.unsure |= others
        against = remark.move.against
        if remark.move.rejects and (not against or against & table.choices):
            table.backers.discard(remark.speaker)
            table.closed |= everybody
        elif remark.move.rejects or remark.move.asks or not remark.move.named <= table.choices:
            table.closed |= others


def _restate(table: _Table, remarks: Sequence[Remark], everybody: frozenset[str]) -> None:
    """Take note of remarks that state the plan which is on the table."""
    for remark in remarks:
        if remark.move.asks and remark.speaker != table.author:
            table.closed |= everybody - {remark.speaker}
        else:
            table.backers.add(remark.speaker)
            table.closed.clear()
            table.unsure = _questioned([remark], everybody)


def _questioned(remarks: Sequence[Remark], everybody: frozenset[str]) -> set[str]:
    """Those whose mere "yes" may answer a question that came with the plan."""
    return {name for r in remarks if r.move.enquires for name in everybody if name != r.speaker}


@lru_cache(maxsize=4096)
def read_statement(text: str, issues: tuple[Issue, ...], names: tuple[str, ...] = ()) -> Move:
    """What a statement means in a group that plans.

    It states a plan if it names exactly one option of every issue, by its whole name, in words
    that propose or commit to it ("How about Sunday, the barn and soup?", "Agreed: ...", "Day:
    Sunday; place: the barn; food: soup"): in one clause, or else over several such clauses. What
    is only liked, reported or turned down states none, nor do two alternatives.

    Args:
        text: The words.
        issues: What there is to settle.
        names: Full names of the members, to understand "Ann's plan".
    """
    parts = _joined(negotiation.standing_clauses(text))
    found = [named_in(part, issues) for part in parts]
    stated = _stated(parts, found, issues, _possessive(names))
    if stated is not None:
        plan, where = stated
        commits = (
            any(_COMMIT.search(_without_options(parts[i], issues)) for i in where)
            or _stance(parts, found, text, names).accepts  # "Deal! Sunday, the barn and pizza."
        )
        asks = not commits or any(negotiation.hedged(*parts[i : i + 2]) for i in where)
        # "Sunday, the barn and pizza? That is unfair." states none.
        later = zip(parts[where[-1] + 1 :], found[where[-1] + 1 :], strict=True)
        if not any(negotiation.rejected(part) for part, named in later if not named):
            retracts = any(map(negotiation.retracted, negotiation.clauses(text)))
            aside = enquires(text) and where[-1] < len(parts) - 1
            return Move(plan=plan, retracts=retracts, asks=asks, enquires=aside)
    return _stance(parts, found, text, names)


def _stance(
    parts: Sequence[str],
    found: Sequence[frozenset[Choice]],
    text: str,
    names: tuple[str, ...],
) -> Move:
    """The statement but for any plan in it."""
    general, whose = _plain(text, names)
    stance: Reading[Plan] = negotiation.read_stance(general)
    accepts = only_yes = False
    if stance.accepts:
        # "Deal, Sunday it is" is an agreement on the day and on nothing else.
        rest = [_plain(p, names)[0] for p, named in zip(parts, found, strict=True) if not named]
        accepts = negotiation.read_stance("\n".join(rest)).accepts
        wordy = [part for part in rest if not _YES.search(part)]
        only_yes = not negotiation.read_stance("\n".join(wordy)).accepts
    against = [
        named for part, named in zip(parts, found, strict=True) if negotiation.rejected(part)
    ]
    return Move(
        accepts=accepts,
        rejects=stance.rejects,
        retracts=stance.retracts,
        asks=any(negotiation.hedged(*parts[i : i + 2]) for i in range(len(parts))),
        named=_union(found),
        against=_union(against) if all(against) else frozenset(),
        whose=whose,
        only_yes=only_yes,
    )


def _plain(text: str, names: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    """The statement in the words of a negotiation of two, and whose plan it spoke of."""
    whose: set[str] = set()

    def owned(match: re.Match[str]) -> str:
        said = (match["owner"] or match["partner"]).lower()
        whose.update(name for name in names if said in _forms(name))
        return "the proposal" if match["owner"] else f"{match['agree']} with you"

    if names:
        text = _possessive(names).sub(owned, text)
    text = _ECHO.sub("", _SYNONYM.sub("proposal", text))
    return _JOINING.sub(lambda match: f"{match['lead']}agreed", text), frozenset(whose)


@lru_cache(maxsize=64)
def _possessive(names: tuple[str, ...]) -> re.Pattern[str]:
    """A member's plan, or being with or agreeing with a member."""
    forms = sorted({form for name in names for form in _forms(name)}, key=len, reverse=True)
    one = "|".join(map(re.escape, forms)) or r"(?!)"
    return re.compile(
        rf"\b(?P<owner>{one})(?:['’]s?)\s(?:\w+\s)?(?:plan|proposal|suggestion|idea|compromise"
        rf"|version|offer|package)\b|\b(?P<agree>agree|i['’]m|i am) with (?P<partner>{one})\b",
        re.I,
    )


def _forms(name: str) -> tuple[str, ...]:
    """The ways to call somebody."""
    lowered = name.lower()
    return (lowered, lowered.split()[0])


def _joined(parts: Sequence[str]) -> list[str]:
    """The clauses, each with what led up to it before a colon."""
    joined: list[str] = []
    for part in parts:
        if joined and joined[-1].rstrip().endswith(":"):
            joined[-1] += f" {part}"
        else:
            joined.append(part)
    return joined


@lru_cache(maxsize=64)
def _patterns(issues: tuple[Issue, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Any option, and an option that is named only to be set aside."""
    options = sorted({bare(o) for i in issues for o in i.options}, key=len, reverse=True)
    one = "|".join(r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", o))) for o in options)
    option = re.compile(rf"(?<![\w-])(?:{one})(?![\w-])", re.I)
    before = r"\b(?:instead of|rather than|(?<!why )not|over)\s(?:(?:the|an?|on|in|at)\s)*"
    return option, re.compile(rf"{before}(?:{one})(?![\w-])", re.I)


def named_in(clause: str, issues: tuple[Issue, ...]) -> frozenset[Choice]:
    """The options that a clause names and does not set aside ("rather than Sunday")."""
    option, aside = _patterns(issues)
    numbers = _numbers(issues)
    return frozenset(
        numbers[re.sub(r"[\s-]+", " ", match[0].lower())]
        for match in option.finditer(aside.sub("", clause))
    )


def _without_options(clause: str, issues: tuple[Issue, ...]) -> str:
    option, aside = _patterns(issues)
    return option.sub(" ", aside.sub(" ", clause))


@lru_cache(maxsize=64)
def _numbers(issues: tuple[Issue, ...]) -> dict[str, Choice]:
    return {
        re.sub(r"[\s-]+", " ", bare(option)): (number, index)
        for number, issue in enumerate(issues)
        for index, option in enumerate(issue.options)
    }


def _stated(
    parts: Sequence[str],
    found: Sequence[frozenset[Choice]],
    issues: tuple[Issue, ...],
    possessive: re.Pattern[str],
) -> tuple[Plan, list[int]] | None:
    """The plan that these clauses state, and in which of them; None if none or several."""
    committing = [
        index
        for index, part in enumerate(parts)
        if found[index] and _commits(part, issues, possessive)
    ]
    whole = [i for i in committing if _complete(found[i], issues)]
    where = whole or committing
    named = _union(found[i] for i in where)
    later = [found[i] for i in committing if whole and i > whole[-1]]
    if not _complete(named, issues) or not _union(later) <= named:
        return None
    return tuple(choice for _, choice in sorted(named)), where


def _union(parts: Iterable[frozenset[Choice]]) -> frozenset[Choice]:
    return frozenset(itertools.chain.from_iterable(parts))


def _complete(named: frozenset[Choice], issues: Sequence[Issue]) -> bool:
    return len(named) == len(issues) == len({issue for issue, _ in named})


def _commits(clause: str, issues: tuple[Issue, ...], possessive: re.Pattern[str]) -> bool:
    """Whether a clause puts the options in it forward, or accepts them."""
    rest = _without_options(clause, issues)
    if negotiation.negated(rest) or _REPORT.search(rest) or _DENIAL.search(rest):
        return False
    doing = (m["verb"] or m["verbing"] for m in _DOING.finditer(rest))
    if not all(map(_PUTTING_FORWARD.fullmatch, doing)):
        return False
    if _COMMIT.search(rest):
        return True
    if possessive.search(rest):
        return False  # "Ann's plan is Sunday, the barn and soup."
    words = set(re.findall(r"[\w'’]+", rest.lower()))
    names = {word for issue in issues for word in issue.name.lower().split()}
    return _PROPOSE.search(rest) is not None or words <= _FILLER | names
