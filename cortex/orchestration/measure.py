"""What a start took, once it is ready: the engine's own log and the cards, kept for the next estimate."""

from itertools import islice

from django.db.models import Exists, F, OuterRef, QuerySet

from cortex.calculator.calibration import Measured, read_log
from cortex.fleet import clock
from cortex.fleet.models import Attempt, Gpu, Measurement, Seat
from cortex.orchestration.effects import effect
from cortex.orchestration.runtimes import Here
from cortex.runtime.contract import NotFound

LINES = 5000


def measure(here: Here) -> None:
    """Keep what each attempt on this host's cards took, once, when a sample of the cards shows it ready."""
    for attempt in _due(here):
        gpus = [seat.gpu for seat in attempt.replica.seats.select_related("gpu").order_by("gpu__index")]
        if gpus and all(_is_sampled(gpu, attempt) for gpu in gpus):
            _keep(attempt, gpus, _measured(here, attempt, gpus))


def _due(here: Here) -> QuerySet[Attempt]:
    ready = Attempt.objects.filter(replica__host=here.host, ended_at=None, measurement=None).exclude(ready_at=None)
    seated = Exists(Seat.objects.filter(replica=OuterRef("replica")))
    return ready.filter(seated, replica__turn=F("confirmed_turn")).select_related("replica__model")


def _is_sampled(gpu: Gpu, attempt: Attempt) -> bool:
    return gpu.seen_at is not None and attempt.ready_at is not None and gpu.seen_at > attempt.ready_at


def _measured(here: Here, attempt: Attempt, gpus: list[Gpu]) -> Measured:
    try:
        with here.runtime.logs(attempt.container_id) as lines:
            text = [line.text for line in islice(lines, LINES)]
    except NotFound:
        text = []
    alone = all(_is_alone(gpu, attempt) for gpu in gpus)
    return read_log(text, tuple(gpu.used for gpu in gpus) if alone else ())


def _is_alone(gpu: Gpu, attempt: Attempt) -> bool:
    """Whether all that is used of the card is its: nobody else has a seat there, and one process is seen at most."""
    return len(gpu.pids) <= 1 and not Seat.objects.filter(gpu=gpu).exclude(replica=attempt.replica).exists()


def _keep(attempt: Attempt, gpus: list[Gpu], found: Measured) -> None:
    model = attempt.replica.model
    with effect("note measurement"):
        Measurement.objects.get_or_create(
            attempt=attempt,
            defaults={
                "model_name": model.name,
                "repository": model.repository,
                "path": model.path,
                "engine": model.engine,
                "image": attempt.image,
                "card": gpus[0].name,
                "gpus": len(gpus),
                "estimated": attempt.estimated.get("cards", []),
                "terms": dict(found.terms),
                "tokens": found.tokens,
                "devices": list(found.devices),
                "at": clock.now(),
            },
        )
