"""What goes wrong, as application/problem+json (RFC 9457): what happened, why, what to do next."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig
from django.db import DataError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.api import request_id
from cortex.catalog.definition import Problem, Refusal
from cortex.orchestration.host_orders import NoSuchHost
from cortex.orchestration.orders import NoSuchModel
from cortex.telemetry import database

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem, explained at /api/v1/problems/CODE."""

    status: int
    title: str
    remedy: str


KINDS = {
    "invalid": Kind(400, "The request is not valid.", "Correct what `errors` names, and send it again."),
    "malformed": Kind(400, "The body is not JSON.", "Send one JSON object; check quotes, commas and brackets."),
    "no_key": Kind(401, "A key is needed.", "Send 'Authorization: Bearer KEY'; get one from the UI under Keys."),
    "bad_key": Kind(401, "The key is not good.", "Use a live key of scope 'manage'; get one from the UI under Keys."),
    "forbidden": Kind(403, "This is not allowed.", "Use a key whose owner and scope allow it."),
    "not_found": Kind(404, "There is no such thing.", "Check the address; /api/v1/docs lists them all."),
    "no_such_model": Kind(404, "There is no such model.", "See which there are: `cortex ls`, or GET /api/v1/models."),
    "no_such_host": Kind(404, "There is no such host.", "See which there are: `cortex hosts`, or GET /api/v1/hosts."),
    "wrong_method": Kind(405, "This address does not take that method.", "Use one of those in the Allow header."),
    "not_acceptable": Kind(406, "No such format.", "Accept application/json."),
    "conflict": Kind(409, "It clashes with what is there.", "Do what `errors` says, and send it again."),
    "changed_meanwhile": Kind(412, "It has changed meanwhile.", "Read it again, then repeat the change."),
    "too_large": Kind(413, "The body is too large.", "Send less; no definition needs that much."),
    "wrong_media_type": Kind(415, "The body's type is not taken.", "Send application/json."),
    "internal": Kind(500, "Cortex failed.", "Try again; if it stays, report it with the request_id and the web log."),
    **{trouble.code: Kind(503, trouble.title, trouble.remedy) for trouble in database.KINDS},
}
BY_STATUS = {400: "invalid", 404: "not_found", 409: "conflict", 412: "changed_meanwhile"}


@dataclass(frozen=True)
class Wrong:
    """One error, ready to be told."""

    code: str
    detail: str
    title: str = ""
    errors: list[Problem] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """Django REST framework's exception handler."""
    request = context["request"]
    wrong = _wrong(error, context)
    kind = KINDS[wrong.code]
    body = {
        "type": f"/api/v1/problems/{wrong.code}",
        "title": wrong.title or kind.title,
        "status": kind.status,
        "detail": wrong.detail,
        "instance": request.path,
        "code": wrong.code,
        "errors": [asdict(problem) for problem in wrong.errors],
        "remedy": kind.remedy,
        "request_id": request_id.of(request),
    }
    return Response(body, status=kind.status, content_type=MEDIA_TYPE, headers=wrong.headers)


def _wrong(error: Exception, context: dict[str, Any]) -> Wrong:
    for kind, explain in EXPLANATIONS:
        if isinstance(error, kind):
            return explain(error, context["view"])
    log.error("request %s failed", request_id.of(context["request"]), exc_info=error)
    return Wrong("internal", "An error that nobody expected; its trace is in the web process's log.")


def _refusal(error: Refusal, view: APIView) -> Wrong:
    detail = " ".join(_sentence(problem) for problem in error.problems)
    return Wrong(BY_STATUS.get(error.status, "invalid"), detail or error.title, error.title, error.problems)


def _sentence(problem: Problem) -> str:
    """For those who read only `detail`: where it is wrong comes first."""
    place = f"{problem.pointer}: " if problem.pointer else ""
    return f"{place}{problem.detail} {problem.remedy}".strip()


def _too_large(error: Exception, view: APIView) -> Wrong:
    return Wrong("too_large", f"REST takes bodies of at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes.")


def _database(error: Exception, view: APIView) -> Wrong:
    trouble = database.explained(error)
    log.warning("%s %s", trouble.title, error)
    return Wrong(trouble.code, trouble.detail, headers=RETRY)


def _wrong_method(error: exceptions.MethodNotAllowed, view: APIView) -> Wrong:
    allowed = ", ".join(view.allowed_methods)
    return Wrong("wrong_method", f"{error.detail} It takes {allowed}.", headers={"Allow": allowed})


def _told(code: str) -> "Explain":
    """Those whose own words say it."""
    return lambda error, view: Wrong(code, str(getattr(error, "detail", error)))


def _with_challenge(code: str) -> "Explain":
    def explain(error: Any, view: APIView) -> Wrong:
        return Wrong(code, str(error.detail), headers={"WWW-Authenticate": 'Bearer realm="cortex"'})

    return explain


Explain = Callable[[Any, APIView], Wrong]
RETRY = {"Retry-After": "5"}
EXPLANATIONS: list[tuple[type[Exception], Explain]] = [
    (Refusal, _refusal),
    (NoSuchModel, _told("no_such_model")),
    (NoSuchHost, _told("no_such_host")),
    (exceptions.NotAuthenticated, _with_challenge("no_key")),
    (exceptions.AuthenticationFailed, _with_challenge("bad_key")),
    (exceptions.PermissionDenied, _told("forbidden")),
    (DjangoPermissionDenied, _told("forbidden")),
    (exceptions.NotFound, _told("not_found")),
    (Http404, _told("not_found")),
    (exceptions.MethodNotAllowed, _wrong_method),
    (exceptions.NotAcceptable, _told("not_acceptable")),
    (exceptions.UnsupportedMediaType, _told("wrong_media_type")),
    (exceptions.ParseError, _told("malformed")),
    (RequestDataTooBig, _too_large),
    (DataError, lambda error, view: Wrong("invalid", "A value cannot be stored: text must not hold a NUL character.")),
    *((trouble, _database) for trouble in database.TROUBLES),
]
