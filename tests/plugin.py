"""Loaded before Django: points the settings at scratch space, and starts services only for tests that ask."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults import results

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if {"db", "transactional_db"} & set(fixtures) or item.get_closest_marker("django_db"):
            item.add_marker(pytest.mark.postgres)
        if "broker" in fixtures:
            item.add_marker(pytest.mark.redis)
    rare = results.prepare(items, all_faults=config.getoption("--faults"))
    if rare:
        config.hook.pytest_deselected(items=rare)
        items[:] = [item for item in items if item not in rare]


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--fault-results")
    if path and not hasattr(config, "workerinput"):  # with several processes, the first one writes
        config.pluginmanager.register(results.Writer(path))


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="keep the pictures of the journeys in docs/")
    parser.addoption("--faults", action="store_true", help="the faults too that are not tried with every change")
    parser.addoption("--fault-results", type=Path, metavar="FILE", help="write what the tests of faults saw")
