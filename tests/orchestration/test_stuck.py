"""Containers that do not end, and those that somebody changed."""

from collections.abc import Callable

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu
from cortex.fleet.states import Observed
from cortex.orchestration import orders, seats
from cortex.orchestration.stopping import KILL_AGAIN
from cortex.runtime.contract import Unreachable
from cortex.runtime.scene import ImaginaryGpu
from cortex.runtime.world import World
from tests.orchestration.conftest import Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("answers", [True, False], ids=["in vain", "without an answer"])
def test_what_no_kill_ends_is_stuck_and_asked_again_at_intervals(
    answers: bool, define: Define, loop: Loop, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    loop.look()
    loop.look()
    kills: list[str] = []

    def refuse(id: str, *_: object) -> None:
        kills.append(id)
        if not answers:
            raise Unreachable("Read timed out.")

    with monkeypatch.context() as broken:
        broken.setattr(loop.here.runtime, "stop", lambda *_: None)
        broken.setattr(loop.here.runtime, "kill", refuse)
        orders.stop("tiny", None)
        loop.look()
        time.pass_(60)
        for _ in range(5):
            replica = loop.look()
        assert (replica.observed, len(kills)) == (Observed.STOPPING, 1)
        assert replica.reason.startswith("It is stuck: KILL")
        time.pass_(KILL_AGAIN.total_seconds())
        loop.look()
        assert len(kills) == 2
    time.pass_(KILL_AGAIN.total_seconds())
    replica = loop.look()
    assert (replica.observed, loop.containers()) == (Observed.ABSENT, [])
    assert replica.attempts.get().reason == "Stopped by order."


def test_a_card_with_something_stuck_on_it_takes_nobody_new(
    define: Define, loop: Loop, world: World, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    loop.look()
    loop.look()
    monkeypatch.setattr(loop.here.runtime, "stop", lambda *_: None)
    orders.stop("tiny", None)
    loop.look()
    assert seats.cards(Gpu.objects.all())[0].free > 0
    time.pass_(seats.STUCK_AFTER.total_seconds() + 1)
    assert seats.cards(Gpu.objects.all())[0].free == 0


def test_a_renamed_container_is_replaced_and_its_attempt_says_so(define: Define, loop: Loop, world: World) -> None:
    define()
    loop.look()
    loop.look()
    with world.open() as scene:
        next(iter(scene.containers.values())).name = "mine"
    loop.look()
    replica = loop.look()
    assert (replica.observed, loop.containers()) == (Observed.READY, [replica.container_name])
    assert replica.attempts.get(number=1).reason == "Somebody renamed its container."


def test_a_container_that_somebody_changed_is_replaced(define: Define, loop: Loop, world: World) -> None:
    define()
    loop.look()
    loop.look()
    with world.open() as scene:
        next(iter(scene.containers.values())).altered = "it restarts by itself"
    loop.look()
    replica = loop.look()
    assert (replica.observed, replica.attempts.count()) == (Observed.READY, 2)
    assert replica.attempts.get(number=1).reason == "Somebody changed its container: it restarts by itself."
