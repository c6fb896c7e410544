"""A load of requests over raw sockets, and how long each took."""

import asyncio
import time
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import cast

ASKED = b'{"model":"mock","messages":[{"role":"user","content":"Hello there"}]%s}'


@dataclass
class Took:
    """Seconds: whole answers, first events, gaps between events; how many failed."""

    answers: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    def add(self, other: "Took") -> None:
        self.answers += other.answers
        self.firsts += other.firsts
        self.gaps += other.gaps
        self.failed += other.failed
        self.seconds += other.seconds

    @property
    def per_second(self) -> float:
        return len(self.answers) / self.seconds


def middle(values: list[float]) -> float:
    return median(values) if values else float("nan")


def late(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100)[98] if len(values) > 1 else float("nan")


class Asker(asyncio.Protocol):
    """One connection that asks again as soon as it was answered, until `until`."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, until: float, took: Took) -> None:
        self._request, self._until, self._took = request, until, took
        self._began = self._last = 0.0
        self._end = b"\x00"
        self._left = 0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self._took.failed += 1
            self.over.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self._last:
            self._begin(data)
        if b"data: {" in data:
            (self._took.gaps if self._last else self._took.firsts).append(now - (self._last or self._began))
            self._last = now
        self._left -= len(data)
        if self._left == 0 or data.endswith(b"0\r\n\r\n"):
            self._took.answers.append(now - self._began)
            self._ask()

    def _begin(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200"):
            self._took.failed += self._left == 0 and not self._last and data.startswith(b"HTTP")
        head, found, _ = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        if found and length:
            self._left = len(head) + 4 + int(length)

    def _ask(self) -> None:
        self._left, self._last = 0, 0.0
        self._began = time.perf_counter()
        if self._began >= self._until:
            self.over.set_result(None)
            self.transport.close()
        else:
            self.transport.write(self._request)


async def load(port: int, key: str, connections: int, seconds: float, *, stream: bool = False) -> Took:
    """Ask over so many connections for so long."""
    body = ASKED % (b',"stream":true' if stream else b"")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    took, began = Took(), time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Asker(request, began + seconds, took), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(asker.over for _, asker in made))
    took.seconds = time.perf_counter() - began
    return took
