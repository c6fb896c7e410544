"""Encoders beside BERT: rotary or linear positions, windows, experts."""

from tools.plans.decoders import QKV, bias, fused_attention, packed
from tools.plans.dense_models import keys, rope_of
from tools.plans.layouts import Model, attention, dense, experts, norms
from tools.plans.sparse import Key
from tools.plans.sparse_models import routed

NORMS = ("attn_output_norm", "layer_output_norm")


def encoder(name: str, family: str, config: dict[str, Key], *, types: bool = True) -> Model:
    """The parts outside of layers."""
    model = rope_of(Model(name, family, config | {"attention.causal": False, "pooling_type": 1}, "F16"))
    hidden = model.number("embedding_length")
    model.add("token_embd.weight", hidden, model.number("vocab_size"))
    if types:
        model.add("token_types.weight", hidden, 2, type_name="F32")
    model.add("token_embd_norm.weight", hidden)
    return model


def jina_v2(name: str, config: dict[str, Key]) -> Model:
    model = encoder(name, "jina-bert-v2", config)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, *NORMS)
    bias(model, "token_embd_norm", "attn_output", "ffn_down", *QKV, *NORMS)
    return model


def jina_v2_code(name: str, config: dict[str, Key]) -> Model:
    """With normed queries and keys, and the gate within the first product."""
    model = encoder(name, "jina-bert-v2", config)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        packed(model, layer)
        norms(model, layer, "attn_q_norm", "attn_k_norm", "attn_norm_2", *NORMS)
    parts = ("token_embd_norm", "attn_output", "ffn_down", "attn_q_norm", "attn_k_norm", "attn_norm_2")
    bias(model, *parts, *QKV, *NORMS)
    return model


def jina_v3(name: str, config: dict[str, Key]) -> Model:
    model = encoder(name, "jina-bert-v3", config)
    for layer in range(model.number("block_count")):
        fused_attention(model, layer)
        dense(model, layer, gated=False)
        norms(model, layer, *NORMS)
    bias(model, "token_embd_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", *NORMS)
    return model


def modern(name: str, config: dict[str, Key]) -> Model:
    model = encoder(name, "modern-bert", config | {"attention.sliding_window": 128}, types=False)
    norms_of = ("attn_norm", "ffn_norm")
    for layer in range(model.number("block_count")):
        norms(model, layer, *norms_of[layer == 0 :])  # the first layer's input is normed already
        fused_attention(model, layer)
        packed(model, layer)
    model.add("output_norm.weight", model.number("embedding_length"))
    return model


def nomic_moe(name: str, config: dict[str, Key]) -> Model:
    model = encoder(name, "nomic-bert-moe", config | {"moe_every_n_layers": 2})
    for layer in range(model.number("block_count")):
        fused_attention(model, layer)
        if layer % 2:
            experts(model, layer, gated=False)
        else:
            dense(model, layer, gated=False)
        norms(model, layer, *NORMS)
    bias(model, "token_embd_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", *NORMS)
    return model


def encoder_models() -> list[Model]:
    """From 0.03 to 0.6 billion parameters."""
    return [
        jina_v2("jina-v2-base", keys(12, 768, 12, 12, 3072, 30528, 8192)),
        jina_v2("jina-v2-small", keys(4, 512, 8, 8, 2048, 30528, 8192)),
        jina_v2_code("jina-v2-code", keys(12, 768, 12, 12, 3072, 61056, 8192)),
        jina_v3("jina-v3", keys(24, 1024, 16, 16, 4096, 250002, 8194)),
        modern("modernbert-base", keys(22, 768, 12, 12, 1152, 50368, 8192)),
        modern("modernbert-large", keys(28, 1024, 16, 16, 2624, 50368, 8192)),
        nomic_moe("nomic-embed-v2-moe", keys(12, 768, 12, 12, 3072, 250048, 2048) | routed(8, 2)),
    ]
