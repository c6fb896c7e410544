"""One a host: hears Docker's events, ships logs, fetches, samples cards, and does what the workers do not."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.db.models import F, Q

from cortex.catalog.models import Desired, Model
from cortex.fleet import clock
from cortex.fleet.models import Host, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import hosts
from cortex.orchestration.fetch import fetch
from cortex.orchestration.hanging import Doubts
from cortex.orchestration.identity import NameTaken
from cortex.orchestration.measure import measure
from cortex.orchestration.milestones import note_first_answers
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import unsettled
from cortex.orchestration.shipping import Shipper
from cortex.orchestration.sweep import at_once, one_by_one, settle_all, sweep
from cortex.runtime.contract import RuntimeFault

log = logging.getLogger(__name__)

BRIEFLY = 0.5
AT_REST = 1.0
DRAINS_EVERY = 0.25
SAMPLE_EVERY = 5.0
WITHOUT_CARDS = 60.0
RELIST_EVERY = 2.0
DOUBT_EVERY = 10.0
LOGS_EVERY = 10.0
LOOKS_AT_ONCE = 8
SETTLED_BY_SWEEPS = timedelta(seconds=10)
RUNNING = Q(model__desired=Desired.RUNNING, model__removed_at=None, slot__lt=F("model__replicas"), called_off=False)
HEAD_START = timedelta(seconds=1)

Round = Callable[[], float | None]  # the seconds until the next one, when it is not the usual pause


class Agent:
    """Its threads share nothing but the host; each survives whatever goes wrong in one round."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._stop = threading.Event()
        self._refused = ""
        self._started = threading.Event()
        self._started.set()
        self._shipper = Shipper(here.runtime)
        self._looks = Looks(here)
        self._doubts = Doubts(here)
        self._fetching: dict[UUID, threading.Thread] = {}

    def run(self) -> None:
        """Until stop(). Raises NameTaken when the host's name stands for another machine."""
        rounds: list[tuple[Round, float]] = [
            (self._register, SAMPLE_EVERY),
            (self._watch, 1.0),
            (self._stand_in, RELIST_EVERY),
            (self._follow_logs, BRIEFLY),
            (self._due, BRIEFLY),
            (self._measure, SAMPLE_EVERY),
            (self._doubt, DOUBT_EVERY),
        ]
        if settings.ENV.cortex_samples_gpus:
            rounds.append((self._sample, SAMPLE_EVERY))
        hosts.register(self._here)
        threads = [threading.Thread(target=self._repeat, args=each, name=each[0].__name__) for each in rounds]
        threads.append(threading.Thread(target=self._shipper.write, args=(self._stop,), name="_ship"))
        for thread in threads:
            thread.daemon = True
            thread.start()
        self._stop.wait()
        self._looks.close()
        for thread in threads:
            thread.join(timeout=2)
        if self._refused:
            raise NameTaken(self._refused)

    def stop(self) -> None:
        self._stop.set()
        self._started.set()

    def _repeat(self, work: Round, pause: float) -> None:
        while not self._stop.is_set():
            next = None
            try:
                next = work()
            except NameTaken as refusal:
                self._refused = str(refusal)
                self.stop()
            except (DatabaseError, RuntimeFault, OSError) as error:
                log.warning("%s: %s: %s", work.__name__, type(error).__name__, error)
            except Exception:
                log.exception("%s failed; it goes on", work.__name__)
            close_old_connections()
            self._stop.wait(next or pause)

    def _register(self) -> None:
        hosts.register(self._here)

    def _sample(self) -> float | None:
        seen = self._here.cards()
        hosts.sample(self._here, seen)
        if seen.cards or self._here.host.gpus.exists():
            return None
        return WITHOUT_CARDS  # a host without cards rarely gets one

    def _measure(self) -> None:
        measure(self._here)
        note_first_answers(self._here)

    def _doubt(self) -> None:
        self._doubts.look()

    def _watch(self) -> None:
        """Events until they break off; the sweeps cover what happened in between."""
        with self._here.runtime.events() as events:
            for event in events:
                if event.action == "start":
                    self._started.set()
                replica = _replica_id(event.container_name)
                if replica:
                    self._looks.ask(replica)
                if self._stop.is_set():
                    return

    def _stand_in(self) -> None:
        """Look at everything, should no worker have done so lately."""
        swept = Host.objects.values_list("swept_at", flat=True).get(id=self._here.host.id)
        if swept is None or clock.now() - swept > timedelta(seconds=2 * settings.SWEEP_EVERY):
            sweep(self._here, at_once)

    def _follow_logs(self) -> None:
        """Of every container: at once when one starts, and from time to time, since events may be missed."""
        self._started.wait(LOGS_EVERY)
        self._started.clear()
        self._shipper.follow(self._here.runtime.find())

    def _due(self) -> float:
        """What changes without an event: engines that get ready, requests that end before a stop, backoffs that end,
        orders that no worker took up."""
        now = clock.now()
        late = now - HEAD_START
        changed = Model.objects.filter(updated_at__lt=late, updated_at__gt=late - SETTLED_BY_SWEEPS)
        if changed.exists():
            settle_all(unsettled(now).filter(id__in=changed.values("id")))
        due = list(Replica.objects.filter(_without_event(now), host=self._here.host).select_related("model"))
        for replica in due:
            if replica.observed == Observed.FETCHING:
                self._fetch(replica)
            if replica.observed != Observed.FETCHING or replica.turn != replica.model.turn:
                self._looks.ask(replica.id)
        if any(replica.draining_at for replica in due):
            return DRAINS_EVERY
        return BRIEFLY if due else AT_REST

    def _fetch(self, replica: Replica) -> None:
        thread = self._fetching.get(replica.id)
        if thread is None or not thread.is_alive():
            thread = threading.Thread(target=self._fetch_one, args=(replica,), daemon=True)
            self._fetching[replica.id] = thread
            thread.start()

    def _fetch_one(self, replica: Replica) -> None:
        try:
            fetch(replica, self._here)
        finally:
            close_old_connections()


def _without_event(now: datetime) -> Q:
    """Replicas that no event will tell of."""
    behind = Q(model__updated_at__lt=now - HEAD_START) & ~Q(turn=F("model__turn"))
    over = Q(observed=Observed.ABSENT, retry_at__lte=now, gave_up=False) & RUNNING
    under_way = Q(observed__in=[Observed.LOADING, Observed.FETCHING])
    drains = Q(observed=Observed.READY, draining_at__isnull=False)
    replaced = Q(successor__observed=Observed.READY, called_off=False)
    return behind | over | under_way | drains | replaced


class Looks:
    """Reconciles side by side, never two of one replica at once; what is asked for meanwhile is done after."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._pool = ThreadPoolExecutor(LOOKS_AT_ONCE, "look")
        self._mutex = threading.Lock()
        self._asked: dict[UUID, bool] = {}

    def ask(self, replica: UUID) -> None:
        """Have a look at it soon."""
        with self._mutex:
            under_way = replica in self._asked
            self._asked[replica] = under_way
        if not under_way:
            self._pool.submit(self._look, replica)

    def _look(self, replica: UUID) -> None:
        again = True
        while again:
            with self._mutex:
                self._asked[replica] = False
            try:
                one_by_one([replica], self._here)
            finally:
                close_old_connections()
            with self._mutex:
                again = self._asked[replica]
                if not again:
                    del self._asked[replica]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _replica_id(container_name: str) -> UUID | None:
    try:
        return UUID(container_name.rsplit("-", 1)[-1])
    except ValueError:
        return None
