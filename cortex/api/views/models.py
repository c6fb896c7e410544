"""Models: list, define, change, start, stop, remove."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.access.models import Person
from cortex.api import answers, documented, operations, paging, reading, shapes
from cortex.api.permissions import person_of
from cortex.api.views import writes
from cortex.catalog.definition import Definition, Problem, Refusal
from cortex.catalog.models import Model, Order
from cortex.orchestration import orders


class Models(APIView):
    """All models."""

    @extend_schema(
        operation_id="list_models", parameters=documented.PAGE, responses=documented.page_of(shapes.ModelAnswer)
    )
    def get(self, request: Request) -> Response:
        """List models by name."""
        page = paging.page(request, answers.with_replicas(Model.objects.declared()), "name")
        items = [model.model_dump(mode="json") for model in answers.models(page.rows)]
        return Response({"items": items, "next": page.next})

    @extend_schema(
        operation_id="create_model",
        parameters=[documented.DRY_RUN],
        request=Definition,
        responses=documented.answers({201: shapes.ModelAnswer, 200: shapes.PlanAnswer}, 400, 409),
    )
    def post(self, request: Request) -> Response:
        """Define a new model; 409 when its name is taken."""
        data = reading.body(request)
        return writes.write(request, str(data.get("name")), lambda: orders.define(data, person_of(request), new=True))


class OneModel(APIView):
    """One model, by name."""

    parser_classes = [reading.JsonParser, reading.MergePatchParser]

    @extend_schema(operation_id="show_model", responses=documented.answers({200: shapes.ModelAnswer}, 404))
    def get(self, request: Request, name: str) -> Response:
        """What people want of a model, and how it is."""
        return writes.shown(name)

    @extend_schema(
        operation_id="apply_model",
        parameters=[documented.DRY_RUN, documented.IF_MATCH],
        request=shapes.NamelessDefinition,
        responses=documented.answers(
            {200: shapes.ModelAnswer, 201: shapes.ModelAnswer}, 400, 409, 412, also_dry_run=True
        ),
    )
    def put(self, request: Request, name: str) -> Response:
        """Define a model, or make it what the body says. Twice is the same as once."""
        data = {"name": name, **reading.body(request)}
        if data["name"] != name:
            problem = Problem("/name", f"The address names {name!r}, the body {data['name']!r}.", "Make them agree.")
            raise Refusal("Which model?", [problem])
        turn, new = reading.expected_turn(request), reading.must_be_new(request)
        return writes.write(request, name, lambda: orders.define(data, person_of(request), new=new, expected_turn=turn))

    @extend_schema(
        operation_id="revise_model",
        parameters=[documented.DRY_RUN, documented.IF_MATCH],
        request=documented.MERGE_PATCH,
        responses=documented.answers({200: shapes.ModelAnswer}, 400, 404, 412, also_dry_run=True),
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change parts of a definition by a JSON merge patch; null goes back to the default."""
        patch, turn = reading.body(request), reading.expected_turn(request)
        return writes.write(
            request, name, lambda: (orders.revise(name, patch, person_of(request), expected_turn=turn), False)
        )

    @extend_schema(operation_id="remove_model", responses=documented.answers({202: shapes.OperationAnswer}, 404))
    def delete(self, request: Request, name: str) -> Response:
        """Remove a model: its containers go first. The name is free at once."""
        return accepted(orders.remove(name, person_of(request)))


class Lifecycle(APIView):
    """A model's verbs. Each answers 202 with an operation to wait on."""

    verb: Callable[[str, Person | None], Model] = staticmethod(orders.start)

    def post(self, request: Request, name: str) -> Response:
        return accepted(type(self).verb(name, person_of(request)))


def _verb(operation_id: str) -> Any:
    responses = documented.answers({202: shapes.OperationAnswer}, 404)
    return extend_schema_view(post=extend_schema(operation_id=operation_id, request=None, responses=responses))


@_verb("start_model")
class Start(Lifecycle):
    """It is to run. Earlier failures are forgiven."""

    verb = staticmethod(orders.start)


@_verb("stop_model")
class Stop(Lifecycle):
    """It is to stop, whatever it does now."""

    verb = staticmethod(orders.stop)


@_verb("restart_model")
class Restart(Lifecycle):
    """It is to run, in new containers."""

    verb = staticmethod(orders.restart)


def accepted(model: Model) -> Response:
    """202, with the operation that the model's latest order began."""
    order = Order.objects.filter(model=model, turn=model.turn).latest("id")
    answer = operations.operation(order).model_dump(mode="json")
    location = {"Location": f"/api/v1/operations/{order.id}"}
    return Response(answer, status=status.HTTP_202_ACCEPTED, headers=location)
