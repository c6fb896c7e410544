"""One model: how it is, how it got there, what it says, and a place to try it."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from cortex.catalog.models import Model
from cortex.fleet.models import Attempt
from cortex.ui import measured, places, story
from cortex.ui.answers import by_htmx, live
from cortex.ui.gate import signed_in
from cortex.ui.rows import Row, rows

LATEST = 10


@signed_in
def model(request: HttpRequest, name: str) -> HttpResponseBase:
    """The page, or the part of it that lives."""
    row = next(iter(rows(Model.objects.declared().filter(name=name))), None)
    if row is None and by_htmx(request):
        messages.info(request, f"{name} was deleted.")
        return HttpResponseClientRedirect(reverse("ui:models"))
    if row is None:
        raise Http404(f"There is no model named {name!r}. It may have been deleted.")
    return live(request, "ui/model.html", "ui/parts/model.html", _context(row))


def _context(row: Row) -> dict[str, Any]:
    attempt = story.present(row)
    ended = Attempt.objects.filter(replica__model=row.model).exclude(ended_at=None).select_related("replica")
    pinned = story.first_failures(row)
    return {
        "row": row,
        "attempt": attempt,
        "beside": measured.beside(row.model, attempt),
        "steps": story.steps(attempt) if attempt else [],
        "pinned": pinned,
        "past": [*pinned, *ended.exclude(id__in=[each.id for each in pinned]).order_by("-queued_at")[:LATEST]],
        "orders": row.model.orders.all()[:LATEST],
        "command": story.command(attempt),
        "snippets": story.snippets(row.model.name, settings.ENV.cortex_gateway_url.rstrip("/")),
        "place": places.told(row.model),
        "options": sorted(row.model.options.items()),
    }
