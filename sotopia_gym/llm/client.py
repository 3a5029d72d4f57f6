"""Chat models behind an address: OpenAI's, or any server that speaks its protocol."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from sotopia_gym.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigError,
    ContextOverflowError,
    EmptyAnswerError,
    ModelError,
    RefusalError,
    TruncatedAnswerError,
    UnavailableModelError,
    UnknownModelError,
)
from sotopia_gym.llm.cache import AnswerCache, cache_key
from sotopia_gym.llm.chat import ChatModel, Completion, Message
from sotopia_gym.llm.endpoint import NO_KEY, Endpoint, Failure, Network, network, run_sync, scrub
from sotopia_gym.llm.prices import PRICES, Price

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["ChatClient", "ChatRequest", "ClientOptions", "ClientUsage", "from_spec", "run_sync"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

KEY_VARIABLE: Final = "SOTOPIA_GYM_API_KEY"
"""Environment variable with the key for servers that are named by their address."""

_OPENAI_URL: Final = "https://api.openai.com/v1"

_RETRIED: Final = frozenset((408, 409, 429))

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
"""Seconds: the bounds of the first and of the longest pause between tries."""

_BARE_ADDRESS: Final = re.compile(r"@[^@\s]*(:\d+|/v\d+)(/|$)")
"""An address without "http://"; names of models may have an "@" too."""

_SHORTEST_KEY: Final = 16
"""Characters of a key that is looked for in answers: servers of one's own take any word for one."""

_CONTEXT: Final = re.compile(r"context[ _](?:length|size|window)|too many tokens", re.IGNORECASE)

_FORMATS: Final = ("json_schema", "json_object", "none")
"""Ways to ask for JSON that follows a schema, best first."""

