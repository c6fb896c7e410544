"""Containers of this install that nobody claims."""

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import documented, paging, places, reading, shapes
from cortex.api.permissions import person_of
from cortex.fleet.models import Stray
from cortex.orchestration import host_orders


class Strays(APIView):
    """Strays of all hosts."""

    @extend_schema(operation_id="list_strays", responses=documented.page_of(shapes.StrayAnswer))
    def get(self, request: Request) -> Response:
        """List containers that nobody claims. They are removed after a grace, a few at a time."""
        rows = Stray.objects.select_related("host").order_by("host__name", "name")
        return Response(paging.whole(places.stray(row).model_dump(mode="json") for row in rows))


class Confirm(APIView):
    """A word that lets one go."""

    @extend_schema(
        operation_id="confirm_stray", request=None, responses=documented.answers({200: shapes.StrayAnswer}, 404)
    )
    def post(self, request: Request, id: int) -> Response:
        """Remove a stray now, not after its grace. Its host does it at its next look."""
        reading.only(request)
        try:
            row = host_orders.remove_stray(min(id, 2**63 - 1), person_of(request))
        except host_orders.NoSuchStray as error:
            raise NotFound(str(error)) from error
        return Response(places.stray(row).model_dump(mode="json"))
