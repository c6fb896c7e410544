"""Two of us on one thing, and two of us on one Docker Engine."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
from django.conf import settings
from django.db import connection

from cortex.fleet.states import Observed
from cortex.orchestration import reconcile as module
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Label
from cortex.runtime.docker import DockerRuntime
from engines.contract import ContainerSpec
from tests.fakes.images import bad_engine
from tests.faults.record import Record
from tests.faults.yard import Yard

pytestmark = [pytest.mark.docker]

AT_ONCE = 4


@contextmanager
def nobody_else(*_: object) -> Iterator[bool]:
    """The lock, lost: everybody believes to hold it."""
    yield True


@pytest.mark.fault(6)
@pytest.mark.django_db(transaction=True)
def test_the_name_is_the_fence_when_the_lock_is_lost(
    yard: Yard, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "only_one", nobody_else)
    yard.define()
    replica, gate = yard.replica(), Barrier(AT_ONCE)

    def race(_: int) -> None:
        try:
            gate.wait(10)
            for _ in range(3):
                reconcile(replica.id, yard.here)
        finally:
            connection.close()

    with record.convergence():
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(race, range(AT_ONCE)))
        replica = yard.until(Observed.READY)
    creates = sum("/containers/create" in line for line in yard.proxy.heard)
    ends = sum(line.startswith("DELETE") or "/stop" in line or "/kill" in line for line in yard.proxy.heard)
    assert (len(yard.containers()), ends) == (1, 0)
    assert replica.attempts.filter(ended_at=None).count() == 1
    record.saw(
        f"{AT_ONCE} at once: {creates} creates sent, {len(yard.containers())} container, {ends} stopped or killed."
    )
    record.check(yard.here)


@pytest.mark.fault(14)
@pytest.mark.django_db
def test_two_installs_on_one_engine_never_touch_each_other(yard: Yard, record: Record) -> None:
    """The other install has no row here: to us, its containers are as unclaimed as any."""
    other = DockerRuntime("unix:///var/run/docker.sock", uuid.uuid4().hex, settings.ENV.cortex_models.resolve())
    yard.define()
    yard.until(Observed.READY)
    ours = yard.here.runtime.find()[0]
    theirs = other.create(f"cortex-other-{uuid.uuid4().hex}", _spec(), {Label.REPLICA: uuid.uuid4().hex})
    try:
        other.start(theirs)
        with record.convergence():
            for _ in range(20):
                yard.ahead += 180
                yard.look()
                sweep(yard.here)
        assert [container.id for container in yard.here.runtime.find()] == [ours.id]
        found = other.inspect(theirs)
        assert found is not None
        assert found.state == "running"
        assert [container.id for container in other.find()] == [theirs]
        assert not yard.here.host.strays.exists()
        record.saw(
            f"After 20 sweeps over an hour of our clock theirs is {found.state}, listed by nobody, and ours serves."
        )
        record.check(yard.here)
    finally:
        other.remove(theirs)


def _spec() -> ContainerSpec:
    return ContainerSpec(image=bad_engine(), argv=())
