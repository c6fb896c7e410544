"""Rows first: the replicas a model is to have, each on a host, and none that it is not to have."""

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet

from cortex.catalog.models import Model
from cortex.fleet.models import Host, Replica
from cortex.fleet.states import Observed


def unsettled() -> QuerySet[Model]:
    """Models whose rows do not match their definition, or whose replicas wait for a host."""
    rows = Model.objects.annotate(
        rows=Count("replica_set"), homeless=Count("replica_set", filter=Q(replica_set__host=None))
    )
    homeless = Q(homeless__gt=0, desired="running")
    return rows.filter(~Q(rows=F("replicas"), removed_at=None) | homeless).order_by("id")


def settle(model_id: int) -> list[Replica]:
    """Make, place and remove rows; the replicas whose hosts ought to look."""
    with transaction.atomic():
        model = Model.objects.select_for_update().filter(id=model_id).first()
        if model is None:
            return []
        kept = [replica for replica in _rows(model) if not _is_over(replica)]
        if model.removed_at and not kept:
            model.delete()
            return []
        for replica in kept:
            if replica.host is None and replica.wanted:
                _place(replica)
        return [replica for replica in kept if replica.host]


def _rows(model: Model) -> list[Replica]:
    count = 0 if model.removed_at else model.replicas
    have = set(model.replica_set.values_list("slot", flat=True))
    Replica.objects.bulk_create(Replica(model=model, slot=slot) for slot in range(count) if slot not in have)
    return list(Replica.objects.filter(model=model).select_related("model", "host"))


def _is_over(replica: Replica) -> bool:
    """Remove the row of a slot nobody wants whose container was seen gone."""
    surplus = replica.model.removed_at is not None or replica.slot >= replica.model.replicas
    if not surplus or replica.observed != Observed.ABSENT or replica.seats.exists():
        return False
    if replica.attempts.filter(ended_at=None).exists():
        return False
    replica.delete()
    return True


def _place(replica: Replica) -> None:
    """The answering host with the fewest replicas for its cards."""
    hosts = Host.objects.answering().filter(cordoned=False, condition="")
    loads = hosts.annotate(load=Count("replicas", distinct=True), cards=Count("gpus", distinct=True))
    rows = loads.values_list("load", "cards", "name", "id")
    found = min(((load / max(cards, 1), name, host) for load, cards, name, host in rows), default=None)
    if found is None:
        replica.observe(Observed.ABSENT, "No host answers. Start a worker and an agent, and see the Hosts page.")
        return
    replica.host = Host.objects.get(id=found[2])
    replica.save(update_fields=["host"])
