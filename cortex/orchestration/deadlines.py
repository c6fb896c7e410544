"""When waiting has been long enough: by the bytes to load, and by evidence that something still happens."""

from datetime import timedelta

from django.db.models import Sum

from cortex.fleet import clock
from cortex.fleet.models import Attempt
from cortex.fleet.states import Observed
from cortex.orchestration.observe import Seen
from cortex.orchestration.work import Work
from cortex.runtime.contract import Container, Runtime, RuntimeFault

STOP_ALLOWANCE = timedelta(seconds=5)
STALLED_AFTER = timedelta(seconds=60)
FETCH_STALLED_AFTER = timedelta(minutes=10)
PATIENCE = 10
MEMORY_STEP = 256 << 20
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
    """Whether its log or its memory changed lately: then it is slow, not stuck."""
    used = work.replica.seats.aggregate(used=Sum("gpu__used"))["used"] or 0
    evidence = f"{last_stamp(work.runtime, container)} {used // MEMORY_STEP}"
    if evidence != attempt.progress:
        attempt.progress, attempt.progress_at = evidence, clock.now()
        attempt.save(update_fields=["progress", "progress_at"])
    return attempt.progress_at is not None and clock.now() - attempt.progress_at < STALLED_AFTER


def last_stamp(runtime: Runtime, container: Container) -> int:
    """When it wrote its last line, as the stamp of a log line; 0 when nobody can tell."""
    try:
        with runtime.logs(container.id, tail=1) as lines:
            last = next(lines, None)
    except RuntimeFault:
        last = None
    return last.stamp if last else 0


def why_late(work: Work) -> str:
    """In words, for people: how long it was given, and what it showed."""
    allowed, attempt = work.spec.start_deadline if work.spec else 0.0, work.attempt
    if attempt and attempt.progress_at and clock.now() - attempt.progress_at < STALLED_AFTER:
        return f"It did not become ready within {PATIENCE * allowed:.0f} s, though its log or its memory still changed."
    stalled = f"for {STALLED_AFTER.total_seconds():.0f} s neither its log nor its memory changed"
    return f"It did not become ready within {allowed:.0f} s, and {stalled}."
