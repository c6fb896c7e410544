"""A replica's log, for the page to follow."""

import logging
from typing import Any
from uuid import UUID

import redis
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from cortex.fleet.models import Attempt, Replica
from cortex.telemetry import logs
from cortex.ui.gate import signed_in

log = logging.getLogger(__name__)
SNAPSHOT = 1000


@signed_in
def lines(request: HttpRequest, name: str) -> HttpResponseBase:
    """A snapshot, or what came after the line `after`. Where the stream has nothing: what its last attempt left."""
    replica = _replica(name, request.GET.get("replica", ""))
    if replica is None:
        return JsonResponse({"entries": [], "note": "This replica is no more."})
    after = request.GET.get("after", "")
    try:
        entries = logs.after(replica.id, after) if after else logs.tail(replica.id, SNAPSHOT)
    except redis.RedisError as error:
        log.warning("the live log of %s cannot be read: %s", replica, error)
        note = "Live lines cannot be read now: the broker does not answer. Below is what was kept."
        return JsonResponse({"kept": _kept(replica), "note": note, "entries": []})
    if entries or after:
        return JsonResponse({"entries": [_entry(entry) for entry in entries]})
    return JsonResponse({"entries": [], "kept": _kept(replica)})


def _replica(name: str, id: str) -> Replica | None:
    try:
        return Replica.objects.get(id=UUID(id), model__name=name, model__removed_at=None)
    except (ValueError, Replica.DoesNotExist):
        return None


def _entry(entry: logs.Entry) -> dict[str, Any]:
    return {"id": entry.id, "at": entry.at.isoformat(), "attempt": entry.attempt, "text": entry.text}


def _kept(replica: Replica) -> list[str]:
    """First and last lines of the latest attempt that left any."""
    attempt = Attempt.objects.filter(replica=replica).exclude(last_log="").first()
    if attempt is None:
        return []
    first, last = attempt.first_log.splitlines(), attempt.last_log.splitlines()
    if not first or "\n".join(first) in attempt.last_log:
        return last
    overlap = next((n for n in range(min(len(first), len(last)), 0, -1) if first[-n:] == last[:n]), 0)
    return [*first, *last[overlap:]] if overlap else [*first, "…", *last]
