"""An imaginary host for most faults, the real Docker Engine for those that only it can show."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from django.conf import settings
from django.db import connection

from cortex.fleet.models import Host, Install
from cortex.orchestration import hosts
from cortex.orchestration.runtimes import Here
from cortex.runtime.docker import DockerRuntime
from cortex.runtime.gpus import Gpus
from tests.fakes.proxy import DockerProxy
from tests.faults.yard import Yard
from tests.orchestration.conftest import GIB, ROOT, define, here, loop, made, time, world

__all__ = ["define", "here", "loop", "made", "time", "world"]

Process: TypeAlias = "subprocess.Popen[bytes]"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[DockerProxy]:
    proxy = DockerProxy(tmp_path / "docker.sock")
    yield proxy
    proxy.close()


@pytest.fixture
def yard(
    db: None, proxy: DockerProxy, models_folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Yard]:
    """The real Docker Engine, for one test; its containers are removed afterwards."""
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())
    host = Host.objects.create(name="test", cores=2, memory=8 * GIB)
    runtime = DockerRuntime(proxy.url, Install.identity(), settings.ENV.cortex_models.resolve(), timeout=2)
    here = Here(host, runtime, lambda: Gpus(cards=(), driver="", condition=""))
    hosts.register(here)
    yard = Yard(here, proxy, monkeypatch)
    try:
        yield yard
    finally:
        yard.clear()


@pytest.fixture
def agent(yard: Yard, broker: str) -> Iterator[Process]:
    """A process of the agent's own; no worker beside it."""
    known = connection.settings_dict
    environment = os.environ | {
        "DATABASE_URL": f"postgresql://{known['USER']}@/{known['NAME']}?host={known['HOST']}",
        "BROKER_URL": broker,
        "DOCKER_HOST": yard.proxy.url,
        "CORTEX_HOST_NAME": "test",
    }
    process = subprocess.Popen([sys.executable, "manage.py", "agent"], env=environment, cwd=ROOT)
    yield process
    process.terminate()
    process.wait(20)