_UNSUPPORTED: Final = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How a client uses its endpoint.

    Attributes:
        max_concurrency: Most requests in flight at once to the endpoint (address and key), from
            this whole process. If clients in use name different caps for one endpoint, the
            smallest holds; a request already in flight when a smaller one comes is left alone.
        attempt_timeout: Seconds that one request may take.
        total_timeout: Seconds that one call may spend in requests and in pauses between them.
            Waiting for a free slot does not count.
        max_retries: Most tries after the first. Requests that had to be repeated because the
            server does not know a parameter are no tries.
        cache: File that answers are kept in; None keeps none. With one, a question that was
            answered before, by any process, sends no request. Of equal questions asked at the
            same time, each may be sent. Only whole answers are kept, whatever they say: to ask
            again, count ``attempt`` up.
        prices: Prices in US dollars per million tokens, prompt and completion, that add to or
            override :data:`~sotopia_gym.llm.prices.PRICES`; by model, as in the client's spec.
        max_cost: US dollars after which nothing more is sent. What is in flight then finishes, so
            that at most ``max_concurrency`` answers go beyond.
    """

    max_concurrency: int = 8
    attempt_timeout: float = 60.0
    total_timeout: float = 600.0
    max_retries: int = 5
    cache: Path | None = None
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_cost: float | None = None

    def __post_init__(self) -> None:
        bounds = (
            ("max_concurrency", self.max_concurrency >= 1, "at least 1"),
            ("attempt_timeout", self.attempt_timeout > 0, "more than 0"),
            ("total_timeout", self.total_timeout > 0, "more than 0"),
            ("max_retries", self.max_retries >= 0, "at least 0"),
            ("max_cost", self.max_cost is None or self.max_cost >= 0, "at least 0, or None"),
        )
        for name, holds, expected in bounds:
            if not holds:
                raise ConfigError(f"{name} must be {expected}, got {getattr(self, name)!r}.")


@dataclass(slots=True, kw_only=True)
class ClientUsage:
    """What a client has done so far.

    Attributes:
        requests: Requests sent, of whatever outcome.
        retries: How many of them repeated one that had failed for the moment.
        cache_hits: Answers that came from the cache.
        failures: Calls that raised.
        prompt_tokens: Tokens read, as far as the server told.
        completion_tokens: Tokens written, as far as the server told.
        cost: US dollars; None if the model's price is not known.
    """

    requests: int = 0
    retries: int = 0
    cache_hits: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """The arguments of :meth:`~sotopia_gym.llm.chat.ChatModel.complete` as a value."""

    messages: Sequence[Message]
    schema: Mapping[str, Any] | None = None
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    attempt: int = 0


@dataclass(slots=True)
class _Dialect:
    """Which parameters a model's server understands, learnt from what it rejects."""

    format: str = _FORMATS[0]
    dropped: frozenset[str] = frozenset()
    length_name: str = "max_tokens"

    def body(self, model: str, request: ChatRequest) -> dict[str, Any]:
        """The body of an HTTP request."""
        messages = [dict(message) for message in request.messages]
        body: dict[str, Any] = {"model": model, "messages": messages}
        if request.schema is not None:
            if self.format == "json_schema":
                schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
            else:
                _append_schema(messages, request.schema)
            if self.format == "json_object":
                body["response_format"] = {"type": "json_object"}
        optional = {
            "temperature": request.temperature,
            "seed": request.seed,
            self.length_name: request.max_tokens,
        }
        return body | {
            name: value
            for name, value in optional.items()
            if value is not None and name not in self.dropped
        }

    def learn(self, body: Mapping[str, Any], complaint: str) -> str | None:
        """Avoid the parameter that the server rejected.

        Args:
            body: What it rejected. Other calls may have taught this dialect since it was made.
            complaint: What the server said.

        Returns:
            What is done instead; None if the complaint is about something else.
        """
        words = {"response_format": r"response_format|schema"}
        for name in ("temperature", "seed", "max_tokens"):
            if _UNSUPPORTED.search(complaint):
                words[name] = rf"\b{name}\b"
        places = {
            match.start(): name
            for name, word in words.items()
            if name in body and (match := re.search(word, complaint, re.IGNORECASE))
        }
        match places[min(places)] if places else None:
            case None:
                return None
            case "response_format":
                rejected = _FORMATS.index(body["response_format"]["type"])
                self.format = _FORMATS[max(_FORMATS.index(self.format), rejected + 1)]
                return f"schemas are asked for in words and by response_format {self.format!r}"
            case "max_tokens":
                self.length_name = "max_completion_tokens"
                return "max_completion_tokens is sent instead of max_tokens"
            case name:
                self.dropped |= {name}
                return f"{name} is no longer sent"


@dataclass(frozen=True, slots=True)
class _Reply:
    """A chat completion as the server sent it; ``counted`` says whether it counted tokens."""

    text: str
    refusal: str
    finish_reason: str
    counted: bool
    prompt_tokens: int
    completion_tokens: int
    model: str
    fingerprint: str


