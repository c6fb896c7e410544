"""Orders: who asked for what, and how far it has come."""

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import answers, documented, operations, paging, reading, shapes
from cortex.api.views import writes
from cortex.catalog.models import Order


class ModelOrders(APIView):
    """What people asked of one model."""

    @extend_schema(
        operation_id="list_orders", parameters=documented.PAGE, responses=documented.page_of(shapes.OrderAnswer)
    )
    def get(self, request: Request, name: str) -> Response:
        """List orders, the newest first."""
        orders = Order.objects.filter(model=writes.find(name))
        page = paging.page(request, orders, "id", newest_first=True)
        return Response(page.answer(lambda row: answers.order(row).model_dump(mode="json")))


class HostOrders(APIView):
    """What people asked of one host. They outlive it."""

    @extend_schema(
        operation_id="list_host_orders", parameters=documented.PAGE, responses=documented.page_of(shapes.OrderAnswer)
    )
    def get(self, request: Request, name: str) -> Response:
        """List orders about a host of this name, the newest first."""
        page = paging.page(request, Order.objects.filter(host_name=name), "id", newest_first=True)
        return Response(page.answer(lambda row: answers.order(row).model_dump(mode="json")))


class Operation(APIView):
    """An order under way."""

    @extend_schema(
        operation_id="show_operation",
        parameters=[documented.WAIT],
        responses=documented.answers({200: shapes.OperationAnswer}, 404),
    )
    def get(self, request: Request, id: int) -> Response:
        """How far an order has come; `?wait=30s` answers when that changes."""
        order = Order.objects.filter(id=id, host_name="").first() if id < 2**63 else None
        if order is None:
            raise NotFound(f"There is no operation {id}.")
        answer = operations.wait_for(order, reading.wait(request))
        return Response(answer.model_dump(mode="json"))
