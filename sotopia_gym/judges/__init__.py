"""Judges score finished episodes; a spec string names one everywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sotopia_gym.episodes.dimensions import DIMENSIONS, Dimension
from sotopia_gym.errors import ConfigError, UnknownIdError, did_you_mean
from sotopia_gym.judges.base import Judge
from sotopia_gym.judges.outcome import OutcomeJudge

if TYPE_CHECKING:
    from sotopia_gym.llm.client import ClientOptions

__all__ = ["DIMENSIONS", "Dimension", "Judge", "OutcomeJudge", "from_spec"]

_log = logging.getLogger(__name__)
_SPECS: Final = (
    "auto",
    "none",
    "outcome",
    "gpt-4",
    "local/smollm2-135m",
    "MODEL@http://HOST:PORT/v1",
    "panel:A+B",
    "calibrated:FILE",
    "human:FILE",
)


def from_spec(
    spec: str | Judge | None,
    options: ClientOptions | None = None,
    *,
    dimensions: Iterable[str] | None = None,
) -> Judge | None:
    """The judge that ``spec`` names.

    Args:
        spec: A judge, which is returned as it is, or

            - ``"auto"``: the GPT-4 judge where an API key is set (``OPENAI_API_KEY``), else the
              outcome judge;
            - ``"none"`` or None: play unjudged;
            - ``"outcome"``: the exact judge of tasks with ground truth;
            - ``"gpt-4"``: one dated snapshot of GPT-4o, the same in every release that keeps it;
            - a chat model (:func:`sotopia_gym.llm.spec.chat_model`): that model, asked for the
              seven dimensions. ``"local/smollm2-135m"`` runs everything offline, and is far too
              weak for its scores to mean anything;
            - ``"panel:A+B+C"``, ``"panel-median:A+B+C"``: the mean or median of several judges;
            - ``"calibrated:FILE"``: the judge that a calibration file was fitted for, calibrated;
            - ``"human:FILE"``: people's ratings from an episode file.
        options: How language models are called.
        dimensions: What language models are asked for; None for all seven. Other judges give what
            they give.

    Raises:
        UnknownIdError: If no judge, or no dimension, has this name.
        ModelError: If a model is not on this machine, or there is no API key.
    """
    if spec is None or isinstance(spec, Judge):
        return spec
    if not isinstance(spec, str):
        raise ConfigError(f"a judge is a Judge, a spec or None; got {type(spec).__name__}.")
    if spec == "none":
        return None
    if spec == "outcome":
        return OutcomeJudge()
    if spec == "auto":
        return _auto(options, dimensions)
    kind, _, rest = spec.partition(":")
    if kind in ("panel", "panel-median"):
        from sotopia_gym.judges.panel import PanelJudge

        members = [from_spec(part, options, dimensions=dimensions) for part in rest.split("+")]
        if None in members:
            raise ConfigError(f"'none' cannot be a member of a panel; got {spec!r}.")
        return PanelJudge(
            [member for member in members if member is not None],
            combine="median" if kind == "panel-median" else "mean",
        )
    if kind == "calibrated":
        from sotopia_gym.judges.calibrated import CalibratedJudge, Calibration

        calibration = Calibration.load(Path(rest))
        base = from_spec(calibration.judge, options, dimensions=dimensions)
        if base is None:
            raise UnknownIdError(f"{rest} was fitted for no judge.")
        return CalibratedJudge(base, calibration)
    if kind == "human":
        from sotopia_gym.episodes.journal import Journal
        from sotopia_gym.judges.human import HumanJudge

        if not Path(rest).is_file():
            raise UnknownIdError(f"no episode file {rest!r} with people's ratings.")
        return HumanJudge(Journal(rest))
    return _language_model(spec, options, dimensions)


def _language_model(
    spec: str, options: ClientOptions | None, dimensions: Iterable[str] | None
) -> Judge:
    from sotopia_gym.judges.llm import GPT4_JUDGE, LLMJudge
    from sotopia_gym.llm.spec import chat_model, is_chat_model

    model = GPT4_JUDGE if spec == "gpt-4" else spec
    if not is_chat_model(model):
        raise UnknownIdError(f"no judge {spec!r}. {did_you_mean(spec, _SPECS)}")
    asked = _named(DIMENSIONS if dimensions is None else dimensions)
    if model.startswith("local/"):
        _log.warning("the judge %r is too weak for its scores to mean anything", spec)
        # It would not stop by itself, and needs some 400 tokens where it is asked for one score.
        room = min(1500, 400 * len(asked))
        return LLMJudge(
            chat_model(model, options), dimensions=asked, max_reasoning=80, max_tokens=room
        )
    return LLMJudge(chat_model(model, options), dimensions=asked)


def _named(names: Iterable[str]) -> list[Dimension]:
    found = list(dict.fromkeys(names))
    for name in found:
        if name not in DIMENSIONS:
            raise UnknownIdError(f"no dimension {name!r}. {did_you_mean(name, DIMENSIONS)}")
    if not found:
        raise ConfigError("name at least one dimension.")
    return [DIMENSIONS[name] for name in found]


def _auto(options: ClientOptions | None, dimensions: Iterable[str] | None) -> Judge:
    if not os.environ.get("OPENAI_API_KEY"):
        _log.info("judge 'auto' is 'outcome' here, exact and at no cost: no API key is set")
        return OutcomeJudge()
    from sotopia_gym.judges.llm import GPT4_JUDGE, TYPICAL_TOKENS
    from sotopia_gym.llm.prices import PRICES

    judge = _language_model("gpt-4", options, dimensions)
    cost = PRICES[GPT4_JUDGE].cost(*TYPICAL_TOKENS)
    _log.warning("judge 'auto' is %r here, at about $%.3f an episode", judge.name, cost)
    return judge
