"""Further families with experts: sizes as published where known."""

from tools.plans.decoders import Style, decoder
from tools.plans.dense_models import keys
from tools.plans.layouts import Model, dense, experts, norms, shared_expert
from tools.plans.layouts import ends as ends_of
from tools.plans.sparse import Key
from tools.plans.sparse_models import routed

WIDE: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128}
SIGMOID: dict[str, Key] = {"expert_gating_func": 2, "expert_weights_norm": True, "expert_weights_scale": 2.5}


def width_of(config: dict[str, Key]) -> int:
    return int(str(config["expert_feed_forward_length"]))


def ernie(name: str, config: dict[str, Key]) -> Model:
    shared = 2 * width_of(config)
    extra: dict[str, Key] = {"expert_shared_feed_forward_length": shared, "interleave_moe_layer_step": 1}
    extra |= {"leading_dense_block_count": 1}
    return decoder(name, "ernie4_5-moe", config | WIDE | extra, Style(lead=1, shared=shared, scored=True, tied=True))


def hunyuan(name: str, config: dict[str, Key]) -> Model:
    shared = int(str(config["feed_forward_length"]))
    extra: dict[str, Key] = {"expert_shared_feed_forward_length": shared, "expert_shared_count": 1}
    extra |= {"expert_feed_forward_length": shared}
    return decoder(name, "hunyuan-moe", config | WIDE | extra, Style(normed="head", shared=shared, tied=True))


def dots1(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"expert_shared_count": 2, "leading_dense_block_count": 1}
    style = Style(normed="head", lead=1, shared=2 * width_of(config), scored=True)
    return decoder(name, "dots1", config | SIGMOID | extra, style)


def bailing(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"expert_shared_count": 2, "expert_weights_norm": True, "rope.dimension_count": 128}
    return decoder(name, "bailingmoe", config | extra, Style(shared=2 * width_of(config)))


def bailing2(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"expert_shared_count": 1, "leading_dense_block_count": 1, "expert_group_count": 8}
    extra |= {"expert_group_used_count": 4, "rope.dimension_count": 64}
    style = Style(fused=True, normed="head", lead=1, shared=width_of(config), scored=True)
    return decoder(name, "bailingmoe2", config | SIGMOID | WIDE | extra, style)


def dbrx(name: str, config: dict[str, Key]) -> Model:
    return decoder(
        name, "dbrx", config | {"attention.clamp_kqv": 8.0}, Style(norms=("attn_norm", "attn_output_norm"), fused=True)
    )


def grok(name: str, config: dict[str, Key]) -> Model:
    scales: dict[str, Key] = {"embedding_scale": 78.38, "logit_scale": 0.577, "attention.output_scale": 0.0884}
    caps: dict[str, Key] = {"attn_logit_softcapping": 30.0, "router_logit_softcapping": 30.0}
    style = Style(norms=("attn_norm", "attn_output_norm", "ffn_norm", "layer_output_norm"), tied=True)
    return decoder(name, "grok", config | scales | caps, style)


def afmoe(name: str, config: dict[str, Key], lead: int) -> Model:
    extra: dict[str, Key] = {
        "attention.sliding_window": 2048,
        "leading_dense_block_count": lead,
        "expert_shared_count": 1,
    }
    four = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    style = Style(norms=four, normed="head", lead=lead, shared=width_of(config), scored=True)
    model = decoder(name, "afmoe", config | SIGMOID | WIDE | extra, style)
    hidden, heads = model.number("embedding_length"), model.number("attention.head_count")
    for layer in range(model.number("block_count")):
        model.add(f"blk.{layer}.attn_gate.weight", hidden, heads * 128)
    return model


def smallthinker(name: str, config: dict[str, Key], *, window: bool) -> Model:
    extra: dict[str, Key] = {"attention.sliding_window": 4096} if window else {}
    return decoder(name, "smallthinker", config | WIDE | extra | {"expert_gating_func": 2})


