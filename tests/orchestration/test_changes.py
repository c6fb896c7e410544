"""People who change their minds while something is replaced or placed: what serves goes on, and nothing is left."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F

from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Replica, Seat
from cortex.fleet.states import Observed
from cortex.fleet.status import status
from cortex.orchestration import effects, host_orders, hosts, orders
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Container
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.orchestration.conftest import GIB, Loop
from tests.orchestration.test_replacing import NEWER, leave_no_room, newer, only, serves, serving, violations

__all__ = ["newer", "serving"]
pytestmark = pytest.mark.django_db
Define = Callable[..., Model]


def sides(loop: Loop) -> list[Replica]:
    return list(Replica.objects.select_related("model", "host").order_by("slot", "replaces"))


def other_host(**more: Any) -> Host:
    """A second host that lives, with nothing behind it."""
    return Host.objects.create(name="other", cores=4, memory=8 * GIB, seen_at=clock.now(), **more)


def always_serves(loop: Loop, rounds: int) -> None:
    for _ in range(rounds):
        sweep(loop.here)
        assert serves(loop), [(str(each), each.observed, each.reason) for each in sides(loop)]
        loop.time.pass_(1)


def test_a_third_definition_comes_while_the_second_serves_beside_the_first(
    define: Define, loop: Loop, serving: Container
) -> None:
    define(image=NEWER)
    reconcile(loop.replica().id, loop.here)
    new = Replica.objects.get(replaces__isnull=False)
    reconcile(new.id, loop.here)
    new.refresh_from_db()
    old = Replica.objects.get(replaces=None)
    assert (new.observed, old.observed, old.called_off) == (Observed.READY, Observed.READY, False)
    define(image=NEWER, options={"batch_size": 64})
    reconcile(new.id, loop.here)
    assert Replica.objects.count() == 2, "one successor at a time"
    always_serves(loop, 12)
    assert (Replica.objects.count(), loop.replica().replaces) == (1, None)
    assert "64" in loop.replica().attempts.get(ended_at=None).spec["argv"]
    assert violations(loop) == []


def test_a_link_in_the_middle_may_go_first(define: Define, loop: Loop, serving: Container) -> None:
    """The oldest is out of sight, so that the second was replaced itself."""
    old = loop.replica()
    second = Replica.objects.create(model=old.model, slot=0, host=loop.here.host, replaces=old)
    third = Replica.objects.create(model=old.model, slot=0, host=loop.here.host, replaces=second)
    second.call_off()
    third.refresh_from_db()
    assert (second.replaces, third.replaces) == (None, old)
    second.delete()
    old.call_off()
    third.refresh_from_db()
    assert third.replaces is None


def test_history_that_was_handed_to_one_that_waits_for_room_is_no_fault(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    define(image=NEWER, placement={"hosts": ["nowhere"]})
    loop.settle(2)
    world.end(serving.name)
    loop.settle(3)
    waiting = Replica.objects.get()
    assert (waiting.host, waiting.turn, waiting.attempts.get().turn) == (None, 0, 1)
    assert violations(loop) == []


def test_back_and_forth_while_the_host_of_the_new_one_is_silent(define: Define, loop: Loop, serving: Container) -> None:
    define(image=NEWER)
    reconcile(loop.replica().id, loop.here)
    lost = Replica.objects.get(replaces__isnull=False)
    Replica.objects.filter(id=lost.id).update(host=other_host(cordoned=True), observed=Observed.UNKNOWN)
    define()
    reconcile(loop.replica().id, loop.here)
    lost.refresh_from_db()
    assert lost.called_off
    define(image=NEWER)
    reconcile(loop.replica().id, loop.here)
    assert Replica.objects.filter(replaces=loop.replica()).count() == 1
    always_serves(loop, 8)
    assert only(loop).image == NEWER


def test_an_earlier_stop_does_not_make_an_edit_interrupt_what_serves(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    """It drained when people took the stop back, and changed it."""
    orders.stop("tiny", None)
    Replica.objects.update(draining_at=clock.now())
    orders.start("tiny", None)
    world.script(NEWER, Script(load=3))
    define(image=NEWER)
    reconcile(loop.replica().id, loop.here)
    always_serves(loop, 8)
    assert only(loop).image == NEWER


def test_room_that_comes_while_it_drains_to_make_room_is_used(
    define: Define, loop: Loop, world: World, serving: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_no_room(world)
    hosts.register(loop.here)
    monkeypatch.setattr("cortex.orchestration.stopping.inflight.count", lambda which: 1)
    define(image=NEWER)
    reconcile(loop.replica().id, loop.here)
    assert loop.replica().draining_at
    with world.open() as scene:
        scene.memory *= 4
    hosts.register(loop.here)
    reconcile(loop.replica().id, loop.here)
    assert serves(loop) == {serving.id}
    always_serves(loop, 4)
    assert serves(loop) != {serving.id}


def test_on_a_cordoned_host_nothing_stops_to_make_room_elsewhere(define: Define, loop: Loop, world: World) -> None:
    """On the other host it would fit, were its own second replica not there."""
    define(replicas=2)
    loop.settle()
    there, memory = other_host(), loop.replica().memory
    Replica.objects.filter(slot=1).update(host=there)
    Host.objects.filter(id=there.id).update(reserved=memory, memory=memory)
    Host.objects.filter(id=loop.here.host.id).update(reserved=memory)
    host_orders.revise("test", {"cordoned": True}, None)
    world.script(NEWER, Script(load=3))
    define(replicas=2, image=NEWER)
    for _ in range(6):
        Host.objects.filter(id=there.id).update(seen_at=clock.now())
        reconcile(loop.replica().id, loop.here)
        assert (loop.replica().observed, loop.replica().draining_at) == (Observed.READY, None)
        loop.time.pass_(1)


def test_called_off_and_changed_again_before_any_row_was_settled(
    define: Define, loop: Loop, serving: Container
) -> None:
    define(image=NEWER, placement={"hosts": ["nowhere"]})
    reconcile(loop.replica().id, loop.here)
    orders.revise("tiny", {"image": "", "placement": None}, None)
    reconcile(loop.replica().id, loop.here)
    assert Replica.objects.get(called_off=True).host is None
    orders.revise("tiny", {"image": NEWER}, None)
    reconcile(loop.replica().id, loop.here)
    always_serves(loop, 8)
    assert (Replica.objects.count(), only(loop).image) == (1, NEWER)


@pytest.mark.parametrize("between", range(5))
def test_scaled_down_to_none_and_up_again_during_a_replacement(
    define: Define, loop: Loop, world: World, serving: Container, between: int
) -> None:
    world.script(NEWER, Script(load=2))
    define(image=NEWER)
    loop.settle(2)
    define(image=NEWER, replicas=0)
    loop.settle(between)
    define(image=NEWER)
    loop.settle(12)
    assert serves(loop) == {only(loop).id}
    assert (only(loop).image, Replica.objects.count(), violations(loop)) == (NEWER, 1, [])


def test_a_label_that_goes_during_a_replacement_moves_nothing_that_runs(
    define: Define, loop: Loop, world: World
) -> None:
    host_orders.revise("test", {"labels": {"zone": "a"}}, None)
    define(placement={"labels": {"zone": "a"}})
    loop.settle()
    world.script(NEWER, Script(load=5))
    define(image=NEWER, placement={"labels": {"zone": "a"}})
    loop.settle(3)
    ids = {found.id for found in loop.here.runtime.find()}
    assert len(ids) == 2
    host_orders.revise("test", {"labels": {"zone": None}}, None)
    always_serves(loop, 12)
    assert (only(loop).image, only(loop).id in ids) == (NEWER, True)


def two_cards(loop: Loop, world: World, *kinds: str) -> None:
    for index, kind in enumerate(kinds):
        world.add_gpus(ImaginaryGpu(uuid=f"GPU-{index}", name=kind))
        Gpu.objects.create(uuid=f"GPU-{index}", host=loop.here.host, name=kind, total=48 * GIB, index=index)


def test_a_card_that_vanishes_between_seat_and_create_is_left_and_nothing_is_counted(
    define: Define, loop: Loop, world: World
) -> None:
    two_cards(loop, world, "L40S", "L40S")
    define(gpus=1)

    def vanish(effect: str, moment: str) -> None:
        if (effect, moment) == ("create", effects.Moment.BEFORE):
            with world.open() as scene:
                scene.gpus = [gpu for gpu in scene.gpus if gpu.uuid != Seat.objects.get().gpu_id]
            hosts.sample(loop.here, world.gpus())

    with effects.watched(vanish):
        reconcile(loop.replica().id, loop.here)
    assert "This host has no GPU" in loop.replica().reason
    loop.settle(40)
    assert (loop.replica().observed, loop.replica().failures) == (Observed.READY, 0)
    assert [seat.gpu.missing for seat in Seat.objects.select_related("gpu")] == [False]
    assert set(loop.replica().attempts.values_list("failure", flat=True)) == {0}
    assert violations(loop) == []


def test_a_pin_that_changes_while_the_model_moves_to_it_is_followed(define: Define, loop: Loop, world: World) -> None:
    two_cards(loop, world, "L40S", "L40S", "L40S")
    define(gpus=1, placement={"cards": ["GPU-0"]})
    loop.settle()
    for card in ("GPU-1", "GPU-2", "GPU-0", "GPU-2"):
        define(gpus=1, placement={"cards": [card]})
        always_serves(loop, 2)
    always_serves(loop, 10)
    assert only(loop).gpus == ("GPU-2",)
    assert list(Seat.objects.values_list("gpu_id", flat=True)) == ["GPU-2"]
    assert violations(loop) == []


def test_an_engine_that_does_not_suit_the_files_leaves_what_serves_though_its_cards_change_too(
    define: Define, loop: Loop, world: World
) -> None:
    two_cards(loop, world, "L40S", "L40S")
    define(gpus=1)
    loop.settle()
    Model.objects.update(engine="vllm", gpus=2, turn=F("turn") + 1)
    always_serves(loop, 20)
    assert Replica.objects.get(replaces__isnull=False).gave_up
    assert "vLLM does not load gguf files" in status(loop.replica().model, sides(loop)).reason
    define(gpus=2)
    always_serves(loop, 10)
    assert len(only(loop).gpus) == 2
    assert violations(loop) == []


def test_spread_takes_cards_alike_though_the_emptiest_are_not(define: Define, loop: Loop, world: World) -> None:
    two_cards(loop, world, "L40S", "T4", "L40S")
    Gpu.objects.filter(name="L40S").update(used=20 * GIB)
    define(gpus=2, placement={"spread": True})
    loop.settle(3)
    assert set(Seat.objects.values_list("gpu_id", flat=True)) == {"GPU-0", "GPU-2"}


def test_a_wish_that_contradicts_itself_leaves_what_serves_and_names_both_sides(
    define: Define, loop: Loop, world: World
) -> None:
    two_cards(loop, world, "L40S")
    define(gpus=1)
    loop.settle()
    other_host()
    define(gpus=1, placement={"cards": ["GPU-0"], "hosts": ["other"]})
    for _ in range(4):
        Host.objects.filter(name="other").update(seen_at=clock.now())
        always_serves(loop, 1)
    new = Replica.objects.get(replaces__isnull=False)
    assert "Host test is not one of those it may go to" in new.reason
    assert "There is no GPU GPU-0 here." in new.reason


@pytest.mark.parametrize("close", [{"cordoned": True}, {"draining": True}])
@pytest.mark.parametrize("at", ["take seats", "begin attempt", "note spec", "create", "start"])
def test_a_host_that_is_closed_during_a_start_keeps_its_books(
    define: Define, loop: Loop, close: dict[str, bool], at: str
) -> None:
    define()

    def act(effect: str, moment: str) -> None:
        if (effect, moment) == (at, effects.Moment.BEFORE):
            host_orders.revise("test", close, None)

    with effects.watched(act):
        reconcile(loop.replica().id, loop.here)
    loop.settle(4)
    placed = bool(loop.containers())
    assert placed == (at != "take seats")
    assert placed == bool(loop.replica().memory)
    assert violations(loop) == []
