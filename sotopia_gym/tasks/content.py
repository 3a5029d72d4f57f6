"""The writing that comes with the library: characters, goods, places, settings."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from sotopia_gym.tasks.schema import Character


@lru_cache
def load_cast(split: str) -> tuple[Character, ...]:
    """The characters of one split, ``"train"`` or ``"heldout"``."""
    return tuple(Character.model_validate(entry) for entry in _entries("characters", None, split))


@lru_cache
def load_content(name: str, split: str) -> dict[str, list[dict[str, Any]]]:
    """The lists in ``data/NAME.json``, each reduced to the entries of one split."""
    raw: dict[str, list[dict[str, Any]]] = _read(name)
    return {key: _entries(name, key, split) for key in raw}


def _entries(name: str, key: str | None, split: str) -> list[dict[str, Any]]:
    raw = _read(name)
    listed = raw if key is None else raw[key]
    return [
        {field: value for field, value in entry.items() if field != "split"}
        for entry in listed
        if entry["split"] == split
    ]


@lru_cache
def _read(name: str) -> Any:
    return json.loads(read_text(f"{name}.json"))


def read_text(filename: str) -> str:
    """The text of one of the data files in this package."""
    return (files("sotopia_gym.tasks") / "data" / filename).read_text(encoding="utf-8")
