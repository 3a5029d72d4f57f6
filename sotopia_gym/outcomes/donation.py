"""The sum that somebody said to give when asked for a donation, read by rules.

One side alone decides here, so the rules follow what the giver says: a sum it commits to, a sum it
only considers (which counts once the asker takes it up), a plain yes to a sum the asker named, or
a refusal. The last of these counts. What is only promised for later, what has no sum ("all of my
pay"), and interest without a commitment are not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sotopia_gym.outcomes.base import Said
from sotopia_gym.tasks.families.base import Outcome

Firmness = Literal["firm", "tentative"]


def read(said: Sequence[Said], *, asker: str, giver: str) -> Outcome:
    """What the giver said to give now.

    Args:
        said: What was said, oldest first; what others than the two say is not read.
        asker: The agent that asks.
        giver: The agent that is asked.

    Returns:
        An outcome of family ``donation``: ``agreement`` with ``terms["amount"]`` in dollars where
        the giver has committed to a sum, ``no-agreement`` where it has declined, else ``unread``.

    Raises:
        ValueError: If asker and giver are the same agent.
    """
    if asker == giver:
        raise ValueError(f"asker and giver must be different agents; got {asker!r} for both.")
    talk = _Talk()
    for line in said:
        if line.agent == giver:
            talk.hear_giver(_sentences(line.text))
        elif line.agent == asker:
            talk.hear_asker(line.text)
    if talk.pledged is not None:
        terms = {"amount": talk.pledged / 100}
        return Outcome(family="donation", status="agreement", terms=terms)
    return Outcome(family="donation", status="no-agreement" if talk.declined else "unread")


# --- the talk -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Clause:
    """A part of a message that makes one point.

    Attributes:
        words: Its words; sums of money are written as ``"¤"`` and the cents.
        asks: Whether it is a question.
    """

    words: str
    asks: bool


@dataclass(frozen=True, slots=True)
class _Ask:
    """What the asker's last message asks for.

    Attributes:
        gift: Whether it asks for a donation, rather than anything else.
        amount: The one sum it asks for, in cents.
        firm: Whether a yes to it means that sum, and not at least that sum.
        size: Whether it asks how much.
        further: Whether it asks for more than what was offered.
    """

    gift: bool = False
    amount: int | None = None
    firm: bool = False
    size: bool = False
    further: bool = False


@dataclass(slots=True)
class _Talk:
    """Where the talk stands.

    Attributes:
        pledged: The sum that the giver has committed to, in cents.
        considered: A sum that it has only considered since, in cents.
        declined: Whether it has declined, and not come round since.
        ask: What it was asked last.
    """

    pledged: int | None = None
    considered: int | None = None
    declined: bool = False
    ask: _Ask = _Ask()

    def hear_asker(self, text: str) -> None:
        """Take in what the asker says."""
        clauses = _sentences(text)
        self.ask = _read_ask(clauses)
        if self.considered is not None and not self.ask.further and _accepts(clauses):
            self._commit(self.considered)

    def hear_giver(self, clauses: Sequence[_Clause]) -> None:
        """Take in what the giver says."""
        if self._answers_yes(clauses):
            if self.ask.amount is None:
                self.declined = False
            elif self.ask.firm:
                self._commit(self.ask.amount)
            else:
                self._consider(self.ask.amount)
        elif (
            self.ask.gift
            and not self.ask.further
            and _NO.match(clauses[0].words if clauses else "")
        ):
            self._decline()
        for number, clause in enumerate(clauses):
            # "You should give too, maybe a dollar" says nothing of what the giver gives.
            advice = number > 0 and _ADVICE.search(clauses[number - 1].words)
            if not (advice and _ELLIPTICAL.match(clause.words)):
                self._hear(clause)

    def _hear(self, clause: _Clause) -> None:
        sums = _sums(clause.words)
        if len(sums) > 1:
            if _GIVING.search(clause.words) and not clause.asks:
                self._leave_open()
        elif sums:
            self._hear_sum(clause, sums[0])
        elif not clause.asks:
            if self.ask.gift and not self.ask.further and _REALLY_NO.match(clause.words):
                self._decline()
            elif _declines(clause.words):
                self._decline(taken_back=_TAKEN_BACK.search(clause.words) is not None)
            elif _UNNAMED_SUM.search(clause.words) and _offers(clause.words):
                self._leave_open()
            elif _offers(clause.words):
                self.declined = False

    def _hear_sum(self, clause: _Clause, match: re.Match[str]) -> None:
        firmness = _firmness(clause, match, asked=self.ask)
        cents = int(match[1])
        if firmness is not None and cents == 0:
            self._decline(taken_back=True)
        elif firmness == "firm":
            self._commit(cents)
        elif firmness == "tentative":
            self._consider(cents)

    def _answers_yes(self, clauses: Sequence[_Clause]) -> bool:
        if not self.ask.gift or not clauses or not _YES.match(clauses[0].words):
            return False
        words = " ".join(clause.words for clause in clauses)
        return "¤" not in words and not _HEDGE.search(words) and not clauses[0].asks

    def _commit(self, cents: int) -> None:
        self.pledged, self.considered, self.declined = cents, None, False

    def _consider(self, cents: int) -> None:
        self.declined = False
        if cents != self.pledged:
            self.considered = cents

    def _leave_open(self) -> None:
        self.pledged, self.considered, self.declined = None, None, False

    def _decline(self, *, taken_back: bool = False) -> None:
        self.considered = None
        # After a commitment people decline to give more; only taking it back undoes it.
        if self.pledged is None or taken_back:
            self.pledged, self.declined = None, True


# --- what is said ---------------------------------------------------------------------------

# People leave apostrophes out; contractions are written out before anything is matched.
_SPELLINGS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[’‘`´\\]", "'"),
        (r"'+", "'"),
        (r"[“”\"]", " "),
        (r"[–—−]", "-"),
        (r"\b(?:can't|cant|can not)\b", "cannot"),
        (r"\b(?:won't|wont)\b", "will not"),
        (r"n't\b", " not"),
        (r"\b(do|does|did|is|are|was|would|could|should|have|has)nt\b", r"\1 not"),
        (r"\b(?:i'm|im)\b", "i am"),
        (r"\b(?:let's|lets)\b", "let us"),
        (r"\b(\w+)'ll\b", r"\1 will"),
        (r"\bill\b(?= \w)", "i will"),
        (r"\bid\b", "i would"),
        (r"\b(\w+)'re\b", r"\1 are"),
        (r"\b(\w+)'ve\b", r"\1 have"),
        (r"\bive\b", "i have"),
        (r"\b(\w+)'d\b", r"\1 would"),
        (r"\b(that|it|what|here|there|how)'?s\b", r"\1 is"),
        (r"\b(?:okay|okey|okk+|oki|k)\b", "ok"),
        (r"\b(?:yea|yeah|yep|yup|ya|yess+|yas|aye)\b", "yes"),
        (r"\bu\b", "you"),
        (r"\b(?:gonna|gunna)\b", "going to"),
        (r"\bwanna\b", "want to"),
        (r"\bdon?tate\b|\bdonated to donate\b|\bdoante\b|\bdontate\b|\bdonte\b", "donate"),
        (r"\bthank(?:s| you)(?: (?:so|very) much| a lot| again)?\b", "thanks"),
        # Said about any sum, and no sum themselves.
        (r"\b(?:and )?(?:not )?(?:a|one) (?:penny|cent|dollar) (?:more|less)\b", " "),
        (r"\b(?:every|each|per) (?:single )?(?:penny|cent|dollar|dime|nickel)\b", "any"),
        (r"\b(?:do|would) not mind\b", "would like to"),
        (r"\bwhy not\b", "how about"),
        (r"\s+", " "),
    )
)

# --- sums of money

_WORDS: Final = {
    word: number
    for number, word in enumerate(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split(),
        start=1,
    )
} | {
    word: number
    for number, word in zip(
        range(30, 100, 10), "thirty forty fifty sixty seventy eighty ninety".split(), strict=True
    )
}
_TENS: Final = "|".join(word for word, number in _WORDS.items() if number >= 20)
_DOLLARS: Final = r"(?:dollars?|dollers?|bucks?|usd|us dollars?)"
_CENTS: Final = r"(?:cents?|cnts?|pennies|¢)"
_SPELT: Final = re.compile(
    rf"\b(?:(?P<tens>{_TENS})[\s-])?(?P<word>{'|'.join(_WORDS)})"
    rf"(?P<hundred>[\s-]hundred)?(?=[\s-]+(?:{_DOLLARS}|{_CENTS})\b)"
    rf"|\b(?:an?\s)?(?P<only>hundred|thousand)(?=\s{_DOLLARS}\b)"
)
_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?|\d{1,9}(?:\.\d{1,2})?|\.\d{1,2})"
_COINS: Final = (
    (rf"\b(?:a\s)?half\s(?:of\s)?(?:an?|one)\s{_DOLLARS}\b|\b(?:a\s)half\s{_DOLLARS}\b", 50),
    (rf"\b(?:an?|one|1|(?:an?\s|one\s)?single|(?:an?\s)?whole)\s{_DOLLARS}\sand\sa\shalf\b", 150),
    (rf"\b(?:an?|(?:an?\s|one\s)?single|a\s(?:whole|full))\s{_DOLLARS}\b", 100),
    (r"\ba\squarter\b(?!\s(?:of|past|to|mile|century|million|hour|year))", 25),
    (r"\b(?:a|one|1|a\ssingle|one\ssingle)\sdime\b", 10),
    (r"\b(?:a|one|1|a\ssingle|one\ssingle)\snickel\b", 5),
    (r"\b(?:a|one|1|a\ssingle|one\ssingle)\spenny\b|\b(?:a|a\ssingle|one\ssingle)\scent\b", 1),
)
_COIN: Final = tuple((re.compile(pattern), f" ¤{cents} ") for pattern, cents in _COINS)
_BOTH: Final = re.compile(rf"\b(\d{{1,9}})\s?{_DOLLARS}(?:\s?(?:and|&))?\s(\d\d?)\s?{_CENTS}\b")
_MONEY: Final = re.compile(
    rf"""(?<![\w.,$%¤/])(?:
        \$\s?\$?(?P<sign>{_NUMBER})(?P<signcents>\s?{_CENTS}\b)?(?:\s?{_DOLLARS}\b)?
      | (?P<unit>{_NUMBER})[\s-]?(?:\$|{_DOLLARS}\b|dl\b)
      | (?P<cents>{_NUMBER})[\s-]?(?:{_CENTS}(?!\w)|c\b)
      | (?P<bare>\d?\.\d{{1,2}})(?!\s?(?:%|percent|million|billion|hours?|miles?|years?|stars?))
    )(?![\w%]|[.,:]\d|\s?(?:k|million|billion|thousand)\b)""",
    re.X,
)
_HALF: Final = re.compile(r"\b(?:half|1/2|50\s?%)(?: of)?(?: the| my| our| that| this)? ¤(\d+)")
# What one may choose from is no sum.
_RANGE: Final = re.compile(r"(?:¤|\b)\d+ ?(?:-+|to|through) ?¤\d+|¤\d+ ?(?:-+|to|through) ?\d+\b")
_CHOICE: Final = re.compile(r"¤\d+ ?(?:or|/|and) ?(?:¤\d+|\d+\b)")


def _canonical(text: str) -> str:
    """The words in lower case and plain spelling, with every sum as ``"¤"`` and the cents."""
    words = text.lower().replace("¤", " ").strip()
    for pattern, replacement in _SPELLINGS:
        words = pattern.sub(replacement, words)
    words = _SPELT.sub(_digits, words)
    for coin, sum_ in _COIN:
        words = coin.sub(sum_, words)
    words = _BOTH.sub(lambda match: f"${match[1]}.{match[2]:0>2}", words)
    words = " ".join(_MONEY.sub(_written, words).split())
    words = _RANGE.sub("a range", words)
    return _HALF.sub(lambda match: f"¤{int(match[1]) // 2}", words)


def _digits(match: re.Match[str]) -> str:
    if match["only"]:
        return "100" if match["only"] == "hundred" else "1000"
    number = _WORDS[match["word"]] + (_WORDS[match["tens"]] if match["tens"] else 0)
    return str(number * 100 if match["hundred"] else number)


def _written(match: re.Match[str]) -> str:
    digits = match["sign"] or match["unit"] or match["cents"] or match["bare"]
    value = float(digits.replace(",", ""))
    # ".10 cents" is how many people type ten cents.
    in_cents = (match["cents"] or match["signcents"]) and value >= 1
    return f" ¤{round(value if in_cents else value * 100)} "


# --- clauses

_SENTENCE: Final = re.compile(r"([.!?;:\n)(]+)")
_CLAUSE: Final = re.compile(
    r",|\s-+\s|\b(?:but|because|since|so|although|though|however|plus|cause)\b"
    r"|\band (?=(?:i|you|we|that|he|she|they)\b)"
)
_INTERROGATIVE: Final = re.compile(
    r"^(?:(?:ok|so|and|well|then|yes|oh|sure|great|thanks|also)\W+)*"
    r"(?:would|will|could|can|may|should|do|does|did|is|are|what|how|which|where|when|why|who"
    r"|have|has|am)\b"
)


def _sentences(text: str) -> list[_Clause]:
    """The clauses of a message."""
    parts = _SENTENCE.split(_canonical(text))
    found = []
    for sentence, end in zip(parts[::2], [*parts[1::2], ""], strict=True):
        asks = "?" in end
        clauses = [clause.strip(" '*-") for clause in _CLAUSE.split(sentence)]
        clauses = [clause for clause in clauses if clause]
        through = asks and _INTERROGATIVE.match(sentence.strip()) is not None
        for number, clause in enumerate(clauses, start=1):
            last = number == len(clauses)
            found.append(_Clause(clause, asks=asks and (last or through)))
    return found


# --- the giver

_ADVERB: Final = (
    r"(?:(?:definitely|certainly|probably|gladly|happily|also|still|just|really|only|then|now"
    r"|surely|actually|absolutely|at least|for sure|personally|even|today|most likely|totally"
    r"|simply|go ahead and|try to|be able to|be willing to|be happy to|be glad to|be ok with"
    r"|like to|love to|want to|be honou?red to|be proud to|be comfortable) )*"
)
_GIVE: Final = (
    r"(?:donat(?:e|ing|ion)s?|giv(?:e|ing)|contribut(?:e|ing|ion)|pledg(?:e|ing)|spar(?:e|ing)|do"
    r"|doing|go(?:ing)? (?:with|for|up|to|as)|send(?:ing)?|offer(?:ing)?|help(?:ing)?"
    r"|commit(?:ting)?|mak(?:e|ing) (?:it|that|a|my|the)|add(?:ing)?"
    r"|chip(?:ping)? in|kick(?:ing)? in|put(?:ting)?"
    r"|stick(?:ing)?|stay(?:ing)?|count me|settle|agree|accept|match(?:ing)?|sponsor(?:ing)?"
    r"|choos(?:e|ing)|afford|confirm|part with|sacrifice|rais(?:e|ing)|bump|up it|doubl(?:e|ing)"
    r"|increas(?:e|ing)|manage|decided|pay|leave|allocate|take)"
)
_GIVING: Final = re.compile(rf"\b{_GIVE}\b")
_FIRST: Final = r"(?:i|we|me|my|let us|mine|our|us)"
_OTHERS: Final = (
    r"(?:you|your|they|he|she|people|everyone|everybody|person|someone|somebody|anyone|charity"
    r"|organi[sz]ation|ceo|others|who|workers?"
    r"|(?:that|it)(?= (?:is|was|has|would|will|takes|costs|can|could)\b)|family|child|kid)"
)
_SUBJECT: Final = re.compile(
    rf"\b(?:(?P<first>{_FIRST}|match(?:ing)? (?:you|your))|(?P<other>{_OTHERS}))\b"
)
_NOT_A_GIFT: Final = re.compile(
    r"\b(?:not|cannot|never|nor|without|instead of|rather than|if|when|whenever|unless|until"
    r"|wish(?! to)|once|used to|have had|would have|could have|ago|usually|always|normally"
    r"|yesterday|last|keep|left|need|earn|worth|costs?|than(?: (?:a|just|only))?(?= $)|between"
    r"|every|monthly|already|previously|before|gave|donated|given|spent|paid|raised|later|next"
    r"|imagine|suppose)\b"
)
# "The $2 payment", "some of the $2": what there is to give, and not what is given.
_OF_IT: Final = re.compile(
    r"(?<!all )(?<!whole )(?<!entire )\b(?:out of(?: (?:the|my|our|this|that|these|your|only))?"
    r"|(?:from|of|for) (?:the|my|our|this|that|these|your)|the other|the rest|remaining) $"
)
_PAYMENT_AFTER: Final = re.compile(
    r"\s?(?:base )?(?:bonus|payment|pay|reward|hit|task|minimum|maximum|max|limit|a piece)\b"
)
_ALL_OF_IT: Final = re.compile(
    rf"\b{_GIVE} (?:you )?(?:all )?(?:of )?(?:the|my|this|all)(?: (?:full|whole|entire))? $"
)
_OFTEN: Final = re.compile(
    r"\s?(?:/|(?:a|an|per|each|every) (?:day|week|month|year|night|paycheck)\b|monthly|weekly"
    r"|annually|yearly|daily)"
)
_CONDITION_AFTER: Final = re.compile(
    r"\b(?:if you (?!want|like|do not mind|are ok|would like)|only if|as long as|provided)\b"
)
_SOME_DAY_AFTER: Final = re.compile(
    r"\b(?:if (?:i|we|they|he|she)|when i|once i|later|next (?:week|month|time)|in the future)\b"
)
_MAYBE: Final = re.compile(
    r"\b(?:maybe|perhaps|might|may(?! could)|possibly|thinking|consider|considering|leaning|should"
    r"|at least|up to|at most|no more than|how about|what about|propose|suggest|could probably"
    r"|was going to|would be (?:fair|good|enough|fine)|seems)\b"
)
_PROPOSED: Final = re.compile(
    r"\b(?:how|what) about\b|\b(?:can|could|may|should|shall) (?:i|we) (?:just |only )?"
    r"(?:donate|give|do|contribute|pledge)\b|\bwould (?:it|that|you)\b.*\b(?:ok|take|taking"
    r"|accept)\b|\b(?:would|will|is|does)\b(?! you| the| that charity).*¤.*"
    r"\b(?:help|ok|good|fine|enough|work|sufficient|do)\b|\bdo you (?:take|accept)\b"
    r"|\bdo we (?:want|agree)\b"
)
_WH: Final = re.compile(r"^(?:\w+ )?(?:what|where|when|which|why|who|how(?! about))\b(?! about)")
# Longer phrases come before their beginnings: nothing is tried twice.
_FILLER: Final = (
    r"(?:all of it|that is|that would be|which is|will be|would be|it is"
    r"|is my (?:max|limit|donation|pledge)|is a (?:good|fair) (?:amount|donation)"
    r"|is what i (?:can|could|will|would) (?:do|give|donate|afford)|is"
    r"|sounds? (?:good|great|nice|fair|fine|reasonable)|works?|enough|good|fine|cool|great|nice"
    r"|fair|perfect|agreed|deal|correct|yes|ok|sure|alright|absolutely|definitely|of course|well"
    r"|thanks|please|happily|gladly|maybe|perhaps|only|just|hmm+|um+|oh|then|like|say|let us say"
    r"|let us|i guess|i think|i say|i would say|the amount of|the total|the|full|whole|entire|all"
    r"|from me|from my (?:payment|pay|task payment|earnings|hit|bonus)|(?:by|with|for|to) me"
    r"|of my (?:payment|pay|bonus|task payment|earnings|hit)|in total|my|donation"
    r"|for (?:the |this )?(?:kids|children|charity|cause)|for them|about|around"
    r"|to (?:the charity|charity|save the children|the cause|the children|them)"
    r"|right now|now|today|usd|each|with|it|an?|and)"
)
_FILLERS: Final = rf"(?:{_FILLER}\b[^\w¤]*+)*+"
_ELLIPTICAL: Final = re.compile(rf"^{_FILLERS}¤\d+[^\w¤]*+{_FILLERS}$")
_ADVICE: Final = re.compile(r"\byou (?:should|could|can|might|must|need to|may)\b")
_AFTERWARDS: Final = re.compile(
    r"^\W*(?:i (?:will|would|can|could)\b|(?:is|would be) (?:what|all|my|the)\b"
    r".*\bi (?:can|could|will|would|am (?:able|willing))\b"
    r"|(?:works|is (?:fine|good|ok|cool)|will work)(?: for me| by me| with me)\b)"
)


def _sums(words: str) -> list[re.Match[str]]:
    """The sums that a clause names as a gift, each once, and not what there is to give from."""
    found: dict[str, re.Match[str]] = {}
    for match in re.finditer(r"¤(\d+)", words):
        before, after = words[max(0, match.start() - 60) : match.start()], words[match.end() :]
        if _OF_IT.search(before) or (_PAYMENT_AFTER.match(after) and not _ALL_OF_IT.search(before)):
            continue
        found[match[1]] = match
    return list(found.values())


def _firmness(clause: _Clause, match: re.Match[str], asked: _Ask) -> Firmness | None:
    """Whether a clause commits the giver to a sum, only considers it, or neither."""
    words = clause.words
    before, after = words[: match.start()], words[match.end() :]
    if _NOT_A_GIFT.search(before) or _CHOICE.search(words):
        return None
    if _OFTEN.match(after) or _SOME_DAY_AFTER.search(after):
        return None
    if clause.asks and (_INTERROGATIVE.match(words) or _PROPOSED.search(words)):
        return "tentative" if _PROPOSED.search(words) and not _WH.match(words) else None
    subjects = [found.lastgroup for found in _SUBJECT.finditer(before)]
    if subjects and subjects[-1] == "other" and not _ELLIPTICAL.match(words):
        return None
    unsure = clause.asks or _MAYBE.search(words) or _CONDITION_AFTER.search(after)
    if _ELLIPTICAL.match(words):
        return "tentative" if unsure or not (asked.gift or asked.size) else "firm"
    if _GIVING.search(before) or _AFTERWARDS.match(after) or re.search(r"\bdonation\b", words):
        return "tentative" if unsure else "firm"
    return "tentative" if asked.size else None


_WILLING: Final = re.compile(
    r"\b(?:i|we)(?: \w+)? (?:will|would|can|could|may|might|am|want)\b(?! not)[^,]{0,40}?"
    r"\b(?:donat(?:e|ing)|giv(?:e|ing)|contribut(?:e|ing)|help|spare)\b"
    r"|\b(?:think about it|consider)\b|^(?:maybe|perhaps|possibly)\b"
    r"|^(?:yes |ok |sure |well )*i (?:will|would|can|could)(?: do (?:it|that|so))?$"
)
# Said after a refusal these leave it standing.
_ELSEWHERE: Final = re.compile(
    r"\b(?:later|future|never|another|other|elsewhere|next|own|some ?day|when|once|after|local|time"
    r"|volunteer|research|look into|prefer|rather|if|not|cannot|wish|used to|instead|usually"
    r"|always|regularly|already|month|year|church|before)\b"
)
_UNNAMED_SUM: Final = re.compile(
    r"\b(?:all|whole|entire|full|half|everything|percent|double|match)\b|%"
)


def _offers(words: str) -> bool:
    """Whether a clause says that something may be given now."""
    return _WILLING.search(words) is not None and _ELSEWHERE.search(words) is None


_DONATE: Final = (
    r"(?:donat(?:e|ing)|giv(?:e|ing)|contribut(?:e|ing)|spar(?:e|ing)|afford|part(?:ing)? with"
    r"|interested|participat(?:e|ing)|pledge|do (?:it|that|so)$|join|help(?: out)?(?: with that)?"
    r"(?= (?:today|now|right now|at this|this time)|$))"
)
_REFUSAL: Final = re.compile(
    rf"""\b(?:i|we)\ (?:\w+\ ){{0,3}}?
          (?:(?:cannot|will\ not|would\ not|could\ not)
            |do\ not\ (?:really\ |currently\ |particularly\ )?(?:want|wish|plan|intend|feel)
            |do\ not\ (?:think|believe|feel)\ (?:that\ )?i\ (?:will|can|would|could|am|want|should)
            |am\ (?:not|unable)|would\ (?:prefer|rather)\ not
            |(?:am\ choosing|choose|(?:have\ )?decided)\ not|have\ to\ decline)
          (?:\ [\w']+){{0,5}}?\ {_DONATE}\b
      | ^(?:\w+\ ){{0,3}}?(?:cannot|will\ not|not\ able\ to|not\ going\ to|unable\ to)\ 
          (?:\w+\ ){{0,2}}?(?:donate|give|contribute)\b
      | \bi\ (?:do\ not|have\ no)\ (?:\w+\ ){{0,4}}?(?:money|funds|cash|anything)\ (?:\w+\ ){{0,2}}?
          to\ (?:donate|give|spare)\b
      | \b(?:no|not)\ thanks\b
      | \bi\ (?:\w+\ ){{0,3}}?(?:have\ to\ |going\ to\ |must\ |respectfully\ )
          (?:pass|decline|say\ no)\b | \bi\ (?:will|would)\ (?:\w+\ )?(?:pass|decline)\b
      | ^(?:(?:no|sorry|i\ am\ sorry|unfortunately|i\ am\ afraid|maybe|probably|well|but)\ )*
          not\ (?:at\ (?:this|the)\ (?:time|moment)|today|right\ now|this\ time|now|interested
          |a\ chance|really\ interested)\b
      | \bi\ (?:will|would|want\ to|choose\ to|am\ going\ to)\ (?:not\ (?:be\ )?)
          (?:donat(?:e|ing)|giv(?:e|ing))\b
      | \b(?:donate|give|contribute)\ (?:nothing|zero|0)\b | \bno\ donation\b
      | \bkeep\ (?:\w+\ )?my\ (?:money|earnings|pay|payment|bonus)\b""",
    re.X,
)
_NO_REFUSAL: Final = re.compile(
    r"\b(?:more|(?<!as )much|a lot|anything else|additional|any more|large|higher"
    r"|that (?:kind|amount)|usually|often|normally|typically|regularly|always|if|until|before"
    r"|unless|just|all|whole|entire|only|know how|decide|wait|full|sure"
    r"|help (?:but|feeling|thinking|wonder))\b"
)
_TAKEN_BACK: Final = re.compile(
    r"\b(?:changed my mind|second thought|after all|any ?more|anything at all)\b"
    r"|\bi (?:will|am) not (?:be |going to )?(?:donat(?:e|ing)|giv(?:e|ing))\b"
    r"|\bdo not want to (?:donate|give)\b"
)
_NO: Final = re.compile(
    r"^(?:(?:well|oh|um+|hm+|sorry|honestly|unfortunately|i am sorry|actually|ok)\W+)*"
    r"(?:no|nope|nah)\b(?!\W*(?:problem|worries|doubt|more|i (?:have not|had not|did not)|but|one))"
)
_REALLY_NO: Final = re.compile(
    r"^(?:(?:so|sorry|but|and|well|unfortunately)\W+)*(?:no|nope|nah|i (?:really )?cannot"
    r"|(?:no )?i (?:really )?(?:will|would|do) not)(?: sorry| sir| thanks)?$"
)
_YES: Final = re.compile(
    r"^(?:(?:well|oh|um+|hm+|ok|great|i guess|i think|i suppose)\W+)*"
    r"(?:yes|sure|ok|absolutely|definitely|of course|correct|certainly|agreed|deal|fine|alright"
    r"|that is (?:correct|right|fine|good|great|ok|perfect|fair)|that (?:sounds|seems|works|would"
    r" (?:be|work)|will (?:be|work))\b|sounds (?:good|great|fair|fine|like a plan)"
    r"|i (?:will|would|can|could) (?:do (?:that|it|so)|love to|be happy to|be glad to|definitely)"
    r"|i (?:will|would|can|could)$|you (?:got|have) (?:it|a deal)|no problem|gladly|perfect)\b"
)
_HEDGE: Final = re.compile(
    r"\b(?:not|cannot|maybe|perhaps|might|but|later|consider|think about|if|more|first|before"
    r"|future|some|something|a (?:little|bit)|small|how much|unless|depends|wish)\b"
)


def _declines(words: str) -> bool:
    """Whether a clause declines to give now."""
    if _REFUSAL.search(words) is None or _NO_REFUSAL.search(words):
        return False
    return "¤" not in words or "¤1 " in f"{words} "


# --- the asker

_ASKS_GIFT: Final = re.compile(
    r"\b(?:donat|giv(?:e|ing)\b|contribut|spare\b|sparing|pledge|commit|help|interested|willing"
    r"|participat|chip in|part with|put you|have you down|each\b|more\b)"
)
_ASKS_ELSE: Final = re.compile(
    r"\b(?:ever|have you (?!down)|did you|do you (?:usually|often|normally|regularly|donate|give"
    r"|know|have|help|volunteer|think (?:it|they|people)|believe|work|feel like you could have)"
    r"|any (?:other |more )?questions?|heard|know|like to (?:help|know|learn|hear)|what"
    r" (?:kinds?|type)|mind if i|tell you|why|are you (?:donating|from)|like children|did not"
    r"|you (?:do|are|will) not (?:wish|want|willing|be)|not willing|to help out)\b"
)
_SIZE: Final = re.compile(
    r"\b(?:how much|what (?:\w+ )?amount|(?:a|the) (?:fair|good|reasonable) amount|any amount"
    r"|what (?:would|do|are) you (?:like|want|willing|plan|thinking))\b"
    r"|\b(?:amount\b.*¤|a range\b)"
)
_PRICE: Final = re.compile(r"\b(?:spend|cost|costs|earn|goes|go to|used|worth|buy|they|know)\b")
# What asks without a question mark.
_UNASKED: Final = re.compile(
    r"\bput you (?:down )?(?:for|at)\b|\b(?:how|what) about\b"
    r"|^(?:so )?(?:would|could|will|can) you\b"
)
_TAG: Final = re.compile(
    r"(?:(?:so )?is (?:that|this) )?(?:right|correct|ok|deal|yes|good|alright|agreed|fine)"
    r"(?: with you)?|does that (?:sound (?:good|right)|work)(?: for you)?|sound good"
)
_FURTHER: Final = re.compile(
    r"\b(?:more|increase|another|double|doubling|extra|additional|additionally|bump|higher"
    r"|round (?:it )?up|raise|bit further|even further|reconsider|instead)\b"
)
_AT_LEAST: Final = re.compile(
    r"\b(?:even|not|at least|as little as|up to|anything|maybe|like|or|minimum|from|per|a"
    r" (?:day|week|month)|every|each (?:day|week|month))\b"
)
_ASSENT: Final = re.compile(
    r"\b(?:thanks|great|wonderful|awesome|perfect|sounds|generous|excellent|amazing|appreciate\w*"
    r"|any (?:amount|little|donation|help|any)|every (?:little|bit)|anything (?:helps|is|you)"
    r"|fantastic|kind of you|will help|would help|helps|deal|cool|nice|good|yes|sure|of course"
    r"|absolutely|definitely|reasonable|acceptable|agreed?|so kind|love|bless|fine)\b"
)
_OBJECTION: Final = re.compile(
    r"\b(?:only|why|not (?:enough|much)|cannot|too (?:little|low)|come on|really)\b"
)


def _read_ask(clauses: Sequence[_Clause]) -> _Ask:
    """What a message of the asker asks for."""
    questions = [number for number, clause in enumerate(clauses) if clause.asks]
    words = " ".join(clause.words for clause in clauses)
    size = any(_SIZE.search(c.words) and not _PRICE.search(c.words) for c in clauses)
    last = clauses[questions[-1]].words if questions else ""
    if not questions and _UNASKED.search(words):
        last = words
    elif questions and _TAG.fullmatch(last):
        last = clauses[questions[-1] - 1].words if questions[-1] else ""
    gift = (
        bool(last)
        and (_ASKS_GIFT.search(last) is not None or "¤" in last)
        and _ASKS_ELSE.search(last) is None
    )
    sums = {match[1] for match in re.finditer(r"¤(\d+)", last)}
    amount = int(min(sums)) if gift and len(sums) == 1 and not _CHOICE.search(last) else None
    return _Ask(
        gift=gift,
        amount=amount or None,
        firm=_AT_LEAST.search(last) is None and _OTHER_SUM.search(last) is None,
        size=size,
        further=_FURTHER.search(words) is not None,
    )


# "My $1", "of your $2 payment": not what the giver is asked for.
_OTHER_SUM: Final = re.compile(
    r"\b(?:i(?! (?:will|can) put you| have you down)|my|of (?:the|your|our|this)"
    r"|from (?:the|your)|your|if|think|know|that)\b[^¤]*¤"
)


def _accepts(clauses: Sequence[_Clause]) -> bool:
    """Whether the asker is content with what the giver considers."""
    words = " ".join(clause.words for clause in clauses)
    return _ASSENT.search(words) is not None and _OBJECTION.search(words) is None
