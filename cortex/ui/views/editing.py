"""The form of a definition: new, changed, and its part that follows the engine."""

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from cortex.catalog.definition import Refusal
from cortex.catalog.models import Model
from cortex.orchestration import orders
from cortex.ui import panel as panels
from cortex.ui.draft import Draft, of
from cortex.ui.gate import changes_models, person

FRESH = {"source.kind": "folder", "replicas": "1"}


@changes_models
def define(request: HttpRequest) -> HttpResponseBase:
    """A new model."""
    if request.method != "POST":
        return _form(request, Draft({**FRESH, **request.GET.dict()}).fitting())
    draft = Draft(request.POST.dict())
    return _form(request, draft) if "redraw" in request.POST else _save(request, draft, turn=None)


@changes_models
def edit(request: HttpRequest, name: str) -> HttpResponseBase:
    """Another definition for a model; what runs follows it."""
    model = Model.objects.declared().filter(name=name).first()
    if model is None:
        raise Http404(f"There is no model named {name!r}.")
    if request.method != "POST":
        return _form(request, of(model).filled(request.GET.dict()))
    draft = Draft({**request.POST.dict(), "name": name}, model=model)
    if "redraw" in request.POST:
        return _form(request, draft)
    turn = request.POST.get("turn", "")
    return _save(request, draft, turn=int(turn) if turn.isdecimal() else 0)


@changes_models
def engine_part(request: HttpRequest) -> HttpResponseBase:
    """The engines and the options of the chosen one, with what was written already."""
    draft = Draft(request.POST.dict()).moved_from(request.POST.get("drawn", ""))
    if not request.headers.get("HX-Source", "").startswith("div#from-"):
        return render(request, "ui/parts/engine.html", {"draft": draft})
    response = render(request, "ui/parts/engine.html", {"draft": draft.fitting()})
    response["HX-Reswap"] = "outerHTML"  # a radio that people touched ignores what a morph says of it
    return response


@changes_models
@require_POST
def estimate(request: HttpRequest) -> HttpResponse:
    """The panel of what is written so far; the revision is echoed, so that stale answers are known."""
    panel = panels.of(Draft(request.POST.dict()).definition())
    revision = request.POST.get("revision", "")[:20]
    return render(request, "ui/parts/estimate.html", {"panel": panel, "revision": revision})


def _save(request: HttpRequest, draft: Draft, *, turn: int | None) -> HttpResponse:
    data = draft.definition()
    if "start" in request.POST:
        data["desired"] = "running"
    try:
        model, _ = orders.define(data, person(request), new=turn is None, expected_turn=turn)
    except Refusal as refusal:
        told = Draft(draft.values, refusal.problems, draft.model)
        return _form(request, told, title=refusal.title, status=422)
    return redirect("ui:model", model.name)


def _form(request: HttpRequest, draft: Draft, *, title: str = "", status: int = 200) -> HttpResponse:
    return render(request, "ui/edit.html", {"draft": draft, "title": title}, status=status)
