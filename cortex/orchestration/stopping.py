"""DRAIN, STOP and REMOVE: requests first, then the process, then its remains; each step may be the last we make."""

import logging
from datetime import timedelta

from cortex.fleet import clock
from cortex.fleet.states import Observed
from cortex.orchestration import attempts, drains
from cortex.orchestration.deadlines import ASKED_FOR_STOP, why_late
from cortex.orchestration.effects import effect
from cortex.orchestration.observe import Seen
from cortex.orchestration.work import Work
from cortex.runtime.contract import Container, State, Unreachable
from cortex.telemetry import inflight

log = logging.getLogger(__name__)

DRAIN_FOR = timedelta(seconds=30)
KILL_AGAIN = timedelta(minutes=5)


def drain(work: Work, seen: Seen) -> bool:
    """No new requests from now on; stop once those in flight are answered, or after a while."""
    replica = work.replica
    if replica.draining_at is None:
        with effect("drain"):
            replica.drain()
    if replica.draining_at and clock.now() - replica.draining_at < DRAIN_FOR and inflight.count(replica.id):
        return False
    return stop(work, seen)


def stop(work: Work, seen: Seen) -> bool:
    """Whether another look is due."""
    replica, attempt = work.replica, work.attempt
    reason, failed = _why(work, seen)
    if seen.container is None:  # still fetching: there is nothing to stop
        work.end(reason, failed=failed)
        with effect("observe absent"):
            return replica.observe(Observed.ABSENT, reason)
    if attempt:
        with effect("order end"):
            attempts.order_end(attempt, reason, failing=failed)
    with effect("observe stopping"):
        replica.observe(Observed.STOPPING, reason)
    grace = work.spec.stop_grace if work.spec else ASKED_FOR_STOP
    with effect("stop"):
        work.runtime.stop(seen.container.id, grace)
    return True


def stop_on(work: Work, seen: Seen) -> bool:
    """Whoever was stopping it has died, since we have the lock: its TERM may never have been sent."""
    since = work.replica.observed_at
    if seen.container is None or since is None:
        return False
    grace = timedelta(seconds=work.spec.stop_grace if work.spec else ASKED_FOR_STOP)
    left = max(grace - (clock.now() - since), timedelta(0))
    with effect("stop"):
        work.runtime.stop(seen.container.id, left.total_seconds())
    return True


def kill(work: Work, seen: Seen) -> bool:
    """Its grace is over. What not even KILL ends is tried again at intervals, and holds nobody else up."""
    replica = work.replica
    if seen.container is None or (replica.retry_at and replica.retry_at > clock.now()):
        return False
    stuck = _kill(work, seen.container)
    if not stuck:
        return True
    replica.wait(KILL_AGAIN)
    with effect("observe stopping"):
        replica.observe(Observed.STOPPING, f"It is stuck: {stuck} Its cards take nobody new. Restart the host.")
    return False


def _kill(work: Work, container: Container) -> str:
    """Why it lives on; empty when it does not."""
    try:
        with effect("kill"):
            work.runtime.kill(container.id)
        left = work.runtime.inspect(container.id)
    except Unreachable as fault:
        log.warning("%s: %s", work.replica, fault)
        return "KILL is not answered."
    return "KILL did not end it." if left and left.state is State.RUNNING else ""


def _why(work: Work, seen: Seen) -> tuple[str, bool]:
    """In words, and whether it counts as a failure."""
    replica, attempt = work.replica, work.attempt
    if replica.called_off:
        return "Another replica has its place.", False
    if not replica.wanted:
        return "Stopped by order.", False
    if seen.observed is Observed.UNRESPONSIVE:
        return seen.reason, True
    if drains.is_leaving(replica):
        return f"Host {replica.host} is being drained.", False
    if attempt and attempt.confirmed_turn == replica.turn:
        if seen.observed is Observed.FETCHING:
            return "Its download stalled: no byte came for ten minutes.", True
        return why_late(work), True
    return "Replaced by a newer definition.", False


def remove(work: Work, seen: Seen) -> bool:
    """Keep exit facts and log, count the attempt, remove what is left."""
    if seen.container is None:
        return False
    if work.attempt:
        attempt, work.attempt = work.attempt, None
        with effect("end attempt"):
            attempts.end_exited(attempt, work.replica, work.runtime, seen.container)
        with effect("observe exited"):
            work.replica.observe(Observed.EXITED, attempt.reason)
    with effect("remove"):
        work.runtime.remove(seen.container.id)
    return True


def clear(work: Work, seen: Seen) -> bool:
    """A container that no open attempt is about, or that lost its name: whatever it does, it goes."""
    if seen.container is None:
        return False
    if work.attempt and work.claims(seen.container):
        with effect("order end"):
            attempts.order_end(work.attempt, seen.reason, failing=work.replica.wanted)
    with effect("stop"):
        work.runtime.stop(seen.container.id, ASKED_FOR_STOP)
    with effect("remove"):
        work.runtime.remove(seen.container.id)
    return True
