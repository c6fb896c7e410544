"""Which replica answers for which model: a table in memory, read every second, kept when the database is away."""

import asyncio
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db import Error as DatabaseFault

from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Phase
from cortex.fleet.status import status
from cortex.gateway.openai import Fault
from cortex.gateway.reach import Reach
from cortex.telemetry.firsts import Answered

logger = logging.getLogger("cortex.gateway")

REFRESH_EVERY = 1.0
FRESH_FOR = 0.1
AVOIDED_FOR = 3.0
COMING = {
    Phase.QUEUED: 5, Phase.FETCHING: 15, Phase.LOADING: 5, Phase.DRAINING: 5, Phase.FAILING: 10, Phase.UNKNOWN: 10,
}  # fmt: skip


class Target(NamedTuple):
    """A replica that serves, and where."""

    replica: UUID
    address: str


@dataclass(frozen=True)
class Route:
    """A model as the gateway sees it. `replicas` are those that serve; `created` is Unix time.

    `wanted`: people want it to run, so that it comes, or comes back, by itself.
    """

    name: str
    served_name: str
    created: int
    replicas: tuple[Target, ...]
    phase: Phase
    reason: str
    gave_up: bool = False
    wanted: bool = True


Table = Mapping[str, Route]


def load() -> Table:
    """The table as the database has it. Raises django.db.Error."""
    targets = defaultdict(list)
    for model_id, replica_id, address in Replica.objects.serving().values_list("model_id", "id", "address"):
        targets[model_id].append(Target(replica_id, address))
    models = list(Model.objects.declared())
    others: dict[int, list[Replica]] = defaultdict(list)
    silent = [model.id for model in models if model.id not in targets]
    for replica in Replica.objects.filter(model__in=silent).select_related("model"):
        others[replica.model_id].append(replica)
    return {model.name: _route(model, targets[model.id], others[model.id]) for model in models}


def _route(model: Model, targets: list[Target], replicas: list[Replica]) -> Route:
    created = int(model.created_at.timestamp())
    if targets:
        return Route(model.name, model.name, created, tuple(targets), Phase.SERVING, "")
    seen = status(model, replicas)
    return Route(model.name, model.name, created, (), seen.phase, seen.reason, seen.gave_up, bool(seen.wanted))


