"""Which layers a graph has to be built of: buffers repeat, so that a few of each kind need what all need."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from cortex.calculator.llamacpp_options import HOST, Placement
from cortex.calculator.shape import Layer, Shape
from engines.habits import LlamaOptions

STRETCH, AMONG_OTHERS = 4, 3  # layers of one kind after each other that stand for more
ENDING = 5  # the last layers of a run: a hybrid's whole period
REPEATS = 2  # layers of a kind on a device that stand for all: buffers repeat after the second
SWAP, PARALLEL_SWAP, RECURRENT_SWAP = 2, 6, 8  # layers after which buffers are back in their places

Kind = tuple[object, ...]


def sample(shape: Shape, options: LlamaOptions, placement: Placement) -> list[int]:
    """Numbers of layers whose graph needs what the whole graph needs."""
    kinds = [
        (index < shape.deepstack, *_kind(layer, index < options.expert_layers_on_host))
        for index, layer in enumerate(shape.layers)
    ]
    trunk = [index for index, layer in enumerate(shape.layers) if not layer.draft]
    chosen: set[int] = set()
    swap = PARALLEL_SWAP if shape.parallel else RECURRENT_SWAP if shape.recurrent else SWAP
    for _, group in groupby(trunk, key=lambda index: placement.layers[index]):
        run = _thinned(kinds, list(group), PARALLEL_SWAP if shape.parallel else SWAP)
        chosen.update(_chosen(kinds, run, swap))
    chosen.update(_borrowers(shape, options, placement))
    chosen.update(_far_from_their_inputs(shape, placement))
    return sorted(chosen)


def _chosen(kinds: Sequence[Kind], run: Sequence[int], swap: int) -> set[int]:
    """Of a run of layers on one device: the beginning, until every kind was there twice, and the end.

    What is left out in between is a multiple of ``swap``.
    """
    chosen: set[int] = set()
    missing = {kind: min(REPEATS, count) for kind, count in Counter(kinds[each] for each in run).items()}
    for index in run:
        if not any(missing.values()):
            break
        chosen.add(index)
        missing[kinds[index]] = max(missing[kinds[index]] - 1, 0)
    chosen.update(run[-ENDING:])
    spare = [index for index in run if index not in chosen]
    return chosen | set(spare[: len(spare) % swap])


def _borrowers(shape: Shape, options: LlamaOptions, placement: Placement) -> list[int]:
    """Layers that share a cache which lies on another device: each makes its own copy."""
    own = sum(not layer.shared_kv for layer in shape.layers)
    lenders = {placement.layers[index] if options.cache_on_gpu else HOST for index in (own - 2, own - 1)}
    return [
        index for index, layer in enumerate(shape.layers) if layer.shared_kv and lenders != {placement.layers[index]}
    ]


def _far_from_their_inputs(shape: Shape, placement: Placement) -> list[int]:
    """Layers with inputs of their own that were projected on another device: each has a copy, made before the first."""
    if not shape.per_layer_input:
        return []
    first = placement.layers[0]
    return [index for index, place in enumerate(placement.layers) if place != first]


def _thinned(kinds: Sequence[Kind], run: list[int], swap: int) -> list[int]:
    """A run of layers whose stretches of one kind are cut to a few, by multiples of ``swap``."""
    kept: list[int] = []
    stretches = [list(group) for _, group in groupby(run, key=lambda index: kinds[index])]
    few = STRETCH if len(stretches) == 1 else AMONG_OTHERS
    for stretch in stretches:
        kept.extend(stretch[: few + (len(stretch) - few) % swap] if len(stretch) > few else stretch)
    return kept


def _kind(layer: Layer, apart: bool) -> Kind:
    apart = apart and layer.experts > 0
    mixer = layer.kv_heads, layer.key, layer.window, layer.state > 0, layer.shared_kv, layer.indexer, layer.keyed
    return *mixer, layer.experts, apart, layer.ff
