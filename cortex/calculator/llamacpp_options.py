"""What people may ask of llama.cpp that changes its memory, and where it then puts the layers."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from cortex.calculator.shape import Shape

CACHE_TYPES = frozenset({"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"})
WINDOW_PAD = 256
STATELESS = frozenset({"gemma-embedding", "dream", "llada", "llada-moe", "rnd1"})
HOST = -1


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """Options of llama-server. ``context`` counts tokens over all ``slots``; 0 means as trained.

    ``gpu_layers`` None offloads all. ``split`` are shares per GPU. ``outputs`` is how many tokens of a batch get
    logits: None for all (llama-fit-params, perplexity), ``slots`` in newer servers. ``pipelined`` is whether
    several GPUs overlap their work. ``lends_weights`` is whether the first GPU computes with the
    host's weights in large batches (CUDA does). ``expert_layers_on_host`` is ``--n-cpu-moe``. ``pinned`` is False
    for plans made without allocation, which forget on which device llama.cpp holds norms. ``wide_mask`` is for builds
    before mid-2026, which keep a 32-bit mask and narrow it on the device, ``window_by_batch`` for those of mid-2025,
    whose windows had room for a whole batch. ``projector_bytes`` and ``lora_bytes`` are
    the sizes of an image projector's and of adapters' files.
    """

    context: int = 0
    slots: int = 1
    batch: int = 2048
    ubatch: int = 512
    key_type: str = "f16"
    value_type: str = "f16"
    flash: bool = True
    gpu_layers: int | None = None
    split: tuple[float, ...] = ()
    unified: bool = False
    cache_on_gpu: bool = True
    whole_window: bool = False
    expert_layers_on_host: int = 0
    outputs: int | None = None
    pipelined: bool = True
    lends_weights: bool = False
    drafting: bool = False
    pinned: bool = True
    wide_mask: bool = False
    window_by_batch: bool = False
    projector_bytes: int = 0
    lora_bytes: int = 0

    def total_context(self, shape: Shape) -> int:
        """Cells over all slots after llama.cpp's rounding."""
        context = _padded(self.context or shape.context, 256)
        if self.unified:
            return context
        return max(_padded(context // self.slots, 256), 256) * self.slots

    def streams(self) -> int:
        return 1 if self.unified else self.slots

    def cells(self, shape: Shape) -> int:
        """Cells of one stream in a layer that sees everything."""
        return self.total_context(shape) // self.streams()

    def tokens(self, shape: Shape) -> int:
        """Tokens of the largest graph: the micro-batch, rounded to the slots."""
        context = self.context or shape.context
        batch = min(context, self.batch) if shape.causal else self.batch
        tokens = min(self.total_context(shape), batch, self.ubatch or batch)
        return -(-tokens // self.slots) * self.slots

    def window_cells(self, shape: Shape, window: int) -> int:
        """Cells of one stream in a layer with a window."""
        cells = self.cells(shape)
        if self.whole_window:
            return cells
        context = self.context or shape.context
        batch = min(context, self.batch) if shape.causal else self.batch
        ubatch = batch if self.window_by_batch else min(self.ubatch or self.batch, batch)
        return _padded(min(cells, window * (self.slots if self.unified else 1) + ubatch), WINDOW_PAD)


def keeps_cache(shape: Shape) -> bool:
    """Whether llama.cpp makes a cache for this model; encoders see all their tokens at once."""
    return shape.causal and shape.family not in STATELESS


def _padded(number: int, step: int) -> int:
    return -(-number // step) * step


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


def _points(split: Sequence[float], devices: int) -> list[float]:
    shares = list(split[:devices]) + [0.0] * (devices - len(split)) if any(split) else [1.0] * devices
    total = sum(shares) or 1.0
    return [point / total for point in accumulate(shares)]
