"""Ports that somebody else has: Docker chooses another, and a start that failed over one leaves nothing."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cortex.catalog.models import Model
from cortex.fleet.states import Observed
from cortex.runtime import answers
from cortex.runtime.contract import Health
from engines.contract import Probe
from tests.faults.record import Record
from tests.orchestration.conftest import Loop, Time
from tests.runtime.benches import DockerBench
from tests.runtime.test_contract import look, made, until

Define = Callable[..., Model]

TAKEN = 3
SAID = (
    "driver failed programming external connectivity on endpoint x: Error starting userland proxy: "
    "listen tcp4 127.0.0.1:32768: bind: address already in use"
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DockerBench]:
    bench = DockerBench(tmp_path)
    try:
        yield bench
    finally:
        bench.clear()


def port_of(bench: DockerBench, container_id: str) -> int:
    address = look(bench, container_id).address
    assert address
    return int(address.rpartition(":")[2])


@pytest.mark.fault(44)
@pytest.mark.docker
def test_docker_gives_another_port_where_the_next_ones_are_taken(bench: DockerBench, record: Record) -> None:
    first = made(bench, "serve")
    bench.runtime.start(first)
    port = port_of(bench, first)
    with ExitStack() as strangers:
        taken = set()
        for number in range(port + 1, port + 1 + TAKEN):
            stranger = strangers.enter_context(socket.socket())
            stranger.bind(("127.0.0.1", number))
            stranger.listen()
            taken.add(number)
        second = made(bench, "serve")
        with record.convergence():
            bench.runtime.start(second)
            until(lambda: bench.runtime.probe(look(bench, second), Probe()) is Health.READY)
        assert port_of(bench, second) not in taken | {port}
    record.saw(f"With the next {TAKEN} ports taken by other programs, the container answered on the one after them.")
    record.checked([])


@pytest.mark.fault(44)
@pytest.mark.django_db
def test_a_start_that_failed_over_its_port_is_tidied_up_and_tried_again(
    define: Define, loop: Loop, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = loop.here.runtime.start
    tries: list[str] = []

    def taken(container_id: str) -> None:
        tries.append(container_id)
        if len(tries) == 1:
            raise answers.fault(500, SAID)
        start(container_id)

    monkeypatch.setattr(loop.here.runtime, "start", taken)
    define()
    with record.convergence(lambda: time.at.timestamp()):
        replica = loop.look()
        assert "address already in use" in replica.reason
        assert (replica.observed, replica.gave_up, loop.containers()) == (Observed.ABSENT, False, [])
        time.pass_(11)
        assert loop.look().observed == Observed.READY
    assert len(set(tries)) == 2
    record.saw("Should Docker find none, that is the reason, its container goes, and a new one starts 10 s later.")
    record.check(loop.here)
