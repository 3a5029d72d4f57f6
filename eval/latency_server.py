"""A chat server that answers after a given time: what is measured against it is the client.

    python -m eval.latency_server MILLISECONDS

prints its port, answers every chat request with an action of the environment (or, if it is asked
for reasoning, with a judgement), and ends when its standard input does. It runs in a process of its
own, so that its work is not counted as the client's.
"""

from __future__ import annotations

import asyncio
import json
import sys

ACTION = {"action_type": "speak", "argument": "I could meet you somewhere in the middle. " * 3}
DIMENSIONS = {
    "believability": 8,
    "relationship": 2,
    "knowledge": 3,
    "secret": 0,
    "social_rules": 0,
    "financial_and_material_benefits": 1,
    "goal": 6,
}
JUDGEMENT = {
    agent: {
        name: {"reasoning": "It went so.", "score": score} for name, score in DIMENSIONS.items()
    }
    for agent in ("agent_0", "agent_1")
}


def response(content: object) -> bytes:
    """A whole HTTP response with a chat completion."""
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "latency",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": json.dumps(content)},
                }
            ],
            "usage": {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    latency = 0.0
    action, judgement = response(ACTION), response(JUDGEMENT)

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        answer = self.judgement if b'"reasoning"' in body else self.action
        self._received.clear()
        asyncio.get_running_loop().call_later(self.latency, self._answer, answer)

    def _answer(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def serve(milliseconds: float) -> None:
    """Serve until standard input ends."""
    Connection.latency = milliseconds / 1000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
