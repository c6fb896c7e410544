"""Cortex beside others: python -m tools.yardsticks MODELS_FOLDER PLANS.jsonl... [--hf-mem PYTHON] > docs/memory.md."""

import json
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cortex.calculator import serving
from cortex.calculator.gguf.header import read_set
from cortex.calculator.gguf.shape import shape_of
from cortex.calculator.hf import shape as hf_shape
from cortex.calculator.llamacpp.plan import options_from, plan
from cortex.calculator.serving import tokens_told
from cortex.calculator.shape import Shape
from engines.habits import ServeOptions
from engines.vllm_memory import CPU_BATCHED_TOKENS, CPU_BLOCK
from tools.served.record import RECORD
from tools.truth import Judge, read_rows
from tools.truth_rows import Prediction

GIB, MIB = 1 << 30, 1 << 20
Rule = Callable[[Shape, Sequence[str], int], float]

TEXT = """# How close the estimates are

Cortex plans memory from a model's own header: which tensors lie where, what every layer caches, and the peak of the
graph the engine will run. The table compares that with what others say on {rows} plans of {models} models (dense,
with experts, compressed attention, windows, recurrent and hybrid layers, shared caches, attention sinks, embedders),
recorded by `python -m tools.plans.record` from llama.cpp {build}:
contexts up to 131,072 tokens, one to eight slots, cache types, partial offload, one to four cards, caches on the host.
Errors are of the sum over all cards and the host.

| | rows answered | median error | furthest under | furthest over | within 5 % | one estimate |
|---|---|---|---|---|---|---|
{table}

Compute buffers are the hard part, for they follow from the order of a graph's steps. Every GPU of every plan:

| plans | GPUs | within 1 MiB | within 5 % or 16 MiB | more than 5 % under |
|---|---|---|---|---|
{buffers}

`drawn` plans are of models and options that nobody chose, drawn from a seed (`--seed`), half of them of models and
families outside the first set. `drawn_later`, `drawn_last` and `drawn_fresh` ones were recorded when the graphs had
been written: at first sight 99.7 %, 99.3 % and 99.7 % of their GPUs were within 5 % or 16 MiB, and two of 286, of 299
and of 1,143 were under. `families` are plans of further families, chosen and drawn: as families never compared, 88 %
of the GPUs of their chosen plans were within 5 % or 16 MiB, and 167 of 1,440 were under. What these showed was then
put right.

llama.cpp's own `llama-fit-params` is the truth here: it loads the model without allocating. It needs the file on the
machine and a build of llama.cpp; Cortex needs the first megabytes of the file, near or far.

`hf-mem` {hf_mem} reads models from a hub only: here its own code was run against the same files, served to it by a
transport that plays the hub. It counts weights and a cache of full attention in every layer, and refuses files whose
head counts differ by layer or are none.

## What vLLM keeps

The tokens of cache that the real vLLM {vllm} printed for made models, on the processor, given the same bytes of cache:
served by `python -m tools.served.record`, which installs it, and checked again by `./dev test --slow`.

| model | served with | GiB of cache | tokens printed | tokens computed | error |
|---|---|---|---|---|---|
{pools}
"""


