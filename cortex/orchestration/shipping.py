"""Container logs to the doors: one follower a container, one writer for all, into Redis."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

import redis
from django.db import close_old_connections

from cortex.orchestration.milestones import Line, Milestones, listen
from cortex.orchestration.work import replica_of
from cortex.runtime.contract import Container, Label, LogLine, Runtime, RuntimeFault
from cortex.telemetry import logs

log = logging.getLogger(__name__)

BATCH = 500
WAITING = 10_000
PAUSE = 1.0
A_SECOND = 2000
LINGERS = 5.0  # seconds that a container's last lines are read after it is gone


class Shipper:
    """Follows every container of a host. Call `follow` with those that are there, as often as you like."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lines: queue.Queue[Line] = queue.Queue(WAITING)
        self._followers: dict[str, threading.Thread] = {}
        self._gone_at: dict[str, float] = {}
        self._milestones = Milestones()

    def follow(self, containers: list[Container]) -> None:
        """Begin to follow those that nobody follows yet; forget those that are gone."""
        present = {
            container.id: container for container in containers if container.started_at and replica_of(container)
        }
        for gone in self._followers.keys() - present.keys():
            self._gone_at.setdefault(gone, time.monotonic())
            thread = self._followers.get(gone)
            if thread is None or not thread.is_alive():
                self._followers.pop(gone, None)
                del self._gone_at[gone]
        for id in present.keys() - self._followers.keys():
            thread = threading.Thread(target=self._read, args=(present[id],), name=f"log-{id[:12]}", daemon=True)
            self._followers[id] = thread
            thread.start()

    def write(self, stop: threading.Event) -> None:
        """Carry lines to Redis until told to stop; what Redis cannot take now is tried again, in order."""
        batch: list[Line] = []
        while not stop.is_set():
            batch = batch or self._heard(self._next_batch())
            try:
                _send(batch)
                batch = []
            except redis.RedisError as error:
                log.warning("logs wait for the broker: %s", error)
                stop.wait(PAUSE)

    def _heard(self, batch: list[Line]) -> list[Line]:
        if batch:
            listen(self._milestones, batch)
            close_old_connections()
        return batch

    def _next_batch(self) -> list[Line]:
        batch: list[Line] = []
        try:
            batch.append(self._lines.get(timeout=PAUSE))
            while len(batch) < BATCH:
                batch.append(self._lines.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _read(self, container: Container) -> None:
        replica, number = replica_of(container), container.labels.get(Label.ATTEMPT, "")
        if replica is None:
            return
        attempt = int(number) if number.isdigit() else 0
        try:
            since = logs.last_stamp(replica, attempt)
            with self._runtime.logs(container.id, since=since, follow=True) as lines:
                for line in paced(lines):
                    if self._is_over(container.id):
                        break
                    self._lines.put((replica, attempt, line.stamp, line.text))
        except (RuntimeFault, redis.RedisError) as error:
            log.warning("the log of %s is interrupted: %s", container.name, error)
            time.sleep(PAUSE)
            self._followers.pop(container.id, None)

    def _is_over(self, container: str) -> bool:
        """Whether what is left of a log is that of a flood: its container has been gone for a while."""
        gone_at = self._gone_at.get(container)
        return gone_at is not None and time.monotonic() - gone_at > LINGERS


def paced(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """Not more than A_SECOND of them: who prints without end is read more slowly, and holds nobody else up."""
    taken, until = 0, 0.0
    for line in lines:
        if time.monotonic() > until:
            taken, until = 0, time.monotonic() + 1
        elif taken >= A_SECOND:
            time.sleep(max(0.0, until - time.monotonic()))
        taken += 1
        yield line


def _send(batch: list[Line]) -> None:
    by_stream: dict[tuple[UUID, int], list[tuple[int, str]]] = defaultdict(list)
    for replica, attempt, stamp, text in batch:
        by_stream[replica, attempt].append((stamp, text))
    for (replica, attempt), lines in by_stream.items():
        logs.ship(replica, attempt, lines)
