"""Whether this process lives, and whether it can do its work. Open to all, and it names nothing."""

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import shapes

BROKER_SECONDS = 1.0


class Live(APIView):
    """The process answers: nothing else is asked."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="live", auth=[], responses={200: shapes.LiveAnswer})
    def get(self, request: Request) -> Response:
        """Whether the web process lives."""
        return Response({"live": True})


class Health(APIView):
    """The database must answer; the broker should."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="health", auth=[], responses={200: shapes.HealthAnswer, 503: shapes.HealthAnswer})
    def get(self, request: Request) -> Response:
        """Whether the web process can do its work: 503 when it has no database."""
        checks = {"database": _database(), "broker": _broker()}
        ready = checks["database"].ok
        answer = shapes.HealthAnswer(ready=ready, checks=checks).model_dump(mode="json")
        return Response(answer, status=status.HTTP_200_OK if ready else status.HTTP_503_SERVICE_UNAVAILABLE)


def _database() -> shapes.CheckAnswer:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return shapes.CheckAnswer(ok=False, detail="PostgreSQL does not answer. Check that it runs, and DATABASE_URL.")
    return shapes.CheckAnswer(ok=True, detail="PostgreSQL answers.")


def _broker() -> shapes.CheckAnswer:
    seconds = {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS}
    try:
        with redis.Redis.from_url(settings.BROKER_URL, retry=None, **seconds) as client:
            client.ping()
    except redis.RedisError:
        late = "The broker does not answer: orders are kept, and obeyed at the next sweep. Check Redis and BROKER_URL."
        return shapes.CheckAnswer(ok=False, detail=late)
    return shapes.CheckAnswer(ok=True, detail="The broker answers.")
