"""Hosts and strays from a terminal."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.cli import draining
from cortex.fleet import clock
from cortex.fleet.models import Host, Replica, Seat, Stray
from cortex.fleet.states import Observed
from cortex.orchestration import tasks
from tests import scene
from tests.cli.conftest import Run
from tests.conftest import key_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.sweep_host, "apply_async", lambda args, **more: None)


def test_a_host_is_cordoned_labelled_and_listed(cortex: Run) -> None:
    scene.host()
    assert cortex("cordon", "atlas").exit_code == 0
    assert cortex("label", "atlas", "zone=cellar", "rack=1").exit_code == 0
    assert "zone=cellar" in cortex("label", "atlas", "rack-").stderr
    assert Host.objects.get().labels == {"zone": "cellar"}
    listed = cortex("hosts").stdout
    assert "nothing new" in listed
    assert "zone=cellar" in listed
    assert cortex("uncordon", "atlas").exit_code == 0
    assert not Host.objects.get().cordoned


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["cordon", "nowhere"], 3, "There is no host named 'nowhere'."),
        (["drain", "nowhere"], 3, "There is no host named 'nowhere'."),
        (["undrain", "nowhere"], 3, "There is no host named 'nowhere'."),
        (["label", "atlas", "zone"], 2, "It has no '='."),
        (["label", "atlas", "Zone=a"], 5, "/labels"),
        (["forget", "atlas"], 2, "--yes"),
        (["forget", "atlas", "--yes"], 5, "Stop its agent"),
        (["forget", "nowhere", "--yes"], 3, "nowhere"),
        (["strays", "rm", "7"], 2, "--yes"),
        (["strays", "rm", "7", "--yes"], 3, "There is no stray 7"),
    ],
)
def test_what_cannot_be_done_is_said_with_an_exit_code(cortex: Run, words: list[str], code: int, says: str) -> None:
    scene.host()
    result = cortex(*words)
    assert (result.exit_code, says in result.stderr) == (code, True), result.stderr


def test_force_is_an_administrator_s(cortex: Run, alice: Person) -> None:
    scene.whole_fleet()
    Host.objects.update(seen_at=clock.now() - timedelta(hours=1))
    assert cortex("forget", "atlas", "--force", "--yes").exit_code == 5
    assert Host.objects.exists()
    assert cortex("forget", "atlas", "--force", "--yes", CORTEX_TOKEN=key_of(alice)).exit_code == 0
    assert not Host.objects.exists()


def test_strays_are_listed_and_removed_by_their_id(cortex: Run) -> None:
    left = Stray.objects.create(
        host=scene.host(), container_id="c" * 64, name="cortex-1-2", model_name="gone", first_seen_at=clock.now()
    )
    listed = cortex("strays").stdout
    assert "cortex-1-2" in listed
    assert "in 4m" in listed
    assert cortex("strays", "rm", str(left.id), "--yes").exit_code == 0
    assert "at once" in cortex("strays").stdout
    assert '"confirmed": true' in cortex("strays", "-o", "json").stdout


def leave(name: str) -> None:
    """A replica is gone from its host."""
    left = Replica.objects.filter(model__name=name)
    Seat.objects.filter(replica__in=left).delete()
    left.update(host=None, observed="absent")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens between two looks of the command, one after the other."""
    deeds: list[Callable[[], object]] = []
    monkeypatch.setattr(draining, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda s: deeds.pop(0)()))
    return deeds


def serving(*names: str) -> Host:
    """Models that serve on a host."""
    host = scene.host()
    for name in names:
        scene.replica(scene.model(name), host, Observed.READY, "Answers.")
    return host


def test_a_drain_is_told_in_words_until_the_host_is_empty(cortex: Run, quick: list[Callable[[], object]]) -> None:
    serving("a", "b")
    quick += [lambda: leave("a"), lambda: leave("b")]
    result = cortex("drain", "atlas", "--wait")
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("atlas")] == [
        "atlas: 0 of 2 have left",
        "atlas: 1 of 2 have left",
        "atlas: 2 of 2 have left",
    ]
    assert "  b/0: It waits for its turn" in result.stderr
    assert "nothing: 2 of 2 have left" in cortex("hosts").stdout
    assert "It takes models again." in cortex("undrain", "atlas").stderr
    assert "anything" in cortex("hosts").stdout


def test_without_wait_it_says_what_is_under_way(cortex: Run) -> None:
    serving("a")
    result = cortex("drain", "atlas")
    assert (result.exit_code, "0 of 1 have left" in result.stderr) == (0, True)
    assert "cortex undrain atlas" in result.stderr
    cortex("cordon", "atlas")
    assert "It is cordoned still" in cortex("undrain", "atlas").stderr


def test_what_is_pinned_ends_the_wait_with_its_name(cortex: Run, quick: list[Callable[[], object]]) -> None:
    serving("a", "stuck")
    Model.objects.filter(name="stuck").update(placement={"hosts": ["atlas"]})
    quick += [lambda: leave("a")]
    result = cortex("drain", "atlas", "--wait")
    assert (result.exit_code, "stuck/0: Its model may run nowhere else" in result.stderr) == (5, True), result.stderr


def test_a_drain_that_is_called_off_or_late_says_so(cortex: Run, quick: list[Callable[[], object]]) -> None:
    serving("a")
    quick += [lambda: Host.objects.update(draining_since=None)]
    result = cortex("drain", "atlas", "--wait")
    assert (result.exit_code, "Somebody called it off." in result.stderr) == (1, True)
    result = cortex("drain", "atlas", "--wait", "--timeout", "0")
    assert (result.exit_code, "a/0: It waits for its turn" in result.stderr) == (4, True)
    Host.objects.update(seen_at=clock.now() - timedelta(hours=1))
    assert "atlas does not answer" in cortex("drain", "atlas", "--wait", "--timeout", "0").stderr
