"""From hosts, cards and strays to answers."""

from datetime import datetime

from django.db.models import Count, QuerySet

from cortex.api import shapes
from cortex.fleet.models import SILENT_AFTER, Gpu, Host, Stray
from cortex.orchestration import drains
from cortex.orchestration.strays import GRACE


def with_counts(hosts: "QuerySet[Host]") -> "QuerySet[Host]":
    return hosts.annotate(
        gpu_count=Count("gpus", distinct=True),
        replica_count=Count("replicas", distinct=True),
        stray_count=Count("strays", distinct=True),
    )


def host(row: Host, now: datetime) -> shapes.HostAnswer:
    """A row of with_counts(), by the database's clock."""
    return shapes.HostAnswer(
        name=row.name,
        answering=row.seen_at is not None and now - row.seen_at < SILENT_AFTER,
        cores=row.cores,
        memory=row.memory,
        version=row.version,
        machine=row.machine,
        labels=row.labels,
        condition=row.trouble,
        gpu_condition=row.gpu_condition,
        pretend=row.pretend,
        cordoned=row.cordoned,
        draining=row.draining,
        drain=_drain(row),
        gpus=row.gpu_count,  # type: ignore[attr-defined]  # annotated
        replicas=row.replica_count,  # type: ignore[attr-defined]
        strays=row.stray_count,  # type: ignore[attr-defined]
        seen_at=row.seen_at,
    )


def _drain(row: Host) -> shapes.DrainAnswer | None:
    progress = drains.progress(row)
    if progress is None:
        return None
    staying = [_staying(each) for each in progress.staying]
    return shapes.DrainAnswer(since=progress.since, total=progress.total, left=progress.left, staying=staying)


def _staying(each: drains.Staying) -> shapes.StayingAnswer:
    return shapes.StayingAnswer(
        replica=str(each.replica),
        model=each.replica.model.name,
        reason=each.why,
        in_the_way=list(each.in_the_way),
        pinned=each.pinned,
    )


def gpu(row: Gpu, models: list[str]) -> shapes.GpuAnswer:
    return shapes.GpuAnswer(
        uuid=row.uuid,
        host=row.host.name,
        index=row.index,
        name=row.name,
        total=row.total,
        used=row.used,
        reserved=row.reserved,
        free=row.free,
        utilisation=row.utilisation,
        temperature=row.temperature,
        power=row.power,
        missing=row.missing,
        seen_at=row.seen_at,
        models=models,
    )


def stray(row: Stray) -> shapes.StrayAnswer:
    return shapes.StrayAnswer(
        id=row.id,
        host=row.host.name,
        container=row.name,
        container_id=row.container_id,
        model=row.model_name,
        first_seen_at=row.first_seen_at,
        removed_after=row.first_seen_at + GRACE,
        confirmed=row.confirmed,
    )
