"""Docker freezes, restarts, or stops telling what happens."""

import time as walls
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from docker import APIClient

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.fleet.models import Replica, Seat
from cortex.fleet.states import Observed, Phase
from cortex.orchestration.sweep import sweep
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.conftest import rest_client
from tests.fakes.images import bad_engine
from tests.faults.conftest import Process
from tests.faults.record import Record
from tests.faults.yard import Yard, docker
from tests.orchestration.conftest import CUDA_IMAGE, Loop, Time

Define = Callable[..., Model]

NAMES = ("a", "b", "c")


@pytest.mark.fault(9)
@pytest.mark.docker
@pytest.mark.django_db
def test_a_frozen_engine_makes_replicas_unknown_and_no_door_slow(yard: Yard, bob: Person, record: Record) -> None:
    for name in NAMES:
        yard.define(name)
        yard.until(Observed.READY, name)
    before, client = set(yard.containers()), rest_client(bob)
    client.get("/api/v1/models")
    yard.proxy.hold = " /"
    began = walls.monotonic()
    sweep(yard.here)
    swept = walls.monotonic() - began
    replica = yard.look("a")
    looked = walls.monotonic() - began - swept
    began = walls.monotonic()
    told = client.get("/api/v1/models/a").json()
    answered = walls.monotonic() - began
    assert (replica.observed, told["status"]["phase"]) == (Observed.UNKNOWN, Phase.UNKNOWN)
    assert max(swept, looked) < 10
    assert answered < 0.5
    words = f"a sweep took {swept:.1f} s, a look {looked:.1f} s, a REST answer {answered * 1000:.0f} ms"
    record.saw(f"{replica.observed}, {replica.failures} failures; {words}.")
    yard.proxy.hold = ""
    with record.convergence():
        sweep(yard.here)
        for name in NAMES:
            yard.until(Observed.READY, name)
    assert set(yard.containers()) == before
    record.check(yard.here)


@pytest.mark.fault(9)
@pytest.mark.django_db
def test_a_frozen_engine_keeps_its_seats(define: Define, loop: Loop, world: World, record: Record) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    loop.look()
    loop.look()
    world.take_down()
    sweep(loop.here)
    kept = Seat.objects.count()
    assert (loop.look().observed, kept) == (Observed.UNKNOWN, 1)
    world.bring_up()
    with record.convergence():
        sweep(loop.here)
    record.saw(f"{kept} of 1 seats kept meanwhile; {loop.replica().observed} when it answers again.")
    record.check(loop.here)


@pytest.mark.fault(10)
@pytest.mark.docker
@pytest.mark.django_db
def test_an_engine_that_ended_everything_gets_it_back_and_one_that_kept_it_is_left_alone(
    yard: Yard, record: Record
) -> None:
    """A restart as its clients see it: nobody answers for a while, and then all containers have ended, or none."""
    for name in NAMES:
        yard.define(name)
        yard.until(Observed.READY, name)
    before = {container.id for container in yard.here.runtime.find()}
    with away(yard), record.convergence():
        sweep(yard.here)
    with record.convergence():
        sweep(yard.here)
    kept = {container.id for container in yard.here.runtime.find()}
    assert kept == before
    record.saw(f"With live-restore {len(kept & before)} of {len(before)} containers run on, none restarted.")
    with away(yard):
        sweep(yard.here)
        docker("kill", *before)
    with record.convergence():
        sweep(yard.here)
        back = [yard.until(Observed.READY, name) for name in NAMES]
    assert not before & {container.id for container in yard.here.runtime.find()}
    record.saw(f"Without it {sum(replica.observed == Observed.READY for replica in back)} were started again.")
    record.check(yard.here)


@contextmanager
def away(yard: Yard) -> Iterator[None]:
    yard.proxy.hold = " /"
    yield
    yard.proxy.hold = ""


@pytest.mark.fault(10)
@pytest.mark.django_db
def test_what_ended_together_starts_one_by_one_on_a_card(
    define: Define, loop: Loop, world: World, time: Time, record: Record
) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    world.script(CUDA_IMAGE, Script(load=10))
    define(replicas=4, gpus=1)

    def starting() -> int:
        return Replica.objects.filter(observed=Observed.LOADING).count()

    def go_on() -> int:
        most, serving = 0, 0
        while serving < 4:
            sweep(loop.here)
            most, serving = max(most, starting()), Replica.objects.filter(observed=Observed.READY).count()
            time.pass_(6)
            loop.here.host.gpus.update(seen_at=time.now())
        return most

    go_on()
    for name in loop.containers():
        world.end(name)
    with record.convergence(lambda: time.now().timestamp()):
        most = go_on()
    assert most == 1
    record.saw(f"Of four on one card never more than {most} started at a time.")
    record.check(loop.here)


@pytest.mark.fault(11)
@pytest.mark.docker
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["it is cut", "it is half open", "300 events are not heard"])
def test_what_the_event_stream_does_not_tell_is_found(way: str, yard: Yard, agent: Process, record: Record) -> None:
    yard.define()
    wait_for(Observed.READY)
    if way == "it is cut":
        yard.proxy.cut = ("/events", 1)
    else:
        yard.proxy.hold = "/events"
    yard.proxy.hang_up("/events")
    if way.startswith("300"):
        flood()
    began, before = walls.monotonic(), yard.changes()
    docker("kill", yard.container())
    while Replica.objects.get().attempts.count() == 1:
        assert walls.monotonic() - began < 30
        walls.sleep(0.05)
    seen = walls.monotonic() - began
    wait_for(Observed.READY)
    record.took(walls.monotonic() - began, yard.changes() - before)
    record.saw(f"When {way}, a killed container was found after {seen:.1f} s.")
    yard.proxy.hold, yard.proxy.cut = "", ("", 0)
    record.check(yard.here)


def wait_for(observed: Observed) -> None:
    until = walls.monotonic() + 30
    while Replica.objects.get().observed != observed:
        assert walls.monotonic() < until
        walls.sleep(0.05)


def flood() -> None:
    """More than Docker remembers, about a container that is not ours."""
    client = APIClient()
    name = docker("create", "--name", "cortex-test-flood", bad_engine())
    try:
        for number in range(300):
            client.rename(name, f"cortex-test-flood-{number}")
    finally:
        client.remove_container(name)
        client.close()
