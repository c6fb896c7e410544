"""What ./dev up is while it runs: children by name, restarted when they die, ended together."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

from tools import pretend as pretended
from tools import services, tied, turnstile
from tools.phase import PhaseFailed, phase
from tools.running import Running, write_down

Announce = Callable[[Running], None]

ROLES = ("web", "gateway", "worker", "agent", "beat")
READY_SECONDS = 60.0
GRACE = 8.0
PACE = 0.3
LEFT_OVERS_SECONDS = 6.0


@dataclass
class Child:
    """A process of ours: how to start it, what it is now, when it may be started again."""

    name: str
    start: Callable[[], "subprocess.Popen[bytes]"]
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    started: float = 0.0
    retry: float = field(default=0.0)

    def tend(self) -> None:
        """Start it, and start it again when it died: at once, then after 1, 2, 4 … 30 s."""
        now = time.monotonic()
        if self.process and self.process.poll() is not None:
            self.failures = 0 if now - self.started > 60 else self.failures + 1
            wait = min(2 ** (self.failures - 1), 30) if self.failures > 1 else 0
            print(f"{self.name} ended with status {self.process.returncode}; restarting in {wait} s", flush=True)
            self.process, self.retry = None, now + wait
        if self.process is None and now >= self.retry:
            self.started = now
            self.process = self.start()


def run(state: Path, announce: Announce, *, pretend: bool, web: int, gateway: int) -> int:
    """Bring everything up, keep it up, end it on TERM or Ctrl-C."""
    state.mkdir(parents=True, exist_ok=True)
    if web == gateway:
        raise PhaseFailed(f"The UI and the models' API cannot share port {web}: give --web and --gateway two ports.")
    with turnstile.held(state) as ours:
        if not ours:
            raise PhaseFailed("Another ./dev up is just starting, or ending, here; try again in a moment.")
        # Its children have been told to end; they may need a moment longer than it did.
        crashed = (state / "up.json").exists()
        (state / "up.json").unlink(missing_ok=True)
        for port, word in ((web, "--web"), (gateway, "--gateway")):
            _refuse_taken(port, word, patience=LEFT_OVERS_SECONDS if crashed else 0)
        return _Supervisor(state, announce, pretend=pretend, web=web, gateway=gateway).run()


class _Supervisor:
    def __init__(self, state: Path, announce: Announce, *, pretend: bool, web: int, gateway: int) -> None:
        self._state, self._announce = state.resolve(), announce
        self._home = self._state / "pretend" if pretend else self._state
        self._pretend = pretend
        self._web, self._gateway = web, gateway
        self._children: list[Child] = []
        self._stop = threading.Event()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop.set())
        (self._state / "log").mkdir(exist_ok=True)
        (self._home / "models").mkdir(parents=True, exist_ok=True)
        Path("staticfiles").mkdir(exist_ok=True)  # or WhiteNoise complains; the finders serve what is here
        try:
            environment = self._prepare()
            here = Running(os.getpid(), self._url(self._web), self._url(self._gateway), self._pretend, environment)
            self._wait_until_ready()
            if not self._stop.is_set():
                write_down(self._state, here)
                self._announce(here)
            while not self._stop.wait(PACE):
                for child in self._children:
                    child.tend()
        finally:
            self._end()
            (self._state / "up.json").unlink(missing_ok=True)
        return 0

    def _prepare(self) -> dict[str, str]:
        """Services, migrations, then the processes of Cortex; the environment they share."""
        database = services.answering_postgres(os.environ.get("DATABASE_URL"))
        broker = services.answering_broker(os.environ.get("BROKER_URL"))
        environment = {
            "CORTEX_STATE": str(self._home),
            "CORTEX_MODELS": os.environ.get("CORTEX_MODELS", str(self._home / "models")),
            "CORTEX_WEB_URL": self._url(self._web),
            "CORTEX_GATEWAY_URL": self._url(self._gateway),
            "CORTEX_RUNTIME": "pretend" if self._pretend else "docker",
            "DATABASE_URL": database or self._postgres(),
            "BROKER_URL": broker or self._redis(),
            "PYTHONUNBUFFERED": "1",
        }
        with phase("Database schema"):
            self._once(environment, "migrate", "--verbosity", "0")
        if self._pretend:
            self._children.append(self._engine_of_pretence(environment))
        for role in ROLES:
            bind = {"web": self._web, "gateway": self._gateway}.get(role)
            words = [] if bind is None else ["--bind", f"127.0.0.1:{bind}"]
            self._children.append(Child(role, self._starter(role, ["manage.py", "serve", role, *words], environment)))
        return environment

    def _postgres(self) -> str:
        with phase("PostgreSQL"):
            folder = self._home / "postgres"
            url = services.postgres(folder)
        self._children.append(Child("postgres", lambda: services.postgres_watch(folder)))
        return url

    def _redis(self) -> str:
        with phase("Redis"):
            port = services.kept_port(self._home / "redis-port")
            first = services.redis_server(self._home / "redis", port)
        again = Child("redis", lambda: services.redis_server(self._home / "redis", port).process, first.process)
        self._children.append(again)
        return first.url

    def _engine_of_pretence(self, environment: dict[str, str]) -> Child:
        port = services.kept_port(self._home / "engine-port")
        pretended.prepare(self._home, port)
        words = ["-m", "cortex.runtime.pretend", "--port", str(port)]
        return Child("engine", self._starter("engine", words, environment))

    def _starter(
        self, name: str, words: list[str], environment: dict[str, str]
    ) -> Callable[[], "subprocess.Popen[bytes]"]:
        def start() -> "subprocess.Popen[bytes]":
            with (self._state / "log" / f"{name}.log").open("ab") as sink:
                return tied.start([sys.executable, *words], output=sink, env=os.environ | environment)

        return start

    def _once(self, environment: dict[str, str], *words: str) -> None:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PhaseFailed(f"manage.py {' '.join(words)} failed:\n{done.stderr[-2000:]}")

    def _wait_until_ready(self) -> None:
        with phase("Web, gateway, worker, agent, beat"):
            until = time.monotonic() + READY_SECONDS
            waiting = [f"{self._url(self._web)}/api/v1/health", f"{self._url(self._gateway)}/health"]
            while waiting and not self._stop.is_set():
                for child in self._children:
                    child.tend()
                waiting = [url for url in waiting if not _answers(url)]
                if waiting and time.monotonic() > until:
                    raise PhaseFailed(f"No answer from {waiting[0]}. The logs are in {self._state / 'log'}.")
                self._stop.wait(PACE)

    def _end(self) -> None:
        """TERM to all but the services, then the services; KILL what has not ended."""
        ours = [child.process for child in self._children if child.process and child.name not in ("postgres", "redis")]
        rest = [child.process for child in self._children if child.process and child.name in ("postgres", "redis")]
        for group in (ours, rest):
            for process in group:
                process.terminate()
            until = time.monotonic() + GRACE / 2
            for process in group:
                try:
                    process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _kill_group(process.pid)
                    process.wait()

    def _url(self, port: int) -> str:
        return f"http://localhost:{port}"


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (URLError, OSError):
        return False


def _refuse_taken(port: int, word: str, patience: float) -> None:
    until = time.monotonic() + patience
    while problem := services.why_taken(port):
        if time.monotonic() > until:
            raise PhaseFailed(f"{problem} Choose another port: ./dev up {word} PORT")
        time.sleep(PACE)
