"""Loaded before Django: points the settings at scratch space, and starts services only for tests that ask."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRATCH = Path(tempfile.mkdtemp(prefix="cortex-test-"))
os.environ.update(
    CORTEX_STATE=str(SCRATCH / "state"),
    CORTEX_MODELS=str(SCRATCH / "models"),
    CORTEX_HOST_NAME="test",
    DATABASE_URL="postgresql://nobody@127.0.0.1:1/cortex",
    BROKER_URL="redis://127.0.0.1:1/0",
)
(SCRATCH / "models").mkdir()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if {"db", "transactional_db"} & set(fixtures) or item.get_closest_marker("django_db"):
            item.add_marker(pytest.mark.postgres)
        if "broker" in fixtures:
            item.add_marker(pytest.mark.redis)


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """An embedded PostgreSQL; it ends with the tests."""
    from tools import services  # noqa: PLC0415 - only tests that ask for it pay for it

    return services.postgres(SCRATCH / "postgres")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_url: str) -> None:
    """Point Django at it, for every test that uses the database."""
    from django.conf import settings  # noqa: PLC0415 - Django is set up by now
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    parts = conninfo_to_dict(postgres_url)
    settings.DATABASES["default"].update(HOST=parts["host"], USER=parts["user"], NAME="postgres", PORT="")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """An embedded Redis; it ends with the tests."""
    from tools import services  # noqa: PLC0415

    server = services.redis_server(SCRATCH / "redis")
    yield server.url
    server.process.terminate()
    server.process.wait(10)
