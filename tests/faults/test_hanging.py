"""Engines that do not compute, do not end, or take long, while everything about them looks well."""

import time as walls
from collections.abc import Callable
from uuid import UUID

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import orders, seats
from cortex.orchestration.hanging import DOUBTED_AFTER, STILL_FOR, TRIES, Doubts
from cortex.orchestration.stopping import KILL_AGAIN
from cortex.orchestration.sweep import at_once, sweep
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from cortex.telemetry import inflight
from tests.faults.record import Record
from tests.faults.yard import Yard
from tests.orchestration.conftest import CUDA_IMAGE, IMAGE, Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.fixture
def silences(monkeypatch: pytest.MonkeyPatch) -> dict[UUID, int]:
    """What the gateways tell of replicas that keep requests waiting."""
    told: dict[UUID, int] = {}
    monkeypatch.setattr(inflight, "silences", lambda asked: {id: told[id] for id in asked if id in told})
    return told


@pytest.mark.fault(20)
def test_an_engine_that_ignores_term_is_killed_after_its_grace(
    define: Define, loop: Loop, world: World, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    world.script(CUDA_IMAGE, Script(ignores_term=True))
    define()
    loop.look()
    loop.look()
    held: list[int] = []
    orders.stop("tiny", None)
    sleep = world.sleep

    def sleep_and_count(seconds: float) -> None:
        held.append(Seat.objects.count())
        sleep(seconds)

    monkeypatch.setattr(world, "sleep", sleep_and_count)
    with record.convergence(lambda: time.now().timestamp()):
        replica = loop.look()
    assert (replica.observed, loop.containers(), held, Seat.objects.count()) == (Observed.ABSENT, [], [1], 0)
    attempt = replica.attempts.get()
    record.saw(f"{attempt.reason} Exit status {attempt.exit_code}; its seat was held until then, and is free now.")
    record.check(loop.here)


@pytest.mark.slow
@pytest.mark.fault(20)
@pytest.mark.docker
def test_a_real_process_that_ignores_term_is_killed_after_its_grace(yard: Yard, record: Record) -> None:
    yard.define("tiny", "--ignore-term")
    replica = yard.until(Observed.READY)
    grace = replica.attempts.get().spec["stop_grace"]
    orders.stop("tiny", None)
    with record.convergence():
        began = walls.monotonic()
        replica = yard.until(Observed.ABSENT)
        took = walls.monotonic() - began
    assert grace <= took < grace + 5
    assert replica.attempts.get().exit_code == 137
    record.saw(f"A real process with a grace of {grace:.0f} s was gone after {took:.1f} s.")
    record.check(yard.here)


@pytest.mark.fault(21)
@pytest.mark.docker
@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_killed_is_stuck_and_holds_nobody_up(yard: Yard, record: Record) -> None:
    yard.define("stuck")
    yard.define("other", gpus=0)
    replica = yard.until(Observed.READY, "stuck")
    yard.until(Observed.READY, "other")
    card = yard.card()
    Seat.objects.create(replica=replica, gpu=card, bytes=card.total // 2)
    Gpu.objects.update(reserved=card.total // 2)
    yard.proxy.hold = f"/{replica.attempts.get().container_id}/"
    yard.proxy.only = ("/stop", "/kill")
    orders.stop("stuck", None)
    with record.convergence(yard.now):
        for _ in range(8):
            sweep(yard.here, at_once)
            yard.ahead += 30
    replica = yard.replica("stuck")
    kills = sum("/kill" in line for line in yard.proxy.heard)
    assert (replica.observed, kills) == (Observed.STOPPING, 1)
    assert "stuck" in replica.reason
    assert seats.cards([card])[0].free == 0
    record.saw(f"{replica.reason} {kills} KILL in 4 minutes.")
    began = walls.monotonic()
    orders.stop("other", None)
    other = yard.until(Observed.ABSENT, "other")
    record.saw(f"Meanwhile another model was stopped in {walls.monotonic() - began:.1f} s: {other.reason}")
    yard.proxy.hold = ""
    yard.ahead += KILL_AGAIN.total_seconds()
    replica = yard.until(Observed.ABSENT, "stuck")
    assert Seat.objects.count() == 0
    record.saw(f"Once it could be killed: {replica.reason}")
    record.check(yard.here)


@pytest.mark.fault(22)
def test_an_engine_without_a_pulse_is_replaced(
    define: Define, loop: Loop, world: World, time: Time, silences: dict[UUID, int], record: Record
) -> None:
    world.script(IMAGE, Script(mute_after=0))
    define()
    loop.look()
    replica = loop.look()
    silences[replica.id] = DOUBTED_AFTER
    doubts, asked = Doubts(loop.here), 0
    with record.convergence(lambda: time.now().timestamp()):
        while loop.replica().attempts.count() == 1:
            doubts.look()
            asked += 1
            time.pass_(20)
            assert asked < 20
    world.script(IMAGE, Script())
    replica = loop.look()
    ended = replica.attempts.get(number=1)
    assert asked >= TRIES
    assert (replica.observed, ended.exit_code is not None) == (Observed.READY, True)
    record.saw(f"{ended.reason} Its pulse was felt {asked} times, then replaced: {replica.observed}.")
    record.check(loop.here)


@pytest.mark.fault(22)
def test_a_busy_engine_whose_log_goes_on_is_left_alone(
    define: Define, loop: Loop, world: World, time: Time, silences: dict[UUID, int], record: Record
) -> None:
    world.script(IMAGE, Script(mute_after=0))
    define()
    loop.look()
    replica = loop.look()
    silences[replica.id] = DOUBTED_AFTER
    doubts, changes = Doubts(loop.here), len(world.changes())
    for number in range(60):
        if number % 5 == 0:
            world.write(replica.container_name, f"prompt processing progress {number}")
        doubts.look()
        time.pass_(20)
    assert len(world.changes()) == changes
    assert loop.look().observed == Observed.READY
    record.saw("A busy one that took 20 minutes for a prompt, its log going on, was left alone.")
    record.check(loop.here)


@pytest.mark.fault(22)
@pytest.mark.docker
def test_a_real_server_that_hangs_is_told_from_one_that_is_slow(
    yard: Yard, silences: dict[UUID, int], record: Record
) -> None:
    flags = {"hangs": ("--hang",), "slow": ("--slow", "3"), "well": ()}
    for name, more in flags.items():
        yard.define(name, *more)
        silences[yard.until(Observed.READY, name).id] = DOUBTED_AFTER
    before = {container.id for container in yard.here.runtime.find()}
    doubts = Doubts(yard.here)
    with record.convergence(yard.now):
        for _ in range(TRIES):
            doubts.look()
            yard.ahead += STILL_FOR.total_seconds() / 2
        yard.until(Observed.READY, "hangs")
    kept = {yard.replica(name).attempts.count() for name in ("slow", "well")}
    assert (yard.replica("hangs").attempts.count(), kept) == (2, {1})
    assert len(before & {container.id for container in yard.here.runtime.find()}) == 2
    record.saw("On real Docker the one that hung was replaced; a slow one and a quick one kept their containers.")
    record.check(yard.here)


@pytest.mark.fault(23)
def test_ten_minutes_of_loading_with_progress_are_waited_for(
    define: Define, loop: Loop, world: World, time: Time, record: Record
) -> None:
    world.script(IMAGE, Script(load=590))
    define()
    loop.look()
    with record.convergence(lambda: time.now().timestamp()):
        while (replica := loop.look()).observed == Observed.LOADING:
            world.write(replica.container_name, f"loaded {time.now():%M:%S}")
            time.pass_(30)
    assert (replica.observed, replica.attempts.count()) == (Observed.READY, 1)
    record.saw(f"With progress in its log it was {replica.observed} in its first attempt.")
    record.check(loop.here)


@pytest.mark.fault(23)
@pytest.mark.parametrize("writes", [False, True], ids=["stalled", "for ever"])
def test_a_load_that_is_given_up_says_how_long_it_was_given(
    writes: bool, define: Define, loop: Loop, world: World, time: Time, record: Record
) -> None:
    world.script(IMAGE, Script(load=1e6))
    define()
    began = time.now()
    while not (replica := loop.look()).failures:
        if writes:
            world.write(replica.container_name, f"loaded {time.now():%M:%S}")
        time.pass_(30)
    reason = replica.attempts.get().reason
    assert ("printed nothing" in reason) is not writes
    record.saw(f"After {(time.now() - began).total_seconds():.0f} s: {reason}")
    record.check(loop.here)


@pytest.mark.fault(24)
@pytest.mark.docker
@pytest.mark.parametrize(("manner", "observed"), [("dribble", "loading"), ("flood", "ready"), ("redirect", "loading")])
def test_a_health_endpoint_cannot_hurt_who_asks(manner: str, observed: str, yard: Yard, record: Record) -> None:
    yard.define("tiny", f"--health={manner}")
    yard.look_until(lambda replica: replica.observed in (Observed.LOADING, Observed.READY))
    walls.sleep(1)
    before, slowest = resident(), 0.0
    with record.convergence():
        for _ in range(3):
            began = walls.monotonic()
            replica = yard.look()
            slowest = max(slowest, walls.monotonic() - began)
    grown = resident() - before
    assert replica.observed == observed
    assert slowest < 8
    assert grown < 20
    record.saw(
        f"*{manner}*: {replica.observed}; the slowest look took {slowest:.1f} s, memory grew by {grown:.0f} MiB."
    )
    record.check(yard.here)


def resident() -> float:
    """MiB of memory that this process has."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
