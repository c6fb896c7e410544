"""What a model's starts took beside what was expected of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cortex.catalog.definition import describe
from cortex.catalog.models import Model
from cortex.fleet.models import Attempt, Measurement
from cortex.orchestration import needs

KEPT = 8


@dataclass(frozen=True)
class Line:
    """One term over all cards, in bytes; None where nobody measured it."""

    name: str
    expected: int
    measured: int | None

    @property
    def off(self) -> str:
        """How far the expectation was from what was measured, in per cent."""
        return f"{100 * (self.expected - self.measured) / self.measured:+.1f} %" if self.measured else ""


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

    @property
    def is_measured(self) -> bool:
        return any(line.measured is not None for line in self.lines)


def beside(model: Model, attempt: Attempt | None) -> Beside:
    """The present attempt's expectation beside its measurement."""
    estimated = attempt.estimated if attempt else {}
    row = Measurement.objects.filter(attempt=attempt).first() if attempt else None
    lines = list(_lines(estimated.get("cards", []), row))
    history = [_start(each) for each in needs.history(describe(model))[:KEPT]]
    return Beside(lines, estimated.get("note", ""), history)


def _lines(cards: list[dict[str, int]], row: Measurement | None) -> Iterator[Line]:
    names = dict.fromkeys(name for card in cards for name in card)
    for name in names:
        yield Line(name, sum(card.get(name, 0) for card in cards), row.terms.get(name) if row else None)
    if cards and row and row.devices:
        yield Line("whole card" if len(cards) == 1 else "whole cards", _sum(cards), sum(row.devices))


def _start(row: Measurement) -> Start:
    if row.devices:
        return Start(row.at, row.card, row.gpus, Line("whole cards", _sum(row.estimated), sum(row.devices)))
    expected = sum(size for card in row.estimated for name, size in card.items() if name in row.terms)
    return Start(row.at, row.card, row.gpus, Line("what its log names", expected, sum(row.terms.values()) or None))


def _sum(cards: list[dict[str, int]]) -> int:
    return sum(size for card in cards for size in card.values())
