"""Bytes of weights on each rank of an engine that splits layers over cards."""

from collections.abc import Sequence

from cortex.calculator.shape import Layer, LayerWeights, Shape
from engines.habits import ServeOptions

TILE_WIDE, TILE = 256, 128
PLAIN_BITS = 16  # weights of so many bits are those an engine can make smaller at the start


def rank_weights(shape: Shape, options: ServeOptions) -> int:
    """Weights on the fullest rank: split ones divided, norms and routers copied, KV heads copied once too few.

    The first and the last stage also hold the embedding and the head; towers are on every rank.
    """
    return max(0, whole_rank(shape, options) - options.offloaded)


def whole_rank(shape: Shape, options: ServeOptions) -> int:
    """The same with what is kept in host memory."""
    if options.weight_bytes:
        return options.weight_bytes
    kept = shrinks(shape, options) or 1.0
    tower = 0 if options.language_only else shape.tower_bytes
    guessing = [layer for layer in shape.layers if layer.draft and options.draft_tokens]
    drafts = sum(layer_weights(layer, options, kept) for layer in guessing)
    own = -(-options.draft_bytes // max(1, options.tensor))
    return max(_stages(shape, options, kept)) + tower + drafts + own


def stages_of(layers: Sequence[Layer], stages: int) -> list[Sequence[Layer]]:
    """Layers over pipeline stages as vLLM deals them: what does not divide goes to the stages before the last."""
    stages = max(1, stages)
    least, rest = divmod(len(layers), stages)
    counts = [least + (1 if 2 <= stages - at <= rest + 1 else 0) for at in range(stages)]
    starts = [sum(counts[:at]) for at in range(stages)]
    return [layers[start : start + count] for start, count in zip(starts, counts, strict=True)]


def _stages(shape: Shape, options: ServeOptions, kept: float) -> list[int]:
    """Weights of one rank in each pipeline stage: the first looks tokens up, the last has the head."""
    stages, ranks = max(1, options.pipeline), max(1, options.tensor)
    sums = [sum(layer_weights(layer, options, kept) for layer in each) for each in stages_of(shape.trunk, stages)]
    sums[0] += -(-shape.input_bytes // ranks)
    tied_elsewhere = shape.embedding if shape.tied and stages > 1 else 0
    sums[-1] += -(-(shape.output_bytes + tied_elsewhere) // ranks)
    return sums


def shrinks(shape: Shape, options: ServeOptions) -> float | None:
    """The share of their bytes that linear weights keep when the engine quantizes them at the start; None: it cannot.

    Only 16-bit files can be quantized so; embeddings, the head, norms and routers stay as they are.
    """
    if not options.weight_bits or shape.quantization.upper() not in ("BF16", "F16", "FLOAT16", "BFLOAT16"):
        return None
    return options.weight_bits / PLAIN_BITS


def layer_weights(layer: Layer, options: ServeOptions, kept: float = 1.0) -> int:
    """Bytes of one layer on one rank, ``kept`` as in ``shrinks``. Whole experts go to a rank where they are apart."""
    ranks, weights = max(1, options.tensor), layer.weights
    heads = -(-layer.kv_heads // ranks) / layer.kv_heads if layer.kv_heads else 1 / ranks
    experts = -(-layer.experts // ranks) / layer.experts if options.experts_apart and layer.experts else 1 / ranks
    parts = kept * (weights.split / ranks + weights.kv * heads + weights.experts * experts) + weights.copied
    return int(parts) + 1


def tiled_experts(hidden: int, ff: int) -> float:
    """How much larger 4-bit experts become when an engine rearranges them for its kernels: padded to whole tiles."""
    wide = -(-hidden // TILE_WIDE) * TILE_WIDE / hidden
    return wide * (-(-ff // TILE) * TILE / ff)


def lora_bytes(shape: Shape, options: ServeOptions) -> int:
    """Room for adapters on one rank: rank x (in + out) x 2 bytes for each projection of each layer, each adapter."""
    sides = sum(_sides(shape.hidden, layer) for layer in shape.trunk)
    return 2 * options.loras * options.lora_rank * sides // max(1, options.tensor)


def _sides(hidden: int, layer: Layer) -> int:
    query, key_value = layer.heads * layer.key, layer.kv_heads * (layer.key + layer.value)
    attention = 2 * (hidden + query) + 2 * hidden + key_value
    return attention + 3 * (hidden + layer.ff)


def plain_weights(hidden: int, layer: Layer, width: float) -> LayerWeights:
    """A layer's weights from its sizes alone, ``width`` bytes each: for models whose files are not at hand."""
    query, keys, values = layer.heads * layer.key, layer.kv_heads * layer.key, layer.kv_heads * layer.value
    dense = 3 * hidden * (layer.shared_ff if layer.experts else layer.ff)
    return LayerWeights(
        split=int((2 * hidden * query + dense) * width),
        kv=int(hidden * (keys + values) * width),
        copied=int((2 * hidden + layer.experts * hidden) * 2),
        experts=int(3 * hidden * layer.expert_ff * layer.experts * width),
        largest=int(hidden * max(layer.ff, layer.expert_ff * layer.experts) * width),
    )
