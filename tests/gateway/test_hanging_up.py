"""Who hangs up stops the engine: in each of the three windows, within a second."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.engines import FakeEngine
from tests.gateway.conftest import Door


@contextmanager
def asked(door: Door, key: str, *, stream: bool) -> Iterator[socket.socket]:
    """A chat that was asked for and not yet answered."""
    body = json.dumps({"model": "tiny", "messages": [], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    with socket.create_connection(door.url.removeprefix("http://").split(":"), timeout=10) as line:  # type: ignore[arg-type]
        line.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        yield line


def wait_until_seen(engine: FakeEngine) -> None:
    until = time.monotonic() + 5
    while not engine.seen and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.seen


def seconds_to_notice(engine: FakeEngine, line: socket.socket) -> float:
    hung_up = time.monotonic()
    line.close()
    while engine.last.ended != "client left":
        assert time.monotonic() < hung_up + 5, f"the engine still works: {engine.last.ended!r}"
        time.sleep(0.01)
    return engine.last.left_at - hung_up


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_before_the_engine_answers(served: Door, key: str, engine: FakeEngine, stream: bool) -> None:
    engine.behave(delay=20)
    with asked(served, key, stream=stream) as line:
        wait_until_seen(engine)
        assert seconds_to_notice(engine, line) < 1


def test_hanging_up_while_the_engine_reads_a_long_prompt(served: Door, key: str, engine: FakeEngine) -> None:
    engine.behave(before_first=20)
    with asked(served, key, stream=True) as line:
        wait_until_seen(engine)
        time.sleep(0.2)
        assert seconds_to_notice(engine, line) < 1


def test_hanging_up_in_the_middle_of_a_stream(served: Door, key: str, engine: FakeEngine) -> None:
    engine.behave(words=("word",) * 1000, pace=0.02)
    with asked(served, key, stream=True) as line:
        seen = b""
        while b"word" not in seen:
            seen += line.recv(65536)
        assert seconds_to_notice(engine, line) < 1
    assert engine.last.ended == "client left"
