"""Amounts of money in what people say: what bargaining families share."""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?|\d+(?:\.\d{1,2})?"
"""A number with or without thousands separators and cents, as part of a regular expression."""

# A number ends here only if nothing follows that would make it another one: "$1 200", "$1e3",
# "$45-50", "$2 thousand", "50%".
_NO_MORE: Final = (
    r"(?![\w%]|[.,'’]\d|\s\d{3}\b|\s?[-–—/]\s?\$?\d|\s(?:to|or|x)\s\$?\d"
    r"|\s?(?:hundred|thousand|million|billion|grand|percent|cents?|k|m)\b)"
)

AMOUNT: Final = re.compile(
    rf"(?<!\w)(?<!(?<!\d)[-−])(?:us)?(?:\$|\busd)\s?(?P<a>{NUMBER})(?:\s?(?P<k>k)\b)?{_NO_MORE}"
    rf"|(?<![\w.,$€£'’/–—−-])(?<!\d\s)(?<!\d\s[x/–—-]\s)(?<!\d\sto\s)(?<!\d\sor\s)"
    rf"(?P<b>{NUMBER})(?:\s?(?:dollars?|bucks|usd)\b|\s?\$(?!\s?\d))",
    re.I,
)
"""One amount of dollars in digits that can be read without guessing."""

MONEY: Final = re.compile(
    r"[$€£]|\b(?:dollars?|bucks|usd|euros?|pounds?|cents?|hundred|thousand|grand|percent)\b", re.I
)
"""Words that name an amount, readable or not."""

UNREADABLE: Final = re.compile(
    r"[$€£]\s?\d|\d\s?(?:[%$€£]|dollars?\b|bucks\b|usd\b|euros?\b)", re.I
)
"""What is left of amounts that cannot be read once those that can be are removed."""

TIME: Final = re.compile(
    r"\b(?:when|time|o['’]?clock|(?:to|mon|tues|wednes|thurs|fri|satur|sun)day|tomorrow|tonight"
    r"|noon|morning|afternoon|evening|weekend|pick|come\ by|drop\ by|swing\ by|meet|see\ you)\b",
    re.I | re.X,
)
"""Talk of when to meet, in which a number without a unit is a time."""


def value(match: re.Match[str]) -> float:
    """The dollars that a match of :data:`AMOUNT`, or of another with its groups, stands for."""
    groups = match.groupdict()
    digits = groups.get("a") or groups["b"]
    amount = float(digits.replace(",", ""))
    return amount * 1000 if groups.get("k") else amount
