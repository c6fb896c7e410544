"""What is said of a measured quantity: a prediction, or the fact that is missing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tools.truth_facts import MIB, MissingFact, Row

SIZES = (("mib", 1.0), ("gib", 1024.0), ("gb", 1e9 / MIB), ("mb", 1e6 / MIB))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One quantity of one row, predicted and measured in the row's own unit."""

    quantity: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative to what was measured, or to one unit where that is nothing; negative is under."""
        return (self.predicted - self.measured) / (abs(self.measured) or 1.0)


@dataclass(frozen=True, slots=True)
class Missing:
    """A quantity that was not predicted, for want of a fact."""

    quantity: str
    fact: str


Answer = Prediction | Missing


def attempt(quantity: str, measured: float | None, predict: Callable[[], float]) -> Iterator[Answer]:
    if measured is None:
        return
    try:
        yield Prediction(quantity, predict(), measured)
    except MissingFact as error:
        yield Missing(quantity, str(error))


def measured_total(row: Row) -> float | None:
    """MiB that the card showed in use, under any name that begins with total and says its unit."""
    for name in row.part("measured"):
        if not name.startswith(("total", "nvidia_smi", "vram")):
            continue
        unit = next((size for word, size in SIZES if word in name.split("_")), None)
        value = row.total(name)
        if unit is not None and value is not None:
            return value * unit
    return None
