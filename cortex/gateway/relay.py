"""From a client to an engine and back: tried elsewhere before the first byte, never after, ended when nobody reads."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from uuid import UUID

import aiohttp

from cortex.gateway import openai
from cortex.gateway.client import Client, Gone, Headers, Patience
from cortex.gateway.metering import Usage
from cortex.gateway.openai import Fault
from cortex.gateway.reach import is_silence, watched_socket
from cortex.gateway.routing import Route, Router, Target
from cortex.gateway.sse import Events, usage_in

logger = logging.getLogger("cortex.gateway")

KEEP_ALIVE = 4.0  # the engines' own servers hang up after 5 s
CONNECT_SECONDS = 2.0  # enough for one packet to be lost
TRIES = 3
ELSEWHERE = {502, 503, 504}
PASSED_ON = (b"accept", b"traceparent", b"tracestate", b"user-agent")
LARGE = 1 << 20
STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True)
class Limits:
    """Seconds: until an engine's first byte, and between the bytes of a stream."""

    first_byte: float = 600.0
    stall: float = 120.0


@dataclass
class Call:
    """A request on its way: from whom, where to, what it says. `usage_is_ours`: the client did not ask for it."""

    client: Client
    route: Route
    body: bytes
    usage_is_ours: bool
    usage: Usage
    began: float = field(default_factory=time.monotonic)
    replica: UUID = field(init=False)

    def note_first_byte(self, status: int) -> None:
        self.usage.first, self.usage.status = time.monotonic() - self.began, status


class Failed(Exception):
    """A replica did not answer, or said that it cannot: another may. `sent`: it may have begun to work.

    `gone`: it refused the connection or hung up, as what was stopped since the routes were read does.
    """

    def __init__(self, fault: Fault, *, sent: bool, gone: bool = True) -> None:
        super().__init__(fault.message)
        self.fault, self.sent, self.gone = fault, sent, gone


