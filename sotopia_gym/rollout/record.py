"""What an episode keeps of those who played it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sotopia_gym.agents.base import Agent


def by_whom(players: Mapping[str, Agent]) -> dict[str, Any]:
    """The fields of an episode that say who played it, with what, and at what cost."""
    used = {role: player.usage() for role, player in players.items()}
    told: dict[str, dict[str, Any]] = {
        "usage": {role: usage for role, usage in used.items() if usage is not None},
        "models": {role: player.models() for role, player in players.items()},
        "prompts": {role: player.prompt() for role, player in players.items()},
        "tokens": {role: player.tokens() for role, player in players.items()},
    }
    return {
        "agents": {role: player.name for role, player in players.items()},
        **{name: {r: v for r, v in values.items() if v} for name, values in told.items()},
    }
