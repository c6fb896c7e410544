"""What each layer of a GGUF model has: caches, windows, states, experts, and its weights."""

from cortex.calculator.gguf.families import (
    ASSUMED_WINDOWS,
    FIXED_WINDOWS,
    HEADLESS_HYBRIDS,
    INDEXED,
    INPUTS,
    INTERVAL_HYBRIDS,
    KEYED,
    OUTPUTS,
    PATTERNS,
    RECURRENT,
    WINDOWED,
    WINDOWED_DEPTHS,
)
from cortex.calculator.gguf.header import GgufHeader, Tensor, damaged
from cortex.calculator.gguf.keys import Keys
from cortex.calculator.shape import Indexer, Layer, LayerWeights, Mla

SHARED_INDEX_CONTEXT, INDEX_LEAD, INDEX_PERIOD = 1 << 20, 2, 4  # GLM 5.2, where a header does not say


def sparse_index(keys: Keys) -> Indexer:
    if keys.header.architecture not in INDEXED:
        return Indexer()
    heads, key, top = (keys.number(f"attention.indexer.{part}") for part in ("head_count", "key_length", "top_k"))
    return Indexer(heads, key, top)


def _index_widths(keys: Keys, count: int) -> list[int]:
    """The width of the index that each layer keeps: some look where the one before them did."""
    facts = sparse_index(keys)
    if not facts.key:
        return [0] * count
    listed = keys.raw("attention.indexer.types")
    if isinstance(listed, tuple):
        own = [bool(each) for each in listed]
    elif keys.header.architecture == "glm-dsa" and keys.number("context_length") >= SHARED_INDEX_CONTEXT:
        own = [layer < INDEX_LEAD or (layer - INDEX_LEAD) % INDEX_PERIOD == 0 for layer in range(count)]
    else:
        own = [True] * count
    trunk = count - keys.number("nextn_predict_layers")
    return [facts.key if layer < trunk and own[layer : layer + 1] != [False] else 0 for layer in range(count)]


