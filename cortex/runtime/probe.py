"""Ask servers for their health from outside: one request each, a bounded answer, a bounded time."""

import selectors
import socket
import time
from collections.abc import Generator, Sequence
from urllib.parse import urlsplit

from cortex.runtime.contract import Health
from engines.contract import Probe

LONGEST_STATUS_LINE = 512
AT_ONCE = 128
HEALTH = {200: Health.READY, 503: Health.LOADING}
Talk = Generator[tuple[socket.socket, int], None, Health]


def ask(address: str | None, probe: Probe) -> Health:
    """Health of the server at host:port. Never raises for what the server does.

    Only the status line is read, so redirects are not followed and a flood of a body costs nothing.
    An answer that is neither 200 nor 503 is as good as none, except where any answer will do.
    """
    return ask_all([(address, probe)])[0]


def ask_all(questions: Sequence[tuple[str | None, Probe]]) -> list[Health]:
    """The same of many servers side by side, in one thread; the slowest may take its own probe's time."""
    healths: list[Health] = []
    for start in range(0, len(questions), AT_ONCE):
        healths += _Talks(questions[start : start + AT_ONCE]).hold()
    return healths


class _Talks:
    """Conversations under way, by their place among the questions."""

    def __init__(self, questions: Sequence[tuple[str | None, Probe]]) -> None:
        self._healths = [Health.SILENT] * len(questions)
        self._until = [time.monotonic() + probe.timeout for _, probe in questions]
        self._talks = {place: _talk(address, probe) for place, (address, probe) in enumerate(questions) if address}

    def hold(self) -> list[Health]:
        with selectors.DefaultSelector() as selector:
            for place in list(self._talks):
                self._go_on(place, selector)
            while self._talks:
                first = min(self._until[place] for place in self._talks)
                for key, _ in selector.select(max(first - time.monotonic(), 0)):
                    selector.unregister(key.fileobj)
                    self._go_on(key.data, selector)
                self._end_overdue(selector)
        return self._healths

    def _go_on(self, place: int, selector: selectors.BaseSelector) -> None:
        try:
            connection, event = next(self._talks[place])
        except StopIteration as end:
            self._healths[place] = end.value
            del self._talks[place]
        except (OSError, ValueError):
            del self._talks[place]
        else:
            selector.register(connection, event, place)

    def _end_overdue(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for key in list(selector.get_map().values()):
            if self._until[key.data] <= now:
                selector.unregister(key.fileobj)
                self._talks.pop(key.data).close()


def _talk(address: str, probe: Probe) -> Talk:
    """One question and its answer; gives the socket and what it waits for."""
    where = urlsplit(f"//{address}")
    family, kind, _, _, target = socket.getaddrinfo(where.hostname, where.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as connection:
        connection.setblocking(False)
        connection.connect_ex(target)
        yield connection, selectors.EVENT_WRITE
        connection.sendall(_request(address, probe))
        answer = b""
        while b"\n" not in answer and len(answer) < LONGEST_STATUS_LINE:
            yield connection, selectors.EVENT_READ
            piece = connection.recv(LONGEST_STATUS_LINE)
            if not piece:
                break
            answer += piece
    return HEALTH.get(_status(answer), Health.READY if probe.any_answer else Health.SILENT)


def _request(address: str, probe: Probe) -> bytes:
    head = f"{'POST' if probe.body else 'GET'} {probe.path} HTTP/1.1\r\nHost: {address}\r\n"
    head += "Connection: close\r\nAccept: */*\r\n"
    body = probe.body.encode()
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def _status(answer: bytes) -> int:
    """Raises ValueError."""
    words = answer.partition(b"\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError("not an HTTP answer")
    return int(words[1])
