"""How engines use memory, in the options that change it: some plan buffers, others fill a share of each card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

WINDOW_PAD = 256
CACHE_BYTES = {"auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "half": 2.0, "float32": 4.0,
               "nvfp4": 0.5625}  # fmt: skip


class Trained(Protocol):
    """What a model was trained for, as far as options are read against it: tokens of context; whether it generates."""

    @property
    def context(self) -> int: ...

    @property
    def causal(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """Options of llama-server. ``context`` counts tokens over all ``slots``; 0 means as trained.

    ``flash_forced`` is whether flash attention was asked for in so many words: else llama.cpp does without where it
    would run beside the cache on the host. ``gpu_layers`` None offloads all. ``split`` are shares per GPU. ``outputs``
    is how many tokens of a batch get logits: None for all (llama-fit-params, perplexity), ``slots`` in newer servers.
    ``pipelined`` is whether several GPUs overlap their work. ``lends_weights`` is whether the first GPU computes with
    the host's weights in large batches (CUDA does). ``expert_layers_on_host`` is ``--n-cpu-moe``. ``pinned`` is False
    for plans made without allocation, which forget on which device llama.cpp holds norms. ``wide_mask`` is for builds
    before mid-2026, which keep a 32-bit mask and narrow it on the device, ``window_by_batch`` for those of mid-2025,
    whose windows had room for a whole batch. ``mixed_inputs`` is for builds of late 2026 (seen in 0.7.0, build 11669),
    which make room for batches that mix tokens with vectors, for the states of all other users, and for whole blocks of
    an encoder's keys and values. ``projector_bytes``, ``lora_bytes`` and ``draft_bytes`` are the sizes of an image
    projector's, of adapters' and of a draft model's files, ``prompt_cache`` the most MiB of finished prompts kept in
    RAM (None: as many as the engine likes, below 0: no limit).
    """

    context: int = 0
    slots: int = 1
    batch: int = 2048
    ubatch: int = 512
    key_type: str = "f16"
    value_type: str = "f16"
    flash: bool = True
    flash_forced: bool = False
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
    mixed_inputs: bool = False
    projector_bytes: int = 0
    lora_bytes: int = 0
    draft_bytes: int = 0
    prompt_cache: int | None = None

    def total_context(self, shape: Trained) -> int:
        """Cells over all slots after llama.cpp's rounding."""
        context = _padded(self.context or shape.context, 256)
        if self.unified:
            return context
        return max(_padded(context // self.slots, 256), 256) * self.slots

    def streams(self) -> int:
        return 1 if self.unified else self.slots

    def cells(self, shape: Trained) -> int:
        """Cells of one stream in a layer that sees everything."""
        return self.total_context(shape) // self.streams()

    def step(self, shape: Trained) -> int:
        """Tokens of a micro-batch."""
        context = self.context or shape.context
        batch = min(context, self.batch) if shape.causal else self.batch
        return min(self.total_context(shape), batch, self.ubatch or batch)

    def tokens(self, shape: Trained) -> int:
        """Tokens of the largest graph: a micro-batch, rounded up to the slots."""
        return _padded(self.step(shape), self.slots)

    def window_cells(self, shape: Trained, window: int) -> int:
        """Cells of one stream in a layer with a window."""
        cells = self.cells(shape)
        if self.whole_window:
            return cells
        context = self.context or shape.context
        batch = min(context, self.batch) if shape.causal else self.batch
        ubatch = batch if self.window_by_batch else min(self.ubatch or self.batch, batch)
        return _padded(min(cells, window * (self.slots if self.unified else 1) + ubatch), WINDOW_PAD)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options of an engine that takes a share of each card and fills it.

    ``context`` is tokens per request (0: as trained), ``users`` requests at once, ``fraction`` of the card's total
    (vLLM, TGI) or that weights and cache may fill (SGLang; 0: as its card is). ``draft_layers`` are attention layers
    of EAGLE or MTP heads, ``draft_tokens`` what they guess ahead; a draft model of its own has ``draft_bytes`` of
    weights and caches ``draft_widths`` values per token in its layers, all before any split. ``language_only`` skips
    image and audio towers. ``weight_bits`` is what an engine makes of plain weights at the start (0: nothing),
    ``float_bytes`` how wide it holds floats. ``offloaded`` bytes of each rank's weights and ``swapped`` bytes of cache
    lie in host memory. ``in_flight`` batches may be under way at once, whose tokens windows must hold. ``state_pages``
    are pages of recurrent state a request holds (0: as vLLM 0.32 does of itself).
    """

    engine: Literal["vllm", "sglang", "tgi"] = "vllm"
    context: int = 0
    users: int = 256
    tensor: int = 1
    pipeline: int = 1
    experts_apart: bool = False
    fraction: float = 0.9
    cache_type: str = "auto"
    block: int = 16
    batched_tokens: int = 8192
    eager: bool = False
    loras: int = 0
    lora_rank: int = 16
    draft_layers: int = 0
    draft_tokens: int = 0
    draft_bytes: int = 0
    draft_widths: tuple[int, ...] = ()
    language_only: bool = False
    weight_bits: float = 0.0
    float_bytes: int = 2
    weight_bytes: int = 0
    cache_bytes: int = 0
    offloaded: int = 0
    swapped: int = 0
    in_flight: int = 1
    state_pages: int = 0

    def length(self, shape: Trained) -> int:
        return self.context or shape.context

    @property
    def cache_width(self) -> float:
        """Bytes of one cached value."""
        return 1.0 if self.cache_type.startswith(("fp8", "int8")) else CACHE_BYTES.get(self.cache_type, 2.0)


Habits = LlamaOptions | ServeOptions


@dataclass(frozen=True, slots=True)
class MemoryHabits:
    """An engine's word on how one launch uses memory.

    ``options`` are its habits in the calculator's terms. ``files`` names further files it loads, by the habit that
    holds their size: paths inside the container. ``assumptions`` say what the launch leaves to the engine. ``draft``
    is the path of a model that guesses ahead, whose layers have a cache of their own.
    """

    options: Habits
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    draft: str = ""


def _padded(number: int, step: int) -> int:
    return -(-number // step) * step
