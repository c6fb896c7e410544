"""What every test may ask for: a broker, the cast, a models folder of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings
from playwright.sync_api import Browser, sync_playwright
from psycopg.conninfo import conninfo_to_dict
from rest_framework.test import APIClient

from cortex.access.models import ApiKey, Person, Role, Scope
from cortex.celery import app
from cortex.fleet.models import Install
from cortex.telemetry import firsts, inflight, logs
from tests.faults import results
from tests.faults.record import Record
from tests.plugin import SCRATCH
from tools import services

CHROMIUM = os.environ.get("CORTEX_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """An embedded PostgreSQL; it ends with the tests."""
    return services.postgres(SCRATCH / "postgres")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_url: str) -> None:
    """Point Django at it, for every test that uses the database."""
    parts = conninfo_to_dict(postgres_url)
    settings.DATABASES["default"].update(HOST=parts["host"], USER=parts["user"], NAME="postgres", PORT="")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """An embedded Redis; it ends with the tests."""
    server = services.redis_server(SCRATCH / "redis")
    yield server.url
    server.process.terminate()
    server.process.wait(10)


@pytest.fixture
def broker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty broker, known to Celery and to the logs."""
    app._after_fork()  # type: ignore[attr-defined]  # forgets connections to another test's broker
    monkeypatch.setattr(settings, "BROKER_URL", redis_url)
    monkeypatch.setattr(app.conf, "broker_url", redis_url)
    logs._client.cache_clear()
    inflight._client.cache_clear()
    firsts._client.cache_clear()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    yield redis_url
    logs._client.cache_clear()
    inflight._client.cache_clear()
    firsts._client.cache_clear()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    """What a test of a fault leaves for docs/faults.md; it has to end with `fsck`."""
    record, failed = Record(results.facts_of(request.node)), request.session.testsfailed
    yield record
    assert record.is_checked or request.session.testsfailed > failed, "call record.check(here) at the end"


@pytest.fixture
def models_folder() -> Iterator[Path]:
    """The models folder of the settings, empty again afterwards."""
    folder: Path = settings.ENV.cortex_models
    yield folder
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()


@pytest.fixture(autouse=True)
def identity_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a database of its own, and with it an installation."""
    monkeypatch.setattr(Install, "known", "")


def _person(name: str, role: Role) -> Person:
    return Person.objects.create_user(username=name, password=f"{name}'s password", role=role)


@pytest.fixture
def alice(db: None) -> Person:
    """An administrator."""
    return _person("alice", Role.ADMIN)


@pytest.fixture
def bob(db: None) -> Person:
    """An operator: changes models, not access."""
    return _person("bob", Role.OPERATOR)


@pytest.fixture
def charlie(db: None) -> Person:
    """A viewer: looks, and changes nothing."""
    return _person("charlie", Role.VIEWER)


def key_of(person: Person, *scopes: Scope) -> str:
    """A fresh key's secret."""
    return ApiKey.objects.issue(person, "test", [scope.value for scope in scopes or Scope])[1]


def rest_client(person: Person) -> APIClient:
    """A REST client with a person's management key."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key_of(person, Scope.MANAGE)}")
    return client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, anew for each file: while it is there a loop runs in this thread, and async tests cannot."""
    os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright's sync API runs a loop in this thread
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
