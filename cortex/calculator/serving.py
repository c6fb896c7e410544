"""Engines that fill a budget (vLLM, SGLang, TGI): what a cache costs per rank, and how much a budget yields."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cortex.calculator.arguments import Flag, human_number, read_flags, switched_on
from cortex.calculator.shape import Layer, Shape
from cortex.calculator.weights import stages_of
from engines.habits import ServeOptions

SPARSE_MLA_BYTES = 656
SCALED, SCALE_BYTES = 128, 4  # an index is kept in 8 bits, with a scale for each so many values


@dataclass(frozen=True, slots=True)
class Kind:
    """Layers that cache alike: ``page`` bytes per layer hold ``tokens`` (0: states, so many ``pages`` per request)."""

    layers: int
    page: int
    tokens: int
    window: int = 0
    chunked: bool = False
    pages: int = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """What a budget becomes: ``blocks`` of ``block_bytes`` each, shared by ``kinds`` in ``groups``."""

    kinds: tuple[Kind, ...]
    groups: tuple[int, ...]
    block_bytes: int
    blocks: int


def token_bytes(layer: Layer, shape: Shape, options: ServeOptions) -> int:
    """Bytes one token takes in one layer on one rank: (K + V) x heads kept by the rank; compressed heads are not split.

    Heads are replicated when there are fewer than ranks. A sparse index is on every rank.
    """
    width = options.cache_width
    if shape.mla is not None:
        index = layer.indexer + SCALE_BYTES * -(-layer.indexer // SCALED)
        if options.cache_type == "fp8_ds_mla":
            return SPARSE_MLA_BYTES + index
        return math.ceil((shape.mla.rank + shape.mla.rope) * width) + index
    heads = -(-layer.kv_heads // options.tensor)
    return math.ceil(heads * (layer.key + layer.value) * width)


def state_page(layer: Layer, shape: Shape, options: ServeOptions) -> int:
    """Bytes of one recurrent state on one rank: 16-bit convolution (longer by guessed tokens) and 32-bit state."""
    kept = max(shape.recurrence.kernel - 1, 1) if shape.recurrence else 3
    conv = layer.conv * (kept + options.draft_tokens) // kept
    return -(-(2 * conv + 4 * layer.state) // options.tensor)


def stage_layers(shape: Shape, options: ServeOptions) -> tuple[Layer, ...]:
    """The layers that cache in the pipeline stage where they take most, draft layers included; none of an encoder."""
    if not shape.causal:
        return ()
    attending = next((layer for layer in reversed(shape.trunk) if layer.kv_heads and not layer.shared_kv), None)
    drafts = [attending] * options.draft_layers if attending is not None else []
    drafts += [Layer(kv_heads=1, key=-(-width // max(1, options.tensor))) for width in options.draft_widths]
    found = [[layer for layer in stage if not layer.shared_kv] for stage in stages_of(shape.trunk, options.pipeline)]
    return (*max(found, key=lambda stage: _cached(stage, shape, options)), *drafts)


def _cached(layers: Sequence[Layer], shape: Shape, options: ServeOptions) -> int:
    return sum(token_bytes(layer, shape, options) + (state_page(layer, shape, options) if remembers(layer) else 0)
               for layer in layers)  # fmt: skip


def remembers(layer: Layer) -> bool:
    return bool(layer.state or layer.conv)


def kinds_of(shape: Shape, options: ServeOptions) -> tuple[Kind, ...]:
    """Layers of a stage sorted by how they cache; pages of attention grow to those of recurrent state."""
    counts: dict[tuple[int, int, bool], int] = {}
    states: dict[int, int] = {}
    for layer in stage_layers(shape, options):
        if layer.kv_heads:
            key = (token_bytes(layer, shape, options), layer.window, layer.chunked and layer.window > 0)
            counts[key] = counts.get(key, 0) + 1
        if remembers(layer):
            page = state_page(layer, shape, options)
            states[page] = states.get(page, 0) + 1
    widest = max((width for width, _, _ in counts), default=0)
    block = options.block
    if states and widest:
        tokens = -(-max(states) // widest)
        block = -(-tokens // options.block) * options.block
    page = max(block * widest, max(states, default=0))
    if not states and len({(window, chunked) for _, window, chunked in counts}) == 1:
        [(window, chunked)] = {(window, chunked) for _, window, chunked in counts}
        return (Kind(1, block * sum(width * count for (width, _, _), count in counts.items()), block, window, chunked),)
    attention = [
        Kind(count, page, block * max(1, widest // width), window, chunked)
        for (width, window, chunked), count in counts.items()
    ]
    pages = state_pages(shape, options) if attention else 1
    return (*attention, *(Kind(count, page, 0, pages=pages) for count in states.values()))


def state_pages(shape: Shape, options: ServeOptions) -> int:
    """Pages of state one request holds beside a cache of tokens, as vLLM 0.32 keeps them: the running one, the last
    kept for its prefix, and where the scan of a prompt can be cut anywhere (Mamba 2) the one it was cut at."""
    if options.state_pages:
        return options.state_pages
    scanned = shape.recurrence is not None and shape.recurrence.heads and not shape.recurrence.linear
    return 3 if scanned else 2


def pool_of(shape: Shape, options: ServeOptions, budget: int) -> Pool:
    """How ``budget`` bytes on a rank are cut into blocks that serve every kind of layer."""
    kinds = kinds_of(shape, options)
    if not kinds:
        return Pool((), (), 0, 0)
    size = _group_size([kind.layers for kind in kinds])
    groups = tuple(-(-kind.layers // size) for kind in kinds)
    block_bytes = kinds[0].page * size
    return Pool(kinds, groups, block_bytes, max(0, budget) // block_bytes)


def _group_size(counts: Sequence[int]) -> int:
    fewest, most = min(counts), max(counts)
    return most if most < 1.5 * fewest else fewest


def blocks_needed(pool: Pool, options: ServeOptions, length: int) -> int:
    """Blocks that one request of ``length`` tokens holds at most."""
    return sum(groups * _pages(kind, options, length) for kind, groups in zip(pool.kinds, pool.groups, strict=True))


def _pages(kind: Kind, options: ServeOptions, length: int) -> int:
    if not kind.tokens:
        return kind.pages
    if not kind.window:
        return -(-length // kind.tokens)
    under_way = options.in_flight * options.batched_tokens
    if kind.chunked:
        return -(-min(kind.window + under_way, length) // kind.tokens)
    return -(-min(kind.window - 1 + under_way, length) // kind.tokens) + 1


def request_bytes(shape: Shape, options: ServeOptions, length: int) -> int:
    """Cache bytes on one rank for one request of ``length`` tokens: the least that must fit to start."""
    pool = pool_of(shape, options, 0)
    return blocks_needed(pool, options, length) * pool.block_bytes


def concurrency(shape: Shape, options: ServeOptions, budget: int) -> float:
    """How many requests of full length ``budget`` bytes of cache on a rank hold at once; all where none is kept."""
    pool = pool_of(shape, options, budget)
    needed = blocks_needed(pool, options, options.length(shape))
    return pool.blocks / needed if needed else float(options.users)


def tokens_held(shape: Shape, options: ServeOptions, budget: int) -> int:
    """Tokens ``budget`` bytes of cache hold: blocks where all layers cache alike, else what full requests hold."""
    pool = pool_of(shape, options, budget)
    if len(pool.kinds) == 1 and pool.kinds[0].tokens and not pool.kinds[0].window:
        return pool.blocks * pool.kinds[0].tokens
    return tokens_told(shape, options, budget)


def tokens_told(shape: Shape, options: ServeOptions, budget: int) -> int:
    """Tokens as vLLM's log tells them since 2026: full requests at once times their length, blocks in part unused."""
    return int(concurrency(shape, options, budget) * options.length(shape))


