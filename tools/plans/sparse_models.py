"""Models with experts, compressed attention, recurrent layers or shared caches, as published."""

from tools.plans.dense_models import keys, rope_of
from tools.plans.layouts import (
    Model,
    attention,
    delta_net,
    dense,
    ends,
    experts,
    mamba2,
    mla,
    norms,
    shared_expert,
)
from tools.plans.sparse import Key


def routed(count: int, used: int, ff: int | None = None) -> dict[str, Key]:
    extra: dict[str, Key] = {} if ff is None else {"expert_feed_forward_length": ff}
    return {"expert_count": count, "expert_used_count": used} | extra


def mixtral(name: str, config: dict[str, Key]) -> Model:
    model = rope_of(Model(name, "llama", config))
    ends(model)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        experts(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def qwen3moe(name: str, config: dict[str, Key], weight: str = "Q4_K") -> Model:
    model = Model(name, "qwen3moe", config | {"attention.key_length": 128, "attention.value_length": 128}, weight)
    ends(model)
    for layer in range(model.number("block_count")):
        attention(model, layer, norms=True)
        experts(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def gpt_oss(name: str, config: dict[str, Key]) -> Model:
    window: dict[str, Key] = {"attention.sliding_window": 128, "attention.key_length": 64, "attention.value_length": 64}
    model = Model(name, "gpt-oss", config | window, "Q8_0")
    ends(model)
    hidden, count = model.number("embedding_length"), model.number("expert_count")
    ff, heads = model.number("expert_feed_forward_length"), model.number("attention.head_count")
    for layer in range(model.number("block_count")):
        attention(model, layer, bias=True)
        experts(model, layer, type_name="MXFP4")
        norms(model, layer, "attn_norm", "post_attention_norm")
        at = f"blk.{layer}."
        model.add(at + "attn_output.bias", hidden)
        model.add(at + "attn_sinks.weight", heads)
        model.add(at + "ffn_gate_inp.bias", count)
        for part, width in (("gate", ff), ("up", ff), ("down", hidden)):
            model.add(f"{at}ffn_{part}_exps.bias", width, count, type_name="F32")
    return model


def deepseek(name: str, config: dict[str, Key], lead: int, *, biased: bool = False) -> Model:
    heads: dict[str, Key] = {
        "attention.kv_lora_rank": 512,
        "attention.key_length": 576,
        "attention.value_length": 512,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "rope.dimension_count": 64,
        "leading_dense_block_count": lead,
        "expert_weights_scale": 2.5,
        "expert_gating_func": 2 if biased else 1,
    }
    model = Model(name, "deepseek2", config | heads)
    ends(model)
    shared = model.number("expert_shared_count") * model.number("expert_feed_forward_length")
    for layer in range(model.number("block_count")):
        mla(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
        if layer < lead:
            dense(model, layer)
            continue
        experts(model, layer)
        shared_expert(model, layer, shared)
        if biased:
            model.add(f"blk.{layer}.exp_probs_b.bias", model.number("expert_count"))
    return model


def glm4moe(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {
        "attention.key_length": 128,
        "attention.value_length": 128,
        "rope.dimension_count": 64,
        "leading_dense_block_count": 1,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "nextn_predict_layers": 1,
    }
    model = Model(name, "glm4moe", config | extra)
    ends(model)
    hidden, count = model.number("embedding_length"), model.number("block_count")
    for layer in range(count):
        attention(model, layer, bias=True)
        norms(model, layer, "attn_norm", "post_attention_norm")
        if layer == 0:
            dense(model, layer)
            continue
        experts(model, layer)
        shared_expert(model, layer, model.number("expert_feed_forward_length"))
        model.add(f"blk.{layer}.exp_probs_b.bias", model.number("expert_count"))
    at = f"blk.{count - 1}.nextn."
    model.add(at + "eh_proj.weight", 2 * hidden, hidden)
    for part in ("enorm", "hnorm", "shared_head_norm"):
        model.add(f"{at}{part}.weight", hidden)
    return model


def llama4(name: str, config: dict[str, Key], step: int = 1) -> Model:
    """Experts in the last of each ``step`` layers."""
    extra: dict[str, Key] = {"rope.dimension_count": 128, "interleave_moe_layer_step": step, "expert_shared_count": 1}
    model = Model(name, "llama4", config | extra)
    ends(model)
    model.add("rope_freqs.weight", 64)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        if (layer + 1) % step:
            dense(model, layer)
        else:
            experts(model, layer)
            shared_expert(model, layer, model.number("expert_feed_forward_length"))
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def mamba(name: str, config: dict[str, Key], state: dict[str, Key]) -> Model:
    model = Model(name, "mamba2", config | state)
    ends(model)
    for layer in range(model.number("block_count")):
        mamba2(model, layer)
        norms(model, layer, "attn_norm")
    return model


def granite_hybrid(
    name: str, config: dict[str, Key], state: dict[str, Key], full: set[int], kv_heads: int = 8
) -> Model:
    layers = [kv_heads if layer in full else 0 for layer in range(40)]
    scales: dict[str, Key] = {"attention.scale": 0.0078125, "embedding_scale": 12.0, "residual_scale": 0.22}
    extra: dict[str, Key] = {"logit_scale": 16.0, "attention.head_count_kv": layers}
    model = rope_of(Model(name, "granitehybrid", config | state | scales | extra))
    ends(model, tied=True)
    for layer in range(40):
        if layer in full:
            attention(model, layer)
        else:
            mamba2(model, layer)
        experts(model, layer)
        shared_expert(model, layer, model.number("expert_shared_feed_forward_length"))
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def falcon_h1(name: str, config: dict[str, Key], state: dict[str, Key]) -> Model:
    sizes: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128}
    model = rope_of(Model(name, "falcon-h1", config | state | sizes))
    ends(model)
    for layer in range(model.number("block_count")):
        mamba2(model, layer, norm=False)
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm")
        model.add(f"blk.{layer}.ffn_norm", model.number("embedding_length"))  # the loader wants no suffix here
    return model


def nemotron_h(name: str, pattern: str, config: dict[str, Key], state: dict[str, Key]) -> Model:
    kv_heads = [8 if kind == "*" else 0 for kind in pattern]
    width = int(str(config["feed_forward_length"]))
    ff = [width if kind == "-" else 0 for kind in pattern]
    sizes: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128, "rope.dimension_count": 128}
    extra: dict[str, Key] = {"attention.head_count_kv": kv_heads, "feed_forward_length": ff}
    model = Model(name, "nemotron_h", config | state | sizes | extra)
    ends(model)
    for layer, kind in enumerate(pattern):
        norms(model, layer, "attn_norm")
        if kind == "*":
            attention(model, layer)
        elif kind == "-":
            dense(model, layer, gated=False, width=width)
        else:
            mamba2(model, layer)
    return model


def qwen_next(name: str, family: str, config: dict[str, Key], state: dict[str, Key]) -> Model:
    sizes: dict[str, Key] = {"attention.key_length": 256, "attention.value_length": 256, "rope.dimension_count": 64}
    sections: dict[str, Key] = {"rope.dimension_sections": [11, 11, 10, 0]} if family.startswith("qwen35") else {}
    model = Model(name, family, config | state | sizes | sections)
    ends(model)
    hidden, heads, kv_heads, key = model.number("embedding_length"), 16, 2, 256
    if family == "qwen35":
        heads, kv_heads = model.number("attention.head_count"), 4
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        if (layer + 1) % 4:
            delta_net(model, layer)
        else:
            model.add(at + "attn_q.weight", hidden, 2 * heads * key)
            for letter in "kv":
                model.add(f"{at}attn_{letter}.weight", hidden, kv_heads * key)
            model.add(at + "attn_output.weight", heads * key, hidden)
            model.add(at + "attn_q_norm.weight", key)
            model.add(at + "attn_k_norm.weight", key)
        norms(model, layer, "attn_norm", "post_attention_norm")
        if family == "qwen35":
            dense(model, layer)
        else:
            experts(model, layer)
            shared_expert(model, layer, model.number("expert_shared_feed_forward_length"))
            model.add(at + "ffn_gate_inp_shexp.weight", hidden)
    return model


def gemma3n(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {
        "attention.sliding_window": 512,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "embedding_length_per_layer_input": 256,
        "altup.active_idx": 0,
        "altup.num_inputs": 4,
        "attention.shared_kv_layers": 15,
        "attention.sliding_window_pattern": [layer % 5 != 4 for layer in range(35)],
    }
    model = Model(name, "gemma3n", config | extra, "Q8_0")
    ends(model, tied=True)
    hidden, vocab, count = model.number("embedding_length"), model.number("vocab_size"), 35
    model.add("altup_proj.weight", hidden, hidden, 3)
    model.add("altup_unembd_proj.weight", hidden, hidden, 3)
    model.add("per_layer_token_embd.weight", 256 * count, vocab)
    model.add("per_layer_model_proj.weight", hidden, 256 * count)
    model.add("per_layer_proj_norm.weight", 256)
    for layer in range(count):
        attention(model, layer, norms=True)
        dense(model, layer)
        norms(model, layer, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm")
        norms(model, layer, "altup_correct_scale", "altup_router_norm", "laurel_post_norm")
        at = f"blk.{layer}."
        model.add(at + "inp_gate.weight", hidden, 256)
        model.add(at + "proj.weight", 256, hidden)
        model.add(at + "altup_correct_coef.weight", 4, 4, type_name="F32")
        model.add(at + "altup_predict_coef.weight", 4, 16, type_name="F32")
        model.add(at + "altup_router.weight", hidden, 4, type_name="F32")
        model.add(at + "laurel_l.weight", hidden, 64)
        model.add(at + "laurel_r.weight", 64, hidden)
    return model


def gemma4(name: str, config: dict[str, Key], *, shared: int = 0, own: int = 0, period: int = 6) -> Model:
    """``shared`` layers reuse an earlier cache; ``own`` is the width of each layer's own inputs.

    One layer of each ``period`` sees everything.
    """
    count = len(list(config["attention.head_count_kv"]))  # type: ignore[arg-type]
    extra: dict[str, Key] = {
        "attention.key_length": 512,
        "attention.value_length": 512,
        "attention.key_length_swa": 256,
        "attention.value_length_swa": 256,
        "attention.sliding_window": 512 if own else 1024,
        "attention.sliding_window_pattern": [(layer + 1) % period != 0 for layer in range(count)],
        "attention.shared_kv_layers": shared,
        "embedding_length_per_layer_input": own,
        "final_logit_softcapping": 30.0,
        "rope.dimension_count": 512,
        "rope.dimension_count_swa": 256,
    }
    model = Model(name, "gemma4", config | extra, "Q4_0")
    ends(model, tied=True)
    hidden, vocab = model.number("embedding_length"), model.number("vocab_size")
    model.add("rope_freqs.weight", 256)
    if own:
        model.add("per_layer_token_embd.weight", own * count, vocab)
        model.add("per_layer_model_proj.weight", hidden, own * count)
        model.add("per_layer_proj_norm.weight", own)
    for layer in range(count):
        attention(model, layer, norms=True, window=(layer + 1) % period != 0)
        dense(model, layer)
        norms(model, layer, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        if own:
            norms(model, layer, "post_norm")
            model.add(f"blk.{layer}.inp_gate.weight", hidden, own)
            model.add(f"blk.{layer}.proj.weight", own, hidden)
    return model


def state(inner: int, size: int, groups: int, heads: int) -> dict[str, Key]:
    return {
        "ssm.inner_size": inner,
        "ssm.state_size": size,
        "ssm.group_count": groups,
        "ssm.time_step_rank": heads,
        "ssm.conv_kernel": 4,
    }


def sparse_models() -> list[Model]:
    """From 7 to 1,000 billion parameters."""
    shared: dict[str, Key] = {"expert_shared_count": 1, "attention.q_lora_rank": 1536}
    groups: dict[str, Key] = {"expert_group_count": 8, "expert_group_used_count": 4}
    wide: dict[str, Key] = {"expert_shared_feed_forward_length": 512}
    nemotron = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"
    return [
        mixtral("mixtral-8x7b", keys(32, 4096, 32, 8, 14336, 32000, 32768) | routed(8, 2)),
        mixtral("mixtral-8x22b", keys(56, 6144, 48, 8, 16384, 32768, 65536) | routed(8, 2)),
        qwen3moe("qwen3-30b-a3b", keys(48, 2048, 32, 4, 6144, 151936, 40960) | routed(128, 8, 768)),
        qwen3moe("qwen3-235b-a22b", keys(94, 4096, 64, 4, 12288, 151936, 40960) | routed(128, 8, 1536)),
        gpt_oss("gpt-oss-20b", keys(24, 2880, 64, 8, 2880, 201088, 131072) | routed(32, 4, 2880)),
        gpt_oss("gpt-oss-120b", keys(36, 2880, 64, 8, 2880, 201088, 131072) | routed(128, 4, 2880)),
        deepseek("deepseek-v2-lite", keys(27, 2048, 16, 1, 10944, 102400, 163840) | routed(64, 6, 1408)
            | {"expert_shared_count": 2}, 1),
        deepseek("deepseek-v2", keys(60, 5120, 128, 1, 12288, 102400, 163840) | routed(160, 6, 1536) | shared
            | {"expert_shared_count": 2}, 1),
        deepseek("deepseek-v3", keys(61, 7168, 128, 1, 18432, 129280, 163840) | routed(256, 8, 2048) | shared | groups,
            3, biased=True),
        deepseek("kimi-k2", keys(61, 7168, 64, 1, 18432, 163840, 131072) | routed(384, 8, 2048) | shared, 1,
            biased=True),
        glm4moe("glm-4.5-air", keys(47, 4096, 96, 8, 10944, 151552, 131072) | routed(128, 8, 1408)),
        llama4("llama-4-scout", keys(48, 5120, 40, 8, 16384, 202048, 10485760) | routed(16, 1, 8192)),
        mamba("mamba-codestral-7b", keys(64, 4096, 0, 0, 0, 32768, 262144), state(8192, 128, 8, 128)),
        granite_hybrid("granite-4.0-h-small", keys(40, 4096, 32, 8, 768, 100352, 131072) | routed(72, 10)
            | {"expert_shared_feed_forward_length": 1536}, state(8192, 128, 1, 128), {5, 15, 25, 35}),
        falcon_h1("falcon-h1-34b", keys(72, 5120, 20, 4, 21504, 261120, 262144), state(10240, 256, 2, 32)),
        nemotron_h("nemotron-h-8b", nemotron, keys(52, 4096, 32, 8, 21504, 131072, 8192), state(8192, 128, 8, 128)),
        qwen_next("qwen3-next-80b", "qwen3next", keys(48, 2048, 16, 2, 5120, 151936, 262144) | routed(512, 10, 512)
            | wide, state(4096, 128, 16, 32)),
        qwen_next("qwen3.5-27b", "qwen35", keys(64, 5120, 24, 4, 17408, 248320, 262144), state(6144, 128, 16, 48)),
        gemma4("gemma-4-12b", keys(48, 3840, 16, [8 if layer % 6 != 5 else 1 for layer in range(48)], 15360, 262144,
            262144)),
        gemma4("gemma-4-31b", keys(60, 5376, 32, [16 if layer % 6 != 5 else 4 for layer in range(60)], 21504, 262144,
            262144)),
        gemma4("gemma-4-e4b", keys(42, 2560, 8, [2] * 42, 10240, 262144, 131072), shared=18, own=256),
        gemma3n("gemma-3n-e4b", keys(35, 2048, 8, 2, 16384, 262144, 32768)),
    ]  # fmt: skip
