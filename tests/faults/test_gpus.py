"""Cards that are lost, exchanged, taken by strangers; a driver that hangs: by NVIDIA's own library over a made one."""

import subprocess
import time as real
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Host, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import hosts, orders
from cortex.orchestration.agent import WITHOUT_CARDS, Agent
from cortex.runtime import gpus
from cortex.runtime.gpus import read
from cortex.runtime.world import World
from tests.faults.record import Record
from tests.orchestration.conftest import GIB, Loop, Time

Define = Callable[..., Model]
Nvml = Callable[..., None]

pytestmark = pytest.mark.django_db

SOURCE = Path(__file__).parents[1] / "fakes" / "nvml.c"
FIRST, SECOND = "GPU-00000000-0000-0000-0000-000000000000", "GPU-00000000-0000-0000-0000-000000000001"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def nvml(library: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvml]:
    """Plays a scenario, and has the cards sampled as the agent does."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    with monkeypatch.context() as patch:

        def play(**settings: object) -> None:
            for name in ("FAIL", "FAIL_CARD", "HANG", "CARDS", "UUIDS", "USED", "PID"):
                patch.delenv(f"NVML_{name}", raising=False)
            for name, value in settings.items():
                patch.setenv(f"NVML_{name}", str(value))
            hosts.sample(loop.here, read(timeout=2))

        yield play
    for child in gpus._stuck:
        child.wait(5)
    gpus._stuck.clear()


def serving(define: Define, loop: Loop, nvml: Nvml) -> str:
    """A model that serves on a card of this host; the card's UUID."""
    nvml()
    define(gpus=1)
    assert loop.look().observed == Observed.READY
    return Seat.objects.get().gpu_id


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        ({"FAIL": "Memory:15"}, "fallen off the bus"),
        ({"FAIL": "Memory:999"}, "Unknown Error"),
        ({"FAIL": "Init:18"}, "updated while it ran"),
        ({"HANG": "Memory"}, "does not answer"),
    ],
    ids=["lost", "xid", "mismatch", "hang"],
)
def test_a_card_that_does_not_answer_is_not_used_and_what_runs_goes_on(
    define: Define, loop: Loop, nvml: Nvml, time: Time, record: Record, scenario: dict[str, str], says: str
) -> None:
    card = serving(define, loop, nvml)
    seen_at, used = Gpu.objects.values_list("seen_at", "used").get(uuid=card)
    time.pass_(5)
    with record.convergence():
        began = real.monotonic()
        nvml(**scenario)
        took = real.monotonic() - began
    assert took < 5
    row = Gpu.objects.get(uuid=card)
    assert (row.missing, row.seen_at, row.used) == (True, seen_at, used)
    assert says in Host.objects.get().gpu_condition
    replica = loop.look()
    assert (replica.observed, replica.attempts.count(), replica.seats.count()) == (Observed.READY, 1, 1)
    define("other", gpus=1)
    assert "is gone" in loop.replica("other").reason
    nvml()
    assert (Gpu.objects.get(uuid=card).missing, Host.objects.get().gpu_condition) == (False, "")
    time.pass_(60)
    assert loop.look("other").observed == Observed.READY
    record.saw(f"Asked for {took:.1f} s: the cards are missing, their values keep their time; the model served on.")
    record.check(loop.here)


@pytest.mark.fault(26)
def test_a_host_whose_cards_are_lost_is_asked_again_soon(loop: Loop, nvml: Nvml, record: Record) -> None:
    nvml()
    nvml(FAIL="Init:15")
    assert Agent(loop.here)._sample() is None
    Gpu.objects.all().delete()
    assert Agent(loop.here)._sample() == WITHOUT_CARDS
    record.saw("A host that had cards is sampled every five seconds until they are back.")
    record.check(loop.here)


@pytest.mark.fault(27)
def test_seats_stay_with_their_cards_when_those_change_places(
    define: Define, loop: Loop, nvml: Nvml, world: World, time: Time, record: Record
) -> None:
    card = serving(define, loop, nvml)
    calls = len(world.changes())
    with record.convergence():
        nvml(UUIDS=f"{SECOND},{FIRST}")
        replica = loop.look()
    assert {row.uuid: row.index for row in Gpu.objects.all()} == {SECOND: 0, FIRST: 1}
    assert (replica.observed, Seat.objects.get().gpu_id) == (Observed.READY, card)
    assert len(world.changes()) == calls
    assert loop.here.runtime.find()[0].gpus == (card,)
    record.saw("Places changed, UUIDs did not: the seat and the container kept their card, and nothing was called.")
    record.check(loop.here)


@pytest.mark.fault(27)
def test_an_exchanged_card_is_missing_and_nothing_moves_in_silence(
    define: Define, loop: Loop, nvml: Nvml, world: World, time: Time, record: Record
) -> None:
    card = serving(define, loop, nvml)
    other = SECOND if card == FIRST else FIRST
    nvml(UUIDS=f"{other},GPU-new")
    assert Gpu.objects.get(uuid=card).missing
    assert not Gpu.objects.get(uuid="GPU-new").missing
    assert loop.look().observed == Observed.READY
    with record.convergence(lambda: time.at.timestamp()):
        world.end(loop.replica().container_name)
        for _ in range(3):
            loop.look()
            time.pass_(15)
    replica = loop.replica()
    assert replica.observed == Observed.READY
    assert card not in set(replica.seats.values_list("gpu_id", flat=True))
    assert Gpu.objects.get(uuid=card).reserved == 0
    assert [bool(attempt.spec["gpus"]) for attempt in replica.attempts.all()] == [True, True]
    record.saw("The card is marked missing. When the container ended, the next attempt took a card that is there.")
    record.check(loop.here)


@pytest.mark.fault(29)
def test_a_stranger_on_a_card_is_counted_and_named(
    define: Define, loop: Loop, nvml: Nvml, time: Time, record: Record
) -> None:
    nvml(CARDS=1, USED=23 * GIB, PID=777)
    define(gpus=1, context=65_536, users=64)
    with record.convergence(lambda: time.at.timestamp()):
        reason = loop.replica().reason
        assert "23.0 GiB are used outside Cortex (process 777)" in reason
        nvml(CARDS=1, USED=0, PID=777)
        time.pass_(10)
        assert loop.look().observed == Observed.READY
    orders.stop("tiny", None)
    loop.look()
    record.saw(f"“{reason}” It started once the stranger had left.")
    record.check(loop.here)