@dataclass(frozen=True, slots=True)
class Score:
    """How a rule did: relative errors, seconds per answer, and of how many rows it had one."""

    name: str
    errors: tuple[float, ...]
    seconds: float
    answered: float = 1.0

    def line(self) -> str:
        near = sum(abs(error) <= 0.05 for error in self.errors) / len(self.errors)
        median = statistics.median(abs(error) for error in self.errors)
        ends = f"{min(self.errors):+.0%} | {max(self.errors):+.0%}"
        return (
            f"| {self.name} | {self.answered:.0%} | {median:.1%} | {ends} | {near:.0%} | {1000 * self.seconds:.1f} ms |"
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


def hf_mem(python: Path, folder: Path, rows: Sequence[Mapping[str, object]]) -> Score:
    """hf-mem's own answers, in one process: start-up is not counted, its reading of headers is."""
    asks = [_ask(row) for row in rows]
    command = [str(python), str(Path(__file__).with_name("ask_hf_mem.py")), str(folder)]
    start = time.monotonic()
    done = subprocess.run(command, input=json.dumps(asks), text=True, check=True, stdout=subprocess.PIPE)
    seconds = time.monotonic() - start
    answers = list(zip(json.loads(done.stdout), map(measured, rows), strict=True))
    errors = tuple((said - truth) / truth for said, truth in answers if isinstance(said, int))
    return Score("hf-mem: weights + cache", errors, seconds / len(rows), len(errors) / len(rows))


def _ask(row: Mapping[str, object]) -> dict[str, object]:
    """A plan's context, slots and cache type in hf-mem's words."""
    arguments = row["args"]
    options = options_from(arguments if isinstance(arguments, list) else [])
    context = options.context // options.streams()
    return {"file": row["gguf"], "context": context, "slots": options.streams(), "kind": options.key_type.upper()}


def version_of(python: Path) -> str:
    command = [str(python), "-c", "import importlib.metadata as m; print(m.version('hf-mem'))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def pools(record: Mapping[str, Any]) -> Iterator[str]:
    """What vLLM printed for each made model beside what is computed."""
    for name, row in sorted(record["rows"].items()):
        shape, words, said = hf_shape.shape_of(name, row["config"], ()), row["words"], row["tokens"]
        found = tokens_told(shape, cpu_options(words), row["space_gib"] * GIB)
        served = f"{name.partition('@')[0]} | {words.replace('--', '')} | {row['space_gib']}"
        yield f"| {served} | {said:,} | {found:,} | {found / said - 1:+.2%} |"


def cpu_options(words: str) -> ServeOptions:
    """A command line of ``vllm serve`` as its build for processors reads it."""
    given = serving.options_from("vllm", words.split())
    block = given.block if "--block-size" in words else CPU_BLOCK
    batched = given.batched_tokens if "--max-num-batched-tokens" in words else CPU_BATCHED_TOKENS
    return replace(given, block=block, batched_tokens=batched)


def buffers(name: str, rows: Sequence[Mapping[str, object]], shapes: Mapping[str, Shape]) -> str:
    """One line on the compute buffers of the GPUs of a set of plans."""
    judge = Judge(Path(), shapes)
    found = [each for row in rows for each in judge.answers(row) if isinstance(each, Prediction)]
    pairs = [(each.predicted, each.measured) for each in found if each.quantity == "compute"]
    exact = sum(abs(foreseen - truth) <= 1 for foreseen, truth in pairs)
    near = sum(abs(foreseen - truth) <= max(16, truth / 20) for foreseen, truth in pairs)
    under = sum(foreseen < 0.95 * truth - 1 for foreseen, truth in pairs)
    return f"| {name} ({len(rows)}) | {len(pairs)} | {exact / len(pairs):.1%} | {near / len(pairs):.1%} | {under} |"


def page(
    sets: Mapping[str, Sequence[Mapping[str, object]]],
    shapes: Mapping[str, Shape],
    others: Sequence[Score] = (),
    version: str = "",
) -> str:
    """The whole page."""
    rows = [row for each in sets.values() for row in each]
    lines = [score(name, rule, rows, shapes).line() for name, rule in RULES]
    record = json.loads(RECORD.read_text())
    return TEXT.format(
        rows=len(rows),
        models=len(shapes),
        build=rows[0].get("build", ""),
        table="\n".join([*lines, *(each.line() for each in others)]),
        buffers="\n".join(buffers(name, each, shapes) for name, each in sets.items()),
        hf_mem=version or "was not at hand; it",
        vllm=record["vllm"],
        pools="\n".join(pools(record)),
    )


def main(arguments: Sequence[str]) -> int:
    words = ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path, help="the folder of the planned models")
    words.add_argument("plans", type=Path, nargs="+", help="recorded plans, JSON lines")
    words.add_argument("--hf-mem", type=Path, help="a Python that has hf-mem")
    given = words.parse_args(arguments)
    sets = {path.stem.removeprefix("llamacpp_"): read_rows(path) for path in given.plans}
    rows = [row for each in sets.values() for row in each]
    shapes = {name: shape_of(read_set(given.folder / name)) for name in {str(row["gguf"]) for row in rows}}
    others = [hf_mem(given.hf_mem, given.folder, rows)] if given.hf_mem else []
    print(page(sets, shapes, others, version_of(given.hf_mem) if given.hf_mem else ""), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
