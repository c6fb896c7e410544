"""What it takes to start a replica here: its files, its seats, its container."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import F

from cortex import placement
from cortex.catalog import files
from cortex.fleet.models import Gpu, Replica, Seat
from cortex.runtime import hub
from engines import engine
from engines.contract import MODELS, ContainerSpec, Launch, ModelFiles


class NoSeat(Exception):
    """No room on this host's cards, with the reasons."""


@dataclass(frozen=True)
class Wanted:
    """A replica's container as people want it now."""

    spec: ContainerSpec
    size: int


def locate(replica: Replica) -> files.Found | None:
    """The model's files on this host; None when they are still on the hub. Raises UnreadableModel, Refusal."""
    model = replica.model
    path = model.path
    if model.repository:
        snapshot = hub.present(settings.ENV.cortex_models, model.repository, model.revision, model.path)
        if snapshot is None:
            return None
        path = str(Path(snapshot).relative_to(settings.ENV.cortex_models))
    found = files.locate(path)
    files.refuse_format(model.engine, found)
    return found


def image(replica: Replica, *, gpus: bool) -> str:
    """The image its container is to run, before anything else is known of it."""
    return replica.model.image or engine(replica.model.engine).image_for(gpus=gpus)


def wanted(replica: Replica, found: files.Found, gpus: tuple[str, ...]) -> Wanted:
    """The container on these cards. Raises pydantic.ValidationError when the engine changed its mind on options."""
    model, host = replica.model, replica.host
    launch = Launch(
        served_name=model.name,
        files=ModelFiles(path=MODELS / found.path, size=found.size),
        host_models=str(settings.ENV.cortex_models_on_host or settings.ENV.cortex_models.resolve()),
        options=model.options,
        context=model.context,
        users=model.users,
        gpus=gpus,
        cores=host.cores if host else 1,
        image=model.image or None,
    )
    return Wanted(spec=engine(model.engine).spec(launch), size=found.size)


def take_seats(replica: Replica, size: int) -> tuple[str, ...]:
    """Reserve memory for it on this host's cards, once, in one transaction; the cards' UUIDs. Raises NoSeat."""
    with transaction.atomic():
        cards = list(Gpu.objects.select_for_update().filter(host=replica.host).order_by("uuid"))
        held = tuple(replica.seats.order_by("gpu__index").values_list("gpu_id", flat=True))
        if held:
            return held
        need = placement.Need(bytes=size, gpus=replica.model.gpus)
        answer = placement.place(need, [placement.Card(c.uuid, c.name, c.total, c.free, c.missing) for c in cards])
        if isinstance(answer, placement.NoRoom):
            raise NoSeat(str(answer))
        for uuid, share in answer.by_card.items():
            Gpu.objects.filter(uuid=uuid).update(reserved=F("reserved") + share)
            Seat.objects.create(replica=replica, gpu_id=uuid, bytes=share)
        by_index = sorted((card for card in cards if card.uuid in answer.by_card), key=lambda card: card.index)
        return tuple(card.uuid for card in by_index)


def free_seats(replica: Replica) -> None:
    """Give the memory back. Only for a replica whose container was seen gone."""
    with transaction.atomic():
        list(Gpu.objects.select_for_update().filter(host=replica.host).order_by("uuid"))
        for seat in replica.seats.all():
            Gpu.objects.filter(uuid=seat.gpu_id).update(reserved=F("reserved") - seat.bytes)
            seat.delete()
