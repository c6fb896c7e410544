"""Cordon, drain, label, forget a host; remove a stray: what it will mean is said first, then it is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse

from cortex.catalog.definition import Refusal
from cortex.fleet.models import Host, Stray
from cortex.orchestration import drains, host_orders
from cortex.ui import fields
from cortex.ui.answers import by_htmx, done, with_toast
from cortex.ui.gate import changes_models, person, refused

NOT_BY_FORCE = "Only administrators forget a host that holds replicas: they vouch that nothing runs there any more."
FORGET = (
    "Containers may run on there, and nobody will know of them. Should the host come back, it registers anew, and "
    "they are listed as strays."
)


@dataclass(frozen=True)
class Deed:
    """What a dialog asks for, as the templates of models' orders show it."""

    title: str
    button: str
    meaning: str
    danger: bool = False


CORDON = Deed("Cordon", "Cordon it", "Nothing new is placed on it. What runs there stays, until you take it back.")
UNCORDON = Deed("Uncordon", "Uncordon it", "It takes models again.")
DRAIN = Deed(
    "Drain",
    "Drain it",
    "Nothing new is placed on it, and what runs there moves elsewhere: one replica at a time, each once another serves "
    "in its place and what it was asked is answered. What has no room elsewhere stays until there is some. You can "
    "call it off at any time.",
)
UNDRAIN = Deed("End the drain of", "End it", "What is there stays. It takes models again, unless it is cordoned.")
REMOVE = Deed("Remove", "Remove it", "Its container is stopped and removed at the host's next look.", danger=True)


@changes_models
def cordon(request: HttpRequest, name: str, cordoned: bool) -> HttpResponseBase:
    """Nothing new goes there from now on; or it does again."""
    host = _host(name)
    if request.method != "POST":
        return _ask(request, CORDON if cordoned else UNCORDON, name, "")
    host_orders.revise(host.name, {"cordoned": cordoned}, person(request))
    words = f"{name} takes nothing new." if cordoned else f"{name} takes models again."
    return done(request, words, reverse("ui:hosts"))


@changes_models
def drain(request: HttpRequest, name: str, draining: bool) -> HttpResponseBase:
    """What runs there is to go elsewhere; or no more of it."""
    host = _host(name)
    if request.method != "POST":
        return _ask(request, DRAIN if draining else UNDRAIN, name, _told_of(host) if draining else "")
    host_orders.revise(host.name, {"draining": draining}, person(request))
    words = f"What runs on {name} moves elsewhere." if draining else f"Nothing more leaves {name}."
    return done(request, words, reverse("ui:hosts"))


def _told_of(host: Host) -> str:
    """Who would leave, and who would not."""
    held = drains.holding(host)
    pinned = ", ".join(str(replica) for replica in held if drains.is_pinned(replica))
    stay = f" {pinned} may run nowhere else, and will stay." if pinned else ""
    return f"It holds {len(held)} replica{'' if len(held) == 1 else 's'}.{stay}" if held else "It holds nothing."


@changes_models
def labels(request: HttpRequest, name: str) -> HttpResponseBase:
    """What people call it: all labels at once, one a line."""
    host = _host(name)
    text = request.POST.get("labels", "\n".join(f"{key}={value}" for key, value in host.labels.items()))
    if request.method != "POST":
        return _form(request, host, text, [])
    lines = [line.partition("=") for line in fields.lines(text)]
    wanted: dict[str, str | None] = {key.strip(): value.strip() for key, _, value in lines}
    try:
        gone = {key: None for key in host.labels if key not in wanted}
        host_orders.revise(name, {"labels": {**gone, **wanted}}, person(request))
    except Refusal as refusal:
        return _form(request, host, text, [problem.detail for problem in refusal.problems])
    return done(request, f"{name} has {len(wanted)} label{'' if len(wanted) == 1 else 's'}.", reverse("ui:hosts"))


@changes_models
def forget(request: HttpRequest, name: str) -> HttpResponseBase:
    """A silent host goes; with what it holds, by an administrator alone."""
    held = drains.holding(_host(name))
    force = bool(held)
    if force and not person(request).may_change_access():
        return refused(request, NOT_BY_FORCE)
    if request.method != "POST":
        names = ", ".join(map(str, held))
        now = f"It holds {names}: they are placed elsewhere." if held else "It holds nothing."
        return _ask(request, Deed("Forget", "Forget it", FORGET, danger=True), name, now)
    try:
        host_orders.forget(name, person(request), force=force)
    except Refusal as refusal:
        return _told(request, refusal)
    return done(request, f"{name} is forgotten.", reverse("ui:hosts"))


@changes_models
def remove_stray(request: HttpRequest, id: int) -> HttpResponseBase:
    """A container that nobody claims goes now."""
    if request.method != "POST":
        stray = Stray.objects.select_related("host").filter(id=id).first()
        if stray is None:
            raise Http404("This stray is gone.")
        now = f"It was model {stray.model_name}'s, by its label." if stray.model_name else "Its label names no model."
        return _ask(request, REMOVE, f"{stray.name} on {stray.host}", now)
    try:
        stray = host_orders.remove_stray(id, person(request))
    except host_orders.NoSuchStray as error:
        raise Http404(str(error)) from error
    return done(request, f"{stray.name} goes at {stray.host}'s next look.", reverse("ui:hosts"))


def _host(name: str) -> Host:
    host = Host.objects.filter(name=name).first()
    if host is None:
        raise Http404(f"There is no host named {name!r}. It may have been forgotten.")
    return host


def _ask(request: HttpRequest, deed: Deed, subject: str, now: str) -> HttpResponse:
    context = {"order": deed, "subject": subject, "now": now, "action": request.path, "back": reverse("ui:hosts")}
    return render(request, "ui/parts/confirm.html" if by_htmx(request) else "ui/confirm.html", context)


def _form(request: HttpRequest, host: Host, text: str, wrong: list[str]) -> HttpResponse:
    context: Mapping[str, Any] = {"host": host, "text": text, "wrong": wrong}
    template = "ui/parts/labels.html" if by_htmx(request) else "ui/labels.html"
    response = render(request, template, context, status=422 if wrong else 200)
    if wrong:
        response["HX-Retarget"], response["HX-Reswap"] = "#dialogs", "innerHTML"
    return response


def _told(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    words = " ".join(f"{problem.detail} {problem.remedy}".strip() for problem in refusal.problems)
    response = render(request, "ui/refused.html", {"title": refusal.title, "words": words}, status=refusal.status)
    if by_htmx(request):
        response["HX-Reswap"] = "none"
        return with_toast(response, words, error=True)
    return response
