"""What people may ask of llama.cpp that changes its memory, and where it then puts the layers."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from cortex.calculator.shape import Shape
from engines.habits import LlamaOptions

STATELESS = frozenset(
    {"bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada", "llada-moe",
     "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1"}
)  # fmt: skip
UNREMEMBERING = STATELESS | {"llama-embed"}  # the latter has a cache made for it, and no use for it
HOST = -1


def keeps_cache(shape: Shape) -> bool:
    """Whether llama.cpp makes a cache for this model; encoders see all their tokens at once."""
    return shape.family not in STATELESS


def uses_cache(shape: Shape) -> bool:
    """Whether the model's graph writes and reads that cache."""
    return shape.family not in UNREMEMBERING


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of each layer and of the output; HOST for the processor. ``whole`` says all is on GPUs."""

    layers: tuple[int, ...]
    output: int
    whole: bool


def place(shape: Shape, options: LlamaOptions, devices: int) -> Placement:
    """Spreads layers over ``devices`` as llama.cpp does: by cumulated shares over the offloaded layers plus output."""
    count = len(shape.layers)
    wanted = count + 1 if options.gpu_layers is None else options.gpu_layers
    first, offloaded = max(count + 1 - wanted, 0), min(wanted, count + 1)
    points = _points(options.split, devices)

    def device(layer: int) -> int:
        if not devices or layer < first or layer - first >= offloaded:
            return HOST
        return min(bisect_right(points, (layer - first) / offloaded), devices - 1)

    return Placement(tuple(device(layer) for layer in range(count)), device(count), wanted > count and devices > 0)


def lenders(shape: Shape, options: LlamaOptions, placement: Placement) -> tuple[int, int]:
    """Where the caches lie that layers without one share: with a window, and without. The last layers of each kind."""
    if not options.cache_on_gpu:
        return HOST, HOST
    own = sum(not layer.shared_kv for layer in shape.layers)
    return placement.layers[own - 2], placement.layers[own - 1]


def _points(split: Sequence[float], devices: int) -> list[float]:
    shares = list(split[:devices]) + [0.0] * (devices - len(split)) if any(split) else [1.0] * devices
    total = sum(shares) or 1.0
    return [point / total for point in accumulate(shares)]
