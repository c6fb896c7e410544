"""How long one estimate takes, for every recorded model on several counts of GPUs, and against reading its header."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from cortex.calculator.gguf.header import read_set
from cortex.calculator.gguf.shape import shape_of
from cortex.calculator.memory import Card, estimate
from engines.habits import LlamaOptions
from tools.plans.further_models import further_models
from tools.plans.record import families, models
from tools.plans.sparse import write_sparse

COUNTS = (0, 1, 2, 4, 8)
OPTIONS = LlamaOptions(context=32768, slots=4)
ROUNDS = 5


def main() -> None:
    """Prints the median and the worst."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in (*models(), *further_models(), *families()):
            path = write_sparse(Path(folder) / f"{model.name}.gguf", model.family, model.header(), model.layout)
            shape = shape_of(read_set(path))
            read = cost(partial(read_set, path))
            rows += [
                (cost(partial(estimate, shape, OPTIONS, [Card(80 << 30)] * count)), read, f"{model.name}, {count} GPUs")
                for count in COUNTS
            ]
    worst = max(rows)
    print(f"{len(rows) // len(COUNTS)} models on {COUNTS} GPUs, {ROUNDS} rounds each, CPU milliseconds (the least)")
    print(f"estimate: median {median(row[0] for row in rows):.2f}, worst {worst[0]:.2f} ({worst[2]})")
    print(f"header:   median {median(row[1] for row in rows):.2f}")
    print(f"estimate / header: median {median(row[0] / row[1] for row in rows):.2f}")


def cost(work: Callable[[], object]) -> float:
    """Milliseconds of CPU, the least of several rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1000


if __name__ == "__main__":
    main()
