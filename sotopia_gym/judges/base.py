"""What a judge is."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from sotopia_gym.episodes.schema import Episode, Judgement
from sotopia_gym.tasks.schema import Suite


class Judge(ABC):
    """Reads a finished episode and scores every agent in it.

    Subclasses implement :meth:`judge`; those that wait for something implement :meth:`ajudge`
    without blocking the event loop.

    Attributes:
        name: What judgements carry as their judge.
        dimensions: The dimensions it scores.
        prompt: Version and hash of what it asks with; empty if it asks nobody.
    """

    name: str
    dimensions: tuple[str, ...] = ("goal",)
    prompt: str = ""

    def check(self, suite: Suite) -> None:
        """Raise JudgeError if this judge can never score a task of ``suite``."""

    @abstractmethod
    def judge(self, episode: Episode) -> Judgement:
        """Score ``episode``.

        Returns:
            A judgement with scores, or one with ``error``: a judge never makes a score up, and
            it raises only where it is misused.
        """

    async def ajudge(self, episode: Episode) -> Judgement:
        """:meth:`judge`, without blocking the event loop."""
        return await asyncio.to_thread(self.judge, episode)

    def close(self) -> None:
        """Let go of connections; may be called twice."""
