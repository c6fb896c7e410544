"""The panel beside the form: what the definition takes as it is written, per card, and what would make it fit."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cortex.calculator.memory import Term
from cortex.catalog.changes import applied
from cortex.catalog.definition import Definition, Refusal, Source, parse
from cortex.catalog.forecast import CardForecast, Fix, Forecast
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu
from cortex.orchestration import forecasts
from cortex.sizes import gib
from cortex.ui import fields
from cortex.ui.bars import WIDTH, Segment, placed
from cortex.ui.cards import numbered

UNNAMED = "unnamed"
MOST_BARS = 8
FEW, SENTENCE = 2, re.compile(r"(?<=\.) (?=[A-Z])")
GROUPS = {
    "weights": ("weights", "Weights"), "kv_cache": ("cache", "Cache"), "state": ("cache", "Cache"),
    "compute": ("compute", "Compute"), "activation": ("compute", "Compute"), "cuda_graphs": ("compute", "Compute"),
}  # fmt: skip
REST = ("overhead", "Overhead")
LOOKS = {
    "fits": ("serving", "check-circle", "Fits"),
    "tight": ("draining", "alert", "Tight"),
    "does_not_fit": ("failing", "alert", "Does not fit"),
    "unknown": ("unknown", "question", "Unknown"),
}


@dataclass(frozen=True)
class Look:
    """A verdict as it is shown: tone, icon and word, never colour alone."""

    state: str
    icon: str
    word: str


def look(verdict: str) -> Look:
    return Look(*LOOKS[verdict])


@dataclass(frozen=True)
class Bar:
    """One card: what others hold, what the model would hold, what stays free. `limit` is where the card ends.

    A card is `aside` where it would do or not, but another was chosen.
    """

    forecast: CardForecast
    name: str
    look: Look
    segments: list[Segment]
    limit: float | None
    aside: bool


@dataclass(frozen=True)
class Button:
    """A fix that fills the form: `fills` is JSON of field names and their values."""

    title: str
    fills: str


@dataclass(frozen=True)
class Panel:
    """What the template draws; cards go by their numbers. `trouble` is what keeps a definition from being estimated."""

    look: Look
    forecast: Forecast | None
    bars: list[Bar]
    buttons: list[Button]
    trouble: str = ""
    reason: str = ""
    card_by_card: str = ""
    shortfall: str = ""

    @property
    def brief(self) -> str:
        """In a few words, for where there is no room for more."""
        if self.buttons:
            return f"{len(self.buttons)} way{'s' if len(self.buttons) > 1 else ''} to fit"
        chosen = [bar for bar in self.bars if bar.forecast.chosen]
        taken = gib(sum(bar.forecast.claim for bar in chosen))
        return f"{taken} on {' and '.join(bar.name for bar in chosen)}" if chosen else ""

    @property
    def terms(self) -> tuple[Term, ...]:
        """Of the fullest card it would take, else of the host."""
        held = [each.need for each in self.forecast.cards if each.need] if self.forecast else []
        host = self.forecast.host if self.forecast else None
        need = max(held, key=lambda each: each.likely, default=host)
        return need.terms if need else ()


def of(data: Mapping[str, Any]) -> Panel:
    """The panel of a definition as it is written, finished or not."""
    try:
        definition = _parsed(data)
        model = Model.objects.declared().filter(name=definition.name).first()
        found = forecasts.of(definition, model)
    except Refusal as refusal:
        words = " ".join(f"{problem.detail} {problem.remedy}".strip() for problem in refusal.problems)
        return Panel(look("unknown"), None, [], [], words or refusal.title)
    return drawn(definition, found, dict(Gpu.objects.values_list("uuid", "index")))


def _parsed(data: Mapping[str, Any]) -> Definition:
    """What is written; a name that is wrong, or half typed, takes no memory. Raises Refusal."""
    try:
        return parse({**data, "name": data.get("name") or UNNAMED})
    except Refusal as refusal:
        if any(problem.pointer != "/name" for problem in refusal.problems):
            raise
        return parse({**data, "name": UNNAMED})


def drawn(definition: Definition, found: Forecast, numbers: Mapping[str, int]) -> Panel:
    """A forecast with its bars and buttons; `numbers` are the cards' on their hosts, by UUID."""
    shown = sorted(found.cards, key=lambda each: (not each.chosen, each.need is None))[:MOST_BARS]
    names = {each.card.label: f"GPU {numbers.get(each.card.uuid, '')}".strip() for each in found.cards}
    is_settled = any(each.chosen for each in shown)
    bars = [_bar(each, names, aside=is_settled and not each.chosen) for each in shown]
    buttons = [_button(definition, fix) for fix in found.fixes]
    reason, rest = _folded(numbered(found.reason, names))
    shortfall = _shortfall(definition, found)
    return Panel(look(found.verdict), found, bars, buttons, "", reason, rest, shortfall)


def _folded(words: str) -> tuple[str, str]:
    """What is said first, and the rest where that is long: each card tells its part of it by itself."""
    first, *rest = SENTENCE.split(words)
    told = [each for each in rest if not each.startswith("It would fit if")]
    return (first, " ".join(told)) if len(rest) > FEW else (words, "")


def _shortfall(definition: Definition, found: Forecast) -> str:
    """What an engine that shares one cache among all promises less than was asked for; it starts all the same."""
    most, users = found.most_users, definition.users
    if found.verdict == "does_not_fit" or most is None or not users or most >= users:
        return ""
    return f"Only {most} of {users} users can fill their whole context at once; others wait until a cache is free."


def _bar(of: CardForecast, names: Mapping[str, str], *, aside: bool) -> Bar:
    parts = list(_parts(of))
    taken = sum(size for _, _, size in parts)
    width = max(of.card.total, taken, 1)
    parts.append(("free", "free", of.card.total - taken))
    limit = round(WIDTH * of.card.total / width, 1) if taken > of.card.total else None
    return Bar(of, names[of.card.label], look(of.verdict), placed(parts, width), limit, aside)


def _parts(of: CardForecast) -> Iterator[tuple[str, str, int]]:
    yield "held by others", "foreign", of.card.total - of.card.free
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for term in of.need.terms if of.need else ():
        sums[GROUPS.get(term.name, REST)] += term.likely
    beyond = of.claim - (of.need.likely if of.need else 0)
    if beyond > 0:
        sums["cache", "Cache"] += beyond  # what an engine that fills its share makes of the rest
    for kind, label in ("weights", "Weights"), ("cache", "Cache"), ("compute", "Compute"), REST:
        yield label, kind, sums[kind, label]


def _button(definition: Definition, fix: Fix) -> Button:
    return Button(fix.title, json.dumps(fills(definition, fix.patch)))


def fills(definition: Definition, patch: Mapping[str, Any]) -> dict[str, str]:
    """A patch as the fields of the form spell it; what it takes away leaves an empty field."""
    plain = {name: _field(value) for name, value in patch.items() if name not in ("options", "source")}
    options = {f"options.{name}": _field(value) for name, value in patch.get("options", {}).items()}
    source = _source(applied(definition, patch).source) if "source" in patch else {}
    return {**source, **plain, **options}


def _field(value: Any) -> str:
    return "" if value is None else fields.write(value)


def _source(source: Source) -> dict[str, str]:
    if not source.repository:
        return {"source.kind": "folder", "source.path": source.path}
    told = {"source.repository": source.repository, "source.revision": source.revision, "source.file": source.path}
    return {"source.kind": "hub", **told}
