"""Every model at a glance."""

from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from cortex.catalog.models import Model
from cortex.ui.answers import live
from cortex.ui.gate import signed_in
from cortex.ui.rows import rows, summary


@signed_in
def models(request: HttpRequest) -> HttpResponseBase:
    """The list, by what the filter says."""
    words = request.GET.get("q", "").strip()
    everything = rows(Model.objects.declared())
    found = {model.id for model in Model.objects.declared().filter(_says(words))} if words else None
    shown = [row for row in everything if found is None or row.model.id in found or words in row.status.phase]
    context = {"rows": shown, "words": words, "summary": summary(everything)}
    response = live(request, "ui/models.html", "ui/parts/models.html", context)
    response["HX-Replace-Url"] = reverse("ui:models") + (f"?{urlencode({'q': words})}" if words else "")
    return response


def _says(words: str) -> Q:
    return (
        Q(name__icontains=words)
        | Q(engine__icontains=words)
        | Q(repository__icontains=words)
        | Q(path__icontains=words)
    )
