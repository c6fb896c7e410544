"""Disks that are full: the models', Docker's, the broker's. What arrived is kept, and it goes on once there is room."""

import html
import os
import subprocess
import tempfile
import threading
import time as real
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.celery import app
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from cortex.orchestration import orders, tasks
from cortex.orchestration.fetch import fetch
from cortex.orchestration.settle import settle
from cortex.orchestration.shipping import Shipper
from cortex.runtime import answers, hub
from cortex.runtime.contract import DiskFull
from cortex.telemetry import logs
from tests.conftest import rest_client
from tests.e2e.conftest import eventually
from tests.fakes.hub import FakeHub
from tests.fakes.hub import hub as fake_hub
from tests.faults.record import Record
from tests.orchestration.conftest import Loop, Time
from tools import services

Define = Callable[..., Model]


@pytest.fixture
def small_disk(models_folder: Path) -> Iterator[Callable[[int], None]]:
    """The models folder is a disk of so many KiB, until told that it is larger."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    mounted = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(models_folder)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(models_folder)], check=True, capture_output=True)

    yield resize
    subprocess.run(["umount", "-l", str(models_folder)], check=True, capture_output=True)


@pytest.fixture
def far(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the made model."""
    with fake_hub({"tiny.gguf": made.read_bytes()}) as far:
        monkeypatch.setattr(settings.ENV, "cortex_hub_url", far.url)
        monkeypatch.setattr(hub, "SPARE", 0)
        yield far


@pytest.mark.fault(39)
@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:Not enough free disk space")
def test_the_models_disk_is_full_in_the_middle_of_a_download(
    loop: Loop, time: Time, small_disk: Callable[[int], None], far: FakeHub, record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = {"repository": "owner/model", "path": "tiny.gguf"}
    model, _ = orders.define({"name": "tiny", "engine": "llamacpp", "source": source, "desired": "running"}, None)
    settle(model.id)

    def bring() -> Replica:
        loop.look()
        fetch(loop.replica(), loop.here)
        return loop.replica()

    refused = bring()
    assert "Free some space" in refused.reason
    monkeypatch.setattr(hub, "_check_space", lambda *_: None)  # somebody else takes what was free
    time.pass_(11)
    full = bring()
    assert "disk is full" in full.reason
    assert (full.observed, full.failures, full.gave_up, loop.containers()) == (Observed.ABSENT, 2, False, [])
    small_disk(4 * 1024)
    with record.convergence(lambda: time.at.timestamp()):
        time.pass_(21)
        bring()
        served = loop.look()
    assert served.observed == Observed.READY, served.reason
    record.saw("Models: refused beforehand where it will not fit, and where the disk fills meanwhile said so.")
    record.saw(f"“{full.reason}” Nothing half was served; with room again it went on by itself.")
    record.check(loop.here)


@pytest.mark.fault(39)
@pytest.mark.django_db
def test_dockers_disk_is_full(
    define: Define, loop: Loop, time: Time, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "mkdir /var/lib/docker/overlay2/x: no space left on device"
    assert isinstance(answers.pull_fault("x", f"failed to register layer: {said}"), DiskFull)
    create = loop.here.runtime.create
    full = [answers.fault(500, said)]

    def creating(*words: object) -> str:
        if full:
            raise full.pop()
        return create(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(loop.here.runtime, "create", creating)
    define()
    reason = loop.look().reason
    assert "disk of the container engine is full" in reason
    with record.convergence(lambda: time.at.timestamp()):
        time.pass_(11)
        assert loop.look().observed == Observed.READY
    record.saw(f"Docker's: “{reason[:110]}…” Tried again after 10 s.")
    record.check(loop.here)


class Disk:
    """A small disk, full or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        run("VACUUM FULL", "CHECKPOINT")  # what earlier tests left has room in it
        left = os.statvfs(self.path)
        (self.path / "rest").write_bytes(bytes(left.f_bavail * left.f_frsize))

    def free(self) -> None:
        (self.path / "rest").unlink()


@pytest.fixture
def databases_disk(transactional_db: None) -> Iterator[Disk]:
    """Where all tables and indexes lie."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("this machine mounts no tmpfs")
        with connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            owner = Path(cursor.fetchone()[0]).stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        try:
            run(f"CREATE TABLESPACE small LOCATION '{folder}'", *all_of("pg_default", "small"))
            yield Disk(Path(folder))
        finally:
            Path(folder, "rest").unlink(missing_ok=True)
            run(*all_of("small", "pg_default"), "DROP TABLESPACE IF EXISTS small")
            subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


def all_of(there: str, here: str) -> list[str]:
    return [f"ALTER {what} ALL IN TABLESPACE {there} SET TABLESPACE {here}" for what in ("TABLE", "INDEX")]


def run(*words: str) -> None:
    with connection.cursor() as cursor:
        for each in words:
            cursor.execute(each)


@pytest.mark.fault(39)
def test_the_databases_disk_is_full(
    databases_disk: Disk, define: Define, loop: Loop, alice: Person, record: Record
) -> None:
    rest, browser = rest_client(alice), Client()
    browser.force_login(alice)
    databases_disk.fill()
    answer = rest.put("/api/v1/models/tiny", {"engine": "llamacpp", "source": {"path": "tiny.gguf"}}, format="json")
    told = answer.json()
    assert (answer.status_code, told["code"], Model.objects.count()) == (503, "database_full", 0), told
    form = {"name": "tiny", "engine": "llamacpp", "source.path": "tiny.gguf", "replicas": "1"}
    page = browser.post("/define", form)
    assert (page.status_code, told["title"] in html.unescape(page.content.decode())) == (503, True)
    databases_disk.free()
    define()
    databases_disk.fill()
    with pytest.raises(OperationalError, match="No space left"):
        loop.look()
    assert len(loop.containers()) <= 1
    databases_disk.free()
    with record.convergence():
        assert loop.look().observed == Observed.READY
    assert len(loop.containers()) == 1
    record.saw(f"The database's: “{told['title']} {told['detail']}” Nothing was changed; with room again it was done.")
    record.check(loop.here)


@pytest.fixture
def full_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A Redis of one's own that takes no more."""
    server = services.redis_server(tmp_path)
    monkeypatch.setattr(settings, "BROKER_URL", server.url)
    monkeypatch.setattr(app.conf, "broker_url", server.url)
    logs._client.cache_clear()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        yield client
    logs._client.cache_clear()
    server.process.terminate()
    server.process.wait(10)


@pytest.mark.fault(39)
@pytest.mark.redis
@pytest.mark.django_db
def test_the_brokers_disk_is_full(
    define: Define,
    loop: Loop,
    full_broker: redis.Redis,
    record: Record,
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        define()
    replica = loop.look()
    loop.world.write(replica.container_name, "one", "two")
    shipper, stop = Shipper(loop.here.runtime), threading.Event()
    writer = threading.Thread(target=shipper.write, args=(stop,))
    writer.start()
    try:
        shipper._lines.put((replica.id, 1, 1, "one"))
        real.sleep(2.5)
        assert full_broker.xlen(logs._key(replica.id)) == 0
        full_broker.config_set("maxmemory", 0)
        began = real.monotonic()
        eventually(lambda: full_broker.xlen(logs._key(replica.id)) == 1, 10)
    finally:
        stop.set()
        writer.join(10)
    tasks.poke(replica.model_id)
    assert full_broker.llen("default") == 1
    assert replica.observed == Observed.READY
    record.took(real.monotonic() - began, 0)
    record.saw("The broker's: the order was kept and obeyed, log lines waited, and arrived once it took them.")
    record.check(loop.here)
