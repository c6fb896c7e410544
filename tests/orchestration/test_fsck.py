"""Each check of fsck finds what is planted for it, and nothing in a house that is in order."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from cortex.catalog.models import Model
from cortex.fleet.models import Attempt, Gpu, Host, Replica, Seat, Transition
from cortex.fleet.states import Observed
from cortex.orchestration import fsck
from cortex.orchestration.management.commands import fsck as command
from cortex.runtime.contract import Label
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import ImaginaryGpu
from cortex.runtime.world import World
from engines.contract import ContainerSpec
from tests.orchestration.conftest import IMAGE, Loop, Time

Define = Callable[..., Model]
LONG_AGO = timedelta(days=400)

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(define: Define, loop: Loop, world: World) -> Loop:
    """A card, and a model that serves on it."""
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    loop.look()
    assert loop.look().observed == Observed.READY
    return loop


def broken(loop: Loop) -> list[fsck.Violation]:
    return fsck.rows() + fsck.containers(loop.here.host, loop.here.runtime)


def test_a_house_in_order_has_no_violation(house: Loop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert broken(house) == []
    monkeypatch.setattr(command, "here", lambda: house.here)
    call_command("fsck")


def test_the_command_says_what_and_fails(house: Loop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(command, "here", lambda: house.here)
    Gpu.objects.update(reserved=1)
    with pytest.raises(CommandError, match="1 violations") as failure:
        call_command("fsck")
    assert failure.value.returncode == 1
    assert "rule 3" in capsys.readouterr().out


def _age() -> None:
    """Everything was so for a long time."""
    Model.objects.update(updated_at=Model.objects.get().updated_at - LONG_AGO)
    Replica.objects.update(observed_at=Replica.objects.get().observed_at - LONG_AGO)  # type: ignore[operator]


def _order_not_taken_up(loop: Loop) -> None:
    Model.objects.update(turn=9)
    _age()


def _row_missing(loop: Loop) -> None:
    Model.objects.update(replicas=2)
    _age()


def _seat_of_nothing(loop: Loop) -> None:
    replica = loop.replica()
    replica.observe(Observed.ABSENT, "x")
    replica.attempts.update(ended_at=loop.time.now() - LONG_AGO)
    _age()


def _seat_on_another_host(loop: Loop) -> None:
    Gpu.objects.update(host=Host.objects.create(name="other"))


def _unknown_without_seats(loop: Loop) -> None:
    loop.replica().observe(Observed.UNKNOWN, "x")
    Seat.objects.all().delete()
    Gpu.objects.update(reserved=0)


def _loading_without_seats(loop: Loop) -> None:
    loop.replica().observe(Observed.LOADING, "x")
    Seat.objects.all().delete()
    Gpu.objects.update(reserved=0)


def _renamed(loop: Loop) -> None:
    with loop.world.open() as scene:
        next(iter(scene.containers.values())).name = "mine-now"


def _drains_without_end(loop: Loop) -> None:
    _runs_though_stopped(loop)
    Replica.objects.update(draining_at=loop.time.now() - timedelta(seconds=91))


def _stops_without_end(loop: Loop) -> None:
    loop.replica().observe(Observed.STOPPING, "x")
    _runs_though_stopped(loop)


def _backoff_without_end(loop: Loop) -> None:
    Replica.objects.update(failures=1, retry_at=loop.time.now() + timedelta(seconds=361))


def _clock_ahead(loop: Loop) -> None:
    Replica.objects.update(observed_at=loop.time.now() + timedelta(hours=2))


def _turn_from_the_future(loop: Loop) -> None:
    Replica.objects.update(turn=9)


def _attempt_from_the_future(loop: Loop) -> None:
    Attempt.objects.update(confirmed_turn=9)


def _silent_change(loop: Loop) -> None:
    Replica.objects.update(observed=Observed.LOADING)


def _failure_without_wait(loop: Loop) -> None:
    Replica.objects.update(failures=2)


def _flapping(loop: Loop) -> None:
    replica = loop.replica()
    for _ in range(25):
        replica.observe(Observed.LOADING, "x")
        replica.observe(Observed.READY, "x", address="a:1")


def _two_launches(loop: Loop) -> None:
    Attempt.objects.update(ready_at=None)
    other = Replica.objects.create(model=loop.replica().model, slot=1, host=loop.here.host, observed=Observed.ABSENT)
    now = loop.time.now()
    other.attempts.create(number=1, turn=0, confirmed_turn=0, image="x", queued_at=now, started_at=now)
    Seat.objects.create(replica=other, gpu_id="GPU-0", bytes=0, launching=True)


def _two_containers(loop: Loop) -> None:
    labels = {Label.REPLICA: loop.replica().id.hex, Label.ATTEMPT: "1"}
    loop.here.runtime.start(loop.here.runtime.create("second", ContainerSpec(image=IMAGE, argv=()), labels))


def _nobodys_container(loop: Loop) -> None:
    loop.here.runtime.create("nobodys", ContainerSpec(image=IMAGE, argv=()), {Label.REPLICA: "0" * 32})


def _container_without_attempt(loop: Loop) -> None:
    Attempt.objects.update(ended_at=loop.time.now())


def _container_without_seat(loop: Loop) -> None:
    Seat.objects.all().delete()
    Gpu.objects.update(reserved=0)


def _ready_without_container(loop: Loop) -> None:
    loop.here.runtime.remove(loop.replica().container_name)
    _age()


def _runs_though_stopped(loop: Loop) -> None:
    Model.objects.update(desired="stopped")
    _age()


def _label_too_many(loop: Loop) -> None:
    with loop.world.open() as scene:
        next(iter(scene.containers.values())).labels["cortex.token"] = "x"


def _name_taken(loop: Loop) -> None:
    loop.replica().observe(Observed.ABSENT, "x")
    loop.here.runtime.remove(loop.replica().container_name)
    stranger = FakeRuntime(loop.world, "another", settings.ENV.cortex_models)
    stranger.create(loop.replica().container_name, ContainerSpec(image=IMAGE, argv=()), {})


@pytest.mark.parametrize(
    ("plant", "rule", "says"),
    [
        (_order_not_taken_up, 1, "its model at 9"),
        (_row_missing, 1, "1 rows for 2"),
        (_ready_without_container, 1, "no container of it runs"),
        (_two_containers, 2, "alive for the same replica"),
        (_renamed, 2, "runs as mine-now"),
        (_nobodys_container, 2, "Nobody claims"),
        (_container_without_attempt, 2, "no open attempt"),
        (_seat_of_nothing, 3, "nothing of it is there"),
        (_seat_on_another_host, 3, "another host"),
        (_container_without_seat, 3, "without a seat"),
        (_loading_without_seats, 3, "is loading, and its seats were given away"),
        (_unknown_without_seats, 4, "is unknown, and its seats were given away"),
        (_runs_though_stopped, 5, "do not want it"),
        (_drains_without_end, 5, "do not want it"),
        (_stops_without_end, 5, "do not want it"),
        (_turn_from_the_future, 6, "not ordered yet"),
        (_attempt_from_the_future, 6, "is of turn"),
        (_silent_change, 6, "does not say so"),
        (_name_taken, 7, "not ours"),
        (_failure_without_wait, 8, "waits for no time"),
        (_backoff_without_end, 8, "longer than any backoff"),
        (_clock_ahead, 8, "another clock"),
        (_flapping, 9, "within a minute"),
        (_two_launches, 10, "at the same time"),
        (_label_too_many, 11, "labels we do not write"),
    ],
)
def test_what_is_planted_is_found(house: Loop, plant: Callable[[Loop], None], rule: int, says: str) -> None:
    plant(house)
    found = broken(house)
    assert any(violation.rule == rule and says in violation.what for violation in found), found


def test_an_overbooked_card_is_refused_by_the_database_itself(house: Loop) -> None:
    from_the_table = Gpu._meta.constraints
    assert "gpu_is_not_overbooked" in [constraint.name for constraint in from_the_table]


@pytest.mark.parametrize("leak", [
    lambda: Attempt.objects.update(last_log="using hf_very_secret"),
    lambda: Attempt.objects.update(remedy="Use hf_very_secret."),
    lambda: Replica.objects.update(reason="401 for hf_very_secret"),
    lambda: Transition.objects.update(reason="401 for hf_very_secret"),
], ids=["log", "remedy", "reason", "history"])  # fmt: skip
def test_a_secret_that_was_told_is_found(
    house: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: Callable[[], int]
) -> None:
    (tmp_path / "token").write_text("hf_very_secret\n")
    monkeypatch.setattr(settings.ENV, "cortex_hub_token_file", tmp_path / "token")
    assert leak()
    assert [violation.rule for violation in broken(house)] == [11]


def test_what_is_on_its_way_out_is_given_its_time(house: Loop) -> None:
    _runs_though_stopped(house)
    Replica.objects.update(draining_at=house.time.now() - timedelta(seconds=89))
    assert broken(house) == []
    Replica.objects.update(draining_at=None)
    house.replica().observe(Observed.STOPPING, "x")
    Replica.objects.update(observed_at=house.time.now() - timedelta(seconds=69))  # it is given ten to end
    assert broken(house) == []


def test_a_transaction_left_open_is_found(house: Loop, monkeypatch: pytest.MonkeyPatch, time: Time) -> None:
    monkeypatch.setattr(fsck, "IN_TRANSACTION", 0)
    name = connection.settings_dict
    with psycopg.connect(host=name["HOST"], user=name["USER"], dbname=name["NAME"]) as other:
        other.execute("SELECT 1")
        assert [violation.rule for violation in fsck.rows()] == [12]
