"""From a row of published measurements to a shape and options, or the fact that is missing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cortex.calculator.shape import Layer, Mla, Recurrence, Shape
from cortex.calculator.weights import plain_weights
from engines.habits import LlamaOptions, ServeOptions

Facts = Mapping[str, object]
GIB = 1 << 30
ABSURD = 1e13
UNPROVEN = ("bnb", "nvfp4", "autoround", "unsloth", "w4a16", "compressed")


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
        return str(self.row.get("engine", ""))

    @property
    def model(self) -> str:
        return str(self.row.get("model", ""))

    def number(self, part: str, *names: str) -> float | None:
        """The first of ``names`` that holds a number; a text such as "80128 (derived)" counts by its beginning."""
        for name in names:
            value = self.part(part).get(name)
            if isinstance(value, bool):
                continue
            if isinstance(value, (int, float)):
                if abs(value) > ABSURD or (value < 0 and part != "measured"):
                    continue
                return float(value)
            match = re.match(r"-?\d+(\.\d+)?", value) if isinstance(value, str) else None
            if match:
                return float(match[0])
        return None

    def number_in(self, part: str, name: str, key: str) -> float | None:
        """A number one level deeper: ``key`` of the mapping ``name``."""
        value = self.part(part).get(name)
        inner = value.get(key) if isinstance(value, dict) else None
        return float(inner) if isinstance(inner, (int, float)) else None

    def need(self, part: str, *names: str) -> float:
        value = self.number(part, *names)
        if value is None:
            raise MissingFact(f"{part}.{names[0]}")
        return value

    def count(self, name: str, default: int = 0) -> int:
        value = self.number("hyperparams", name)
        return default if value is None else int(value)


def shape_of(row: Row) -> Shape:
    """The shape the row's hyperparameters describe. Raises MissingFact."""
    count = int(row.need("hyperparams", "layers", "kv_layers"))
    if not 0 < count <= 1024 or row.count("experts_used") > row.count("experts") <= 4096:
        raise MissingFact("a number of layers and experts that can be")
    mla = _mla(row)
    hidden, vocab = row.count("hidden"), row.count("vocab")
    layers = tuple(_layer(row, index, count, mla) for index in range(count))
    table = int(hidden * vocab * 2)
    return Shape(
        name=row.model,
        family=_family(row),
        layers=layers,
        hidden=hidden,
        vocab=vocab,
        context=int(row.number("config", "n_ctx", "max_model_len") or 0),
        embedding=table,
        input_bytes=table,
        output_bytes=table,
        mla=mla,
        recurrence=_recurrence(row),
        roles=_roles(row),
    )


def _family(row: Row) -> str:
    name = row.model.lower()
    families = ("gpt-oss", "gemma", "command-r", "qwen3", "deepseek")
    if row.count("linear_layers"):
        return "qwen35"
    return next((family for family in families if family in name), "llama")


def _roles(row: Row) -> frozenset[str]:
    roles = {"ffn_gate", "attn_q", "ffn_norm"}
    if row.count("linear_layers"):
        roles |= {"attn_gate", "ssm_alpha", "attn_q_norm", "ssm_norm"}
    if "qwen3" in row.model.lower():
        roles.add("attn_q_norm")
    return frozenset(roles)


def _mla(row: Row) -> Mla | None:
    rank, rope = row.count("kv_lora_rank"), row.count("qk_rope_head_dim")
    if not rank or not rope or _whole_heads(row):
        return None
    return Mla(rank, rope, row.count("qk_nope_head_dim", 128), row.count("v_head_dim", 128))


def _whole_heads(row: Row) -> bool:
    return "non-mla" in row.model.lower()


def _recurrence(row: Row) -> Recurrence | None:
    if not row.count("ssm_d_inner"):
        return None
    return Recurrence(row.count("ssm_d_inner"), row.count("ssm_d_state"), row.count("ssm_n_group"),
                      row.count("ssm_dt_rank"), row.count("ssm_d_conv"), bool(row.count("linear_layers")))  # fmt: skip


