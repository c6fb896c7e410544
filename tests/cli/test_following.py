"""`cortex logs -f` through the web process as it really runs: ASGI, streaming, hanging up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from django.db import connection

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.orchestration.management.commands import serve
from cortex.telemetry import logs
from tests.api import rows
from tests.conftest import key_of
from tools.services import free_port

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def web(broker: str) -> Iterator[str]:
    """The web process on a port of its own, on the tests' database."""
    at = connection.settings_dict
    port = free_port()
    url = f"postgresql://{at['USER']}@/{at['NAME']}?host={at['HOST']}"
    command = [sys.executable, "-m", *serve.command("web", f"127.0.0.1:{port}", 1)]
    env = {**os.environ, "DATABASE_URL": url, "BROKER_URL": broker, "CORTEX_DATABASE_POOL": "true"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/v1/health/live", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx2.get(url, timeout=2)
        except httpx2.RequestError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("The web process did not come up.")


def test_following_prints_lines_as_they_come_until_ctrl_c(web: str, bob: Person) -> None:
    model = Model.objects.create(name="tiny", engine="llamacpp", path="tiny.gguf")
    replica = rows.replica(model)
    rows.attempt(replica)
    logs.ship(replica.id, 1, [(time.time_ns(), "before")])
    env = {**os.environ, "CORTEX_URL": web, "CORTEX_TOKEN": key_of(bob)}
    command = [sys.executable, "-m", "cortex.cli", "logs", "-f", "tiny"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs us in the background ignores it
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as following:
        signal.signal(signal.SIGINT, before)
        assert following.stdout
        assert following.stdout.readline() == "before\n"
        logs.ship(replica.id, 2, [(time.time_ns(), "of the next attempt")])
        assert following.stdout.readline() == "of the next attempt\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
