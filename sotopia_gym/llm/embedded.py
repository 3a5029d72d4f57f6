"""llama.cpp in this process: chat completions without a server to start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sotopia_gym.errors import ModelError, missing_extra
from sotopia_gym.llm import models


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: The answer.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int


class ContextOverflowError(ModelError):
    """The prompt does not fit the model's context."""


@lru_cache(maxsize=2)
def load(name: str) -> EmbeddedServer:
    """The server of an embedded model; one is shared by all who ask in this process.

    Raises:
        MissingDependencyError: If the extra ``local`` is not installed.
        ModelError: If the weights are not on this machine or cannot be loaded.
    """
    return EmbeddedServer(name)


class EmbeddedServer:
    """One loaded model. It may be used from several threads at once.

    Args:
        name: An embedded model, e.g. ``"smollm2-135m"``.
    """

    def __init__(self, name: str) -> None:
        path = models.find(name)
        try:
            import xllamacpp
        except ImportError as error:
            raise missing_extra("xllamacpp", "local", f"the embedded model {name!r}") from error
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = models.get_model(name).context
        params.n_parallel = 1
        params.verbosity = -1
        threads = os.cpu_count() or 1
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        try:
            self._server = xllamacpp.Server(params)
        except Exception as error:
            raise ModelError(f"llama.cpp could not load {path}: {error}") from error

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, Any],
        seed: int,
        max_tokens: int,
        **sampling: float,
    ) -> Completion:
        """Complete a chat with JSON of a given schema.

        Args:
            messages: The chat, as role and content.
            schema: JSON schema of the answer; generation is constrained to it.
            seed: Seed of the sampler.
            max_tokens: Longest answer; one that is cut off here is not valid JSON.
            **sampling: Sampling parameters of llama.cpp, e.g. ``temperature``.

        Raises:
            ContextOverflowError: If the chat is too long.
            ModelError: If llama.cpp refuses the request.
        """
        response = self._server.handle_chat_completions(
            {
                "messages": [dict(message) for message in messages],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": dict(schema)},
                },
                "seed": seed % 2**32,
                "max_tokens": max_tokens,
                "cache_prompt": True,
                **sampling,
            }
        )
        if "choices" not in response:
            error = response.get("error", response)
            kind = error.get("type", "") if isinstance(error, dict) else ""
            message = f"llama.cpp refused the request: {error}"
            if kind == "exceed_context_size_error":
                raise ContextOverflowError(message)
            raise ModelError(message)
        usage = response["usage"]
        return Completion(
            text=response["choices"][0]["message"]["content"] or "",
            prompt_tokens=int(usage["prompt_tokens"]),
            completion_tokens=int(usage["completion_tokens"]),
        )
