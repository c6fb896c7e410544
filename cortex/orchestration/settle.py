"""Rows first: the replicas a model is to have, each on a host, and none that it is not to have."""

from contextlib import suppress
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet

from cortex import placement
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import files
from cortex.catalog.definition import Refusal
from cortex.catalog.models import Desired, Model
from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Host, Lack, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import attempts, drains, needs, plan, seats
from cortex.orchestration.effects import effect
from cortex.orchestration.hosts import silent_together
from cortex.telemetry import logs


def unsettled(now: datetime | None = None) -> QuerySet[Model]:
    """Models whose rows do not match their definition, or whose replicas wait for a host."""
    now = now or clock.now()
    rows = Model.objects.annotate(rows=Count("replica_set"))
    waiting = Replica.objects.filter(_is_homeless(now) | _is_stranded(now), model__desired=Desired.RUNNING)
    mismatched = ~Q(rows=F("replicas"), removed_at=None)
    return rows.filter(mismatched | Q(id__in=waiting.values("model_id"))).order_by("id")


def _is_homeless(now: datetime) -> Q:
    due = Q(retry_at=None) | Q(retry_at__lte=now)
    return Q(host=None) & due


def _is_stranded(now: datetime) -> Q:
    """On a host that can start nothing, with nothing of it there; where most are silent at once nothing is moved."""
    silent = Q(host__seen_at=None) | Q(host__seen_at__lt=now - SILENT_AFTER)
    silent &= ~Q(host__in=silent_together())
    unusable = silent | Q(host__cordoned=True) | Q(host__draining_since__isnull=False) | ~Q(host__condition="")
    return Q(observed=Observed.ABSENT, seats=None, memory=0) & unusable


def settle(model_id: int) -> list[Replica]:
    """Make, place and remove rows; the replicas whose hosts ought to look."""
    with effect("settle"), transaction.atomic():
        model = Model.objects.select_for_update().filter(id=model_id).first()
        if model is None:
            return []
        kept = [replica for replica in _rows(model) if not _is_over(replica)]
        if model.removed_at and not kept:
            model.delete()
            return []
        for replica in kept:
            if replica.wanted and _may_move(replica):
                _place(replica)
        return [replica for replica in kept if replica.host]


def _rows(model: Model) -> list[Replica]:
    count = 0 if model.removed_at else model.replicas
    have = set(model.replica_set.exclude(called_off=True).values_list("slot", flat=True))
    Replica.objects.bulk_create(Replica(model=model, slot=slot) for slot in range(count) if slot not in have)
    rows = Replica.objects.filter(model=model).select_for_update(of=("self",), no_key=True).order_by("slot")
    return list(rows.select_related("model", "host"))


def _is_over(replica: Replica) -> bool:
    """Remove the row of a slot nobody wants whose container was seen gone, and what it printed."""
    if not Replica.objects.filter(surplus(), id=replica.id).exists() or not _has_nothing(replica):
        return False
    transaction.on_commit(partial(logs.drop, replica.id))
    attempts.hand_on(replica)
    replica.call_off()  # it leaves its slot to the one that replaces it
    replica.delete()
    return True


def surplus() -> Q:
    """Rows that are to go as soon as nothing of them is left; of two in a stopped slot, the newer one."""
    stopped = Q(model__desired=Desired.STOPPED, replaces__isnull=False)
    return Q(called_off=True) | Q(model__removed_at__isnull=False) | Q(slot__gte=F("model__replicas")) | stopped


def _has_nothing(replica: Replica) -> bool:
    if replica.observed != Observed.ABSENT or seats.holds_any(replica):
        return False
    return not replica.attempts.filter(ended_at=None).exists()


def _may_move(replica: Replica) -> bool:
    """Whether it has no host yet, or nothing on one that can start nothing or is not where it may be."""
    if replica.host is None:
        return not (replica.replaces and drains.is_leaving(replica.replaces) and drains.is_queued(replica.replaces))
    stranded = Replica.objects.filter(_is_stranded(clock.now()), id=replica.id).exists()
    return (stranded or not needs.met(replica, ())) and _has_nothing(replica)


def _place(replica: Replica) -> None:
    """Where its files are missing its need is a guess: after a first try, a host that has them places it."""
    if replica.retry_at and _lacks_files(replica):
        return
    replica.host, why = choose_host(replica)
    replica.save(update_fields=["host"])
    if why:
        replica.observe(Observed.ABSENT, f"Waits for room. {why}", in_the_way=why.in_the_way)


def choose_host(
    replica: Replica, apart_from: Model | None = None, among: list[Host] | None = None
) -> tuple[Host | None, placement.NoRoom | None]:
    """Where there is room for it now, or why there is none; what the model `apart_from` holds counts as free."""
    hosts = list(Host.objects.all()) if among is None else among
    why_not = faults(hosts) | lacks(replica.model.repository, replica.model.path)
    answer = placement.choose(seats.need(replica, _size(replica)), seats.hosts(hosts, why_not, apart_from))
    if isinstance(answer, placement.NoRoom):
        return None, answer
    return next(host for host in hosts if host.name == answer.host), None


def _size(replica: Replica) -> int:
    """Bytes to load, 0 while nobody here can tell."""
    try:
        found = plan.locate(replica)
    except (UnreadableModel, Refusal):
        return 0
    return found.size if found else 0


def _lacks_files(replica: Replica) -> bool:
    try:
        plan.locate(replica)
    except files.Missing:
        return True
    except (UnreadableModel, Refusal):
        pass
    return False


def lacks(repository: str, path: str) -> dict[int, str]:
    """Which hosts said that they do not have these files, by their ids; a repository is fetched."""
    return {} if repository else dict(Lack.objects.filter(path=path).values_list("host_id", "reason"))


def find_again(host: Host) -> None:
    """Take back what this host said it lacks, where the files are there by now."""
    for lack in Lack.objects.filter(host=host):
        with suppress(files.Missing):
            files.point(lack.path)
            lack.delete()


def faults(hosts: list[Host]) -> dict[int, str]:
    """Why nothing may go to some of these hosts, by their ids."""
    answering = set(Host.objects.answering().values_list("id", flat=True))
    found = {}
    for host in hosts:
        if host.id not in answering:
            found[host.id] = f"Host {host} has not been heard of lately. See that its agent and worker run."
        elif host.closed:
            found[host.id] = host.closed
        elif host.condition:
            found[host.id] = f"Host {host}: {host.condition}"
    return found
