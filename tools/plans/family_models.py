"""Further families: sizes as published where known, with what was assumed said beside them."""

from tools.plans.decoders import QKV, Style, decoder
from tools.plans.dense_models import keys, qwen3
from tools.plans.layouts import Model
from tools.plans.sparse import Key
from tools.plans.sparse_models import mixtral, routed

SHARED_INDEX_CONTEXT = 1 << 20  # what tells GLM 5.2 from 5


def gemma(name: str, config: dict[str, Key]) -> Model:
    sizes: dict[str, Key] = {"attention.key_length": 256, "attention.value_length": 256}
    return decoder(name, "gemma", config | sizes, Style(tied=True))


def chatglm(name: str, config: dict[str, Key]) -> Model:
    style = Style(fused=True, packed=True, biased=("attn_qkv",))
    return decoder(name, "chatglm", config | {"rope.dimension_count": 64}, style)


def phimoe(name: str, config: dict[str, Key]) -> Model:
    biased = ("attn_norm", "ffn_norm", "attn_output", "output_norm", "output", *QKV)
    model = decoder(name, "phimoe", config, Style(biased=biased))
    for part in ("long", "short"):
        model.add(f"rope_factors_{part}.weight", 64)
    return model


def mistral3(name: str, config: dict[str, Key], *, tied: bool = False) -> Model:
    sizes: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128}
    scale: dict[str, Key] = {"attention.temperature_scale": 0.1, "rope.scaling.original_context_length": 16384}
    return decoder(name, "mistral3", config | sizes | scale, Style(tied=tied))


def mistral4(name: str, config: dict[str, Key], lead: int) -> Model:
    """The sizes of its heads are assumed."""
    heads: dict[str, Key] = {
        "attention.q_lora_rank": 1024,
        "attention.kv_lora_rank": 256,
        "attention.key_length": 320,
        "attention.value_length": 256,
        "attention.key_length_mla": 128,
        "attention.value_length_mla": 128,
        "rope.dimension_count": 64,
        "leading_dense_block_count": lead,
        "expert_shared_count": 1,
        "attention.temperature_scale": 0.1,
        "attention.temperature_length": 8192,
        "expert_weights_norm": True,
    }
    shared = int(str(config["expert_feed_forward_length"]))
    return decoder(name, "mistral4", config | heads, Style(lead=lead, shared=shared, compressed=True))


def qwen_vl(name: str, family: str, config: dict[str, Key], sections: list[int]) -> Model:
    extra: dict[str, Key] = {"rope.dimension_sections": sections}
    if family == "qwen2vl":
        return decoder(name, family, config | extra, Style(biased=QKV))
    extra |= {"attention.key_length": 128, "attention.value_length": 128, "n_deepstack_layers": 3}
    return decoder(name, family, config | extra, Style(normed="head"))


def cohere2moe(name: str, config: dict[str, Key]) -> Model:
    """All its sizes are assumed: the build names 49 layers, one of them dense and one full one of four."""
    extra: dict[str, Key] = {
        "attention.key_length": 128,
        "attention.value_length": 128,
        "rope.dimension_count": 128,
        "attention.sliding_window": 4096,
        "logit_scale": 0.25,
        "leading_dense_block_count": 1,
        "expert_shared_count": 1,
        "expert_weights_norm": True,
    }
    shared = int(str(config["expert_feed_forward_length"]))
    style = Style(norms=("attn_norm",), tied=True, lead=1, shared=shared)
    model = decoder(name, "cohere2moe", config | extra, style)
    del model.keys["attention.layer_norm_rms_epsilon"]  # with it, norms would keep the mean
    return model


def granitemoe(name: str, config: dict[str, Key]) -> Model:
    scales: dict[str, Key] = {"attention.scale": 0.015625, "embedding_scale": 12.0, "residual_scale": 0.22}
    return decoder(name, "granitemoe", config | scales | {"logit_scale": 6.0}, Style(tied=True))


def deepseek1(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"expert_shared_count": 2, "leading_dense_block_count": 1}
    return decoder(name, "deepseek", config | extra, Style(lead=1, shared=2 * 1408))


