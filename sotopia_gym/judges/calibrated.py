"""A judge whose scores are mapped onto people's ratings, or onto outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement
from sotopia_gym.errors import JudgeError, missing_extra
from sotopia_gym.files import write_whole
from sotopia_gym.judges.base import Judge
from sotopia_gym.tasks.schema import Suite, short_digest


class Calibration(BaseModel):
    """A monotone map from one judge's scores to what they should have been.

    Between its knots it is linear, beyond them constant.

    Attributes:
        judge: Whose scores it maps.
        fitted_on: What it was fitted on, for people to read.
        count: How many pairs of scores.
        maps: Dimension to knots: scores of the judge, rising, and what they map to, not falling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    fitted_on: str
    count: int
    maps: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]

    @model_validator(mode="after")
    def _monotone(self) -> Calibration:
        for name, (given, meant) in self.maps.items():
            if not given or len(given) != len(meant):
                raise ValueError(f"{name}: {len(given)} knots map to {len(meant)} values")
            if not np.all(np.isfinite([*given, *meant])):
                raise ValueError(f"{name}: the knots must be finite numbers")
            if np.any(np.diff(given) <= 0) or np.any(np.diff(meant) < 0):
                raise ValueError(f"{name}: the map must rise")
        return self

    def apply(self, dimension: str, score: float) -> float:
        """The calibrated score; unchanged if the dimension was not fitted."""
        if dimension not in self.maps:
            return score
        given, meant = self.maps[dimension]
        return float(np.interp(score, given, meant))

    def save(self, path: Path) -> None:
        """Write it to a JSON file, whole."""
        write_whole(path, [self.model_dump_json(indent=2).encode() + b"\n"])

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read it from a JSON file.

        Raises:
            JudgeError: If the file is missing or malformed.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise JudgeError(f"cannot read a calibration from {path}: {error}") from error


def fit(
    pairs: dict[str, Sequence[tuple[float, float]]], *, judge: str, fitted_on: str
) -> Calibration:
    """Fit a calibration by isotonic regression, dimension by dimension.

    Args:
        pairs: Dimension to pairs of (the judge's score, the score it should have been).
        judge: Whose scores they are.
        fitted_on: What the second scores are, e.g. ``"mean of two raters, 28 episodes"``.

    Raises:
        MissingDependencyError: If the extra ``eval`` is not installed.
        ValueError: If there are no pairs.
    """
    try:
        from scipy.optimize import isotonic_regression
    except ImportError as error:
        raise missing_extra("scipy", "eval", "fitting a calibration") from error
    maps = {}
    for name, given in pairs.items():
        if not given:
            raise ValueError(f"no pairs of scores for {name!r}.")
        levels = sorted({score for score, _ in given})
        targets = [[t for s, t in given if s == level] for level in levels]
        fitted = isotonic_regression(
            [float(np.mean(t)) for t in targets], weights=[len(t) for t in targets]
        )
        maps[name] = (tuple(levels), tuple(float(value) for value in fitted.x))
    count = max(len(given) for given in pairs.values())
    return Calibration(judge=judge, fitted_on=fitted_on, count=count, maps=maps)


class CalibratedJudge(Judge):
    """Another judge's scores after a :class:`Calibration`.

    Args:
        base: The judge that was calibrated.
        calibration: The map.

    Raises:
        JudgeError: If the calibration belongs to another judge.
    """

    def __init__(self, base: Judge, calibration: Calibration) -> None:
        if calibration.judge != base.name:
            raise JudgeError(
                f"the calibration was fitted for judge {calibration.judge!r} on "
                f"{calibration.fitted_on}; it says nothing about {base.name!r}."
            )
        self.name = f"calibrated:{base.name}"
        self.dimensions = base.dimensions
        # Another map gives other scores, though it asks the same.
        mapped = short_digest(calibration.maps)
        self.prompt = f"{base.prompt} calibration:{mapped}".strip()
        self._base, self._calibration = base, calibration

    def check(self, suite: Suite) -> None:
        self._base.check(suite)

    def judge(self, episode: Episode) -> Judgement:
        return self._calibrated(self._base.judge(episode))

    async def ajudge(self, episode: Episode) -> Judgement:
        return self._calibrated(await self._base.ajudge(episode))

    def close(self) -> None:
        self._base.close()

    def _calibrated(self, judgement: Judgement) -> Judgement:
        scores = {
            agent: {name: self._mapped(name, given) for name, given in by_dimension.items()}
            for agent, by_dimension in judgement.scores.items()
        }
        return judgement.model_copy(
            update={
                "judge": self.name,
                "prompt": self.prompt,
                "scores": scores,
                "members": (judgement,),
            }
        )

    def _mapped(self, dimension: str, given: DimensionScore) -> DimensionScore:
        if dimension not in self._calibration.maps:
            return given
        note = f"(calibrated on {self._calibration.fitted_on}; was {given.score:g})"
        return DimensionScore(
            score=self._calibration.apply(dimension, given.score),
            reasoning=f"{given.reasoning} {note}".strip(),
        )
