"""A host that people want empty: who leaves it and whose turn it is, who stays there and why."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from cortex.fleet.models import Attempt, Host, Replica, Seat
from cortex.fleet.states import Observed, Phase

PINNED = "Its model may run nowhere else: it is pinned to this host. Change where it may run, or stop it."
WAITS = "It waits for its turn: one leaves at a time."


@dataclass(frozen=True)
class Staying:
    """A replica that has not left, and why. `pinned`: it never will, by what its model says."""

    replica: Replica
    why: str
    in_the_way: tuple[str, ...] = ()
    pinned: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a drain has come: of `total` replicas, these are still there."""

    since: datetime
    total: int
    staying: list[Staying]

    @property
    def left(self) -> int:
        return self.total - len(self.staying)


def is_leaving(replica: Replica) -> bool:
    """Whether it is to go elsewhere as soon as it can."""
    return replica.host is not None and replica.host.draining and not is_pinned(replica)


def is_pinned(replica: Replica) -> bool:
    """Whether its model may run on no other host than where it is, by name or by cards."""
    wish, host = replica.model.placement, replica.host
    if host is None:
        return False
    if set(wish.get("hosts", [])) == {host.name}:
        return True
    cards = set(wish.get("cards", []))
    return bool(cards) and cards <= set(host.gpus.values_list("uuid", flat=True))


def is_queued(replica: Replica) -> bool:
    """Whether another is on its way from the same host, so that this one waits. Holds that host until the end.

    Who has no room, fails, or is out of sight keeps nobody waiting.
    """
    host = Host.objects.select_for_update(no_key=True).filter(replicas=replica).first()
    coming = Replica.objects.filter(replaces__host=host, host__isnull=False, failures=0, called_off=False)
    return coming.exclude(replaces=replica).exclude(observed=Observed.UNKNOWN).exists()


def holding(host: Host) -> list[Replica]:
    """Replicas of which something is there, or may be: whatever it was when it was last seen."""
    under_way = Attempt.objects.filter(replica__host=host, ended_at=None)
    promised = Q(id__in=Seat.objects.values("replica")) | ~Q(memory=0)
    there = ~Q(observed=Observed.ABSENT) | promised | Q(id__in=under_way.values("replica"))
    return list(
        Replica.objects.filter(there, host=host).select_related("model", "host").order_by("model__name", "slot")
    )


def progress(host: Host) -> Progress | None:
    """How far its drain has come; None when nobody wants it empty."""
    if host.draining_since is None:
        return None
    here = holding(host)
    coming = Replica.objects.filter(replaces__in=here, called_off=False).select_related("model", "host")
    by_old = {new.replaces_id: new for new in coming}
    staying = [_staying(replica, by_old.get(replica.id)) for replica in here]
    return Progress(host.draining_since, max(host.to_leave, len(staying)), staying)


def _staying(replica: Replica, new: Replica | None) -> Staying:
    if replica.observed == Observed.UNKNOWN:
        return Staying(replica, replica.reason)
    if not replica.wanted:
        return Staying(replica, "It answers what it was asked, and stops.")
    if is_pinned(replica):
        return Staying(replica, PINNED, pinned=True)
    if new is None:
        return Staying(replica, WAITS)
    return Staying(replica, _about(new), tuple(new.in_the_way))


def _about(new: Replica) -> str:
    """How the one is that is to serve elsewhere."""
    if new.host is None:
        return new.reason or "It waits for room elsewhere."
    if new.phase in (Phase.FAILING, Phase.UNKNOWN):
        return f"The one on {new.host} that is to take its place is {new.phase}: {new.reason}"
    return f"The one on {new.host} that is to take its place is {new.phase}."
