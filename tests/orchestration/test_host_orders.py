"""What people may do with hosts and strays: written down, obeyed, and refused with words."""

from collections.abc import Callable
from typing import Any

import pytest

from cortex.access.models import Person
from cortex.catalog.definition import Refusal
from cortex.catalog.models import Model, Order
from cortex.fleet.models import Attempt, Gpu, Host, Install, Replica, Seat, Stray
from cortex.fleet.states import Observed
from cortex.orchestration import fsck, host_orders, hosts, orders, strays
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Label
from cortex.runtime.scene import ImaginaryGpu
from cortex.runtime.world import World
from engines.contract import ContainerSpec
from tests.orchestration.conftest import IMAGE, Loop, Time

pytestmark = pytest.mark.django_db

Define = Callable[..., Model]


@pytest.fixture
def ready(define: Define, loop: Loop, world: World) -> Replica:
    """A model that serves, on the card of a host."""
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    return loop.look()


def stray(loop: Loop) -> Stray:
    """A container of this install that nobody claims."""
    labels = {Label.INSTALL: Install.identity(), Label.REPLICA: "0" * 32, Label.MODEL: "gone"}
    loop.here.runtime.create("cortex-left-over", ContainerSpec(image=IMAGE, argv=()), labels)
    strays.look_over(loop.here, loop.here.runtime.find())
    return Stray.objects.get()


def test_a_cordoned_host_takes_nothing_new_and_keeps_what_runs(define: Define, loop: Loop, bob: Person) -> None:
    define()
    loop.look()
    host_orders.revise("test", {"cordoned": True}, bob)
    assert loop.look().observed == Observed.READY
    define("other")
    assert "Host test is cordoned." in loop.look("other").reason
    host_orders.revise("test", {"cordoned": False}, bob)
    assert loop.look("other").observed == Observed.READY
    told = [(order.verb, order.host_name, order.by_name) for order in Order.objects.exclude(host_name="")]
    assert told == [("uncordon", "test", "bob"), ("cordon", "test", "bob")]


def test_labels_are_merged_and_saying_the_same_again_writes_nothing(loop: Loop, bob: Person) -> None:
    host_orders.revise("test", {"labels": {"zone": "cellar", "rack": "1"}}, bob)
    host_orders.revise("test", {"labels": {"rack": None}}, bob)
    host_orders.revise("test", {"labels": {"zone": "cellar"}}, bob)
    assert Host.objects.get().labels == {"zone": "cellar"}
    assert Order.objects.filter(verb="label").count() == 2


def test_a_new_label_lets_those_that_wait_for_it_in(define: Define, loop: Loop) -> None:
    define(placement={"labels": {"zone": "cellar"}})
    assert loop.look().host is None
    host_orders.revise("test", {"labels": {"zone": "cellar"}}, None)
    assert loop.look().observed == Observed.READY


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"labels": {"A B": "c"}}, "/labels"),
        ({"labels": {"zone": 1}}, "/labels/zone"),
        ({"labels": []}, "/labels"),
        ({"cordoned": "perhaps"}, "/cordoned"),
        ({"cordoned": 1}, "/cordoned"),
        ({"name": "other"}, "/name"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "/labels"),
    ],
)
def test_what_cannot_be_said_of_a_host_is_pointed_at(loop: Loop, patch: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Refusal) as caught:
        host_orders.revise("test", patch, None)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert not Order.objects.exists()


def test_nobody_orders_a_host_or_stray_that_is_not_there(db: None) -> None:
    with pytest.raises(host_orders.NoSuchHost, match="nowhere"):
        host_orders.revise("nowhere", {}, None)
    with pytest.raises(host_orders.NoSuchHost, match="nowhere"):
        host_orders.forget("nowhere", None)
    with pytest.raises(host_orders.NoSuchStray, match="7"):
        host_orders.remove_stray(7, None)


@pytest.mark.parametrize("force", [False, True])
def test_a_host_that_answers_is_not_forgotten(loop: Loop, force: bool) -> None:
    with pytest.raises(Refusal, match="back at once"):
        host_orders.forget("test", None, force=force)
    assert Host.objects.exists()


def test_a_silent_host_that_holds_nothing_is_forgotten_with_its_cards(define: Define, loop: Loop, time: Time) -> None:
    define(desired="stopped")
    Replica.objects.update(host=loop.here.host)
    loop.card()
    time.pass_(60)
    host_orders.forget("test", None)
    assert not Host.objects.exists()
    assert not Gpu.objects.exists()
    assert Replica.objects.get().host is None


def test_a_silent_host_that_holds_a_replica_is_forgotten_by_force_alone(
    ready: Replica, loop: Loop, time: Time, alice: Person
) -> None:
    time.pass_(60)
    hosts.mark_silent()
    with pytest.raises(Refusal, match="test holds tiny/0"):
        host_orders.forget("test", alice)
    host_orders.forget("test", alice, force=True)
    replica = loop.replica()
    assert (replica.host, replica.observed, replica.failures) == (None, Observed.ABSENT, 0)
    assert "forgotten by alice" in Attempt.objects.get().reason
    assert not Seat.objects.exists()
    assert fsck.rows() == []
    other = Host.objects.create(name="other", cores=4, memory=8 << 30, seen_at=time.now())
    settle(replica.model_id)
    assert loop.replica().host == other


def test_a_forgotten_host_that_comes_back_is_registered_anew_and_lists_what_it_holds(
    ready: Replica, loop: Loop, time: Time
) -> None:
    time.pass_(60)
    host_orders.forget("test", None, force=True)
    orders.stop("tiny", None)
    hosts.register(loop.here)
    sweep(loop.here)
    assert loop.here.host == Host.objects.get()
    assert Stray.objects.get().model_name == "tiny"
    assert len(loop.containers()) == 1
    time.pass_(400)
    sweep(loop.here)
    assert len(loop.containers()) == 1, "with nothing claimed at all an empty list may be a wrong one"
    host_orders.remove_stray(Stray.objects.get().id, None)
    sweep(loop.here)
    assert not loop.containers()


def test_a_stray_goes_at_once_when_somebody_says_so(ready: Replica, loop: Loop, bob: Person) -> None:
    left = stray(loop)
    sweep(loop.here)
    assert len(loop.containers()) == 2
    host_orders.remove_stray(left.id, bob)
    host_orders.remove_stray(left.id, bob)
    sweep(loop.here)
    assert loop.containers() == [ready.container_name]
    order = Order.objects.get(by=bob)
    assert (order.verb, order.host_name, order.changes["container"]) == ("remove stray", "test", "cortex-left-over")
