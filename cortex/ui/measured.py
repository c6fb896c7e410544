"""What a model's starts took beside what was expected of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cortex.catalog.definition import describe
from cortex.catalog.models import Model
from cortex.fleet.models import Attempt, Measurement
from cortex.orchestration import needs
from engines import UnknownEngine, engine

KEPT = 8
CACHE = "kv_cache"
ORDER = ("weights", CACHE, "state", "compute", "activation", "cuda_graphs", "runtime")


@dataclass(frozen=True)
class Line:
    """One term over all cards, in bytes; None where nobody measured it.

    Of what `fills` the rest of the card, the expectation is the least it needs: nothing to compare.
    """

    name: str
    expected: int
    measured: int | None
    fills: bool = False

    @property
    def off(self) -> str:
        """How far the expectation was from what was measured, in per cent."""
        if not self.measured or self.fills:
            return ""
        off = round(100 * (self.expected - self.measured) / self.measured, 1)
        return f"{off:+.1f} %" if off else "0.0 %"


@dataclass(frozen=True)
class Start:
    """An earlier start of the same weights: both sums, as far as they can be compared."""

    at: datetime
    card: str
    gpus: int
    line: Line


@dataclass(frozen=True)
class Beside:
    """Of one attempt: its lines, the note of an attempt nobody could estimate, and the history of such starts."""

    lines: list[Line]
    note: str
    history: list[Start]
    is_ready: bool = False

    @property
    def is_measured(self) -> bool:
        return any(line.measured is not None for line in self.lines)

    @property
    def missing(self) -> str:
        """Why nothing stands in the column of what was measured."""
        if self.is_measured:
            return ""
        if self.is_ready:
            return "Neither its log nor its cards have told yet what it took."
        return "Measured once it is ready, from its own log and the cards."


def beside(model: Model, attempt: Attempt | None) -> Beside:
    """The present attempt's expectation beside its measurement."""
    estimated = attempt.estimated if attempt else {}
    row = Measurement.objects.filter(attempt=attempt).first() if attempt else None
    fills = _fills(model.engine)
    lines = list(_lines(estimated.get("cards", []), row, fills))
    history = [_start(each, fills) for each in needs.history(describe(model))[:KEPT]]
    told = [start for start in history if start.line.measured]
    return Beside(lines, estimated.get("note", ""), told, is_ready=bool(attempt and attempt.ready_at))


def _fills(name: str) -> bool:
    """Whether the engine makes cache of all its share of a card, whatever was asked of it."""
    try:
        return bool(engine(name).options_for({"fraction": 1.0}))
    except UnknownEngine:
        return False


def _lines(cards: list[dict[str, int]], row: Measurement | None, fills: bool) -> Iterator[Line]:
    names = {name for card in cards for name in card}
    for name in _in_order(names):
        measured = row.terms.get(name) if row else None
        yield Line(name, sum(card.get(name, 0) for card in cards), measured, fills and name == CACHE)
    if cards and row and row.devices and not fills:
        yield Line(_whole(len(cards)), _sum(cards), sum(row.devices) or None)


def _start(row: Measurement, fills: bool) -> Start:
    """All of its cards, or else those terms that were both expected and measured."""
    if any(row.devices) and not fills:
        return Start(row.at, row.card, row.gpus, Line(_whole(row.gpus), _sum(row.estimated), sum(row.devices)))
    names = {name for card in row.estimated for name in card} & row.terms.keys() - ({CACHE} if fills else set())
    expected = sum(size for card in row.estimated for name, size in card.items() if name in names)
    measured = sum(row.terms[name] for name in names)
    return Start(row.at, row.card, row.gpus, Line(_together(names), expected, measured or None))


def _together(names: set[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in _in_order(names))


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _whole(gpus: int) -> str:
    return "whole card" if gpus == 1 else "whole cards"


def _sum(cards: list[dict[str, int]]) -> int:
    return sum(size for card in cards for size in card.values())
