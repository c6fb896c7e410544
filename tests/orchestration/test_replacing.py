"""A definition that changes under a model that serves."""

from collections.abc import Callable
from typing import Any

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Replica
from cortex.fleet.states import Observed
from cortex.fleet.status import status
from cortex.orchestration import fsck, orders
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Container, Label, State
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.orchestration.conftest import IMAGE, Loop

pytestmark = pytest.mark.django_db
Define = Callable[..., Model]
NEWER = "example/newer:1"
CHANGED: dict[str, Any] = {"image": NEWER}


@pytest.fixture(autouse=True)
def newer(world: World) -> None:
    world.add_image(NEWER)


@pytest.fixture
def serving(define: Define, loop: Loop) -> Container:
    """A model that serves, and its container."""
    define()
    loop.settle()
    return only(loop)


def only(loop: Loop) -> Container:
    (container,) = loop.here.runtime.find()
    return container


def serves(loop: Loop) -> set[str]:
    """The containers that get requests."""
    serving = {str(id.hex) for id in Replica.objects.serving().values_list("id", flat=True)}
    return {found.id for found in loop.here.runtime.find() if found.labels[Label.REPLICA] in serving}


def violations(loop: Loop) -> list[str]:
    return [str(each) for each in (*fsck.rows(), *fsck.containers(loop.here.host, loop.here.runtime))]


def test_the_new_one_serves_before_the_old_one_drains(define: Define, loop: Loop, serving: Container) -> None:
    seen = []
    define(**CHANGED)
    for _ in range(12):
        sweep(loop.here)
        seen.append(serves(loop))
        loop.time.pass_(1)
    assert all(seen), "nobody served at some moment"
    assert seen[-1] == {only(loop).id} != {serving.id}
    assert (Replica.objects.count(), loop.replica().replaces) == (1, None)
    assert violations(loop) == []


