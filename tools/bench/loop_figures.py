"""The figures of `./dev bench loop`: run by tools.bench.loop, which made the database and the broker it is given."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection

django.setup()

from cortex.catalog.models import Model  # noqa: E402
from cortex.fleet import clock  # noqa: E402
from cortex.fleet.models import Attempt, Host, Replica, Transition  # noqa: E402
from cortex.orchestration import orders  # noqa: E402
from cortex.orchestration.runtimes import Here, here  # noqa: E402
from cortex.runtime.world import World  # noqa: E402
from engines import engine  # noqa: E402
from tools.bench import loop_inside  # noqa: E402
from tools.bench.processes import Processes  # noqa: E402
from tools.bench.table import Row, Table  # noqa: E402

ROUNDS = 20
MANY = 50
IDLE_SECONDS = 30.0
PATIENCE = 300.0
LOOP = ("worker", "agent")


def main() -> None:
    """One line a figure, with its bar. Given: the kind of host, the broker's process id, the file for the figures."""
    kind, broker, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    at, table = here(), Table(kind, file)
    bench = Bench(at, table)
    try:
        bench.begin(*LOOP, "beat")
        bench.latencies()
        bench.many()
        bench.idle()
        bench.restart()
        os.kill(broker, signal.SIGKILL)
        bench.without_broker()
        bench.processes.kill()
        table.add(loop_inside.settled(at) if kind == "docker" else loop_inside.ten_hosts())
        table.add(loop_inside.race(at, fake=kind == "pretend"))
    finally:
        bench.processes.kill()
        for container in at.runtime.find():
            at.runtime.remove(container.id)


