"""Tensor layouts of model families, as llama.cpp's converter writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cortex.calculator.ggml import BY_NAME
from tools.plans.sparse import Key

BARE = "xielu."  # keys that do not bear their family's name
Layout = dict[str, tuple[tuple[int, ...], str]]


@dataclass
class Model:
    """One published model: its header's keys (without the architecture's prefix) and its tensors."""

    name: str
    family: str
    keys: dict[str, Key]
    weight: str = "Q4_K"
    layout: Layout = field(default_factory=dict)

    def add(self, name: str, *shape: int, type_name: str | None = None) -> None:
        """A tensor in the model's own type; vectors and rows that do not fill a block stay wider."""
        chosen = type_name or ("F32" if len(shape) == 1 else self.weight)
        if shape[0] % BY_NAME[chosen].block:
            chosen = "Q8_0" if shape[0] % 32 == 0 else "F16"
        self.layout[name] = (shape, chosen)

    def number(self, key: str, default: int = 0) -> int:
        value = self.keys.get(key, default)
        if not isinstance(value, int):
            raise TypeError(f"{self.name}: {key} is {value!r}, not one number")
        return value

    def full(self, key: str) -> str:
        """A key as the header has it."""
        return key if key.startswith(BARE) else f"{self.family}.{key}"

    def header(self) -> Mapping[str, Key]:
        """The header's keys with a stand-in vocabulary of the true length."""
        vocab = self.number("vocab_size")
        words = ["<s>", "</s>", "<unk>", "<|endoftext|>", *(f"t{number}" for number in range(4, vocab))]
        keys: dict[str, Key] = {"general.name": self.name}
        keys |= {self.full(key): value for key, value in self.keys.items()}
        return keys | {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": words,
            "tokenizer.ggml.token_type": [1] * vocab,
            "tokenizer.ggml.token_type_count": 2,
            "tokenizer.ggml.merges": ["t 1"],
        }


def ends(model: Model, *, tied: bool = False) -> None:
    """Embedding, final norm and, unless tied, the head."""
    hidden, vocab = model.number("embedding_length"), model.number("vocab_size")
    model.add("token_embd.weight", hidden, vocab)
    model.add("output_norm.weight", hidden)
    if not tied:
        model.add("output.weight", hidden, vocab, type_name="Q6_K" if model.weight == "Q4_K" else None)


def attention(model: Model, layer: int, *, bias: bool = False, norms: bool = False, window: bool = False) -> None:
    """Q, K, V and output projections with grouped heads."""
    hidden, heads, kv_heads, key = heads_of(model, layer, window)
    at = f"blk.{layer}."
    model.add(at + "attn_q.weight", hidden, heads * key)
    model.add(at + "attn_k.weight", hidden, kv_heads * key)
    model.add(at + "attn_v.weight", hidden, kv_heads * key, type_name="Q6_K" if model.weight == "Q4_K" else None)
    model.add(at + "attn_output.weight", heads * key, hidden)
    if bias:
        for letter, width in (("q", heads * key), ("k", kv_heads * key), ("v", kv_heads * key)):
            model.add(f"{at}attn_{letter}.bias", width)
    if norms:
        model.add(at + "attn_q_norm.weight", key)
        model.add(at + "attn_k_norm.weight", key)


