"""Models beside those the calculator was fitted on: other sizes of known families, and other families."""

from tools.plans.dense_models import bert, gemma2, gemma3, keys, llama, phi3, qwen2, qwen3, rope_of
from tools.plans.layouts import Model, attention, dense, ends, experts, norms, shared_expert, short_convolution
from tools.plans.sparse import Key
from tools.plans.sparse_models import (
    deepseek,
    falcon_h1,
    gemma4,
    glm4moe,
    gpt_oss,
    granite_hybrid,
    mamba,
    nemotron_h,
    qwen3moe,
    qwen_next,
    routed,
    state,
)


def olmo2(name: str, config: dict[str, Key]) -> Model:
    model = rope_of(Model(name, "olmo2", config))
    ends(model)
    hidden, kv_heads = model.number("embedding_length"), model.number("attention.head_count_kv")
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_q_norm", "post_attention_norm", "post_ffw_norm")
        model.add(f"blk.{layer}.attn_k_norm.weight", kv_heads * (hidden // model.number("attention.head_count")))
    return model


def qwen2moe(name: str, config: dict[str, Key]) -> Model:
    model = rope_of(Model(name, "qwen2moe", config))
    ends(model)
    for layer in range(model.number("block_count")):
        attention(model, layer, bias=True)
        experts(model, layer)
        shared_expert(model, layer, model.number("expert_shared_feed_forward_length"))
        model.add(f"blk.{layer}.ffn_gate_inp_shexp.weight", model.number("embedding_length"))
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def starcoder2(name: str, config: dict[str, Key]) -> Model:
    model = rope_of(Model(name, "starcoder2", config, "Q8_0"))
    ends(model, tied=True)
    hidden, ff = model.number("embedding_length"), model.number("feed_forward_length")
    model.add("output_norm.bias", hidden)
    for layer in range(model.number("block_count")):
        attention(model, layer, bias=True)
        dense(model, layer, gated=False)
        norms(model, layer, "attn_norm", "ffn_norm")
        for part, width in (("attn_norm", hidden), ("ffn_norm", hidden), ("attn_output", hidden), ("ffn_up", ff),
                            ("ffn_down", hidden)):  # fmt: skip
            model.add(f"blk.{layer}.{part}.bias", width)
    return model


def minimax_m2(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128, "rope.dimension_count": 64}
    model = Model(name, "minimax-m2", config | extra | {"expert_gating_func": 2})
    ends(model)
    heads, kv_heads = model.number("attention.head_count"), model.number("attention.head_count_kv")
    for layer in range(model.number("block_count")):
        attention(model, layer)
        experts(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
        at = f"blk.{layer}."
        model.add(at + "attn_q_norm.weight", heads * 128)
        model.add(at + "attn_k_norm.weight", kv_heads * 128)
        model.add(at + "exp_probs_b.bias", model.number("expert_count"))
    return model


def jamba(name: str, config: dict[str, Key], full: set[int]) -> Model:
    kv_heads = [8 if layer in full else 0 for layer in range(int(str(config["block_count"])))]
    ssm: dict[str, Key] = {"ssm.inner_size": 2 * int(str(config["embedding_length"])), "ssm.state_size": 16}
    ssm |= {"ssm.time_step_rank": 256, "ssm.conv_kernel": 4, "attention.head_count_kv": kv_heads}
    model = rope_of(Model(name, "jamba", config | ssm))
    ends(model)
    hidden, inner, rank = model.number("embedding_length"), model.number("ssm.inner_size"), 256
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        norms(model, layer, "attn_norm", "ffn_norm")
        if layer in full:
            attention(model, layer)
        else:
            model.add(at + "ssm_in.weight", hidden, 2 * inner)
            model.add(at + "ssm_conv1d.weight", 4, inner, type_name="F32")
            model.add(at + "ssm_conv1d.bias", inner)
            model.add(at + "ssm_x.weight", inner, rank + 32)
            model.add(at + "ssm_dt_norm.weight", rank)
            model.add(at + "ssm_dt.weight", rank, inner)
            model.add(at + "ssm_dt.bias", inner)
            model.add(at + "ssm_b_norm.weight", 16)
            model.add(at + "ssm_c_norm.weight", 16)
            model.add(at + "ssm_a", 16, inner, type_name="F32")
            model.add(at + "ssm_d", inner)
            model.add(at + "ssm_out.weight", inner, hidden)
        if layer % 2:
            experts(model, layer)
        else:
            dense(model, layer)
    return model


def lfm2(name: str, config: dict[str, Key], full: set[int]) -> Model:
    kv_heads = [8 if layer in full else 0 for layer in range(int(str(config["block_count"])))]
    extra: dict[str, Key] = {"shortconv.l_cache": 3, "attention.head_count_kv": kv_heads}
    model = rope_of(Model(name, "lfm2", config | extra))
    ends(model, tied=True)
    model.layout["token_embd_norm.weight"] = model.layout.pop("output_norm.weight")
    for layer in range(model.number("block_count")):
        norms(model, layer, "attn_norm", "ffn_norm")
        dense(model, layer)
        if layer in full:
            attention(model, layer, norms=True)
        else:
            short_convolution(model, layer)
    return model


def nomic_bert(name: str, config: dict[str, Key]) -> Model:
    model = rope_of(Model(name, "nomic-bert", config | {"attention.causal": False, "pooling_type": 1}, "F16"))
    hidden = model.number("embedding_length")
    model.add("token_embd.weight", hidden, model.number("vocab_size"))
    model.add("token_types.weight", hidden, 2, type_name="F32")
    model.add("token_embd_norm.weight", hidden)
    model.add("token_embd_norm.bias", hidden)
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        model.add(at + "attn_qkv.weight", hidden, 3 * hidden)
        model.add(at + "attn_output.weight", hidden, hidden)
        dense(model, layer)
        for part in ("attn_output_norm", "layer_output_norm"):
            model.add(f"{at}{part}.weight", hidden)
            model.add(f"{at}{part}.bias", hidden)
    return model


def further_models() -> list[Model]:
    """From 0.1 to 671 billion parameters."""
    shared: dict[str, Key] = {"expert_shared_count": 1, "attention.q_lora_rank": 1536}
    nano = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
    return [
        llama("mistral-small-24b", keys(40, 5120, 32, 8, 32768, 131072, 32768) | {"attention.key_length": 128,
            "attention.value_length": 128}, factors=False),
        llama("llama-3.2-1b", keys(16, 2048, 32, 8, 8192, 128256, 131072), tied=True, weight="Q8_0"),
        qwen2("qwen2.5-14b", keys(48, 5120, 40, 8, 13824, 152064, 131072)),
        qwen3("qwen3-0.6b", keys(28, 1024, 16, 8, 3072, 151936, 40960), weight="Q8_0"),
        gemma2("gemma-2-2b", keys(26, 2304, 8, 4, 9216, 256000, 8192), 256),
        gemma3("gemma-3-4b", keys(34, 2560, 8, 4, 10240, 262208, 131072), 256),
        phi3("phi-3-mini-4k", keys(32, 3072, 32, 32, 8192, 32064, 4096)),
        bert("bge-large", keys(24, 1024, 16, 16, 4096, 30522, 512)),
        gemma4("gemma-4-e2b", keys(35, 1536, 8, [1] * 35, 6144, 262144, 131072), shared=20, own=256, period=5),
        qwen3moe("qwen3-coder-480b", keys(62, 6144, 96, 8, 8192, 151936, 262144) | routed(160, 8, 2560)),
        gpt_oss("gpt-oss-60b", keys(30, 2880, 64, 8, 2880, 201088, 131072) | routed(64, 4, 2880)),
        deepseek("deepseek-r1", keys(61, 7168, 128, 1, 18432, 129280, 163840) | routed(256, 8, 2048) | shared, 3,
            biased=True),
        glm4moe("glm-4.6", keys(93, 5120, 96, 8, 12288, 151552, 202752) | routed(160, 8, 1536)),
        mamba("mamba2-2.7b", keys(64, 2560, 0, 0, 0, 50288, 1048576), state(5120, 128, 1, 80)),
        granite_hybrid("granite-4.0-h-tiny", keys(40, 1536, 12, 4, 512, 100352, 131072) | routed(64, 6)
            | {"expert_shared_feed_forward_length": 1024}, state(3072, 128, 1, 48), {5, 15, 25, 35}, 4),
        falcon_h1("falcon-h1-7b", keys(44, 3072, 12, 2, 12288, 130048, 262144), state(3072, 256, 1, 24)),
        nemotron_h("nemotron-nano-9b", nano, keys(len(nano), 4480, 40, 8, 15680, 131072, 131072),
            state(10240, 128, 8, 128)),
        qwen_next("qwen3.5-35b-a3b", "qwen35moe", keys(40, 2048, 16, 2, 5120, 248320, 262144) | routed(256, 8, 512)
            | {"expert_shared_feed_forward_length": 512}, state(4096, 128, 16, 32)),
        olmo2("olmo-2-32b", keys(64, 5120, 40, 8, 27648, 100352, 4096)),
        qwen2moe("qwen2-57b-a14b", keys(28, 3584, 28, 4, 18944, 151936, 32768) | routed(64, 8, 2560)
            | {"expert_shared_feed_forward_length": 20480}),
        starcoder2("starcoder2-15b", keys(40, 6144, 48, 4, 24576, 49152, 16384)),
        minimax_m2("minimax-m2", keys(62, 3072, 48, 8, 1536, 200064, 196608) | routed(256, 8, 1536)),
        jamba("jamba-1.5-mini", keys(32, 4096, 32, 8, 14336, 65536, 262144) | routed(16, 2), {4, 12, 20, 28}),
        lfm2("lfm2-2.6b", keys(30, 2048, 32, 8, 10752, 65536, 128000), {2, 5, 8, 10, 12, 14, 17, 22, 26, 28}),
        nomic_bert("nomic-embed", keys(12, 768, 12, 12, 3072, 30522, 2048)),
    ]  # fmt: skip
