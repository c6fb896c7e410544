"""Figures taken inside one process, whose processor time is what counts: settled sweeps, and threads that race."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cortex import placement
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Host, Install, Replica, Seat
from cortex.orchestration import hosts, orders, seats
from cortex.orchestration.effects import watched
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import at_once, sweep
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.world import World
from engines import engine
from tools.bench.table import Row

HOSTS, EACH, MANY = 10, 20, 50
THREADS, EXCLUSIVE, CARDS = 50, 10, 4
CARD = 2 << 30
WRITES = ("INSERT", "UPDATE", "DELETE")
CALLS = {"create", "start", "stop", "kill", "remove", "remove stray"}


def define(name: str, replicas: int, gpus: int = 0) -> Model:
    """A model of the one file there is, that is to run."""
    data = {"name": name, "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "gpus": gpus}
    return orders.define({**data, "replicas": replicas, "desired": "running"}, None)[0]


def ten_hosts() -> Row:
    """200 settled replicas on ten hosts in memory, one sweep of each."""
    with patch.object(orders, "poke"):
        Host.objects.update(cordoned=True)
        places = [place(f"h{number}") for number in range(HOSTS)]
        for at in places:
            model = define(f"on-{at.host.name}", EACH)
            settle(model.id)
            Replica.objects.filter(model=model).update(host=at.host)
            for _ in range(3):
                sweep(at)
        for at in places:  # on a busy machine the first may have fallen silent meanwhile
            sweep(at)
    return swept(places, f"{HOSTS * EACH} settled replicas on {HOSTS} hosts, one sweep each", 1.0)


def settled(at: Here) -> Row:
    """50 settled replicas on this one host: its share of the bar is a quarter."""
    with patch.object(orders, "poke"):
        settle(define("settled", MANY).id)
        until = time.monotonic() + 300
        while Replica.objects.filter(model__name="settled", observed="ready").count() < MANY:
            if time.monotonic() > until:
                raise TimeoutError("the settled replicas did not get ready")
            sweep(at, at_once)
        sweep(at)
        row = swept([at], f"{MANY} settled replicas on one host, one sweep", 0.25)
        orders.remove("settled", None)
        while Replica.objects.filter(model__name="settled").exists():
            sweep(at, at_once)
    return row


def swept(places: list[Here], what: str, bar: float) -> Row:
    """What one more sweep of each costs; writes besides the mark that the host was swept are counted."""
    effects: Counter[str] = Counter()
    began = time.process_time()
    with CaptureQueriesContext(connection) as queries, watched(lambda name, moment: effects.update([name])):
        for at in places:
            sweep(at)
    took = time.process_time() - began
    writes = [q["sql"] for q in queries if q["sql"].startswith(WRITES) and 'UPDATE "fleet_host"' not in q["sql"]]
    changing = sum(count for name, count in effects.items() if name in CALLS)
    return Row(what, took, "s CPU", bar, f"{changing} changing calls, {len(writes)} writes, {len(queries)} queries")


def place(name: str) -> Here:
    """Another host, imaginary, in memory, with nothing on it."""
    world = World()
    world.add_image(engine("llamacpp").image_for(gpus=False), engine("llamacpp").image_for(gpus=True))
    runtime = FakeRuntime(world, Install.identity(), settings.ENV.cortex_models.resolve())
    at = Here(Host.objects.create(name=name), runtime, world.gpus)
    hosts.register(at)
    return at


def race(at: Here, *, fake: bool) -> Row:
    """Fifty threads, ten replicas that need a card each, four cards."""
    at = place("racing") if fake else at
    Host.objects.exclude(id=at.host.id).update(cordoned=True)
    for number in range(CARDS):
        uuid = str(UUID(int=number))
        Gpu.objects.create(uuid=f"GPU-{uuid}", host=at.host, index=number, name="L40S", total=CARD)
    wish = placement.Need(CARD, gpus=1)
    with patch.object(orders, "poke"), patch.object(seats, "need", lambda replica, size: wish):
        define("race", EXCLUSIVE, gpus=1)
        model = Model.objects.get(name="race")
        settle(model.id)
        Replica.objects.filter(model=model).update(host=at.host)
        errors = _run(list(Replica.objects.filter(model=model).values_list("id", flat=True)), at)
    return _judged(at, errors)


def _run(ids: list[UUID], at: Here) -> list[str]:
    """All at once; what went wrong, of whatever kind."""
    gate = threading.Barrier(THREADS)

    def one(number: int) -> None:
        try:
            gate.wait(60)
            reconcile(ids[number % len(ids)], at)
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        faults = [running.exception() for running in [pool.submit(one, number) for number in range(THREADS)]]
    return [f"{type(fault).__name__}: {fault}" for fault in faults if fault]


def _judged(at: Here, errors: list[str]) -> Row:
    seated = list(Seat.objects.filter(replica__model__name="race").values_list("gpu_id", flat=True))
    names = [container.name for container in at.runtime.find()]
    own = {replica.container_name for replica in Replica.objects.filter(model__name="race")}
    placed, doubled = sum(name in own for name in names), len(seated) - len(set(seated))
    condition = Host.objects.get(id=at.host.id).toolkit_condition
    also = condition or f"{doubled} doubled, {len(errors)} errors {' '.join(errors[:1])}"
    return Row(f"{THREADS} racing threads, {EXCLUSIVE} replicas, {CARDS} cards: placed", placed, "", CARDS, also)
