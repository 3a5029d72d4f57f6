"""Chat models by their spec."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sotopia_gym.errors import UnknownIdError, did_you_mean
from sotopia_gym.llm.chat import ChatModel
from sotopia_gym.llm.models import MODELS

if TYPE_CHECKING:
    from sotopia_gym.llm.client import ClientOptions

_OPENAI: Final = re.compile(r"(?:gpt-|chatgpt-|ft:|o\d)[\w.:-]*")


def is_chat_model(spec: str) -> bool:
    """Whether ``spec`` names a chat model."""
    return spec.startswith("local/") or "@" in spec or _OPENAI.fullmatch(spec) is not None


def chat_model(spec: str, options: ClientOptions | None = None) -> ChatModel:
    """The chat model that ``spec`` names.

    Args:
        spec: ``"local/NAME"``, an embedded model; ``"local/PATH.gguf"``, a GGUF file;
            ``"MODEL@http://HOST:PORT/v1"``, a model behind any OpenAI-compatible server; or a model
            of OpenAI, e.g. ``"gpt-4o-2024-08-06"``.
        options: How to call it; models in this process have none.

    Raises:
        UnknownIdError: If it is none of these.
        ModelError: If the file of a model is not on this machine, or there is no API key.
    """
    if spec.startswith("local/"):
        from sotopia_gym.llm.embedded import EmbeddedChat

        return EmbeddedChat(spec.removeprefix("local/"))
    if not is_chat_model(spec):
        known = ("MODEL@http://HOST:PORT/v1", "gpt-4o", *(f"local/{name}" for name in MODELS))
        raise UnknownIdError(f"no chat model {spec!r}. {did_you_mean(spec, known)}")
    from sotopia_gym.llm import client

    return client.from_spec(spec, options)
