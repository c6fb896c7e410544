"""Hosts and their cards: what is there, who holds it, what is free."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Prefetch
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from cortex.catalog.models import Order
from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Gpu, Host, Replica, Seat, Stray
from cortex.fleet.states import Observed
from cortex.orchestration.drains import Progress, progress
from cortex.orchestration.strays import GRACE
from cortex.ui.answers import live
from cortex.ui.bars import Segment, placed
from cortex.ui.gate import signed_in

HUES = 6
LATEST = 3
RECENT = 200


@dataclass(frozen=True)
class Card:
    gpu: Gpu
    segments: list[Segment]


@dataclass(frozen=True)
class Left:
    """A container that nobody claims; `goes_at` is None where it waits for somebody's word."""

    stray: Stray
    goes_at: datetime | None


@dataclass(frozen=True)
class HostCard:
    """`held` are the replicas of which something is there, or may be; `orders` what people last said of it.

    `drain` is how far it is on its way to be empty; None while nobody wants that.
    """

    host: Host
    silent: bool
    cards: list[Card]
    held: list[Replica]
    strays: list[Left]
    orders: list[Order]
    drain: Progress | None


@signed_in
def hosts(request: HttpRequest) -> HttpResponseBase:
    """Every host."""
    seats = Prefetch("seats", Seat.objects.select_related("replica__model").order_by("id"))
    held = Replica.objects.exclude(observed=Observed.ABSENT).select_related("model").order_by("model__name", "slot")
    found = Host.objects.prefetch_related(
        Prefetch("gpus", Gpu.objects.order_by("index").prefetch_related(seats)), Prefetch("replicas", held), "strays"
    )
    orders, now = _orders(), clock.now()
    shown = [_card(host, orders[host.name], now) for host in found]
    return live(request, "ui/hosts.html", "ui/parts/hosts.html", {"hosts": shown})


def _orders() -> dict[str, list[Order]]:
    """The latest by host."""
    found: dict[str, list[Order]] = defaultdict(list)
    for order in Order.objects.exclude(host_name="")[:RECENT]:
        if len(found[order.host_name]) < LATEST:
            found[order.host_name].append(order)
    return found


def _card(host: Host, orders: list[Order], now: datetime) -> HostCard:
    hues = _hues(host)
    return HostCard(
        host,
        silent=host.seen_at is None or now - host.seen_at > SILENT_AFTER,
        cards=[Card(gpu, segments(gpu, hues)) for gpu in host.gpus.all()],
        held=list(host.replicas.all()),
        strays=[_left(stray, now) for stray in host.strays.all()],
        orders=orders,
        drain=progress(host),
    )


def _left(stray: Stray, now: datetime) -> Left:
    over = stray.first_seen_at + GRACE
    return Left(stray, over if over > now else None)


def _hues(host: Host) -> dict[str, str]:
    """One for each model, on whichever cards of the host it is."""
    names = dict.fromkeys(seat.replica.model.name for gpu in host.gpus.all() for seat in gpu.seats.all())
    return {name: f"seat-{place % HUES + 1}" for place, name in enumerate(names)}


def segments(gpu: Gpu, hues: Mapping[str, str]) -> list[Segment]:
    """What each replica was promised, then what others use beyond that, then what is free."""
    names = [(seat.replica.model.name, seat.bytes) for seat in gpu.seats.all()]
    parts = [(name, hues[name], size) for name, size in names]
    promised = sum(size for _, _, size in parts)
    parts.append(("used by others", "foreign", max(0, gpu.used - promised)))
    parts.append(("free", "free", max(0, gpu.total - max(promised, gpu.used))))
    return placed(parts, gpu.total)
