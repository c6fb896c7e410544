"""Predictions for rows of published measurements, quantity by quantity."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from cortex.calculator.llamacpp import cache_bytes, plan, state_bytes
from cortex.calculator.llamacpp_options import place
from cortex.calculator.memory import OVERHEAD, Card, activation_bytes, graph_bytes
from cortex.calculator.serving import concurrency, kinds_of, pool_of, tokens_held
from cortex.calculator.shape import Shape
from cortex.calculator.weights import tiled_experts
from engines.habits import LlamaOptions, ServeOptions
from tools.truth_facts import (
    UNPROVEN,
    MissingFact,
    Row,
    counts_requests,
    few_outputs,
    llama_options,
    serve_options,
    shape_of,
    shares_windows,
)
from tools.truth_files import file_weights, is_tied

GIB, MIB = 1 << 30, 1 << 20
SERVED_CONTEXT = 0.65 * GIB  # CUDA context of a Python engine
FEW_OUTPUTS_COMPUTE = 90 * MIB  # newest llama.cpp, 38 to 135 MiB seen: used where width and vocabulary are unknown


@dataclass(frozen=True, slots=True)
class Prediction:
    """One quantity of one row, predicted and measured in the row's own unit."""

    quantity: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative to what was measured, or to one unit where that is nothing; negative is under."""
        return (self.predicted - self.measured) / (abs(self.measured) or 1.0)


@dataclass(frozen=True, slots=True)
class Missing:
    """A quantity that was not predicted, for want of a fact."""

    quantity: str
    fact: str


Answer = Prediction | Missing


def answers(row: Row) -> list[Answer]:
    """What can be said about every measured quantity of ``row``."""
    predict = _served if row.engine.startswith(("vllm", "sglang")) else _llama
    try:
        return list(predict(row))
    except MissingFact as error:
        return [Missing("all", str(error))]
    except (ArithmeticError, LookupError, ValueError) as error:
        return [Missing("all", f"facts that make sense together ({error})")]


def _attempt(quantity: str, measured: float | None, predict: Callable[[], float]) -> Iterator[Answer]:
    if measured is None:
        return
    try:
        yield Prediction(quantity, predict(), measured)
    except MissingFact as error:
        yield Missing(quantity, str(error))


def _served(row: Row) -> Iterator[Answer]:
    options = serve_options(row)
    yield from _attempt("weights", row.number("measured", "weights_gib"), lambda: _rank_weights(row, options) / GIB)
    total = row.number("measured", "total_used_mib", "total_used_mib_nvidia_smi")
    yield from _attempt("total", total, lambda: _served_total(row, options) / MIB)
    yield from _pool(row, options)


def _pool(row: Row, options: ServeOptions) -> Iterator[Answer]:
    """The cache: bytes from tokens, tokens from bytes, and how many full requests they hold."""
    tokens, held = row.number("measured", "kv_tokens"), row.number("measured", "kv_gib")
    blocks, block = row.number("measured", "kv_blocks"), int(row.number("measured", "block_size") or options.block)
    sides = [row.number("measured", side) for side in ("k_gib", "v_gib")]
    if tokens is None or (held is not None and held <= 0):
        yield from _attempt("kv_cache", held, lambda: _missing("the number of tokens kept"))
        return
    shape = shape_of(row) if shares_windows(row) else unwindowed(shape_of(row))
    if blocks is not None:
        yield Prediction("kv_tokens", blocks * block, tokens)
    width = sum(kind.page / kind.tokens * kind.layers for kind in kinds_of(shape, options) if kind.tokens)
    if any(side is not None for side in sides):
        yield Prediction("kv_cache", tokens * width / GIB, sum(side or 0 for side in sides))
    if shape.recurrent or len(kinds_of(shape, options)) > 1:
        yield from _hybrid(row, shape, options, held, tokens)
        return
    if held is not None:
        yield Prediction("kv_cache", tokens * width / GIB, held)
        if blocks is None:
            yield Prediction("kv_tokens", tokens_held(shape, options, int(held * GIB)), tokens)
    most = row.number("measured", "max_concurrency")
    budget = tokens * width if held is None else held * GIB
    yield from _attempt("max_concurrency", most, lambda: _concurrency(shape, options, budget))


def unwindowed(shape: Shape) -> Shape:
    """The shape as builds see it that cache windowed layers whole."""
    return replace(shape, layers=tuple(replace(layer, window=0) for layer in shape.layers))


def _concurrency(shape: Shape, options: ServeOptions, budget: float) -> float:
    if not options.context:
        raise MissingFact("config.max_model_len")
    return concurrency(shape, options, round(budget))


def _hybrid(row: Row, shape: Shape, options: ServeOptions, held: float | None, tokens: float) -> Iterator[Answer]:
    """Hybrid models print tokens as concurrency times length: both follow from the pool's blocks."""
    if held is None:
        yield Missing("kv_tokens", "measured.kv_gib")
        return
    budget = round(held * GIB)
    pool = pool_of(shape, options, budget)
    yield Prediction("kv_cache", pool.blocks * pool.block_bytes / GIB, held)
    grouped = pool.blocks // max(sum(pool.groups), 1) * options.block
    yield Prediction("kv_tokens", tokens_held(shape, options, budget) if counts_requests(row) else grouped, tokens)
    most = row.number("measured", "max_concurrency")
    yield from _attempt("max_concurrency", most, lambda: _concurrency(shape, options, budget))


