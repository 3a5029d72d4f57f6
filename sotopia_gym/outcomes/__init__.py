"""What was agreed in conversations of others: people, and agents in other environments.

In an environment of ours an agreement is what the family's rule says, and nothing else
(:meth:`sotopia_gym.tasks.families.Family.read`). Others follow no rule. A reader here is
*selective*: it gives an outcome only where the words carry one, and ``unread`` elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sotopia_gym.errors import UnknownIdError, did_you_mean
from sotopia_gym.outcomes.base import FallbackReader, OutcomeReader, Said

if TYPE_CHECKING:
    from sotopia_gym.llm.client import ClientOptions

__all__ = ["FallbackReader", "OutcomeReader", "Said", "from_spec"]

_SPECS: Final = ("rules", "rules+MODEL", "MODEL@http://HOST:PORT/v1", "gpt-4o-2024-08-06")


def from_spec(spec: str, options: ClientOptions | None = None) -> OutcomeReader:
    """The reader that ``spec`` names.

    Args:
        spec: ``"rules"``: offline, for free, the same every time;
            a chat model (:func:`sotopia_gym.llm.spec.chat_model`): that model is asked;
            ``"rules+MODEL"``: the model is asked about what the rules leave unread.
        options: How language models are called.

    Raises:
        UnknownIdError: If no reader has this name.
        ModelError: If a model is not on this machine, or there is no API key.
    """
    from sotopia_gym.llm.spec import chat_model, is_chat_model
    from sotopia_gym.outcomes.rules import RulesReader

    if spec == "rules":
        return RulesReader()
    model = spec.removeprefix("rules+")
    if not is_chat_model(model):
        raise UnknownIdError(f"no outcome reader {spec!r}. {did_you_mean(spec, _SPECS)}")
    from sotopia_gym.outcomes.llm import LLMReader

    reader = LLMReader(chat_model(model, options))
    return FallbackReader(RulesReader(), reader) if model != spec else reader
