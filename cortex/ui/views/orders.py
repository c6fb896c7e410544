"""Start, stop, restart, remove: what it will mean is said first, then it is done."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.orchestration import orders
from cortex.ui.answers import by_htmx, done
from cortex.ui.gate import changes_models, person
from cortex.ui.rows import Row, rows


@dataclass(frozen=True)
class Verb:
    """How an order is named, what it means for whoever uses the model now, and what is said once it is taken."""

    does: Callable[[str, Person | None], Model]
    title: str
    button: str
    taken: str
    meaning: str
    danger: bool = False


VERBS = {
    "start": Verb(orders.start, "Start", "Start", "{} is to run.", "Cortex finds room for it and starts it."),
    "stop": Verb(
        orders.stop,
        "Stop",
        "Stop it",
        "{} is to stop.",
        "Requests under way get a moment to finish, new ones are refused. Its memory is freed, its definition stays.",
    ),
    "restart": Verb(
        orders.restart,
        "Restart",
        "Restart it",
        "{} restarts.",
        "Its containers are replaced by new ones. Until they have loaded the model, requests wait or are refused.",
    ),
    "remove": Verb(
        orders.remove,
        "Delete",
        "Delete it",
        "{} is deleted.",
        "Its containers stop and its definition, history and logs go. The model's files stay where they are. "
        "This cannot be undone.",
        danger=True,
    ),
}


@changes_models
def give(request: HttpRequest, name: str, verb: str) -> HttpResponseBase:
    """GET asks whether it is meant, and says the consequence. POST does it."""
    order = VERBS[verb]
    if request.method == "POST":
        try:
            order.does(name, person(request))
        except orders.NoSuchModel as error:
            raise Http404(str(error)) from error
        here = reverse("ui:models") if verb == "remove" else request.POST.get("back") or reverse("ui:models")
        return done(request, order.taken.format(name), _ours(here, name))
    row = next(iter(rows(Model.objects.declared().filter(name=name))), None)
    if row is None:
        raise Http404(f"There is no model named {name!r}.")
    back = request.GET.get("back", "")
    context = {"order": order, "subject": name, "now": now(row), "action": request.path, "back": back}
    return render(request, "ui/parts/confirm.html" if by_htmx(request) else "ui/confirm.html", context)


def now(row: Row) -> str:
    """Who would notice."""
    ready = row.status.ready
    if not ready:
        return "Nobody is served by it now."
    return f"{ready} replica{'s' if ready > 1 else ''} of it serve{'' if ready > 1 else 's'} now."


def _ours(path: str, name: str) -> str:
    model = reverse("ui:model", args=[name])
    return model if path == model else reverse("ui:models")
