"""Who may see which part of a text: SOTOPIA's tags.

Scenario and goal texts may carry four tags. ``<extra_info>``, ``<clarification_hint>`` and
``<strategy_hint>`` mark parts of a text that whoever may read the text may read too.
``<p viewer="agent_0">`` restricts a part to one agent, ``<p viewer="environment">`` to the
environment and the judge, who see everything. Any tag may carry a ``viewer``. Tags nest.

The rules are those of SOTOPIA (Zhou et al. 2024, arXiv 2310.11667) as its released code has them,
with one difference: what is malformed is an error here, never silently dropped.
"""

from __future__ import annotations

import re
from typing import Final

from sotopia_gym.errors import TagError

ENVIRONMENT: Final = "environment"
"""The viewer that sees everything."""

TAGS: Final = ("extra_info", "clarification_hint", "strategy_hint", "p")

# A "<" that no letter or slash follows ("<3", "a < b") is text, unless it is a tag with a space too
# many ("< p viewer=..."), which must not show what it was meant to hide.
_MARKUP: Final = re.compile(
    r"<(?=[/A-Za-z]|\s+(?:/|(?:extra_info|clarification_hint|strategy_hint|p\s+viewer)\b))[^<>]*>?"
)
_TAG: Final = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z_]+)(?:\s+viewer=(?P<quote>[\"'])(?P<viewer>[^\"']*)(?P=quote))?\s*>"
)
_VIEWER: Final = re.compile(r"agent_\d+|" + ENVIRONMENT)


def render(text: str, viewer: str, *, where: str = "text") -> str:
    """The part of ``text`` that ``viewer`` may see, without tags.

    Args:
        text: A text that may hold tags.
        viewer: ``"agent_0"``, ``"agent_1"``, ... or ``"environment"``.
        where: What the text is, for error messages.

    Raises:
        TagError: If a tag is malformed, unknown, unclosed or closed without being open.
    """
    if "<" not in text:
        return text
    shown: list[str] = []
    open_tags: list[tuple[str, bool, int]] = []  # name, content visible, position
    visible = True
    position = 0
    for markup in _MARKUP.finditer(text):
        if visible:
            shown.append(text[position : markup.start()])
        position = markup.end()
        tag = _TAG.fullmatch(markup[0])
        if tag is None or tag["name"] not in TAGS or (tag["close"] and tag["viewer"] is not None):
            known = ", ".join(f"<{name}>" for name in TAGS)
            raise _error(
                f"malformed or unknown tag {markup[0]!r}; known: {known}", text, markup, where
            )
        if tag["close"]:
            if not open_tags or open_tags[-1][0] != tag["name"]:
                inside = f"<{open_tags[-1][0]}> is open" if open_tags else "no tag is open"
                raise _error(f"{markup[0]} closes nothing: {inside}", text, markup, where)
            open_tags.pop()
        else:
            seen = _may_see(tag["viewer"], viewer, text, markup, where)
            open_tags.append((tag["name"], seen, markup.start()))
        visible = all(seen for _, seen, _ in open_tags)
    if open_tags:
        name, _, start = open_tags[-1]
        raise TagError(
            f"{where}: <{name}> at character {start} is never closed: {_excerpt(text, start)}"
        )
    shown.append(text[position:])
    return "".join(shown).strip()


def check(text: str, *, where: str) -> None:
    """Raise TagError unless the tags of ``text`` are well-formed."""
    render(text, ENVIRONMENT, where=where)


def close_tags(text: str) -> tuple[str, tuple[str, ...]]:
    """Close the tags that are still open where ``text`` ends.

    Language models that write scenarios often forget the last closing tag. Everything else that
    may be wrong with a tag is left as it is, for :func:`check` to find.

    Returns:
        The text, and the names of the tags that were closed, innermost first. A text that ends in
        the parenthesis around the tag gets the closing tag before that parenthesis.
    """
    open_tags: list[str] = []
    for markup in _MARKUP.finditer(text):
        tag = _TAG.fullmatch(markup[0])
        if tag is None:
            return text, ()
        if not tag["close"]:
            open_tags.append(tag["name"])
        elif open_tags and open_tags[-1] == tag["name"]:
            open_tags.pop()
        else:
            return text, ()
    closed = tuple(reversed(open_tags))
    if not closed:
        return text, ()
    body, bracket = (text[:-1], ")") if text.endswith(")") else (text, "")
    return body + "".join(f"</{name}>" for name in closed) + bracket, closed


def _may_see(wanted: str | None, viewer: str, text: str, markup: re.Match[str], where: str) -> bool:
    if wanted is None:
        return True
    if not _VIEWER.fullmatch(wanted):
        raise _error(
            f"unknown viewer {wanted!r}; known: agent_0, agent_1, ..., {ENVIRONMENT}",
            text,
            markup,
            where,
        )
    return viewer in (wanted, ENVIRONMENT)


def _error(problem: str, text: str, markup: re.Match[str], where: str) -> TagError:
    start = markup.start()
    return TagError(f"{where}: {problem}, at character {start}: {_excerpt(text, start)}")


def _excerpt(text: str, start: int) -> str:
    return repr(text[max(0, start - 20) : start + 40])
