"""What people's words name to give away: items, how many of them, and "the rest".

People type "2 hats", "both of the books", "3 packs of fire wood", "basketballs" or, once it is
clear what is meant, just "2". :class:`Vocabulary` finds these in a text, given only the items that
there are; who gets them is for :mod:`.claims` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sotopia_gym.tasks.families.division import Item

Kind = Literal["item", "rest", "everything", "nothing", "each", "part"]

# Other words for common things, by the last word of the item's name.
_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "firewood": ("log", "fire log", "fuel"),
    "food": ("meal", "snack"),
    "water": ("drink",),
}
# Mass nouns that people give a plural all the same: "2 waters".
_MASS: Final = frozenset(
    "bread cheese coffee equipment firewood food fruit fuel furniture gear honey land meat milk "
    "money oil rice salt sugar tea water wine wood".split()
)
# "basketball" is a ball and "wood" is firewood: the first parts of compounds that can be dropped.
_MODIFIERS: Final = (
    *("arm", "base", "basket", "beach", "camp", "comic", "fire", "foot", "kick", "note", "soccer"),
    *("story", "text", "volley"),
)
_CONTAINERS: Final = (
    r"(?:packages?|packs?|packets?|pkgs?|bottles?|bundles?|jugs?|gallons?|cases?|units?|box(?:es)?"
    r"|bags?|pieces?|sets?|sticks?|cans?|cartons?|portions?|rations?|servings?|stacks?|items?"
    r"|supply|supplies|loads?|parts?|pouch(?:es)?|blocks?|jars?|crates?|buckets?|cups?)"
)
_NUMBERS: Final = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
_SPELLINGS: Final = {
    **_NUMBERS,
    **{"twoo": "2", "thre": "3", "single": "1", "atleast": "at least", "u": "you", "ur": "your"},
    **{"ill": "i will", "id": "i would", "im": "i am", "ive": "i have", "lets": "let us"},
    **{"youll": "you will", "youd": "you would", "gimme": "give me", "gimmie": "give me"},
    **{"lemme": "let me", "wanna": "want to", "gotta": "have to", "cant": "can not"},
    **{"cannot": "can not", "wont": "will not", "thats": "that is", "whats": "what is"},
    **{f"{verb}nt": f"{verb} not" for verb in "do does did is are was were would could".split()},
}
_CONTRACTIONS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r" (?='(?:ll|d|m|re|ve|s)\b)| (?=n't\b)", ""),
        (r"\bcan't\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"\blet's\b", "let us"),
        (r"'ll\b", " will"),
        (r"'d\b", " would"),
        (r"'m\b", " am"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"\b(it|that|what|there|here|he|she|how)'s\b", r"\1 is"),
    )
)
_PEOPLE: Final = r"(?:family|group|kids|children|team|friends?|crew)"
_PHRASES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"\b(?:my|our) {_PEOPLE}(?: and (?:i|me))?\b", "we"),
        (rf"\byour {_PEOPLE}\b", "you"),
        (r"\bya\b(?= (?:can|get|take|keep|want|have))", "you"),
        (r"\bev[a-z]*thing\b", "everything"),
        (r"\b(?:50 ?[-/ ] ?50|fifty[- ]fifty)\b", "evenly"),
        (r"\b(\d+) ?x\b|\bx ?(\d+)\b", r" \1\2 "),
        (r"(?<=\d)(?=[a-z])", " "),
        (r"([.,!?;:()/=-]|\n)", r" \1 "),
        (r"[&+]", " and "),
        (r"(\d) ([/-]) (?=\d)", r"\1\2"),
        (r"[^\S\n]+", " "),
    )
)
_WORD: Final = re.compile(r"(?<![a-z@'])[a-z]+(?![a-z'])")
_OPEN: Final = frozenset(
    "some any few couple several more most another enough much many lots lot plenty either least "
    "extras or majority bulk".split()
)
_DETERMINERS: Final = (
    r"(?:of|the|these|those|that|this|your|my|our|extra|additional|whole|last|entire|exactly"
    rf"|other|remaining|total|{'|'.join(_MODIFIERS)})"
)
_QUANTIFIERS: Final = (
    r"(?:all|both|half|none|some|any|most|more|another|every|each|few|couple|several|no|least"
    r"|enough|much|many|lots?|plenty|either|majority|bulk|an?|\d+)"
)
_REST: Final = (
    r"(?:(?:all )?(?:of )?(?:the )?rest(?: of (?:it|them|the (?:items|things|stuff|supplies)))?"
    r"|(?:every ?thing|all|any ?thing) else|(?:all |all of )?the others"
    r"|(?:all |all of )?(?:the |every )?(?:other|remaining) (?:items?|things?|stuff|1s|objects?)"
    r"|all (?:the )?other|the remainder|(?:what|what ?ever)(?: is)? (?:left|remains|remaining)"
    r"(?: over)?)"
)
_EVERYTHING: Final = (
    r"(?:every ?thing|it all|all (?:of )?(?:the )?(?:items|stuff|things|supplies|objects))"
)


@dataclass(frozen=True, slots=True)
class Thing:
    """Something named to give away.

    Attributes:
        kind: An item, or ``"rest"``, ``"part"`` (some of the rest), ``"everything"``,
            ``"nothing"``, ``"each"`` (so many of each).
        item: Index of the item; None for other kinds, and for a number whose item is left out.
        count: How many; None if that is left open.
        remaining: Whether it is what is left of this item ("the other hat").
        mass: Whether it is a mass noun without a number ("the water", "some water").
        exact: Whether a number or a word like "all" was given.
    """

    kind: Kind
    item: int | None = None
    count: int | None = None
    remaining: bool = False
    mass: bool = False
    exact: bool = False


Token = str | Thing


class Vocabulary:
    """Finds what a text names of some items.

    Args:
        items: What there is to divide.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = tuple(items)
        self._marks: dict[str, str] = {}
        for index, item in enumerate(items):
            for name, form in _names(item):
                mark = self._marks.setdefault(name, f"@{index}{form}")
                if not mark.startswith(f"@{index}"):
                    self._marks[name] = ""  # of two items: says nothing
        phrases = sorted((name for name in self._marks if " " in name), key=len, reverse=True)
        self._phrases = re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b")
        self._has_phrases = bool(phrases)
        words = {word for item in items for word in _words_of(item)}
        self._long = sorted(word for word in words if len(word) >= 6)

    def tokens(self, text: str) -> list[Token]:
        """The words of ``text`` in lower case and, in their place, the things that it names."""
        plain = _plain(text)
        if self._has_phrases:
            plain = self._phrases.sub(lambda match: self._marks[match[0]] or match[0], plain)
        plain = _WORD.sub(lambda match: self._mark(match[0]), plain)
        tokens: list[Token] = []
        for sentence in re.split(r"(?<=[.!?;\n])", plain):
            position = 0
            for match in _THING.finditer(sentence) if _NAMING.search(sentence) else ():
                tokens.extend(_words(sentence[position : match.start()]))
                tokens.append(self._thing(match))
                position = match.end()
            tokens.extend(_words(sentence[position:]))
        return tokens

    def _mark(self, word: str) -> str:
        """``word``, or a mark in its place if it names an item, if need be misspelt."""
        if word not in self._marks and len(word) >= 6:
            near = (n for n in self._long if n[0] == word[0] and _one_off(word, n))
            word = next(near, word)
        return self._marks.get(word) or word

    def _thing(self, match: re.Match[str]) -> Thing:
        if match["part"] or match["more"]:
            return Thing("part")
        if match["rest"]:
            return Thing("rest")
        if match["everything"]:
            return Thing("everything")
        if match["nothing"]:
            return Thing("nothing")
        if match["of_each"]:
            return Thing("each", count=int(match["of_each"]), exact=True)
        index = int(match["item"])
        if match["rest_of"]:
            return Thing("item", index, remaining=True)
        return _counted(index, self.items[index], match)


