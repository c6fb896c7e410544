"""An engine that costs next to nothing: what is measured is what stands before it.

Run it with `python -m tools.bench.mock PORT`.
"""

import asyncio
import sys
from typing import cast

EVENTS = 64
PACE = 0.02
CHOICE = b'{"index":0,"message":{"role":"assistant","content":"Hello, this is a short answer."},"finish_reason":"stop"}'
USAGE = b'"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}'
BODY = b'{"id":"c1","object":"chat.completion","created":1,"model":"mock","choices":[' + CHOICE + b"]," + USAGE + b"}"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DELTA = b'{"index":0,"delta":{"content":" word"},"finish_reason":null}'
EVENT = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[' + DELTA + b"]}\n\n"
LAST = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],' + USAGE + b"}\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Mock(asyncio.Protocol):
    """Answers one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._read = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._read = b""
        if b'"stream":true' in body:
            self._task = asyncio.get_running_loop().create_task(self._stream())
        else:
            self.transport.write(WHOLE)

    async def _stream(self) -> None:
        self.transport.write(HEAD)
        for _ in range(EVENTS):
            self.transport.write(chunk(EVENT))
            await asyncio.sleep(PACE)
        self.transport.write(chunk(LAST) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