def _missing(fact: str) -> float:
    raise MissingFact(fact)


def _rank_weights(row: Row, options: ServeOptions) -> float:
    """Bytes of weights per rank: parameters at their width, 4-bit experts at the size kernels want them."""
    params, name = row.need("hyperparams", "params_b") * 1e9, row.model.lower()
    kind = f"{name} {row.part('config').get('quant', '')} {row.row.get('engine_version', '')}".lower()
    if any(word in kind for word in UNPROVEN):
        raise MissingFact("which tensors are quantized, and how")
    ranks = max(options.tensor, _cards(row) if options.experts_apart else 0)
    experts = _expert_params(row)
    on_card = row.number("config", "kt_num_gpu_experts")
    if on_card is not None:
        params -= experts * (1 - on_card / row.count("experts"))
    tower = _tower(row)
    if re.search(r"awq|gptq|int4", kind):
        return _four_bits(row, params) / ranks
    table = 2 * row.count("hidden") * row.count("vocab")
    if "mxfp4" in kind:
        padded = tiled_experts(row.count("hidden"), row.count("moe_ff") or row.count("hidden"))
        return (experts * 4.25 / 8 * padded + (params - experts) * 2) / ranks
    if "fp8" in kind:
        return ((params - table) * 8.002 / 8 + table * 2) / ranks
    return ((params - tower) * 2) / ranks + tower * 2


def _four_bits(row: Row, params: float) -> float:
    """Groups of 128 four-bit weights with their scales; embedding and head stay 16-bit."""
    table = row.need("hyperparams", "hidden") * row.need("hyperparams", "vocab") * (1 if is_tied(row) else 2)
    if row.count("linear_layers"):
        raise MissingFact("which tensors are quantized, and how")
    return (params - table) * 4.16 / 8 + table * 2


def _cards(row: Row) -> int:
    match = re.match(r"(\d+) ?x", str(row.row.get("gpu", "")))
    return int(match[1]) if match else 1


def _expert_params(row: Row) -> float:
    width = row.count("moe_ff") or (row.count("hidden") if "gpt-oss" in row.model.lower() else 0)
    return 3.0 * row.count("layers") * row.count("experts") * row.count("hidden") * width


def _tower(row: Row) -> float:
    """Parameters of an image tower, which every rank holds whole."""
    match = re.search(r"(\d+)M", str(row.part("hyperparams").get("vision", "")))
    return float(match[1]) * 1e6 if match else 0.0


def _card_bytes(row: Row) -> float:
    text = str(row.row.get("gpu", "")).replace(",", "")
    for pattern, unit in ((r"([\d.]+) GiB", GIB), (r"(\d+) MiB", MIB)):
        match = re.search(pattern, text)
        if match:
            return float(match[1]) * unit
    if "H100 80GB" in text:
        return 79.19 * GIB
    raise MissingFact("the card's memory in bytes")


def _served_total(row: Row, options: ServeOptions) -> float:
    """What the card shows when idle: its share, less the peak of activations, plus graphs and the CUDA context."""
    shape = shape_of(row)
    card = Card(int(_card_bytes(row)))
    share = card.total * options.fraction
    graphs = graph_bytes(shape, options)
    if options.engine == "sglang":
        return share + graphs + SERVED_CONTEXT
    if not shape.hidden or not shape.vocab:
        return share - 1.2 * GIB + graphs + SERVED_CONTEXT
    return share - activation_bytes(shape, options) + graphs + SERVED_CONTEXT


def _llama(row: Row) -> Iterator[Answer]:
    yield from _attempt("weights", _weights_measured(row), lambda: file_weights(row) / MIB)
    if not any(name in row.part("measured") for name in LLAMA_QUANTITIES):
        return
    options, shape = llama_options(row), shape_of(row)
    layers = place(shape, options, 1)
    cache = sum(cache_bytes(shape, options, layers, 1))
    yield from _caches(row, shape, options, cache)
    state = row.number("measured", "rs_mib") or row.number_in("measured", "rs_mib", "total")
    yield from _attempt("state", state, lambda: sum(state_bytes(shape, options, layers, 1)) / MIB)
    yield from _compute(row, shape, options)
    yield from _attempt("total", _total_measured(row), lambda: _llama_total(row, shape, options, cache) / MIB)


