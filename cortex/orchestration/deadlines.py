"""When waiting has been long enough: by the bytes to load, and by evidence that something still happens."""

import json
from datetime import timedelta

from django.db.models import Sum

from cortex.fleet import clock
from cortex.fleet.models import Attempt
from cortex.fleet.states import Observed
from cortex.orchestration.observe import Seen
from cortex.orchestration.work import Work
from cortex.runtime.contract import Container, Effort, Runtime, RuntimeFault

STOP_ALLOWANCE = timedelta(seconds=5)
STALLED_AFTER = timedelta(seconds=60)
FETCH_STALLED_AFTER = timedelta(minutes=10)
PATIENCE = 10
LEAST = (1, 1 << 20, 16 << 20, 64 << 20)  # of what _evidence tells, in its order: less is a pulse, not progress
ASKED_FOR_STOP = 15.0


def is_overdue(work: Work, seen: Seen) -> bool:
    """Whether its deadline or grace has passed."""
    since, attempt = work.replica.observed_at, work.attempt
    if since is None or attempt is None:
        return False
    match seen.observed:
        case Observed.FETCHING:
            return clock.now() - (attempt.progress_at or since) > FETCH_STALLED_AFTER
        case Observed.STOPPING:
            grace = work.spec.stop_grace if work.spec else ASKED_FOR_STOP
            return clock.now() - since > timedelta(seconds=grace) + STOP_ALLOWANCE
        case Observed.LOADING if seen.container:
            return _is_late(work, attempt, seen.container)
    return False


def _is_late(work: Work, attempt: Attempt, container: Container) -> bool:
    began = attempt.started_at or container.started_at
    if work.spec is None or began is None:
        return False
    allowed, taken = timedelta(seconds=work.spec.start_deadline), clock.now() - began
    if taken <= allowed:
        return False
    return taken > PATIENCE * allowed or not _goes_on(work, attempt, container)


def _goes_on(work: Work, attempt: Attempt, container: Container) -> bool:
    """Whether it printed, read or took more memory lately: then it is slow, not stuck."""
    found = _evidence(work, container)
    if _is_progress(attempt.progress, found):
        attempt.progress, attempt.progress_at = json.dumps(found), clock.now()
        attempt.save(update_fields=["progress", "progress_at"])
    return attempt.progress_at is not None and clock.now() - attempt.progress_at < STALLED_AFTER


def _evidence(work: Work, container: Container) -> list[int]:
    """What can only be seen to grow: the last line's stamp; bytes read, of memory, of its cards' memory."""
    try:
        last, effort = last_stamp(work.runtime, container), work.runtime.effort(container.id)
    except RuntimeFault:
        last, effort = 0, Effort()
    used = work.replica.seats.aggregate(used=Sum("gpu__used"))["used"] or 0
    return [last, effort.read, effort.memory, used]


def last_stamp(runtime: Runtime, container: Container) -> int:
    """The stamp of the last line that it printed, 0 before the first. Raises RuntimeFault."""
    with runtime.logs(container.id, tail=1) as lines:
        last = next(lines, None)
    return last.stamp if last else 0


def _is_progress(before: str, found: list[int]) -> bool:
    """Whether enough of something came since what was kept as the last progress."""
    if not before:
        return True
    return any(now - kept >= least for now, kept, least in zip(found, json.loads(before), LEAST, strict=True))


def why_late(work: Work) -> str:
    """In words, for people: how long it was given, and what it showed."""
    allowed = work.spec.start_deadline if work.spec else 0.0
    since = work.attempt.progress_at if work.attempt else None
    if since is None or clock.now() - since < STALLED_AFTER:
        return f"It did not become ready within {PATIENCE * allowed:.0f} s, {PATIENCE} times what its size explains."
    still = f"for {STALLED_AFTER.total_seconds():.0f} s it printed nothing, read nothing and took no more memory"
    return f"It did not become ready within {allowed:.0f} s, and {still}."
