"""Bars of memory: parts of a card side by side, in thousandths of its width."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WIDTH = 1000


@dataclass(frozen=True)
class Segment:
    """A part of a card's memory: `x` and `width` in thousandths of it."""

    label: str
    kind: str
    bytes: int
    x: float
    width: float


def placed(parts: Iterable[tuple[str, str, int]], total: int) -> list[Segment]:
    """Label, kind and bytes of each part, one after another; what is empty is left out."""
    return list(_placed(parts, total))


def _placed(parts: Iterable[tuple[str, str, int]], total: int) -> Iterator[Segment]:
    x = 0.0
    for label, kind, size in parts:
        if size <= 0:
            continue
        width = WIDTH * size / total
        yield Segment(label, kind, size, round(x, 1), round(width, 1))
        x += width
