"""Hosts and strays from a terminal."""

from datetime import timedelta

import pytest

from cortex.access.models import Person
from cortex.fleet import clock
from cortex.fleet.models import Host, Stray
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
