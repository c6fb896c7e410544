"""Rows as the loop would have written them."""

from datetime import UTC, datetime
from typing import Any

from cortex.catalog.models import Model
from cortex.fleet.models import Attempt, Gpu, Host, Replica
from cortex.fleet.states import Observed

AT = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1 << 30


def host(name: str = "test") -> Host:
    return Host.objects.get_or_create(name=name, defaults={"cores": 4, "memory": 8 * GIB, "seen_at": AT})[0]


def card(uuid: str = "GPU-1") -> Gpu:
    return Gpu.objects.create(uuid=uuid, host=host(), name="Imaginary", total=24 * GIB, used=GIB)


def replica(model: Model, observed: Observed = Observed.READY, **more: Any) -> Replica:
    return Replica.objects.create(
        model=model, slot=0, host=host(), observed=observed, turn=more.pop("turn", model.turn), **more
    )


def attempt(replica: Replica, number: int = 1, **more: Any) -> Attempt:
    turn = more.pop("turn", replica.turn)
    return Attempt.objects.create(
        replica=replica, number=number, turn=turn, confirmed_turn=turn, image="engine:1", queued_at=AT, **more
    )