_THING: Final = re.compile(
    # "one of each", "2 packs of everything"
    rf"\b(?P<of_each>\d+) (?:{_CONTAINERS} )?(?:of )?(?:each|every(?: ?thing)?)\b"
    rf"(?: {_CONTAINERS}\b| of (?:them|those|the {_CONTAINERS})\b)?(?! @| of us)"
    # "the rest of the hats", "both of the hats", "3 packs of firewood", "hats: 2"
    rf"|(?P<rest_of>\b(?:the )?(?:rest|remainder) of (?:{_DETERMINERS} )*"
    rf"(?:{_CONTAINERS} (?:of )?)?(?=@)|\bthe remaining (?=@))?"
    r"(?P<before>(?:\b(?:all but \d+|\d+(?: ?(?:/|-|or|to|and|out of) ?\d+)+"
    rf"|{_QUANTIFIERS}|{_DETERMINERS}|{_CONTAINERS})\b ?(?:- )?)*)"
    rf"@(?P<item>\d+)(?P<form>[spm])(?: {_CONTAINERS}\b)?"
    rf"(?: ?[:=(-]? ?(?P<tail>\d+)\b(?! ?(?:/|(?:{_DETERMINERS}|{_CONTAINERS})\b|@)) ?\)?)?"
    rf"|\b(?P<part>(?:\d+|some|half|1/2)(?: more)? (?:of |from |out of )){_REST}\b"
    rf"|\b(?P<more>more (?:items|supplies))\b"
    rf"|\b(?P<rest>{_REST})\b"
    rf"|\b(?P<everything>{_EVERYTHING})\b(?! (?:i|you|we|is|that|sounds?|looks?|works?|will)\b)"
    r"|\b(?P<nothing>nothing)\b(?! (?:else|more|to|wrong|but)\b)"
)


