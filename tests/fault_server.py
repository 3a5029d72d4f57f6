"""A real server on this machine that speaks OpenAI's protocol, well or badly, as it is told."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclass
class Reply:
    """What to do about a request; the functions below make the usual ones."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    trickle: bool = False
    hang: bool = False
    reset: bool = False
    torn: bool = False


Behaviour = Reply | Callable[[Request], Reply]


def ok(
    text: str | Callable[[Request], str | None] | None = "Hello.",
    *,
    finish_reason: str = "stop",
    refusal: str | None = None,
    usage: dict[str, Any] | None = {"prompt_tokens": 100, "completion_tokens": 10},  # noqa: B006
) -> Callable[[Request], Reply]:
    """A chat completion with this text, or with what a function of the request says."""

    def behave(request: Request) -> Reply:
        content = text(request) if callable(text) else text
        message = {"role": "assistant", "content": content, "refusal": refusal}
        return as_json(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": f"{request.body['model']}-as-served",
                "system_fingerprint": "fp_1",
                "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
                **({} if usage is None else {"usage": usage}),
            }
        )

    return behave


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), dict(headers))


def error(
    status: int, message: str = "no", *, param: str | None = None, code: str | None = None
) -> Reply:
    """An error as OpenAI writes them."""
    return as_json({"error": {"message": message, "param": param, "code": code}}, status)


def rate_limited(retry_after: str | None = None) -> Reply:
    reply = error(429, "Rate limit reached.")
    if retry_after is not None:
        reply.headers["Retry-After"] = retry_after
    return reply


def echoes_key(status: int = 401) -> Callable[[Request], Reply]:
    """An error that repeats the key it was sent, as some servers do."""

    def behave(request: Request) -> Reply:
        return error(status, f"Incorrect API key provided: {request.headers['authorization']}")

    return behave


def refuse() -> Callable[[Request], Reply]:
    return ok(None, refusal="I can't help with that.")


def empty() -> Callable[[Request], Reply]:
    return ok("")


def truncated(text: str = '{"score": ') -> Callable[[Request], Reply]:
    return ok(text, finish_reason="length")


def malformed_json() -> Callable[[Request], Reply]:
    return ok('{"score": 7,, "reasoning"}')


def truncated_json() -> Callable[[Request], Reply]:
    """JSON that ends in the middle, though the server says it is whole."""
    return ok('{"reasoning": "They agreed on')


def wrapped_json(answer: str = '{"score": 7}') -> Callable[[Request], Reply]:
    """JSON with prose around."""
    return ok(f"Sure! Here it is:\n```json\n{answer}\n```\nAnything else?")


def nan_json() -> Callable[[Request], Reply]:
    return ok('{"score": NaN}')


def html(status: int = 200) -> Reply:
    page = b"<!DOCTYPE html><html><body>Welcome to nginx!</body></html>"
    return Reply(status, page, content_type="text/html")


def unknown_model() -> Reply:
    return error(404, "The model does not exist.", code="model_not_found")


def no_response_format() -> Reply:
    message = "Invalid parameter: 'response_format' of type 'json_schema' is not supported."
    return error(400, message, param="response_format")


def unsupported(param: str) -> Reply:
    message = f"Unsupported parameter: '{param}' is not supported with this model."
    return error(400, message, param=param, code="unsupported_parameter")


def slow_loris() -> Callable[[Request], Reply]:
    """A good answer whose bytes trickle in, one in 50 ms."""

    def behave(request: Request) -> Reply:
        reply = ok()(request)
        reply.trickle = True
        return reply

    return behave


def hang() -> Reply:
    """Nothing at all until the client or the server goes away."""
    return Reply(hang=True)


def reset() -> Reply:
    """A connection that is reset."""
    return Reply(reset=True)


def torn() -> Callable[[Request], Reply]:
    """A good answer that ends in the middle, with the connection."""

    def behave(request: Request) -> Reply:
        reply = ok()(request)
        reply.torn = True
        return reply

    return behave


def sometimes(
    share: float, bad: Sequence[Behaviour], otherwise: Behaviour, *, seed: int = 0
) -> Callable[[Request], Reply]:
    """One of ``bad`` for a random share of the requests, ``otherwise`` for the others.

    Which of the requests, by their number, get what depends on the seed alone.
    """
    rng, lock = random.Random(seed), threading.Lock()

    def behave(request: Request) -> Reply:
        with lock:
            behaviour = rng.choice(bad) if rng.random() < share else otherwise
        return behaviour(request) if callable(behaviour) else behaviour

    return behave


