"""What each process of Cortex becomes, and in what surroundings."""

import os
from typing import Any

import pytest
from django.core.management import call_command


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a role; the argv and the environment that it would have."""

    def become(role: str) -> tuple[list[str], dict[str, str]]:
        told: list[tuple[list[str], dict[str, str]]] = []
        monkeypatch.setattr(os, "environ", os.environ.copy())
        monkeypatch.setattr(os, "execvpe", lambda file, argv, environment: told.append((argv, environment)))
        call_command("serve", role)
        return told[0]

    return become


@pytest.mark.django_db
def test_the_worker_is_one_process_that_tells_nobody_what_it_does(become: Any) -> None:
    argv, _ = become("worker")
    assert argv[argv.index("-P") + 1] == "threads"
    assert {"--without-gossip", "--without-mingle", "--without-heartbeat"} <= set(argv)


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["web", "gateway", "worker", "agent", "beat"])
def test_every_process_pools_its_connections_and_loads_no_checks(become: Any, role: str) -> None:
    _, environment = become(role)
    assert environment["CORTEX_DATABASE_POOL"] == "true"
    assert environment["CELERY_SKIP_CHECKS"] == "1"
    assert environment["MALLOC_ARENA_MAX"] == "2"
