"""Hosts and their cards: what is there, who holds it, what is free."""

from dataclasses import dataclass

from django.db.models import Prefetch
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Gpu, Host, Seat
from cortex.ui.answers import live
from cortex.ui.bars import Segment, placed
from cortex.ui.gate import signed_in

HUES = 6


@dataclass(frozen=True)
class Card:
    gpu: Gpu
    segments: list[Segment]


@dataclass(frozen=True)
class HostCard:
    host: Host
    silent: bool
    cards: list[Card]


@signed_in
def hosts(request: HttpRequest) -> HttpResponseBase:
    """Every host."""
    seats = Prefetch("seats", Seat.objects.select_related("replica__model").order_by("id"))
    found = Host.objects.prefetch_related(Prefetch("gpus", Gpu.objects.order_by("index").prefetch_related(seats)))
    oldest = clock.now() - SILENT_AFTER
    shown = [
        HostCard(
            host,
            silent=host.seen_at is None or host.seen_at < oldest,
            cards=[Card(gpu, segments(gpu)) for gpu in host.gpus.all()],
        )
        for host in found
    ]
    return live(request, "ui/hosts.html", "ui/parts/hosts.html", {"hosts": shown})


def segments(gpu: Gpu) -> list[Segment]:
    """What each replica was promised, then what others use beyond that, then what is free."""
    parts = [
        (f"{seat.replica.model.name}", f"seat-{place % HUES + 1}", seat.bytes)
        for place, seat in enumerate(gpu.seats.all())
    ]
    promised = sum(size for _, _, size in parts)
    parts.append(("used by others", "foreign", max(0, gpu.used - promised)))
    parts.append(("free", "free", max(0, gpu.total - max(promised, gpu.used))))
    return placed(parts, gpu.total)
