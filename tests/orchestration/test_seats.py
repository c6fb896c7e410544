"""Seats under pressure: fifty threads at once, one launch a card, and nothing promised twice."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from cortex import placement
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Replica, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import seats
from cortex.orchestration.effects import watched
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.faults.record import Record
from tests.orchestration.conftest import CUDA_IMAGE, GIB, Loop, Time

Define = Callable[..., Model]
THREADS, REPLICAS, CARDS = 50, 10, 4


@pytest.mark.fault(25)
@pytest.mark.django_db(transaction=True)
def test_fifty_threads_place_ten_exclusive_replicas_on_four_cards(
    define: Define, loop: Loop, world: World, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(CARDS):
        loop.card(f"GPU-{number}", total=2 * GIB)
        world.add_gpus(ImaginaryGpu(uuid=f"GPU-{number}"))
    monkeypatch.setattr(seats, "need", lambda replica, size: placement.Need(2 * GIB, gpus=1))
    define(gpus=1, replicas=REPLICAS)
    Replica.objects.update(host=loop.here.host)
    ids = list(Replica.objects.values_list("id", flat=True))
    gate = threading.Barrier(THREADS)

    def race(number: int) -> None:
        try:
            gate.wait(30)
            reconcile(ids[number % REPLICAS], loop.here)
        finally:
            connection.close()

    with record.convergence(), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(race, range(THREADS)))
    assert Replica.objects.filter(observed=Observed.READY).count() == CARDS
    assert sorted(Seat.objects.values_list("gpu_id", flat=True)) == [f"GPU-{n}" for n in range(CARDS)]
    assert len(loop.containers()) == CARDS
    assert all(gpu.reserved == gpu.total for gpu in Gpu.objects.all())
    waiting = Replica.objects.exclude(observed=Observed.READY)
    assert all("free" in replica.reason and replica.failures == 0 for replica in waiting)
    record.saw(f"{len(loop.containers())} run, one on each card; {len(waiting)} wait, each told what is free.")
    record.check(loop.here)


@pytest.mark.django_db(transaction=True)
def test_many_who_settle_one_model_at_once_make_each_row_once(define: Define, loop: Loop) -> None:
    model = define(replicas=1)
    Model.objects.update(replicas=5)
    gate = threading.Barrier(8)

    def race(_: int) -> int:
        try:
            gate.wait(30)
            return len(settle(model.id))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(race, range(8))) == [5] * 8
    assert sorted(Replica.objects.values_list("slot", flat=True)) == [0, 1, 2, 3, 4]


@pytest.mark.django_db
def test_one_launch_at_a_time_on_a_card_and_the_next_once_memory_settled(
    define: Define, loop: Loop, world: World, time: Time
) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    world.script(CUDA_IMAGE, Script(load=10))
    define(replicas=2, gpus=1)
    sweep(loop.here)
    assert [loop.replica(slot=slot).observed for slot in (0, 1)] == [Observed.LOADING, Observed.ABSENT]
    assert "one launch at a time" in loop.replica(slot=1).reason
    Gpu.objects.update(seen_at=time.now())
    time.pass_(11)
    sweep(loop.here)
    sweep(loop.here)
    assert [loop.replica(slot=slot).observed for slot in (0, 1)] == [Observed.READY, Observed.ABSENT]
    Gpu.objects.update(seen_at=time.now())
    sweep(loop.here)
    assert loop.replica(slot=1).observed == Observed.LOADING


@pytest.mark.django_db
def test_a_card_that_is_no_longer_sampled_does_not_hold_up_the_next_launch_for_ever(
    define: Define, loop: Loop, world: World, time: Time
) -> None:
    loop.card(seen_at=time.now())
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    time.pass_(1)
    define(replicas=2, gpus=1)
    sweep(loop.here)
    sweep(loop.here)
    assert "one launch at a time" in loop.replica(slot=1).reason
    time.pass_(seats.SEEN_WITHIN.total_seconds())
    sweep(loop.here)
    assert loop.replica(slot=1).observed == Observed.READY


@pytest.mark.django_db
def test_two_starts_that_were_cut_short_do_not_wait_for_each_other(define: Define, loop: Loop, world: World) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define(replicas=2, gpus=1)
    assert loop.look(slot=0).observed == Observed.READY
    with pytest.raises(KeyboardInterrupt), watched(_dies_before_create):
        loop.look(slot=1)
    world.end(loop.replica(slot=0).container_name, 1)
    for _ in range(2):
        sweep(loop.here)
    assert {loop.replica(slot=slot).observed for slot in (0, 1)} == {Observed.READY}


def _dies_before_create(effect: str, moment: str) -> None:
    if effect == "create":
        raise KeyboardInterrupt


@pytest.mark.django_db
def test_what_strangers_use_is_not_given_away_and_named(define: Define, loop: Loop) -> None:
    loop.card(used=47 * GIB, pids=[4711])
    Gpu.objects.update(total=48 * GIB)
    card = seats.cards(Gpu.objects.all())[0]
    assert (card.free, card.foreign, card.pids) == (GIB, 47 * GIB, (4711,))


@pytest.mark.django_db
def test_more_cards_wanted_than_held_is_a_change(define: Define, loop: Loop, world: World) -> None:
    for number in range(2):
        loop.card(f"GPU-{number}", index=number)
        world.add_gpus(ImaginaryGpu(uuid=f"GPU-{number}"))
    define(gpus=1)
    loop.look()
    loop.look()
    define(gpus=2)
    loop.settle()
    assert loop.look().observed == Observed.READY
    assert [container.gpus for container in loop.here.runtime.find()] == [("GPU-0", "GPU-1")]


@pytest.mark.django_db
def test_seats_of_a_replica_taken_up_anew_are_not_freed(define: Define, loop: Loop, world: World) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    slow = loop.replica()
    loop.look()
    seats.free(slow)
    assert Seat.objects.count() == 1