def test_the_old_one_serves_while_the_new_one_loads(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    world.script(NEWER, Script(load=30))
    define(**CHANGED)
    loop.settle()
    assert serves(loop) == {serving.id}
    how = status(loop.replica().model, list(Replica.objects.all()))
    assert how.phase == "serving"
    assert "to replace it" in how.reason
    loop.settle(40)
    assert serves(loop) == {only(loop).id} != {serving.id}


def test_a_new_one_that_fails_leaves_the_old_one_serving_and_says_why(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    world.script(NEWER, Script(load=5, exit_after=1, exit_code=1, lines=("error: no such thing",)))
    define(**CHANGED)
    loop.settle(60)
    assert serves(loop) == {serving.id}
    how = status(loop.replica().model, list(Replica.objects.all()))
    assert (how.phase, how.ready) == ("serving", 1)
    assert "exit status 1" in how.reason
    assert violations(loop) == []


def test_files_that_are_not_there_leave_the_old_one_serving(define: Define, loop: Loop, serving: Container) -> None:
    Model.objects.update(path="gone.gguf", turn=2)
    loop.settle(20)
    assert serves(loop) == {serving.id}
    assert "gone.gguf" in status(loop.replica().model, list(Replica.objects.all())).reason


def test_the_history_of_starts_stays_with_the_slot(define: Define, loop: Loop, serving: Container) -> None:
    define(**CHANGED)
    loop.settle()
    history = loop.replica().attempts.values_list("number", "image", "reason")
    assert list(history) == [(2, NEWER, ""), (1, IMAGE, "Another replica has its place.")]
    assert only(loop).labels[Label.ATTEMPT] == "2"


def test_the_history_of_a_recalled_start_stays_with_the_slot(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    world.script(NEWER, Script(load=5, exit_after=1, exit_code=1))
    define(**CHANGED)
    loop.settle(4)
    define()
    loop.settle()
    assert set(loop.replica().attempts.values_list("image", flat=True)) == {IMAGE, NEWER}
    assert only(loop).id == serving.id
    assert violations(loop) == []


def test_going_back_to_what_serves_recalls_the_new_one(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    world.script(NEWER, Script(load=1000))
    define(**CHANGED)
    loop.settle(3)
    assert Replica.objects.count() == 2
    define()
    loop.settle()
    assert (Replica.objects.count(), only(loop).id, serves(loop)) == (1, serving.id, {serving.id})


def test_a_recall_that_was_cut_off_is_made_up_for(define: Define, loop: Loop, serving: Container) -> None:
    """Its process died between noting that the old one is right again and calling the new one off."""
    Replica.objects.create(model=loop.replica().model, slot=0, host=loop.here.host, replaces=loop.replica())
    loop.settle()
    assert (Replica.objects.count(), only(loop).id) == (1, serving.id)


def test_a_stop_ends_both(define: Define, loop: Loop, world: World, serving: Container) -> None:
    world.script(NEWER, Script(load=1000))
    define(**CHANGED)
    loop.settle(3)
    assert len(loop.here.runtime.find()) == 2
    orders.stop("tiny", None)
    loop.settle()
    assert (loop.containers(), Replica.objects.count()) == ([], 1)
    orders.start("tiny", None)
    loop.settle()
    assert serves(loop) == set()
    world.script(NEWER, Script())
    loop.settle()
    assert serves(loop) == {only(loop).id}


def test_a_removal_ends_both(define: Define, loop: Loop, world: World, serving: Container) -> None:
    world.script(NEWER, Script(load=1000))
    define(**CHANGED)
    loop.settle(3)
    orders.remove("tiny", None)
    loop.settle()
    assert (loop.containers(), Replica.objects.count(), Model.objects.count()) == ([], 0, 0)


def test_the_old_one_dies_while_the_new_one_loads(define: Define, loop: Loop, world: World, serving: Container) -> None:
    world.script(NEWER, Script(load=10))
    define(**CHANGED)
    loop.settle(3)
    world.end(serving.name, 1)
    loop.settle(20)
    assert serves(loop) == {only(loop).id}
    assert Replica.objects.get().replaces is None


def test_a_second_change_reaches_the_one_that_is_coming(
    define: Define, loop: Loop, world: World, serving: Container
) -> None:
    world.script(NEWER, Script(load=10))
    define(**CHANGED)
    loop.settle(3)
    define(options={"batch_size": 128})
    loop.settle(30)
    attempt = Replica.objects.get().attempts.get(ended_at=None)
    assert "128" in attempt.spec["argv"]
    assert only(loop).labels[Label.FINGERPRINT] == attempt.fingerprint


def leave_no_room(world: World) -> None:
    """The host has exactly as much memory as its replicas were promised."""
    with world.open() as scene:
        scene.memory = sum(Replica.objects.values_list("memory", flat=True))


def test_without_room_it_stops_and_then_starts(define: Define, loop: Loop, world: World, serving: Container) -> None:
    leave_no_room(world)
    define(**CHANGED)
    for _ in range(10):
        sweep(loop.here)
        assert Replica.objects.count() == 1
        loop.time.pass_(1)
    assert serves(loop) == {only(loop).id} != {serving.id}
    assert violations(loop) == []


def test_cards_that_are_full_make_it_stop_first(define: Define, loop: Loop, world: World) -> None:
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    card = loop.card()
    define(gpus=1)
    loop.settle()
    card.refresh_from_db()
    Gpu.objects.update(total=card.reserved)
    before = only(loop).id
    define(gpus=1, **CHANGED)
    loop.settle()
    assert (only(loop).id != before, Replica.objects.count()) == (True, 1)
    assert violations(loop) == []


def test_replicas_are_replaced_one_at_a_time(define: Define, loop: Loop, world: World) -> None:
    define(replicas=3)
    loop.settle()
    old = {found.id for found in loop.here.runtime.find()}
    world.script(NEWER, Script(load=5))
    define(replicas=3, **CHANGED)
    for _ in range(60):
        sweep(loop.here)
        alive = [found for found in loop.here.runtime.find() if found.state is State.RUNNING]
        assert len(alive) <= 4
        assert len(serves(loop)) >= 3
        loop.time.pass_(1)
    assert len(serves(loop)) == 3
    assert not serves(loop) & old


def test_without_room_a_new_one_that_fails_stops_the_others_from_being_replaced(
    define: Define, loop: Loop, world: World
) -> None:
    define(replicas=3)
    loop.settle()
    leave_no_room(world)
    old = {found.id for found in loop.here.runtime.find()}
    world.script(NEWER, Script(load=5, exit_after=1, exit_code=1))
    define(replicas=3, **CHANGED)
    for _ in range(60):
        sweep(loop.here)
        assert len(serves(loop) & old) >= 2
        loop.time.pass_(1)
    assert len(serves(loop)) == 2


def test_memory_of_the_host_is_promised_once(define: Define, loop: Loop, world: World) -> None:
    define()
    loop.settle()
    leave_no_room(world)
    define("other")
    loop.settle()
    waiting = Replica.objects.get(model__name="other")
    assert (waiting.observed, len(loop.containers())) == (Observed.ABSENT, 1)
    assert "tiny/0 holds" in waiting.reason
    assert "It would fit if tiny/0 stopped." in waiting.reason
    orders.stop("tiny", None)
    loop.settle()
    assert Replica.objects.get(model__name="other").observed == Observed.READY
    assert violations(loop) == []


def test_a_settled_row_is_left_alone(loop: Loop, define: Define, serving: Container) -> None:
    settle(Model.objects.get().id)
    loop.settle()
    assert only(loop).id == serving.id
    assert loop.replica().observed == Observed.READY
