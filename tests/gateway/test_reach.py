"""A host that takes no connections is passed over until a knock is answered; an engine that is gone is not its host."""

import errno
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import aiohttp
import pytest

from cortex.fleet.states import Phase
from cortex.gateway import reach
from cortex.gateway.reach import Reach, is_silence, watched_socket
from cortex.gateway.routing import Route, Router, Target
from tools.services import free_port

HERE, FAR = "127.0.0.1", "10.0.0.9"


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.socket() as door:
        door.bind((HERE, 0))
        door.listen()
        yield f"{HERE}:{door.getsockname()[1]}"


def test_every_replica_on_a_silent_host_comes_last_however_idle() -> None:
    near, far, other = (Target(uuid4(), address) for address in (f"{HERE}:1", f"{FAR}:1", f"{FAR}:2"))
    route = Route("m", "m", 0, (near, far, other), Phase.SERVING, "")
    with ThreadPoolExecutor(1) as threads:
        router = Router(dict, threads)
        router.reach.lose(far.address)
        with router.busy(near), router.busy(near):
            assert {router.choose(route) for _ in range(20)} == {near}
        assert router.choose(route, [near]) in (far, other)


async def test_a_host_that_answers_a_knock_is_back(listening: str) -> None:
    there = Reach(lambda: [listening])
    there.lose(listening)
    await there.knock()
    assert not there.is_silent(listening)


async def test_a_host_that_refuses_lives_though_its_engine_does_not() -> None:
    address = f"{HERE}:{free_port()}"
    there = Reach(lambda: [address])
    there.lose(address)
    await there.knock()
    assert not there.is_silent(address)


async def test_a_host_that_says_nothing_stays_out_of_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "KNOCK_SECONDS", 0.05)
    with socket.socket() as full:  # its queue takes one connection, and no other is answered
        full.bind((HERE, 0))
        full.listen(0)
        address = f"{HERE}:{full.getsockname()[1]}"
        with socket.create_connection(full.getsockname()):
            there = Reach(lambda: [address])
            there.lose(address)
            await there.knock()
            assert there.is_silent(address)


async def test_a_host_that_serves_nothing_any_more_is_forgotten() -> None:
    there = Reach(list)
    there.lose(f"{FAR}:1")
    await there.knock()
    assert not there.is_silent(f"{FAR}:1")


@pytest.mark.parametrize(
    ("error", "silent"),
    [
        (OSError(errno.EHOSTUNREACH, "no route"), True),
        (OSError(errno.ETIMEDOUT, "timed out"), True),
        (aiohttp.ConnectionTimeoutError(), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), False),
        (aiohttp.ServerDisconnectedError(), False),
    ],
)
def test_silence_is_told_from_refusal(error: BaseException, silent: bool) -> None:
    assert is_silence(error) is silent


def test_a_connection_notices_within_seconds_that_its_peer_is_cut_off() -> None:
    with watched_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (HERE, 1))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == reach.UNHEARD * 1000
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < reach.UNHEARD
