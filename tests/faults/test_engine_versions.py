"""Docker Engines that are older or newer than Cortex knows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Host
from cortex.fleet.states import Observed
from cortex.orchestration import hosts
from cortex.orchestration.runtimes import Here
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Health
from cortex.runtime.docker import DockerRuntime
from engines.contract import Probe
from tests.fakes.skew import SkewedDocker
from tests.faults.record import Record
from tests.orchestration.conftest import Loop, Time
from tests.runtime.benches import SOCKET, DockerBench
from tests.runtime.test_contract import look, until

Define = Callable[..., Model]

pytestmark = [pytest.mark.docker, pytest.mark.django_db]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DockerBench]:
    bench = DockerBench(tmp_path)
    try:
        yield bench
    finally:
        bench.clear()


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[SkewedDocker]:
    docker = SkewedDocker(tmp_path / "skewed.sock")
    try:
        yield docker
    finally:
        docker.close()


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"), [("1.40", "1.12", "1.40"), ("1.44", "1.24", "1.44"), ("1.52", "1.44", "1.45")]
)
def test_a_container_lives_its_life_on_an_engine_of_another_version(
    bench: DockerBench, docker: SkewedDocker, record: Record, newest: str, oldest: str, spoken: str
) -> None:
    docker.newest, docker.oldest = newest, oldest
    bench.runtime = DockerRuntime(docker.url, bench.install, bench.models)
    runtime = bench.runtime
    with record.convergence():
        container = runtime.create(bench.name(), bench.spec("serve"), {})
        runtime.start(container)
        until(lambda: runtime.probe(look(bench, container), Probe()) is Health.READY)
        runtime.stop(container, 1)
        runtime.remove(container)
    assert runtime.find() == []
    paths = [line.split()[1] for line in docker.heard if "/version" not in line]
    assert {path.split("/")[1] for path in paths} == {f"v{spoken}"}
    record.saw(f"One that speaks {oldest} to {newest} was spoken to in {spoken}, for a container's whole life.")
    record.check()


@pytest.mark.fault(47)
def test_an_engine_too_old_is_the_hosts_condition_and_what_it_runs_is_not_touched(
    define: Define, loop: Loop, time: Time, docker: SkewedDocker, record: Record, tmp_path: Path
) -> None:
    with loop.world.open() as scene:  # one machine, seen in two ways
        facts = DockerRuntime(SOCKET, "skewed", tmp_path).facts()
        scene.name, scene.identity = facts.name, facts.identity
    define()
    assert loop.look().observed == Observed.READY
    docker.newest, docker.oldest = "1.39", "1.12"
    runtime = DockerRuntime(docker.url, "skewed", tmp_path)
    skewed = Here(loop.here.host, runtime, loop.here.cards)
    assert not hosts.register(skewed)
    sweep(skewed)
    replica, condition = loop.replica(), Host.objects.get().condition
    assert "Cortex needs an engine that speaks one of 1.40 to 1.45" in condition
    assert (replica.observed, replica.attempts.count()) == (Observed.UNKNOWN, 1)
    define("other")
    assert "Cortex needs" in loop.replica("other").reason
    docker.newest = docker.oldest = ""
    assert hosts.register(skewed)
    with record.convergence():
        sweep(loop.here)
    assert loop.replica().observed == Observed.READY
    record.saw(f"“{condition}” What ran there was left alone; with a newer engine it went on, without a restart.")
    record.check(loop.here)