def mimo2(name: str, config: dict[str, Key], full: set[int]) -> Model:
    """Layers with a window have twice the KV heads; values are narrower than keys."""
    count = int(str(config["block_count"]))
    extra: dict[str, Key] = {
        "attention.key_length": 192,
        "attention.value_length": 128,
        "attention.key_length_swa": 192,
        "attention.value_length_swa": 128,
        "rope.dimension_count": 64,
        "rope.dimension_count_swa": 64,
        "attention.sliding_window": 128,
        "attention.sliding_window_pattern": [layer not in full for layer in range(count)],
        "attention.head_count_kv": [4 if layer in full else 8 for layer in range(count)],
        "expert_gating_func": 2,
    }
    model = Model(name, "mimo2", config | extra)
    ends_of(model)
    hidden, heads = model.number("embedding_length"), model.number("attention.head_count")
    for layer in range(count):
        at, kv_heads = f"blk.{layer}.", 4 if layer in full else 8
        norms(model, layer, "attn_norm", "ffn_norm")
        model.add(at + "attn_q.weight", hidden, heads * 192)
        model.add(at + "attn_k.weight", hidden, kv_heads * 192)
        model.add(at + "attn_v.weight", hidden, kv_heads * 128)
        model.add(at + "attn_output.weight", heads * 128, hidden)
        if layer not in full:
            model.add(at + "attn_sinks.weight", heads)
        if layer:
            experts(model, layer)
            model.add(at + "exp_probs_b.bias", model.number("expert_count"))
        else:
            dense(model, layer)
    return model


def step35(name: str, config: dict[str, Key], lead: int) -> Model:
    """One layer of four sees everything and has fewer heads; each head has a gate."""
    count = int(str(config["block_count"]))
    heads = [64 if layer % 4 == 0 else 96 for layer in range(count)]
    extra: dict[str, Key] = {
        "attention.head_count": heads,
        "attention.head_count_kv": [8] * count,
        "rope.dimension_count": 64,
        "rope.dimension_count_swa": 128,
        "attention.sliding_window": 512,
        "attention.sliding_window_pattern": [layer % 4 != 0 for layer in range(count)],
        "leading_dense_block_count": lead,
        "expert_shared_feed_forward_length": width_of(config),
    }
    model = Model(name, "step35", config | SIGMOID | WIDE | extra)
    ends_of(model)
    hidden = model.number("embedding_length")
    for layer in range(count):
        at = f"blk.{layer}."
        norms(model, layer, "attn_norm", "ffn_norm")
        model.add(at + "attn_q.weight", hidden, heads[layer] * 128)
        for letter in "kv":
            model.add(f"{at}attn_{letter}.weight", hidden, 8 * 128)
        model.add(at + "attn_output.weight", heads[layer] * 128, hidden)
        model.add(at + "attn_gate.weight", hidden, heads[layer])
        for letter in "qk":
            model.add(f"{at}attn_{letter}_norm.weight", 128)
        if layer < lead:
            dense(model, layer)
            continue
        experts(model, layer)
        shared_expert(model, layer, width_of(config))
        model.add(at + "exp_probs_b.bias", model.number("expert_count"))
    return model


def expert_models() -> list[Model]:
    """From 7 to 314 billion parameters."""
    full = {0, *range(5, 48, 6), 47}
    return [
        ernie("ernie-4.5-21b-a3b", keys(28, 2560, 20, 4, 12288, 103424, 131072) | routed(64, 6, 1536)),
        hunyuan("hunyuan-a13b", keys(32, 4096, 32, 8, 3072, 128167, 262144) | routed(64, 8)),
        dots1("dots.llm1", keys(62, 4096, 32, 32, 10944, 152064, 32768) | routed(128, 6, 1408)),
        bailing("ling-lite", keys(28, 2048, 16, 4, 5632, 126464, 16384) | routed(64, 6, 1408)),
        bailing2("ling-mini-2.0", keys(20, 2048, 16, 4, 5120, 157184, 32768) | routed(256, 8, 512)),
        decoder("olmoe-1b-7b", "olmoe", keys(16, 2048, 16, 16, 1024, 50304, 4096) | routed(64, 8), Style(normed="row")),
        dbrx("dbrx", keys(40, 6144, 48, 8, 10752, 100352, 32768) | routed(16, 4)),
        grok("grok-1", keys(64, 6144, 48, 8, 32768, 131072, 8192) | routed(8, 2, 32768)),
        afmoe("trinity-mini", keys(32, 2048, 32, 4, 6144, 200192, 131072) | routed(128, 8, 1024), 2),
        smallthinker("smallthinker-21b", keys(52, 2560, 28, 4, 768, 151936, 16384) | routed(64, 6, 768), window=True),
        smallthinker("smallthinker-4b", keys(32, 1536, 12, 2, 768, 151936, 32768) | routed(32, 4, 768), window=False),
        mimo2("mimo-v2-flash", keys(48, 4096, 64, 8, 16384, 152576, 262144) | routed(256, 8, 2048), full),
        step35("step-3.5-flash", keys(45, 4096, 64, 8, 11264, 128896, 262144) | routed(288, 8, 1280), 3),
    ]  # fmt: skip
