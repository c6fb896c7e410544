"""Several at once, in threads of their own: a row that moves while its seat is taken, people and loops side by side."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Host, Overtaken, Replica, Seat
from cortex.orchestration import fsck, host_orders, hosts, orders, seats, settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.world import World
from tests.orchestration.conftest import GIB, Loop
from tests.orchestration.test_changes import Define, other_host, two_cards
from tests.orchestration.test_replacing import NEWER, newer, serves, violations

__all__ = ["newer"]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_moves_while_its_seat_is_taken_has_it_where_it_is(
    define: Define, loop: Loop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """settle() looks whether anything is held here, and sends it to another host; take() comes in between."""
    two_cards(loop, world, "L40S")
    define(gpus=1, desired="stopped")
    Replica.objects.update(host=loop.here.host)
    there = other_host()
    Gpu.objects.create(uuid="GPU-9", host=there, name="L40S", total=48 * GIB)
    Model.objects.update(desired="running")
    Host.objects.filter(name="test").update(condition="Its disk is full.")
    replica = loop.replica()
    looked, taken = threading.Event(), threading.Event()
    choose = settle.choose_host

    def slowly(*words: Any) -> Any:
        looked.set()
        taken.wait(1)
        return choose(*words)

    def move() -> None:
        try:
            settle.settle(replica.model_id)
        finally:
            connection.close()

    monkeypatch.setattr(settle, "choose_host", slowly)
    mover = threading.Thread(target=move)
    mover.start()
    assert looked.wait(5)
    with suppress(seats.NoSeat, Overtaken):
        seats.take(replica, 1000)
    taken.set()
    mover.join()
    replica.refresh_from_db()
    assert replica.host == there
    assert all(seat.gpu.host_id == replica.host_id for seat in Seat.objects.select_related("gpu"))
    assert not [each for each in fsck.rows() if each.rule == 3]


EDITS: list[dict[str, Any]] = [
    {"image": NEWER},
    {"image": ""},
    {"options": {"batch_size": 64}},
    {"options": {}},
    {"replicas": 2},
    {"replicas": 1},
    {"placement": {"spread": True}},
    {"placement": {"cards": ["GPU-1"]}},
    {"placement": {"cards": None, "hosts": ["test"], "spread": None}},
    {"placement": {"cards": None, "hosts": None}},
]


def keep_editing(number: int) -> bool:
    for step in range(10):
        orders.revise("tiny", EDITS[(number * 3 + step * 7) % len(EDITS)], None)
        if step % 3 == number % 3:
            host_orders.revise("test", {"labels": {"zone": f"{number}"}, "cordoned": step % 2 == 0}, None)
    return True


def keep_sweeping(loop: Loop, over: threading.Event) -> bool:
    """Whether somebody served whenever it looked."""
    served = True
    while not over.is_set():
        sweep(loop.here)
        served = served and bool(serves(loop))
    return served


def closing(work: Callable[[], bool]) -> bool:
    try:
        return work()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_fifty_edits_by_five_people_while_the_loop_runs(
    define: Define, loop: Loop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_cards(loop, world, "L40S", "L40S")
    define(gpus=1)
    loop.settle()
    over = threading.Event()
    monkeypatch.setattr(orders, "poke", lambda model: None)
    monkeypatch.setattr(host_orders, "poke", lambda model: None)
    with ThreadPoolExecutor(7) as pool:
        workers = [pool.submit(closing, partial(keep_sweeping, loop, over)) for _ in range(2)]
        people = [pool.submit(closing, partial(keep_editing, number)) for number in range(5)]
        wait(people)
        over.set()
    assert [each.exception() for each in (*people, *workers)] == [None] * 7
    assert all(worker.result() for worker in workers), "nobody served at some moment"
    host_orders.revise("test", {"cordoned": False}, None)
    loop.time.pass_(timedelta(minutes=6).total_seconds())
    for _ in range(12):
        hosts.register(loop.here)
        sweep(loop.here)
    model = Model.objects.get()
    assert len(serves(loop)) == model.replicas == len(loop.here.runtime.find())
    assert Replica.objects.count() == model.replicas
    assert violations(loop) == []
