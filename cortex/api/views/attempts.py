"""What happened: every start of a model's replicas, with times, exit facts and logs."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import answers, documented, paging, reading, shapes
from cortex.api.views import writes
from cortex.fleet.models import Attempt

REPLICA = OpenApiParameter("replica", int, description="The replica's slot; all of them when left out.")


class Attempts(APIView):
    """Starts of one model."""

    @extend_schema(
        operation_id="list_attempts",
        parameters=[REPLICA, *documented.PAGE],
        responses=documented.page_of(shapes.AttemptLogAnswer),
    )
    def get(self, request: Request, name: str) -> Response:
        """List attempts, the newest first."""
        rows = Attempt.objects.filter(replica__model=writes.find(name)).select_related("replica").defer("spec")
        if "replica" in request.query_params:
            rows = rows.filter(replica__slot=reading.number(request, "replica", 0, least=0, most=1000))
        page = paging.page(request, rows, "id", newest_first=True)
        return Response(page.answer(lambda row: answers.attempt(row).model_dump(mode="json")))
