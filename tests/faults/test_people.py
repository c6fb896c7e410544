"""People change their mind: fast, and at the worst moment."""

import threading
import time as clock
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from django.db import connection

from cortex.catalog.models import Model
from cortex.fleet.models import Seat
from cortex.fleet.states import Observed, Phase
from cortex.orchestration import orders
from cortex.orchestration.fetch import fetch
from cortex.orchestration.reconcile import reconcile
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.faults.record import Record
from tests.orchestration.conftest import CUDA_IMAGE, Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.fixture
def card(loop: Loop, world: World) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))


@pytest.mark.fault(7)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("card")
def test_start_and_stop_fifty_times_while_the_loop_runs_ends_stopped(
    define: Define, loop: Loop, world: World, record: Record
) -> None:
    replica = loop.replica(define().name)
    over = threading.Event()

    def keep_looking() -> None:
        try:
            while not over.is_set():
                reconcile(replica.id, loop.here)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(keep_looking) for _ in range(2)]
        for number in range(50):
            orders.start("tiny", None)
            clock.sleep(0.2 if number % 10 == 0 else 0.01)
            orders.stop("tiny", None)
        with record.convergence():
            until = clock.monotonic() + 10
            while loop.replica().phase is not Phase.STOPPED or loop.containers():
                assert clock.monotonic() < until
                clock.sleep(0.01)
            over.set()
            [future.result() for future in looking]
    replica = loop.replica()
    assert (replica.turn, Seat.objects.count()) == (replica.model.turn, 0)
    begun, run = replica.attempts.count(), replica.attempts.filter(started_at__isnull=False).count()
    record.saw(f"Of 50 starts {begun} were taken up and {run} came to run; in the end {replica.phase}, nothing left.")
    record.check(loop.here)


@pytest.mark.fault(8)
@pytest.mark.usefixtures("card")
def test_a_stop_during_a_pull_cancels_it(
    define: Define, loop: Loop, world: World, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.open() as scene:
        scene.images.clear()
    world.script(CUDA_IMAGE, Script(pull_seconds=600))
    define()
    fetching = loop.look()
    assert fetching.observed == Observed.FETCHING
    steps: list[float] = []
    stopped: list[datetime] = []

    def pass_and_stop(seconds: float) -> None:
        time.pass_(seconds)
        monkeypatch.setattr("cortex.orchestration.fetch.time.monotonic", lambda: 1e9 * len(steps))
        steps.append(seconds)
        if len(steps) == 3:
            orders.stop("tiny", None)
            stopped.append(time.now())
            loop.look()

    monkeypatch.setattr(world, "sleep", pass_and_stop)
    fetch(fetching, loop.here)
    record.took((time.now() - stopped[0]).total_seconds(), 0)
    replica = loop.look()
    assert (replica.phase, loop.containers(), Seat.objects.count()) == (Phase.STOPPED, [], 0)
    assert len(steps) < 5
    record.saw(f"During a pull: it ended after {len(steps)} of 10 parts, and nothing was started.")
    record.check(loop.here)


@pytest.mark.fault(8)
@pytest.mark.usefixtures("card")
def test_a_stop_during_a_create_starts_nothing(
    define: Define, loop: Loop, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    create = loop.here.runtime.create

    def stop_meanwhile(*args: Any) -> str:
        made = create(*args)
        orders.stop("tiny", None)
        return made

    monkeypatch.setattr(loop.here.runtime, "create", stop_meanwhile)
    with record.convergence():
        replica = loop.look()
    started = replica.attempts.get().started_at
    assert (replica.phase, started, loop.containers(), Seat.objects.count()) == (Phase.STOPPED, None, [], 0)
    record.saw(f"During a create: the container was removed unstarted; it is {replica.phase}.")
    record.check(loop.here)


@pytest.mark.fault(8)
@pytest.mark.usefixtures("card")
def test_a_stop_during_a_load_ends_it(define: Define, loop: Loop, world: World, record: Record) -> None:
    world.script(CUDA_IMAGE, Script(load=600))
    define()
    assert loop.look().observed == Observed.LOADING
    orders.stop("tiny", None)
    at_once = loop.replica().phase
    with record.convergence():
        replica = loop.look()
    assert (at_once, replica.phase) == (Phase.DRAINING, Phase.STOPPED)
    assert (loop.containers(), Seat.objects.count()) == ([], 0)
    record.saw(f"During a load: people saw it {at_once} before anybody looked, then {replica.phase}.")
    record.check(loop.here)
