"""Further shapes of families compared before: without experts, with merged or fused tensors, of older files, heads."""

from tools.plans.decoders import Style, decoder
from tools.plans.dense_models import bert, gemma3, keys, llama, qwen2, rope_of
from tools.plans.layouts import Model, attention, dense, ends, experts, mamba2, norms, shared_expert
from tools.plans.sparse import Key
from tools.plans.sparse_models import falcon_h1, llama4, routed, state

WIDE: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128}


def old_deepseek(name: str, config: dict[str, Key]) -> Model:
    """A file from before heads were cached compressed."""
    heads: dict[str, Key] = {
        "attention.kv_lora_rank": 512,
        "attention.key_length": 192,
        "attention.value_length": 128,
        "rope.dimension_count": 64,
        "leading_dense_block_count": 1,
        "expert_shared_count": 2,
        "expert_weights_scale": 1.0,
    }
    model = Model(name, "deepseek2", config | heads)
    ends(model)
    hidden, count = model.number("embedding_length"), model.number("attention.head_count")
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        norms(model, layer, "attn_norm", "ffn_norm")
        model.add(at + "attn_q.weight", hidden, count * 192)
        model.add(at + "attn_kv_a_mqa.weight", hidden, 576)
        model.add(at + "attn_kv_a_norm.weight", 512)
        model.add(at + "attn_kv_b.weight", 512, count * 256)
        model.add(at + "attn_output.weight", count * 128, hidden)
        if layer:
            experts(model, layer)
            shared_expert(model, layer, 2 * model.number("expert_feed_forward_length"))
        else:
            dense(model, layer)
    return model


def compressed(name: str, config: dict[str, Key], heads: dict[str, Key], lead: int) -> Model:
    """DeepSeek's attention in other sizes."""
    extra: dict[str, Key] = {"rope.dimension_count": 64, "leading_dense_block_count": lead, "expert_shared_count": 1}
    extra |= {"expert_gating_func": 2, "expert_weights_norm": True, "expert_weights_scale": 1.8}
    style = Style(lead=lead, shared=int(str(config["expert_feed_forward_length"])), scored=True, compressed=True)
    return decoder(name, "deepseek2", config | extra | heads, style)


def merged(name: str, config: dict[str, Key]) -> Model:
    """Cohere's experts, whose gates and first products are one tensor."""
    extra: dict[str, Key] = {"rope.dimension_count": 128, "attention.sliding_window": 4096, "logit_scale": 0.25}
    extra |= {"leading_dense_block_count": 1}
    model = decoder(name, "cohere2moe", config | WIDE | extra, Style(norms=("attn_norm",), tied=True, lead=1))
    del model.keys["attention.layer_norm_rms_epsilon"]
    hidden, count = model.number("embedding_length"), model.number("expert_count")
    for layer in range(1, model.number("block_count")):
        at = f"blk.{layer}.ffn_"
        for part in ("gate", "up"):
            del model.layout[f"{at}{part}_exps.weight"]
        model.add(at + "gate_up_exps.weight", hidden, 2 * model.number("expert_feed_forward_length"), count)
    return model


