"""The figures of `./dev bench loop`: run by tools.bench.loop, which made the database and the broker it is given."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

django.setup()

from cortex.catalog.models import Model  # noqa: E402
from cortex.fleet import clock  # noqa: E402
from cortex.fleet.models import Attempt, Host, Install, Replica, Transition  # noqa: E402
from cortex.orchestration import hosts, orders  # noqa: E402
from cortex.orchestration.runtimes import Here, here  # noqa: E402
from cortex.orchestration.settle import settle  # noqa: E402
from cortex.orchestration.sweep import sweep  # noqa: E402
from cortex.runtime.fake import FakeRuntime  # noqa: E402
from cortex.runtime.world import World  # noqa: E402
from engines import engine  # noqa: E402

ROUNDS = 10
MANY = 50
HOSTS, EACH = 10, 20
IDLE_SECONDS = 20.0
PATIENCE = 90.0
WRITES = ("INSERT", "UPDATE", "DELETE")


def main() -> None:
    """Prints one line a figure, with its bar. The broker is the process given by its id."""
    broker = int(sys.argv[1])
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    bench = Bench()
    try:
        bench.begin("worker", "agent", "beat")
        bench.latencies()
        bench.many()
        bench.idle()
        bench.restart()
        os.kill(broker, signal.SIGKILL)
        bench.without_broker()
    finally:
        bench.end()
    sweeps()


class Bench:
    """The processes of one host, and a hand that gives orders and watches."""

    def __init__(self) -> None:
        state = settings.ENV.cortex_state
        self._log = (state / "log").open("wb")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.world = World(state / "pretend.json")
        self.world.add_image(engine("llamacpp").image_for(gpus=False))
        self.here = here()

    def begin(self, *roles: str) -> None:
        for role in roles:
            command = [sys.executable, "-W", "ignore", "manage.py", "serve", role]
            self._processes[role] = subprocess.Popen(
                command, stdout=self._log, stderr=self._log, start_new_session=True
            )
        wait(lambda: Host.objects.answering().filter(swept_at__isnull=False).exists())

    def end(self, *roles: str) -> None:
        for role in roles or tuple(self._processes):
            process = self._processes.pop(role)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def latencies(self) -> None:
        starts, stops, seen = [], [], []
        for _ in range(ROUNDS):
            starts.append(self._start("one"))
            wait(lambda: self._state("one") == "ready")
            began = clock.now()
            self.world.end(self.here.runtime.find()[0].name, 1)
            seen.append((self._transition("one", "exited", began) - began).total_seconds())
            wait(lambda: self._state("one") == "ready")
            began = clock.now()
            orders.stop("one", None)
            stops.append((self._transition("one", "stopping", began) - began).total_seconds())
            wait(lambda: self._state("one") == "absent")
        row("order committed -> create issued, broker up, p95", f"{late(starts):.2f} s", "1 s")
        row("stop ordered -> TERM sent, p95", f"{late(stops):.2f} s", "1 s")
        row("killed -> seen and recorded, with events, p95", f"{late(seen):.2f} s", "2 s")
        self.end("agent")
        self._start("one")
        wait(lambda: self._state("one") == "ready")
        began = clock.now()
        self.world.end(self.here.runtime.find()[0].name, 1)
        without = (self._transition("one", "exited", began) - began).total_seconds()
        row("killed -> seen and recorded, no events, once", f"{without:.2f} s", "10 s")
        self.begin("agent")

    def many(self) -> None:
        define("many", MANY)
        wait(lambda: Replica.objects.filter(model__name="many", observed="ready").count() == MANY)

    def idle(self) -> None:
        time.sleep(8)
        before, began = self._busy(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = (self._busy() - before) / (time.monotonic() - began)
        row(f"at rest with {MANY} replicas, worker + agent: of a core", f"{share:.1%}", "3 %")
        row("  their memory (proportional set size)", f"{self._memory() / 1e6:.0f} MB", "250 MB")

    def restart(self) -> None:
        ids = {container.id for container in self.here.runtime.find()}
        self.end("worker", "agent")
        began, at = time.monotonic(), clock.now()
        self.begin("worker", "agent")
        wait(lambda: Host.objects.filter(swept_at__gt=at).exists())
        took = time.monotonic() - began
        same = ids == {container.id for container in self.here.runtime.find()}
        figure = f"{took:.2f} s, {'none' if same else 'SOME'} restarted"
        row(f"restart with {MANY} containers -> all adopted", figure, "10 s")

    def without_broker(self) -> None:
        orders.remove("many", None)
        wait(lambda: not Replica.objects.filter(model__name="many").exists())
        took = []
        for _ in range(ROUNDS // 2):
            orders.stop("one", None)
            wait(lambda: self._state("one") == "absent")
            took.append(self._start("one"))
        row("order committed -> create issued, broker down, p95", f"{late(took):.2f} s", "8 s")

    def _start(self, name: str) -> float:
        began = clock.now()
        if Replica.objects.filter(model__name=name).exists():
            orders.start(name, None)
        else:
            define(name, 1)
        rows = Attempt.objects.filter(replica__model__name=name, queued_at__gte=began, created_at__isnull=False)
        wait(rows.exists)
        return float((rows.values_list("created_at", flat=True)[0] - began).total_seconds())  # type: ignore[operator]

    def _state(self, name: str) -> str:
        return str(Replica.objects.get(model__name=name).observed)

    def _transition(self, name: str, new: str, since: Any) -> Any:
        rows = Transition.objects.filter(replica__model__name=name, new=new, at__gte=since).order_by("id")
        wait(rows.exists)
        return rows[0].at

    def _busy(self) -> float:
        """Processor seconds of worker and agent, with their children."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> int:
        total = 0
        for pid in self._pids():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        return total

    def _pids(self) -> Iterator[int]:
        groups = {self._processes[role].pid for role in ("worker", "agent")}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with gone_is_fine():
                    if os.getpgid(int(entry.name)) in groups:
                        yield int(entry.name)


