"""What the tensors of safetensors files are for, by their names, shapes and types."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cortex.calculator.hf.safetensors import Weight
from cortex.calculator.shape import Layer, LayerWeights

LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d{1,6})\.")
TOWERS = ("vision", "visual", "audio", "image", "multi_modal", "mm_", "embed_vision", "embed_audio", "sound", "speech",
          "vpm", "apm", "resampler", "mlp1", "vit", "sam_", "aligner", "connector", "projector")  # fmt: skip
SILENT = ("talker", "token2wav", "code2wav", "tts")  # speech output, which engines that serve text do not load
DRAFTS = ("mtp", "draft", "nextn")
INPUTS = ("embed_tokens", "wte", "wpe", "word_embeddings", "position_embeddings", "token_type_embeddings",
          "embeddings.", "tok_embeddings", "embedding.")  # fmt: skip
TABLES = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight", "embeddings.weight")
HEADS = frozenset({"lm_head", "output_layer", "embed_out"})
COMPRESSED = ("kv_a_proj", "q_a_proj", "qkv_a_proj", "mlp.gate.", "router", "e_score", "indexer")
FUSED = ("qkv_proj.", "query_key_value.", "Wqkv.", "qkv.", "attn.c_attn.")
EXPERTS = (".experts.", "block_sparse_moe.input_linear",
           "block_sparse_moe.output_linear")  # fmt: skip
SCALES = ("absmax", "quant_map", "quant_state", "scale", "scales", "scale_inv", "qzeros", "zero_point", "g_idx",
          "weight_shape", "input_scale", "_scales", "bitsandbytes__nf4", "bitsandbytes__fp4")  # fmt: skip


class Totals:
    """Bytes by what they are for. ``loaded`` are all that an engine loads; a head that is tied to the table is not."""

    def __init__(self, tensors: Iterable[Weight], layers: Sequence[Layer], *, tied: bool) -> None:
        self.layers = [[0, 0, 0, 0, 0] for _ in layers]
        self.shares = [_share_of_kv(layer) for layer in layers]
        self.inputs = self.output = self.tower = self.draft = self.table = self.head = self.silent = 0
        for tensor in tensors:
            self._add(tensor)
        self.output += 0 if tied and self.table else self.head

    def weights(self, index: int) -> LayerWeights:
        return LayerWeights(*self.layers[index])

    def _add(self, tensor: Weight) -> None:
        name = tensor.name
        layer, parts = LAYER.search(name), name.split(".")
        if parts[0] in SILENT:
            self.silent += tensor.bytes
        elif any(part.startswith(TOWERS) for part in parts[:3]):
            self.tower += tensor.bytes
        elif any(part in name for part in DRAFTS) or (layer and int(layer[1]) >= len(self.layers)):
            self.draft += tensor.bytes
        elif layer:
            self._add_to_layer(int(layer[1]), tensor)
        elif HEADS & set(parts):
            self.head += tensor.bytes
        elif any(part in name for part in INPUTS):
            self.inputs += tensor.bytes
            self.table += tensor.bytes if name.endswith(TABLES) else 0
        else:
            self.output += tensor.bytes

    def _add_to_layer(self, index: int, tensor: Weight) -> None:
        sums, kind = self.layers[index], _kind(tensor)
        fused = kind == 0 and any(part in tensor.name for part in FUSED)
        kept = int(tensor.bytes * self.shares[index]) if fused else 0
        sums[1] += kept
        sums[kind] += tensor.bytes - kept
        sums[4] = max(sums[4], tensor.bytes)


def _share_of_kv(layer: Layer) -> float:
    """The part of a projection to queries, keys and values at once that makes keys and values."""
    kept = layer.kv_heads * (layer.key + layer.value)
    return kept / (layer.heads * layer.key + kept) if kept and layer.value else 0.0


def _kind(tensor: Weight) -> int:
    """Which of a layer's sums a tensor belongs to: split, keys and values, copied, experts."""
    name = tensor.name
    if any(part in name for part in EXPERTS):
        return 3
    whole = len(tensor.shape) < 2 and not name.endswith("absmax")
    if whole or any(part in name for part in COMPRESSED):
        return 2
    return 1 if ".k_proj." in name or ".v_proj." in name else 0


def parameters(tensors: Iterable[Weight], config: Mapping[str, object]) -> int:
    """Weights of the model: packed ones counted one by one, their scales not at all."""
    bits = _bits(config)
    return sum(math.prod(each.shape) * _packed(each, bits) for each in tensors if not each.name.endswith(SCALES))


def _packed(tensor: Weight, bits: int) -> int:
    """How many weights one value of a tensor holds."""
    if tensor.dtype == "I32" and tensor.name.endswith(("qweight", "weight_packed", "weight")):
        return 32 // bits
    halves = tensor.dtype == "U8" and tensor.name.endswith(("weight_packed", "_blocks", "weight", "_proj"))
    return 2 if halves else 1


def _bits(config: Mapping[str, object]) -> int:
    """Bits of a packed weight, 4 where the config does not say."""
    described = config.get("quantization_config")
    if not isinstance(described, dict):
        return 4
    told = [described.get("bits"), described.get("w_bit"), _bits_of_group(described.get("config_groups"))]
    return next((bits for bits in told if isinstance(bits, int) and bits in (2, 3, 4, 8)), 4)


def _bits_of_group(groups: object) -> object:
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    inner = first.get("weights") if isinstance(first, dict) else None
    return inner.get("num_bits") if isinstance(inner, dict) else None


def types_of(tensors: Iterable[Weight]) -> dict[str, int]:
    """Bytes by type."""
    types: dict[str, int] = {}
    for tensor in tensors:
        types[tensor.dtype] = types.get(tensor.dtype, 0) + tensor.bytes
    return types


def with_experts_found(layers: Sequence[Layer]) -> list[Layer]:
    """Layers as the files prove them: where some have experts, those without have none."""
    if not any(layer.weights.experts for layer in layers):
        return list(layers)
    return [layer if layer.weights.experts else replace(layer, experts=0, experts_used=0, shared_ff=0)
            for layer in layers]  # fmt: skip


def with_heads_found(layers: Sequence[Layer], tensors: Iterable[Weight]) -> list[Layer]:
    """Layers of a family nobody knows, with as many heads of keys as the shapes of its projections prove."""
    widths: dict[int, int] = {}
    for tensor in tensors:
        found = LAYER.search(tensor.name)
        if found and tensor.name.endswith("attn.k_proj.weight") and len(tensor.shape) == 2 and tensor.dtype != "U8":
            widths[int(found[1])] = tensor.shape[0]
    return [_with_width(layer, widths.get(index, 0)) for index, layer in enumerate(layers)]


def _with_width(layer: Layer, width: int) -> Layer:
    if not layer.value or not layer.kv_heads or not width or width % layer.key:
        return layer
    return replace(layer, kv_heads=width // layer.key)
