"""Cortex in its parts, on an imaginary host: each process is started, hung and killed by itself."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from cortex.runtime.contract import State
from cortex.runtime.scene import ImaginaryContainer, Script
from cortex.runtime.world import World
from engines import engine
from tests.e2e.conftest import ROOT, eventually
from tests.fakes.wire import Wire
from tests.plugin import SCRATCH
from tools import made_model, services, tied

ROLES = ("web", "worker", "agent", "beat")
SOCKET = ".s.PGSQL.5432"
NO_MORE: Mapping[str, str] = {}
SERVICES = ("postgres", "redis", "engine")
TINY = {"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "desired": "running"}


class Parts:
    """Everything by name: `postgres`, `redis`, `engine` (which only pretends), and the roles of Cortex."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home / "postgres"
        (home / "log").mkdir()
        (home / "line").mkdir()
        self.port, self.door, self.redis_port, self.engine_port = (services.free_port() for _ in range(4))
        self.wire = Wire(home / "line" / SOCKET, self.folder / SOCKET)
        self.world = World(home / "pretend.json")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.odd: set[str] = set()
        self.since = 0
        self.environment = {
            "CORTEX_STATE": str(home),
            "CORTEX_MODELS": str(home / "models"),
            "CORTEX_RUNTIME": "pretend",
            "CORTEX_HOST_NAME": "local",
            "CORTEX_WEB_URL": f"http://127.0.0.1:{self.port}",
            "DATABASE_URL": f"postgresql://postgres@/postgres?host={home / 'line'}",
            "BROKER_URL": f"redis://127.0.0.1:{self.redis_port}/0",
        }
        made_model.write(home / "models", made_model.Shape(layers=1, vocab=1024, feed_forward=64), name="tiny")
        image = engine("llamacpp").image_for(gpus=False)
        self.world.add_image(image)
        self.world.script(image, Script(load=0.3, lines=("reading the model",)))
        with self.world.open() as scene:
            scene.engine = f"127.0.0.1:{self.engine_port}"

    def start(self, *names: str, files: int = 0, environment: Mapping[str, str] = NO_MORE) -> None:
        """With an environment of their own, and so many file descriptors at most."""
        for name in names:
            if name == "postgres":
                services.postgres(self.folder)
            elif name == "redis":
                self.processes[name] = services.redis_server(self.home / "redis", self.redis_port).process
            else:
                self.processes[name] = self.spawn(name, self.command(name), environment)
                self.odd |= {name} if files or environment else set()
                if files:
                    resource.prlimit(self.processes[name].pid, resource.RLIMIT_NOFILE, (files, files))

    def command(self, name: str) -> list[str]:
        """The argv of a process; a second agent or beat is called `agent 2`."""
        if name == "engine":
            return ["-m", "cortex.runtime.pretend", "--port", str(self.engine_port)]
        role = name.split()[0]
        bind = {"web": self.port, "gateway": self.door}.get(role)
        more = ["--bind", f"127.0.0.1:{bind}"] if bind else ["--workers", "2"] if role == "worker" else []
        return ["manage.py", "serve", role, *more]

    def spawn(self, name: str, words: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with (self.home / "log" / f"{name}.log").open("ab") as sink:
            known = os.environ | self.environment | dict(environment)
            return tied.start([sys.executable, *words], output=sink, env=known)

    def tend(self) -> None:
        """Start again what has ended by itself, as a supervisor does."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.start(name)

    def send(self, number: signal.Signals, *names: str) -> None:
        """A signal to a process and its children."""
        for name in names:
            os.killpg(self.processes[name].pid, number)

    def kill(self, *names: str) -> None:
        """As a power cut does."""
        for name in names:
            if name == "postgres":
                self.stop_postgres()
            else:
                self.send(signal.SIGKILL, name)
                self.processes.pop(name).wait(10)

    def stop_postgres(self) -> None:
        """At once, without a word to its clients."""
        pid = int((self.folder / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), 20)

    def restore(self) -> None:
        """The processes as they were at first."""
        for name in list(self.processes):
            self.send(signal.SIGCONT, name)
            if name in self.odd or name not in (*ROLES, *SERVICES):
                self.kill(name)
        self.odd.clear()
        self.start(*[name for name in ROLES if name not in self.processes])

    def end(self) -> None:
        for name in list(self.processes):
            self.send(signal.SIGCONT, name)
            self.kill(name)
        self.wire.close()
        self.stop_postgres()

    def manage(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command, known = [sys.executable, "manage.py", *words], os.environ | self.environment
        return subprocess.run(command, env=known, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    def login(self) -> None:
        """An operator's key, for `rest`."""
        self.key = self.manage("issue_key", "tester", "--make-operator").stdout.strip()
        self.headers = {"Authorization": f"Bearer {self.key}"}

    def rest(self, method: str, path: str, data: Any = None, seconds: float = 15) -> httpx2.Response:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        return httpx2.request(method, url, json=data, headers=self.headers, timeout=seconds)

    def answers(self) -> bool:
        self.tend()
        try:
            return self.rest("GET", "models").status_code == 200
        except httpx2.TransportError:
            return False

    def phase(self, name: str) -> str:
        phase: str = self.rest("GET", f"models/{name}").json()["status"]["phase"]
        return phase

    def becomes(self, name: str, phase: str, seconds: float = 30) -> float:
        """Until the model is in this phase; how long it took."""
        began = time.monotonic()
        eventually(lambda: self.phase(name) == phase, seconds)
        return time.monotonic() - began

    def define(self, name: str, **more: Any) -> httpx2.Response:
        return self.rest("PUT", f"models/{name}", TINY | {"name": name} | more)

    def containers(self) -> list[ImaginaryContainer]:
        with self.world.open() as scene:
            return [found for found in scene.containers.values() if found.state is State.RUNNING]

    def mark(self) -> None:
        """From here on calls are counted."""
        with self.world.open() as scene:
            self.since = scene.count

    def calls(self, ended: int = 0) -> int:
        """Calls since the mark that changed a container, as its host saw them; `ended` by themselves are none."""
        with self.world.open() as scene:
            return sum(seen.number > self.since for seen in scene.seen) - ended

    def ask(self, question: str) -> Any:
        """One value of the database, by a way of its own."""
        with psycopg.connect(f"postgresql://postgres@/postgres?host={self.folder}") as connection:
            row = connection.execute(question).fetchone()
            return row[0] if row else None

    def attempts(self) -> int:
        count: int = self.ask("SELECT count(*) FROM fleet_attempt")
        return count

    def violations(self) -> list[str]:
        """What `fsck` finds, as people run it."""
        done = self.manage("fsck")
        return [] if "Everything holds." in done.stdout else [*done.stdout.splitlines(), done.stderr]

    def clear(self) -> None:
        """Nothing is left of a test's models."""
        for model in self.rest("GET", "models").json()["items"]:
            self.rest("DELETE", f"models/{model['name']}")
        eventually(lambda: self.ask("SELECT count(*) FROM catalog_model") == 0, 30)


@contextmanager
def parts() -> Iterator[Parts]:
    """All of them, with a key."""
    made = Parts(Path(tempfile.mkdtemp(prefix="parts-", dir=SCRATCH)))
    try:
        made.start("postgres", "redis", "engine")
        done = made.manage("migrate", "--verbosity", "0")
        assert not done.returncode, done.stderr
        made.login()
        made.start(*ROLES)
        eventually(made.answers, 60)
        yield made
    finally:
        made.end()
