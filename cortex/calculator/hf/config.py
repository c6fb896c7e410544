"""What a Hugging Face ``config.json`` says of each layer, family by family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cortex.calculator.hf.families import COMPRESSING, LIGHTNING, stem, usual
from cortex.calculator.shape import Layer, Mla, Recurrence
from cortex.calculator.unreadable import UnreadableModel

LAYER_LIMIT, EXPERT_LIMIT, LONGEST = 1024, 4096, 100
INNER = ("text_config", "language_config", "llm_config", "thinker_config")
NESTED = ("attn_config", "ffn_config")  # DBRX and MPT describe parts of a layer apart
LENGTHS = ("model_max_length", "max_position_embeddings", "n_positions", "max_seq_len", "seq_length",
           "max_sequence_length")  # fmt: skip
STRETCHED = ("linear", "dynamic", "yarn")


@dataclass(frozen=True, slots=True)
class Config:
    """Typed reading of the language part of a config; of one layer where ``index`` is given and sizes are listed.

    ``left_out`` are sizes that it does not name: they are as usual in its family.
    """

    values: Mapping[str, object]
    index: int | None = None
    left_out: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        value = self.values.get("model_type")
        return value[:LONGEST] if isinstance(value, str) else ""

    @property
    def stem(self) -> str:
        return stem(self.family)

    def number(self, *names: str, default: int = 0) -> int:
        """The first of ``names`` that is a sensible count."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, list) and self.index is not None and self.index < len(value):
                value = value[self.index]
            if value is None or isinstance(value, bool):
                continue
            if not isinstance(value, (int, float)) or not 0 <= value < 1 << 40:
                raise absurd(f"{name} is {str(value)[:60]}.")
            return int(value)
        return default

    def flags(self, name: str) -> Sequence[object]:
        value = self.values.get(name)
        return value if isinstance(value, (list, str)) else ()

    def says(self, name: str) -> bool:
        return self.values.get(name) is True

    def length(self) -> int:
        """Tokens it was trained for, positions stretched as the config says; 4096 where nothing is said."""
        known = (self.values.get(name) for name in LENGTHS)
        told = int(next((value for value in known if isinstance(value, (int, float)) and 1 < value < 1 << 30), 4096))
        scaling = self.values.get("rope_scaling") or self.values.get("rope_parameters")
        if not isinstance(scaling, dict):
            return told
        kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
        if kind not in STRETCHED or not isinstance(factor, (int, float)) or not 1 <= factor < 1 << 16:
            return told
        trained = scaling.get("original_max_position_embeddings")
        start = trained if kind == "yarn" and isinstance(trained, int) and 0 < trained < 1 << 30 else told
        return max(told, int(start * factor))

    def indexes(self, name: str) -> frozenset[int]:
        """Layers that a list names by their numbers."""
        return frozenset(each for each in self.flags(name)[:LAYER_LIMIT] if isinstance(each, int))


def absurd(why: str) -> UnreadableModel:
    return UnreadableModel("The model's config.json makes no sense", why, "Fetch it again, or correct it.")


def language_config(values: Mapping[str, object]) -> Config:
    """The part that describes the language model; multimodal configs nest it. What it leaves out is as usual."""
    for _ in range(len(INNER)):
        inner = next((part for part in map(values.get, INNER) if isinstance(part, dict) and part), None)
        if inner is None:
            break
        values = {name: values.get(name) for name in ("model_type", "vocab_size") if name in values} | inner
    for name in NESTED:
        part = values.get(name)
        values = {**part, **values} if isinstance(part, dict) else values
    values = {**values, **_of_blocks(values)}
    sizes = usual(Config(values).family)
    return Config(sizes | dict(values), left_out=tuple(name for name in sizes if name not in values))


