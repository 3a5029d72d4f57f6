"""Judges score finished episodes."""

from __future__ import annotations

from sotopia_gym.errors import UnknownIdError, did_you_mean
from sotopia_gym.judges.base import Judge
from sotopia_gym.judges.dimensions import DIMENSIONS
from sotopia_gym.judges.outcome import OutcomeJudge

__all__ = ["DIMENSIONS", "Judge", "OutcomeJudge", "from_spec"]

_SPECS = ("auto", "none", "outcome")


def from_spec(spec: str | Judge | None) -> Judge | None:
    """The judge that ``spec`` names.

    Args:
        spec: ``"outcome"``, the exact offline judge of tasks with ground truth; ``"none"`` or
            None, to play unjudged; ``"auto"``, the best judge that is configured; or a judge.

    Raises:
        UnknownIdError: If no judge has this name.
    """
    if spec is None or isinstance(spec, Judge):
        return spec
    if spec == "none":
        return None
    if spec in ("auto", "outcome"):
        return OutcomeJudge()
    raise UnknownIdError(f"no judge {spec!r}. {did_you_mean(spec, _SPECS)}")