def define(name: str, replicas: int) -> Model:
    data = {"name": name, "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "gpus": 0}
    return orders.define({**data, "replicas": replicas, "desired": "running"}, None)[0]


def sweeps() -> None:
    """In this process, whose processor time is what counts, on a world in memory."""
    vars(orders)["poke"] = lambda model_id: None
    orders.remove("one", None)
    Host.objects.update(cordoned=True)
    places = [place(f"h{number}") for number in range(HOSTS)]
    for at in places:
        model = define(f"on-{at.host.name}", EACH)
        settle(model.id)
        Replica.objects.filter(model=model).update(host=at.host)
        for _ in range(3):
            sweep(at)
    worlds = [at.runtime._world for at in places]  # type: ignore[attr-defined]
    changes, began = sum(len(world.changes()) for world in worlds), time.process_time()
    with CaptureQueriesContext(connection) as queries:
        for at in places:
            sweep(at)
    took = time.process_time() - began
    writes = [q["sql"] for q in queries if q["sql"].startswith(WRITES) and 'UPDATE "fleet_host"' not in q["sql"]]
    changes = sum(len(world.changes()) for world in worlds) - changes
    figure = f"{took:.2f} s CPU, {changes} changing calls, {len(writes)} writes"
    row(f"{HOSTS * EACH} settled replicas on {HOSTS} hosts, one sweep each", figure, "1 s, 0, 0")


def place(name: str) -> Here:
    """Another host, imaginary, with nothing on it."""
    world = World()
    world.add_image(engine("llamacpp").image_for(gpus=False))
    at = Here(
        Host.objects.create(name=name),
        FakeRuntime(world, Install.identity(), settings.ENV.cortex_models.resolve()),
        world.gpus,
    )
    hosts.register(at)
    return at


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """A process may end while we look."""
    try:
        yield
    except (ProcessLookupError, FileNotFoundError):
        return


def wait(true: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > until:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.01)


def late(values: list[float]) -> float:
    return sorted(values)[min(int(len(values) * 0.95), len(values) - 1)]


def row(what: str, figure: str, bar: str) -> None:
    print(f"{what:58} {figure:42} bar {bar}", flush=True)


if __name__ == "__main__":
    main()
