"""What a problem's `type` leads to, and addresses that lead nowhere."""

from dataclasses import asdict
from typing import Any, NoReturn

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api.problems import KINDS


@extend_schema(exclude=True)
class Nowhere(APIView):
    """Any other address: a stranger learns nothing, people learn that it is wrong."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"Nothing is at {request.path}.")

    def get(self, request: Request) -> NoReturn:
        raise NotFound

    post = put = patch = delete = get


class ProblemPage(APIView):
    """What a kind of problem means."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="show_problem", auth=[], responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, code: str) -> Response:
        """A kind of problem: its status, what it means, what to do."""
        if code not in KINDS:
            raise NotFound(f"There is no problem named {code!r}.")
        return Response({"code": code, **asdict(KINDS[code])})
