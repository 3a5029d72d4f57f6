"""Many answers at half the price, within a day: the Batch API, into the cache.

Answers end up where a client keeps its own, so that afterwards a normal run with the same cache
finds them there and sends nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sotopia_gym.errors import BatchError, ModelError
from sotopia_gym.files import write_whole
from sotopia_gym.llm.cache import AnswerCache
from sotopia_gym.llm.client import ChatClient, ChatRequest

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

BATCH_DISCOUNT: Final = 0.5
"""What a batch costs, as a share of the normal price."""

MAX_LINES: Final = 50_000
MAX_BYTES: Final = 200 * 1000**2
"""Most requests, and the largest file of them, that OpenAI takes in one batch; more are split."""

_POLL_FIRST, _POLL_LONGEST = 5.0, 300.0
"""Seconds between looks at a batch; each pause is half as long again as the one before."""


@dataclass
class BatchReport:
    """What became of the requests.

    Attributes:
        cached: How many were answered before and not sent.
        answered: How many were answered now, with those of a batch that was under way.
        failed: Why others were not, by their key (:meth:`ChatClient.key_of`).
        cost: US dollars for the answers; None if the model's price is not known. What failed
            answers cost, such as refusals, is in the client's usage.
    """

    cached: int = 0
    answered: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    cost: float | None = None


async def run_batch(
    client: ChatClient, requests: Sequence[ChatRequest], state: Path
) -> BatchReport:
    """Have many requests answered by the Batch API, and put the answers into the client's cache.

    It may be interrupted: run again with the same ``state``, it goes on with the batch that is
    under way, whatever the requests now are, and then sends those still without an answer.

    Args:
        client: Whose model, address, key and cache to use. Its ``max_cost`` is looked at before a
            batch is sent, not while it runs.
        requests: What to ask. Equal ones are sent once; those in the cache are not sent.
        state: File that remembers the batch under way; it is removed at the end.

    Raises:
        BatchError: If the client has no cache, ``state`` is of another model or address, or a
            batch failed as a whole.
        ModelError: If the server cannot be reached or refuses.
    """
    if client.cache is None:
        raise BatchError(
            "a batch's answers go into the client's cache, and it has none: make the client with "
            "ClientOptions(cache=PATH)."
        )
    return await client.on_network(_Run(client, client.cache, state).run(requests))


class _Run:
    """One call of :func:`run_batch`, on the network's loop."""

    def __init__(self, client: ChatClient, cache: AnswerCache, state: Path) -> None:
        self.client = client
        self.cache = cache
        self.state = state
        self.report = BatchReport(cost=None if client.price is None else 0.0)

    async def run(self, requests: Sequence[ChatRequest]) -> BatchReport:
        asked = {self.client.key_of(request): request for request in requests}
        waiting = await self._unanswered(asked)
        self.report.cached = len(asked) - len(waiting)
        if self.state.exists():
            await self._finish(self._resume())
            waiting = await self._unanswered(waiting)
        todo = (item for item in waiting.items() if item[0] not in self.report.failed)
        for content in self._files(todo):
            await self._finish(await self._submit(content))
        return self.report

    async def _unanswered(self, requests: dict[str, ChatRequest]) -> dict[str, ChatRequest]:
        known = {key: await asyncio.to_thread(self.cache.get, key) for key in requests}
        return {key: request for key, request in requests.items() if known[key] is None}

    def _resume(self) -> str:
        try:
            saved = json.loads(self.state.read_bytes())
            batch, whose = str(saved["batch"]), saved["client"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BatchError(
                f"{self.state} is no state of a batch ({error}). Delete it to start anew."
            ) from error
        if whose != self.client.name:
            raise BatchError(
                f"{self.state} is of a batch of {whose!r}, not of {self.client.name!r}. Finish "
                f"that one first, or name another file."
            )
        return batch

    async def _submit(self, content: bytes) -> str:
        async def upload(sdk: AsyncOpenAI) -> str:
            file = ("requests.jsonl", content, "application/jsonl")
            return (await sdk.files.create(file=file, purpose="batch")).id

        uploaded = await self.client.request(upload)

        async def create(sdk: AsyncOpenAI) -> str:
            made = await sdk.batches.create(
                input_file_id=uploaded,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
            return made.id

        batch = await self.client.request(create)
        saved = {"client": self.client.name, "batch": batch}
        write_whole(self.state, [json.dumps(saved).encode()])
        return batch

    def _files(self, requests: Iterable[tuple[str, ChatRequest]]) -> Iterator[bytes]:
        lines: list[bytes] = []
        size = 0
        for key, request in requests:
            asked = {
                "custom_id": key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.client.body_of(request),
            }
            line = json.dumps(asked).encode() + b"\n"
            if lines and (len(lines) == MAX_LINES or size + len(line) > MAX_BYTES):
                yield b"".join(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield b"".join(lines)

    async def _finish(self, batch: str) -> None:
        """Wait for a batch, take its answers and forget it."""
        ended = await self._wait(batch)
        for file in (ended.output_file_id, ended.error_file_id):
            if file:
                # Answers may hold characters that splitlines() takes for ends of lines.
                for line in filter(None, (await self._download(file)).split("\n")):
                    await self._take(line)
        self.state.unlink()
        # An expired or cancelled batch may still have answered in part.
        if ended.status != "completed":
            problems = ended.errors.data if ended.errors and ended.errors.data else []
            why = "; ".join(str(problem.message) for problem in problems) or "no reason given"
            raise BatchError(
                f"batch {batch} of {self.client.name} has {ended.status}: {why}. "
                f"{self.report.answered} answers are in the cache; run again for the others."
            )

    async def _wait(self, batch: str) -> Batch:
        async def look(sdk: AsyncOpenAI) -> Batch:
            return await sdk.batches.retrieve(batch)

        pause = _POLL_FIRST
        while True:
            seen = await self.client.request(look, paid=False)
            if seen.status in ("completed", "failed", "expired", "cancelled"):
                return seen
            await self.client.pause(pause)
            pause = min(_POLL_LONGEST, 1.5 * pause)

    async def _download(self, file: str) -> str:
        async def download(sdk: AsyncOpenAI) -> str:
            return (await sdk.files.content(file)).text

        return await self.client.request(download, paid=False)

    async def _take(self, line: str) -> None:
        """Put the answer of one line of a batch's output into the cache, or report its failure."""
        try:
            done: dict[str, Any] = json.loads(line)
            key, response = done["custom_id"], done.get("response") or {}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise BatchError(f"a line of the batch's output cannot be read: {line[:200]}") from None
        try:
            if response.get("status_code") != 200:
                raise ValueError(json.dumps(done.get("error") or response.get("body")))
            answer = self.client.settle(json.dumps(response["body"]), discount=BATCH_DISCOUNT)
        except (ValueError, ModelError) as error:
            self.report.failed[key] = self.client.scrub(str(error))
            return
        await asyncio.to_thread(self.cache.put, key, answer)
        self.report.answered += 1
        if answer.cost is not None:
            self.report.cost = (self.report.cost or 0.0) + answer.cost
