"""Servers that behave badly, on loopback."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cortex.runtime.contract import Health
from cortex.runtime.probe import ask, ask_all
from engines.contract import Probe

PULSE = Probe(path="/v1/completions", body='{"model": "tiny"}', any_answer=True)

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    door = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def begin(answer: Callable[[socket.socket], None]) -> str:
        def once() -> None:
            connection, _ = door.accept()
            with connection:
                connection.recv(4096)
                try:
                    answer(connection)
                except OSError:
                    return

        threads.append(threading.Thread(target=once, daemon=True))
        threads[-1].start()
        return f"127.0.0.1:{door.getsockname()[1]}"

    yield begin
    for thread in threads:
        thread.join(5)
    door.close()


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nok", Health.READY),
        (b"HTTP/1.0 503 Loading model\r\n\r\n", Health.LOADING),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", Health.SILENT),
        (b"HTTP/1.1 500 Oh\r\n\r\n", Health.SILENT),
        (b"SSH-2.0-OpenSSH 200\r\n", Health.SILENT),
        (b"HTTP/1.1 abc\r\n\r\n", Health.SILENT),
        (b"\xff\xfe\x00", Health.SILENT),
        (b"", Health.SILENT),
        (b"x" * 10_000_000, Health.SILENT),
    ],
)
def test_whatever_a_server_answers_is_one_of_three(serve: Serve, answer: bytes, health: Health) -> None:
    assert ask(serve(lambda connection: connection.sendall(answer)), Probe()) is health


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.1 404 Not Found\r\n\r\n"])
def test_whoever_answers_to_a_body_is_alive(serve: Serve, answer: bytes) -> None:
    assert ask(serve(lambda connection: connection.sendall(answer)), PULSE) is Health.READY


def test_a_body_is_posted_whole(serve: Serve) -> None:
    seen = []

    with socket.create_server(("127.0.0.1", 0)) as door:

        def accept() -> None:
            connection, _ = door.accept()
            with connection:
                seen.append(connection.recv(4096).decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        thread = threading.Thread(target=accept)
        thread.start()
        probe = PULSE
        assert ask(f"127.0.0.1:{door.getsockname()[1]}", probe) is Health.READY
        thread.join(5)
    head, _, body = seen[0].partition("\r\n\r\n")
    assert head.startswith("POST /v1/completions HTTP/1.1")
    assert f"Content-Length: {len(body)}" in head
    assert body == probe.body


def test_who_does_not_answer_to_a_body_is_silent(serve: Serve) -> None:
    probe = PULSE.model_copy(update={"timeout": 0.2})
    assert ask(serve(lambda _: time.sleep(0.5)), probe) is Health.SILENT


def test_an_answer_in_pieces_is_put_together(serve: Serve) -> None:
    def answer(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n":
            connection.sendall(bytes([byte]))

    assert ask(serve(answer), Probe()) is Health.READY


def test_a_server_that_dribbles_costs_the_timeout_and_no_more(serve: Serve) -> None:
    def answer(connection: socket.socket) -> None:
        for _ in range(20):
            connection.sendall(b"H")
            time.sleep(0.1)

    address, before = serve(answer), time.monotonic()
    assert ask(address, Probe(timeout=0.5)) is Health.SILENT
    assert time.monotonic() - before < 1


@pytest.mark.parametrize("address", [None, "127.0.0.1:9", "nonsense", "127.0.0.1:99999", "[::1]:9"])
def test_where_nobody_listens_it_is_silent(address: str | None) -> None:
    assert ask(address, Probe(timeout=0.5)) is Health.SILENT


def test_many_are_asked_side_by_side_and_answered_in_order() -> None:
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    loading, ready, silent, closed = (f"127.0.0.1:{door.getsockname()[1]}" for door in doors)
    doors[3].close()

    def answer(door: socket.socket, words: bytes) -> None:
        connection, _ = door.accept()
        with connection:
            connection.recv(4096)
            time.sleep(0.2)
            connection.sendall(words)

    replies = [(doors[0], b"HTTP/1.1 503 Loading\r\n\r\n"), (doors[1], b"HTTP/1.1 200 OK\r\n\r\n")]
    threads = [threading.Thread(target=answer, args=reply) for reply in replies]
    for thread in threads:
        thread.start()
    patient, brief = Probe(path="/health", timeout=5), Probe(path="/health", timeout=0.5)
    before = time.monotonic()
    found = ask_all([(loading, patient), (None, patient), (silent, brief), (closed, patient), (ready, patient)])
    took = time.monotonic() - before
    for thread in threads:
        thread.join(5)
    for door in doors:
        door.close()
    assert found == [Health.LOADING, Health.SILENT, Health.SILENT, Health.SILENT, Health.READY]
    assert 0.5 <= took < 2


def test_more_than_one_round_of_questions_are_all_answered(serve: Serve) -> None:
    address = serve(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n"))
    probe = Probe(path="/health", timeout=2)
    found = ask_all([(None, probe)] * 300 + [(address, probe)])
    assert found == [Health.SILENT] * 300 + [Health.READY]