def session() -> aiohttp.ClientSession:
    """The one session of a process."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=30, socket_factory=watched_socket
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    )


class Relay:
    """Carries calls over one shared session."""

    def __init__(self, session: aiohttp.ClientSession, router: Router, limits: Limits) -> None:
        self._session, self._router, self._limits = session, router, limits

    async def carry(self, call: Call) -> None:
        """Answer the client with what an engine says. Raises Gone, and Fault before the answer began."""
        try:
            async with call.client.watched(self._limits.first_byte) as patience:
                await self._try_replicas(call, patience)
        except TimeoutError:
            if call.client.blocked:
                raise Gone from None
            if call.client.answered:
                await self._break_off(call, "stalled", f"sent nothing for {self._limits.stall:.0f} s")
                return
            message = f"The model {call.route.name!r} did not answer within {self._limits.first_byte:.0f} s."
            raise Fault(504, "upstream_timeout", message, again=False) from None

    async def _try_replicas(self, call: Call, patience: Patience) -> None:
        tried: list[Target] = []
        while True:
            target = self._next(call.route, tried)
            tried.append(target)
            call.replica = target.replica
            call.usage.replica, call.usage.tries = target.address, len(tried)
            try:
                with self._router.busy(target):
                    await self._ask(target.address, call, patience)
                if call.usage.first is not None:
                    self._router.answered(target, time.monotonic() - call.began - call.usage.first)
                return
            except Failed as failed:
                cause = failed.__cause__ or failed
                logger.warning("Replica %s of %s failed: %r", target.address, call.route.name, cause)
                self._router.avoid(target)
                if is_silence(cause):
                    self._router.reach.lose(target.address)
                if failed.gone:
                    call.route = await self._router.renew(call.route.name, time.monotonic())
                if not self._may_go_on(call.route, tried, failed):
                    raise failed.fault from failed

    def _next(self, route: Route, tried: list[Target]) -> Target:
        return self._router.choose(route, tried) or tried[-1]

    def _may_go_on(self, route: Route, tried: list[Target], failed: Failed) -> bool:
        """Elsewhere if there is an elsewhere. The same one again only when its idle connection may have been the cause.

        A request that was sent and ended its engine is not carried to every other one: twice at most.
        """
        if len(tried) >= (2 if failed.sent else TRIES):
            return False
        return self._router.choose(route, tried) is not None or (failed.sent and failed.fault.status == 502)

    async def _ask(self, address: str, call: Call, patience: Patience) -> None:
        async with self._response(address, call) as response:
            if response.status >= 400:
                await self._raise_error(response, call)
            elif response.content_type == "text/event-stream":
                await self._pass_stream(response, call, patience)
            else:
                await self._pass_whole(response, call)

    @asynccontextmanager
    async def _response(self, address: str, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """An engine's answer, its connection closed when it was not read to its end. Raises Failed before any byte."""
        client = call.client
        headers = {name.decode(): client.header(name) for name in PASSED_ON if name in client.headers}
        headers |= {"content-type": "application/json", "x-request-id": client.request_id}
        data = BytesIO(call.body) if len(call.body) >= LARGE else call.body
        try:
            response = await self._session.post(
                f"http://{address}{client.path}", data=data, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Failed(_unreachable(call, "it cannot be reached"), sent=False) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Failed(_unreachable(call, "it hung up"), sent=True) from error
        try:
            yield response
        except (aiohttp.ClientError, ConnectionError) as error:
            if call.client.answered:
                await self._break_off(call, "upstream_died", "ended before its answer was complete")
                return
            raise Failed(_unreachable(call, "it hung up"), sent=True) from error
        finally:
            if response.content.is_eof():
                response.release()
            response.close()

    async def _raise_error(self, response: aiohttp.ClientResponse, call: Call) -> None:
        body = await response.read()
        self._router.heard(call.replica)
        fault = openai.engine_fault(response.status, body, response.headers.get("retry-after", ""))
        if response.status in ELSEWHERE:
            raise Failed(fault, sent=False, gone=False)
        raise fault

    async def _pass_whole(self, response: aiohttp.ClientResponse, call: Call) -> None:
        body = await response.read()
        self._router.heard(call.replica)
        call.note_first_byte(response.status)
        call.usage.count(usage_in(body) or {})
        kind = response.headers.get("content-type", "application/json").encode("latin-1")
        await call.client.answer(response.status, [(b"content-type", kind)], body)

    async def _pass_stream(self, response: aiohttp.ClientResponse, call: Call, patience: Patience) -> None:
        """Events as they come. Nothing is sent before the first of them: until then another replica may answer."""
        client = call.client
        events = Events(call.usage.count, ours=call.usage_is_ours)
        async for data in response.content.iter_any():
            patience.renew(self._limits.stall)
            data = events.feed(data)
            if events.frames > call.usage.frames:  # comments keep a line alive, and tell nothing of the engine
                self._router.heard(call.replica)
            call.usage.frames = events.frames
            if client.gone:
                raise Gone
            if not data:
                continue
            if not client.answered:
                call.note_first_byte(response.status)
                await client.start(response.status, STREAM)
            await client.write(data)
        if not events.done:
            raise aiohttp.ClientPayloadError("The stream ended without [DONE]")
        await client.write(b"", more=False)

    async def _break_off(self, call: Call, outcome: str, what: str) -> None:
        """The status is out already: say it in the stream, and leave out the [DONE]."""
        call.usage.outcome = outcome
        message = f"The answer is cut off: the engine of {call.route.name!r} {what}. Ask again."
        await call.client.write(openai.error_event(message, "upstream_error"), more=False)


def _unreachable(call: Call, why: str) -> Fault:
    message = f"No replica of {call.route.name!r} could answer: {why}. Cortex restarts what died; try again in a while."
    return Fault(502, "upstream_error", message, seconds=5)
