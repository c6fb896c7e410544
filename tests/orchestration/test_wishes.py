"""Where a model may run: what is wished for is met, waits with its reason, or moves what runs."""

from collections.abc import Callable
from typing import Any

import pytest

from cortex.catalog.definition import describe
from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Replica, Seat
from cortex.fleet.states import Observed
from cortex.fleet.status import status
from cortex.orchestration import attempts, forecasts, orders
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.settle import settle
from cortex.runtime.scene import ImaginaryGpu
from cortex.runtime.world import World
from tests.orchestration.conftest import GIB, IMAGE, Loop

pytestmark = pytest.mark.django_db

Define = Callable[..., Model]


@pytest.fixture
def cards(loop: Loop, world: World) -> None:
    """Two cards, of which the fuller is taken when nobody wishes anything."""
    for number, used in enumerate((0, 8 * GIB)):
        loop.card(f"GPU-{number}", used=used, index=number)
        world.add_gpus(ImaginaryGpu(uuid=f"GPU-{number}"))


def where(loop: Loop) -> list[str]:
    return [uuid for container in loop.here.runtime.find() for uuid in container.gpus]


def other_host(**more: Any) -> Host:
    """A second host that lives, with nothing behind it."""
    return Host.objects.create(name="other", cores=4, memory=8 * GIB, seen_at=clock.now(), **more)


def change(**wish: Any) -> None:
    model = orders.revise("tiny", {"placement": wish}, None)
    settle(model.id)


@pytest.mark.parametrize(
    ("wish", "taken"), [({}, "GPU-1"), ({"cards": ["GPU-0"]}, "GPU-0"), ({"spread": True}, "GPU-0")]
)
@pytest.mark.usefixtures("cards")
def test_cards_follow_the_wish(define: Define, loop: Loop, wish: dict[str, Any], taken: str) -> None:
    define(placement=wish)
    assert loop.look().observed == Observed.READY
    assert where(loop) == [taken]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"cards": ["GPU-9"]}, "There is no GPU GPU-9 here."),
        ({"hosts": ["nowhere"]}, "There is no host nowhere."),
        ({"labels": {"zone": "cellar"}}, "Host test is not labelled zone=cellar."),
    ],
)
@pytest.mark.usefixtures("cards")
def test_a_wish_that_cannot_be_met_waits_with_its_reason(
    define: Define, loop: Loop, wish: dict[str, Any], says: str
) -> None:
    define(placement=wish)
    replica = loop.look()
    assert (replica.host, replica.observed, replica.failures) == (None, Observed.ABSENT, 0)
    assert says in replica.reason
    found = forecasts.of(describe(replica.model))
    assert (found.verdict, found.goes_to) == ("does_not_fit", "")
    assert "GPU-9" in found.reason or "nowhere" in found.reason or "zone=cellar" in found.reason


@pytest.mark.usefixtures("cards")
def test_a_card_that_vanished_is_named_and_taken_once_it_is_back(define: Define, loop: Loop) -> None:
    Gpu.objects.filter(uuid="GPU-0").update(missing=True)
    define(placement={"cards": ["GPU-0"]})
    assert "L40S (GPU-0) is gone." in loop.look().reason
    Gpu.objects.update(missing=False)
    assert loop.look().observed == Observed.READY
    assert where(loop) == ["GPU-0"]


@pytest.mark.usefixtures("cards")
def test_more_replicas_than_pinned_cards_hold_wait_by_name(define: Define, loop: Loop) -> None:
    define(placement={"cards": ["GPU-0"]}, gpus=1)
    loop.look()
    Gpu.objects.filter(uuid="GPU-0").update(total=Seat.objects.get().bytes * 3 // 2)
    define(placement={"cards": ["GPU-0"]}, gpus=1, replicas=2)
    loop.look(slot=1)
    waiting = loop.replica(slot=1)
    assert (waiting.host, waiting.observed) == (None, Observed.ABSENT)
    assert "tiny/0 holds" in waiting.reason
    assert "(GPU-1) is not one of those it is pinned to" in waiting.reason


@pytest.mark.parametrize("wish", [{"cards": ["GPU-1"]}, {"hosts": ["test"]}, {"spread": True}])
@pytest.mark.usefixtures("cards")
def test_a_changed_wish_that_what_runs_meets_changes_nothing(define: Define, loop: Loop, wish: dict[str, Any]) -> None:
    define()
    loop.look()
    [before] = loop.here.runtime.find()
    change(**wish)
    assert loop.look().observed == Observed.READY
    assert [container.id for container in loop.here.runtime.find()] == [before.id]


@pytest.mark.usefixtures("cards")
def test_a_changed_pin_moves_what_runs_to_the_other_card(define: Define, loop: Loop) -> None:
    define()
    loop.look()
    assert where(loop) == ["GPU-1"]
    change(cards=["GPU-0"])
    loop.settle()
    assert where(loop) == ["GPU-0"]
    assert list(Seat.objects.values_list("gpu_id", flat=True)) == ["GPU-0"]


@pytest.mark.parametrize("wish", [{"hosts": ["other"]}, {"labels": {"zone": "cellar"}}])
@pytest.mark.usefixtures("cards")
def test_a_changed_wish_for_a_host_moves_what_runs_there(define: Define, loop: Loop, wish: dict[str, Any]) -> None:
    define()
    loop.look()
    other_host(labels={"zone": "cellar"})
    change(**wish)
    loop.look()
    new = Replica.objects.get(replaces=loop.replica())
    assert new.host.name == "other"  # type: ignore[union-attr]
    assert loop.look().observed == Observed.READY, "it serves here until it serves there"
    Replica.objects.filter(id=new.id).update(observed=Observed.READY, turn=new.model.turn)
    attempts.begin(Replica.objects.select_related("model", "host").get(id=new.id), IMAGE)
    loop.look()
    assert not loop.containers()
    assert not Seat.objects.exists()


def test_a_model_that_rests_on_a_host_it_may_not_use_starts_elsewhere(define: Define, loop: Loop) -> None:
    define(desired="stopped")
    Replica.objects.update(host=loop.here.host)
    other_host()
    change(hosts=["other"])
    settle(orders.start("tiny", None).id)
    assert loop.replica().host.name == "other"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"cards": ["GPU-9"]}, "There is no GPU GPU-9 here."),
        ({"hosts": ["nowhere"]}, "There is no host nowhere."),
        ({"labels": {"zone": "b"}}, "is not labelled zone=b"),
    ],
)
@pytest.mark.usefixtures("cards")
def test_a_changed_wish_that_cannot_be_met_leaves_what_serves_and_says_why(
    define: Define, loop: Loop, wish: dict[str, Any], says: str
) -> None:
    define()
    serving = loop.look()
    [before] = loop.here.runtime.find()
    change(**wish)
    for _ in range(3):
        reconcile(serving.id, loop.here)
        settle(serving.model_id)
    serving.refresh_from_db()
    new = Replica.objects.get(replaces=serving)
    assert (serving.observed, serving.draining_at) == (Observed.READY, None)
    assert [container.id for container in loop.here.runtime.find()] == [before.id]
    assert says in new.reason
    assert "1 of 1 serve" in status(serving.model, [serving, new]).reason
    assert says in status(serving.model, [serving, new]).reason
    change(cards=[], hosts=[], labels=None)
    for _ in range(3):
        reconcile(serving.id, loop.here)
        settle(serving.model_id)
    assert Replica.objects.get().id == serving.id
