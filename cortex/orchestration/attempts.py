"""An attempt's life: begun before the first outside call, ended once with everything known about the end."""

from itertools import islice

from django.db import transaction

from cortex.fleet import clock
from cortex.fleet.models import Attempt, Replica
from cortex.runtime.contract import Container, Runtime, RuntimeFault
from engines import engine
from engines.contract import Diagnosis

FIRST_LINES = 30
LAST_LINES = 100


def current(replica: Replica) -> Attempt | None:
    """The attempt that has not ended."""
    return replica.attempts.filter(ended_at=None).first()


def begin(replica: Replica, image: str) -> Attempt:
    """The open attempt of this turn, made when there is none."""
    with transaction.atomic():
        Replica.objects.select_for_update().get(id=replica.id)
        attempt = current(replica)
        if attempt is None:
            last = replica.attempts.first()
            attempt = replica.attempts.create(
                number=last.number + 1 if last else 1,
                turn=replica.turn,
                confirmed_turn=replica.turn,
                image=image,
                queued_at=clock.now(),
            )
        return attempt


def end(attempt: Attempt, reason: str, *, remedy: str = "", failed: bool, permanent: bool = False) -> None:
    """Close it; a failure counts towards the backoff in the same transaction."""
    replica = attempt.replica
    with transaction.atomic():
        attempt.ended_at = clock.now()
        attempt.reason, attempt.remedy = reason, remedy
        attempt.save(update_fields=["ended_at", "reason", "remedy", "exit_code", "oom_killed", "first_log", "last_log"])
        if failed:
            replica.count_failure(served=attempt.ready_at is not None, permanent=permanent)


def end_exited(attempt: Attempt, runtime: Runtime, container: Container, *, ordered: str) -> None:
    """Close the attempt of a container that ended: by our order (`ordered` says which), or by itself."""
    last = keep_words(attempt, runtime, container)
    attempt.exit_code, attempt.oom_killed = container.exit_code, container.oom_killed
    if ordered:
        end(attempt, ordered, failed=False)
        return
    verdict = explain(attempt, container, last)
    reason = f"{verdict.cause} Its log says: {verdict.line}" if verdict.line else verdict.cause
    permanent = verdict.permanent and attempt.ready_at is None
    end(attempt, reason, remedy=verdict.remedy, failed=True, permanent=permanent)


def explain(attempt: Attempt, container: Container, last: list[str]) -> Diagnosis:
    """Why a container ended by itself."""
    known = engine(attempt.replica.model.engine).diagnose(last, container.exit_code)
    if known:
        return known
    if container.error:
        return Diagnosis(cause=f"It could not be started: {container.error}", remedy="", permanent=False, line="")
    if container.oom_killed:
        remedy = "Give the host more memory, or the model less context, or smaller weights."
        return Diagnosis(cause="The host ran out of memory and killed it.", remedy=remedy, permanent=False, line="")
    if container.exit_code == 137:
        cause = "Something outside Cortex killed it (exit status 137)."
        return Diagnosis(cause=cause, remedy="", permanent=False, line="")
    cause = f"The engine ended by itself with exit status {container.exit_code}."
    line = next((text for text in reversed(last) if text.strip()), "")
    return Diagnosis(cause=cause, remedy="Its log tells more.", permanent=False, line=line)


def keep_words(attempt: Attempt, runtime: Runtime, container: Container) -> list[str]:
    """Put the first and the last lines of the container's log on the attempt (not saved yet); the last ones."""
    first, last = _words(runtime, container)
    attempt.first_log, attempt.last_log = "\n".join(first), "\n".join(last)
    return last


def _words(runtime: Runtime, container: Container) -> tuple[list[str], list[str]]:
    try:
        first = [line.text for line in islice(runtime.logs(container.id), FIRST_LINES)]
        last = [line.text for line in runtime.logs(container.id, tail=LAST_LINES)]
    except RuntimeFault as fault:
        return [], [f"(its log could not be read: {fault})"]
    return first, last