def _of_blocks(values: Mapping[str, object]) -> dict[str, object]:
    """What a search for smaller models left of each layer's attention, as lists: heads that share one, or none."""
    blocks, heads = values.get("block_configs"), values.get("num_attention_heads")
    if not isinstance(blocks, list) or not isinstance(heads, int):
        return {}
    parts = [block.get("attention") if isinstance(block, dict) else None for block in blocks[:LAYER_LIMIT]]
    groups = [part.get("n_heads_in_group") if isinstance(part, dict) else None for part in parts]
    kept = [heads // group if isinstance(group, int) and 0 < group <= heads else 0 for group in groups]
    return {"num_key_value_heads": kept, "layer_types": ["full_attention" if each else "mlp" for each in kept]}


def mla_of(config: Config) -> Mla | None:
    rank, rope = config.number("kv_lora_rank"), config.number("qk_rope_head_dim")
    if not rank or not rope or config.values.get("use_mla") is False:
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


ATTENDING = ("full", "window", "chunk", "both")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_query_heads")
KV_HEADS = ("num_key_value_heads", "multi_query_group_num", "num_kv_heads", "kv_n_heads")
HEAD = ("head_dim", "attention_head_dim", "kv_channels")


def layer_of(whole: Config, kind: str, index: int, mla: Mla | None, recurrence: Recurrence | None) -> Layer:
    """One layer's facts, without its weights."""
    config = Config(whole.values, index)
    hidden = config.number(*WIDTH)
    attends = kind in ATTENDING
    heads, kv_heads, key, value = _heads(config, kind, hidden, mla)
    experts, used, expert_ff = _experts(config, kind, index)
    conv, state = _remembered(config, kind, recurrence)
    return Layer(
        heads=heads if attends else 0,
        kv_heads=kv_heads if attends else 0,
        key=key,
        value=value,
        window=_window(config, kind),
        chunked=kind == "chunk",
        conv=conv,
        state=state,
        indexer=config.number("index_head_dim") if attends and _indexes(config, index) else 0,
        ff=config.number("intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "ffn_hidden_size",
                         default=4 * hidden),
        experts=experts,
        experts_used=used,
        expert_ff=expert_ff,
        shared_ff=_shared(config, expert_ff) if experts else 0,
    )  # fmt: skip


WIDTH = ("hidden_size", "n_embd", "d_model", "dim", "n_embed")


def _heads(config: Config, kind: str, hidden: int, mla: Mla | None) -> tuple[int, int, int, int]:
    """Heads, those of keys and values, and their sizes."""
    heads = config.number(*HEADS)
    if mla is not None:
        return heads, 1, mla.rank + mla.rope, 0
    size = config.number(*HEAD, default=hidden // heads if heads else 0)
    one = config.says("multi_query") and not config.says("new_decoder_architecture")
    kv_heads = config.number(*KV_HEADS, default=1 if one else heads)
    if kind == "full":
        size = config.number("global_head_dim", default=size)
        kv_heads = config.number("num_global_key_value_heads", default=kv_heads)
    plain = config.stem in COMPRESSING  # without compressed heads those have values as wide as their keys
    return heads, kv_heads, size, size if plain else config.number("v_head_dim", default=size)


def _window(config: Config, kind: str) -> int:
    if kind not in ("window", "chunk"):
        return 0
    return config.number("attention_chunk_size" if kind == "chunk" else "sliding_window")


def _indexes(config: Config, index: int) -> bool:
    """Whether this layer has a sparse index of its own, or uses that of an earlier one."""
    kinds = config.flags("indexer_types")
    if len(kinds) > index:
        return kinds[index] == "full"
    every, first = config.number("index_topk_freq", default=1), config.number("index_skip_topk_offset", default=2)
    return not max(index - first + 1, 0) % max(every, 1)


def _remembered(config: Config, kind: str, recurrence: Recurrence | None) -> tuple[int, int]:
    """Values of convolution and of state that a sequence keeps in this layer."""
    if kind == "conv":
        return max(config.number("conv_L_cache") - 1, 0) * config.number("conv_dim", *WIDTH), 0
    if kind not in ("state", "both"):
        return 0, 0
    if recurrence is not None:
        return _state(recurrence)
    if config.stem in LIGHTNING:
        return 0, config.number(*HEADS) * config.number(*HEAD) ** 2 // 2  # kept in 16 bits, states count in 32
    return 0, 0


def _state(facts: Recurrence) -> tuple[int, int]:
    conv = max(facts.kernel - 1, 0) * (facts.inner + 2 * facts.groups * facts.state)
    return conv, facts.inner * facts.state


def _experts(config: Config, kind: str, index: int) -> tuple[int, int, int]:
    """How many experts this layer has, how many it uses, and how wide they are."""
    count = config.number("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    if not count or not _chooses(config, kind, index):
        return 0, 0, 0
    ff = config.number("moe_intermediate_size", "intermediate_size", "ffn_hidden_size")
    if count > EXPERT_LIMIT:
        raise absurd(f"it has {count:,} experts.")
    return count, min(config.number(*USED, default=1), count), ff


USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts", "moe_top_k")


def _chooses(config: Config, kind: str, index: int) -> bool:
    """Whether this layer has experts: some families have them in every second layer, or not in the first."""
    if config.stem == "nemotron_h":
        return kind == "experts"
    if index < config.number("first_k_dense_replace") or index in config.indexes("mlp_only_layers"):
        return False
    every = config.number("interleave_moe_layer_step", "decoder_sparse_step", default=1)
    period = config.number("expert_layer_period", default=1)
    offset = config.number("expert_layer_offset")
    return not (index + 1) % max(every, 1) and index % max(period, 1) == offset % max(period, 1)


def _shared(config: Config, expert_ff: int) -> int:
    length = config.number("shared_expert_intermediate_size", "shared_intermediate_size",
                           "moe_shared_expert_intermediate_size")  # fmt: skip
    return length or config.number("n_shared_experts", "num_shared_experts") * expert_ff
