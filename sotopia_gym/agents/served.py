"""A policy whose weights are trained here and whose answers a server of vLLM writes."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, NoReturn

from sotopia_gym.agents.base import derive_seed
from sotopia_gym.agents.decoding import Sampling
from sotopia_gym.agents.guide import Guide
from sotopia_gym.agents.sampling import Answer, Sampler
from sotopia_gym.errors import ConfigError, ModelError
from sotopia_gym.llm.client import KEY_VARIABLE
from sotopia_gym.llm.endpoint import NO_KEY, scrub

_RETRIES: Final = 5


class ServedSampler(Sampler):
    """A :class:`Sampler` that asks a server for its answers, by ids, and gets ids back.

    The prompt is sent as ids and the answer taken as the ids and log-probabilities that the server
    sampled, so that trajectories are as exact as those of a model in this process. Whoever trains
    the model must bring its new weights to the server before :meth:`update` is called, as TRL's
    trainers do (``use_vllm=True, vllm_mode="server"``).

    The server is one of vLLM, which returns ids when asked (``return_token_ids``); start it with
    ``--logprobs-mode processed_logprobs``, or its log-probabilities are those at temperature 1.

    Args:
        model: The model that is trained, as for :class:`Sampler`.
        tokenizer: Its tokenizer.
        base_url: Where the server is, e.g. ``"http://localhost:8000"``. It serves this model alone.
        name: What episodes call it.
        sampling: The distribution that tokens are drawn from.
        context: Most tokens of a prompt and its answer that the server takes; None for what the
            model does.
        max_batch: Most requests at the same time.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        base_url: str,
        name: str,
        sampling: Sampling | None = None,
        context: int | None = None,
        max_batch: int = 64,
    ) -> None:
        from openai import OpenAI

        super().__init__(model, tokenizer, name=name, sampling=sampling, max_batch=max_batch)
        if context is not None:
            self.context = min(context, self.context)
        self._key = os.environ.get(KEY_VARIABLE) or NO_KEY
        self._client = OpenAI(
            base_url=f"{base_url.rstrip('/')}/v1", api_key=self._key, max_retries=_RETRIES
        )
        # What the environment says of an account with OpenAI is not for this server.
        self._client.organization = self._client.project = None
        self._client._custom_headers = {}
        self._pool = ThreadPoolExecutor(max_batch, thread_name_prefix="vllm")

    def submit(
        self,
        prompt: Sequence[int],
        *,
        seed: str,
        episode: Hashable,
        guide: Guide | None = None,
    ) -> Future[Answer]:
        """Ask for an answer; see :meth:`Sampler.submit`.

        The future raises :class:`~sotopia_gym.errors.ModelError` if the server fails, or does not
        give ids with their log-probabilities.
        """
        self._check_room(prompt)
        return self._pool.submit(self._answer, list(prompt), seed, self.weights_version)

    def update(self, state: Mapping[str, Any] | None = None) -> int:
        """Note that the server has new weights.

        Raises:
            ConfigError: If weights are given: this has no way to bring them to the server.
        """
        if state is not None:
            raise ConfigError("a served policy's weights are changed by its trainer, not by update")
        self.weights_version += 1
        return self.weights_version

    def guide(self, schema: Mapping[str, Any]) -> NoReturn:
        raise ConfigError("a served policy cannot be guided; use guided=False.")

    def frozen(self, name: str) -> NoReturn:
        raise ConfigError(
            "the server holds one set of weights, so that a served policy cannot be frozen; name a "
            "second server as a partner, MODEL@http://HOST:PORT/v1."
        )

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()

    @cached_property
    def _served(self) -> str:
        """What the server calls the model."""
        return self._client.models.list().data[0].id

    def _answer(self, prompt: list[int], seed: str, version: int) -> Answer:
        from openai import OpenAIError

        sampling = self.sampling
        try:
            found = self._client.completions.create(
                model=self._served,
                prompt=prompt,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                logprobs=0,
                seed=derive_seed(0, seed) % 2**31,
                extra_body={
                    "return_token_ids": True,
                    "stop_token_ids": sorted(self.template.stops),
                    "skip_special_tokens": False,
                },
            )
        except OpenAIError as error:
            told = scrub(str(error), self._key)
            # Not "from error": its request holds the key.
            raise ModelError(f"the server of {self.name} gave no answer: {told}") from None
        choice = found.choices[0]
        ids = (choice.model_extra or {}).get("token_ids")
        logprobs = choice.logprobs and choice.logprobs.token_logprobs
        if not ids or not logprobs or len(ids) != len(logprobs):
            raise ModelError(
                f"the server of {self.name} must return the ids that it sampled, each with its "
                f"log-probability, but gave {len(ids or ())} ids and {len(logprobs or ())} "
                "log-probabilities. vLLM 0.10.2 and later do."
            )
        if not all(math.isfinite(value) for value in logprobs):
            raise ModelError(
                f"the server of {self.name} gave log-probabilities that are no numbers"
            )
        return Answer(tuple(ids), tuple(logprobs), 0, version)
