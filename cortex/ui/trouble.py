"""What people read when Cortex itself cannot answer: a page that asks the database nothing."""

import logging
import sys

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from cortex.telemetry import database
from cortex.ui.answers import by_htmx, with_toast

log = logging.getLogger(__name__)

FAILED = "Cortex failed."
UNEXPECTED = "An error that nobody expected. Try again; if it stays, report it with this id and the web process's log."


class Trouble(MiddlewareMixin):
    """Middleware: an error of the database is told in words, and logged in one line."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, database.TROUBLES):
            return None
        log.warning("%s: %s", request.path, exception)
        return page(request, exception)


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler of everything that nobody caught."""
    return page(request, sys.exc_info()[1])


def page(request: HttpRequest, error: BaseException | None) -> HttpResponse:
    """503 when it is the database, else 500: a page, or a toast where somebody pressed a button on one."""
    title, words, status = FAILED, UNEXPECTED, 500
    if isinstance(error, database.TROUBLES):
        trouble = database.explained(error)
        title, words, status = trouble.title, f"{trouble.detail} {trouble.remedy}", 503
    page = render_to_string(
        "trouble.html", {"title": title, "words": words, "id": request.META.get("HTTP_X_REQUEST_ID")}
    )
    response = HttpResponse(page, status=status)
    if by_htmx(request):
        response["HX-Reswap"] = "none"
        if request.method != "GET":  # what is asked by itself has the banner for it
            return with_toast(response, f"{title} {words}", error=True)
    return response
