"""Engines that say they are well and compute nothing: doubted by what no request got, judged by their pulse."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from cortex.fleet import clock
from cortex.fleet.models import Attempt, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import attempts
from cortex.orchestration.deadlines import last_stamp
from cortex.orchestration.effects import effect
from cortex.orchestration.lock import only_one
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.runtime.contract import Container, Health
from cortex.telemetry import inflight
from engines.contract import Probe

log = logging.getLogger(__name__)

DOUBTED_AFTER = 120
TRIES = 3
STILL_FOR = timedelta(minutes=5)


@dataclass
class Doubt:
    """An attempt that showed no pulse, `tries` times since `since`; its log ended at `stamp` all the while."""

    stamp: int
    since: datetime
    tries: int = 0


class Doubts:
    """What this process holds against the replicas of its host. Losing it costs a few minutes."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._doubts: dict[int, Doubt] = {}

    def look(self) -> None:
        """Feel the pulse of those that keep requests waiting; replace those without one. Idle ones are left alone."""
        ready = Replica.objects.filter(host=self._here.host, observed=Observed.READY)
        told = inflight.silences(ready.values_list("id", flat=True))
        silent = [id for id, seconds in told.items() if seconds >= DOUBTED_AFTER]
        suspects = Attempt.objects.filter(replica__in=silent, ended_at=None).select_related("replica__model")
        ids = {attempt.id for attempt in suspects}
        self._doubts = {id: doubt for id, doubt in self._doubts.items() if id in ids}
        for attempt in suspects:
            if self._hangs(attempt):
                self._end(attempt)

    def _hangs(self, attempt: Attempt) -> bool:
        container = self._here.runtime.inspect(attempt.replica.container_name)
        if container is None or self._computes(container, attempt):
            self._doubts.pop(attempt.id, None)
            return False
        stamp, now = last_stamp(self._here.runtime, container), clock.now()
        doubt = self._doubts.get(attempt.id)
        if doubt is None or doubt.stamp != stamp:
            doubt = self._doubts[attempt.id] = Doubt(stamp, now)
        doubt.tries += 1
        return doubt.tries >= TRIES and now - doubt.since >= STILL_FOR

    def _computes(self, container: Container, attempt: Attempt) -> bool:
        """Whether it has a pulse; an engine that nobody knows how to ask is believed."""
        pulse = attempt.spec.get("pulse")
        return pulse is None or self._here.runtime.probe(container, Probe.model_validate(pulse)) is not Health.SILENT

    def _end(self, attempt: Attempt) -> None:
        """It is to end for this reason, as a failure; whoever looks next does it, and here we look at once."""
        replica, minutes = attempt.replica, STILL_FOR // timedelta(minutes=1)
        reason = f"It hung: requests waited, and for {minutes} minutes it neither answered nor wrote a line of its log."
        with only_one(replica.id) as held:
            ours = Replica.objects.select_related("model").filter(id=replica.id, observed=Observed.READY)
            fresh = ours.filter(turn=replica.turn, attempts=attempt, attempts__ended_at=None).first()
            if not held or fresh is None or not fresh.wanted:
                return
            log.warning("%s: %s", fresh, reason)
            with effect("order end"):
                attempts.order_end(attempt, reason, failing=True)
        del self._doubts[attempt.id]
        reconcile(replica.id, self._here)
