"""Memory promised on cards and of hosts: taken before a start, under locks; freed when its container is gone."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import F, QuerySet

from cortex import placement
from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Overtaken, Replica, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import needs

SEEN_WITHIN = timedelta(seconds=60)
STUCK_AFTER = timedelta(minutes=2)
NOT_YET = (Observed.ABSENT, Observed.FETCHING)


class NoSeat(Exception):
    """No room on this host's cards, with the reasons. What it held there before was given back."""

    def __init__(self, why: placement.NoRoom) -> None:
        super().__init__(str(why))
        self.why = why


class Busy(Exception):
    """Another launch on the same card goes first."""


def need(replica: Replica, size: int) -> placement.Need:
    """What it asks of cards: as estimated, per card; of its weights of `size` bytes where nobody can tell."""
    return needs.asked(replica.model, replica.host, size).need


def cards(of: Iterable[Gpu], apart_from: Model | None = None) -> list[placement.Card]:
    """Cards as they are: what is promised, and what NVML sees beyond that.

    Seats of the model `apart_from` count as free: they are given back before it is started anew.
    """
    gpus = list(of)
    held: dict[str, dict[str, int]] = defaultdict(dict)
    alive: dict[str, int] = defaultdict(int)
    back: dict[str, int] = defaultdict(int)
    for seat in Seat.objects.filter(gpu__in=gpus).select_related("replica__model"):
        if seat.replica.model == apart_from:
            back[seat.gpu_id] += seat.bytes
        else:
            held[seat.gpu_id][str(seat.replica)] = seat.bytes
        alive[seat.gpu_id] += 0 if seat.replica.observed in NOT_YET else seat.bytes
    stuck = set(_stuck(gpus))
    return [_card(gpu, held[gpu.uuid], alive[gpu.uuid], back[gpu.uuid], gpu.uuid in stuck) for gpu in gpus]


def _stuck(gpus: list[Gpu]) -> QuerySet[Seat, str]:
    """Cards where something is that does not end: nobody knows what it does to them."""
    late = clock.now() - STUCK_AFTER
    ending = Seat.objects.filter(gpu__in=gpus, replica__observed=Observed.STOPPING, replica__observed_at__lt=late)
    return ending.values_list("gpu_id", flat=True)


def _card(gpu: Gpu, held: dict[str, int], alive: int, back: int, stuck: bool) -> placement.Card:
    foreign = max(0, gpu.used - alive)
    return placement.Card(
        uuid=gpu.uuid,
        name=gpu.name,
        total=gpu.total,
        free=0 if stuck else max(0, gpu.total - (gpu.reserved - back) - foreign),
        missing=gpu.missing,
        foreign=foreign,
        pids=tuple(gpu.pids),
        held=held,
    )


def take(replica: Replica, size: int) -> tuple[str, ...]:
    """Reserve memory on this host and its cards, once, in one transaction; the cards' UUIDs. Raises NoSeat."""
    wish = need(replica, size)
    with transaction.atomic():
        host = _locked(replica)
        held = list(replica.seats.select_related("gpu").order_by("gpu__index"))
        misfit = placement.misfit(wish, host.name, host.labels)
        if held and misfit is None and _still_right(held, wish) and replica.memory == wish.host_bytes:
            return tuple(seat.gpu_id for seat in held)
        new = not holds_any(replica)
        _give_back(replica)
        answer = placement.on_host(wish, hosts([host], {host.id: host.closed} if new else {})[0])
        if isinstance(answer, placement.Seats):
            for uuid, share in answer.by_card.items():
                Gpu.objects.filter(uuid=uuid).update(reserved=F("reserved") + share)
                Seat.objects.create(replica=replica, gpu_id=uuid, bytes=share)
            _promise(replica, wish.of_host(answer))
            return tuple(gpu.uuid for gpu in host.gpus.order_by("index") if gpu.uuid in answer.by_card)
    raise NoSeat(answer)