class FaultServer:
    """An OpenAI-compatible server that does what it is told.

    Chat requests are answered by ``script``, front first, and when that is empty by ``default``.
    Files and batches work: a batch's lines are answered like chat requests, and the batch is done
    when it has been asked for ``batch_polls`` times.

    Attributes:
        script: Behaviours for the next chat requests.
        default: The behaviour when the script is at its end.
        latency: Seconds before each chat answer.
        requests: The chat requests that came.
        others: The other requests that came.
        max_in_flight: Most chat requests that were there at once.
        abandoned: Set when a client has left a request that hung.
    """

    def __init__(self, *script: Behaviour, default: Behaviour | None = None) -> None:
        self.script: deque[Behaviour] = deque(script)
        self.default: Behaviour = default or ok()
        self.latency = 0.0
        self.requests: list[Request] = []
        self.others: list[Request] = []
        self.max_in_flight = 0
        self.abandoned = threading.Event()
        self.batch_polls = 2
        self.batch_status = "completed"
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._in_flight = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, ``http://127.0.0.1:PORT/v1``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def spec(self, model: str = "test-model") -> str:
        """The spec of a model behind this server."""
        return f"{model}@{self.url}"

    @property
    def count(self) -> int:
        """How many chat requests came."""
        return len(self.requests)

    def close(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        with self._lock:
            for connection in self._connections:
                # Ends the handlers that wait for a client's next request.
                connection.shutdown(socket.SHUT_RDWR) if connection.fileno() >= 0 else None
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer_chat(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            behaviour = self.script.popleft() if self.script else self.default
        with self._counted():
            if self.latency:
                time.sleep(self.latency)
            return behaviour(request) if callable(behaviour) else behaviour

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def answer_other(self, request: Request) -> Reply:
        with self._lock:
            self.others.append(request)
        match request.method, *request.path.removeprefix("/v1/").split("/"):
            case "POST", "files":
                return as_json(self._upload(request))
            case "GET", "files", name, "content" if name in self.files:
                return Reply(body=self.files[name], content_type="application/octet-stream")
            case "POST", "batches":
                name = f"batch-{len(self.batches)}"
                self.batches[name] = {"id": name, "object": "batch", "polls": 0, **request.body}
                return as_json(self.batches[name] | {"status": "validating"})
            case "GET", "batches", name if name in self.batches:
                return as_json(self._poll(self.batches[name]))
            case "GET", "models":
                model = {"id": "test-model", "object": "model", "created": 0, "owned_by": "test"}
                return as_json({"object": "list", "data": [model]})
        return error(404, f"nothing at {request.path}")

    def _upload(self, request: Request) -> dict[str, Any]:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        parts = BytesParser(policy=HTTP).parsebytes(head + request.body)
        name = f"file-{len(self.files)}"
        for part in parts.iter_parts():
            if part.get_filename():
                self.files[name] = part.get_payload(decode=True)
        return {"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"}

    def _poll(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["polls"] += 1
        if batch["polls"] < self.batch_polls:
            return batch | {"status": "in_progress"}
        if self.batch_status != "completed":
            errors = {"data": [{"message": "The batch is bad.", "line": 1}]}
            return batch | {"status": self.batch_status, "errors": errors}
        if "output_file_id" not in batch:
            good, bad = [], []
            for line in self.files[batch["input_file_id"]].splitlines():
                asked = json.loads(line)
                reply = self._answer_line(asked["body"])
                response = {"status_code": reply.status, "body": json.loads(reply.body)}
                done = {"custom_id": asked["custom_id"], "response": response, "error": None}
                told = json.dumps(done, ensure_ascii=False)
                (good if reply.status == 200 else bad).append(told)
            for kind, lines in (("output_file_id", good), ("error_file_id", bad)):
                batch[kind] = f"{kind}-of-{batch['id']}" if lines else None
                self.files[f"{kind}-of-{batch['id']}"] = "\n".join(lines).encode()
        return batch | {"status": "completed"}

    def _answer_line(self, body: Any) -> Reply:
        behaviour = self.script.popleft() if self.script else self.default
        return behaviour(Request("BATCH", "", {}, body)) if callable(behaviour) else behaviour


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 1024
    owner: FaultServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.owner._lock:
            self.server.owner._connections.add(self.connection)

    def finish(self) -> None:
        with self.server.owner._lock:
            self.server.owner._connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_json = "json" in self.headers.get("Content-Type", "")
        self._answer(json.loads(content) if is_json else content)

    def _answer(self, body: Any) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        if self.path in {"/v1/chat/completions", "/v1/completions"}:
            reply = owner.answer_chat(request)
        else:
            reply = owner.answer_other(request)
        if reply.hang:
            self._wait_for_the_client_to_leave()
            return
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.torn:
            self.wfile.write(reply.body[: len(reply.body) // 2])
            self.close_connection = True
            return
        if not reply.trickle:
            self.wfile.write(reply.body)
            return
        for byte in reply.body:
            if owner._stopping.wait(0.05):
                break
            self.wfile.write(bytes((byte,)))

    def _wait_for_the_client_to_leave(self) -> None:
        self.close_connection = True
        self.connection.settimeout(0.05)
        while not self.server.owner._stopping.is_set():
            try:
                left = not self.connection.recv(1)
            except TimeoutError:
                continue
            except OSError:
                left = True
            if left:
                self.server.owner.abandoned.set()
                return
