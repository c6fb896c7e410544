"""Loaded before Django: points the settings at scratch space, and starts services only for tests that ask."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

SCRATCH = Path(tempfile.mkdtemp(prefix="cortex-test-"))
os.environ.update(
    CORTEX_STATE=str(SCRATCH / "state"),
    CORTEX_MODELS=str(SCRATCH / "models"),
    CORTEX_HOST_NAME="test",
    DATABASE_URL="postgresql://nobody@127.0.0.1:1/cortex",
    BROKER_URL="redis://127.0.0.1:1/0",
    CORTEX_HUB_URL="http://127.0.0.1:1",
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="keep the pictures of the journeys in docs/")
