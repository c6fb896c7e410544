"""The stack plan: which models go together on which cards, and what other settings would make of that."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from cortex import placement
from cortex.catalog.definition import Refusal, describe
from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Gpu, Host
from cortex.orchestration import seats
from cortex.ui import stack_page
from cortex.ui.answers import by_htmx
from cortex.ui.gate import signed_in

GIB = 1 << 30
MOST_CARDS, MOST_GIB = 16, 1024
OTHER = ("", "Other cards …")


class Wanted(forms.Form):
    """Models and cards. `asked` tells an empty choice from none yet."""

    asked = forms.BooleanField(required=False)
    model = forms.MultipleChoiceField(
        required=False, error_messages={"invalid_choice": "There is no model named %(value)s."}
    )
    host = forms.ChoiceField(required=False, label="On the cards of")
    cards = forms.IntegerField(required=False, min_value=1, max_value=MOST_CARDS, label="How many")
    gib = forms.FloatField(required=False, min_value=1, max_value=MOST_GIB, label="GiB each")


@signed_in
def plan(request: HttpRequest) -> HttpResponseBase:
    """The page, or the plan alone after another choice."""
    models = list(Model.objects.declared().order_by("name"))
    hosts = list(seats.hosts(Host.objects.prefetch_related("gpus"), {}))
    form = _form(request, models, hosts)
    found = _found(form, models, hosts) if form.is_valid() else {}
    chosen = form["model"].value() or []
    shown = sorted(models, key=lambda each: each.name not in chosen)
    context = {"form": form, "models": shown, "chosen": chosen, **found}
    return render(request, "ui/parts/plan.html" if by_htmx(request) else "ui/plan.html", context)


def _form(request: HttpRequest, models: Sequence[Model], hosts: Sequence[placement.Host]) -> Wanted:
    """What was asked for; at first all that run, on the host with most memory."""
    data = request.GET.copy()
    if "asked" not in data:
        running = [each.name for each in models if each.desired == Desired.RUNNING]
        data.setlist("model", data.getlist("model") or running)
        with_cards = [each for each in hosts if each.cards]
        data.setdefault("host", max(with_cards, key=_size).name if with_cards else "")
    data.setdefault("cards", "4")
    data.setdefault("gib", "80")
    form = Wanted(data)
    form.fields["model"].choices = [(each.name, each.name) for each in models]  # type: ignore[attr-defined]
    form.fields["host"].choices = [*((each.name, _told(each)) for each in hosts), OTHER]  # type: ignore[attr-defined]
    return form


def _size(host: placement.Host) -> int:
    return sum(card.total for card in host.cards)


def _told(host: placement.Host) -> str:
    kinds = Counter(card.name or "GPU" for card in host.cards)
    return f"{host.name}: {', '.join(f'{count} x {kind}' for kind, count in kinds.items()) or 'no GPU'}"


def _found(form: Wanted, models: Sequence[Model], hosts: Sequence[placement.Host]) -> dict[str, Any]:
    wanted = form.cleaned_data
    host = next((each for each in hosts if each.name == wanted["host"]), None) or _imagined(wanted)
    numbers = dict(Gpu.objects.values_list("uuid", "index"))
    names = {card.uuid: f"GPU {numbers.get(card.uuid, card.uuid)}" for card in host.cards}
    definitions = [describe(each) for each in models if each.name in wanted["model"]]
    try:
        page, left_out = stack_page.planned(definitions, host, names)
    except Refusal as refusal:
        return {"trouble": str(refusal)}
    return {"page": page, "left_out": left_out}


def _imagined(wanted: dict[str, Any]) -> placement.Host:
    size = int((wanted["gib"] or 80) * GIB)
    return placement.Host("", [placement.Card(str(n), "", size, size) for n in range(wanted["cards"] or 4)])