def _layer(row: Row, index: int, count: int, mla: Mla | None) -> Layer:
    facts = _recurrence(row)
    linear = row.count("linear_layers")
    if linear and facts and (index + 1) % (count // (count - linear)):
        conv = (facts.kernel - 1) * (facts.inner + 2 * facts.groups * facts.state)
        return Layer(conv=conv, state=facts.inner * facts.state, ff=_ff(row))
    windowed = _windowed(row, index, count)
    kv_heads, key, value = _heads(row, windowed, mla)
    layer = Layer(
        heads=row.count("heads") or max(kv_heads, row.count("hidden") // max(key, 1)),
        kv_heads=kv_heads,
        key=key,
        value=value,
        window=row.count("swa_window") if windowed else 0,
        indexer=row.count("indexer_head_dim") if index < row.count("indexer_layers") else 0,
        ff=_ff(row),
        experts=row.count("experts"),
        experts_used=row.count("experts_used"),
        expert_ff=row.count("moe_ff", _ff(row) if row.count("experts") else 0),
    )
    weights = plain_weights(row.count("hidden"), layer, 2)
    return Layer(**{name: getattr(layer, name) for name in Layer.__slots__} | {"weights": weights})


def _ff(row: Row) -> int:
    return row.count("intermediate") or (3 * row.count("hidden"))


def _windowed(row: Row, index: int, count: int) -> bool:
    windowed = row.count("swa_layers")
    if not windowed:
        return False
    full = count - windowed
    return index % (count // full) != count // full - 1 or index // (count // full) >= full


def _heads(row: Row, windowed: bool, mla: Mla | None) -> tuple[int, int, int]:
    if mla is not None:
        return 1, mla.rank + mla.rope, 0
    if _whole_heads(row):
        key = row.count("qk_nope_head_dim") + row.count("qk_rope_head_dim")
        return row.count("heads"), key, row.count("v_head_dim")
    width = row.count("swa_kv_dim" if windowed else "full_kv_dim")
    if width:
        return 1, width, width
    kv_heads, head = int(row.need("hyperparams", "kv_heads")), int(row.need("hyperparams", "head_dim"))
    return kv_heads, head, head


def llama_options(row: Row) -> LlamaOptions:
    """The row's llama.cpp options, with what its build did differently."""
    config = row.part("config")
    both = str(config.get("cache", "f16"))
    layers = row.number("config", "ngl", "n_gpu_layers")
    split = config.get("tensor_split")
    batch = int(row.number("config", "n_batch", "batch") or 2048)
    ubatch = int(row.number("config", "n_ubatch", "ubatch") or min(512, batch))
    month = built(row)
    return LlamaOptions(
        context=int(row.need("config", "n_ctx", "ctx", "ctx_size", "context")),
        slots=int(row.number("config", "n_seq_max", "n_parallel", "np", "slots") or 1),
        batch=batch,
        ubatch=ubatch,
        window_by_batch=WINDOWS_FROM <= month < WINDOWS_BY_UBATCH,
        key_type=str(config.get("cache_k", both)).lower(),
        value_type=str(config.get("cache_v", both)).lower(),
        flash=config.get("flash_attn") is not False,
        gpu_layers=None if layers is None or layers >= 99 else int(layers),
        split=tuple(float(share) for share in split) if isinstance(split, list) else (),
        unified=config.get("kv_unified") is True,
        whole_window=config.get("swa_full") is True or month < WINDOWS_FROM,
        outputs=1 if few_outputs(row) else None,
        pipelined=row.number("config", "n_copies") == 4,
        wide_mask=not few_outputs(row),
    )


# months of llama.cpp's builds: when windows got caches of their own, and when those came to follow the micro-batch
WINDOWS_FROM, WINDOWS_BY_UBATCH, FEW_OUTPUTS_FROM = (2025, 5), (2025, 7), (2026, 8)
BUILDS = ((5427, (2025, 5)), (5770, (2025, 7)), (10_000, (2026, 8)))


def built(row: Row) -> tuple[int, int]:
    """Year and month of the row's engine, from its date or its build number; a bare year is taken late in it."""
    version = str(row.row.get("engine_version", ""))
    number = re.search(r"\bb(\d{4,5})\b", version)
    if number:
        return max((month for build, month in BUILDS if int(number[1]) >= build), default=(2024, 1))
    date = re.search(r"(20\d\d)-(\d\d)", version)
    if date:
        return int(date[1]), int(date[2])
    year = re.search(r"20\d\d", version)
    return (int(year[0]), 7) if year else (2026, 1)


def few_outputs(row: Row) -> bool:
    """Builds from mid-2026 size logits for the tokens that are sampled, not for a whole batch."""
    return built(row) >= FEW_OUTPUTS_FROM


def serve_options(row: Row) -> ServeOptions:
    config = row.part("config")
    drafts = str(config.get("speculative", ""))
    guess = re.search(r"n=(\d+)", drafts)
    return ServeOptions(
        engine="sglang" if row.engine.startswith("sglang") else "vllm",
        context=int(row.number("config", "max_model_len", "context_length") or 0),
        users=int(row.number("config", "max_num_seqs", "max_running_requests") or 256),
        tensor=int(row.number("config", "tp", "tensor_parallel_size") or 1),
        pipeline=int(row.number("config", "pp", "pipeline_parallel_size") or 1),
        experts_apart=config.get("enable_expert_parallel") is True,
        fraction=row.number("config", "gpu_memory_utilization", "mem_fraction_static") or 0.9,
        cache_type=str(config.get("kv_cache_dtype", "auto")),
        block=int(row.number("config", "block_size") or row.number("measured", "block_size") or 16),
        batched_tokens=int(row.number("config", "max_num_batched_tokens", "chunked_prefill_size") or 8192),
        eager=config.get("enforce_eager") is True,
        draft_layers=1 if drafts else 0,
        draft_tokens=int(guess[1]) if guess else 0,
    )


def shares_windows(row: Row) -> bool:
    """Whether this vLLM gives windows their own blocks: builds before 2025-07 cached every layer whole."""
    version = str(row.row.get("engine_version", ""))
    numbers = re.search(r"\b0\.(\d+)", version)
    if numbers:
        return int(numbers[1]) >= 10
    return built(row) >= (2025, 7)


def counts_requests(row: Row) -> bool:
    """Whether its "KV cache size" is concurrency times length (2026) or blocks over groups (before)."""
    numbers = re.search(r"\b0\.(\d+)", str(row.row.get("engine_version", "")))
    return int(numbers[1]) >= 14 if numbers else built(row) >= (2026, 1)