def dense_hybrid(name: str, config: dict[str, Key], ssm: dict[str, Key], full: set[int]) -> Model:
    """Granite 4 without experts."""
    kv_heads = [8 if layer in full else 0 for layer in range(40)]
    scales: dict[str, Key] = {"attention.scale": 0.015625, "embedding_scale": 12.0, "residual_scale": 0.22}
    extra: dict[str, Key] = {"logit_scale": 8.0, "attention.head_count_kv": kv_heads}
    model = rope_of(Model(name, "granitehybrid", config | ssm | scales | extra))
    ends(model, tied=True)
    for layer in range(40):
        if layer in full:
            attention(model, layer)
        else:
            mamba2(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def reranking_bert(name: str, config: dict[str, Key]) -> Model:
    model = bert(name, config | {"classifier.output_labels": ["relevance"]})
    model.keys["pooling_type"] = 4
    hidden = model.number("embedding_length")
    model.add("cls.weight", hidden, hidden)
    model.add("cls.bias", hidden)
    model.add("cls.output.weight", hidden, 1)
    model.add("cls.output.bias", 1)
    return model


def embedding_qwen(name: str, config: dict[str, Key]) -> Model:
    return qwen2(name, config | {"attention.causal": False, "pooling_type": 3}, "Q8_0")


def neox_in_turn(name: str, config: dict[str, Key]) -> Model:
    biased = ("attn_norm", "ffn_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", "output_norm")
    extra: dict[str, Key] = {"use_parallel_residual": False}
    return decoder(name, "gptneox", config | extra, Style(biased=biased, fused=True, plain=True))


def small_phi(name: str, config: dict[str, Key]) -> Model:
    model = Model(name, "phi3", config | {"rope.scaling.original_context_length": 4096, "rope.dimension_count": 96})
    ends(model, tied=True)
    hidden, heads, ff = 3072, 24, model.number("feed_forward_length")
    for part in ("long", "short"):
        model.add(f"rope_factors_{part}.weight", 48)
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        model.add(at + "attn_qkv.weight", hidden, (heads + 16) * 128)
        model.add(at + "attn_output.weight", hidden, hidden)
        model.add(at + "ffn_up.weight", hidden, 2 * ff)
        model.add(at + "ffn_down.weight", ff, hidden)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def gemma4_moe(name: str, config: dict[str, Key]) -> Model:
    """Gemma 4 with experts beside its dense block; layers that see everything take their keys as values too."""
    count = int(str(config["block_count"]))
    windows = [(layer + 1) % 6 != 0 for layer in range(count)]
    extra: dict[str, Key] = {
        "attention.head_count_kv": [8 if window else 2 for window in windows],
        "attention.key_length": 512,
        "attention.value_length": 512,
        "attention.key_length_swa": 256,
        "attention.value_length_swa": 256,
        "attention.sliding_window": 1024,
        "attention.sliding_window_pattern": windows,
        "embedding_length_per_layer_input": 0,
        "final_logit_softcapping": 30.0,
        "rope.dimension_count": 512,
        "rope.dimension_count_swa": 256,
    }
    model = Model(name, "gemma4", config | extra)
    ends(model, tied=True)
    model.add("rope_freqs.weight", 256)
    hidden, experts_count = model.number("embedding_length"), model.number("expert_count")
    ff = model.number("expert_feed_forward_length")
    for layer, window in enumerate(windows):
        at = f"blk.{layer}."
        attention(model, layer, norms=True, window=window)
        if not window:
            del model.layout[at + "attn_v.weight"]
        dense(model, layer)
        norms(model, layer, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        norms(model, layer, "post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2")
        model.add(at + "ffn_gate_inp.weight", hidden, experts_count, type_name="F32")
        model.add(at + "ffn_gate_inp.scale", hidden)
        model.add(at + "ffn_gate_up_exps.weight", hidden, 2 * ff, experts_count)
        model.add(at + "ffn_down_exps.weight", ff, hidden, experts_count)
        model.add(at + "layer_output_scale.weight", 1)
    return model


def grok2(name: str, config: dict[str, Key]) -> Model:
    """Grok with a dense block beside its experts."""
    scales: dict[str, Key] = {"embedding_scale": 90.5, "logit_scale": 0.577, "attention.output_scale": 0.0884}
    caps: dict[str, Key] = {"attn_logit_softcapping": 30.0, "final_logit_softcapping": 50.0}
    style = Style(norms=("attn_norm", "attn_output_norm", "ffn_norm", "post_ffw_norm"))
    model = decoder(name, "grok", config | WIDE | scales | caps, style)
    for layer in range(model.number("block_count")):
        dense(model, layer)
    return model


def variant_models() -> list[Model]:
    """From 0.1 to 675 billion parameters."""
    glm: dict[str, Key] = {"attention.q_lora_rank": 768, "attention.kv_lora_rank": 512, "attention.key_length": 576,
                           "attention.value_length": 512, "attention.key_length_mla": 256,
                           "attention.value_length_mla": 256}  # fmt: skip
    large: dict[str, Key] = {"attention.q_lora_rank": 1536, "attention.kv_lora_rank": 512, "attention.key_length": 576,
                             "attention.value_length": 512, "attention.key_length_mla": 192,
                             "attention.value_length_mla": 128}  # fmt: skip
    scaled: dict[str, Key] = {"attention.temperature_scale": 0.1, "attention.temperature_length": 8192}
    one = keys(26, 1152, 4, 1, 6912, 262144, 32768)
    fused = Style(fused=True)
    return [
        llama4("llama-4-maverick", keys(48, 5120, 40, 8, 16384, 202048, 1048576) | routed(128, 1, 8192), 2),
        old_deepseek("deepseek-v2-lite-old", keys(27, 2048, 16, 16, 10944, 102400, 163840) | routed(64, 6, 1408)),
        compressed("glm-4.7-flash", keys(47, 2048, 20, 1, 10240, 154880, 202752) | routed(64, 4, 1536), glm, 1),
        compressed("mistral-large-3", keys(61, 7168, 128, 1, 16384, 131072, 262144) | routed(128, 4, 4096),
            large | scaled, 3),
        gemma3("gemma-3-1b", one, 256),
        small_phi("phi-4-mini", keys(32, 3072, 24, 8, 8192, 200064, 131072)),
        dense_hybrid("granite-4.0-h-micro", keys(40, 2048, 32, 8, 8192, 100352, 131072), state(4096, 128, 1, 64),
            {5, 15, 25, 35}),
        reranking_bert("bge-reranker-v2-m3", keys(24, 1024, 16, 16, 4096, 250002, 8192)),
        embedding_qwen("gte-qwen2-7b", keys(28, 3584, 28, 4, 18944, 151646, 131072)),
        decoder("llama-3.1-8b-fused", "llama", keys(32, 4096, 32, 8, 14336, 128256, 131072), fused),
        neox_in_turn("redpajama-3b", keys(32, 2560, 32, 32, 10240, 50432, 2048)),
        falcon_h1("falcon-h1-0.5b", keys(36, 1024, 8, 2, 2048, 32784, 16384), state(1536, 128, 1, 24)),
        llama("smollm2-135m", keys(30, 576, 9, 3, 1536, 49152, 8192), tied=True, factors=False),
        gemma4_moe("gemma-4-26b-a4b", keys(30, 2816, 16, 8, 2112, 262144, 262144) | routed(128, 8, 704)),
        grok2("grok-2", keys(64, 8192, 64, 8, 32768, 131072, 131072) | routed(8, 2, 16384)),
        merged("command-a-moe-merged", keys(49, 2048, 32, 4, 8192, 256000, 131072) | routed(128, 8, 768)),
    ]  # fmt: skip
