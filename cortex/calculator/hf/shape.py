"""From ``config.json`` and safetensors headers to a Shape, for a local folder or for files fetched in ranges."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cortex.calculator.hf.config import (
    LAYER_LIMIT,
    WIDTH,
    Config,
    absurd,
    language_config,
    layer_of,
    mla_of,
    recurrence_of,
)
from cortex.calculator.hf.families import ENCODERS, KNOWN
from cortex.calculator.hf.kinds import kinds_of
from cortex.calculator.hf.safetensors import OpenFile, Weight, read_json, read_model
from cortex.calculator.hf.tensors import Totals, parameters, types_of, with_experts_found, with_heads_found
from cortex.calculator.ranges import LocalFile
from cortex.calculator.shape import Layer, LayerWeights, Shape, why_impossible


def read_folder(folder: Path) -> Shape:
    """The shape of a model in a local folder. Raises UnreadableModel."""
    return read_repository(folder.name, lambda name: LocalFile(folder / name))


def read_repository(name: str, open_file: OpenFile) -> Shape:
    """The shape of a model whose files ``open_file`` opens by name, near or far. Raises UnreadableModel."""
    return shape_of(name, read_json(open_file("config.json")), read_model(open_file))


def shape_of(name: str, values: Mapping[str, object], weights: Iterable[Weight]) -> Shape:
    """The shape that a config and the tensors of its files describe."""
    config, tensors = language_config(values), tuple(weights)
    count = config.number("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    hidden = config.number(*WIDTH)
    if not 0 < count <= LAYER_LIMIT or not 0 < hidden <= 1 << 20:
        raise absurd(f"it has {count} layers of width {hidden}.")
    mla, recurrence = mla_of(config), recurrence_of(config)
    kinds = kinds_of(config, count)
    bare = [layer_of(config, kind, index, mla, recurrence) for index, kind in enumerate(kinds)]
    if config.stem not in KNOWN:
        bare = with_heads_found(bare, tensors)
    sums = Totals(tensors, bare, tied=config.says("tie_word_embeddings") or values.get("tie_word_embeddings") is True)
    own = count - config.number("num_kv_shared_layers")
    layers = with_experts_found(
        [replace(each, shared_kv=index >= own, weights=sums.weights(index)) for index, each in enumerate(bare)]
    )
    drafts = [replace(layers[-1], draft=True, weights=LayerWeights(split=sums.draft))] if sums.draft else []
    both_ways = config.says("use_bidirectional_attention") or config.values.get("is_causal") is False
    encodes = config.stem in ENCODERS or both_ways
    shape = Shape(
        name=name,
        family=config.family,
        layers=(*layers, *drafts),
        hidden=hidden,
        vocab=config.number("vocab_size", "padded_vocab_size"),
        context=config.length(),
        embedding=sums.table,
        input_bytes=sums.inputs,
        output_bytes=sums.output,
        tied=not sums.head,
        causal=not encodes,
        pooled=encodes,
        mla=mla,
        recurrence=recurrence,
        tower_bytes=sums.tower,
        file_bytes=sum(tensor.bytes for tensor in tensors),
        parameters=parameters(tensors, values),
        quantization=_quantization(values, tensors),
        types=types_of(tensors),
        assumptions=(*_assumptions(config, kinds, layers), *_holes(layers), *_left_alone(sums), *_narrow_cache(values)),
    )
    why = why_impossible(shape)
    if why:
        raise absurd(why)
    return shape


def _quantization(values: Mapping[str, object], tensors: Iterable[Weight]) -> str:
    described = values.get("quantization_config")
    if isinstance(described, dict):
        return str(described.get("quant_method") or described.get("quant_algo") or "quantized")
    types = types_of(tensors)
    return max(types, key=types.__getitem__) if types else ""


def _holes(layers: Sequence[Layer]) -> Iterator[str]:
    """Layers that the config has and the files do not: their weights are not guessed."""
    empty = sum(not layer.weights.total for layer in layers)
    if 0 < empty < len(layers):
        yield f"The files hold no weights of {empty} of its {len(layers)} layers: those are not counted."


def _left_alone(sums: Totals) -> Iterator[str]:
    if sums.silent:
        yield f"{sums.silent / (1 << 30):.1f} GiB of its files make speech: engines that serve text do not load them."


def _narrow_cache(values: Mapping[str, object]) -> Iterator[str]:
    """Files that come with scales for a narrow cache: which engines then keep one without being told is left open."""
    described = values.get("quantization_config")
    if isinstance(described, dict) and any(described.get(name) for name in NARROW):
        yield "Its files are made for a cache of 8 bits: an engine that keeps one by itself holds twice the tokens."


NARROW = ("kv_cache_scheme", "kv_cache_quant_algo")


def _assumptions(config: Config, kinds: Sequence[str], layers: Sequence[Layer]) -> Iterator[str]:
    """What was taken for granted, in words."""
    if config.stem not in KNOWN:
        family = config.family or "This family"
        yield f"{family} is not known: layers without a listed type are taken to cache every token."
    if config.left_out:
        yield f"Its config.json leaves out {', '.join(config.left_out)}: as usual in its family."
    unknown = sum(kind in STATEFUL and not (layer.state or layer.conv)
                  for kind, layer in zip(kinds, layers, strict=True))  # fmt: skip
    if unknown:
        yield f"{unknown} of its layers keep a state whose size its config.json does not tell: it is not counted."


STATEFUL = ("state", "conv", "both")
