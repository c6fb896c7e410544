"""The real gateway under its real server, in front of pretend engines."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from django.db import connection

from cortex.access.models import Person, Scope
from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from tests.conftest import key_of
from tests.fakes.engines import FakeEngine, running_engine
from tests.fakes.line import Line
from tools.services import free_port


@dataclass
class Door:
    """A running gateway. `log` is what it wrote; `line` leads to its database."""

    url: str
    log: Path
    line: Line
    process: "subprocess.Popen[bytes]"

    def wait_for(self, key: str, *models: str) -> None:
        """Until exactly these are served."""
        until, seen = time.monotonic() + 10, None
        while time.monotonic() < until:
            answer = httpx2.get(f"{self.url}/v1/models", headers={"authorization": f"Bearer {key}"})
            seen = sorted(model["id"] for model in answer.json().get("data", []))
            if seen == sorted(models):
                return
            time.sleep(0.1)
        raise AssertionError(f"served: {seen}, wanted: {models}")


def start_gateway(folder: Path, database: str, line: Line, workers: int = 1) -> Door:
    """Gunicorn with the command of `manage.py serve gateway`."""
    port = free_port()
    env = {
        **os.environ,
        "DATABASE_URL": f"postgresql://{connection.settings_dict['USER']}@/{database}?host={line.folder}",
        "CORTEX_GATEWAY_BODY_LIMIT": "2000000",
    }
    log = folder / "log"
    command = [sys.executable, "manage.py", "serve", "gateway", "--bind", f"127.0.0.1:{port}"]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "--workers", str(workers)], env=env, stdout=out, stderr=out)
    door = Door(f"http://127.0.0.1:{port}", log, line, process)
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx2.get(f"{door.url}/health")
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return door
    process.kill()
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def gateway(django_db_setup: None, postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("gateway")
    line = Line(folder, Path(connection.settings_dict["HOST"]))
    line.mend()
    door = start_gateway(folder, connection.settings_dict["NAME"], line)
    yield door
    door.process.terminate()
    door.process.wait(15)
    line.cut()
    assert "Traceback" not in door.log.read_text()


@pytest.fixture
def key(transactional_db: None, bob: Person) -> str:
    """A key that may use models."""
    return key_of(bob, Scope.INFER)


@pytest.fixture(scope="session")
def engines() -> Iterator[list[FakeEngine]]:
    with running_engine() as one, running_engine() as other:
        yield [one, other]


@pytest.fixture
def engine(engines: list[FakeEngine]) -> FakeEngine:
    """A pretend engine with good manners. Its address is the same in every test: routes are a second old at most."""
    return engines[0].behave()


@pytest.fixture
def other_engine(engines: list[FakeEngine]) -> FakeEngine:
    return engines[1].behave()


def declare(name: str, *addresses: str, replicas: int | None = None) -> Model:
    """A model that is to run, with a ready replica at each address."""
    count = len(addresses) if replicas is None else replicas
    model = Model.objects.create(name=name, engine="llamacpp", path="a.gguf", replicas=count, desired=Desired.RUNNING)
    for slot, address in enumerate(addresses):
        Replica.objects.create(model=model, slot=slot, observed=Observed.READY, address=address)
    return model


@pytest.fixture
def served(gateway: Door, key: str, engine: FakeEngine) -> Door:
    """The gateway with one model, `tiny`, on one pretend engine."""
    declare("tiny", engine.address)
    gateway.wait_for(key, "tiny")
    return gateway
