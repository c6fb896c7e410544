"""How long a start and a fetch may take: as long as something happens, and no longer; the stall is named."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import attempts
from cortex.orchestration.fetch import fetch
from cortex.runtime.contract import PullProgress
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.orchestration.conftest import CUDA_IMAGE, Loop, Time

Define = Callable[..., Model]
Hand = Callable[[Loop], None]

ALLOWED = 60  # seconds that a model of a few megabytes is given
STEP = 20
MIB = 1 << 20
LOADS = 400
TEN_MINUTES = 600
STALLED = "for 60 s it printed nothing, read nothing and took no more memory"
TOO_LONG = "within 600 s, 10 times what its size explains"

pytestmark = pytest.mark.django_db


def nothing(loop: Loop) -> None:
    """Nobody does anything."""


def prints(loop: Loop) -> None:
    for name in loop.containers():
        loop.world.write(name, "still at it")


def fills_its_card(loop: Loop) -> None:
    Gpu.objects.update(used=F("used") + 64 * MIB)


@pytest.fixture
def loading(define: Define, loop: Loop, world: World) -> Loop:
    """A model that is going to be loaded on a card."""
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    return loop


def takes(loop: Loop, hand: Hand) -> int:
    """Seconds until its first attempt is ready or over."""
    for taken in range(0, 2000, STEP):
        attempt = loop.look().attempts.get(number=1)
        if attempt.ready_at or attempt.ended_at:
            return taken
        loop.time.pass_(STEP)
        hand(loop)
    raise AssertionError("it is neither ready nor over")


@pytest.mark.parametrize(
    ("script", "hand"),
    [
        (Script(load=ALLOWED), nothing),
        (Script(load=LOADS, reads=MIB), nothing),
        (Script(load=LOADS, grows=MIB), nothing),
        (Script(load=LOADS), prints),
        (Script(load=LOADS), fills_its_card),
    ],
    ids=["in time", "reads", "grows", "prints", "fills its card"],
)
def test_a_start_goes_on_while_something_happens(loading: Loop, world: World, script: Script, hand: Hand) -> None:
    world.script(CUDA_IMAGE, script)
    assert takes(loading, hand) == script.load
    assert loading.replica().observed == Observed.READY


@pytest.mark.parametrize(
    ("script", "after", "says"),
    [
        (Script(load=1e6), ALLOWED + STEP + 60, STALLED),
        (Script(load=1e6, reads=1000, grows=1000), ALLOWED + STEP + 60, STALLED),
        (Script(load=1e6, reads=MIB, stalls_after=200), 200 + 60, STALLED),
        (Script(load=1e6, grows=MIB, stalls_after=200), 200 + 60, STALLED),
        (Script(load=1e6, reads=MIB), 10 * ALLOWED + STEP, TOO_LONG),
    ],
    ids=["nothing", "next to nothing", "stops reading", "stops growing", "reads for ever"],
)
def test_a_start_in_which_nothing_happens_is_ended_and_says_so(
    loading: Loop, world: World, script: Script, after: int, says: str
) -> None:
    world.script(CUDA_IMAGE, script)
    assert takes(loading, nothing) == after
    replica = loading.replica()
    assert (replica.observed, replica.failures) == (Observed.ABSENT, 1)
    assert says in replica.attempts.get().reason


def test_a_start_within_its_time_is_not_asked_for_evidence(loading: Loop, world: World, time: Time) -> None:
    world.script(CUDA_IMAGE, Script(load=1e6))
    loading.look()
    time.pass_(ALLOWED)
    loading.look()
    assert "effort" not in [call.verb for call in world.calls()]
    time.pass_(1)
    loading.look()
    assert "effort" in [call.verb for call in world.calls()]


@pytest.fixture
def fetching(define: Define, loop: Loop, world: World) -> Replica:
    """A model whose image is not on the host."""
    with world.open() as scene:
        scene.images.clear()
    define()
    replica = loop.look()
    assert replica.observed == Observed.FETCHING
    return replica


def arrives(loop: Loop, monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """The image comes in pieces, so many seconds apart; the loop looks after each wait."""

    def pull(self: FakeRuntime, image: str, on_progress: Callable[[PullProgress], Any]) -> None:
        for piece, wait in enumerate(seconds):
            on_progress(PullProgress(done=piece + 1, total=len(seconds)))
            loop.time.pass_(wait)
            loop.look()
        on_progress(PullProgress(done=len(seconds), total=len(seconds)))
        loop.world.add_image(image)

    monkeypatch.setattr(FakeRuntime, "pull", pull)
    monkeypatch.setattr("cortex.orchestration.fetch.NOTED_EVERY", 0.0)
    fetch(loop.replica(), loop.here)


def test_a_fetch_goes_on_while_bytes_come(fetching: Replica, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    arrives(loop, monkeypatch, *[TEN_MINUTES] * 5)
    assert loop.look().observed == Observed.READY
    assert loop.replica().failures == 0


def test_a_fetch_without_a_byte_for_ten_minutes_is_ended_and_says_so(
    fetching: Replica, loop: Loop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrives(loop, monkeypatch, 60, TEN_MINUTES + 1, 60)
    ended = fetching.attempts.get(number=1)
    assert ended.reason == "Its download stalled: no byte came for ten minutes."
    assert ended.bytes_done == 2
    assert not world.changes()
    assert loop.replica().failures == 1


def test_an_image_refused_twice_is_given_up(fetching: Replica, loop: Loop, world: World, time: Time) -> None:
    world.script(fetching.attempts.get().image, Script(pull_refused=True))
    for _ in range(2):
        assert loop.look().observed == Observed.FETCHING
        fetch(loop.replica(), loop.here)
        time.pass_(11)
    replica = loop.look()
    assert replica.gave_up
    assert attempts.current(replica) is None
    assert "does not give the image" in replica.reason
