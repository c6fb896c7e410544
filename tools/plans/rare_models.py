"""Families that are rarer on hubs, or older: sizes as published where known."""

from tools.plans.decoders import Style, decoder
from tools.plans.dense_models import keys
from tools.plans.encoder_models import encoder
from tools.plans.layouts import Model, attention, dense, ends, experts, mamba2, norms
from tools.plans.sparse import Key
from tools.plans.sparse_models import routed, state

ALL_BIASED = ("attn_norm", "ffn_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", "output_norm")
WIDE: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128}
HYBRID = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"


def nemotron(name: str, config: dict[str, Key]) -> Model:
    style = Style(biased=("attn_norm", "ffn_norm", "output_norm"), plain=True)
    hidden, heads = int(str(config["embedding_length"])), int(str(config["attention.head_count"]))
    return decoder(name, "nemotron", config | {"rope.dimension_count": hidden // heads // 2}, style)


def nemotron_moe(name: str, config: dict[str, Key], ssm: dict[str, Key], shared: int) -> Model:
    """Each layer is one thing: a state space, attention or experts without gates."""
    width = int(str(config["expert_feed_forward_length"]))
    extra: dict[str, Key] = {
        "attention.head_count_kv": [2 if kind == "*" else 0 for kind in HYBRID],
        "feed_forward_length": [width if kind == "E" else 0 for kind in HYBRID],
        "expert_shared_feed_forward_length": shared,
        "expert_shared_count": 1,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "rope.dimension_count": 84,
    }
    model = Model(name, "nemotron_h_moe", config | ssm | WIDE | extra)
    ends(model)
    hidden = model.number("embedding_length")
    for layer, kind in enumerate(HYBRID):
        at = f"blk.{layer}."
        norms(model, layer, "attn_norm")
        if kind == "*":
            attention(model, layer)
        elif kind == "M":
            mamba2(model, layer)
        else:
            experts(model, layer, gated=False)
            model.add(at + "exp_probs_b.bias", model.number("expert_count"))
            model.add(at + "ffn_up_shexp.weight", hidden, shared)
            model.add(at + "ffn_down_shexp.weight", shared, hidden)
    return model


def exaone_moe(name: str, config: dict[str, Key]) -> Model:
    """Without the layer that drafts."""
    width = int(str(config["expert_feed_forward_length"]))
    extra: dict[str, Key] = {
        "attention.sliding_window": 128,
        "expert_shared_count": 1,
        "expert_shared_feed_forward_length": width,
        "expert_gating_func": 2,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "leading_dense_block_count": 1,
    }
    style = Style(normed="head", lead=1, shared=width, scored=True)
    return decoder(name, "exaone-moe", config | WIDE | extra, style)


def bloom(name: str, config: dict[str, Key]) -> Model:
    model = decoder(name, "bloom", config, Style(biased=ALL_BIASED, fused=True, plain=True, tied=True), "Q8_0")
    model.add("token_embd_norm.weight", model.number("embedding_length"))
    model.add("token_embd_norm.bias", model.number("embedding_length"))
    return model


def mpt(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"attention.max_alibi_bias": 8.0}
    return decoder(name, "mpt", config | extra, Style(fused=True, plain=True, tied=True))


def olmo(name: str, config: dict[str, Key]) -> Model:
    model = decoder(name, "olmo", config, Style(norms=()))
    del model.layout["output_norm.weight"]
    return model


def minicpm(name: str, config: dict[str, Key]) -> Model:
    scales: dict[str, Key] = {"embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 9.0}
    return decoder(name, "minicpm", config | scales, Style(tied=True))


def eurobert(name: str, config: dict[str, Key]) -> Model:
    model = encoder(name, "eurobert", config, types=False)
    del model.layout["token_embd_norm.weight"]
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    model.add("output_norm.weight", model.number("embedding_length"))
    return model


def neobert(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"attention.causal": False, "pooling_type": 2}
    model = decoder(name, "neo-bert", config | extra, Style(fused=True, packed=True, tied=True), "F16")
    model.layout["enc.output_norm.weight"] = model.layout.pop("output_norm.weight")
    return model


def deci(name: str, config: dict[str, Key], bare: set[int], linear: set[int]) -> Model:
    """Some layers have no attention, some a product in its place: which ones is assumed."""
    count = int(str(config["block_count"]))
    heads = [0 if layer in bare else 64 for layer in range(count)]
    kv_heads = [0 if layer in bare | linear else 8 for layer in range(count)]
    widths = [28672 if layer % 3 else 14336 for layer in range(count)]
    lists: dict[str, Key] = {"attention.head_count": heads, "attention.head_count_kv": kv_heads}
    extra: dict[str, Key] = {"feed_forward_length": widths, "rope.dimension_count": 128}
    model = Model(name, "deci", config | WIDE | lists | extra)
    ends(model)
    model.add("rope_freqs.weight", 64)
    hidden = model.number("embedding_length")
    for layer in range(count):
        at = f"blk.{layer}."
        norms(model, layer, "ffn_norm")
        dense(model, layer, width=widths[layer])
        if layer in bare:
            continue
        norms(model, layer, "attn_norm")
        if layer not in linear:
            model.add(at + "attn_q.weight", hidden, hidden)
            model.add(at + "attn_k.weight", hidden, 1024)
            model.add(at + "attn_v.weight", hidden, 1024)
        model.add(at + "attn_output.weight", hidden, hidden)
    return model


def rare_models() -> list[Model]:
    """From 0.2 to 236 billion parameters."""
    return [
        nemotron("minitron-8b", keys(32, 4096, 32, 8, 16384, 256000, 4096)),
        nemotron_moe("nemotron-3-nano-30b", keys(52, 2688, 32, 2, 1856, 131072, 262144) | routed(128, 6, 1856),
            state(4096, 128, 8, 64), 3712),
        exaone_moe("k-exaone-236b", keys(48, 6144, 64, 8, 18432, 153600, 262144) | routed(128, 8, 2048)),
        bloom("bloom-7b1", keys(30, 4096, 32, 32, 16384, 250880, 2048)),
        mpt("mpt-7b", keys(32, 4096, 32, 32, 16384, 50432, 2048)),
        olmo("olmo-7b", keys(32, 4096, 32, 32, 11008, 50304, 2048)),
        minicpm("minicpm-2b", keys(40, 2304, 36, 36, 5760, 122753, 4096)),
        decoder("llama-embed-nemotron-8b", "llama-embed", keys(32, 4096, 32, 8, 14336, 128256, 131072)
            | {"attention.causal": False, "pooling_type": 1}, Style(tied=True)),
        eurobert("eurobert-610m", keys(26, 1152, 18, 6, 4096, 128256, 8192)),
        neobert("neobert", keys(28, 768, 12, 12, 2048, 30522, 4096)),
        deci("nemotron-super-49b", keys(80, 8192, 64, 8, 28672, 128256, 131072), set(range(42, 52, 2)),
            set(range(53, 70, 4))),
    ]  # fmt: skip