def _still_right(held: list[Seat], wish: placement.Need) -> bool:
    if any(seat.gpu.missing for seat in held) or wish.gpus not in (None, len(held)):
        return False
    if wish.pinned and not wish.pinned.issuperset(seat.gpu_id for seat in held):
        return False
    count = len(held)
    if wish.shares and count not in wish.shares:
        return False
    shares = [wish.share(count, place) for place in range(count)]
    return all(
        seat.bytes >= max(share, wish.claim(seat.gpu.total, share)) for seat, share in zip(held, shares, strict=True)
    )


def launch(replica: Replica) -> None:
    """Mark it as the one that starts on its cards. Raises Busy while another does.

    Engines size themselves by what they see free, so the next waits until the first has its memory, and
    until a sample shows it, or samples fail to come.
    """
    with transaction.atomic():
        uuids = set(_locked(replica).gpus.values_list("uuid", flat=True))
        mine = set(replica.seats.values_list("gpu_id", flat=True)) & uuids
        if not mine:
            return
        others = Seat.objects.filter(gpu__in=mine, launching=True).exclude(replica=replica)
        for seat in others.select_related("gpu", "replica__model"):
            if _is_starting(seat):
                raise Busy(f"Waits until {seat.replica} has started on {seat.gpu}: one launch at a time on a card.")
        replica.seats.update(launching=True)


def _is_starting(seat: Seat) -> bool:
    attempt = seat.replica.attempts.filter(ended_at=None).first()
    if attempt is None or attempt.ready_at is None:
        return attempt is not None
    unseen = seat.gpu.seen_at is not None and seat.gpu.seen_at < attempt.ready_at
    return unseen and clock.now() - attempt.ready_at < SEEN_WITHIN


def free(replica: Replica) -> None:
    """Give the memory back. Only for a replica whose container was seen gone, and that nobody has taken up since."""
    with transaction.atomic():
        seen = Replica.objects.filter(id=replica.id, turn=replica.turn, observed=Observed.ABSENT)
        if not seen.select_for_update(no_key=True).exists():
            return
        _locked(replica)
        _give_back(replica)


def _give_back(replica: Replica) -> None:
    """All that it holds. Its host and cards are locked."""
    for seat in replica.seats.all():
        if Seat.objects.filter(id=seat.id).delete()[0]:
            Gpu.objects.filter(uuid=seat.gpu_id).update(reserved=F("reserved") - seat.bytes)
    _promise(replica, 0)


def _promise(replica: Replica, memory: int) -> None:
    """So many bytes of its host's own memory, whatever it held before."""
    before = Replica.objects.values_list("memory", flat=True).get(id=replica.id)
    if memory != before:
        Replica.objects.filter(id=replica.id).update(memory=memory)
        Host.objects.filter(replicas=replica).update(reserved=F("reserved") + memory - before)
    replica.memory = memory


def holds_any(replica: Replica) -> bool:
    """Whether memory anywhere is promised to it."""
    return bool(replica.memory) or replica.seats.exists()


def _locked(replica: Replica) -> Host:
    """Its host, which stays as it is with its cards until the transaction ends. Raises Overtaken."""
    mine = Replica.objects.select_for_update(no_key=True).filter(id=replica.id, host=replica.host)
    if replica.host is None or not mine.exists():
        raise Overtaken(f"{replica} is on another host by now, or on none.")
    host = Host.objects.select_for_update(no_key=True).get(id=replica.host.id)
    list(Gpu.objects.select_for_update().filter(host=host).order_by("uuid"))
    return host


def hosts(of: Iterable[Host], faults: dict[int, str], apart_from: Model | None = None) -> list[placement.Host]:
    """Hosts as placement sees them; `faults` says by id why nothing may go to one."""
    return [_host(host, faults.get(host.id, ""), apart_from) for host in of]


def _host(host: Host, fault: str, apart_from: Model | None) -> placement.Host:
    there = list(host.replicas.select_related("model"))
    return placement.Host(
        name=host.name,
        cards=cards(host.gpus.all(), apart_from),
        fault=fault,
        memory=host.memory,
        load=len(there),
        labels=host.labels,
        held={str(replica): replica.memory for replica in there if replica.memory and replica.model != apart_from},
    )