def indexed(name: str, family: str, config: dict[str, Key], heads: dict[str, Key], drafting: bool = False) -> Model:
    """Compressed attention that looks only where an index points. ``drafting``: the last layer predicts further."""
    extra: dict[str, Key] = {
        "attention.key_length": 576,
        "attention.value_length": 512,
        "attention.kv_lora_rank": 512,
        "rope.dimension_count": 64,
        "leading_dense_block_count": 3,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "attention.indexer.key_length": 128,
        "attention.indexer.top_k": 2048,
    }
    extra |= {"nextn_predict_layers": 1} if drafting else {}
    style = Style(lead=3, shared=2048, scored=True, compressed=True)
    model = decoder(name, family, config | extra | heads, style)
    hidden, count = model.number("embedding_length"), model.number("attention.indexer.head_count")
    shared = model.number("context_length") >= SHARED_INDEX_CONTEXT
    for layer in range(model.number("block_count")):
        if shared and layer > 1 and layer % 4 != 2:  # looks where the one before it did
            continue
        at = f"blk.{layer}.indexer."
        model.add(at + "k_norm.weight", 128)
        model.add(at + "k_norm.bias", 128)
        model.add(at + "proj.weight", hidden, count)
        model.add(at + "attn_k.weight", hidden, 128)
        model.add(at + "attn_q_b.weight", model.number("attention.q_lora_rank"), count * 128)
    if drafting:
        at = f"blk.{model.number('block_count') - 1}.nextn."
        model.add(at + "eh_proj.weight", 2 * hidden, hidden)
        for part in ("enorm", "hnorm", "shared_head_norm"):
            model.add(f"{at}{part}.weight", hidden)
    return model


def reranker(name: str, config: dict[str, Key]) -> Model:
    """Qwen 3 with a head of two classes, as the converter leaves it: yes and no."""
    model = qwen3(name, config | {"classifier.output_labels": ["yes", "no"]}, weight="Q8_0", headless=True)
    model.keys["pooling_type"] = 4
    model.add("cls.output.weight", model.number("embedding_length"), 2)
    return model


def family_models() -> list[Model]:
    """Decoders, from 0.6 to 745 billion parameters."""
    v3: dict[str, Key] = {"attention.q_lora_rank": 1536, "attention.key_length_mla": 192,
                          "attention.value_length_mla": 128, "attention.indexer.head_count": 64}  # fmt: skip
    glm5: dict[str, Key] = {"attention.q_lora_rank": 2048, "attention.key_length_mla": 256,
                            "attention.value_length_mla": 256, "attention.indexer.head_count": 32}  # fmt: skip
    return [
        gemma("gemma-7b", keys(28, 3072, 16, 16, 24576, 256000, 8192)),
        gemma("gemma-2b", keys(18, 2048, 8, 1, 16384, 256000, 8192)),
        chatglm("glm-4-9b", keys(40, 4096, 32, 2, 13696, 151552, 131072)),
        phimoe("phi-3.5-moe", keys(32, 4096, 32, 8, 6400, 32064, 131072) | routed(16, 2)),
        deepseek1("deepseek-moe-16b", keys(28, 2048, 16, 16, 10944, 102400, 4096) | routed(64, 6, 1408)),
        mistral3("ministral-3-8b", keys(34, 4096, 32, 8, 14336, 131072, 262144)),
        mistral3("ministral-3-3b", keys(26, 3072, 32, 8, 9216, 131072, 262144), tied=True),
        mistral4("mistral-small-4", keys(36, 4096, 32, 1, 12288, 131072, 262144) | routed(128, 4, 2048), 0),
        qwen_vl("qwen2.5-vl-7b", "qwen2vl", keys(28, 3584, 28, 4, 18944, 152064, 128000), [16, 24, 24, 0]),
        qwen_vl("qwen3-vl-8b", "qwen3vl", keys(36, 4096, 32, 8, 12288, 151936, 262144), [24, 20, 20, 0]),
        qwen_vl("qwen3-vl-30b-a3b", "qwen3vlmoe", keys(48, 2048, 32, 4, 6144, 151936, 262144) | routed(128, 8, 768),
            [24, 20, 20, 0]),
        cohere2moe("command-a-moe", keys(49, 2048, 32, 4, 8192, 256000, 131072) | routed(128, 8, 768)),
        granitemoe("granite-3.1-3b-a800m", keys(32, 1536, 24, 8, 512, 49155, 131072) | routed(40, 8)),
        mixtral("mixtral-4x7b", keys(32, 4096, 32, 8, 14336, 32000, 32768) | routed(4, 2)),
        reranker("qwen3-reranker-0.6b", keys(28, 1024, 16, 8, 3072, 151669, 40960)),
        indexed("deepseek-v3.2", "deepseek32", keys(61, 7168, 128, 1, 18432, 129280, 163840) | routed(256, 8, 2048),
            v3),
        indexed("glm-5", "glm-dsa", keys(79, 6144, 64, 1, 12288, 154880, 202752) | routed(256, 8, 2048), glm5, True),
        indexed("glm-5.2", "glm-dsa", keys(79, 6144, 64, 1, 12288, 154880, 1 << 20) | routed(256, 8, 2048), glm5, True),
    ]  # fmt: skip
