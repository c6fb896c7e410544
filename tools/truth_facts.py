"""One row of published measurements: typed access to what it says, in whatever words."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Facts = Mapping[str, object]
GIB, MIB = 1 << 30, 1 << 20
ABSURD, COUNTED, LAYER_LIMIT = 1e13, 1e6, 1024
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})+(?:\.\d+)?|(?<![\w.])-?\d+(?:\.\d+)?(?:[kK](?=\b))?")
# how engines, configs and logs call the same fact
ALIASES: Mapping[str, tuple[str, ...]] = {
    "layers": ("n_layer", "n_layers", "num_hidden_layers", "num_layers"),
    "hidden": ("n_embd", "hidden_size", "d_model"),
    "heads": ("n_head", "num_attention_heads"),
    "kv_heads": ("n_head_kv", "num_key_value_heads", "n_kv_heads"),
    "head_dim": ("n_embd_head", "head_size"),
    "key_dim": ("head_dim_k", "n_embd_head_k", "qk_head_dim"),
    "value_dim": ("head_dim_v", "n_embd_head_v"),
    "key_width": ("n_embd_k_gqa", "k_dim"),
    "value_width": ("n_embd_v_gqa", "v_dim"),
    "intermediate": ("n_ff", "intermediate_size", "ffn", "ff"),
    "vocab": ("n_vocab", "vocab_size"),
    "experts": ("n_expert", "num_experts", "n_routed_experts", "num_local_experts"),
    "experts_used": ("n_expert_used", "num_experts_per_tok", "top_k"),
    "moe_ff": ("n_ff_exp", "moe_intermediate_size", "expert_ff", "moe_intermediate"),
    "params_b": ("params", "parameters_b", "n_params_b", "total_params_b"),
    "swa_window": ("sliding_window", "n_swa", "window"),
    "swa_layers": ("sliding_layers", "window_layers"),
    "full_layers": ("global_layers", "attn_layers", "attention_layers", "full_attention_layers"),
    "linear_layers": ("recurrent_layers", "mamba_layers", "ssm_layers", "gdn_layers", "linear_attention_layers"),
    "ssm_d_conv": ("conv_kernel", "d_conv"),
    "ssm_d_inner": ("d_inner",),
    "ssm_d_state": ("d_state", "state_size"),
    "ssm_n_group": ("n_group", "n_groups"),
    "ssm_dt_rank": ("dt_rank",),
    "qk_rope_head_dim": ("rope_dim", "n_rot"),
    "n_ctx": ("ctx", "ctx_size", "context", "num_ctx", "context_size", "c"),
    "n_batch": ("batch", "batch_size"),
    "n_ubatch": ("ubatch", "ubatch_size", "ub"),
    "n_seq_max": ("n_parallel", "np", "slots", "parallel", "num_parallel"),
    "ngl": ("n_gpu_layers", "gpu_layers", "num_gpu"),
    "max_model_len": ("context_length", "max_total_tokens", "max_seq_len"),
    "max_num_seqs": ("max_running_requests", "max_concurrent_requests"),
    "tp": ("tensor_parallel_size", "tensor_parallel", "tp_size", "num_shard"),
    "pp": ("pipeline_parallel_size", "pipeline_parallel", "pp_size"),
    "gpu_memory_utilization": ("mem_fraction_static", "gmu", "cuda_memory_fraction"),
    "max_num_batched_tokens": ("chunked_prefill_size", "max_batch_prefill_tokens"),
    "spec": ("speculative", "draft", "draft_model", "spec_type"),
    "mmproj": ("projector", "vision_projector"),
    "block_size": ("page_size",),
    "kv_gib": ("kv_gib_approx",),
    "kv_tokens": ("kv_tokens_approx", "num_tokens"),
    "kv_blocks": ("num_gpu_blocks", "gpu_blocks"),
    "max_concurrency": ("max_concurrency_x",),
}


class MissingFact(Exception):
    """The row does not say something the prediction needs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, with typed access to what it says."""

    row: Facts

    def part(self, name: str) -> Facts:
        value = self.row.get(name)
        return value if isinstance(value, dict) else {}

    @property
    def id(self) -> str:
        return str(self.row.get("id", "?"))

    @property
    def engine(self) -> str:
        return str(self.row.get("engine", "")).lower()

    @property
    def version(self) -> str:
        return str(self.row.get("engine_version", ""))

    @property
    def model(self) -> str:
        return str(self.row.get("model", ""))

    def raw(self, part: str, name: str) -> object:
        """What the row says under a name or one of its aliases."""
        facts = self.part(part)
        return next((facts[each] for each in (name, *ALIASES.get(name, ())) if facts.get(each) is not None), None)

    def text(self, part: str, name: str, default: str = "") -> str:
        value = self.raw(part, name)
        return default if value is None else str(value).lower()

    def number(self, part: str, *names: str) -> float | None:
        """The first of ``names`` that holds a number; of a text such as "80128 (derived)" its first one."""
        for name in names:
            for each in (name, *ALIASES.get(name, ())):
                found = number_of(self.part(part).get(each))
                if found is not None and not abs(found) > ABSURD and (found >= 0 or part == "measured"):
                    return found
        return None

    def need(self, part: str, *names: str) -> float:
        value = self.number(part, *names)
        if value is None:
            raise MissingFact(f"{part}.{names[0]}")
        return value

    @property
    def params(self) -> float:
        """How many parameters: told in billions, or one by one. Raises MissingFact."""
        told = self.need("hyperparams", "params_b")
        return told if told > COUNTED else told * 1e9

    def count(self, name: str, default: int = 0) -> int:
        value = self.number("hyperparams", name)
        return default if value is None else int(value)

    def says(self, part: str, name: str) -> bool | None:
        """Whether an option is on, in one of the ways people write that; None where nothing is said."""
        value = self.raw(part, name)
        if value is None or isinstance(value, bool):
            return value
        text = str(value).lower().strip()
        if re.search(r"(^|\W)(off|false|no|none|disabled|0)$", text):
            return False
        return True if re.search(r"(^|\W)(on|true|yes|enabled|[1-9])(\W|$)", text) else None

    def by_device(self, name: str) -> dict[str, float]:
        """A measured size by device; a plain number is the one card's, a sum is left out."""
        value = self.part("measured").get(name)
        found = {"CUDA0": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        return dict(_sizes(found)) if isinstance(found, dict) else {}

    def total(self, name: str) -> float | None:
        """A measured size over all devices: what the row calls the total, or the sum."""
        value = self.part("measured").get(name)
        if isinstance(value, dict):
            told = number_of(value.get("total"))
            sizes = self.by_device(name)
            return told if told is not None else sum(sizes.values()) if sizes else None
        if isinstance(value, list):
            sizes = dict(_sizes(dict(enumerate(value))))
            return sum(sizes.values()) if sizes else None
        return self.number("measured", name)


def _sizes(found: Mapping[object, object]) -> Iterator[tuple[str, float]]:
    for key, size in found.items():
        number = number_of(size)
        if number is not None and not re.search(r"total|sum", str(key), re.IGNORECASE):
            yield str(key), number


def number_of(value: object) -> float | None:
    """A number, or the first one of a text: "131,072", "32k", "default (8192, memory)"."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    match = NUMBER.search(value[:200]) if isinstance(value, str) else None
    if not match:
        return None
    text = match[0].replace(",", "")
    return 1024 * float(text[:-1]) if text[-1] in "kK" else float(text)


def is_card(device: str) -> bool:
    """Whether a device's name is a card's: CUDA0, ROCm1, Vulkan0, Metal; not CPU, CUDA_Host, BLAS."""
    return not re.search(r"cpu|host|blas|repack|amx|mapped", device, re.IGNORECASE)
