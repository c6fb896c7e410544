"""The whole of Cortex as people start it: real processes, real Docker, doors on ports of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

from tools import engine_image, made_model
from tools.running import Running, find
from tools.services import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
MARKS = {
    "gateway": "cortex.gateway.app",
    "worker": "host.local",
    "agent": "manage.py\0agent",
    "beat": "beat-schedule",
    "redis": "redis-server",
}


class Cortex:
    """A running Cortex, its doors, and an operator's key."""

    def __init__(self, running: Running, home: Path) -> None:
        self.running, self.home = running, home
        self.key = self.manage("issue_key", "tester", "--make-operator")
        headers = {"Authorization": f"Bearer {self.key}"}
        self.rest = httpx2.Client(base_url=f"{running.web}/api/v1/", headers=headers, timeout=30)

    @property
    def models(self) -> Path:
        return Path(self.running.environment["CORTEX_MODELS"])

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | self.running.environment

    def manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        known = {"CORTEX_URL": self.running.web, "CORTEX_GATEWAY": self.running.gateway, "CORTEX_TOKEN": self.key}
        command = [sys.executable, "-m", "cortex.cli", *words]
        return subprocess.run(command, env=os.environ | known, cwd=ROOT, capture_output=True, text=True, check=False)

    def status(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.rest.get(f"models/{name}").raise_for_status().json()["status"]
        return answer

    def wait(self, name: str, *, phase: str, seconds: float = 60) -> dict[str, Any]:
        """Until the model is in this phase."""
        return eventually(lambda: found if (found := self.status(name))["phase"] == phase else None, seconds)

    def child(self, role: str) -> int | None:
        """The process id of a child of the supervisor."""
        for pid in Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text().split():
            if MARKS[role] in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
        return None

    def containers(self) -> list[str]:
        """What Docker shows of this installation, dead or alive."""
        install = self.manage(
            "shell", "-v0", "-c", "from cortex.fleet.models import Install; print(Install.identity())"
        )
        command = ["docker", "ps", "-aq", "--no-trunc", "--filter", f"label=cortex.install={install}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def eventually(ask: Callable[[], T | None], seconds: float = 30) -> T:
    """The first answer that is something; fails with the last one otherwise."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@contextmanager
def started(home: Path, *words: str, **environment: str) -> Iterator[Cortex]:
    """`./dev up` with a home of its own; it is ended by its process id, its models before it."""
    command = [sys.executable, "-m", "tools", "up", "--web", str(free_port()), "--gateway", str(free_port()), *words]
    known = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL") and "CORTEX" not in k}
    log = (home / "up.log").open("wb")
    process = subprocess.Popen(
        command, env=known | {"CORTEX_HOME": str(home)} | environment, cwd=ROOT, stdout=log, stderr=log
    )
    try:
        running = eventually(lambda: _found(home, process), 90)
        cortex = Cortex(running, home)
        yield cortex
        cortex.rest.close()
        if find(home):
            cortex.manage("stop_models")
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _found(home: Path, process: "subprocess.Popen[bytes]") -> Running | None:
    assert process.poll() is None, (home / "up.log").read_text()
    return find(home)


@pytest.fixture(scope="module")
def cortex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cortex]:
    """Cortex on this machine's Docker, with the made model in its models folder."""
    image = engine_image.ensure_llamacpp()
    with started(tmp_path_factory.mktemp("cortex"), CORTEX_IMAGES=f"llamacpp={image}") as running:
        made_model.write(running.models, name="made")
        yield running


@pytest.fixture(scope="module")
def pretend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cortex]:
    """Cortex on an imaginary host."""
    with started(tmp_path_factory.mktemp("pretend"), "--pretend") as running:
        yield running
