"""A host that people want empty: what runs there goes elsewhere one by one, stays with its reason, or is recalled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cortex.catalog.models import Model, Order
from cortex.fleet.models import Gpu, Host, Replica, Seat
from cortex.fleet.states import Observed
from cortex.fleet.status import status
from cortex.orchestration import drains, host_orders, hosts, orders
from cortex.orchestration.reconcile import reconcile
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.telemetry import inflight
from tests.orchestration.conftest import GIB, IMAGE, Loop, Time
from tests.orchestration.several import Fleet

pytestmark = pytest.mark.django_db
Define = Callable[..., Model]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.ENV, "cortex_state", tmp_path)


@pytest.fixture
def fleet(loop: Loop) -> Fleet:
    hosts.register(loop.here)
    return Fleet(loop)


def drain(name: str = "test", draining: bool = True) -> Host:
    return host_orders.revise(name, {"draining": draining}, None)


def why(name: str = "test") -> dict[str, str]:
    """Who stays there, and why."""
    progress = drains.progress(Host.objects.get(name=name))
    assert progress
    return {str(each.replica): each.why for each in progress.staying}


@pytest.fixture
def three(define: Define, fleet: Fleet) -> Fleet:
    """Three models that serve on the first host, and a second host."""
    for name in ("a", "b", "c"):
        define(name)
    fleet.settle()
    assert fleet.running("test") == ["a", "b", "c"]
    fleet.add("other")
    return fleet


def test_all_leave_one_at_a_time_each_once_another_serves_in_its_place(three: Fleet) -> None:
    three.world("other").script(IMAGE, Script(load=4))
    drain()
    begun = []
    for _ in range(40):
        three.time.pass_(1)
        three.sweep()
        assert {line.split(" ")[0] for line in three.serving()} == {"a/0", "b/0", "c/0"}
        begun.append(Replica.objects.filter(replaces__isnull=False).count())
    assert max(begun) == 1
    assert (three.running("test"), three.running("other")) == ([], ["a", "b", "c"])
    assert (Replica.objects.count(), why(), three.wrong()) == (3, {}, [])
    progress = drains.progress(Host.objects.get(name="test"))
    assert progress
    assert (progress.left, progress.total) == (3, 3)


def test_the_order_is_written_down_with_who_was_there(three: Fleet, bob: Any) -> None:
    host_orders.revise("test", {"draining": True}, bob)
    host_orders.revise("test", {"draining": True}, bob)
    [order] = Order.objects.filter(host_name="test")
    assert (order.verb, order.by_name) == ("drain", "bob")
    assert order.changes == {"draining": True, "replicas": ["a/0", "b/0", "c/0"]}


def test_requests_in_flight_are_answered_before_one_leaves(
    define: Define, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    fleet.settle()
    old = fleet.loop.replica()
    fleet.add("other")
    monkeypatch.setattr(inflight, "count", lambda which: int(which == old.id))
    drain()
    fleet.settle(10)
    assert (fleet.running("test"), fleet.serving()) == (["tiny"], ["tiny/0 on other"])
    assert why() == {"tiny/0": "It answers what it was asked, and stops."}
    monkeypatch.setattr(inflight, "count", lambda which: 0)
    fleet.settle(3)
    assert fleet.running("test") == []


def test_without_room_elsewhere_it_stays_says_why_and_goes_as_soon_as_there_is(define: Define, fleet: Fleet) -> None:
    define()
    fleet.settle()
    drain()
    fleet.settle()
    assert fleet.serving() == ["tiny/0 on test"]
    assert "Host test is being drained." in why()["tiny/0"]
    how = status(fleet.loop.replica().model, list(Replica.objects.all()))
    assert (how.phase, how.ready) == ("serving", 1)
    calls = len(fleet.world("test").changes())
    fleet.settle(3)
    assert len(fleet.world("test").changes()) == calls
    fleet.add("other")
    fleet.settle()
    assert (fleet.serving(), fleet.running("test")) == (["tiny/0 on other"], [])
    assert fleet.wrong() == []


def test_who_is_in_the_way_is_named(define: Define, fleet: Fleet) -> None:
    define()
    fleet.settle()
    fleet.add("other")
    drain()
    Replica.objects.update(memory=0)
    Host.objects.update(reserved=0)
    define("big", placement={"hosts": ["other"]})
    fleet.sweep("other")
    big = Replica.objects.get(model__name="big")
    with fleet.world("other").open() as scene:
        scene.memory = big.memory + 1
    fleet.sweep()
    fleet.sweep()
    progress = drains.progress(Host.objects.get(name="test"))
    assert progress
    [staying] = progress.staying
    assert staying.in_the_way == ("big/0",)
    assert "It would fit if big/0 stopped." in staying.why


def test_two_that_got_room_at_once_still_leave_one_at_a_time(define: Define, fleet: Fleet) -> None:
    for name in ("a", "b"):
        define(name)
    fleet.settle()
    drain()
    fleet.settle(4)
    assert Replica.objects.filter(replaces__isnull=False, host=None).count() == 2
    fleet.add("other")
    fleet.world("other").script(IMAGE, Script(load=5))
    for _ in range(30):
        fleet.time.pass_(1)
        fleet.sweep()
        assert Replica.objects.filter(replaces__isnull=False, host__isnull=False).count() <= 1
    assert fleet.running("other") == ["a", "b"]


@pytest.mark.parametrize("wish", [{"hosts": ["test"]}, {"cards": ["GPU-0"]}])
def test_what_is_pinned_there_stays_and_is_named(define: Define, fleet: Fleet, wish: dict[str, Any]) -> None:
    fleet.loop.card()
    fleet.world("test").add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define("pinned", placement=wish)
    define("free", gpus=0)
    fleet.settle()
    fleet.add("other")
    drain()
    fleet.settle(10)
    assert (fleet.running("test"), fleet.running("other")) == (["pinned"], ["free"])
    assert why() == {"pinned/0": drains.PINNED}
    assert Replica.objects.count() == 2
    orders.revise("pinned", {"placement": None, "gpus": 0}, None)
    fleet.settle(10)
    assert fleet.running("other") == ["free", "pinned"]
    assert fleet.wrong() == []


@pytest.mark.parametrize("patch", [{"draining": False}, {"cordoned": False}])
@pytest.mark.parametrize("at", range(1, 9))
def test_called_off_in_the_middle_nothing_is_lost(three: Fleet, at: int, patch: dict[str, Any]) -> None:
    three.world("other").script(IMAGE, Script(load=2))
    drain()
    for _ in range(at):
        three.time.pass_(1)
        three.sweep()
    host_orders.revise("test", patch, None)
    assert not Host.objects.get(name="test").draining
    for _ in range(12):
        three.time.pass_(1)
        three.sweep()
        assert {line.split(" ")[0] for line in three.serving()} == {"a/0", "b/0", "c/0"}
    assert sorted(three.running("test") + three.running("other")) == ["a", "b", "c"]
    assert (Replica.objects.count(), three.wrong()) == (3, [])


def test_a_cordon_outlives_a_drain_and_uncordon_ends_both(three: Fleet) -> None:
    host_orders.revise("test", {"cordoned": True}, None)
    drain()
    drain(draining=False)
    assert Host.objects.get(name="test").cordoned
    drain()
    host_orders.revise("test", {"cordoned": False}, None)
    host = Host.objects.get(name="test")
    assert (host.cordoned, host.draining, host.to_leave) == (False, False, 0)
    assert list(Order.objects.values_list("verb", flat=True)[:4]) == ["uncordon", "drain", "undrain", "drain"]


def test_a_drained_host_takes_nothing_new_though_it_is_the_only_one(define: Define, fleet: Fleet) -> None:
    drain()
    define()
    fleet.settle(3)
    assert (fleet.running("test"), fleet.loop.replica().host) == ([], None)
    assert "Host test is being drained." in fleet.loop.replica().reason


def test_a_silent_host_is_not_acted_upon(three: Fleet) -> None:
    drain()
    three.time.pass_(60)
    hosts.mark_silent()
    for _ in range(5):
        three.time.pass_(1)
        three.sweep("other")
    assert (three.running("test"), three.running("other")) == (["a", "b", "c"], [])
    assert {replica.observed for replica in Replica.objects.all()} == {Observed.UNKNOWN}
    assert "not been heard of" in why()["a/0"]
    three.settle(15)
    assert three.running("other") == ["a", "b", "c"]
    assert set(Replica.objects.values_list("attempts__failure", flat=True)) == {0}


def test_the_host_where_its_successor_loads_falls_silent(three: Fleet) -> None:
    three.world("other").script(IMAGE, Script(load=1000))
    drain()
    three.settle(3)
    for _ in range(30):
        three.time.pass_(1)
        three.sweep("test")
    assert len(three.serving()) == 3
    assert "unknown" in why()["a/0"]
    three.world("other").script(IMAGE, Script())
    three.settle(12)
    assert (three.running("test"), three.wrong()) == ([], [])


def test_a_successor_that_fails_leaves_the_old_one_serving_and_keeps_nobody_waiting(three: Fleet) -> None:
    three.world("other").script("a", Script(load=5, exit_after=1, exit_code=1))
    drain()
    three.settle(20)
    assert (three.running("test"), three.running("other")) == (["a"], ["b", "c"])
    assert "fail" in why()["a/0"]
    assert len(three.serving()) == 3
    three.world("other").script("a", Script())
    three.settle(40)
    assert (three.running("test"), three.wrong()) == ([], [])


def test_what_ends_there_starts_elsewhere_alone(three: Fleet) -> None:
    drain()
    for found in three.heres["test"].runtime.find():
        three.world("test").end(found.name)
    three.settle(10)
    assert (three.running("test"), three.running("other"), three.wrong()) == ([], ["a", "b", "c"], [])


@pytest.mark.parametrize("script", [Script(load=6), Script(pull_seconds=6)])
def test_what_is_on_its_way_there_goes_too(define: Define, fleet: Fleet, script: Script) -> None:
    fleet.world("test").script(IMAGE, script)
    if script.pull_seconds:
        with fleet.world("test").open() as scene:
            scene.images.clear()
    define()
    fleet.settle(1)
    assert fleet.loop.replica().observed in (Observed.LOADING, Observed.FETCHING)
    fleet.add("other")
    drain()
    fleet.settle(6)
    assert (fleet.running("test"), fleet.serving()) == ([], ["tiny/0 on other"])
    assert set(Replica.objects.get().attempts.values_list("failure", flat=True)) == {0}


def test_a_change_meanwhile_is_what_starts_elsewhere(three: Fleet, define: Define) -> None:
    three.world("other").script(IMAGE, Script(load=4))
    drain()
    three.settle(2)
    for name in ("a", "c"):
        define(name, options={"batch_size": 64})
    for _ in range(40):
        three.time.pass_(1)
        three.sweep()
        assert len({line.split(" ")[0] for line in three.serving()}) == 3
    assert (three.running("test"), three.running("other"), three.wrong()) == ([], ["a", "b", "c"], [])
    for name in ("a", "c"):
        attempt = Replica.objects.get(model__name=name).attempts.get(ended_at=None)
        assert "64" in attempt.spec["argv"]


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("verb", [orders.stop, orders.remove])
def test_stop_and_delete_win(three: Fleet, verb: Callable[..., Model], at: int) -> None:
    three.world("other").script(IMAGE, Script(load=2))
    drain()
    three.settle(at)
    for name in ("a", "b", "c"):
        verb(name, None)
    three.settle(6)
    assert (three.running("test"), three.running("other"), three.wrong()) == ([], [], [])
    assert not Seat.objects.exists()
    assert set(Host.objects.values_list("reserved", flat=True)) == {0}


def test_two_hosts_drained_towards_each_other_keep_what_they_have(three: Fleet) -> None:
    drain()
    three.settle(1)
    drain("other")
    three.settle(10)
    assert len(three.serving()) == 3
    assert "Host other is being drained." in " ".join(why().values())
    three.add("third")
    three.settle(20)
    assert (three.running("test"), three.running("other"), three.running("third")) == ([], [], ["a", "b", "c"])
    assert three.wrong() == []


def test_the_host_it_was_going_to_is_drained_before_it_serves(three: Fleet) -> None:
    three.world("other").script(IMAGE, Script(load=30))
    drain()
    three.settle(3)
    assert three.running("other") == ["a"]
    drain("other")
    three.settle(5)
    assert (three.running("test"), three.running("other")) == (["a", "b", "c"], [])
    assert len(three.serving()) == 3


def test_cards_are_freed_and_taken_with_it(define: Define, fleet: Fleet) -> None:
    fleet.loop.card()
    fleet.world("test").add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define(gpus=1)
    fleet.settle()
    other = fleet.add("other")
    fleet.world("other").add_gpus(ImaginaryGpu(uuid="GPU-9"))
    Gpu.objects.create(uuid="GPU-9", host=other.host, name="L40S", total=48 * GIB)
    drain()
    fleet.settle()
    assert list(Seat.objects.values_list("gpu_id", flat=True)) == ["GPU-9"]
    assert fleet.wrong() == []


def test_a_settled_drain_writes_nothing(three: Fleet) -> None:
    drain()
    three.settle(20)
    calls = [len(three.world(name).changes()) for name in three.heres]
    before = list(Replica.objects.order_by("id").values())
    three.settle(3)
    assert [len(three.world(name).changes()) for name in three.heres] == calls
    assert list(Replica.objects.order_by("id").values()) == before


def test_a_start_that_ignores_a_drain_is_found(define: Define, fleet: Fleet, time: Time) -> None:
    define()
    fleet.settle()
    drain()
    assert fleet.wrong() == []
    time.pass_(70)
    hosts.register(fleet.loop.here)
    Replica.objects.get().attempts.update(started_at=time.now())
    assert fleet.wrong() == ["rule 1: tiny/0 #1 started on test after people had it drained."]


def test_a_look_alone_takes_no_seat_on_a_host_that_was_closed_meanwhile(define: Define, fleet: Fleet) -> None:
    """Between the row that was placed and its seat."""
    define()
    assert fleet.loop.replica().host == fleet.loop.here.host
    host_orders.revise("test", {"cordoned": True}, None)
    reconcile(fleet.loop.replica().id, fleet.loop.here)
    assert (fleet.running("test"), fleet.loop.replica().host, fleet.loop.replica().memory) == ([], None, 0)
