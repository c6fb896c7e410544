"""What a model will take, before anything starts."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import documented, estimate_shapes, estimates, reading
from cortex.api.permissions import IsKnown
from cortex.api.views import writes
from cortex.catalog.definition import Definition, Placement, Problem, Refusal, describe, parse
from cortex.catalog.models import Model
from cortex.catalog.stack import stack
from cortex.orchestration import forecasts

UNNAMED = "unnamed"


class Estimates(APIView):
    """Does it fit, and where. Nothing is written."""

    permission_classes = [IsKnown]

    @extend_schema(
        operation_id="estimate",
        request=estimate_shapes.EstimateRequest,
        responses=documented.answers({200: estimate_shapes.EstimateAnswer}, 400, 404),
    )
    def post(self, request: Request) -> Response:
        """What a definition or a model takes per card, term by term; what would make it fit."""
        asked = reading.into(estimate_shapes.EstimateRequest, reading.body(request))
        definition, model = _definition(asked.model, asked.definition)
        if asked.host is None:
            found = forecasts.of(definition, model)
        else:
            anywhere = definition.model_copy(update={"placement": Placement()})
            found = forecasts.on(anywhere, estimates.imagined(asked.host))
        return Response(estimates.answer(definition, found).model_dump(mode="json"))


class Stacks(APIView):
    """Several models on one set of cards."""

    permission_classes = [IsKnown]

    @extend_schema(
        operation_id="estimate_stack",
        request=estimate_shapes.StackRequest,
        responses=documented.answers({200: estimate_shapes.StackAnswer}, 400),
    )
    def post(self, request: Request) -> Response:
        """Which model goes on which card, with how much of it; what that leaves and saves."""
        asked = reading.into(estimate_shapes.StackRequest, reading.body(request))
        definitions = [parse({"name": f"{UNNAMED}-{number}", **each}) for number, each in enumerate(asked.definitions)]
        if len({each.name for each in definitions}) < len(definitions):
            problem = Problem("/definitions", "Two definitions have the same name.", "Name each differently.")
            raise Refusal("The stack cannot be planned.", [problem])
        host = estimates.imagined(asked.host) if asked.host else forecasts.largest()
        return Response(estimates.stacked(stack(definitions, host)).model_dump(mode="json"))


def _definition(name: str, given: Mapping[str, Any] | None) -> tuple[Definition, Model | None]:
    """What is asked about, and the model that it would replace. Raises Refusal, NoSuchModel."""
    if bool(name) == (given is not None):
        problem = Problem("", "Give either the name of a model or a definition.", 'Send {"model": "NAME"}.')
        raise Refusal("The request is not valid.", [problem])
    if given is None:
        model = writes.find(name)
        return describe(model), model
    definition = parse({"name": UNNAMED, **given})
    return definition, Model.objects.declared().filter(name=definition.name).first()
