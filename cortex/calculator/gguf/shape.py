"""From a GGUF header to a Shape: what llama.cpp reads there, and its rules for what a header leaves out."""

from collections.abc import Mapping

from cortex.calculator.gguf.families import HEADLESS, INPUTS, KNOWN, NORMED_SHARES, OUTPUTS, PARALLEL, POOLED
from cortex.calculator.gguf.header import GgufHeader, Skipped, Tensor, damaged
from cortex.calculator.gguf.keys import Keys
from cortex.calculator.gguf.layers import layer_weights, layers, sparse_index
from cortex.calculator.shape import Mla, Recurrence, Shape, why_impossible

LAYER_LIMIT, EXPERT_LIMIT = 1024, 4096


def shape_of(header: GgufHeader) -> Shape:
    """The shape a GGUF header describes. Raises UnreadableModel when it leaves out what llama.cpp requires."""
    keys = Keys(header)
    count = keys.number("block_count")
    hidden = keys.number("embedding_length")
    if not 0 < count <= LAYER_LIMIT or not 0 < hidden <= 1 << 20:
        raise damaged(header.name, f"it has {count} layers of width {hidden}.")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    embedding = tensors.get("token_embd.weight")
    if not keys.number("expert_used_count") <= keys.number("expert_count") <= EXPERT_LIMIT:
        raise damaged(header.name, f"it uses {keys.number('expert_used_count'):,} experts.")
    mla = _mla(keys)
    shape = Shape(
        name=_name(header),
        family=header.architecture,
        layers=layers(keys, count, mla, layer_weights(header, count)),
        hidden=hidden,
        vocab=_vocab(keys, embedding),
        context=keys.number("context_length", 4096),
        embedding=embedding.bytes if embedding else 0,
        input_bytes=sum(tensor.bytes for tensor in header.tensors if tensor.name.startswith(INPUTS)),
        output_bytes=sum(tensor.bytes for tensor in header.tensors if tensor.name.startswith(OUTPUTS)),
        tied=embedding is not None and "output.weight" not in tensors and header.architecture not in HEADLESS,
        embedding_type=embedding.type if embedding else "",
        causal=keys.raw("attention.causal") is not False and header.architecture not in POOLED,
        pooled=keys.number("pooling_type") > 0,
        mla=mla,
        index=sparse_index(keys),
        recurrence=_recurrence(keys),
        per_layer_input=keys.number("embedding_length_per_layer_input"),
        latent=keys.number("moe_latent_size"),
        deepstack=min(keys.number("n_deepstack_layers"), count),
        tower_bytes=sum(tensor.bytes for tensor in header.tensors if tensor.name.startswith(("v.", "a.", "mm."))),
        file_bytes=header.expected_size,
        parameters=sum(_values(tensor) for tensor in header.tensors),
        quantization=_main_type(header),
        types=_types(header),
        roles=frozenset(tensor.name.split(".")[2] for tensor in header.tensors if tensor.name.startswith("blk.")),
        packed=_packed(keys, tensors),
        normed_shares=header.architecture in NORMED_SHARES or keys.raw("expert_weights_norm") is True,
        parallel=_parallel(keys, tensors),
        assumptions=_assumptions(header),
    )
    why = why_impossible(shape)
    if why:
        raise damaged(header.name, why)
    return shape


def _packed(keys: Keys, tensors: Mapping[str, Tensor]) -> bool:
    up = tensors.get("blk.0.ffn_up.weight")
    return up is not None and up.shape[-1] == 2 * keys.each("feed_forward_length", 1)[0]


def _parallel(keys: Keys, tensors: Mapping[str, Tensor]) -> bool:
    if keys.header.architecture == "stablelm":
        return "blk.0.ffn_norm.weight" not in tensors
    return keys.header.architecture in PARALLEL and keys.raw("use_parallel_residual") is not False


def _name(header: GgufHeader) -> str:
    name = header.metadata.get("general.name")
    return name if isinstance(name, str) and name else header.name


def _values(tensor: Tensor) -> int:
    values = 1
    for length in tensor.shape:
        values *= length
    return values


def _vocab(keys: Keys, embedding: Tensor | None) -> int:
    tokens = keys.header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Skipped):
        return tokens.count
    return embedding.shape[-1] if embedding else keys.number("vocab_size")


def _types(header: GgufHeader) -> dict[str, int]:
    types: dict[str, int] = {}
    for tensor in header.tensors:
        types[tensor.type] = types.get(tensor.type, 0) + tensor.bytes
    return types


def _main_type(header: GgufHeader) -> str:
    types = _types(header)
    return max(types, key=types.__getitem__) if types else ""


def _assumptions(header: GgufHeader) -> tuple[str, ...]:
    if header.architecture in KNOWN:
        return ()
    return (f"{header.architecture} is not a known family: its cache is taken as full attention on every layer.",)


def _mla(keys: Keys) -> Mla | None:
    key, value = keys.number("attention.key_length_mla"), keys.number("attention.value_length_mla")
    rank, rope = keys.number("attention.kv_lora_rank"), keys.number("rope.dimension_count")
    if not key or not value or not rank:
        return None  # also files of before 2025-04, whose heads are cached whole
    return Mla(rank, rope, key - rope, value, keys.number("attention.q_lora_rank"))


def _recurrence(keys: Keys) -> Recurrence | None:
    heads = keys.number("attention.head_count")
    if head := keys.number("kda.head_dim"):
        return Recurrence(heads * head, head, heads, heads, keys.number("ssm.conv_kernel", 4), linear=True)
    if cells := keys.number("shortconv.l_cache"):
        return Recurrence(kernel=cells)
    if head := keys.number("wkv.head_size"):
        return Recurrence(keys.number("embedding_length"), head, kernel=keys.number("token_shift_count", 2))
    inner = keys.number("ssm.inner_size")
    if not inner:
        return None
    return Recurrence(
        inner,
        keys.number("ssm.state_size"),
        keys.number("ssm.group_count"),
        keys.number("ssm.time_step_rank"),
        keys.number("ssm.conv_kernel"),
        normed=keys.raw("ssm.dt_b_c_rms") is True,
    )
