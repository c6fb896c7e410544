"""Where a model may run, as the form asks for it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cortex.catalog.definition import Placement, Problem, describe
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Host
from cortex.ui import fields
from cortex.ui.fields import Field

CARDS = Field("placement.cards", "/placement/cards", "Only these GPUs", "UUIDs, one a line; empty is any.", "lines")
HOSTS = Field("placement.hosts", "/placement/hosts", "Only these hosts", "Names, one a line; empty is any.", "lines")
LABELS = Field("placement.labels", "/placement/labels", "Only hosts labelled", "key=value, one a line.", "lines")
SPREAD = Field(
    "placement.spread",
    "/placement/spread",
    "Spread",
    "Take the emptiest GPUs, not the fullest.",
    "bool",
    default="false",
)


def drawn(values: Mapping[str, str], problems: Iterable[Problem]) -> list[Field]:
    """The fields with what stands in them, what is wrong with it, and what could be named here."""
    told = list(problems)
    hosts = list(Host.objects.prefetch_related("gpus"))
    cards = tuple((f"{host} · GPU {gpu.index} · {gpu.name}", gpu.uuid) for host in hosts for gpu in _in_order(host))
    labels = sorted({f"{key}={value}" for host in hosts for key, value in host.labels.items()})
    shown = [
        replace(CARDS, chips=cards),
        replace(HOSTS, chips=tuple((host.name, host.name) for host in hosts)),
        replace(LABELS, chips=tuple((label, label) for label in labels)),
        SPREAD,
    ]
    return [replace(field, value=values.get(field.name, "")).told(told) for field in shown]


def _in_order(host: Host) -> list[Gpu]:
    return sorted(host.gpus.all(), key=lambda gpu: gpu.index)


def read(values: Mapping[str, str]) -> dict[str, Any]:
    """What stands in the fields, in the words of a definition."""
    labels = (line.partition("=") for line in fields.lines(values.get(LABELS.name, "")))
    found: dict[str, Any] = {
        "cards": fields.lines(values.get(CARDS.name, "")),
        "hosts": fields.lines(values.get(HOSTS.name, "")),
        "labels": {key.strip(): value.strip() for key, _, value in labels},
        "spread": values.get(SPREAD.name, "").strip(),
    }
    return {name: value for name, value in found.items() if value}


def written(wish: Placement) -> dict[str, str]:
    """A definition's placement as it stands in the fields."""
    labels = [f"{key}={value}" for key, value in wish.labels.items()]
    return {
        CARDS.name: fields.write(wish.cards),
        HOSTS.name: fields.write(wish.hosts),
        LABELS.name: fields.write(labels),
        SPREAD.name: "true" if wish.spread else "",
    }


def told(model: Model) -> list[tuple[str, str]]:
    """What people said of it, by the fields' titles; what they left open is left out."""
    values = written(describe(model).placement)
    texts = [(field.title, ", ".join(fields.lines(values[field.name]))) for field in (CARDS, HOSTS, LABELS, SPREAD)]
    return [(title, "yes" if text == "true" else text) for title, text in texts if text]
