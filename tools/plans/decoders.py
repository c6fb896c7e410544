"""Decoders of one build: attention and a feed-forward block in each layer, described by how they differ."""

from dataclasses import dataclass

from tools.plans.dense_models import rope_of
from tools.plans.layouts import Model, attention, dense, ends, experts, heads_of, mla, norms, shared_expert
from tools.plans.sparse import Key


@dataclass(frozen=True)
class Style:
    """How a family's layers differ from Llama's.

    ``biased`` parts have a bias beside their weights; ``normed`` says how queries and keys are normed: not at all, by
    "head", all heads as one "row", or with weights for "each" head. ``packed`` puts the gate into ``ffn_up``, ``plain``
    has none. ``lead`` layers are dense before those with experts begin; ``shared`` is the width of the expert that
    always runs, ``scored`` a bias on the router, ``compressed`` the attention of DeepSeek.
    """

    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    biased: tuple[str, ...] = ()
    normed: str = ""
    fused: bool = False
    packed: bool = False
    plain: bool = False
    tied: bool = False
    lead: int = 0
    shared: int = 0
    scored: bool = False
    compressed: bool = False


LLAMA = Style()
QKV = ("attn_q", "attn_k", "attn_v")


def decoder(name: str, family: str, config: dict[str, Key], style: Style = LLAMA, weight: str = "Q4_K") -> Model:
    """A model of ``family`` from the keys that every family has and some of its own."""
    model = rope_of(Model(name, family, config, weight))
    ends(model, tied=style.tied)
    for layer in range(model.number("block_count")):
        norms(model, layer, *style.norms)
        _attention(model, layer, style)
        _feed_forward(model, layer, style)
    bias(model, *style.biased)
    return model


def _attention(model: Model, layer: int, style: Style) -> None:
    if style.compressed:
        mla(model, layer)
        return
    if style.fused:
        fused_attention(model, layer)
    else:
        attention(model, layer, norms=style.normed == "head")
    _, heads, kv_heads, key = heads_of(model, layer)
    at = f"blk.{layer}."
    for part, count in (("q", heads), ("k", kv_heads)):
        if style.normed == "row":
            model.add(f"{at}attn_{part}_norm.weight", count * key)
        elif style.normed == "each":
            model.add(f"{at}attn_{part}_norm.weight", key, count, type_name="F32")
        elif style.normed == "head" and style.fused:
            model.add(f"{at}attn_{part}_norm.weight", key)


def fused_attention(model: Model, layer: int) -> None:
    """Q, K and V as one product."""
    hidden, heads, kv_heads, key = heads_of(model, layer)
    model.add(f"blk.{layer}.attn_qkv.weight", hidden, (heads + 2 * kv_heads) * key)
    model.add(f"blk.{layer}.attn_output.weight", heads * key, hidden)


def _feed_forward(model: Model, layer: int, style: Style) -> None:
    if "expert_count" in model.keys and layer >= style.lead:
        experts(model, layer)
        if style.shared:
            shared_expert(model, layer, style.shared)
        if style.scored:
            model.add(f"blk.{layer}.exp_probs_b.bias", model.number("expert_count"))
    elif style.packed:
        packed(model, layer)
    else:
        dense(model, layer, gated=not style.plain)


def packed(model: Model, layer: int) -> None:
    """A feed-forward block whose gate lies within its first product."""
    hidden, ff = model.number("embedding_length"), model.number("feed_forward_length")
    model.add(f"blk.{layer}.ffn_up.weight", hidden, 2 * ff)
    model.add(f"blk.{layer}.ffn_down.weight", ff, hidden)


def bias(model: Model, *parts: str) -> None:
    """A bias beside every weight of these parts."""
    for name, (shape, _) in list(model.layout.items()):
        stem, _, last = name.rpartition(".")
        if last == "weight" and stem.split(".")[-1] in parts:
            model.add(f"{stem}.bias", shape[-1])