def options_from(engine: Literal["vllm", "sglang", "tgi"], arguments: Sequence[str]) -> ServeOptions:
    """Options as the engine's own command line spells them. Raises ValueError when a value is not one."""
    kwargs = read_flags(arguments, FLAGS[engine])
    return ServeOptions(engine=engine, **({"fraction": FRACTIONS[engine]} | kwargs))  # type: ignore[arg-type]


FRACTIONS = {"vllm": 0.9, "sglang": 0.0, "tgi": 1.0}  # 0: as the card is
FLAGS: dict[str, tuple[Flag, ...]] = {
    "vllm": (
        (("--max-model-len",), "context", human_number),
        (("--max-num-seqs",), "users", human_number),
        (("-tp", "--tensor-parallel-size"), "tensor", int),
        (("-pp", "--pipeline-parallel-size"), "pipeline", int),
        (("--enable-expert-parallel",), "experts_apart", switched_on),
        (("--gpu-memory-utilization",), "fraction", float),
        (("--kv-cache-dtype",), "cache_type", str),
        (("--block-size",), "block", int),
        (("--max-num-batched-tokens",), "batched_tokens", human_number),
        (("--enforce-eager",), "eager", switched_on),
        (("--max-loras",), "loras", int),
        (("--max-lora-rank",), "lora_rank", int),
        (("--kv-cache-memory-bytes",), "cache_bytes", human_number),
        (("--language-model-only",), "language_only", switched_on),
    ),
    "sglang": (
        (("--context-length",), "context", human_number),
        (("--max-running-requests",), "users", int),
        (("--tp", "--tp-size", "--tensor-parallel-size"), "tensor", int),
        (("--pp-size", "--pipeline-parallel-size"), "pipeline", int),
        (("--mem-fraction-static",), "fraction", float),
        (("--kv-cache-dtype",), "cache_type", str),
        (("--page-size",), "block", int),
        (("--chunked-prefill-size",), "batched_tokens", int),
        (("--disable-cuda-graph",), "eager", switched_on),
    ),
    "tgi": (
        (("--max-total-tokens",), "context", int),
        (("--max-concurrent-requests",), "users", int),
        (("--num-shard",), "tensor", int),
        (("--cuda-memory-fraction",), "fraction", float),
        (("--kv-cache-dtype",), "cache_type", str),
        (("--max-batch-prefill-tokens",), "batched_tokens", int),
    ),
}
