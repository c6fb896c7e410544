"""Bytes of weights on each rank of an engine that splits layers over cards."""

from cortex.calculator.shape import Layer, LayerWeights, Shape
from engines.habits import ServeOptions

TILE_WIDE, TILE = 256, 128


def rank_weights(shape: Shape, options: ServeOptions) -> int:
    """Weights on the fullest rank: split ones divided, norms and routers copied, KV heads copied once too few.

    The first and the last stage also hold the embedding and the head; towers are on every rank.
    """
    if options.weight_bytes:
        return options.weight_bytes
    tower = 0 if options.language_only else shape.tower_bytes
    drafts = sum(layer_weights(layer, options) for layer in shape.layers if layer.draft) if options.draft_tokens else 0
    return max(_stages(shape, options)) + tower + drafts


def _stages(shape: Shape, options: ServeOptions) -> list[int]:
    """Weights of one rank in each pipeline stage: the first looks tokens up, the last has the head."""
    stages, ranks = max(1, options.pipeline), max(1, options.tensor)
    layers = [layer_weights(layer, options) for layer in shape.trunk]
    share = -(-len(layers) // stages)
    sums = [sum(layers[at : at + share]) for at in range(0, stages * share, share)]
    sums[0] += -(-shape.input_bytes // ranks)
    tied_elsewhere = shape.embedding if shape.tied and stages > 1 else 0
    sums[-1] += -(-(shape.output_bytes + tied_elsewhere) // ranks)
    return sums


def layer_weights(layer: Layer, options: ServeOptions) -> int:
    """Bytes of one layer on one rank."""
    ranks, weights = max(1, options.tensor), layer.weights
    kept = max(1, layer.kv_heads // ranks) / layer.kv_heads if layer.kv_heads else 1 / ranks
    parts = weights.split / ranks + weights.kv * kept + weights.copied + weights.experts / ranks
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
