"""The engines there are, and what each takes."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import documented, paging, shapes
from engines import UnknownEngine, all_engines, engine
from engines.contract import Engine


class Engines(APIView):
    """Kinds of servers."""

    @extend_schema(operation_id="list_engines", responses=documented.page_of(shapes.EngineAnswer))
    def get(self, request: Request) -> Response:
        """List engines with the formats they load and the tasks they serve."""
        kinds = sorted(all_engines().values(), key=lambda kind: kind.name)
        return Response(paging.whole(_engine(kind).model_dump(mode="json") for kind in kinds))


class EngineSchema(APIView):
    """An engine's options."""

    @extend_schema(operation_id="show_engine_schema", responses=documented.answers({200: OpenApiTypes.OBJECT}, 404))
    def get(self, request: Request, name: str) -> Response:
        """The JSON Schema of an engine's options."""
        try:
            return Response(engine(name).Options.model_json_schema())
        except UnknownEngine as error:
            raise NotFound(str(error)) from error


def _engine(kind: Engine) -> shapes.EngineAnswer:
    return shapes.EngineAnswer(
        name=kind.name,
        title=kind.title,
        summary=kind.summary,
        image=kind.image,
        formats=sorted(kind.formats),
        tasks=sorted(kind.tasks),
    )
