"""An attempt's life: begun before the first outside call, ended once with everything known about the end."""

from itertools import islice

from django.db import transaction
from django.db.models import F

from cortex.fleet import clock
from cortex.fleet.models import Attempt, Overtaken, Replica
from cortex.runtime.contract import Container, Runtime, RuntimeFault
from engines import all_engines
from engines.contract import Diagnosis

FIRST_LINES = 30
LAST_LINES = 100
KILLED = 137
ENDS = ["ended_at", "reason", "remedy", "exit_code", "oom_killed", "failure", "first_log", "last_log"]
OVERTAKEN = "Overtaken by a newer order."


def current(replica: Replica) -> Attempt | None:
    """The attempt that has not ended."""
    return replica.attempts.filter(ended_at=None).first()


def begin(replica: Replica, image: str) -> Attempt:
    """The open attempt of this turn, made when there is none. Raises Overtaken when the replica is somewhere else."""
    with transaction.atomic():
        ours = Replica.objects.select_for_update(no_key=True).filter(
            id=replica.id, turn=replica.turn, host=replica.host
        )
        if not ours.exists():
            raise Overtaken(f"{replica} has moved on.")
        attempt = current(replica)
        if attempt and (attempt.turn, attempt.image) != (replica.turn, image):
            end(attempt, replica, OVERTAKEN, failed=False)
            attempt = None
        return attempt or _next(replica, image)


def _next(replica: Replica, image: str) -> Attempt:
    slot = Attempt.objects.filter(replica__model=replica.model, replica__slot=replica.slot)
    last = slot.order_by("-number").first()
    return replica.attempts.create(
        number=last.number + 1 if last else 1,
        turn=replica.turn,
        confirmed_turn=replica.turn,
        image=image,
        queued_at=clock.now(),
    )


def hand_on(replica: Replica) -> None:
    """Its row goes: who has its slot now keeps the history of its starts, whose numbers are the slot's."""
    slot = Replica.objects.filter(model=replica.model, slot=replica.slot).exclude(id=replica.id)
    heir = slot.order_by("called_off", F("replaces").asc(nulls_first=True)).first()
    if heir:
        replica.attempts.exclude(number__in=heir.attempts.values("number")).update(replica=heir)


def end(
    attempt: Attempt, replica: Replica, reason: str, *, remedy: str = "", failed: bool, permanent: bool = False
) -> None:
    """Close it, once, and its launch with it; a failure counts towards the replica's backoff in the same transaction.

    A launch that outlived its attempt would keep the card from a neighbour that in turn keeps it from the next one.
    """
    with transaction.atomic():
        fresh = Replica.objects.select_for_update(no_key=True).get(id=replica.id)
        if not Attempt.objects.filter(id=attempt.id, ended_at=None).exists():
            return
        attempt.ended_at = clock.now()
        attempt.reason, attempt.remedy = reason, remedy
        replica.seats.update(launching=False)
        if failed:
            fresh.count_failure(served=attempt.ready_at is not None, permanent=permanent)
            attempt.failure = fresh.failures
        attempt.save(update_fields=ENDS)
    replica.failures, replica.retry_at, replica.gave_up = fresh.failures, fresh.retry_at, fresh.gave_up


def end_exited(attempt: Attempt, replica: Replica, runtime: Runtime, container: Container) -> None:
    """Close the attempt of a container that ended: by our order (its `ending` says which), or by itself."""
    last = keep_words(attempt, runtime, container)
    attempt.exit_code, attempt.oom_killed = container.exit_code, container.oom_killed
    if attempt.ending or not replica.wanted:
        end(attempt, replica, attempt.ending or "Stopped by order.", failed=attempt.failing)
        return
    verdict = explain(replica.model.engine, container, last)
    reason = f"{verdict.cause} Its log says: {verdict.line}" if verdict.line else verdict.cause
    permanent = verdict.permanent and attempt.ready_at is None
    end(attempt, replica, reason, remedy=verdict.remedy, failed=True, permanent=permanent)


def order_end(attempt: Attempt, reason: str, *, failing: bool) -> None:
    """Note that we are about to end it and why, so that its exit is not taken for a crash."""
    attempt.ending, attempt.failing = reason, failing
    attempt.save(update_fields=["ending", "failing"])


def explain(engine_name: str, container: Container, last: list[str]) -> Diagnosis:
    """Why a container ended by itself."""
    kind = all_engines().get(engine_name)
    known = kind.diagnose(last, container.exit_code) if kind else None
    if known:
        return known
    if container.error:
        return Diagnosis(cause=f"It could not be started: {container.error}", remedy="", permanent=False, line="")
    if container.oom_killed:
        remedy = "Give the host more memory, or the model less context, or smaller weights."
        return Diagnosis(cause=_who_ran_out(container), remedy=remedy, permanent=False, line="")
    if container.exit_code == KILLED:
        cause = "Something outside Cortex killed it (exit status 137)."
        return Diagnosis(cause=cause, remedy="", permanent=False, line="")
    cause = f"The engine ended by itself with exit status {container.exit_code}."
    line = next((text for text in reversed(last) if text.strip()), "")
    return Diagnosis(cause=cause, remedy="Its log tells more.", permanent=False, line=line)


def _who_ran_out(container: Container) -> str:
    """The flag tells of any process in the container: only with 137 was it the engine itself."""
    if container.exit_code == KILLED:
        return "The host ran out of memory and killed it."
    child = "The host ran out of memory and killed one of its processes"
    return f"{child}; the engine then ended with exit status {container.exit_code}."


def keep_words(attempt: Attempt, runtime: Runtime, container: Container) -> list[str]:
    """Put the first and the last lines of the container's log on the attempt (not saved yet); the last ones."""
    first, last = _words(runtime, container)
    attempt.first_log, attempt.last_log = "\n".join(first), "\n".join(last)
    return last


def _words(runtime: Runtime, container: Container) -> tuple[list[str], list[str]]:
    try:
        with runtime.logs(container.id) as lines:
            first = [line.text for line in islice(lines, FIRST_LINES)]
        with runtime.logs(container.id, tail=LAST_LINES) as lines:
            last = [line.text for line in lines]
    except RuntimeFault as fault:
        return [], [f"(its log could not be read: {fault})"]
    return first, last