def _state(keys: Keys) -> tuple[int, int]:
    """Convolution and state values per sequence of a recurrent layer (as llama_hparams::n_embd_r and n_embd_s)."""
    hidden, heads = keys.number("embedding_length"), keys.number("attention.head_count")
    kernel = keys.number("ssm.conv_kernel")
    if head := keys.number("wkv.head_size"):
        return keys.number("token_shift_count", 2) * hidden, hidden * head
    if cells := keys.number("shortconv.l_cache"):
        return hidden * (cells - 1), 0
    if head := keys.number("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * heads * head, head * head * heads
    if keys.header.architecture == "minimax-01":
        return 0, heads * keys.number("attention.key_length") ** 2
    inner, state, groups = (keys.number(f"ssm.{key}") for key in ("inner_size", "state_size", "group_count"))
    return max(kernel - 1, 0) * (inner + 2 * groups * state), state * inner


def _recurrent_layers(keys: Keys, count: int, kv_heads: list[int], ff: list[int]) -> list[bool]:
    family, trunk = keys.header.architecture, count - keys.number("nextn_predict_layers")
    if family in RECURRENT or family == "falcon-h1":
        return [True] * count
    listed = keys.raw("attention.recurrent_layers")
    if isinstance(listed, tuple) and len(listed) >= count:
        return [bool(each) for each in listed[:count]]
    if family in INTERVAL_HYBRIDS:
        interval = max(keys.number("full_attention_interval", INTERVAL_HYBRIDS[family]), 1)
        return [index < trunk and (index + 1) % interval != 0 for index in range(count)]
    if family.startswith("nemotron_h"):
        return [index < trunk and not kv_heads[index] and not ff[index] for index in range(count)]
    return [family in HEADLESS_HYBRIDS and not kv_heads[index] for index in range(count)]


def _windows(keys: Keys, count: int) -> list[int]:
    family = keys.header.architecture
    if family not in WINDOWED or WINDOWED_DEPTHS.get(family, count) != count:
        return [0] * count
    window = keys.number("attention.sliding_window", ASSUMED_WINDOWS.get(family, 0))
    window = FIXED_WINDOWS.get(family, window) if window else 0
    pattern = keys.raw("attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and len(pattern) >= count:
        return [window if flag else 0 for flag in pattern[:count]]
    period, first = PATTERNS.get(family, (1, False))
    period = keys.number("attention.sliding_window_pattern", period)
    trunk = count - keys.number("nextn_predict_layers")
    return [window if index < trunk and _in_window(index, period, first) else 0 for index in range(count)]


def _in_window(index: int, period: int, full_first: bool) -> bool:
    """As llama_hparams::set_swa_pattern: one layer of each period sees everything, its first or its last."""
    if period == 0:
        return True
    return index % period != 0 if full_first else index % period < period - 1


def _own_cache(keys: Keys, count: int) -> int:
    """How many layers, from the first, have a cache of their own."""
    if keys.header.architecture == "gemma3n":
        return 20
    return count - keys.number("attention.shared_kv_layers")


def layers(keys: Keys, count: int, mla: Mla | None, weights: list[LayerWeights]) -> tuple[Layer, ...]:
    family, heads = keys.header.architecture, keys.each("attention.head_count", count)
    kv_heads = keys.each("attention.head_count_kv", count, max(heads))
    ff = keys.each("feed_forward_length", count)
    recurrent = _recurrent_layers(keys, count, kv_heads, ff)
    windows, own, indexers = _windows(keys, count), _own_cache(keys, count), _index_widths(keys, count)
    trunk = count - keys.number("nextn_predict_layers")
    conv, state = _state(keys)
    used = keys.each("expert_used_count", count)
    expert_ff = keys.each("expert_feed_forward_length", count, max(ff))
    dense = keys.number("leading_dense_block_count")
    experts = keys.number("expert_count")
    keyed = _keyed(keys.header, count) if family in KEYED else frozenset()
    found = []
    for index in range(count):
        key, value = _head_sizes(keys, max(heads), windows[index] > 0)
        attends = not recurrent[index] or family == "falcon-h1"
        attends = attends and not (family.startswith("nemotron_h") and ff[index] > 0)
        routed = experts > 0 and index >= dense and weights[index].experts > 0
        found.append(
            Layer(
                heads=heads[index],
                kv_heads=(1 if mla else kv_heads[index]) if attends else 0,
                key=mla.rank + mla.rope if mla else key,
                value=0 if mla else value,
                window=windows[index],
                chunked=family == "llama4",
                shared_kv=index >= own,
                keyed=index in keyed,
                conv=conv if recurrent[index] else 0,
                state=state if recurrent[index] else 0,
                indexer=indexers[index],
                ff=ff[index],
                experts=experts if routed else 0,
                experts_used=used[index] if routed else 0,
                expert_ff=expert_ff[index] if routed else 0,
                shared_ff=_shared_ff(keys, expert_ff[index]) if routed else 0,
                draft=index >= trunk,
                weights=weights[index],
            )
        )
    return tuple(found)


def _keyed(header: GgufHeader, count: int) -> frozenset[int]:
    """Layers with a product for keys and none for values."""
    names = {tensor.name for tensor in header.tensors}
    return frozenset(
        index
        for index in range(count)
        if f"blk.{index}.attn_k.weight" in names and f"blk.{index}.attn_v.weight" not in names
    )


def _head_sizes(keys: Keys, heads: int, windowed: bool) -> tuple[int, int]:
    whole = keys.number("embedding_length") // heads if heads else 0
    key, value = keys.number("attention.key_length", whole), keys.number("attention.value_length", whole)
    if windowed:
        key, value = keys.number("attention.key_length_swa", key), keys.number("attention.value_length_swa", value)
    return key, value


def _shared_ff(keys: Keys, expert_ff: int) -> int:
    length = keys.number("expert_shared_feed_forward_length")
    return length or keys.number("expert_shared_count") * expert_ff


def layer_weights(header: GgufHeader, count: int) -> list[LayerWeights]:
    """Bytes per layer; tensors of no layer that run with the layers (rope factors, embedding norms) join the first."""
    sums = [[0, 0, 0, 0, 0] for _ in range(count)]
    for tensor in header.tensors:
        if tensor.name.startswith((*INPUTS, *OUTPUTS, "v.", "a.", "mm.")):
            continue
        parts = tensor.name.split(".")
        index = int(parts[1]) if parts[0] == "blk" and parts[1].isdigit() else 0
        if index >= count:
            raise damaged(header.name, f"tensor {tensor.name!r} belongs to no layer.")
        sums[index][_kind(parts[2] if parts[0] == "blk" else "", tensor)] += tensor.bytes
        sums[index][4] = max(sums[index][4], tensor.bytes)
    return [LayerWeights(*each) for each in sums]


def _kind(role: str, tensor: Tensor) -> int:
    if "_exps" in role or "_chexps" in role:
        return 3
    if role in ("attn_k", "attn_v"):
        return 1
    copied = len(tensor.shape) == 1 or role in ("ffn_gate_inp", "attn_kv_a_mqa", "attn_q_a")
    return 2 if copied else 0