LLAMA_QUANTITIES = ("kv_mib", "kv_full_mib", "kv_main_mib", "compute_mib", "compute_mib_requested", "total_used_mib",
                    "rs_mib", "total_gb_measured", "kv_gib")  # fmt: skip


def _weights_measured(row: Row) -> float | None:
    value = row.part("measured").get("weights_mib")
    if isinstance(value, dict):
        return float(sum(value.values()))
    plain, large = row.number("measured", "weights_mib"), row.number("measured", "weights_gib")
    return large * 1024 if large is not None else plain


def _caches(row: Row, shape: Shape, options: LlamaOptions, cache: int) -> Iterator[Answer]:
    measured = row.part("measured")
    value = measured.get("kv_mib")
    if isinstance(value, dict):
        value = value.get("total", sum(value.values()))
    if isinstance(value, (int, float)):
        yield Prediction("kv_cache", cache / MIB, float(value))
    large = row.number("measured", "kv_gib")
    yield from _attempt("kv_cache", large, lambda: cache / GIB)
    parts = [row.number("measured", name) for name in ("kv_full_mib", "kv_swa_mib")]
    if parts[0] is not None:
        yield Prediction("kv_cache", cache / MIB, sum(part or 0 for part in parts))
    yield from _attempt("kv_cache", row.number("measured", "kv_main_mib"), lambda: cache / MIB)
    index = sum(layer.indexer for layer in shape.layers) * 2 * options.total_context(shape)
    yield from _attempt("kv_index", row.number("measured", "kv_indexer_mib"), lambda: index / MIB)
    drafted = row.number("measured", "draft_kv_mib")
    attending = sum(1 for layer in shape.layers if layer.kv_heads)
    yield from _attempt("draft_kv_cache", drafted, lambda: cache / max(attending, 1) / MIB)


def _compute(row: Row, shape: Shape, options: LlamaOptions) -> Iterator[Answer]:
    """Compute buffers of the GPUs; which layers lie where is read from the caches' sizes when there are several."""
    value = row.part("measured").get("compute_mib")
    asked = row.number("measured", "compute_mib_requested")
    measured = {0: asked} if asked is not None else {}
    if isinstance(value, dict):
        measured = {
            int(key[4:]): float(size) for key, size in value.items() if key.startswith("CUDA") and key[4:].isdigit()
        }
    if not measured:
        return
    if not shape.hidden or not shape.vocab:
        yield Missing("compute", "hyperparams.hidden")
        return
    if few_outputs(row):
        options = replace(options, outputs=options.slots)
        if row.number("config", "n_ubatch") is None:
            yield Missing("compute", "config.n_ubatch")
            return
    caches = row.part("measured").get("kv_mib")
    devices = list(_on_cards(caches)) if isinstance(caches, dict) else ["0"]
    count = max(len(devices), max(measured) + 1)
    if count > 1 and isinstance(caches, dict):
        options = replace(options, split=tuple(float(caches[key]) for key in devices))
    host = str(row.part("config").get("experts", "")) == "CPU"
    options = replace(options, expert_layers_on_host=len(shape.layers) if host else 0, lends_weights=not host)
    planned = plan(shape, options, count)
    for device, size in measured.items():
        yield Prediction("compute", planned.devices[device].compute / MIB, size)


def _on_cards(sizes: Mapping[str, object]) -> dict[str, float]:
    """The entries of a mapping by device that are cards: CUDA0, ROCm1, Vulkan0, Metal."""
    return {
        key: float(size)
        for key, size in sizes.items()
        if isinstance(size, (int, float)) and not re.search(r"cpu|host|total|blas|repack", key, re.IGNORECASE)
    }


def _total_measured(row: Row) -> float | None:
    decimal = row.number("measured", "total_gb_measured")
    return decimal * 1e9 / MIB if decimal is not None else row.number("measured", "total_used_mib")


def _llama_total(row: Row, shape: Shape, options: LlamaOptions, cache: int) -> float:
    """Weights on the card, caches, compute and what the runtime takes; the embedding stays on the host unless tied."""
    weights = file_weights(row)
    if not is_tied(row) and shape.hidden and "Max" not in str(row.row.get("gpu", "")):
        weights -= shape.hidden * shape.vocab * 4.5 / 8
    placement = place(shape, options, 1)
    state = sum(state_bytes(shape, options, placement, 1))
    compute = FEW_OUTPUTS_COMPUTE
    if shape.hidden and shape.vocab:
        compute = plan(shape, options, 1).devices[0].compute
    return weights + cache + state + compute + OVERHEAD.likely
