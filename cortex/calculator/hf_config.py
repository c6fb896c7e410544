"""What a Hugging Face ``config.json`` says of each layer, family by family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cortex.calculator.shape import Layer, Mla, Recurrence
from cortex.calculator.unreadable import UnreadableModel

LAYER_LIMIT, EXPERT_LIMIT = 1024, 4096
ENCODERS = frozenset(
    {"bert", "roberta", "xlm-roberta", "nomic_bert", "modernbert", "mpnet", "distilbert", "deberta-v2", "new",
     "camembert", "electra", "gte", "eurobert", "neobert", "jina_bert"}
)  # fmt: skip
# families whose window covers every layer, when there is one
ALL_WINDOWED = frozenset({"mistral", "mixtral", "phi3", "starcoder2", "ministral"})
# the period of the window pattern of configs without "layer_types"; the last layer of each period sees everything
PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2, "llama4": 4, "llama4_text": 4}
PLAIN = frozenset(
    {"llama", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "phi", "phimoe", "cohere", "granite", "granitemoe",
     "deepseek_v2", "deepseek_v3", "kimi_k2", "glm", "glm4", "glm4_moe", "minimax_m2", "olmo", "olmo2", "stablelm",
     "falcon", "gpt_neox", "mpt", "internlm2", "exaone", "baichuan", "nemotron", "gemma3n", "gemma3n_text", "gemma4",
     "gemma4_text", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "mllama", "smollm3", "seed_oss", "dbrx"}
)  # fmt: skip
HYBRID = frozenset(
    {"mamba", "mamba2", "falcon_mamba", "jamba", "falcon_h1", "nemotron_h", "bamba", "granitemoehybrid", "qwen3_next",
     "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text", "minimax", "kimi_linear", "zamba2", "lfm2"}
)  # fmt: skip
KNOWN = ENCODERS | ALL_WINDOWED | PERIODS.keys() | PLAIN | HYBRID
INNER = ("text_config", "language_config", "llm_config", "thinker_config")


@dataclass(frozen=True, slots=True)
class Config:
    """Typed reading of the language part of a config."""

    values: Mapping[str, object]

    @property
    def family(self) -> str:
        return str(self.values.get("model_type", ""))

    def number(self, *names: str, default: int = 0) -> int:
        """The first of ``names`` that is a sensible count."""
        for name in names:
            value = self.values.get(name)
            if value is None or isinstance(value, bool):
                continue
            if not isinstance(value, (int, float)) or not 0 <= value < 1 << 40:
                raise absurd(f"{name} is {str(value)[:60]}.")
            return int(value)
        return default

    def flags(self, name: str) -> Sequence[object]:
        value = self.values.get(name)
        return value if isinstance(value, (list, str)) else ()


def absurd(why: str) -> UnreadableModel:
    return UnreadableModel("The model's config.json makes no sense", why, "Fetch it again, or correct it.")


def language_config(values: Mapping[str, object]) -> Config:
    """The part that describes the language model; multimodal configs nest it."""
    for name in INNER:
        inner = values.get(name)
        if isinstance(inner, dict) and inner:
            merged = {"model_type": values.get("model_type"), **inner}
            return language_config(merged)
    return Config(values)


def mla_of(config: Config) -> Mla | None:
    rank, rope = config.number("kv_lora_rank"), config.number("qk_rope_head_dim")
    if not rank or not rope:
        return None
    return Mla(rank, rope, config.number("qk_nope_head_dim"), config.number("v_head_dim"), config.number("q_lora_rank"))


def recurrence_of(config: Config) -> Recurrence | None:
    """State-space and linear attention sizes, under the names of their families."""
    hidden = config.number("hidden_size", "d_model")
    kda = config.values.get("linear_attn_config")
    if isinstance(kda, dict):
        inner = Config(kda)
        heads, head = inner.number("num_heads"), inner.number("head_dim")
        return Recurrence(heads * head, head, heads, heads, inner.number("short_conv_kernel_size", default=4),
                          linear=True)  # fmt: skip
    heads, head = config.number("linear_num_value_heads"), config.number("linear_value_head_dim")
    if heads and head:
        return Recurrence(heads * head, config.number("linear_key_head_dim"), config.number("linear_num_key_heads"),
                          heads, config.number("linear_conv_kernel_dim", default=4), linear=True)  # fmt: skip
    state = config.number("mamba_d_state", "ssm_state_size", "state_size", "mamba_d_ssm_state")
    if not state:
        return None
    heads = config.number("mamba_n_heads", "mamba_num_heads", "num_heads")
    width = heads * config.number("mamba_d_head", "mamba_head_dim", "head_dim")
    whole = config.number("mamba_d_ssm", "intermediate_size" if config.family in ("mamba", "falcon_mamba") else "_")
    inner_size = whole or width or config.number("mamba_expand", "expand", default=2) * hidden
    groups = config.number("mamba_n_groups", "n_groups") if heads else 0
    return Recurrence(inner_size, state, groups, heads, config.number("mamba_d_conv", "conv_kernel", default=4))


def kinds_of(config: Config, count: int) -> list[str]:
    """One word per layer: full, window, chunk, state, both or none (a layer without a token mixer)."""
    if config.family in ENCODERS or not count:
        return ["full"] * count
    listed = config.flags("layer_types") or config.flags("layers_block_type") or config.flags("attn_type_list")
    if listed and len(listed) >= count:
        return [_word(each) for each in listed[:count]]
    pattern = config.values.get("hybrid_override_pattern")
    if isinstance(pattern, str) and len(pattern) >= count:
        return [{"M": "state", "*": "full"}.get(letter, "none") for letter in pattern[:count]]
    return _kinds_by_rule(config, count)


def _word(kind: object) -> str:
    text = str(kind)
    if "slid" in text:
        return "window"
    if "chunk" in text:
        return "chunk"
    if text in ("linear_attention", "mamba", "mamba2", "recurrent", "conv", "0"):
        return "state"
    return "both" if text == "hybrid" else "full"


def _kinds_by_rule(config: Config, count: int) -> list[str]:
    family = config.family
    kda = config.values.get("linear_attn_config")
    if isinstance(kda, dict):
        full = set(Config(kda).flags("full_attn_layers"))
        return ["full" if index + 1 in full else "state" for index in range(count)]
    if family in ("mamba", "mamba2", "falcon_mamba"):
        return ["state"] * count
    if family == "falcon_h1":
        return ["both"] * count
    period = config.number("attn_layer_period", "full_attention_interval")
    if period:
        offset = config.number("attn_layer_offset", default=period - 1)
        return ["full" if index % period == offset else "state" for index in range(count)]
    return _windows_by_rule(config, count)


def _windows_by_rule(config: Config, count: int) -> list[str]:
    family = config.family
    if family in PERIODS:
        period = config.number("sliding_window_pattern", default=PERIODS[family])
        word = "chunk" if family.startswith("llama4") else "window"
        return ["full" if period and index % period == period - 1 else word for index in range(count)]
    whole = family in ALL_WINDOWED and config.number("sliding_window") > 0
    return ["window" if whole else "full"] * count


def layer_of(config: Config, kind: str, index: int, mla: Mla | None, recurrence: Recurrence | None) -> Layer:
    """One layer's facts, without its weights."""
    heads = config.number("num_attention_heads", "n_head", "n_heads")
    hidden = config.number("hidden_size", "n_embd", "d_model")
    windowed = kind in ("window", "chunk")
    head = config.number("head_dim", "attention_head_dim", default=hidden // heads if heads else 0)
    kv_heads = config.number("num_key_value_heads", "multi_query_group_num", "num_kv_heads", default=heads)
    if kind == "full":
        head = config.number("global_head_dim", default=head)
        kv_heads = config.number("num_global_key_value_heads", default=kv_heads)
    attends, remembers = kind in ("full", "window", "chunk", "both"), kind in ("state", "both")
    experts, used, expert_ff = _experts(config, index)
    conv, state = _state(recurrence) if remembers and recurrence else (0, 0)
    return Layer(
        heads=heads if attends else 0,
        kv_heads=(1 if mla else kv_heads) if attends else 0,
        key=mla.rank + mla.rope if mla else head,
        value=0 if mla else config.number("v_head_dim", default=head),
        window=config.number("attention_chunk_size" if kind == "chunk" else "sliding_window") if windowed else 0,
        chunked=kind == "chunk",
        conv=conv,
        state=state,
        ff=config.number("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden),
        experts=experts,
        experts_used=used,
        expert_ff=expert_ff,
        shared_ff=_shared(config, expert_ff) if experts else 0,
    )


def _state(facts: Recurrence) -> tuple[int, int]:
    conv = max(facts.kernel - 1, 0) * (facts.inner + 2 * facts.groups * facts.state)
    return conv, facts.inner * facts.state


def _experts(config: Config, index: int) -> tuple[int, int, int]:
    count = config.number("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    if not count or index < config.number("first_k_dense_replace"):
        return 0, 0, 0
    ff = config.number("moe_intermediate_size", "intermediate_size")
    if count > EXPERT_LIMIT:
        raise absurd(f"it has {count:,} experts.")
    used = config.number("num_experts_per_tok", "num_experts_per_token", "moe_topk", default=1)
    return count, min(used, count), ff


def _shared(config: Config, expert_ff: int) -> int:
    length = config.number("shared_expert_intermediate_size", "shared_intermediate_size")
    return length or config.number("n_shared_experts", "num_shared_experts") * expert_ff
