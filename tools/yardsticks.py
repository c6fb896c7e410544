"""Cortex beside common rules: python -m tools.yardsticks MODELS_FOLDER PLANS.jsonl... > docs/memory.md."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cortex.calculator.gguf import read_set
from cortex.calculator.gguf_shape import shape_of
from cortex.calculator.llamacpp import options_from, plan
from cortex.calculator.shape import Shape
from tools.truth import Judge, read_rows
from tools.truth_rows import Prediction

GIB, MIB = 1 << 30, 1 << 20
Rule = Callable[[Shape, Sequence[str], int], float]

TEXT = """# How close the estimates are

Cortex plans memory from a model's own header: which tensors lie where, what every layer caches, and the peak of the
graph the engine will run. The table compares that with two rules of thumb on {rows} plans of {models} models (dense,
with experts, compressed attention, windows, recurrent and hybrid layers, shared caches, attention sinks, an embedder),
recorded by `python -m tools.plans.record` from llama.cpp {build}:
contexts up to 131,072 tokens, one to eight slots, cache types, partial offload, one to four cards, caches on the host.
Errors are of the sum over all cards and the host.

| | median error | furthest under | furthest over | within 5 % | one estimate |
|---|---|---|---|---|---|
{table}

Compute buffers are the hard part, for they follow from the order of a graph's steps. Every GPU of every plan:

| plans | GPUs | within 1 MiB | within 5 % or 16 MiB | more than 5 % under |
|---|---|---|---|---|
{buffers}

`drawn` plans are of models and options that nobody chose, drawn from a seed (`--seed`), half of them of models and
families outside the first set. `drawn_later` and `drawn_last` ones were recorded when the graphs had been written: at
first sight 99.7 % and 99.3 % of their GPUs were within 5 % or 16 MiB, and two of 286 and of 299 were under. What these
showed was then put right.

llama.cpp's own `llama-fit-params` is the truth here: it loads the model without allocating. It needs the file on the
machine and a build of llama.cpp; Cortex needs the first megabytes of the file, near or far.

`hf-mem` reads models from a hub only, so it is not in the table: these files are local.
"""


@dataclass(frozen=True, slots=True)
class Score:
    """How a rule did: relative errors, and seconds per answer."""

    name: str
    errors: tuple[float, ...]
    seconds: float

    def line(self) -> str:
        near = sum(abs(error) <= 0.05 for error in self.errors) / len(self.errors)
        median = statistics.median(abs(error) for error in self.errors)
        return (
            f"| {self.name} | {median:.1%} | {min(self.errors):+.0%} | {max(self.errors):+.0%} | {near:.0%} "
            f"| {1000 * self.seconds:.1f} ms |"
        )


def cortex(shape: Shape, arguments: Sequence[str], devices: int) -> float:
    planned = plan(shape, replace(options_from(arguments), pinned=False), devices)
    return sum(each.total for each in (*planned.devices, planned.host))


def gpustack(shape: Shape, arguments: Sequence[str], devices: int) -> float:
    """(weights + adapters) x 1.2 + 2 GiB, whatever the context."""
    return 1.2 * shape.weight_bytes + 2 * GIB


def naive(shape: Shape, arguments: Sequence[str], devices: int) -> float:
    return 1.2 * shape.weight_bytes


RULES: tuple[tuple[str, Rule], ...] = (
    ("Cortex", cortex),
    ("gpustack's rule: weights x 1.2 + 2 GiB", gpustack),
    ("naive rule: weights x 1.2", naive),
)


def measured(row: Mapping[str, object]) -> int:
    devices, host = row["devices"], row["host"]
    if not isinstance(devices, list) or not isinstance(host, dict):
        raise TypeError("a plan needs devices and host")
    return MIB * sum(sum(each.values()) for each in (*devices, host))


def score(name: str, rule: Rule, rows: Sequence[Mapping[str, object]], shapes: Mapping[str, Shape]) -> Score:
    errors = []
    start = time.process_time()
    for row in rows:
        arguments, devices = row["args"], row["devices"]
        if not isinstance(arguments, list) or not isinstance(devices, list):
            raise TypeError("a plan needs args and devices")
        truth = measured(row)
        errors.append((rule(shapes[str(row["gguf"])], arguments, len(devices)) - truth) / truth)
    return Score(name, tuple(errors), (time.process_time() - start) / len(rows))


def buffers(name: str, rows: Sequence[Mapping[str, object]], shapes: Mapping[str, Shape]) -> str:
    """One line on the compute buffers of the GPUs of a set of plans."""
    judge = Judge(Path(), shapes)
    found = [each for row in rows for each in judge.answers(row) if isinstance(each, Prediction)]
    pairs = [(each.predicted, each.measured) for each in found if each.quantity == "compute"]
    exact = sum(abs(foreseen - truth) <= 1 for foreseen, truth in pairs)
    near = sum(abs(foreseen - truth) <= max(16, truth / 20) for foreseen, truth in pairs)
    under = sum(foreseen < 0.95 * truth - 1 for foreseen, truth in pairs)
    return f"| {name} ({len(rows)}) | {len(pairs)} | {exact / len(pairs):.1%} | {near / len(pairs):.1%} | {under} |"


def page(sets: Mapping[str, Sequence[Mapping[str, object]]], shapes: Mapping[str, Shape]) -> str:
    """The whole page."""
    rows = [row for each in sets.values() for row in each]
    lines = [score(name, rule, rows, shapes).line() for name, rule in RULES]
    parts = [buffers(name, each, shapes) for name, each in sets.items()]
    build = rows[0].get("build", "")
    return TEXT.format(
        rows=len(rows), models=len(shapes), build=build, table="\n".join(lines), buffers="\n".join(parts)
    )


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2:
        print("usage: python -m tools.yardsticks MODELS_FOLDER PLANS.jsonl...", file=sys.stderr)
        return 2
    folder, *paths = (Path(each) for each in arguments)
    sets = {path.stem.removeprefix("llamacpp_"): read_rows(path) for path in paths}
    names = {str(row["gguf"]) for rows in sets.values() for row in rows}
    shapes = {name: shape_of(read_set(folder / name)) for name in names}
    print(page(sets, shapes), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