class ChatClient(ChatModel):
    """A chat model behind an address.

    Requests are made by the official SDK, but retried here, so that :attr:`usage` counts each.
    Connection errors, time-outs and the statuses 408, 409, 429 and 500 or more are tried again
    after a pause: exponential with full jitter, or as long as the server's ``Retry-After`` says.

    A server that rejects the schema, ``temperature``, ``seed`` or ``max_tokens`` as such is asked
    again at once without, or in another way: schemas by ``json_object`` and then by nothing but
    words, ``max_tokens`` as ``max_completion_tokens``. Each such request counts. The client
    remembers what it learnt, so only its first calls pay for that.

    Clients may be used from any thread and event loop. Make them with :func:`from_spec`.

    Args:
        model: The model, as the server calls it.
        base_url: Where the API is, e.g. ``"http://localhost:8000/v1"``.
        key: What to authenticate with. It appears in no message, log or file.
        own: Whether the address is the user's own rather than OpenAI's; its models have no price
            but what ``options`` say, and nothing of the environment's ``OPENAI_...`` goes there.
        options: How to use it.
        sleep: Sleeps for some seconds; the pauses between tries.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str,
        *,
        own: bool,
        options: ClientOptions | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = f"{model}@{base_url}" if own else model
        self.model = model
        self.base_url = base_url
        self.options = options or ClientOptions()
        self.cache = AnswerCache(self.options.cache) if self.options.cache else None
        self._key = key
        self._own = own
        self._sleep = sleep
        # The caller's draws from the global generator must not depend on the network.
        self._jitter = random.Random()
        self._dialect = _Dialect()
        self._member = object()
        self._joined: tuple[Network, Endpoint] | None = None
        self.price = _price(model, own, self.options)
        self._usage = ClientUsage(cost=None if self.price is None else 0.0)

    def __repr__(self) -> str:
        return f"ChatClient({self.name!r})"

    @property
    def usage(self) -> ClientUsage:
        """What this client has done so far; a copy."""
        return replace(self._usage)

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
        """Complete a chat; see :class:`~sotopia_gym.llm.chat.ChatModel`.

        Raises:
            RefusalError: If the model declined.
            EmptyAnswerError: If it said nothing.
            TruncatedAnswerError: If its answer was cut off.
            AuthenticationError: If the key is not accepted.
            UnknownModelError: If the server does not have the model.
            BadRequestError: If the server refuses the request.
            UnavailableModelError: If there is no answer within the tries and the time allowed.
            BudgetExceededError: If ``max_cost`` is spent.
            ModelError: If the server's response is no chat completion.
        """
        request = ChatRequest(
            messages=[dict(message) for message in messages],
            schema=schema,
            temperature=temperature,
            seed=seed,
            max_tokens=max_tokens,
            attempt=attempt,
        )
        return await self.on_network(self._complete(request))

    def close(self) -> None:
        """Let go of connections and files, once what is in flight is done.

        It may be called twice, and the client may be used again.
        """
        joined, self._joined = self._joined, None
        if joined is not None:
            home, endpoint = joined
            _leave(home, endpoint, self._member, wait=True)
        if self.cache is not None:
            self.cache.close()

    def key_of(self, request: ChatRequest) -> str:
        """The key of a request in the cache: the same for all that get the same answer."""
        return cache_key(
            {
                "base_url": self.base_url,
                "model": self.model,
                "messages": [dict(message) for message in request.messages],
                "schema": None if request.schema is None else dict(request.schema),
                "temperature": None if request.temperature is None else float(request.temperature),
                "seed": request.seed,
                "max_tokens": request.max_tokens,
                "attempt": request.attempt,
            }
        )

    def body_of(self, request: ChatRequest) -> dict[str, Any]:
        """The body of an HTTP request, in what is known of the server's dialect."""
        return self._dialect.body(self.model, request)

    def settle(self, response: str, *, discount: float = 1.0) -> Completion:
        """Count what an answer cost, and tell a whole answer from others.

        Args:
            response: The body of an HTTP response.
            discount: What the price is multiplied by.

        Raises:
            ValueError: If it is no chat completion.
            ModelError: If there is no use for the answer.
        """
        reply = _read(response, self._key)
        self._usage.prompt_tokens += reply.prompt_tokens
        self._usage.completion_tokens += reply.completion_tokens
        cost = None
        if self.price is not None and reply.counted:
            cost = discount * self.price.cost(reply.prompt_tokens, reply.completion_tokens)
            self._usage.cost = (self._usage.cost or 0.0) + cost
        elif self.options.max_cost is not None:
            _log.warning("%s does not count tokens: max_cost cannot hold.", self.name)
        completion = Completion(
            text=reply.text,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            model=reply.model,
            fingerprint=reply.fingerprint,
            cost=cost,
        )
        if reply.refusal:
            raise RefusalError(
                f"{self.name} declined to answer: {reply.refusal}", reply.refusal, completion
            )
        if reply.finish_reason in ("length", "content_filter"):
            why = {
                "length": "by its length limit; allow more max_tokens",
                "content_filter": "by the server's content filter",
            }[reply.finish_reason]
            raise TruncatedAnswerError(
                f"the answer of {self.name} was cut off {why}. It ends: ...{reply.text[-200:]!r}",
                reply.text,
                completion,
            )
        if not reply.text.strip():
            raise EmptyAnswerError(
                f"the answer of {self.name} is empty (finish_reason {reply.finish_reason!r}); "
                f"expected text.",
                reply.text,
                completion,
            )
        return completion

    async def request(
        self,
        call: Callable[[AsyncOpenAI], Awaitable[T]],
        adapt: Callable[[Failure], bool] | None = None,
        *,
        paid: bool = True,
    ) -> T:
        """Make a call of the SDK with this client's slots, time-outs, retries and budget.

        Args:
            call: The call, which is one request. A ValueError means that the response cannot be
                read. It runs on the network's loop, and so must this coroutine.
            adapt: Told why the server refused, says whether ``call`` will now ask otherwise.
            paid: Whether it costs money: only then is the budget looked at.

        Raises:
            ModelError: As :meth:`complete`.
        """
        endpoint = self._join()
        left = self.options.total_timeout
        tries = requests = 0
        before = self._before_paying if paid else self._before_sending
        while True:
            timeout = min(self.options.attempt_timeout, left)
            result, seconds = await endpoint.send(call, before, timeout)
            requests += 1
            left -= seconds
            if not isinstance(result, Failure):
                return result
            if adapt is not None and left > 0 and result.status in (400, 422) and adapt(result):
                continue
            if not _is_transient(result):
                raise self._refused(result)
            tries += 1
            pause = self._pause(result, tries)
            if tries > self.options.max_retries or pause >= left:
                raise self._unavailable(result, requests, pause, left)
            left -= pause
            await self._sleep(pause)
            self._usage.retries += 1

    async def pause(self, seconds: float) -> None:
        """Sleep, as between tries."""
        await self._sleep(seconds)

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return scrub(text, self._key)

    async def on_network(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the network's loop, and cancel it if the caller is cancelled."""
        if network().loop.is_running_here():
            return await coroutine
        return await asyncio.wrap_future(network().loop.submit(coroutine))

    async def _complete(self, request: ChatRequest) -> Completion:
        try:
            return await self._answer(request)
        except ModelError:
            self._usage.failures += 1
            raise

    async def _answer(self, request: ChatRequest) -> Completion:
        if self.cache is None:
            return await self._ask(request)
        key = self.key_of(request)
        known = await asyncio.to_thread(self.cache.get, key)
        if known is not None:
            self._usage.cache_hits += 1
            return known
        completion = await self._ask(request)
        await asyncio.to_thread(self.cache.put, key, completion)
        return completion

    async def _ask(self, request: ChatRequest) -> Completion:
        body: dict[str, Any] = {}

        async def call(sdk: AsyncOpenAI) -> Completion | ModelError:
            nonlocal body
            # Others may have taught the dialect while this request waited for its slot.
            body = self.body_of(request)
            # The SDK walks through typed parameters value by value, schemas and all, which costs
            # more than sending them; what is in extra_body goes out as it is.
            response = await sdk.chat.completions.with_raw_response.create(
                model=self.model, messages=[], extra_body=body
            )
            try:
                return self.settle(response.text)
            except ModelError as error:
                return error

        def adapt(failure: Failure) -> bool:
            before = replace(self._dialect)
            lesson = self._dialect.learn(body, _complaint(failure.body))
            if self._dialect != before:
                _log.warning("%s: from now on, %s (%s)", self.name, lesson, failure.reason)
            return lesson is not None

        answer = await self.request(call, adapt)
        if isinstance(answer, ModelError):
            raise answer
        return answer

    def _join(self) -> Endpoint:
        home = network()
        endpoint = home.endpoint(self.base_url, self._key, self._own)
        endpoint.join(self._member, self.options.max_concurrency)
        if self._joined is None or self._joined[0] is not home:
            self._joined = (home, endpoint)
            finalizer = weakref.finalize(self, _leave, home, endpoint, self._member)
            finalizer.atexit = False
        return endpoint

    def _before_sending(self) -> None:
        self._usage.requests += 1

    def _before_paying(self) -> None:
        limit, spent = self.options.max_cost, self._usage.cost or 0.0
        if limit is not None and spent >= limit:
            raise BudgetExceededError(
                f"{self.name} has cost {spent:.4f} USD, and max_cost is {limit:.4f} USD: nothing "
                f"more is sent. What is answered is in the cache, if there is one; to go on, "
                f"raise max_cost."
            )
        self._before_sending()

    def _pause(self, failure: Failure, tries: int) -> float:
        asked = _retry_after(failure.retry_after)
        if asked is not None:
            return asked
        return self._jitter.uniform(0, min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (tries - 1)))

    def _refused(self, failure: Failure) -> ModelError:
        where, reason = self.base_url, failure.reason
        match failure.status:
            case 200:
                return ModelError(
                    f"expected a chat completion from {where}, got: {reason}. Is this the address "
                    f"of an API? It usually ends in /v1."
                )
            case 401 | 403:
                variable = KEY_VARIABLE if self._own else "OPENAI_API_KEY"
                return AuthenticationError(
                    f"{where} does not accept the key, or not for the model {self.model!r} "
                    f"({reason}). Check {variable}."
                )
            case 404:
                return UnknownModelError(
                    f"{where} has no model {self.model!r} ({reason}). Check the model's name, and "
                    f"the address, which usually ends in /v1."
                )
            case 429:
                return ModelError(f"the account at {where} has no quota left ({reason}).")
            case _ if _CONTEXT.search(reason):
                return ContextOverflowError(
                    f"the prompt is too long for {self.model!r} at {where} ({reason})."
                )
            case _:
                return BadRequestError(f"{where} refuses a request to {self.model!r} ({reason}).")

    def _unavailable(
        self, failure: Failure, requests: int, pause: float, left: float
    ) -> UnavailableModelError:
        if pause < left:
            limit = f"max_retries is {self.options.max_retries}"
        else:
            limit = f"total_timeout is {self.options.total_timeout:g} s"
            if left > 0:
                limit += f", of which {left:.3g} s are left, and the next pause is {pause:.3g} s"
        return UnavailableModelError(
            f"no answer from {self.name} after {requests} "
            f"{'request' if requests == 1 else 'requests'}; the last failed with: "
            f"{failure.reason}. Given up because {limit}.",
            requests,
        )


