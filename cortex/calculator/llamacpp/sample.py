"""Which layers a graph has to be built of: buffers repeat, so that a few of each kind need what all need."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cortex.calculator.llamacpp.places import HOST, Placement, lenders
from cortex.calculator.llamacpp.turns import is_turned
from cortex.calculator.shape import Layer, Shape
from engines.habits import LlamaOptions

STRETCH, AMONG_OTHERS = 4, 3  # layers of one kind after each other that stand for more
ENDING, IRREGULAR_ENDING = 5, 9  # the last layers of a run: a hybrid's whole period, and more where there is none
LONGEST_PERIOD = 8
REPEATS = 2  # layers of a kind on a device that stand for all: buffers repeat after the second
SWAP, PARALLEL_SWAP, RECURRENT_SWAP = 2, 6, 8  # layers after which buffers are back in their places

Kind = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers of layers whose graph needs what the whole graph needs; ``twins`` are GPUs left out, each with the one
    that needs the same."""

    layers: list[int]
    twins: dict[int, int]


def sample(shape: Shape, options: LlamaOptions, placement: Placement) -> Sample:
    """Of each run of layers on one device a few, of alike runs between two other GPUs the first alone."""
    kinds = [
        (index < shape.deepstack, is_turned(shape, layer, index), *_kind(layer, index < options.expert_layers_on_host))
        for index, layer in enumerate(shape.layers)
    ]
    trunk = [index for index, layer in enumerate(shape.layers) if not layer.draft]
    runs = [list(group) for _, group in groupby(trunk, key=lambda index: placement.layers[index])]
    twins = _twins(runs, kinds, placement)
    chosen: set[int] = set()
    swap = PARALLEL_SWAP if shape.parallel else RECURRENT_SWAP if shape.recurrent else SWAP
    for run in runs:
        chosen.update(_chosen(kinds, _thinned(kinds, run, PARALLEL_SWAP if shape.parallel else SWAP), swap))
    chosen.update(_borrowers(shape, options, placement))
    return Sample(sorted(index for index in chosen if placement.layers[index] not in twins), twins)


def _twins(runs: Sequence[list[int]], kinds: Sequence[Kind], placement: Placement) -> dict[int, int]:
    """GPUs between two others whose layers, and the one before them, are of the same kinds as an earlier one's."""
    seen: dict[tuple[Kind, ...], int] = {}
    twins = {}
    for run in [run for run in runs if placement.layers[run[0]] != HOST][1:-1]:
        device = placement.layers[run[0]]
        first = seen.setdefault(tuple(kinds[index] for index in (run[0] - 1, *run)), device)
        if first != device:
            twins[device] = first
    return twins


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
    chosen.update(run[-(ENDING if _is_regular([kinds[index] for index in run]) else IRREGULAR_ENDING) :])
    spare = [index for index in run if index not in chosen]
    return chosen | set(spare[: len(spare) % swap])


def _is_regular(run: Sequence[Kind]) -> bool:
    """Whether kinds of layers come back in the same order."""
    return any(run[period:] == run[:-period] for period in range(1, LONGEST_PERIOD + 1))


def _borrowers(shape: Shape, options: LlamaOptions, placement: Placement) -> list[int]:
    """Layers that each make a copy of what lies on another device: of a cache they share, of inputs of their own."""
    lending = set(lenders(shape, options, placement))
    return [
        index
        for index, (layer, place) in enumerate(zip(shape.layers, placement.layers, strict=True))
        if (layer.shared_kv and lending != {place}) or (shape.per_layer_input and place != placement.layers[0])
    ]


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
