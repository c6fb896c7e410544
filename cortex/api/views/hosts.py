"""Where models run: hosts, their cards, the files at hand."""

from collections import defaultdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import documented, paging, shapes
from cortex.catalog import files
from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Gpu, Host, Seat


class Hosts(APIView):
    """Container engines."""

    @extend_schema(operation_id="list_hosts", responses=documented.page_of(shapes.HostAnswer))
    def get(self, request: Request) -> Response:
        """List hosts: whether they answer, and what is wrong when something is."""
        since = clock.now() - SILENT_AFTER
        rows = Host.objects.prefetch_related("gpus")
        return Response(paging.whole(_host(row, bool(row.seen_at and row.seen_at >= since)) for row in rows))


class Gpus(APIView):
    """Cards of all hosts."""

    @extend_schema(operation_id="list_gpus", responses=documented.page_of(shapes.GpuAnswer))
    def get(self, request: Request) -> Response:
        """List cards: what they hold, what is promised, whose models sit on them."""
        models = defaultdict(list)
        for card, name in Seat.objects.order_by("replica__model__name").values_list("gpu_id", "replica__model__name"):
            models[card].append(name)
        rows = Gpu.objects.select_related("host").order_by("host__name", "index")
        return Response(paging.whole(_gpu(row, models[row.uuid]) for row in rows))


class Files(APIView):
    """Weights below the models folder."""

    @extend_schema(operation_id="list_files", responses=documented.page_of(shapes.FileAnswer))
    def get(self, request: Request) -> Response:
        """List paths that a definition's source may name."""
        return Response(paging.whole({"path": path} for path in files.available()))


def _host(row: Host, answering: bool) -> dict[str, Any]:
    return shapes.HostAnswer(
        name=row.name,
        answering=answering,
        cores=row.cores,
        memory=row.memory,
        version=row.version,
        condition=row.trouble,
        gpu_condition=row.gpu_condition,
        pretend=row.pretend,
        cordoned=row.cordoned,
        gpus=len(row.gpus.all()),
        seen_at=row.seen_at,
    ).model_dump(mode="json")


def _gpu(row: Gpu, models: list[str]) -> dict[str, Any]:
    return shapes.GpuAnswer(
        uuid=row.uuid,
        host=row.host.name,
        index=row.index,
        name=row.name,
        total=row.total,
        used=row.used,
        reserved=row.reserved,
        free=row.free,
        utilisation=row.utilisation,
        temperature=row.temperature,
        power=row.power,
        missing=row.missing,
        seen_at=row.seen_at,
        models=models,
    ).model_dump(mode="json")
