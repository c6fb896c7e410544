"""From rows to answers, with one query for each kind of row however many there are."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import F, Prefetch, QuerySet

from cortex.api import shapes
from cortex.catalog.definition import describe
from cortex.catalog.models import Model, Order
from cortex.fleet.models import Attempt, Replica, Seat
from cortex.fleet.states import Observed
from cortex.fleet.status import status

Latest = dict[UUID, Attempt]


def with_replicas(models: "QuerySet[Model]") -> "QuerySet[Model]":
    seats = Prefetch("seats", Seat.objects.select_related("gpu").order_by("gpu__index"))
    replicas = Replica.objects.select_related("host", "model").prefetch_related(seats)
    replicas = replicas.order_by("slot", F("replaces").asc(nulls_first=True))
    return models.prefetch_related(Prefetch("replica_set", replicas))


def latest_attempts(replicas: Iterable[Replica]) -> Latest:
    """Each replica's newest attempt, without its logs."""
    newest = Attempt.objects.filter(replica__in=list(replicas)).order_by("replica_id", "-number")
    found = newest.distinct("replica_id").defer("first_log", "last_log", "spec")
    return {attempt.replica_id: attempt for attempt in found}


def first_failures(replicas: Iterable[Replica]) -> Latest:
    """What began the present row of failures of each replica that fails, without its logs."""
    failing = [replica for replica in replicas if replica.failures]
    if not failing:
        return {}
    first = Attempt.objects.filter(replica__in=failing, failure=1).order_by("replica_id", "-number")
    found = first.distinct("replica_id").defer("first_log", "last_log", "spec")
    return {attempt.replica_id: attempt for attempt in found}


def model(row: Model, latest: Latest | None = None, first: Latest | None = None) -> shapes.ModelAnswer:
    replicas = list(row.replica_set.all())
    attempts = latest_attempts(replicas) if latest is None else latest
    failures = first_failures(replicas) if first is None else first
    return shapes.ModelAnswer(
        name=row.name,
        spec=describe(row),
        status=_status(row, replicas, attempts, failures),
        turn=row.turn,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def models(rows: list[Model]) -> list[shapes.ModelAnswer]:
    replicas = [replica for row in rows for replica in row.replica_set.all()]
    latest, first = latest_attempts(replicas), first_failures(replicas)
    return [model(row, latest, first) for row in rows]


def is_settled(row: Model, replicas: list[Replica], latest: Latest) -> bool:
    """Whether every replica is as this very turn wants it, and not merely as an earlier one did."""
    first = [replica for replica in replicas if not replica.replaces_id]  # one that only moves is as it shall be
    return status(row, first).settled and all(
        replica.turn == row.turn and _is_confirmed(latest.get(replica.id), row.turn)
        for replica in first
        if replica.wanted
    )


def _is_confirmed(attempt: Attempt | None, turn: int) -> bool:
    return attempt is not None and attempt.confirmed_turn >= turn


def _status(row: Model, replicas: list[Replica], latest: Latest, first: Latest) -> shapes.StatusAnswer:
    how = status(row, replicas)
    return shapes.StatusAnswer(
        phase=how.phase,
        reason=how.reason,
        ready=how.ready,
        wanted=how.wanted,
        settled=is_settled(row, replicas, latest),
        replicas=[_replica(replica, latest.get(replica.id), first.get(replica.id)) for replica in replicas],
    )


def _replica(row: Replica, attempt: Attempt | None, first: Attempt | None) -> shapes.ReplicaAnswer:
    return shapes.ReplicaAnswer(
        id=row.id,
        slot=row.slot,
        replaces=row.replaces_id,
        host=row.host.name if row.host else None,
        gpus=[_seat(seat) for seat in row.seats.all()],
        wanted=row.wanted,
        observed=row.observed,
        observed_at=row.observed_at,
        phase=row.phase,
        reason=row.reason,
        in_the_way=row.in_the_way,
        remedy=attempt.remedy if attempt and row.failures else "",
        address=row.address if row.observed == Observed.READY else "",
        failures=row.failures,
        retry_at=row.retry_at,
        gave_up=row.gave_up,
        attempt=shapes.AttemptAnswer.model_validate(attempt) if attempt else None,
        first_failure=shapes.AttemptAnswer.model_validate(first) if first else None,
    )


def _seat(row: Seat) -> shapes.SeatAnswer:
    return shapes.SeatAnswer(gpu=row.gpu_id, index=row.gpu.index, name=row.gpu.name, bytes=row.bytes)


def attempt(row: Attempt) -> shapes.AttemptLogAnswer:
    facts = shapes.AttemptAnswer.model_validate(row).model_dump()
    return shapes.AttemptLogAnswer(**facts, replica=row.replica.slot, first_log=row.first_log, last_log=row.last_log)


def order(row: Order) -> shapes.OrderAnswer:
    return shapes.OrderAnswer(id=row.id, verb=row.verb, by=row.by_name, turn=row.turn, changes=row.changes, at=row.at)
