"""What a model's container prints: live from the broker, or as the database kept it."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import redis
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from cortex.api import documented, reading, watching
from cortex.api.views import writes
from cortex.catalog.definition import Problem, Refusal
from cortex.fleet.models import Attempt, Replica
from cortex.telemetry import logs

log = logging.getLogger(__name__)

TAIL = 500
TEXT = "text/plain; charset=utf-8"
SOURCE = "X-Log-Source"
OUT_OF_REACH = "-- cortex: the broker does not answer, so the live log cannot be followed; ask again in a moment --\n"
PARAMETERS = [
    OpenApiParameter("tail", int, description=f"The last so many lines, up to {logs.KEPT}; {TAIL} when left out."),
    OpenApiParameter("replica", int, description="The replica's slot; 0 when left out."),
    OpenApiParameter("previous", bool, description="Of the attempt before the latest."),
    OpenApiParameter("follow", bool, description="Go on with what comes, until you hang up."),
]


class TakesAnyAccept(BaseContentNegotiation):
    """The log is text whatever is accepted; problems stay JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


@dataclass(frozen=True)
class Log:
    """Lines of one attempt; `last` is where the broker's stream goes on, None when it is out of reach."""

    lines: list[str]
    last: str | None
    live: bool

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


class Logs(APIView):
    """The log of one replica of a model."""

    content_negotiation_class = TakesAnyAccept

    @extend_schema(operation_id="show_logs", parameters=PARAMETERS, responses=documented.answers(documented.TEXT, 404))
    def get(self, request: Request, name: str) -> HttpResponseBase:
        """The latest attempt's log, from memory while it runs, from the database afterwards."""
        replica = _replica(request, name)
        attempt = _attempt(replica, previous=reading.flag(request, "previous"))
        tail = reading.number(request, "tail", TAIL, least=0, most=logs.KEPT)
        found = _read(replica, attempt, tail)
        source = {SOURCE: "live" if found.live else "kept"}
        if reading.flag(request, "follow"):
            stream = watching.while_allowed(_follow(replica.id, found), watching.may_watch(request))
            return StreamingHttpResponse(stream, content_type=TEXT, headers=source)
        return HttpResponse(found.text(), content_type=TEXT, headers=source)


def _replica(request: Request, name: str) -> Replica:
    model = writes.find(name)
    slot = reading.number(request, "replica", 0, least=0, most=1000)
    replica = next((replica for replica in model.replica_set.all() if replica.slot == slot), None)
    if replica is None:
        problem = Problem("?replica", f"{name} has no replica {slot}.", f"Start it: POST /api/v1/models/{name}/start.")
        raise Refusal("There is no log yet.", [problem], status=404)
    return replica


def _attempt(replica: Replica, *, previous: bool) -> Attempt | None:
    newest = list(replica.attempts.all()[:2])
    wanted = newest[1:] if previous else newest
    return wanted[0] if wanted else None


def _read(replica: Replica, attempt: Attempt | None, tail: int) -> Log:
    try:
        entries = logs.tail(replica.id, logs.KEPT)
    except redis.RedisError as error:
        log.warning("the broker does not answer for the log of %s: %s", replica, error)
        return Log(_kept(attempt, tail), None, live=False)
    last = entries[-1].id if entries else logs.FROM_THE_START
    lines = [entry.text for entry in entries if attempt and entry.attempt == attempt.number]
    if not lines:
        return Log(_kept(attempt, tail), last, live=False)
    return Log(lines[len(lines) - min(tail, len(lines)) :], last, live=True)


def _kept(attempt: Attempt | None, tail: int) -> list[str]:
    lines = attempt.last_log.splitlines() if attempt else []
    return lines[len(lines) - min(tail, len(lines)) :]


async def _follow(replica: UUID, found: Log) -> AsyncGenerator[str]:
    yield found.text()
    if found.last is None:
        yield OUT_OF_REACH
        return
    try:
        async for entry in logs.follow(replica, found.last):
            yield f"{entry.text}\n"
    except redis.RedisError as error:
        log.warning("the broker left while the log of %s was followed: %s", replica, error)
        yield OUT_OF_REACH