# What every match of it has, to pass over the many sentences without.
_NAMING: Final = re.compile(r"@|\b(?:rest|each|every|else|other|remain|left|all|nothing|more)")


def _names(item: Item) -> Iterator[tuple[str, str]]:
    """The names of ``item`` with their forms: (s)ingular, (p)lural, or (m)ass noun."""
    singular, plural = item.singular.lower(), item.plural.lower()
    pairs = [(singular, plural)]
    head, heads = singular.split()[-1], plural.split()[-1]
    if " of " in singular:  # "bottle of wine" is a "bottle" and "wine"
        pairs += [(singular.split()[0], plural.split()[0]), (head, head)]
    else:
        pairs.append((head, heads))
        pairs += [(f"{modifier}{head}", f"{modifier}{heads}") for modifier in _MODIFIERS]
    first = next((m for m in _MODIFIERS if head.startswith(m) and len(head) > len(m) + 2), "")
    if first:
        bare = head.removeprefix(first)
        pairs += [(bare, f"{bare}s"), (f"{first} {bare}", f"{first} {bare}s")]
    pairs += [(word, f"{word}s") for word in _SYNONYMS.get(head, ())]
    for one, many in pairs:
        yield one, "m" if _is_mass(item) or one == many else "s"
        yield many if one != many else f"{one}s", "p"


def _words_of(item: Item) -> set[str]:
    return set(f"{item.singular} {item.plural}".lower().split())


def _is_mass(item: Item) -> bool:
    """Whether the name of ``item`` alone says nothing of how many are meant."""
    singular = item.singular.lower()
    return singular == item.plural.lower() or " of " in singular or singular in _MASS


def _plain(text: str) -> str:
    """``text`` in lower case, without contractions, numbers as digits, marks apart."""
    plain = f" {text.lower()} "
    for mark in "’`´‘":
        plain = plain.replace(mark, "'")
    if "'" in plain:
        for pattern, replacement in _CONTRACTIONS:
            plain = pattern.sub(replacement, plain)
    plain = _WORD.sub(lambda match: _SPELLINGS.get(match[0], match[0]), plain)
    for pattern, replacement in _PHRASES:
        plain = pattern.sub(replacement, plain)
    return plain


def _one_off(word: str, name: str) -> bool:
    """Whether one letter more, less, or other, or two swapped, turn ``word`` into ``name``."""
    if abs(len(word) - len(name)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), None)
    if start is None:
        return True
    ends = ((1, 1), (1, 0), (0, 1))
    return any(word[start + i :] == name[start + j :] for i, j in ends) or (
        word[start : start + 2] == name[start : start + 2][::-1]
        and word[start + 2 :] == name[start + 2 :]
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+|\d+(?:[/-]\d+)*|[.,!?;:\n]", text)


def _counted(index: int, item: Item, match: re.Match[str]) -> Thing:
    """An item with the number that the words around it mean."""
    total, mass = item.count, _is_mass(item)
    before = match["before"].split()
    numbers = [int(word) for word in before if word.isdigit()]
    ranged = any(re.search(r"\d[/-]\d", word) for word in before)
    if "all" in before and "but" in before and numbers:
        return _of(index, total, total - numbers[0])
    part = re.fullmatch(r"(\d+)/(\d+)", before[-1]) if before else None
    if part and int(part[2]) == total:
        return _of(index, total, int(part[1]))  # "2/3 of the water"
    if ranged or _OPEN.intersection(before):
        return Thing("item", index)
    if "none" in before or "no" in before:
        return Thing("item", index, 0)
    if "half" in before:
        return _of(index, total, total // 2 if total % 2 == 0 else None)
    if numbers:
        wrong = ("all" in before and numbers[0] != total) or (
            len(numbers) > 1 and (numbers[-1] != total or "of" not in before)
        )
        return _of(index, total, None if wrong else numbers[0])
    if "other" in before or "remaining" in before:
        return Thing("item", index, remaining=True)
    if "all" in before or "every" in before:
        return _of(index, total, total)
    if "both" in before:
        return _of(index, total, 2)
    if "a" in before or "an" in before or "each" in before:
        return _of(index, total, 1)
    if match["tail"]:
        return _of(index, total, int(match["tail"]))
    if match["form"] == "s":
        return Thing("item", index, 1 if total == 1 else None)
    if not mass:
        return Thing("item", index, total)
    return Thing("item", index, total if "the" in before else None, mass=True)


def _of(index: int, total: int, count: int | None) -> Thing:
    known = count if count is not None and count <= total else None
    return Thing("item", index, known, exact=True)
