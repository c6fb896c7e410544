"""Ask a server for its health from outside: one request, a bounded answer, a bounded time."""

import socket
import time
from urllib.parse import urlsplit

from cortex.runtime.contract import Health
from engines.contract import Probe

LONGEST_STATUS_LINE = 512
HEALTH = {200: Health.READY, 503: Health.LOADING}


def ask(address: str | None, probe: Probe) -> Health:
    """Health of the server at host:port. Never raises for what the server does.

    Only the status line is read, so redirects are not followed and a flood of a body costs nothing.
    An answer that is neither 200 nor 503 is as good as none, except where any answer will do.
    """
    if address is None:
        return Health.SILENT
    try:
        return HEALTH.get(_status(address, probe), Health.READY if probe.any_answer else Health.SILENT)
    except (OSError, ValueError):
        return Health.SILENT


def _status(address: str, probe: Probe) -> int:
    deadline = time.monotonic() + probe.timeout
    where = urlsplit(f"//{address}")
    with socket.create_connection((where.hostname, where.port), timeout=probe.timeout) as connection:
        connection.sendall(_request(address, probe))
        words = _first_line(connection, deadline).split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError("not an HTTP answer")
    return int(words[1])


def _request(address: str, probe: Probe) -> bytes:
    head = f"{'POST' if probe.body else 'GET'} {probe.path} HTTP/1.1\r\nHost: {address}\r\n"
    head += "Connection: close\r\nAccept: */*\r\n"
    body = probe.body.encode()
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def _first_line(connection: socket.socket, deadline: float) -> bytes:
    answer = b""
    while b"\n" not in answer and len(answer) < LONGEST_STATUS_LINE:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = connection.recv(LONGEST_STATUS_LINE)
        if not piece:
            break
        answer += piece
    return answer.partition(b"\n")[0]
