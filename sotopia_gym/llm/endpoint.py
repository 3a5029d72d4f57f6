"""The one event loop that all network calls of this process run on, and the addresses they go to.

An asyncio semaphore belongs to one loop, so a cap that holds for a whole process, whatever loops
and threads its users have, needs one loop that everything is sent from.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from threading import Event, Lock, Thread, get_ident
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

NO_KEY: Final = "none"
"""Sent to servers that need no key, because the SDK always sends one."""


class LoopThread:
    """An event loop in a daemon thread of its own.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._started = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._main()), name=name, daemon=True)
        self._thread.start()
        self._started.wait()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def is_running_here(self) -> bool:
        """Whether the caller is on this loop."""
        return get_ident() == self._thread.ident

    def stop(self) -> None:
        """Cancel what still runs, then end the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def is_alive(self) -> bool:
        """Whether the loop runs; in a forked child it does not."""
        return self._thread.is_alive()


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from code that is not asynchronous.

    It works inside a running event loop too, e.g. in a notebook; that loop waits meanwhile. The
    coroutine never runs on the loop of the network calls, so calls may nest.

    Args:
        coroutine: What to run. If the caller is interrupted, it is cancelled.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    helper = LoopThread("sotopia-gym-sync")
    try:
        return helper.submit(coroutine).result()
    finally:
        helper.stop()


@dataclass(frozen=True)
class Failure:
    """Why a request has no answer.

    Attributes:
        reason: For people; without the key.
        status: HTTP status; None if there was no response.
        body: The server's words; without the key.
        retry_after: The header ``Retry-After`` as it came; empty if there is none.
    """

    reason: str
    status: int | None = None
    body: str = ""
    retry_after: str = ""


class Endpoint:
    """An address with a key: its connections and its slots. Lives on the network's loop.

    Args:
        base_url: Where the API is, e.g. ``"https://api.openai.com/v1"``.
        key: What to authenticate with.
        own: Whether the address is the user's own rather than OpenAI's. Nothing that the
            environment says about OpenAI is sent there.
    """

    def __init__(self, base_url: str, key: str, own: bool) -> None:
        self._base_url = base_url
        self._key = key
        self._own = own
        self._sdk: AsyncOpenAI | None = None
        self._caps: dict[Hashable, int] = {}
        self._limit = 1
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def join(self, member: Hashable, cap: int) -> None:
        """Keep to the smallest cap of all members. Requests already in flight are left alone."""
        self._caps[member] = cap
        self._limit = min(self._caps.values())

    async def leave(self, member: Hashable) -> None:
        """Take a member's cap away; without members, connections are closed when idle."""
        self._caps.pop(member, None)
        self._limit = min(self._caps.values(), default=self._limit)
        self._wake()
        await self._close_if_unused()

    async def send(
        self,
        call: Callable[[AsyncOpenAI], Awaitable[T]],
        before: Callable[[], None],
        timeout: float,
    ) -> tuple[T | Failure, float]:
        """Make one request, when there is a slot for it.

        Args:
            call: Sends the request. A ValueError means that the response cannot be read.
            before: Called when the slot is there, just before sending; may raise.
            timeout: Seconds for the request; waiting for the slot does not count.

        Returns:
            What ``call`` returned or why it did not, and how many seconds it took.
        """
        await self._acquire()
        started = asyncio.get_running_loop().time()
        try:
            before()
            result = await self._send(call, timeout)
        finally:
            self._busy -= 1
            self._wake()
            await self._close_if_unused()
        return result, asyncio.get_running_loop().time() - started

    async def _send(
        self, call: Callable[[AsyncOpenAI], Awaitable[T]], timeout: float
    ) -> T | Failure:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        sdk = self._connect()
        # Failures are returned, not raised: an exception would keep the SDK's own, and with it
        # the request and its key, as its context.
        try:
            # The SDK's time-out starts anew with every byte that arrives.
            async with asyncio.timeout(timeout):
                return await call(sdk)
        except TimeoutError:
            return Failure(f"no answer within {timeout:.3g} s")
        except APIStatusError as error:
            body = scrub(error.response.text, self._key)
            return Failure(
                reason=f"HTTP {error.status_code}: {_excerpt(body)}",
                status=error.status_code,
                body=body,
                retry_after=error.response.headers.get("retry-after", ""),
            )
        except APIConnectionError as error:
            cause = error.__cause__ or error
            detail = _excerpt(scrub(str(cause), self._key))
            return Failure(f"no connection ({type(cause).__name__}{detail and f': {detail}'})")
        except (OpenAIError, ValueError) as error:
            return Failure(_excerpt(scrub(str(error), self._key)), status=200)

    def _connect(self) -> AsyncOpenAI:
        if self._sdk is None:
            from openai import AsyncOpenAI

            sdk = AsyncOpenAI(
                base_url=self._base_url, api_key=self._key, max_retries=0, timeout=None
            )
            if self._own:
                sdk.organization = sdk.project = sdk.admin_api_key = None
                sdk._custom_headers = {}
            self._sdk = sdk
        return self._sdk

    async def _close_if_unused(self) -> None:
        if self._sdk is not None and not (self._caps or self._busy or self._waiting):
            sdk, self._sdk = self._sdk, None
            await sdk.close()

    async def _acquire(self) -> None:
        if self._busy < self._limit and not self._waiting:
            self._busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._busy -= 1
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and (self._waiting[0].done() or self._busy < self._limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)


class Network:
    """The loop of the network calls and the endpoints that were used; one a process."""

    def __init__(self) -> None:
        self.loop = LoopThread("sotopia-gym-network")
        self._endpoints: dict[tuple[str, str], Endpoint] = {}

    def endpoint(self, base_url: str, key: str, own: bool) -> Endpoint:
        """The endpoint of an address and key; to be called on the loop."""
        if (base_url, key) not in self._endpoints:
            self._endpoints[base_url, key] = Endpoint(base_url, key, own)
        return self._endpoints[base_url, key]


_starting: Final = Lock()


@cache
def _network() -> Network:
    return Network()


def network() -> Network:
    """The network of this process, started when first needed."""
    with _starting:
        return _network()


def _after_fork() -> None:
    # A child has no threads but its own, so it starts a network anew.
    _network.cache_clear()
    _starting.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_after_fork
    )


def scrub(text: str, key: str) -> str:
    """``text`` without the key: servers repeat what they were sent."""
    return text if key == NO_KEY else text.replace(key, "***")


def _excerpt(text: str, length: int = 500) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]} ..."
