"""Episodes as one HTML file that anybody can open: how it went, and every conversation to read.

What agents, judges and tasks said is data in the page, never markup: it is embedded as JSON in
which nothing can end the element that holds it, and is shown as text only. The page allows itself
nothing but its own style and script, by their hashes: no network, no other script, no markup made
from strings.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from sotopia_gym.episodes.schema import Episode
from sotopia_gym.episodes.totals import Totals, family, state, turns
from sotopia_gym.errors import JournalError
from sotopia_gym.files import write_whole
from sotopia_gym.tasks.background import background
from sotopia_gym.tasks.schema import Character
from sotopia_gym.tasks.visibility import ENVIRONMENT, render
from sotopia_gym.version import __version__

SHOWN: Final = 1000
"""Episodes that a report shows one by one, unless more are asked for: about 10 kB each."""

# "<" could end the element that holds the data or begin a comment in it; the two separators end a
# line in older JavaScript.
_HARMLESS: Final = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def write_report(
    episodes: Iterable[Episode],
    path: Path,
    *,
    title: str = "Episodes",
    limit: int | None = SHOWN,
) -> int:
    """Write a report of episodes; the file is complete or stays as it was.

    The episodes are read once and not kept. Means come with 95 % bootstrap intervals in which
    whole scenarios are resampled (:func:`sotopia_gym.stats.mean_interval`), and are over all
    episodes that were played to their end, whatever ``limit`` is. An episode that was judged twice
    by the same judge counts with the later judgement.

    Where ``episode.extra["round"]`` is a number, the learning curves are over it, else over the
    order of the episodes.

    Args:
        episodes: At least one.
        path: The file; its folder is made if need be.
        title: What the page is called.
        limit: Most episodes that can be read in the report, the first ones; None for all.

    Returns:
        How many episodes there are.

    Raises:
        JournalError: If there are none.
    """
    totals = Totals()
    write_whole(path, _page(episodes, totals, title, limit))
    return totals.episodes


def _page(
    episodes: Iterable[Episode], totals: Totals, title: str, limit: int | None
) -> Iterator[bytes]:
    """The pieces of the file."""
    head, _, tail = (
        (files("sotopia_gym.episodes") / "report.html")
        .read_text(encoding="utf-8")
        .partition("<!--data-->\n")
    )
    policy = (
        f"default-src 'none'; style-src {_hash('style', head)}; script-src {_hash('script', tail)};"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types"
    )
    head = head.replace("{{policy}}", policy).replace("{{title}}", html.escape(title))
    yield head.encode(errors="replace")
    rows: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()
    for number, episode in enumerate(episodes, start=1):
        totals.add(episode)
        if limit is not None and number > limit:
            continue
        name = episode.key or episode.episode_id
        seen[name] += 1
        key = name if seen[name] == 1 else f"{name}~{seen[name]}"
        rows.append(_row(episode, key))
        yield _element(f"episode-{number - 1}", _detail(episode))
    if totals.episodes == 0:
        raise JournalError("a report needs at least one episode, and there is none.")
    written = {"written": datetime.now(UTC).isoformat(timespec="minutes"), "library": __version__}
    yield _element("summary", {"title": title, "rows": rows, **written, **totals.data()})
    yield tail.encode()


def _hash(tag: str, text: str) -> str:
    """The source expression that allows the one inline element of this kind."""
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    assert found is not None, f"the template has no {tag}"
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _element(name: str, value: object) -> bytes:
    """A script element that holds ``value`` as data."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate has no UTF-8; backslashreplace writes just the escape that JSON has for it.
    return (
        f'<script type="application/json" id="{name}">{data.translate(_HARMLESS)}</script>\n'
    ).encode(errors="backslashreplace")


# --- one episode ------------------------------------------------------------------------


def _row(episode: Episode, key: str) -> dict[str, Any]:
    """What the table of episodes shows."""
    judgement = episode.judgement
    outcome = None if judgement is None else judgement.outcome
    return {
        "key": key,
        "task": episode.task.task_id,
        "codename": episode.task.scenario.codename,
        "family": family(episode.task),
        "roles": [
            {
                "role": role,
                "name": name,
                "player": episode.agents.get(role, ""),
                "goal": None if judgement is None else judgement.goal(role),
            }
            for role, name in episode.task.names.items()
        ],
        "focal": episode.focal,
        "turns": turns(episode),
        "ending": episode.ending,
        "judge": "" if judgement is None else judgement.judge,
        "agreed": None if outcome is None else outcome.status,
        "state": state(episode),
        "error": episode.error or (judgement.error if judgement is not None else None) or "",
    }


def _detail(episode: Episode) -> dict[str, Any]:
    """What the page of one episode shows."""
    dumped = json.loads(
        episode.model_dump_json(
            exclude_defaults=True, exclude={"task": True, "tokens": True, "events": True}
        )
    )
    task = episode.task
    truth = task.scenario.outcome
    return {
        **dumped,
        "episode_id": episode.episode_id,
        "scenario_id": task.scenario.scenario_id,
        "origin": task.scenario.source,
        "ground_truth": truth and json.loads(truth.model_dump_json()),
        "transcript": episode.has_transcript,
        "scene": render(task.scenario.context, ENVIRONMENT),
        "cast": [
            _person(character, render(goal, ENVIRONMENT))
            for character, goal in zip(task.characters, task.scenario.goals, strict=True)
        ],
        "views": {role: _view(episode, role) for role in task.agents},
        "events": [
            {
                "turn": event.turn,
                "agent": event.agent,
                "type": event.action.action_type,
                "text": event.action.argument,
                "to": event.action.to,
                "note": event.note,
                "seen": [role for role in task.agents if event.visible_to(role)],
            }
            for event in episode.events
        ],
    }


def _view(episode: Episode, role: str) -> list[str]:
    """What ``role`` knows before the first word, a paragraph each."""
    lines = background(episode.task, role, max_turns=episode.max_turns or 0).split("\n")
    return lines if episode.max_turns else lines[:-1]


def _person(character: Character, goal: str) -> list[tuple[str, str]]:
    """All there is to know of a character, with labels."""
    who = (
        "" if character.age is None else f"{character.age} years old",
        f"{character.gender} {f'({character.pronouns})' if character.pronouns else ''}".strip(),
        character.occupation,
    )
    facts = [
        ("Who", ", ".join(part for part in who if part)),
        ("Biography", character.public_info),
        ("Personality", character.personality),
        ("Values", ", ".join(character.values)),
        ("Decides", character.decision_style),
        ("Traits", ", ".join(f"{name}: {value}" for name, value in character.traits.items())),
        ("Secret", character.secret),
        ("Goal", goal),
    ]
    return [(label, text) for label, text in facts if text]
