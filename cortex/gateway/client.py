"""The client's side of a request: its body, its answer, and whether it is still there."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from cortex.gateway.openai import Fault

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

EXACT = 0.5  # seconds: a timer set anew for each token would cost more than the token
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Gone(Exception):
    """The client hung up: nobody reads an answer any more."""


class Client:
    """One request and the way back.

    `gone` turns true as soon as the client hangs up while it is watched, `answered` when an answer began;
    `blocked` is true while the client does not read what was sent.
    """

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = self._request_id()
        self.gone = False
        self.answered = False
        self.blocked = False
        self._receive, self._send = receive, send

    def _request_id(self) -> str:
        given = self.header(b"x-request-id")
        return given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self, limit: int) -> bytes:
        """The request's body. Raises Fault when it is longer than `limit` bytes, Gone when it never ends."""
        announced = self.header(b"content-length")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_large(limit)
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def start(self, status: int, headers: Headers) -> None:
        self.answered = True
        headers = [*headers, (b"x-request-id", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        self.blocked = True
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self.blocked = False

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.write(body if self.method != "HEAD" else b"", more=False)

    @asynccontextmanager
    async def watched(self, seconds: float) -> AsyncIterator["Patience"]:
        """Runs a block, once the body was read, for as long as the client stays and for `seconds` at most.

        Raises Gone or TimeoutError. Servers drop what is sent to a client that left without a word, so
        somebody must listen, or an engine would go on working for nobody.
        """
        try:
            async with asyncio.timeout(seconds) as timeout:
                patience = Patience(self, timeout)
                watcher = asyncio.create_task(self._watch(patience))
                try:
                    yield patience
                finally:
                    watcher.cancel()
        except TimeoutError:
            if self.gone:
                raise Gone from None
            raise

    async def _watch(self, patience: "Patience") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        patience.end()


class Patience:
    """How long a block may still take; at an end at once when the client hangs up."""

    def __init__(self, client: Client, timeout: asyncio.Timeout) -> None:
        self._client, self._timeout = client, timeout
        self._now = asyncio.get_running_loop().time
        self._renewed = 0.0

    def renew(self, seconds: float) -> None:
        """Something came: wait `seconds` for what follows, give or take what `EXACT` says."""
        now = self._now()
        if not self._client.gone and now - self._renewed > EXACT:
            self._renewed = now
            self._timeout.reschedule(now + seconds)

    def end(self) -> None:
        self._client.gone = True
        if not self._timeout.expired():
            self._timeout.reschedule(self._now())


def _too_large(limit: int) -> Fault:
    message = f"The request is larger than {limit:,} bytes, the most this gateway takes. Send less at once."
    return Fault(413, "request_too_large", message, headers={"connection": "close"})
