"""Where models run: hosts, their cards, the files at hand."""

from collections import defaultdict

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import documented, paging, places, reading, shapes
from cortex.api.permissions import person_of
from cortex.catalog import files
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Seat
from cortex.orchestration import host_orders
from cortex.orchestration.host_orders import HostWish, NoSuchHost

NOT_BY_FORCE = "Only administrators forget a host that holds replicas: they vouch that nothing runs there any more."


class Hosts(APIView):
    """Container engines."""

    @extend_schema(operation_id="list_hosts", responses=documented.page_of(shapes.HostAnswer))
    def get(self, request: Request) -> Response:
        """List hosts: whether they answer, and what is wrong when something is."""
        rows, now = places.with_counts(Host.objects.all()), clock.now()
        return Response(paging.whole(places.host(row, now).model_dump(mode="json") for row in rows))


class OneHost(APIView):
    """One host, by name."""

    parser_classes = [reading.JsonParser, reading.MergePatchParser]

    @extend_schema(operation_id="show_host", responses=documented.answers({200: shapes.HostAnswer}, 404))
    def get(self, request: Request, name: str) -> Response:
        """A host: what it is, what people call it, what is wrong when something is."""
        return _shown(name)

    @extend_schema(
        operation_id="revise_host",
        request=dict.fromkeys(documented.MERGE_PATCH, HostWish),
        responses=documented.answers({200: shapes.HostAnswer}, 400, 404),
    )
    def patch(self, request: Request, name: str) -> Response:
        """Label it, cordon it, drain it, or take that back, by a JSON merge patch; null takes a label away.

        `draining` moves what runs there elsewhere, one replica at a time, each once its successor serves. `drain`
        of the answer says how far that is, and who stays there and why. To say `cordoned: false` ends a drain too.
        """
        reading.only(request)
        host_orders.revise(name, reading.body(request), person_of(request))
        return _shown(name)

    @extend_schema(
        operation_id="forget_host",
        parameters=[documented.FORCE],
        responses=documented.answers({200: shapes.HostAnswer}, 404, 409),
    )
    def delete(self, request: Request, name: str) -> Response:
        """Forget a silent host: its row and its cards go. It registers anew should it come back.

        One that holds replicas needs `force` and an administrator. Containers may run on there; they are listed as
        strays when the host is back.
        """
        reading.only(request, "force")
        force, person = reading.flag(request, "force"), person_of(request)
        if force and not person.may_change_access():
            raise PermissionDenied(NOT_BY_FORCE)
        last = _shown(name)
        host_orders.forget(name, person, force=force)
        return last


class Gpus(APIView):
    """Cards of all hosts."""

    @extend_schema(operation_id="list_gpus", responses=documented.page_of(shapes.GpuAnswer))
    def get(self, request: Request) -> Response:
        """List cards: what they hold, what is promised, whose models sit on them."""
        models = defaultdict(list)
        for card, name in Seat.objects.order_by("replica__model__name").values_list("gpu_id", "replica__model__name"):
            models[card].append(name)
        rows = Gpu.objects.select_related("host").order_by("host__name", "index")
        return Response(paging.whole(places.gpu(row, models[row.uuid]).model_dump(mode="json") for row in rows))


class Files(APIView):
    """Weights below the models folder."""

    @extend_schema(operation_id="list_files", responses=documented.page_of(shapes.FileAnswer))
    def get(self, request: Request) -> Response:
        """List paths that a definition's source may name."""
        return Response(paging.whole({"path": path} for path in files.available()))


def _shown(name: str) -> Response:
    row = places.with_counts(Host.objects.filter(name=name)).first()
    if row is None:
        raise NoSuchHost(name)
    return Response(places.host(row, clock.now()).model_dump(mode="json"))
