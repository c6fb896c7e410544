"""The gateway's ASGI application: who asks for what, and the life of the process around it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import orjson
from django.conf import settings

from cortex.gateway import keys, openai, reach, routing
from cortex.gateway.client import Client, Gone, Message, Receive, Send
from cortex.gateway.database import afresh
from cortex.gateway.keys import Key, Keyring
from cortex.gateway.metering import FLUSH_EVERY, Meter, Usage
from cortex.gateway.openai import Fault
from cortex.gateway.question import read
from cortex.gateway.relay import Call, Limits, Relay, session
from cortex.gateway.routing import Router
from cortex.telemetry import firsts, inflight

logger = logging.getLogger("cortex.gateway")

STREAMED = frozenset({"/v1/chat/completions", "/v1/completions"})
ASKED = STREAMED | {"/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/detokenize"}
MODELS = "/v1/models"
JSON = [(b"content-type", b"application/json")]


class Gateway:
    """One process's share of the door: an ASGI application once `open` has run."""

    def __init__(self, router: Router, keyring: Keyring, meter: Meter, limits: Limits, body_limit: int) -> None:
        self._router, self._keyring, self._meter = router, keyring, meter
        self._limits, self._body_limit = limits, body_limit
        self._relay: Relay

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(Client(scope, receive, send))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.open():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """The session, the first table, and what goes on in the background."""
        await self._router.refresh()
        told = inflight.Writer(self._router.in_flight, self._router.changed, self._router.silence)
        teller = firsts.Teller(self._router.firsts)
        async with session() as shared:
            self._relay = Relay(shared, self._router, self._limits)
            tasks = [
                asyncio.create_task(_forever(self._router.refresh, routing.REFRESH_EVERY)),
                asyncio.create_task(_forever(self._router.reach.knock, reach.KNOCK_EVERY)),
                asyncio.create_task(_forever(self._keyring.note, keys.NOTED_EVERY)),
                asyncio.create_task(_forever(self._flush, FLUSH_EVERY)),
                asyncio.create_task(_forever(told.follow, inflight.WRITTEN_EVERY)),
                asyncio.create_task(_forever(teller.tell, firsts.TOLD_EVERY)),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await self._keyring.note()
                self._meter.flush()
                await told.close()
                await teller.close()

    async def _flush(self) -> None:
        self._meter.flush()

    async def _serve(self, client: Client) -> None:
        try:
            await self._dispatch(client)
        except Fault as fault:
            await client.answer(fault.status, fault.all_headers, fault.body)
        except Gone:
            return
        except Exception:
            logger.exception("Request %s to %s failed through a fault of the gateway.", client.request_id, client.path)
            if client.answered:
                raise  # the server closes the connection: nobody takes half an answer for a whole one
            message = f"The gateway failed; its log says why. This request is {client.request_id}."
            failure = Fault(500, "internal_error", message)
            await client.answer(failure.status, failure.all_headers, failure.body)

    async def _dispatch(self, client: Client) -> None:
        if client.path == "/health":
            await self._health(client)
            return
        key = await self._keyring.check(_secret(client))
        if client.path in ASKED:
            _allow(client, "POST")
            await self._ask(client, key)
        elif client.path == MODELS:
            _allow(client, "GET")
            models = [(route.name, route.created) for route in self._router.serving()]
            await client.answer(200, JSON, orjson.dumps(openai.model_list(models)))
        elif client.path.startswith(f"{MODELS}/"):
            _allow(client, "GET")
            route = await self._router.seek(client.path.removeprefix(f"{MODELS}/"))
            await client.answer(200, JSON, orjson.dumps(openai.model(route.name, route.created)))
        else:
            message = f"There is nothing at {client.method} {client.path}. This gateway speaks OpenAI's API below /v1."
            raise Fault(404, "unknown_url", message)

    async def _health(self, client: Client) -> None:
        _allow(client, "GET", "HEAD")
        known = self._router.loaded_at is not None
        said = {
            "status": "ok" if known else "starting",
            "database": self._router.trouble or "ok",
            "routes": f"read {self._router.age()}",
        }
        await client.answer(200 if known else 503, JSON, orjson.dumps(said))

    async def _ask(self, client: Client, key: Key) -> None:
        began = time.monotonic()
        question = await read(await client.body(self._body_limit), streamed=client.path in STREAMED)
        usage = Usage(client.request_id, client.path, key.prefix, question.model, stream=question.stream)
        try:
            route = await self._router.seek(question.model)
            body = question.put(route.served_name)
            await self._relay.carry(Call(client, route, body, question.usage_is_ours, usage))
        except Fault as fault:
            usage.status, usage.outcome = fault.status, fault.code or "engine_error"
            raise
        except Gone:
            usage.status, usage.outcome = 499, "client_gone"
            raise
        finally:
            usage.seconds = time.monotonic() - began
            self._meter.record(usage)


def _secret(client: Client) -> str:
    """The key: as OpenAI's clients send it, or as Anthropic's do."""
    scheme, _, secret = client.header(b"authorization").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else client.header(b"x-api-key")


def _allow(client: Client, *methods: str) -> None:
    if client.method not in methods:
        allowed = ", ".join(methods)
        message = f"{client.path} takes {allowed}, not {client.method}."
        raise Fault(405, "method_not_allowed", message, headers={"allow": allowed})


async def _forever(work: Callable[[], Awaitable[None]], every: float) -> None:
    """Again and again; a fault of ours in one round must not freeze the routes for ever."""
    while True:
        await asyncio.sleep(every)
        try:
            await work()
        except Exception:
            logger.exception("Work in the background failed; it is tried again in %.0f s.", every)


def gateway() -> Gateway:
    """The gateway of this installation."""
    lookups = ThreadPoolExecutor(4, "keys")
    router = Router(afresh(routing.load), ThreadPoolExecutor(1, "routes"))
    keyring = Keyring(afresh(keys.find), afresh(keys.note_use), lookups)
    return Gateway(router, keyring, Meter(), Limits(), settings.ENV.cortex_gateway_body_limit)


application = gateway()
