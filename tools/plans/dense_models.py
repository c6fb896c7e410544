"""Dense models as published: their configurations, and the tensors that follow."""

from tools.plans.layouts import Model, attention, dense, ends, norms
from tools.plans.sparse import Key


def keys(
    layers: int, hidden: int, heads: int, kv_heads: int | list[int], ff: int | list[int], vocab: int, context: int
) -> dict[str, Key]:
    """The keys every family has."""
    return {
        "block_count": layers,
        "embedding_length": hidden,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "feed_forward_length": ff,
        "vocab_size": vocab,
        "context_length": context,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.freq_base": 500000.0,
    }


def rope_of(model: Model) -> Model:
    hidden, heads = model.number("embedding_length"), model.number("attention.head_count")
    model.keys.setdefault("rope.dimension_count", model.number("attention.key_length", hidden // heads))
    return model


def llama(
    name: str, config: dict[str, Key], *, tied: bool = False, weight: str = "Q4_K", factors: bool = True
) -> Model:
    model = rope_of(Model(name, "llama", config, weight))
    ends(model, tied=tied)
    if factors:
        model.add("rope_freqs.weight", model.number("rope.dimension_count") // 2)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def qwen2(name: str, config: dict[str, Key], weight: str = "Q4_K") -> Model:
    model = Model(name, "qwen2", config, weight)
    ends(model)
    for layer in range(model.number("block_count")):
        attention(model, layer, bias=True)
        dense(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def qwen3(name: str, config: dict[str, Key], *, weight: str = "Q4_K", headless: bool = False) -> Model:
    model = Model(name, "qwen3", config | {"attention.key_length": 128, "attention.value_length": 128}, weight)
    ends(model, tied=headless)
    if headless:
        model.keys["pooling_type"] = 3
    for layer in range(model.number("block_count")):
        attention(model, layer, norms=True)
        dense(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def gemma2(name: str, config: dict[str, Key], head: int) -> Model:
    sizes: dict[str, Key] = {"attention.key_length": head, "attention.value_length": head}
    caps: dict[str, Key] = {"attention.sliding_window": 4096, "attn_logit_softcapping": 50.0}
    model = Model(name, "gemma2", config | sizes | caps | {"final_logit_softcapping": 30.0})
    ends(model, tied=True)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    return model


def gemma3(name: str, config: dict[str, Key], head: int, weight: str = "Q4_0") -> Model:
    sizes: dict[str, Key] = {"attention.key_length": head, "attention.value_length": head}
    model = Model(name, "gemma3", config | sizes | {"attention.sliding_window": 1024}, weight)
    ends(model, tied=True)
    for layer in range(model.number("block_count")):
        attention(model, layer, norms=True)
        dense(model, layer)
        norms(model, layer, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    return model


def phi3(name: str, config: dict[str, Key], weight: str = "Q4_K") -> Model:
    model = rope_of(Model(name, "phi3", config | {"rope.scaling.original_context_length": 4096}, weight))
    ends(model)
    hidden, heads = model.number("embedding_length"), model.number("attention.head_count")
    ff, kv_width = model.number("feed_forward_length"), model.number("attention.head_count_kv") * (hidden // heads)
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        model.add(at + "attn_qkv.weight", hidden, hidden + 2 * kv_width)
        model.add(at + "attn_output.weight", hidden, hidden)
        model.add(at + "ffn_up.weight", hidden, 2 * ff)
        model.add(at + "ffn_down.weight", ff, hidden)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def command_r(name: str, config: dict[str, Key]) -> Model:
    model = rope_of(Model(name, "command-r", config | {"logit_scale": 0.0625}))
    ends(model, tied=True)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm")
    return model


def cohere2(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {"attention.sliding_window": 4096, "logit_scale": 0.25, "rope.dimension_count": 128}
    model = Model(name, "cohere2", config | extra, "Q6_K")
    ends(model, tied=True)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm")
    return model


def granite(name: str, config: dict[str, Key]) -> Model:
    scales: dict[str, Key] = {"attention.scale": 0.01, "embedding_scale": 12.0, "residual_scale": 0.22}
    model = rope_of(Model(name, "granite", config | scales | {"logit_scale": 16.0}, "Q8_0"))
    ends(model, tied=True)
    for layer in range(model.number("block_count")):
        attention(model, layer)
        dense(model, layer)
        norms(model, layer, "attn_norm", "ffn_norm")
    return model


def glm4(name: str, config: dict[str, Key]) -> Model:
    model = Model(name, "glm4", config | {"rope.dimension_count": 64})
    ends(model)
    hidden, ff = model.number("embedding_length"), model.number("feed_forward_length")
    for layer in range(model.number("block_count")):
        attention(model, layer)
        model.add(f"blk.{layer}.ffn_up.weight", hidden, 2 * ff)
        model.add(f"blk.{layer}.ffn_down.weight", ff, hidden)
        norms(model, layer, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    return model


def bert(name: str, config: dict[str, Key]) -> Model:
    model = Model(name, "bert", config | {"attention.causal": False, "pooling_type": 2}, "F16")
    hidden, ff = model.number("embedding_length"), model.number("feed_forward_length")
    model.add("token_embd.weight", hidden, model.number("vocab_size"))
    model.add("position_embd.weight", hidden, model.number("context_length"), type_name="F32")
    model.add("token_types.weight", hidden, 2, type_name="F32")
    model.add("token_embd_norm.weight", hidden)
    model.add("token_embd_norm.bias", hidden)
    for layer in range(model.number("block_count")):
        attention(model, layer, bias=True)
        dense(model, layer, gated=False)
        at = f"blk.{layer}."
        for part, width in (("attn_output", hidden), ("ffn_up", ff), ("ffn_down", hidden)):
            model.add(f"{at}{part}.bias", width)
        for part in ("attn_output_norm", "layer_output_norm"):
            model.add(f"{at}{part}.weight", hidden)
            model.add(f"{at}{part}.bias", hidden)
    return model


def dense_models() -> list[Model]:
    """From 0.3 to 123 billion parameters."""
    return [
        llama("llama-3.1-8b", keys(32, 4096, 32, 8, 14336, 128256, 131072)),
        llama("llama-3.3-70b", keys(80, 8192, 64, 8, 28672, 128256, 131072)),
        llama("llama-2-13b", keys(40, 5120, 40, 40, 13824, 32000, 4096), weight="Q8_0", factors=False),
        llama("llama-3.2-3b", keys(28, 3072, 24, 8, 8192, 128256, 131072), tied=True),
        llama("mistral-nemo-12b", keys(40, 5120, 32, 8, 14336, 131072, 131072) | {"attention.key_length": 128,
            "attention.value_length": 128}, factors=False),
        llama("mistral-large-123b", keys(88, 12288, 96, 8, 28672, 32768, 131072), factors=False),
        qwen2("qwen2.5-7b", keys(28, 3584, 28, 4, 18944, 152064, 32768)),
        qwen2("qwen2.5-32b", keys(64, 5120, 40, 8, 27648, 152064, 32768)),
        qwen2("qwen2.5-72b", keys(80, 8192, 64, 8, 29568, 152064, 32768), "Q8_0"),
        qwen3("qwen3-8b", keys(36, 4096, 32, 8, 12288, 151936, 40960)),
        qwen3("qwen3-32b", keys(64, 5120, 64, 8, 25600, 151936, 40960), weight="F16"),
        qwen3("qwen3-embedding-8b", keys(36, 4096, 32, 8, 12288, 151665, 40960), weight="Q8_0", headless=True),
        gemma2("gemma-2-9b", keys(42, 3584, 16, 8, 14336, 256000, 8192), 256),
        gemma2("gemma-2-27b", keys(46, 4608, 32, 16, 36864, 256000, 8192), 128),
        gemma3("gemma-3-12b", keys(48, 3840, 16, 8, 15360, 262208, 131072), 256),
        gemma3("gemma-3-27b", keys(62, 5376, 32, 16, 21504, 262208, 131072), 128, "Q4_K"),
        phi3("phi-3-medium-14b", keys(40, 5120, 40, 10, 17920, 32064, 131072)),
        phi3("phi-4-14b", keys(40, 5120, 40, 10, 17920, 100352, 16384), "Q8_0"),
        command_r("command-r-35b", keys(40, 8192, 64, 64, 22528, 256000, 131072)),
        cohere2("command-r7b", keys(32, 4096, 32, 8, 14336, 256000, 8192)),
        granite("granite-3.3-8b", keys(40, 4096, 32, 8, 12800, 49159, 131072)),
        glm4("glm-4-32b", keys(61, 6144, 48, 2, 23040, 151552, 32768)),
        bert("bge-m3", keys(24, 1024, 16, 16, 4096, 250002, 8192)),
    ]  # fmt: skip
