"""An engine that only pretends: OpenAI's shapes, friendly text, faults on order.

Run it with `python -m cortex.runtime.pretend --port N`.
"""

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Json = dict[str, Any]
HEADER = "X-Pretend"
TEXT = (
    "Hello! I am a pretend model: no GPU is at work and nothing here was thought up. "
    "Everything around me is real, though, so feel free to look about. "
)
WORDS = [f"{word} " for word in TEXT.split()]
DIMENSIONS = 8


class Knobs(BaseModel):
    """How the server behaves. A request may turn them by the header X-Pretend or the field x_pretend, in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = ("pretend",)
    tokens: int = Field(default=len(WORDS), ge=0, description="Tokens of an answer, unless the request asks for fewer.")
    delay: float = Field(default=0.0, ge=0, description="Seconds before each token.")
    first: float = Field(default=0.0, ge=0, description="Seconds before the first token, on top.")
    status: int = Field(default=200, description="Answer with this error instead.")
    cut_after: int | None = Field(default=None, description="Hang up in the middle, after so many tokens.")
    loading: bool = Field(default=False, description="/health answers 503.")


def application(knobs: Knobs | None = None) -> web.Application:
    """The server as an aiohttp application; ``app[LOG]`` is the list of the requests' bodies."""
    app = web.Application(client_max_size=64 * 2**20)
    app[KNOBS] = knobs or Knobs()
    app[LOG] = []
    app[OPEN] = set()
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _answering(_chat))
    app.router.add_post("/v1/completions", _answering(_complete))
    app.router.add_post("/v1/embeddings", _answering(_embed))
    return app


KNOBS = web.AppKey("knobs", Knobs)
LOG = web.AppKey("log", list[Json])
OPEN = web.AppKey("open", set[int])


@asynccontextmanager
async def serving(knobs: Knobs | None = None, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve on a port (any free one when 0); gives the address, host:port."""
    runner = web.AppRunner(application(knobs), handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "loading"}, status=503) if request.app[KNOBS].loading else web.json_response({})


async def _models(request: web.Request) -> web.Response:
    models = [
        {"id": name, "object": "model", "created": 0, "owned_by": "pretend"} for name in request.app[KNOBS].models
    ]
    return web.json_response({"object": "list", "data": models})


Answer = Callable[[web.Request, Json, Knobs], Awaitable[web.StreamResponse]]


def _answering(answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            knobs = _turned(request, body)
        except (ValueError, ValidationError) as fault:
            return _error(400, str(fault))
        request.app[LOG].append(body)
        if knobs.status != 200:
            return _error(knobs.status, "This error was ordered.")
        request.app[OPEN].add(id(request))
        try:
            return await answer(request, body, knobs)
        finally:
            request.app[OPEN].discard(id(request))

    return handle


def _turned(request: web.Request, body: Json) -> Knobs:
    turned = {**json.loads(request.headers.get(HEADER, "{}")), **body.get("x_pretend", {})}
    return Knobs.model_validate({**request.app[KNOBS].model_dump(), **turned})


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "pretend_error", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


async def _chat(request: web.Request, body: Json, knobs: Knobs) -> web.StreamResponse:
    prompt = sum(_count(message.get("content")) for message in body.get("messages", []))
    telling = _Telling(request, body, knobs, "chatcmpl", prompt)
    if body.get("stream"):
        return await telling.stream("chat.completion.chunk", lambda text: {"delta": {"content": text}})
    return await telling.whole("chat.completion", lambda text: {"message": {"role": "assistant", "content": text}})


async def _complete(request: web.Request, body: Json, knobs: Knobs) -> web.StreamResponse:
    telling = _Telling(request, body, knobs, "cmpl", _count(body.get("prompt")))
    if body.get("stream"):
        return await telling.stream("text_completion", lambda text: {"text": text})
    return await telling.whole("text_completion", lambda text: {"text": text})


async def _embed(request: web.Request, body: Json, knobs: Knobs) -> web.StreamResponse:
    wanted = body.get("input", "")
    texts = wanted if isinstance(wanted, list) else [wanted]
    await asyncio.sleep(knobs.first)
    data = [{"object": "embedding", "index": i, "embedding": _vector(text)} for i, text in enumerate(texts)]
    count = sum(_count(text) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return web.json_response({"object": "list", "model": body.get("model"), "data": data, "usage": usage})


class _Telling:
    """One answer, token by token, in either of OpenAI's two shapes."""

    def __init__(self, request: web.Request, body: Json, knobs: Knobs, kind: str, prompt: int) -> None:
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or knobs.tokens
        self._request = request
        self._knobs = knobs
        self._count = min(knobs.tokens, wanted)
        self._finish = "length" if wanted < knobs.tokens else "stop"
        self._with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._usage = {
            "prompt_tokens": prompt,
            "completion_tokens": self._count,
            "total_tokens": prompt + self._count,
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        self._head = {"id": f"{kind}-{digest[:24]}", "created": int(time.time()), "model": body.get("model")}

    async def whole(self, kind: str, shape: Callable[[str], Json]) -> web.StreamResponse:
        text = "".join([token async for token in self._tokens()])
        choice = {"index": 0, **shape(text.rstrip()), "logprobs": None, "finish_reason": self._finish}
        return web.json_response({**self._head, "object": kind, "choices": [choice], "usage": self._usage})

    async def stream(self, kind: str, shape: Callable[[str], Json]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(self._request)

        async def send(choices: list[Json], **more: Any) -> None:
            usage = {"usage": None} if self._with_usage else {}
            event = {**self._head, "object": kind, "choices": choices, **usage, **more}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())

        async for token in self._tokens():
            await send([{"index": 0, **shape(token), "finish_reason": None}])
        await send(
            [{"index": 0, **({"delta": {}} if "chunk" in kind else {"text": ""}), "finish_reason": self._finish}]
        )
        if self._with_usage:
            await send([], usage=self._usage)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _tokens(self) -> AsyncIterator[str]:
        await asyncio.sleep(self._knobs.first)
        for place in range(self._count):
            if place == self._knobs.cut_after and self._request.transport is not None:
                self._request.transport.abort()
                raise ConnectionResetError("This cut was ordered.")
            if self._knobs.delay:
                await asyncio.sleep(self._knobs.delay)
            yield WORDS[place % len(WORDS)]


def _count(content: Any) -> int:
    """Tokens of a prompt: here, words of whatever text it holds."""
    if isinstance(content, str):
        return len(content.split())
    if isinstance(content, list):
        return sum(_count(part.get("text") if isinstance(part, dict) else part) for part in content)
    return 1 if content is not None else 0


def _vector(text: Any) -> list[float]:
    digest = hashlib.sha256(json.dumps(text).encode()).digest()
    return [byte / 127.5 - 1 for byte in digest[:DIMENSIONS]]


async def _run(host: str, port: int, knobs: Knobs) -> None:
    async with serving(knobs, port, host):
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="An engine that only pretends.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--delay", type=float, default=0.03, help="seconds before each token")
    wanted = parser.parse_args()
    knobs = Knobs(models=tuple(wanted.model) or ("pretend",), delay=wanted.delay)
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(wanted.host, wanted.port, knobs))


if __name__ == "__main__":
    main()
