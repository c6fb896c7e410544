"""A hub that lies, stalls or leads astray: a clear error, soon, in little memory."""

import gzip
import ipaddress
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import far, hops

MIB = 1 << 20
SOON = 0.6
OPENING = b"HTTP/1.1 206 Partial Content\r\n"
Script = Callable[[socket.socket], None]


def says(*lines: str, body: bytes = b"") -> Script:
    def script(wire: socket.socket) -> None:
        wire.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)

    return script


def drips(beginning: bytes) -> Script:
    def script(wire: socket.socket) -> None:
        wire.sendall(beginning)
        while True:
            wire.sendall(b"a")
            time.sleep(0.05)

    return script


def floods(wire: socket.socket) -> None:
    wire.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        wire.sendall(b"\0" * MIB)


@contextmanager
def hub(script: Script) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError):
                wire, _ = listening.accept()
                threading.Thread(target=answer, args=(wire,), daemon=True).start()

    def answer(wire: socket.socket) -> None:
        with wire, suppress(OSError):
            wire.recv(1 << 16)
            script(wire)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    over.set()
    with suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def refused(script: Script, within: float = 2.0) -> UnreadableModel:
    """What is said of a file whose first bytes this hub was asked for."""
    with hub(script) as address:
        tracemalloc.start()
        began = time.monotonic()
        try:
            with pytest.raises(UnreadableModel) as caught:
                far.FarRepository(address, "some/where", "main", far.over_http("secret")).open("config.json")
            assert time.monotonic() - began < within
            assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        finally:
            tracemalloc.stop()
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "416 Range Not Satisfiable",
                                    "429 Too Many Requests", "500 Oops", "503 Busy"])  # fmt: skip
def test_a_refusal_is_passed_on_with_its_number(status: str) -> None:
    assert status[:3] in refused(says(f"HTTP/1.1 {status}", "Content-Length: 0")).why


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["HTTP/1.1 200 OK", "Content-Length: many"], b""),
        (["HTTP/1.1 200 OK", "Content-Length: 100"], b"short"),
        (["HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-9/3"], b"0123456789"),
        (["HTTP/1.1 206 Partial Content", f"Content-Range: bytes 0-9/{'9' * 18}"], b"0123456789"),
        (["nonsense"], b""),
        (["HTTP/1.1 302 Found"], b""),
        (["HTTP/1.1 302 Found", "Location: http://[::1"], b""),
    ],
)
def test_answers_that_contradict_themselves_are_refused(lines: list[str], body: bytes) -> None:
    refused(says(*lines, body=body))


def test_what_comes_packed_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (64 * MIB))
    told = ["HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-262143/262144", "Content-Encoding: gzip"]
    assert "packed" in refused(says(*told, body=bomb)).why


def test_of_a_flood_no_more_is_read_than_was_asked_for() -> None:
    with hub(floods) as address:
        file = far.FarRepository(address, "some/where", "main", far.over_http()).open("config.json")
    assert file.size == far.FIRST


@pytest.mark.parametrize(
    "beginning",
    [OPENING + b"Content-Range: bytes 0-262143/262144\r\nContent-Length: 262144\r\n\r\n", OPENING + b"X-Slow: "],
    ids=["body", "headers"],
)
def test_bytes_that_come_one_by_one_are_not_waited_for(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "PATIENCE", SOON)
    refused(drips(beginning), within=4 * SOON)


def test_a_circle_of_redirects_is_left() -> None:
    assert "on and on" in refused(says("HTTP/1.1 302 Found", "Location: /again", "Content-Length: 0")).why


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/x", "http://0.0.0.0:80/", "http://224.0.0.1/",
     "file:///etc/passwd", "ftp://example.org/x", "http://[::ffff:169.254.169.254]/"],
)  # fmt: skip
def test_no_redirect_leads_to_a_clouds_secrets_or_to_no_server(target: str) -> None:
    refused(says("HTTP/1.1 302 Found", f"Location: {target}", "Content-Length: 0"))


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.8", "192.168.1.1", "::1", "172.16.3.4"])
def test_a_hub_of_the_world_leads_nowhere_inside(inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"hub.example": "93.184.216.34", "cdn.example": "93.184.216.35", "inside.example": inside}
    monkeypatch.setattr(hops, "addresses", lambda host: [ipaddress.ip_address(known[host])])
    hops.allow("https://hub.example/a", "https://cdn.example/b")
    hops.allow("https://hub.example/a", "https://hub.example/b")
    with pytest.raises(UnreadableModel, match=r"inside\.example"):
        hops.allow("https://hub.example/a", "https://inside.example/b")
    with pytest.raises(UnreadableModel):
        hops.allow("https://hub.example/a", "http://cdn.example/b")
    known["hub.example"] = "10.0.0.7"
    hops.allow("http://hub.example/a", "http://inside.example/b")


def test_a_redirect_within_the_network_is_followed_and_shows_no_token_to_others() -> None:
    seen: list[bytes] = []
    whole = says("HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-1/2", "Content-Length: 2", body=b"{}")

    def other(wire: socket.socket) -> None:
        whole(wire)

    @contextmanager
    def recording() -> Iterator[str]:
        listening = socket.create_server(("127.0.0.2", 0))

        def serve() -> None:
            wire, _ = listening.accept()
            with wire:
                seen.append(wire.recv(1 << 16))
                other(wire)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.2:{listening.getsockname()[1]}/file"
        listening.close()

    with recording() as target, hub(says("HTTP/1.1 307 Temporary Redirect", f"Location: {target}",
                                         "Content-Length: 0")) as address:  # fmt: skip
        file = far.FarRepository(address, "some/where", "main", far.over_http("secret")).open("config.json")
    assert file.read(0, 2) == b"{}"
    assert b"range: bytes=0-" in seen[0].lower()
    assert b"secret" not in seen[0]
