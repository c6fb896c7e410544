"""An engine that prints without end: lines are capped and cleaned, memory stays flat, other logs are not held up."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cortex.orchestration.shipping import A_SECOND, Shipper
from cortex.runtime.answers import LONGEST_LINE
from cortex.runtime.contract import Label
from cortex.telemetry import logs
from tests.faults.record import Record
from tests.runtime.benches import DockerBench

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.timeout(200)]

NASTY = r"echo -e '\xff\xfe \033[31m<script>alert(1)</script>\033[0m \x07done'"
LINE = "dd if=/dev/zero bs=1M count=300 2>/dev/null; echo"
FLOOD = f"{NASTY}; {LINE}; {NASTY}; while :; do seq 1 100000; done"
CALM = "n=0; while :; do n=$((n+1)); echo calm $n; sleep 0.2; done"
FOR = 12.0
ROOM = 64 << 20


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DockerBench]:
    bench = DockerBench(tmp_path)
    try:
        yield bench
    finally:
        bench.clear()


def resident() -> int:
    """Bytes of memory that this process has."""
    kilobytes = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes[1]) << 10 if kilobytes else 0


@pytest.mark.fault(43)
@pytest.mark.django_db(transaction=True)
def test_a_flood_is_capped_and_the_calm_is_heard(broker: str, bench: DockerBench, record: Record) -> None:
    flood, calm = uuid4(), uuid4()
    for replica, script in ((flood, FLOOD), (calm, CALM)):
        labels = {Label.REPLICA: replica.hex, Label.ATTEMPT: "1"}
        spec = bench.spec("sleep", argv=("sh", "-c", script))
        bench.runtime.start(bench.runtime.create(bench.name(), spec, labels))
    shipper, stop = Shipper(bench.runtime), threading.Event()
    writer = threading.Thread(target=shipper.write, args=(stop,))
    before, spent = resident(), time.process_time()
    shipper.follow(bench.runtime.find())
    writer.start()
    time.sleep(FOR)
    grown, spent = resident() - before, time.process_time() - spent
    heard, told = logs.tail(calm, 500), logs.tail(flood, 20_000)
    lag = time.time() - heard[-1].stamp / 1e9
    bench.clear()
    shipper.follow(bench.runtime.find())
    for thread in shipper._followers.values():
        thread.join(20)
    stop.set()
    writer.join(10)
    assert not any(thread.is_alive() for thread in shipper._followers.values())
    assert (grown < ROOM, lag < 3) == (True, True), (grown, lag)
    assert len(heard) > FOR / 0.2 / 2
    assert max(len(entry.text) for entry in told) <= LONGEST_LINE
    assert all(entry.text.isprintable() for entry in told)
    record.saw(f"A line of 300 MB, then lines without end: {grown >> 20} MiB more, and {spent / FOR:.0%} of a core.")
    record.saw(f"At most {A_SECOND} lines a second are read; the calm log beside it was {lag:.1f} s behind.")
    record.took(FOR, 0)
    record.checked([])
