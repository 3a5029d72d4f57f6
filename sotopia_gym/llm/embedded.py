"""llama.cpp in this process: chat completions without a server to start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sotopia_gym.errors import (
    ContextOverflowError,
    EmptyAnswerError,
    ModelError,
    TruncatedAnswerError,
    missing_extra,
)
from sotopia_gym.llm import models
from sotopia_gym.llm.chat import ChatModel, Completion, Message

_CONTEXT: Final = 8192
"""Most tokens of context; llama.cpp takes fewer where a model was trained with fewer."""


def load(name: str) -> EmbeddedServer:
    """The server of a model; one is shared by all who ask in this process.

    Args:
        name: An embedded model, e.g. ``"smollm2-135m"``, or the path of a GGUF file. A file that
            was written anew is loaded anew.

    Raises:
        UnknownIdError: If it is neither.
        MissingDependencyError: If the extra ``local`` is not installed.
        ModelError: If the weights are not on this machine or cannot be loaded.
    """
    return _loaded(name, models.weights(name).stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _loaded(name: str, _changed: int) -> EmbeddedServer:
    return EmbeddedServer(name)


class EmbeddedServer:
    """One loaded model. It may be used from several threads at once.

    Args:
        name: An embedded model, e.g. ``"smollm2-135m"``, or the path of a GGUF file.
    """

    def __init__(self, name: str) -> None:
        path = models.weights(name)
        try:
            import xllamacpp
        except ImportError as error:
            raise missing_extra("xllamacpp", "local", f"the embedded model {name!r}") from error
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = _CONTEXT
        params.n_parallel = 1
        params.verbosity = -1
        threads = _threads()
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        try:
            self._server = xllamacpp.Server(params)
        except Exception as error:
            raise ModelError(f"llama.cpp could not load {path}: {error}") from error
        self._sha256 = models.digest(path)[:12]

    @property
    def address(self) -> str:
        """Where the same model answers other programs of this machine, OpenAI-compatible."""
        return f"{self._server.listening_address}/v1"

    def chat(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None,
        seed: int,
        max_tokens: int,
        **sampling: float,
    ) -> Completion:
        """Complete a chat.

        Args:
            messages: The chat, as role and content.
            schema: JSON schema of the answer, which generation is constrained to; None for text.
            seed: Seed of the sampler.
            max_tokens: Longest answer; JSON that is cut off here is not valid.
            **sampling: Sampling parameters of llama.cpp, e.g. ``temperature``.

        Raises:
            ContextOverflowError: If the chat is too long.
            AnswerError: If the answer is empty or was cut off.
            ModelError: If llama.cpp refuses the request.
        """
        request: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "seed": seed % 2**32,
            "max_tokens": max_tokens,
            "cache_prompt": True,
            **sampling,
        }
        if schema is not None:
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(schema)},
            }
        response = self._server.handle_chat_completions(request)
        if "choices" not in response:
            error = response.get("error", response)
            kind = error.get("type", "") if isinstance(error, dict) else ""
            message = f"llama.cpp refused the request: {error}"
            if kind == "exceed_context_size_error":
                raise ContextOverflowError(message)
            raise ModelError(message)
        usage = response["usage"]
        choice = response["choices"][0]
        text = choice["message"]["content"] or ""
        if choice["finish_reason"] == "length":
            raise TruncatedAnswerError(f"the answer was cut off after {max_tokens} tokens", text)
        if not text:
            raise EmptyAnswerError("the answer is empty")
        return Completion(
            text=text,
            prompt_tokens=int(usage["prompt_tokens"]),
            completion_tokens=int(usage["completion_tokens"]),
            # llama.cpp names the whole path, which is nobody else's business.
            model=Path(response.get("model", "")).name,
            fingerprint=f"{response.get('system_fingerprint', '')} sha256:{self._sha256}".strip(),
            cost=0.0,
        )


class EmbeddedChat(ChatModel):
    """An embedded model, or a GGUF file, behind the interface of all chat models.

    Args:
        model: An embedded model, e.g. ``"smollm2-135m"``, or the path of a GGUF file.
    """

    def __init__(self, model: str) -> None:
        self.name = f"local/{model}"
        self._server = load(model)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        attempt: int = 0,
    ) -> Completion:
        return await asyncio.to_thread(
            self._server.chat,
            messages,
            schema=schema,
            seed=(seed or 0) + attempt,
            max_tokens=max_tokens or 512,
            temperature=0.0 if temperature is None else temperature,
            # Without these a model this small repeats itself without end.
            top_p=0.9,
            repeat_penalty=1.05,
        )


def _threads() -> int:
    """What OMP_NUM_THREADS says, as for torch; else as many as this process may run on.

    Threads of llama.cpp wait for each other by spinning: one too many makes all of them slow.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
