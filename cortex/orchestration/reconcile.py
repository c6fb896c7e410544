"""One replica to what people want: observe, decide by the table, do one thing, look again."""

import logging
from collections.abc import Callable
from uuid import UUID

from django.db.models import F
from pydantic import ValidationError

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog.definition import Refusal
from cortex.fleet import clock
from cortex.fleet.models import FORGIVEN_AFTER, Attempt, Overtaken, Replica
from cortex.fleet.states import Facts, Observed, Step, next_step
from cortex.orchestration import attempts, drains, identity, needs, plan, seats
from cortex.orchestration.deadlines import is_overdue
from cortex.orchestration.effects import effect
from cortex.orchestration.lock import only_one
from cortex.orchestration.observe import Seen, is_new_miss, look
from cortex.orchestration.replacing import is_spare, move, recall, replace, retire, step_aside, successor
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle, surplus
from cortex.orchestration.starting import absolve_host, leave, start
from cortex.orchestration.stopping import clear, drain, kill, remove, stop, stop_on
from cortex.orchestration.work import Work
from cortex.runtime.contract import Health, NotFound, RuntimeFault, Unreachable

log = logging.getLogger(__name__)

STEPS_AT_ONCE = 12
ROUNDS = 3
ACTS: dict[Step, Callable[[Work, Seen], bool]] = {
    Step.START: start,
    Step.REPLACE: replace,
    Step.RETIRE: retire,
    Step.RECALL: recall,
    Step.YIELD: step_aside,
    Step.MOVE: move,
    Step.LEAVE: leave,
    Step.DRAIN: drain,
    Step.STOP: stop,
    Step.RESTART: stop,
    Step.KILL: kill,
    Step.REMOVE: remove,
}


def reconcile(replica_id: UUID, here: Here) -> None:
    """Take one replica of this host as far as it goes without waiting. Idempotent; when settled, one look."""
    for _ in range(ROUNDS):
        with only_one(replica_id) as held:
            if not held:
                return
            _take_steps(replica_id, here)
        if not _is_behind(replica_id, here):
            break
    _settle_surplus(replica_id)


def _settle_surplus(replica_id: UUID) -> None:
    """A row nobody wants goes as soon as nothing of it is left."""
    gone = Replica.objects.filter(surplus(), id=replica_id, observed=Observed.ABSENT)
    for model in gone.values_list("model", flat=True):
        settle(model)


def _is_behind(replica_id: UUID, here: Here) -> bool:
    """Whether an order came after our last look: whoever brought it found us busy, and has left."""
    ours = Replica.objects.filter(id=replica_id, host=here.host)
    return ours.exclude(turn=F("model__turn")).exists()


def _take_steps(replica_id: UUID, here: Here) -> None:
    ours = Replica.objects.select_related("model", "host").filter(id=replica_id, host=here.host)
    ours = ours.filter(host__machine__in=identity.known(here))
    for _ in range(STEPS_AT_ONCE):
        replica = ours.first()
        if replica is None or not Pass(Work(replica, here.runtime, attempts.current(replica))).take():
            return


class Pass:
    """One look at a replica and one step."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.replica = work.replica

    def take(self) -> bool:
        """Whether something was done, so that another look is due."""
        try:
            return self._take()
        except (Overtaken, NotFound, Replica.DoesNotExist):
            return True
        except Unreachable as fault:
            log.warning("%s: the host did not answer in time: %s", self.replica, fault)
        except RuntimeFault as fault:
            log.warning("%s: %s", self.replica, fault)
        return False

    def _take(self) -> bool:
        if self.replica.turn != self.replica.model.turn:
            with effect("begin turn"):
                self.replica.begin_turn()
        seen = look(self.work.runtime, self.replica, self.work.attempt)
        with effect("observe"):
            self.replica.observe(seen.observed, seen.reason, address=seen.address)
        self._note(seen)
        if seen.unclaimed:
            return clear(self.work, seen)
        return self._do(next_step(seen.observed, self._facts(seen)), seen)

    def _facts(self, seen: Seen) -> Facts:
        replica = self.replica
        held = replica.gave_up or (replica.retry_at is not None and replica.retry_at > clock.now())
        return Facts(
            wanted=replica.wanted,
            held=held,
            stale=self._is_stale(seen),
            overdue=is_overdue(self.work, seen),
            successor=successor(replica),
            spare=is_spare(replica),
            leaving=drains.is_leaving(replica),
            barred=bool(replica.host and replica.host.closed) and not seats.holds_any(replica),
        )

    def _do(self, step: Step, seen: Seen) -> bool:
        act = ACTS.get(step)
        return act(self.work, seen) if act else self._wait(seen)

    def _wait(self, seen: Seen) -> bool:
        match seen.observed:
            case Observed.STOPPING:
                return stop_on(self.work, seen)
            case Observed.READY:
                self.replica.end_drain()
            case Observed.ABSENT if seen.container is None and seats.holds_any(self.replica):
                with effect("free seats"):
                    seats.free(self.replica)
        return False

    def _note(self, seen: Seen) -> None:
        """Keep what a look tells besides the word."""
        attempt = self.work.attempt
        if seen.container:
            absolve_host(self.work, seen.container)
        if seen.health is not None and attempt and attempt.ready_at:
            missed = seen.health is not Health.READY
            if not missed or is_new_miss(self.replica):
                self.replica.note_probe(missed=missed)
        match seen.observed:
            case Observed.ABSENT if seen.container is None:
                self._note_absence()
            case Observed.READY if attempt:
                attempt.stamp("ready_at")
                if self.replica.failures and attempt.ready_at and clock.now() - attempt.ready_at > FORGIVEN_AFTER:
                    self.replica.forgive()

    def _note_absence(self) -> None:
        """Its container was seen gone: an attempt that had one ended without a word."""
        attempt, wanted = self.work.attempt, self.replica.wanted
        if attempt and attempt.ending:
            self.work.end(attempt.ending, failed=attempt.failing)
        elif attempt and attempt.created_at:
            self.work.end("Its container was removed from outside Cortex.", failed=wanted)
        elif attempt and not wanted:
            self.work.end("Stopped by order.", failed=False)
        self.replica.end_drain()

    def _is_stale(self, seen: Seen) -> bool:
        """Whether what runs differs from what people want now; looked into once a turn."""
        attempt, replica = self.work.attempt, self.replica
        if attempt is None or not replica.wanted or attempt.confirmed_turn == replica.turn:
            return False
        if seen.observed is Observed.FETCHING:
            return True
        if not attempt.fingerprint or seen.container is None:
            return False
        if replica.model.fresh_turn > attempt.confirmed_turn or self._is_other(attempt):
            return True
        attempt.confirmed_turn = replica.turn
        attempt.save(update_fields=["confirmed_turn"])
        return False

    def _is_other(self, attempt: Attempt) -> bool:
        held = tuple(self.replica.seats.order_by("gpu__index").values_list("gpu_id", flat=True))
        if self.replica.model.gpus not in (None, len(held)) or not needs.met(self.replica, held):
            return True
        try:
            found = plan.locate(self.replica)
            if found is None:
                return True
            return plan.wanted(self.replica, found, held).spec.fingerprint() != attempt.fingerprint
        except (UnreadableModel, Refusal, ValidationError):
            return True
