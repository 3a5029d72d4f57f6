"""What an agent is."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from sotopia_gym.envs.dialogue import Action
from sotopia_gym.episodes.schema import TurnTokens, Usage


class Agent(ABC):
    """Turns observations into actions.

    Subclasses implement :meth:`act`; those that wait for something implement :meth:`aact`
    without blocking the event loop. One agent plays one role in one episode at a time; another
    for a second episode comes from :meth:`fork`.

    Attributes:
        name: The spec that makes an agent like this, where there is one; it is what episodes
            carry.
    """

    name: str = "custom"

    def reset(self, *, seed: int) -> None:
        """Begin an episode; everything random in it derives from ``seed``."""

    @abstractmethod
    def act(self, observation: Mapping[str, Any]) -> Action:
        """What to do now.

        Args:
            observation: One agent's observation of
                :class:`~sotopia_gym.envs.parallel.SocialEnv`, with ``your_turn`` set.
        """

    async def aact(self, observation: Mapping[str, Any]) -> Action:
        """:meth:`act`, without blocking the event loop."""
        return await asyncio.to_thread(self.act, observation)

    def fork(self) -> Agent:
        """An agent like this for another episode at the same time, not yet reset.

        The two may share whatever :meth:`reset` does not make anew, such as a model. By default
        it is a shallow copy.
        """
        return copy.copy(self)

    def usage(self) -> Usage | None:
        """What calling models cost since :meth:`reset`; None if none is called."""
        return None

    def prompt(self) -> str:
        """Version and hash of the prompt this agent plays with; empty if it has none."""
        return ""

    def models(self) -> tuple[str, ...]:
        """The models that answered since :meth:`reset`, with their fingerprints; or nothing."""
        return ()

    def tokens(self) -> tuple[TurnTokens, ...]:
        """What it read and sampled in each turn since :meth:`reset`; nothing if it is no policy."""
        return ()

    def close(self) -> None:
        """Let go of models and connections; may be called twice."""


def derive_seed(episode_seed: int, name: str) -> int:
    """The seed of one player in an episode: equal arguments give equal seeds, below 2**63."""
    digest = hashlib.sha256(f"{episode_seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
