"""From ``config.json`` and safetensors headers to a Shape, for a local folder or for files fetched in ranges."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cortex.calculator.hf_config import (
    ENCODERS,
    KNOWN,
    LAYER_LIMIT,
    Config,
    absurd,
    kinds_of,
    language_config,
    layer_of,
    mla_of,
    recurrence_of,
)
from cortex.calculator.ranges import LocalFile
from cortex.calculator.safetensors import OpenFile, Weight, read_json, read_model
from cortex.calculator.shape import Layer, LayerWeights, Shape, why_impossible

LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
TOWERS = ("vision", "visual", "audio", "image", "multi_modal", "mm_", "embed_vision", "embed_audio", "sound")
DRAFTS = ("mtp", "draft", "nextn")
INPUTS = ("embed_tokens", "wte", "wpe", "word_embeddings", "position_embeddings", "token_type_embeddings",
          "embeddings.", "tok_embeddings", "embedding.")  # fmt: skip
TABLES = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight", "embeddings.weight")
COMPRESSED = ("kv_a_proj", "q_a_proj", "mlp.gate.", "router", "e_score")


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
    hidden = config.number("hidden_size", "n_embd", "d_model")
    if not 0 < count <= LAYER_LIMIT or not 0 < hidden <= 1 << 20:
        raise absurd(f"it has {count} layers of width {hidden}.")
    sums = Totals(tensors, count)
    mla, recurrence = mla_of(config), recurrence_of(config)
    own = count - config.number("num_kv_shared_layers")
    layers = [
        replace(
            layer_of(config, kind, index, mla, recurrence),
            shared_kv=index >= own,
            weights=LayerWeights(*sums.layers[index]),
        )
        for index, kind in enumerate(kinds_of(config, count))
    ]
    drafts = [_draft(layers[-1], LayerWeights(split=sums.draft))] if sums.draft else []
    head = any(tensor.name.split(".")[-2:] == ["lm_head", "weight"] for tensor in tensors)
    shape = Shape(
        name=name,
        family=config.family,
        layers=(*layers, *drafts),
        hidden=hidden,
        vocab=config.number("vocab_size"),
        context=config.number("max_position_embeddings", "n_positions", "max_seq_len", default=4096),
        embedding=sums.table,
        input_bytes=sums.inputs,
        output_bytes=sums.output,
        tied=not head,
        causal=config.family not in ENCODERS,
        pooled=config.family in ENCODERS,
        mla=mla,
        recurrence=recurrence,
        tower_bytes=sums.tower,
        file_bytes=sum(tensor.bytes for tensor in tensors),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        quantization=_quantization(values, tensors),
        types=_types(tensors),
        assumptions=(*_assumptions(config), *_holes(layers)),
    )
    why = why_impossible(shape)
    if why:
        raise absurd(why)
    return shape


class Totals:
    """Bytes by what they are for."""

    def __init__(self, tensors: Iterable[Weight], count: int) -> None:
        self.layers = [[0, 0, 0, 0, 0] for _ in range(count)]
        self.inputs = self.output = self.tower = self.draft = self.table = 0
        for tensor in tensors:
            self._add(tensor, count)

    def _add(self, tensor: Weight, count: int) -> None:
        name = tensor.name
        layer = LAYER.search(name)
        if any(part.startswith(TOWERS) for part in name.split(".")[:3]):
            self.tower += tensor.bytes
        elif any(part in name for part in DRAFTS) or (layer and int(layer[1]) >= count):
            self.draft += tensor.bytes
        elif layer:
            sums = self.layers[int(layer[1])]
            sums[_kind(tensor)] += tensor.bytes
            sums[4] = max(sums[4], tensor.bytes)
        elif any(part in name for part in INPUTS):
            self.inputs += tensor.bytes
            self.table += tensor.bytes if name.endswith(TABLES) else 0
        else:
            self.output += tensor.bytes


def _kind(tensor: Weight) -> int:
    name = tensor.name
    if ".experts." in name or "experts.gate_up_proj" in name or "experts.down_proj" in name:
        return 3
    if len(tensor.shape) < 2 or any(part in name for part in COMPRESSED):
        return 2
    return 1 if ".k_proj." in name or ".v_proj." in name else 0


def _draft(layer: Layer, weights: LayerWeights) -> Layer:
    return replace(layer, draft=True, weights=weights)


def _quantization(values: Mapping[str, object], tensors: Iterable[Weight]) -> str:
    described = values.get("quantization_config")
    if isinstance(described, dict):
        return str(described.get("quant_method") or described.get("quant_algo") or "quantized")
    types = _types(tensors)
    return max(types, key=types.__getitem__) if types else ""


def _types(tensors: Iterable[Weight]) -> dict[str, int]:
    types: dict[str, int] = {}
    for tensor in tensors:
        types[tensor.dtype] = types.get(tensor.dtype, 0) + tensor.bytes
    return types


def _holes(layers: Sequence[Layer]) -> Iterator[str]:
    """Layers that the config has and the files do not: their weights are not guessed."""
    empty = sum(not layer.weights.total for layer in layers)
    if 0 < empty < len(layers):
        yield f"The files hold no weights of {empty} of its {len(layers)} layers: those are not counted."


def _assumptions(config: Config) -> tuple[str, ...]:
    if config.family in KNOWN:
        return ()
    return (
        f"{config.family or 'This family'} is not known: layers without a listed type are taken to cache every token.",
    )
