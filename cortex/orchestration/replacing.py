"""REPLACE and MOVE: where there is room the new one serves before the old one drains; else one stops, then starts."""

from django.db import transaction
from django.db.models import Q

from cortex.catalog.models import Model
from cortex.fleet.models import Overtaken, Replica
from cortex.fleet.states import Observed, Successor
from cortex.orchestration import drains, settle
from cortex.orchestration.effects import effect
from cortex.orchestration.observe import Seen
from cortex.orchestration.stopping import drain
from cortex.orchestration.work import Work


def successor(replica: Replica) -> Successor:
    """How far the one that is to take its place has come, by what people want now."""
    new = Replica.objects.filter(replaces=replica, called_off=False).select_related("model").first()
    if new is None:
        return Successor.NONE
    confirmed = new.attempts.filter(ended_at=None, confirmed_turn=new.model.turn)
    ready = new.observed == Observed.READY and new.wanted and new.draining_at is None
    return Successor.SERVING if ready and confirmed.exists() else Successor.COMING


def is_spare(replica: Replica) -> bool:
    """Whether the one that it is to replace serves still."""
    old = replica.replaces
    return old is not None and old.observed == Observed.READY and old.draining_at is None and not old.called_off


def replace(work: Work, seen: Seen) -> bool:
    """Begin to replace it, unless another replica of the model is between two definitions: one at a time."""
    replica = work.replica
    with effect("replace"), transaction.atomic():
        _lock(replica)
        if _is_under_way(replica) or _make_room(replica):
            replica.end_drain()  # of an earlier order, or before there was room
            return False
        if replica.draining_at is None:
            replica.drain()
    return drain(work, seen)


def move(work: Work, seen: Seen) -> bool:
    """Begin to replace it elsewhere, unless another is on its way from its host: one at a time. Stops nothing."""
    replica = work.replica
    with effect("move"), transaction.atomic():
        _lock(replica)
        replica.end_drain()  # of an earlier order
        if not drains.is_queued(replica):
            new = Replica(model=replica.model, slot=replica.slot, replaces=replica)
            new.host, _ = settle.choose_host(new)
            new.save()
    return False


def _lock(replica: Replica) -> None:
    """Alone with all replicas of its model, which is still what it is to be. Raises Overtaken."""
    if Model.objects.select_for_update().get(id=replica.model_id).turn != replica.turn:
        raise Overtaken(f"{replica} is to be something else by now.")


def _is_under_way(replica: Replica) -> bool:
    """Whether another replica of the model is neither as it was nor as it shall be. A lost or homeless one is not."""
    between = ~Q(observed=Observed.READY) | Q(draining_at__isnull=False) | Q(called_off=True)
    others = Replica.objects.filter(between, model=replica.model, host__isnull=False).exclude(id=replica.id)
    return others.exclude(observed=Observed.UNKNOWN).exists()


def _make_room(replica: Replica) -> bool:
    """Make the row of its successor where it fits beside it; False when it fits only once this one has stopped.

    One that fits neither way waits for room with its reason, and this one serves on meanwhile.
    """
    new = Replica(model=replica.model, slot=replica.slot, replaces=replica)
    new.host, _ = settle.choose_host(new)
    if new.host is None and replica.host and settle.choose_host(new, replica.model, [replica.host])[0]:
        return False
    new.save()
    return True


def retire(work: Work, seen: Seen) -> bool:
    """What is to take its place serves, or it has nothing left to serve with: it is no longer needed."""
    replica = work.replica
    with effect("retire"), transaction.atomic():
        Model.objects.select_for_update().get(id=replica.model_id)
        if seen.observed is not Observed.READY or successor(replica) is Successor.SERVING:
            replica.call_off()
    return True


def step_aside(work: Work, seen: Seen) -> bool:
    """It was to replace one that serves still, and is to be something else by now: it stops, and starts as that."""
    replica = work.replica
    with effect("step aside"), transaction.atomic():
        _lock(replica)
        if not is_spare(Replica.objects.select_related("replaces").get(id=replica.id)):
            return True
        if replica.draining_at is None:
            replica.drain()
    return drain(work, seen)


def recall(work: Work, seen: Seen) -> bool:
    """People went back to what it serves: nobody needs the one that was to take its place."""
    with effect("recall"):
        for new in Replica.objects.filter(replaces=work.replica, called_off=False):
            new.call_off()
    return False