def from_spec(
    spec: str,
    options: ClientOptions | None = None,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> ChatClient:
    """The client that a spec names.

    Args:
        spec: ``"MODEL"`` for OpenAI's API, with the key of ``OPENAI_API_KEY`` and, if set, the
            address of ``OPENAI_BASE_URL``; or ``"MODEL@http://HOST:PORT/v1"`` for another server,
            with the key of ``SOTOPIA_GYM_API_KEY`` if it is set, else with none.
        options: How to use it.
        sleep: As for :class:`ChatClient`.

    Raises:
        ModelError: If the spec is malformed, a key is missing, or ``max_cost`` is set for a model
            whose price is not known.
    """
    served = at_address(spec)
    if served is not None:
        key = _key(KEY_VARIABLE) or NO_KEY
        return ChatClient(*served, key, own=True, options=options, sleep=sleep)
    if not spec or spec != spec.strip() or "://" in spec or _BARE_ADDRESS.search(spec):
        shown = re.sub(r"(//|@)[^/@]*@", r"\1***@", spec)
        raise ModelError(
            f"expected a model as 'MODEL' or 'MODEL@http://HOST:PORT/v1', got {shown!r}."
        )
    key = _key("OPENAI_API_KEY")
    if not key:
        raise ModelError(
            f"the model {spec!r} needs a key for OpenAI: set OPENAI_API_KEY. For a server of your "
            f"own, name its address: '{spec}@http://HOST:PORT/v1'."
        )
    url = _address(os.environ.get("OPENAI_BASE_URL") or _OPENAI_URL, "OPENAI_BASE_URL")
    return ChatClient(spec, url, key, own=False, options=options, sleep=sleep)


def at_address(spec: str) -> tuple[str, str] | None:
    """The model and the base URL of a spec ``"MODEL@http://HOST:PORT/v1"``; None for any other.

    Raises:
        ModelError: If the address is malformed, or has credentials in it.
    """
    match = re.fullmatch(r"(?P<model>.+?)@(?P<url>https?://.*)", spec)
    return match and (match["model"], _address(match["url"], "the model spec"))


def _leave(home: Network, endpoint: Endpoint, member: object, *, wait: bool = False) -> None:
    if home.loop.is_alive():
        future = home.loop.submit(endpoint.leave(member))
        # On the network's own loop it would wait for itself.
        if wait and not home.loop.is_running_here():
            future.result()


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ModelError(
            f"{variable} is no key: expected printable ASCII characters without spaces."
        )
    return key


def _address(url: str, where: str) -> str:
    """A base URL in its canonical form; nothing of a malformed one is repeated, for its secrets."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ModelError(f"{where} has no valid address: expected http(s)://HOST:PORT/PATH.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ModelError(
            f"the address in {where} has credentials, a query or a fragment, but expected is "
            f"{parts.scheme}://HOST:PORT/PATH. A key belongs into {KEY_VARIABLE}."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _price(model: str, own: bool, options: ClientOptions) -> Price | None:
    known = options.prices.get(model) or (None if own else PRICES.get(model))
    if known is None and options.max_cost is not None:
        raise ModelError(
            f"max_cost is set, but the price of {model!r} is not known. Say what "
            f"it costs per million tokens, prompt and completion, e.g. "
            f"prices={{{model!r}: (2.5, 10.0)}}, or leave max_cost out."
        )
    return None if known is None else Price(*known)


def _is_transient(failure: Failure) -> bool:
    if failure.status is None:
        return True
    if failure.status == 429 and "insufficient_quota" in failure.body:
        return False
    return failure.status in _RETRIED or failure.status >= 500


def _retry_after(header: str) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait, as a number or as a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _complaint(body: str) -> str:
    """What an error's body complains about: the parameter if it names one, else its words.

    Servers may repeat the request beside the message, and with it the names of all parameters.
    """
    try:
        error = json.loads(body)
        error = error.get("error", error)
        words = [error[name] for name in ("code", "param", "message") if error.get(name)]
    except (ValueError, AttributeError):
        return body
    return " ".join(map(str, words)) or body


def _append_schema(messages: list[dict[str, str]], schema: Mapping[str, Any]) -> None:
    text = (
        f"Answer with JSON that follows this JSON schema, and nothing else:\n{json.dumps(schema)}"
    )
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"] = f"{message['content']}\n\n{text}"
            return
    messages.append({"role": "user", "content": text})


def _read(response: str, key: str) -> _Reply:
    """A chat completion's parts, without the key.

    Raises:
        ValueError: If ``response`` is none; the message quotes it.
    """
    # What is as short as a word is no secret, but may well be a word of the answer.
    key = key if len(key) >= _SHORTEST_KEY else NO_KEY
    try:
        body = json.loads(response)
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        if not isinstance(content, str):
            raise TypeError
        usage = body.get("usage") or {}
        return _Reply(
            text=scrub(content, key),
            refusal=scrub(str(message.get("refusal") or ""), key),
            finish_reason=str(choice.get("finish_reason") or ""),
            counted=bool(usage),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            model=scrub(str(body.get("model") or ""), key),
            fingerprint=scrub(str(body.get("system_fingerprint") or ""), key),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise ConfigError(scrub(response, key)) from None