class Router:
    """The table, and how busy each replica is with requests of this process.

    `in_flight` counts them by replica, and holds no zeros; `changed` is set whenever it changes. `firsts` tells
    of each replica in the table when it first answered here, in Unix time.
    """

    def __init__(self, load: Callable[[], Table], threads: Executor) -> None:
        self._load, self._threads = load, threads
        self._table: Table = {}
        self.in_flight: Counter[UUID] = Counter()
        self.changed = asyncio.Event()
        self._silent_since: dict[UUID, float] = {}
        self._avoided: dict[Target, float] = {}
        self.firsts: dict[Answered, float] = {}
        self.reach = Reach(self._addresses)
        self._reading = asyncio.Lock()
        self.loaded_at: float | None = None
        self.trouble = ""

    async def refresh(self) -> None:
        """Read the table anew; the last good one stays in force when the database is away."""
        began = time.monotonic()
        try:
            self._table = await asyncio.get_running_loop().run_in_executor(self._threads, self._load)
        except DatabaseFault as error:
            if not self.trouble:
                logger.warning("The database does not answer; the routes of %s stay in force. %s", self.age(), error)
            self.trouble = "The database does not answer."
            return
        if self.trouble:
            logger.warning("The database answers again; routes are fresh.")
        self.trouble, self.loaded_at = "", began
        now = time.monotonic()
        present = {target for route in self._table.values() for target in route.replicas}
        for gone in self.firsts.keys() - present:
            del self.firsts[gone]
        self._avoided = {target: until for target, until in self._avoided.items() if until > now}

    def age(self) -> str:
        """How old the table is, in words."""
        return "nobody yet" if self.loaded_at is None else f"{time.monotonic() - self.loaded_at:.0f} s ago"

    def serving(self) -> list[Route]:
        return [route for route in self._table.values() if route.replicas]

    def find(self, name: str) -> Route:
        """The route to a model that serves. Raises Fault: it does not exist, or it does not serve now and why."""
        route = self._table.get(name)
        if route is None:
            raise self._unknown(name)
        if not route.replicas:
            raise _not_serving(route)
        return route

    async def seek(self, name: str) -> Route:
        """As find(), but before a model is denied the table is read anew: it may serve since a moment. Raises Fault."""
        try:
            return self.find(name)
        except Fault:
            return await self.renew(name, time.monotonic() - FRESH_FOR)

    async def renew(self, name: str, since: float) -> Route:
        """As find(), in a table that was read after `since`, unless the database is away. Raises Fault."""
        async with self._reading:  # many who ask at once read it once
            if not self.trouble and (self.loaded_at is None or self.loaded_at < since):
                await self.refresh()
        return self.find(name)

    def choose(self, route: Route, without: Collection[Target] = ()) -> Target | None:
        """The least busy of its replicas, those that failed a moment ago or whose host is silent last.

        None when all are in `without`.
        """
        left = [target for target in route.replicas if target not in without]
        if len(left) < 2:
            return left[0] if left else None
        now = time.monotonic()
        random.shuffle(left)  # many processes count for themselves: ties must not all go to the first

        def order(target: Target) -> tuple[bool, bool, int]:
            avoided = self._avoided.get(target, 0) > now
            return self.reach.is_silent(target.address), avoided, self.in_flight[target.replica]

        return min(left, key=order)

    def avoid(self, target: Target) -> None:
        """It failed. A replica that fails at once is never busy, and would otherwise draw every request."""
        self._avoided[target] = time.monotonic() + AVOIDED_FOR

    def answered(self, target: Target, seconds_ago: float) -> None:
        """It gave the first byte of an answer so long ago."""
        if target not in self.firsts:
            self.firsts[target] = time.time() - seconds_ago

    def _addresses(self) -> Iterator[str]:
        return (target.address for route in self._table.values() for target in route.replicas)

    @contextmanager
    def busy(self, target: Target) -> Iterator[None]:
        """A request is there. One that ends without a word leaves its silence to the next: `silence` goes on."""
        self._silent_since.setdefault(target.replica, time.monotonic())
        self._count(target.replica, 1)
        try:
            yield
        finally:
            self._count(target.replica, -1)

    def heard(self, replica: UUID) -> None:
        """It said something; whoever else waits for it, waits from now on."""
        if self.in_flight[replica] > 1:
            self._silent_since[replica] = time.monotonic()
        else:
            self._silent_since.pop(replica, None)

    def silence(self, replica: UUID) -> float:
        """Seconds since it was asked, or last said anything to anybody; 0 when nobody waits."""
        return time.monotonic() - self._silent_since.get(replica, time.monotonic())

    def _count(self, replica: UUID, step: int) -> None:
        self.in_flight[replica] += step
        if not self.in_flight[replica]:
            del self.in_flight[replica]
        self.changed.set()

    def _unknown(self, name: str) -> Fault:
        if self.loaded_at is None:
            message = "The gateway has not read yet which models there are: the database does not answer."
            return Fault(503, "starting", message, seconds=5)
        names = ", ".join(sorted(route.name for route in self.serving())) or "none at this moment"
        old = f" (As of {self.age()}: the database does not answer.)" if self.trouble else ""
        message = f"There is no model named {name[:100]!r}. Models that serve: {names}.{old}"
        return Fault(404, "model_not_found", message, param="model")


def _not_serving(route: Route) -> Fault:
    seconds = COMING.get(route.phase) if route.wanted and not route.gave_up else None
    remedy = "Try again in a while." if seconds else "Somebody has to start it first."
    why = f"{route.reason} " if route.reason else ""
    code = "model_loading" if seconds else "model_failed" if route.gave_up else "model_not_running"
    message = f"The model {route.name!r} exists, but does not serve now: it is {route.phase}. {why}{remedy}"
    return Fault(503, code, message, param="model", seconds=seconds, again=None if seconds else False)