class Bench:
    """The processes of one host, and a hand that gives orders and watches."""

    def __init__(self, at: Here, table: Table) -> None:
        self.processes = Processes(settings.ENV.cortex_state / "log")
        self._at, self._table = at, table
        if settings.PRETEND:
            World(settings.ENV.cortex_state / "pretend.json").add_image(engine("llamacpp").image_for(gpus=False))

    def begin(self, *roles: str) -> None:
        self.processes.begin(*roles)
        wait(lambda: Host.objects.answering().filter(swept_at__isnull=False).exists())

    def latencies(self) -> None:
        starts, stops, seen = [], [], []
        for _ in range(ROUNDS):
            starts.append(self._start("one"))
            wait(lambda: self._state("one") == "ready")
            seen.append(self._kill("one"))
            wait(lambda: self._state("one") == "ready")
            began = clock.now()
            orders.stop("one", None)
            stops.append(self._transition("one", "stopping", began))
            wait(lambda: self._state("one") == "absent")
        middle = f"median {sorted(starts)[ROUNDS // 2]:.2f} s"
        self._row("order committed -> create issued, broker up, p95", late(starts), "s", 1, middle)
        self._row("stop ordered -> TERM sent, p95", late(stops), "s", 1)
        self._row("killed -> seen and recorded, with events, p95", late(seen), "s", 2)
        self.processes.kill("agent")
        deaf = []
        for number in range(3):
            self._start("one")
            wait(lambda: self._state("one") == "ready")
            time.sleep(number)  # what found it ready was a sweep: not always as far from the next
            deaf.append(self._kill("one"))
            orders.stop("one", None)
            wait(lambda: self._state("one") == "absent")
        self._row("killed -> seen and recorded, no events, worst of 3", max(deaf), "s", 10)
        self.begin("agent")

    def many(self) -> None:
        began = time.monotonic()
        loop_inside.define("many", MANY)
        wait(lambda: Replica.objects.filter(model__name="many", observed="ready").count() == MANY)
        self._row(f"{MANY} replicas ordered -> all ready", time.monotonic() - began, "s")

    def idle(self) -> None:
        time.sleep(10)
        before, queries, began = self._busy(), asked(), time.monotonic()
        sweeps, looks = watch(IDLE_SECONDS)
        took = time.monotonic() - began
        shares = {role: (busy - before[role]) / took * 100 for role, busy in self._busy().items()}
        memory = {role: self.processes.memory(role) / 1e6 for role in LOOP}
        each = [", ".join(f"{role} {part:.1f}" for role, part in parts.items()) for parts in (shares, memory)]
        self._row(f"at rest with {MANY} replicas, worker + agent", sum(shares.values()), "% core", 3, each[0])
        self._row("  their memory (proportional set size)", sum(memory.values()), "MB", 250, each[1])
        self._row("  their transactions in PostgreSQL", (asked() - queries - looks) / took, "/s")
        self._row("  sweeps meanwhile", sweeps / took, "/s", None, f"one in {settings.SWEEP_EVERY:g} s is due")

    def restart(self) -> None:
        before, began, at = self._ids(), time.monotonic(), clock.now()
        self.processes.kill(*LOOP)
        self.begin(*LOOP)
        wait(lambda: Host.objects.filter(swept_at__gt=at, seen_at__gt=at).exists())
        took, changed = time.monotonic() - began, Transition.objects.filter(at__gt=at).count()
        same = "none restarted" if before == self._ids() and not changed else f"NOT ALL THE SAME: {changed} transitions"
        self._row(f"restart with {MANY} containers -> all adopted", took, "s", 10, same)

    def without_broker(self) -> None:
        orders.remove("many", None)
        wait(lambda: not Replica.objects.filter(model__name="many").exists())
        took = []
        for _ in range(ROUNDS // 4):
            time.sleep(2)  # or the last events of a stop would bring the order along
            took.append(self._start("one"))
            wait(lambda: self._state("one") == "ready")
            orders.stop("one", None)
            wait(lambda: self._state("one") == "absent")
        self._row("order committed -> create issued, broker down, worst of 5", max(took), "s", 8)

    def _start(self, name: str) -> float:
        """Seconds from before the order, whose own transaction is in them, until its container is made."""
        began = clock.now()
        if Model.objects.filter(name=name).exists():
            orders.start(name, None)
        else:
            loop_inside.define(name, 1)
        rows = Attempt.objects.filter(replica__model__name=name, queued_at__gte=began, created_at__isnull=False)
        wait(rows.exists)
        return float((rows.values_list("created_at", flat=True)[0] - began).total_seconds())  # type: ignore[operator]

    def _kill(self, name: str) -> float:
        """Seconds from a container's death by another hand to its row."""
        attempt = Attempt.objects.get(replica__model__name=name, ended_at=None)
        began = clock.now()
        self._at.runtime.kill(attempt.container_id)
        return self._transition(name, "exited", began)

    def _transition(self, name: str, new: str, since: datetime) -> float:
        """Seconds from `since` to a change of state; that to `stopping` is committed just before TERM is sent."""
        rows = Transition.objects.filter(replica__model__name=name, new=new, at__gte=since).order_by("id")
        wait(rows.exists)
        return float((rows[0].at - since).total_seconds())

    def _state(self, name: str) -> str:
        return str(Replica.objects.get(model__name=name).observed)

    def _ids(self) -> set[str]:
        return {container.id for container in self._at.runtime.find()}

    def _busy(self) -> dict[str, float]:
        return {role: self.processes.busy(role) for role in LOOP}

    def _row(self, what: str, seen: float, unit: str, bar: float | None = None, also: str = "") -> None:
        self._table.add(Row(what, seen, unit, bar, also))


def watch(seconds: float) -> tuple[int, int]:
    """How often this host is swept meanwhile (a busy machine may skip some), and how often we looked."""
    until, seen, looks = time.monotonic() + seconds, set(), 0
    while time.monotonic() < until:
        seen.add(Host.objects.values_list("swept_at", flat=True).get())
        looks += 1
        time.sleep(0.5)
    return len(seen) - 1, looks


def asked() -> int:
    """Transactions in this database up to now: outside of a block, each query is one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def wait(true: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (answer := true()):
        if time.monotonic() > until:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.01)
    return answer


def late(values: list[float]) -> float:
    """The 95th percentile, by nearest rank."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


if __name__ == "__main__":
    main()
