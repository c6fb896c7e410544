"""What it takes to start a replica here: its files and its container."""

from dataclasses import dataclass

from django.conf import settings

from cortex.catalog import files
from cortex.catalog.definition import confirm, describe
from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.orchestration import needs
from cortex.runtime import hub
from engines import all_engines, engine
from engines.contract import MODELS, ContainerSpec, Launch, ModelFiles

MAIN = "main"


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
    confirm(model)
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


def on_cards(replica: Replica) -> bool:
    """Whether it is going to run on GPUs, as far as is known before it is placed."""
    model, host = replica.model, replica.host
    return bool(model.gpus) or (model.gpus is None and host is not None and host.gpus.filter(missing=False).exists())


def image(replica: Replica, *, gpus: bool) -> str:
    """The image its container is to run, before anything else is known of it."""
    model = replica.model
    return needs.image(describe(model), gpus=gpus) if model.engine in all_engines() else model.image


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
