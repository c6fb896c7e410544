"""The look at a whole host: what is settled costs nothing, strays go slowly, silence touches nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cortex.catalog.models import Model
from cortex.fleet.models import Host, Install, Replica, Stray
from cortex.fleet.states import Observed
from cortex.orchestration import hosts, orders, strays
from cortex.orchestration.identity import NameTaken
from cortex.orchestration.lock import only_one
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Label, RuntimeFault
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import Script
from cortex.runtime.world import World
from engines.contract import ContainerSpec
from tests.orchestration.conftest import IMAGE, Loop, Time

Define = Callable[..., Model]
WRITES = ("INSERT", "UPDATE", "DELETE")

pytestmark = pytest.mark.django_db


def stray(loop: Loop, number: int = 0) -> str:
    labels = {Label.REPLICA: f"{number:032x}", Label.MODEL: "gone"}
    return loop.here.runtime.create(f"cortex-stray-{number:032x}", ContainerSpec(image=IMAGE, argv=()), labels)


def test_a_sweep_of_what_is_settled_changes_nothing(define: Define, loop: Loop, world: World) -> None:
    define(replicas=3)
    define("other", desired="stopped")
    sweep(loop.here)
    sweep(loop.here)
    before = len(world.changes())
    with CaptureQueriesContext(connection) as queries:
        sweep(loop.here)
    assert len(world.changes()) == before
    writes = [q["sql"] for q in queries if q["sql"].startswith(WRITES) and 'UPDATE "fleet_host"' not in q["sql"]]
    assert writes == []


def test_a_sweep_of_what_is_settled_asks_no_more_for_more_replicas(
    define: Define, loop: Loop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Install, "known", Install.identity())

    def cost() -> tuple[int, list[str]]:
        sweep(loop.here)
        with world.open() as scene:
            scene.calls.clear()
        with CaptureQueriesContext(connection) as queries:
            sweep(loop.here)
        return len(queries), sorted({call.verb for call in world.calls()})

    define(replicas=2)
    sweep(loop.here)
    few = cost()
    define(replicas=12)
    sweep(loop.here)
    assert cost() == few
    assert few[0] <= 20
    assert few[1] == ["facts", "find", "probe"]


def test_what_waits_out_its_backoff_costs_no_inspect(define: Define, loop: Loop, world: World, time: Time) -> None:
    world.script(IMAGE, Script(load=60, exit_after=0, exit_code=1))
    define()
    sweep(loop.here)
    sweep(loop.here)
    assert loop.replica().retry_at
    with world.open() as scene:
        scene.calls.clear()
    sweep(loop.here)
    assert "inspect" not in [call.verb for call in world.calls()]


def test_one_replica_that_fails_does_not_keep_the_others_waiting(
    define: Define, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    define("a")
    define("b")
    bad = loop.replica("a").container_name
    inspect = loop.here.runtime.inspect

    def broken(name: str) -> Any:
        if name == bad:
            raise ZeroDivisionError
        return inspect(name)

    monkeypatch.setattr(loop.here.runtime, "inspect", broken)
    sweep(loop.here)
    assert loop.replica("b").observed == Observed.READY


def test_a_stray_is_listed_at_once_and_removed_after_its_grace(define: Define, loop: Loop, time: Time) -> None:
    define()
    sweep(loop.here)
    [ours] = loop.containers()
    stray(loop)
    sweep(loop.here)
    assert Stray.objects.get().model_name == "gone"
    sweep(loop.here)
    assert len(loop.containers()) == 2
    time.pass_(strays.GRACE.total_seconds() + 1)
    sweep(loop.here)
    assert loop.containers() == [ours]
    assert not Stray.objects.exists()


def test_many_strays_at_once_wait_for_a_person(loop: Loop, time: Time) -> None:
    for number in range(strays.AT_ONCE + 1):
        stray(loop, number)
    sweep(loop.here)
    time.pass_(strays.GRACE.total_seconds() + 1)
    sweep(loop.here)
    assert len(loop.containers()) == strays.AT_ONCE + 1
    Stray.objects.update(confirmed=True)
    sweep(loop.here)
    sweep(loop.here)
    assert loop.containers() == []


def test_another_installs_container_is_never_a_stray(loop: Loop, world: World, time: Time) -> None:
    other = FakeRuntime(world, "another", settings.ENV.cortex_models)
    other.create("cortex-other", ContainerSpec(image=IMAGE, argv=()), {Label.REPLICA: "0" * 32})
    sweep(loop.here)
    time.pass_(strays.GRACE.total_seconds() + 1)
    sweep(loop.here)
    assert len(other.find()) == 1
    assert not Stray.objects.exists()


def test_a_stray_that_is_claimed_again_is_forgotten(define: Define, loop: Loop) -> None:
    define()
    sweep(loop.here)
    Stray.objects.create(
        host=loop.here.host,
        container_id=loop.here.runtime.find()[0].id,
        name="x",
        first_seen_at=loop.time.now() - timedelta(days=1),
    )
    sweep(loop.here)
    assert not Stray.objects.exists()
    assert len(loop.containers()) == 1


def test_a_host_that_fell_silent_is_marked_by_the_others_and_nothing_is_moved(
    define: Define, loop: Loop, time: Time
) -> None:
    define()
    sweep(loop.here)
    other = Host.objects.create(name="other", seen_at=time.now())
    time.pass_(30)
    hosts.mark_silent()
    replica = loop.replica()
    assert replica.observed == Observed.UNKNOWN
    assert "not been heard of" in replica.reason
    Host.objects.filter(id=other.id).update(seen_at=time.now())
    settle(replica.model_id)
    assert loop.replica().host == loop.here.host
    sweep(loop.here)
    assert loop.replica().observed == Observed.READY


def test_what_has_nothing_on_a_silent_host_moves(define: Define, loop: Loop, time: Time, world: World) -> None:
    world.script(IMAGE, Script(load=60, exit_after=0, exit_code=1))
    define()
    sweep(loop.here)
    assert loop.replica().observed == Observed.ABSENT
    time.pass_(30)
    other = Host.objects.create(name="other", seen_at=time.now())
    settle(loop.replica().model_id)
    assert loop.replica().host == other


def test_a_host_nobody_can_start_on_is_named(define: Define, loop: Loop) -> None:
    Host.objects.update(cordoned=True)
    define()
    replica = loop.replica()
    assert replica.host is None
    assert "cordoned" in replica.reason


def test_a_name_used_by_two_machines_is_refused(loop: Loop, world: World) -> None:
    assert hosts.register(loop.here)
    with world.open() as scene:
        scene.name = "impostor"
    with pytest.raises(NameTaken):
        sweep(loop.here)
    assert "Two machines" in Host.objects.get().trouble


def test_an_order_that_came_while_we_were_busy_is_not_lost(
    define: Define, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    loop.look()
    probe = loop.here.runtime.probe
    told: list[Model] = []

    def order_meanwhile(*args: Any) -> Any:
        answer = probe(*args)
        if not told:
            told.append(orders.stop("tiny", None))
        return answer

    monkeypatch.setattr(loop.here.runtime, "probe", order_meanwhile)
    assert loop.look().observed == Observed.ABSENT


def test_a_replica_somebody_works_on_is_left_to_them(define: Define, loop: Loop) -> None:
    define()
    replica = loop.replica()
    with only_one(replica.id) as held:
        assert held
        hosts.lose_sight(replica, "x")
    assert Replica.objects.get().observed == Observed.ABSENT


def test_a_container_renamed_by_hand_is_ours_all_the_same(define: Define, loop: Loop, world: World) -> None:
    define()
    sweep(loop.here)
    with world.open() as scene:
        next(iter(scene.containers.values())).name = "renamed"
    for _ in range(3):
        sweep(loop.here)
        loop.time.pass_(20)
    assert loop.containers() == [loop.replica().container_name]
    assert loop.replica().observed == Observed.READY


def test_a_container_renamed_by_hand_stops_like_any_other(define: Define, loop: Loop, world: World) -> None:
    define()
    sweep(loop.here)
    with world.open() as scene:
        next(iter(scene.containers.values())).name = "renamed"
    orders.stop("tiny", None)
    sweep(loop.here)
    assert loop.containers() == []


def test_labels_of_ours_without_our_install_are_a_strangers(define: Define, loop: Loop, world: World) -> None:
    define()
    replica = loop.replica()
    other = FakeRuntime(world, "another", settings.ENV.cortex_models)
    labels = {Label.REPLICA: replica.id.hex, Label.ATTEMPT: "1"}
    other.create(replica.container_name, ContainerSpec(image=IMAGE, argv=()), labels)
    assert "not ours" in loop.look().reason
    assert other.find()
    assert Install.identity() != "another"


def test_an_engine_that_answers_with_a_failure_is_as_good_as_silent(
    define: Define, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    sweep(loop.here)

    def failing() -> Any:
        raise RuntimeFault("The container engine failed (HTTP 500).")

    monkeypatch.setattr(loop.here.runtime, "find", failing)
    sweep(loop.here)
    assert loop.replica().observed == Observed.UNKNOWN
