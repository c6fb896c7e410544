"""Messages that come twice, late, out of order, or again and again: the broker is only a hint."""

import os
import random
import subprocess
import sys
import threading
import time as real
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cortex.catalog.models import Model
from cortex.celery import app
from cortex.fleet.models import Host, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import looks, orders, tasks
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.runtime.world import World
from tests.e2e.conftest import eventually
from tests.faults.record import Record
from tests.orchestration.conftest import ROOT, Loop, Time

Define = Callable[..., Model]
WRITES = ("INSERT", "UPDATE", "DELETE")
COPIES = 100
IMPATIENT = {"visibility_timeout": 1.0, "unacked_restore_interval": 0.5, "unacked_restore_throttle": 1}


@pytest.fixture
def ours(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The tasks act on the imaginary host."""
    monkeypatch.setattr(tasks, "here", lambda: loop.here)
    return loop


def deliver(replica: Replica, times: int, seed: int) -> None:
    """Every message about it and about what has been gone for a week, so many times, shuffled."""
    messages: list[Callable[[], object]] = [
        lambda: tasks.settle_model(replica.model_id),
        lambda: tasks.reconcile_replica(str(replica.id)),
        lambda: tasks.settle_model(2**31),
        lambda: tasks.reconcile_replica(str(uuid.uuid4())),
    ]
    post = messages * times
    random.Random(seed).shuffle(post)
    for message in post:
        message()


@pytest.mark.fault(33)
@pytest.mark.django_db
def test_messages_come_a_hundred_times_shuffled_and_a_week_late(
    define: Define, ours: Loop, world: World, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "poke_replica", lambda replica: None)
    define()
    replica = ours.replica()
    with record.convergence():
        deliver(replica, COPIES, seed=33)
    assert [call.verb for call in world.changes()] == ["create", "start"]
    with CaptureQueriesContext(connection) as queries:
        deliver(replica, COPIES, seed=34)
    assert [query["sql"] for query in queries if query["sql"].startswith(WRITES)] == []
    orders.stop("tiny", None)
    deliver(replica, 1, seed=35)
    time.pass_(7 * 24 * 3600)
    deliver(replica, 10, seed=36)
    assert [call.verb for call in world.changes()] == ["create", "start", "stop", "remove"]
    assert ours.replica().observed == Observed.ABSENT
    record.saw(f"{COPIES} copies of each message, shuffled, made one container; the second {COPIES} wrote nothing.")
    record.saw("Messages of a week ago about a model stopped since, and about models that are gone, did nothing.")
    record.check(ours.here)


@contextmanager
def slow_start(loop: Loop, monkeypatch: pytest.MonkeyPatch, until: threading.Event) -> Iterator[list[str]]:
    """The container engine takes its time to start one; the ids it was asked for."""
    asked: list[str] = []
    start = loop.here.runtime.start

    def slowly(container_id: str) -> None:
        asked.append(container_id)
        until.wait(20)
        start(container_id)

    with monkeypatch.context() as patch:
        patch.setattr(loop.here.runtime, "start", slowly)
        yield asked


def listening() -> AbstractContextManager[Any]:
    """A worker of this process, four tasks at once."""
    context: AbstractContextManager[Any] = start_worker(app, pool="threads", concurrency=4, perform_ping_check=False)
    return context


@pytest.mark.fault(34)
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_task_outlives_the_brokers_patience_and_is_delivered_again(
    broker: str, define: Define, ours: Loop, world: World, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in IMPATIENT.items():
        monkeypatch.setitem(app.conf.broker_transport_options, name, value)
    define()
    replica, over = ours.replica(), threading.Event()
    delivered: list[float] = []
    took: list[float] = []

    def look(id: uuid.UUID, here: Here) -> None:
        delivered.append(real.monotonic())
        try:
            reconcile(id, here)
        finally:
            connection.close()
        took.append(real.monotonic() - delivered[-1])

    monkeypatch.setattr(looks, "reconcile", look)
    with slow_start(ours, monkeypatch, over) as asked, listening():
        began = real.monotonic()
        tasks.reconcile_replica.apply_async((str(replica.id),))
        eventually(lambda: took)
        over.set()
        eventually(lambda: len(took) == len(delivered))
    assert len(delivered) >= 2
    assert len(asked) == 1
    assert [call.verb for call in world.changes()] == ["create", "start"]
    assert ours.replica().observed == Observed.READY
    record.took(real.monotonic() - began, 2)
    record.saw(
        f"Delivered {len(delivered)} times while the first was at work; the others left after {min(took):.1f} s."
    )
    record.saw("The container was created once and started once.")
    record.check(ours.here)


@pytest.mark.fault(35)
@pytest.mark.django_db(transaction=True)
def test_a_task_that_ends_its_worker_is_not_delivered_for_ever(
    broker: str, tmp_path: Path, define: Define, ours: Loop, record: Record
) -> None:
    define()
    Host.objects.update(seen_at=datetime.now(UTC) + timedelta(hours=1))  # by the workers' clock
    poison, good = str(ours.replica().id), [str(uuid.uuid4()) for _ in range(5)]
    begun, database = tmp_path / "begun", connection.settings_dict
    command = [sys.executable, "-m", "celery", "-A", "tests.faults.poisoned", "worker"]
    command += ["-P", "threads", "-c", "1", "-l", "error"]
    url = f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    known = {"BROKER_URL": broker, "POISON": poison, "BEGUN": str(begun), "DATABASE_URL": url}
    workers: list[subprocess.Popen[bytes]] = []

    def tended() -> bool:
        """A worker that ended is started anew, and asked again, as the supervisor and each sweep do."""
        if not workers or workers[-1].poll() is not None:
            workers.append(subprocess.Popen(command, env=os.environ | known, cwd=ROOT, stderr=subprocess.DEVNULL))
            for id in [good[0], poison, *good[1:]]:
                tasks.reconcile_replica.apply_async((id,))
        return begun.exists() and set(good) <= set(begun.read_text().split()) and "ended" in ours.replica().reason

    def deliveries() -> int:
        return begun.read_text().split().count(poison)

    try:
        began = real.monotonic()
        eventually(tended, 90)
        took = real.monotonic() - began
        real.sleep(5)
        assert (deliveries(), len(workers)) == (looks.DEATHS, looks.DEATHS + 1)
        orders.start("tiny", None)
        tasks.reconcile_replica.apply_async((poison,))
        eventually(lambda: deliveries() == looks.DEATHS + 1, 20)
    finally:
        workers[-1].terminate()
        workers[-1].wait(20)
    record.took(took, 0)
    record.saw(f"After {looks.DEATHS} workers it was looked at no more, the others were obeyed, and people read:")
    record.saw(f"“{ours.replica().reason}” When somebody started its model it was tried once more.")
    (Path(settings.ENV.cortex_state) / "looks" / ours.replica().id.hex).unlink()
    ours.settle(2)
    assert ours.replica().observed == Observed.READY
    record.check(ours.here)
