"""What llama.cpp plans before it allocates: model, context and compute bytes per device and on the host."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cortex.calculator.arguments import Flag, read_flags, switched_off, switched_on
from cortex.calculator.ggml import row_bytes
from cortex.calculator.gguf.families import INDEXED
from cortex.calculator.llamacpp.altup import AltupGraph, LayerInputsGraph
from cortex.calculator.llamacpp.deci import DeciGraph
from cortex.calculator.llamacpp.encoders import POST_NORMED, ModernGraph, PostNormedGraph, PreNormedGraph
from cortex.calculator.llamacpp.graph import LlamaGraph
from cortex.calculator.llamacpp.indexed import IndexedGraph
from cortex.calculator.llamacpp.lightning import LightningGraph
from cortex.calculator.llamacpp.places import HOST, Placement, keeps_cache, place
from cortex.calculator.llamacpp.sample import sample
from cortex.calculator.shape import Shape
from engines.habits import LlamaOptions

GRAPHS: dict[str, type[LlamaGraph]] = {
    "deci": DeciGraph,
    "gemma3n": AltupGraph,
    "gemma4": LayerInputsGraph,
    "minimax-01": LightningGraph,
    "modern-bert": ModernGraph,
    **dict.fromkeys(INDEXED, IndexedGraph),
    **dict.fromkeys(POST_NORMED, PostNormedGraph),
    **dict.fromkeys(("eurobert", "gemma-embedding", "llama-embed", "neo-bert"), PreNormedGraph),
}
WIDE_TYPES = frozenset({"f32", "f16", "bf16"})  # of values that attention can do with unless it is flash
UNEVEN = frozenset({"deci"})  # make room for the widest values even in layers that do not attend
AUTO_SLOTS = 4
FLASHLESS = frozenset({"grok"})  # llama.cpp does not use flash attention for these, whatever it is told
REPACKED, REPACKED_ROWS = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"}), 8


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """Bytes on one device. ``state`` is the recurrent part of ``context``."""

    model: int
    context: int
    compute: int
    state: int = 0

    @property
    def total(self) -> int:
        return self.model + self.context + self.compute


@dataclass(frozen=True, slots=True)
class LlamaPlan:
    """Buffers per GPU and on the host, as llama-fit-params prints them."""

    devices: tuple[DevicePlan, ...]
    host: DevicePlan


def plan(shape: Shape, options: LlamaOptions, devices: int) -> LlamaPlan:
    """The buffers llama.cpp reserves for ``shape`` on ``devices`` GPUs (0: the processor only)."""
    if shape.family in FLASHLESS:
        options = replace(options, flash=False)
    placement = place(shape, options, devices)
    model = _model(shape, options, placement, devices)
    caches = cache_bytes(shape, options, placement, devices)
    states = state_bytes(shape, options, placement, devices)
    chosen = sample(shape, options, placement)
    graph = GRAPHS.get(shape.family, LlamaGraph)(shape, options, placement, devices)
    compute = graph.buffers(chosen.layers)
    if graph.strays() and not options.flash_forced and options.value_type in WIDE_TYPES:
        return plan(shape, replace(options, flash=False), devices)
    for device, like in chosen.twins.items():
        compute[device] = compute[like]
    plans = [
        DevicePlan(*sums, state)
        for sums, state in zip(
            zip(model, (cache + state for cache, state in zip(caches, states, strict=True)), compute, strict=True),
            states,
            strict=True,
        )
    ]
    return LlamaPlan(tuple(plans[:-1]), plans[-1])


def _slot(device: int, devices: int) -> int:
    return devices if device == HOST else device


def _model(shape: Shape, options: LlamaOptions, placement: Placement, devices: int) -> list[int]:
    """Weights per device: the input tables stay on the host, a tied head is a second copy where the output runs.

    Even there when the processor wants it in another order.
    """
    sums = [0] * (devices + 1)
    sums[devices] += shape.input_bytes
    output = _slot(placement.output, devices)
    sums[output] += shape.output_bytes
    if shape.tied and (output != devices or _is_repacked(shape, options)):
        sums[output] += shape.embedding
    kept = options.expert_layers_on_host
    for index, layer in enumerate(shape.layers):
        if layer.draft and not options.drafting:
            continue
        experts = layer.weights.experts if index < kept else 0
        sums[_slot(placement.layers[index], devices)] += layer.weights.total - experts
        sums[devices] += experts
    return sums


def _is_repacked(shape: Shape, options: LlamaOptions) -> bool:
    """Whether the processor keeps a head of this type rearranged: eight rows at a time, where no GPU shares the host's
    weights (ggml_repack_get_optimal_repack_type on x86-64)."""
    return shape.embedding_type in REPACKED and shape.vocab % REPACKED_ROWS == 0 and not options.lends_weights


def cache_bytes(shape: Shape, options: LlamaOptions, placement: Placement, devices: int) -> list[int]:
    """Bytes of K and V per device, the host last: rows of each type x cells x streams of every layer that has them."""
    sums = [0] * (devices + 1)
    if not keeps_cache(shape):
        return sums
    widest = max((layer.kv_heads * layer.value for layer in shape.layers), default=0)
    for index, layer in enumerate(shape.layers):
        if layer.shared_kv or layer.draft != options.drafting or not (layer.kv_heads or shape.family in UNEVEN):
            continue
        width = layer.kv_heads * layer.value
        if (width or not layer.kv_heads) and not options.flash:
            width = widest
        row = row_bytes(options.key_type, layer.kv_heads * layer.key) + row_bytes(options.value_type, width)
        row += row_bytes(options.key_type, layer.indexer)
        cells = options.window_cells(shape, layer.window) if layer.window else options.cells(shape)
        where = _slot(placement.layers[index], devices) if options.cache_on_gpu else devices
        sums[where] += row * cells * options.streams()
    return sums


def state_bytes(shape: Shape, options: LlamaOptions, placement: Placement, devices: int) -> list[int]:
    """Bytes of recurrent state per device: 32-bit values, one set per slot."""
    sums = [0] * (devices + 1)
    for index, layer in enumerate(shape.layers):
        if not layer.draft:
            where = _slot(placement.layers[index], devices) if options.cache_on_gpu else devices
            sums[where] += 4 * (layer.conv + layer.state) * options.slots
    return sums


def options_from(arguments: Sequence[str]) -> LlamaOptions:
    """Options as llama.cpp's command line spells them; those without weight for memory are passed over.

    Raises ValueError when a value is not one.
    """
    kwargs = read_flags(arguments, FLAGS)
    options = LlamaOptions(**kwargs)  # type: ignore[arg-type]
    if options.slots < 1:  # "auto"
        return replace(options, slots=AUTO_SLOTS, unified=True)
    return options


def _layers(text: str) -> int | None:
    number = int(text) if text.lstrip("-").isdigit() else -1
    return number if number >= 0 else None


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.replace("/", ",").split(","))


FLAGS: tuple[Flag, ...] = (
    (("-c", "--ctx-size"), "context", int),
    (("-np", "--parallel"), "slots", int),
    (("-b", "--batch-size"), "batch", int),
    (("-ub", "--ubatch-size"), "ubatch", int),
    (("-ctk", "--cache-type-k"), "key_type", str.lower),
    (("-ctv", "--cache-type-v"), "value_type", str.lower),
    (("-fa", "--flash-attn"), "flash", lambda text: text not in ("off", "0", "false")),
    (("-fa", "--flash-attn"), "flash_forced", lambda text: text in ("on", "1", "true")),
    (("-ngl", "--gpu-layers", "--n-gpu-layers"), "gpu_layers", _layers),
    (("-ts", "--tensor-split"), "split", _shares),
    (("-kvu", "--kv-unified"), "unified", switched_on),
    (("-nkvo", "--no-kv-offload"), "cache_on_gpu", switched_off),
    (("--swa-full",), "whole_window", switched_on),
    (("-ncmoe", "--n-cpu-moe"), "expert_layers_on_host", int),
    (("-cmoe", "--cpu-moe"), "expert_layers_on_host", lambda text: 1 << 20),
)
