"""Every error this library raises on purpose.

Each message says what was expected, what came, and what to do about it. All of them derive from
:class:`SotopiaGymError`; most also derive from the built-in exception a caller would expect.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sotopia_gym.episodes.schema import Episode
    from sotopia_gym.llm.chat import Completion


class SotopiaGymError(Exception):
    """Base class of all errors raised by this library."""


class TaskError(SotopiaGymError):
    """A character, scenario, task or suite is malformed.

    It is no ValueError, so that it passes through pydantic's validators as it is.
    """


class TagError(TaskError):
    """A visibility tag in a text is malformed; the message names the place."""


class ActionError(SotopiaGymError, ValueError):
    """An action is not in the action space; the environment's state is unchanged."""


class ConfigError(SotopiaGymError, ValueError):
    """An argument or option has a value that makes no sense."""


class UnknownIdError(SotopiaGymError, LookupError):
    """No environment, suite, task, agent, judge or model has this id."""


class MissingSuiteError(UnknownIdError):
    """A suite is known but its data is not on this machine; the message says how to get it."""


class EpisodeStateError(SotopiaGymError, RuntimeError):
    """An environment method was called at a moment when it has no meaning."""


class JudgeError(SotopiaGymError, RuntimeError):
    """An episode could not be scored.

    Attributes:
        episode: The finished, unscored episode, or None if the judge failed before one existed.
    """

    def __init__(self, message: str, episode: Episode | None = None) -> None:
        super().__init__(message)
        self.episode = episode


class ModelError(SotopiaGymError, RuntimeError):
    """A language model is missing, corrupt, or returned something unusable."""


class AuthenticationError(ModelError):
    """A model's server does not accept the key, or the key may not do this."""


class UnknownModelError(ModelError):
    """A model's server has no such model, or is not at this address."""


class BadRequestError(ModelError):
    """A model's server refuses a request for what is in it; asking again would not help."""


class ContextOverflowError(BadRequestError):
    """A prompt does not fit a model's context."""


class UnavailableModelError(ModelError):
    """A model gave no answer within the tries or the time it was allowed.

    Attributes:
        attempts: Requests that were sent for the one answer.
    """

    def __init__(self, message: str, attempts: int) -> None:
        super().__init__(message, attempts)
        self.attempts = attempts

    def __str__(self) -> str:
        return str(self.args[0])


class AnswerError(ModelError):
    """A model answered, and was paid for it, but the answer is of no use.

    Attributes:
        text: What there is of the answer.
        completion: The answer with what it cost, where that is not told elsewhere; else None.
    """

    def __init__(self, message: str, text: str = "", completion: Completion | None = None) -> None:
        super().__init__(message, text, completion)
        self.text, self.completion = text, completion

    def __str__(self) -> str:
        return str(self.args[0])


class RefusalError(AnswerError):
    """A model declined to answer; the text is what it said instead."""


class EmptyAnswerError(AnswerError):
    """A model's answer has no text."""


class TruncatedAnswerError(AnswerError):
    """A model's answer was cut off, by its length limit or by a content filter."""


class BudgetExceededError(ModelError):
    """A client has spent what it was allowed to; nothing more is sent."""


class BatchError(ModelError):
    """A batch of requests failed as a whole, or cannot be run."""


class WorkerError(SotopiaGymError, RuntimeError):
    """Processes that play episodes are lost as fast as they are started."""


class MissingDependencyError(SotopiaGymError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""


class TrainingError(SotopiaGymError, RuntimeError):
    """Training went wrong and was stopped; the last good checkpoint is kept."""


class JournalError(SotopiaGymError, ValueError):
    """An episode file holds something that is not an episode of a known schema."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for a package that only an extra installs."""
    return MissingDependencyError(
        f"{purpose} needs the package {package!r}, which is not installed. "
        f"Install it with: pip install 'sotopia-gym[{extra}]'"
    )


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A closing sentence for "unknown id" messages: the nearest known id, or the list of all.

    Args:
        wrong: What the caller asked for.
        known: The ids that exist.
    """
    choices = sorted(known)
    close = get_close_matches(wrong, choices, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    if not choices:
        return "None is registered."
    shown = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f"Known: {shown}."
