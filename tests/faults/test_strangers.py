"""Containers that are not ours, and containers of ours that no row knows."""

from collections.abc import Callable
from types import SimpleNamespace

import psycopg
import pytest
from django.db import DatabaseError, connection
from django.db.models import Q

from cortex.catalog.models import Model
from cortex.fleet.models import Replica, Stray
from cortex.fleet.states import Observed
from cortex.orchestration import strays
from cortex.orchestration import sweep as sweeping
from cortex.orchestration.strays import GRACE
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Label
from cortex.runtime.world import World
from tests.fakes.images import bad_engine
from tests.faults.record import Record
from tests.faults.yard import Yard, docker
from tests.orchestration.conftest import Loop, Time

Define = Callable[..., Model]
LATER = ("b", "c", "d", "e")


@pytest.mark.fault(13)
@pytest.mark.docker
@pytest.mark.django_db
def test_a_stranger_with_our_name_is_told_and_left_alone(yard: Yard, record: Record) -> None:
    yard.define()
    yard.define("other")
    name, replica = yard.container(), yard.replica()
    labels = [f"{Label.REPLICA}={replica.id.hex}", f"{Label.INSTALL}={'0' * 32}", f"{Label.ATTEMPT}=1"]
    words = [word for label in labels for word in ("--label", label)]
    stranger = docker("run", "-d", "--name", name, *words, bad_engine())
    try:
        for _ in range(3):
            replica = yard.look()
            sweep(yard.here)
            yard.ahead += GRACE.total_seconds() + 1
        other = yard.until(Observed.READY, "other")
        assert yard.inspect(stranger)["State"]["Running"]
        assert replica.observed == Observed.ABSENT
        assert "not ours" in replica.reason
        told = replica.reason.replace(name, "*its name*")
        record.saw(f"{told} The stranger runs on, the other model is {other.observed}.")
    finally:
        docker("rm", "-f", stranger)
    yard.ahead += 400
    with record.convergence():
        yard.until(Observed.READY)
    record.check(yard.here)


@pytest.mark.fault(15)
@pytest.mark.docker
@pytest.mark.django_db(transaction=True)
def test_after_an_old_backup_is_restored_strays_wait_for_a_person(yard: Yard, record: Record) -> None:
    yard.define("a")
    yard.until(Observed.READY, "a")
    copy(connection.settings_dict["NAME"], "backup")
    for name in LATER:
        yard.define(name)
        yard.until(Observed.READY, name)
    before = set(yard.containers())
    with record.convergence():
        copy("backup", connection.settings_dict["NAME"])
        for _ in range(5):
            sweep(yard.here)
            yard.ahead += GRACE.total_seconds() + 1
    assert Model.objects.count() == 1
    assert set(yard.containers()) == before
    assert {stray.model_name for stray in Stray.objects.all()} == set(LATER)
    record.saw(f"{yard.look('a').model} goes on. Listed, and kept over {5 * GRACE}: {', '.join(LATER)}.")
    Stray.objects.update(confirmed=True)
    for _ in range(2):
        sweep(yard.here)
    assert len(yard.containers()) == 1
    record.saw(f"Once confirmed they were removed; {len(yard.containers())} container is left.")
    record.check(yard.here)


def copy(source: str, target: str) -> None:
    """Replace a database by a copy of another, as a restore does."""
    connection.close()
    known = connection.settings_dict
    with psycopg.connect(host=known["HOST"], user=known["USER"], dbname="postgres", autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {target} TEMPLATE {source}")


@pytest.mark.fault(16)
@pytest.mark.django_db
def test_an_empty_list_of_what_people_want_removes_nothing(
    define: Define, loop: Loop, world: World, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(replicas=2)
    sweep(loop.here)
    before = loop.containers()
    with record.convergence(), monkeypatch.context() as patch:
        for module in (strays, sweeping):
            patch.setattr(module, "Replica", SimpleNamespace(objects=Replica.objects.none()))
        for _ in range(10):
            sweep(loop.here)
            time.pass_(GRACE.total_seconds() + 1)
    assert loop.containers() == before
    listed = Stray.objects.count()
    assert listed == len(before)
    record.saw(f"Empty: {len(loop.containers())} of {len(before)} containers run on; {listed} are listed as strays.")
    for _ in range(3):
        loop.look()
        sweep(loop.here)
    assert not Stray.objects.exists()
    record.check(loop.here)


@pytest.mark.fault(16)
@pytest.mark.django_db
def test_a_list_that_cannot_be_read_removes_nothing(
    define: Define, loop: Loop, world: World, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    sweep(loop.here)
    before, changes = loop.containers(), len(world.changes())

    def refuse(*_: Q, **__: object) -> None:
        raise DatabaseError("permission denied for table fleet_replica")

    with record.convergence(), monkeypatch.context() as patch:
        patch.setattr(strays, "Replica", SimpleNamespace(objects=SimpleNamespace(filter=refuse)))
        for _ in range(3):
            time.pass_(GRACE.total_seconds() + 1)
            with pytest.raises(DatabaseError):
                sweep(loop.here)
    assert (loop.containers(), len(world.changes())) == (before, changes)
    record.saw("Unreadable: the sweep ends with the error, and touches nothing.")
    record.check(loop.here)
