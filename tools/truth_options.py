"""From what a row says of a start to the engine's options."""

import re

from engines.habits import LlamaOptions, ServeOptions
from tools.truth_builds import WINDOWS_BY_UBATCH, WINDOWS_FROM, built, few_outputs, flash_by_itself, usual_fraction
from tools.truth_facts import MissingFact, Row

CACHES = {"fp16": "f16", "half": "f16", "float16": "f16", "bfloat16": "bf16", "fp32": "f32", "f8": "q8_0"}
KIND = re.compile(r"bfloat16|float16|bf16|fp16|fp32|f16|f32|half|i?q\d_\w+")


def llama_options(row: Row) -> LlamaOptions:
    """The row's llama.cpp options, with what its build did differently."""
    layers = row.number("config", "ngl")
    split = row.raw("config", "tensor_split")
    slots = int(row.number("config", "n_seq_max") or _labelled(row, "-np") or 1)
    unified = row.says("config", "kv_unified") is True
    batch = int(row.number("config", "n_batch") or 2048)
    month = built(row)
    key, value = _cache_types(row)
    flash = row.says("config", "flash_attn")
    return LlamaOptions(
        context=int(row.need("config", "n_ctx")),
        slots=slots,
        batch=batch,
        ubatch=_ubatch(row, batch, slots if unified else 1),
        window_by_batch=WINDOWS_FROM <= month < WINDOWS_BY_UBATCH,
        key_type=key,
        value_type=value,
        flash=flash_by_itself(row) or "q" in value if flash is None else flash,  # small values need it
        gpu_layers=None if layers is None or layers >= 99 else int(layers),
        split=tuple(float(share) for share in split) if isinstance(split, list) else _shares(split),
        unified=unified,
        cache_on_gpu=_caches_on_cards(row),
        whole_window=row.says("config", "swa_full") is True or month < WINDOWS_FROM,
        outputs=1 if few_outputs(row) else None,
        pipelined=row.number("config", "n_copies") == 4,
        wide_mask=not few_outputs(row),
    )


def _caches_on_cards(row: Row) -> bool:
    kept = any(row.says("config", name) is True for name in ("no_kv_offload", "nkvo"))
    return not kept and all(row.says("config", name) is not False for name in ("kv_offload", "offload_kqv"))


def _labelled(row: Row, flag: str) -> float | None:
    """A number that the row's label gives as a flag."""
    found = re.search(rf"{flag} (\d+)", str(row.part("config").get("label", "")))
    return float(found[1]) if found else None


def _ubatch(row: Row, batch: int, windows: int) -> int:
    """The micro-batch: told, or what the cells of a window leave for it."""
    told = row.number("config", "n_ubatch")
    cells, window = row.number("config", "swa_cells") or row.number("measured", "swa_cells"), row.count("swa_window")
    if told is None and cells and window and cells > window * windows:
        return int(cells) - window * windows
    return int(told or min(512, batch))


def _cache_types(row: Row) -> tuple[str, str]:
    """Types of keys and values, told apart or together: "q8_0", "q8_0/q4_0", "K q8_0, V f16"."""
    told = row.text("config", "cache") or row.text("config", "kv_cache_type")
    both = [CACHES.get(kind, kind) for kind in KIND.findall(told)]
    if told and not both and not re.search("default|auto", told):
        raise MissingFact("config.cache, a type of llama.cpp")
    sides = []
    for side, usual in (("k", both[0] if both else "f16"), ("v", both[-1] if both else "f16")):
        told = next((text for name in (f"cache_{side}", f"cache_type_{side}", f"type_{side}", f"ct{side}")
                     if (text := row.text("config", name))), usual)  # fmt: skip
        found = KIND.search(told)
        if not found:
            raise MissingFact(f"config.cache_{side}, a type of llama.cpp")
        sides.append(CACHES.get(found[0], found[0]))
    return sides[0], sides[1]


def _shares(text: object) -> tuple[float, ...]:
    return tuple(float(each) for each in re.findall(r"\d+(?:\.\d+)?", text)) if isinstance(text, str) else ()


def _ranks(row: Row, name: str) -> int:
    told = int(row.number("config", name) or 1)
    if told > MOST_RANKS:
        raise MissingFact(f"config.{name}, a number of cards that can be")
    return told


MOST_RANKS = 1024
HEADS, NO_MODEL = r"mtp|eagle|nextn", r"none|off|false|ngram|lookup|medusa|suffix"


def guessing(row: Row) -> str:
    """What the row says of guessing tokens ahead."""
    return row.text("config", "spec") or row.text("config", "speculative_config")


def drafts_apart(row: Row) -> bool:
    """Whether another model guesses, with layers and weights of its own."""
    return bool(guessing(row)) and not re.search(f"{HEADS}|{NO_MODEL}", guessing(row))


def serve_options(row: Row) -> ServeOptions:
    drafts = guessing(row)
    guess = re.search(r"(?:n=|tokens\D{0,4})(\d+)", drafts)
    own = re.search(HEADS, drafts)
    engine = next((name for name in ("sglang", "tgi") if row.engine.startswith(name)), "vllm")
    return ServeOptions(
        engine=engine,  # type: ignore[arg-type]
        context=int(row.number("config", "max_model_len") or 0),
        users=int(row.number("config", "max_num_seqs") or 256),
        tensor=_ranks(row, "tp"),
        pipeline=_ranks(row, "pp"),
        experts_apart=row.says("config", "enable_expert_parallel") is True,
        fraction=row.number("config", "gpu_memory_utilization") or usual_fraction(row),
        cache_type=row.text("config", "kv_cache_dtype", "auto"),
        block=int(row.number("config", "block_size") or row.number("measured", "block_size")
                  or (1 if engine == "sglang" else 16)),
        batched_tokens=int(row.number("config", "max_num_batched_tokens") or 8192),
        eager=row.says("config", "enforce_eager") is True,
        draft_layers=1 if own else 0,
        draft_tokens=int(guess[1]) if guess and own else 0,
    )  # fmt: skip
