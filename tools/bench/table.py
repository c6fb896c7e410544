"""Figures with their bars: printed as they come, and kept as JSON for whoever compares runs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure. `bar` is what it has to stay under, in the same unit; None where it is told for its own sake."""

    what: str
    seen: float
    unit: str
    bar: float | None = None
    also: str = ""

    @property
    def ratio(self) -> float | None:
        """Seen by bar: below 1 is within it."""
        return None if self.bar is None else self.seen / self.bar

    def __str__(self) -> str:
        bar = "" if self.bar is None else f"bar {self.bar:g} {self.unit}"
        ratio = "" if self.ratio is None else f"x {self.ratio:.2f}"
        return f"{self.what:58} {f'{self.seen:.3g} {self.unit}':>14}  {bar:12} {ratio:8} {self.also}".rstrip()


class Table:
    """Rows of one kind of run; each is on disk as soon as it is known, since a run may be cut short."""

    def __init__(self, kind: str, file: Path) -> None:
        self._kind, self._file = kind, file

    def add(self, row: Row) -> None:
        print(f"{self._kind:8} {row}", flush=True)
        with self._file.open("a") as out:
            out.write(json.dumps({"on": self._kind, **asdict(row), "ratio": row.ratio}) + "\n")
