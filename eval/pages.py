"""What pages of results have in common: one file each, with plots, to be read without a network."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sotopia_gym.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY = "#2c6fbb", "#8a8f98"

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #8886; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; background: #fff; padding: .5rem; border-radius: .4rem; }
figure svg { width: 100%; height: auto; }
figcaption { color: #333; font-size: .9rem; }
code { font-size: .9em; }
.note { color: #777; font-size: .9rem; }
"""


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole page.

    Args:
        title: Its title.
        parts: Its body, as HTML.
        style: CSS beside that of all pages.
    """
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_STYLE}{style}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table of texts."""
    head = "".join(f'<th scope="col">{escaped(each)}</th>' for each in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escaped(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plot(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Plot
    except ImportError as error:
        raise missing_extra("matplotlib", "eval", "a page with plots") from error
    return Plot(figsize=(width, height), layout="constrained")


def figure(drawn: Figure, caption: str) -> str:
    """A figure with its caption, which is read out in its place too."""
    from matplotlib import rc_context

    text = io.StringIO()
    # Without a date, and with ids that depend on the content only, equal results give equal pages.
    with rc_context({"svg.hashsalt": "sotopia-gym"}):
        drawn.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    label = html.escape(caption, quote=True)
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f"<figure>{drawing}<figcaption>{escaped(caption)}</figcaption></figure>"


def escaped(text: str) -> str:
    """A text as HTML."""
    return html.escape(text)
