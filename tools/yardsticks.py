"""Cortex beside common rules: python -m tools.yardsticks MODELS_FOLDER PLANS.jsonl > docs/memory.md."""

import json
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


def page(rows: Sequence[Mapping[str, object]], shapes: Mapping[str, Shape]) -> str:
    """The whole page."""
    lines = [score(name, rule, rows, shapes).line() for name, rule in RULES]
    return TEXT.format(rows=len(rows), models=len(shapes), build=rows[0].get("build", ""), table="\n".join(lines))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m tools.yardsticks MODELS_FOLDER PLANS.jsonl", file=sys.stderr)
        return 2
    folder, path = (Path(each) for each in arguments)
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    shapes = {name: shape_of(read_set(folder / name)) for name in {str(row["gguf"]) for row in rows}}
    print(page(rows, shapes), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