def heads_of(model: Model, layer: int, window: bool = False) -> tuple[int, int, int, int]:
    """Hidden size, heads, KV heads and head size of a layer."""
    hidden, heads = model.number("embedding_length"), model.number("attention.head_count")
    listed = model.keys["attention.head_count_kv"]
    kv_heads = listed if isinstance(listed, int) else int(listed[layer])  # type: ignore[index]
    key = model.number("attention.key_length", hidden // heads)
    return hidden, heads, kv_heads, model.number("attention.key_length_swa", key) if window else key


def norms(model: Model, layer: int, *names: str) -> None:
    for name in names:
        model.add(f"blk.{layer}.{name}.weight", model.number("embedding_length"))


def dense(model: Model, layer: int, *, gated: bool = True, width: int | None = None) -> None:
    """A feed-forward block."""
    hidden, ff = model.number("embedding_length"), width or model.number("feed_forward_length")
    at = f"blk.{layer}."
    if gated:
        model.add(at + "ffn_gate.weight", hidden, ff)
    model.add(at + "ffn_up.weight", hidden, ff)
    model.add(at + "ffn_down.weight", ff, hidden)


def experts(model: Model, layer: int, *, type_name: str | None = None, gated: bool = True) -> None:
    """A router and its experts."""
    hidden, count = model.number("embedding_length"), model.number("expert_count")
    own = "expert_feed_forward_length"
    ff = model.number(own if own in model.keys else "feed_forward_length")
    at = f"blk.{layer}."
    model.add(at + "ffn_gate_inp.weight", hidden, count, type_name="F32")
    if gated:
        model.add(at + "ffn_gate_exps.weight", hidden, ff, count, type_name=type_name)
    model.add(at + "ffn_up_exps.weight", hidden, ff, count, type_name=type_name)
    model.add(at + "ffn_down_exps.weight", ff, hidden, count, type_name=type_name)


def shared_expert(model: Model, layer: int, width: int) -> None:
    hidden, at = model.number("embedding_length"), f"blk.{layer}."
    model.add(at + "ffn_gate_shexp.weight", hidden, width)
    model.add(at + "ffn_up_shexp.weight", hidden, width)
    model.add(at + "ffn_down_shexp.weight", width, hidden)


def mla(model: Model, layer: int) -> None:
    """Compressed attention of DeepSeek."""
    hidden, heads = model.number("embedding_length"), model.number("attention.head_count")
    rank, query_rank = model.number("attention.kv_lora_rank"), model.number("attention.q_lora_rank")
    rope, key = model.number("rope.dimension_count"), model.number("attention.key_length_mla")
    value, at = model.number("attention.value_length_mla"), f"blk.{layer}."
    if query_rank:
        model.add(at + "attn_q_a.weight", hidden, query_rank)
        model.add(at + "attn_q_a_norm.weight", query_rank)
        model.add(at + "attn_q_b.weight", query_rank, heads * key)
    else:
        model.add(at + "attn_q.weight", hidden, heads * key)
    model.add(at + "attn_kv_a_mqa.weight", hidden, rank + rope)
    model.add(at + "attn_kv_a_norm.weight", rank)
    model.add(at + "attn_k_b.weight", key - rope, rank, heads)
    model.add(at + "attn_v_b.weight", rank, value, heads)
    model.add(at + "attn_output.weight", heads * value, hidden)


def mamba2(model: Model, layer: int, *, norm: bool = True) -> None:
    """A state-space mixer of the second generation."""
    hidden, inner = model.number("embedding_length"), model.number("ssm.inner_size")
    state, groups = model.number("ssm.state_size"), model.number("ssm.group_count")
    heads, kernel, at = model.number("ssm.time_step_rank"), model.number("ssm.conv_kernel"), f"blk.{layer}."
    mixed = inner + 2 * groups * state
    model.add(at + "ssm_in.weight", hidden, inner + mixed + heads)
    model.add(at + "ssm_conv1d.weight", kernel, mixed, type_name="F32")
    model.add(at + "ssm_conv1d.bias", mixed)
    model.add(at + "ssm_dt.bias", heads)
    model.add(at + "ssm_a", 1, heads, type_name="F32")
    model.add(at + "ssm_d", 1, heads, type_name="F32")
    if norm:
        model.add(at + "ssm_norm.weight", inner // groups, groups, type_name="F32")
    model.add(at + "ssm_out.weight", inner, hidden)


def delta_net(model: Model, layer: int) -> None:
    """Gated linear attention of Qwen 3-Next and 3.5."""
    hidden, inner = model.number("embedding_length"), model.number("ssm.inner_size")
    state, groups = model.number("ssm.state_size"), model.number("ssm.group_count")
    heads, kernel, at = model.number("ssm.time_step_rank"), model.number("ssm.conv_kernel"), f"blk.{layer}."
    mixed = inner + 2 * groups * state
    model.add(at + "attn_qkv.weight", hidden, mixed)
    model.add(at + "attn_gate.weight", hidden, inner)
    model.add(at + "ssm_conv1d.weight", kernel, mixed, type_name="F32")
    model.add(at + "ssm_dt.bias", heads)
    model.add(at + "ssm_a", heads, type_name="F32")
    if model.family == "qwen3next":
        model.add(at + "ssm_ba.weight", hidden, 2 * heads)
    else:
        model.add(at + "ssm_alpha.weight", hidden, heads)
        model.add(at + "ssm_beta.weight", hidden, heads)
    model.add(at + "ssm_norm.weight", inner // heads)
    model.add(at + "ssm_out.weight", inner, hidden)


def short_convolution(model: Model, layer: int) -> None:
    """Two gates around a convolution over three tokens."""
    at, hidden = f"blk.{layer}.shortconv.", model.number("embedding_length")
    model.add(at + "conv.weight", 3, hidden, type_name="F32")
    model.add(at + "in_proj.weight", hidden, 3 * hidden)
    model.add(at + "out_proj.weight", hidden, hidden)
