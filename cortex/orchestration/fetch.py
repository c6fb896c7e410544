"""Images and weights on their way: slow, resumable, by the agent alone; bytes are noted once a second."""

import logging
import time

from django.conf import settings
from pydantic import ValidationError

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog.definition import Refusal
from cortex.fleet import clock
from cortex.fleet.models import Attempt, Overtaken, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import attempts, plan
from cortex.orchestration.effects import effect
from cortex.orchestration.lock import only_one
from cortex.orchestration.looks import look_at
from cortex.orchestration.runtimes import Here
from cortex.runtime import hub
from cortex.runtime.contract import PullProgress, RuntimeFault

log = logging.getLogger(__name__)

NOTED_EVERY = 1.0


class Cancelled(Exception):
    """Nobody wants it any more."""


def fetch(replica: Replica, here: Here) -> None:
    """Bring what a FETCHING replica lacks, then hand it back to the loop."""
    attempt = attempts.current(replica)
    if attempt is None:
        return
    try:
        _bring(replica, attempt, here)
    except (Cancelled, Overtaken):
        log.info("%s: nobody waits for its files any more", replica)
    except RuntimeFault as fault:
        _fail(replica, attempt, fault.what, fault.remedy, permanent=fault.permanent)
    except UnreadableModel as error:
        _fail(replica, attempt, f"{error.what}: {error.why}", error.remedy, permanent=True)
    except (Refusal, ValidationError) as error:
        _fail(replica, attempt, str(error), "Correct the definition.", permanent=True)
    except OSError as error:
        _fail(replica, attempt, f"Its files cannot be written: {error}.", "See to the models folder.", permanent=False)
    else:
        _finish(replica)
    look_at(replica.id, here)


def _bring(replica: Replica, attempt: Attempt, here: Here) -> None:
    model, note = replica.model, _Note(attempt)
    if plan.locate(replica) is None:
        token = settings.ENV.cortex_hub_token_file
        hub.fetch(
            model.repository,
            model.revision or plan.MAIN,
            plan.patterns(model),
            settings.ENV.cortex_models.resolve(),
            note,
            token=token.read_text().strip() if token else None,
            endpoint=settings.ENV.cortex_hub_url,
        )
    if not here.runtime.has_image(attempt.image):
        here.runtime.pull(attempt.image, note)


class _Note:
    """Writes progress at most once a second, and asks whether anybody still waits for it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._next = 0.0
        self._last = (0, 0)
        self._at = clock.now()

    def __call__(self, progress: PullProgress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + NOTED_EVERY
        open_still = Attempt.objects.filter(id=self._attempt.id, ended_at=None)
        if (progress.done, progress.total) != self._last:
            self._last, self._at = (progress.done, progress.total), clock.now()
        if not open_still.update(bytes_done=progress.done, bytes_total=progress.total, progress_at=self._at):
            raise Cancelled


def _finish(replica: Replica) -> None:
    with only_one(replica.id) as held:
        fresh = _still_fetching(replica)
        if held and fresh:
            with effect("observe fetched"):
                fresh.observe(Observed.ABSENT, "Everything is here.")


def _fail(replica: Replica, attempt: Attempt, reason: str, remedy: str, *, permanent: bool) -> None:
    with only_one(replica.id) as held:
        fresh = _still_fetching(replica)
        if held and fresh and attempts.current(fresh) == attempt:
            with effect("end attempt"):
                attempts.end(attempt, fresh, reason, remedy=remedy, failed=True, permanent=permanent)
            with effect("observe absent"):
                fresh.observe(Observed.ABSENT, f"{reason} {remedy}".strip())


def _still_fetching(replica: Replica) -> Replica | None:
    """The row as it is now, should it still wait for us: its model may be gone, or people want something else."""
    rows = Replica.objects.filter(id=replica.id, observed=Observed.FETCHING, turn=replica.turn)
    return rows.select_related("model", "host").first()
