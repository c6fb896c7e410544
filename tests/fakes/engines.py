"""A pretend engine on a real socket, in a thread of its own, that behaves as badly as it is told to."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

WORDS = ("Once", " upon", " a", " time", ".")
USAGE = {"prompt_tokens": 7, "completion_tokens": len(WORDS), "total_tokens": 7 + len(WORDS)}


@dataclass
class Manners:
    """How it answers. Seconds; `die_after` words it drops the line; `hang_up` drops it before any answer."""

    delay: float = 0.0
    before_first: float = 0.0
    pace: float = 0.0
    words: tuple[str, ...] = WORDS
    die_after: int | None = None
    hang_up: int = 0
    leave_out_done: bool = False
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """One request as it arrived. `ended` says how: answered, or the client left at `left_at`."""

    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    ended: str = ""
    left_at: float = 0.0


class FakeEngine:
    """Speaks OpenAI's API. `seen` grows by one with each request."""

    def __init__(self) -> None:
        self.manners = Manners()
        self.seen: list[Seen] = []
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def behave(self, **manners: Any) -> "FakeEngine":
        """From now on like this; what was seen before is forgotten."""
        self.manners, self.seen = Manners(**manners), []
        return self

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def start(self, port: int = 0) -> None:
        self._port = port
        self._thread.start()
        assert self._up.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._open())
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _open(self) -> web.AppRunner:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        seen = Seen(request.path, {k.lower(): v for k, v in request.headers.items()}, json.loads(raw), raw)
        self.seen.append(seen)
        try:
            response = await self._behave(request, seen.body)
        except (asyncio.CancelledError, ConnectionResetError):
            seen.left_at, seen.ended = time.monotonic(), "client left"
            raise
        seen.ended = "answered"
        return response

    async def _behave(self, request: web.Request, body: Any) -> web.StreamResponse:
        manners = self.manners
        if manners.hang_up:
            manners.hang_up -= 1
            assert request.transport
            request.transport.abort()
        await asyncio.sleep(manners.delay)
        if manners.status != 200:
            text = manners.body if isinstance(manners.body, str) else json.dumps(manners.body)
            return web.Response(status=manners.status, text=text, headers=manners.headers)
        if request.path == "/v1/embeddings":
            rows = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return web.json_response({"object": "list", "data": rows, "model": body["model"], "usage": usage})
        if body.get("stream"):
            return await self._stream(request, body)
        message = {"role": "assistant", "content": "".join(manners.words)}
        choice = {"index": 0, "message": message, "text": message["content"], "finish_reason": "stop"}
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return web.json_response({**answer, "choices": [choice], "usage": USAGE}, headers=manners.headers)

    async def _stream(self, request: web.Request, body: Any) -> web.StreamResponse:
        manners = self.manners
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **manners.headers})
        await response.prepare(request)
        await asyncio.sleep(manners.before_first)
        for count, word in enumerate(manners.words):
            if count == manners.die_after:
                assert request.transport
                request.transport.abort()
                return response
            choice = {"index": 0, "delta": {"content": word}, "text": word, "finish_reason": None}
            await response.write(_event(body, [choice]))
            await asyncio.sleep(manners.pace)
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(_event(body, [], usage=USAGE))
        if not manners.leave_out_done:
            await response.write(b"data: [DONE]\n\n")
        return response


def _event(body: Any, choices: list[Any], **more: Any) -> bytes:
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": choices}
    return b"data: " + json.dumps({**chunk, **more}).encode() + b"\n\n"


@contextmanager
def running_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
