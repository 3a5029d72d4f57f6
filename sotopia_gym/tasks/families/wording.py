"""Words that several families write and read in the same way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

from sotopia_gym.tasks.families import negotiation

# Cyrillic and Greek letters that look like Latin ones.
_LOOKALIKES: Final = str.maketrans(
    "аеорсухіјѕһԁԛԝкмтвАВЕКМНОРСТУХІЈЅαεικορτυνΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijshdqwkmtbABEKMHOPCTYXIJSaeikoptuvABEZHIKMNOPTYX",
)
# Letters one by one, with the same separator between them: "b-o-a-t", "B O A T", "b.o.a.t".
_SPELLED: Final = re.compile(
    r"(?<![a-z0-9])[a-z]([\s.,_*/-]{1,3})[a-z](?:\1[a-z]){2,}(?![a-z0-9])", re.I
)
# Questions that ask for consent to what was just proposed.
_FOR_CONSENT: Final = re.compile(
    r"""\b(?:deal|agree(?:d|able)?|accept(?:able)?|settled?|shall\ we|what\ do\ you\ (?:say|think)
      |are\ you\ in|all\ right|alright|okay|ok|fine|sounds?|suits?|works?|good\ for|possible
      |can\ (?:you|we)\ (?:do|live\ with|manage)|right|how\ about|what\ about)\b""",
    re.I | re.X,
)


def listed(parts: Sequence[str], conjunction: str = "and") -> str:
    """``"a, b and c"``: at least one part as one phrase."""
    *most, last = parts
    return f"{', '.join(most)} {conjunction} {last}" if most else last


def folded(text: str) -> str:
    """``text`` in plain letters: no look-alikes, full-width forms, accents or invisible characters.

    So nobody can write what a reader of the conversation sees as one word, and a rule as another.
    """
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", text.replace("’", "'"))
    seen = "".join(c for c in apart if unicodedata.category(c) not in ("Mn", "Cf"))
    return seen.translate(_LOOKALIKES)


def unspelled(text: str, joined: Callable[[str], str | None]) -> str:
    """``text`` with words that are spelled out letter by letter written as words.

    Args:
        text: The text.
        joined: The word that a run of letters spells, or None to leave them as they are.
    """

    def word(run: re.Match[str]) -> str:
        return joined(re.sub(r"[^a-z]", "", run[0], flags=re.I)) or run[0]

    return _SPELLED.sub(word, text)


def enquires(text: str) -> bool:
    """Whether ``text`` ends in a question that does not ask for consent.

    A mere "yes" answers that question, and nothing that was said before it.
    """
    parts = negotiation.clauses(text)
    return (
        bool(parts)
        and negotiation.is_question(parts[-1])
        and _FOR_CONSENT.search(parts[-1]) is None
    )
