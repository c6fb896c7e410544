"""A new version on the rows and containers of the old one: what runs is adopted, and changes when people change it."""

from collections.abc import Callable

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from cortex.orchestration import orders
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Label
from cortex.runtime.world import World
from engines.contract import ContainerSpec, Launch
from engines.llamacpp import LlamaCpp
from tests.faults.record import Record
from tests.orchestration.conftest import Loop

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on the engine's containers are made in another way, of another image."""
    spec = LlamaCpp.spec

    def newer(self: LlamaCpp, launch: Launch) -> ContainerSpec:
        old = spec(self, launch)
        return old.model_copy(update={"argv": (*old.argv, "--new-in-two"), "env": {"VERSION": "2"}})

    return lambda: monkeypatch.setattr(LlamaCpp, "spec", newer)


@pytest.mark.fault(46)
def test_what_the_old_version_started_is_adopted_and_not_restarted(
    define: Define, loop: Loop, world: World, upgraded: Callable[[], None], record: Record
) -> None:
    define(replicas=3)
    sweep(loop.here)
    sweep(loop.here)
    before, calls = loop.containers(), len(world.changes())
    with world.open() as scene:
        for container in scene.containers.values():
            for label in (Label.FINGERPRINT, Label.TURN, Label.MODEL):
                del container.labels[label]
    upgraded()
    with record.convergence():
        for _ in range(3):
            sweep(loop.here)
    assert (loop.containers(), len(world.changes())) == (before, calls)
    assert {loop.replica(slot=slot).observed for slot in range(3)} == {Observed.READY}
    record.saw("Three containers with fewer labels, whose spec the new version writes otherwise: all kept.")
    record.check(loop.here)


@pytest.mark.fault(46)
def test_a_start_under_way_during_the_upgrade_goes_on_once(
    define: Define, loop: Loop, world: World, upgraded: Callable[[], None], record: Record
) -> None:
    world.lose_answer("create")
    define()
    loop.look()
    upgraded()
    with record.convergence():
        for _ in range(2):
            replica = loop.look()
    assert replica.observed == Observed.READY
    assert [call.verb for call in world.changes() if call.verb == "create"] == ["create"]
    record.saw("A container that the old version had created, and not started, was started by the new one.")
    record.check(loop.here)


@pytest.mark.fault(46)
def test_the_next_change_by_people_brings_the_new_way(
    define: Define, loop: Loop, world: World, upgraded: Callable[[], None], record: Record
) -> None:
    define()
    loop.look()
    upgraded()
    loop.look()
    orders.restart("tiny", None)
    with record.convergence():
        for _ in range(4):
            sweep(loop.here)
        replica = Replica.objects.get()
    latest = replica.attempts.first()
    assert latest
    assert replica.observed == Observed.READY
    assert latest.spec["env"] == {"VERSION": "2"}
    record.saw("A restart by hand then made the container in the new way.")
    record.check(loop.here)
