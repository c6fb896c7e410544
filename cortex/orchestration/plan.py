"""What it takes to start a replica here: its files, its seats, its container."""

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models import F

from cortex import placement
from cortex.catalog import files
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Replica, Seat
from cortex.runtime import hub
from engines import engine
from engines.contract import MODELS, ContainerSpec, Launch, ModelFiles

MAIN = "main"


class NoSeat(Exception):
    """No room on this host's cards, with the reasons."""


@dataclass(frozen=True)
class Wanted:
    """A replica's container as people want it now."""

    spec: ContainerSpec
    size: int


def patterns(model: Model) -> list[str]:
    """The files of a repository that a model needs; all of them when it names none."""
    return [model.path] if model.path else []


def locate(replica: Replica) -> files.Found | None:
    """The model's files on this host; None when they are still on the hub. Raises UnreadableModel, Refusal."""
    model = replica.model
    path = model.path
    if model.repository:
        folder = settings.ENV.cortex_models.resolve()
        snapshot = hub.present(model.repository, model.revision or MAIN, patterns(model), folder)
        if snapshot is None:
            return None
        path = str(snapshot.relative_to(folder) / path)
    found = files.locate(path)
    files.refuse_format(model.engine, found)
    return found


def image(replica: Replica, *, gpus: bool) -> str:
    """The image its container is to run, before anything else is known of it."""
    own = settings.IMAGES.get(replica.model.engine, "")
    return replica.model.image or own or engine(replica.model.engine).image_for(gpus=gpus)


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
        image=image(replica, gpus=bool(gpus)),
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
