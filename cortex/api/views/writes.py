"""Writing a definition, or trying it: the same order, kept or taken back."""

from collections.abc import Callable

from django.db import transaction
from django.http import HttpResponse
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from cortex.api import answers, estimates, reading, shapes
from cortex.catalog.definition import describe
from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from cortex.orchestration import needs
from cortex.orchestration.orders import NoSuchModel

REPLACES = {"engine", "source", "options", "image", "context", "users", "gpus"}
Write = Callable[[], tuple[Model, bool]]


def write(request: Request, name: str, order: Write) -> Response:
    """Obey, or with `?dry_run=true` say what would happen."""
    reading.only(request, "dry_run")
    if reading.flag(request, "dry_run"):
        return Response(_try(name, order).model_dump(mode="json"))
    model, created = order()
    answer = shown(model.name)
    if created:
        answer.status_code = status.HTTP_201_CREATED
        answer["Location"] = f"/api/v1/models/{model.name}"
    return answer


def shown(name: str) -> Response:
    """A model with its ETag. Raises NoSuchModel."""
    row = find(name)
    response = Response(answers.model(row).model_dump(mode="json"))
    tag(response, row)
    return response


def find(name: str) -> Model:
    """Raises NoSuchModel."""
    row = answers.with_replicas(Model.objects.declared().filter(name=name)).first()
    if row is None:
        raise NoSuchModel(name)
    return row


def tag(response: HttpResponse, model: Model) -> None:
    response["ETag"] = f'"{model.turn}"'


def _try(name: str, order: Write) -> shapes.PlanAnswer:
    with transaction.atomic():
        was = Model.objects.declared().filter(name=name).first()
        before = describe(was).model_dump(mode="json") if was else {}
        model, created = order()
        definition = describe(model)
        after = definition.model_dump(mode="json")
        moves = not created and any(not needs.met(replica, _cards(replica)) for replica in _running(model))
        transaction.set_rollback(True)
    changes = [
        shapes.FieldChange(field=key, before=before.get(key), after=value)
        for key, value in after.items()
        if key != "name" and (was is None or before.get(key) != value)
    ]
    runs_on = was is not None and was.desired == Desired.RUNNING == model.desired
    return shapes.PlanAnswer(
        name=name,
        created=created,
        changes=changes,
        restarts=runs_on and (moves or bool(REPLACES & {change.field for change in changes})),
        turn=was.turn if was else 0,
        estimate=estimates.softly(definition, was),
    )


def _running(model: Model) -> list[Replica]:
    rows = Replica.objects.filter(model=model).exclude(observed=Observed.ABSENT)
    return list(rows.select_related("model", "host"))


def _cards(replica: Replica) -> list[str]:
    return list(replica.seats.values_list("gpu_id", flat=True))
