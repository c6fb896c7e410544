"""Predictions for rows of engines that fill a budget: vLLM, SGLang, TGI."""

import re
from collections.abc import Iterator
from dataclasses import replace

from cortex.calculator.memory import activation_bytes, graph_bytes
from cortex.calculator.serving import concurrency, kinds_of, pool_of, tokens_held
from cortex.calculator.shape import Shape
from cortex.calculator.weights import tiled_experts
from engines.habits import ServeOptions
from tools.truth_builds import counts_requests, shares_windows
from tools.truth_facts import GIB, MIB, MissingFact, Row
from tools.truth_files import is_tied
from tools.truth_options import drafts_apart, serve_options
from tools.truth_parts import Answer, Missing, Prediction, attempt, measured_total
from tools.truth_shapes import linear_layers, shape_of

SERVED_CONTEXT = 0.65 * GIB  # CUDA context of a Python engine
# words of a kind of quantization that leave open which tensors it is about
UNPROVEN = ("bnb", "nvfp4", "autoround", "bitsandbytes", "fp4", "int3", "2bit", "3bit")
FOUR = re.compile(r"awq|gptq|int4|w4a16|w4a8|4-?bit")
EIGHT = re.compile(r"fp8|w8a8|w8a16|(?<![a-z])int8|\b8-?bit")
SCALED = 4.16  # bits of a four-bit weight in groups of 128, scales and zeros included
# GiB that CUDA shows of cards, where a row names the card and no size
CARDS = (
    (r"b200", 178.4), (r"h200", 139.8), (r"h20\b", 95.1), (r"h100.*94|h100 nvl", 93.1), (r"h100|h800", 79.19),
    (r"gh200", 94.5), (r"a100.*40|a100-pcie-40", 39.39), (r"a100|a800", 79.25), (r"l40s?\b", 44.4), (r"l4\b", 22.05),
    (r"rtx pro 6000", 94.97), (r"6000 ada", 47.4), (r"a6000", 47.54), (r"a10g?\b", 22.06), (r"a40\b", 44.5),
    (r"5090", 31.36), (r"4090", 23.6), (r"3090", 23.58), (r"v100.*32", 31.74), (r"v100", 15.77), (r"t4\b", 14.58),
    (r"4080", 15.6), (r"4060 ti.*16|5060 ti.*16", 15.6),
)  # fmt: skip


def served(row: Row) -> Iterator[Answer]:
    options = serve_options(row)
    yield from attempt("weights", _weights_measured(row), lambda: rank_weights(row, options) / GIB)
    yield from attempt("total", measured_total(row), lambda: _total(row, options) / MIB)
    yield from _pool(row, options)


def _weights_measured(row: Row) -> float | None:
    small, large = row.total("weights_mib"), row.total("weights_gib")
    return large if large is not None else small and small / 1024


def _pool(row: Row, options: ServeOptions) -> Iterator[Answer]:
    """The cache: bytes from tokens, tokens from bytes, and how many full requests they hold."""
    blocks, block = row.number("measured", "kv_blocks"), int(row.number("measured", "block_size") or options.block)
    counted = None if blocks is None else blocks * block
    told, held = row.number("measured", "kv_tokens"), row.number("measured", "kv_gib")
    tokens = counted if told is None else told
    if tokens is None or (held is not None and held <= 0):
        yield from attempt("kv_cache", held, lambda: _lacking("the number of tokens kept"))
        return
    if drafts_apart(row):
        raise MissingFact("the draft model's layers")
    try:
        shape = shape_of(row) if shares_windows(row) else unwindowed(shape_of(row))
    except MissingFact:
        yield from _requests(row, options, tokens)
        raise
    if counted is not None:
        yield Prediction("kv_tokens", counted, tokens)
    yield from _sides(row, shape, options, tokens)
    if shape.recurrent or len(kinds_of(shape, options)) > 1:
        yield from _hybrid(row, shape, options, held, tokens)
    else:
        yield from _alike(row, shape, options, held, tokens, counted=counted is not None)


def _width(shape: Shape, options: ServeOptions) -> float:
    """Bytes per token on a rank."""
    return sum(kind.page / kind.tokens * kind.layers for kind in kinds_of(shape, options) if kind.tokens)


def _sides(row: Row, shape: Shape, options: ServeOptions, tokens: float) -> Iterator[Answer]:
    """Keys and values, as SGLang tells them."""
    sides = [row.number("measured", side) for side in ("k_gib", "v_gib")]
    if any(side is not None for side in sides):
        yield Prediction("kv_cache", tokens * _width(shape, options) / GIB, sum(side or 0 for side in sides))


def _alike(
    row: Row, shape: Shape, options: ServeOptions, held: float | None, tokens: float, *, counted: bool
) -> Iterator[Answer]:
    """Layers that all cache alike: a token costs the same wherever it lies."""
    budget = tokens * _width(shape, options)
    if held is not None:
        yield Prediction("kv_cache", budget / GIB, held)
        budget = held * GIB
        if not counted:
            yield Prediction("kv_tokens", tokens_held(shape, options, int(budget)), tokens)
    most = row.number("measured", "max_concurrency")
    yield from attempt("max_concurrency", most, lambda: _concurrency(shape, options, budget))


def _requests(row: Row, options: ServeOptions, tokens: float) -> Iterator[Answer]:
    """Of a model nobody described: builds that tell tokens as full requests times their length tell those as well."""
    most = row.number("measured", "max_concurrency")
    if most is not None and options.context and counts_requests(row):
        yield Prediction("max_concurrency", tokens / options.context, most)


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
    if not options.context:
        yield Missing("kv_tokens", "config.max_model_len")
        return
    budget = round(held * GIB)
    pool = pool_of(shape, options, budget)
    yield Prediction("kv_cache", pool.blocks * pool.block_bytes / GIB, held)
    grouped = pool.blocks // max(sum(pool.groups), 1) * options.block
    yield Prediction("kv_tokens", tokens_held(shape, options, budget) if counts_requests(row) else grouped, tokens)
    most = row.number("measured", "max_concurrency")
    yield from attempt("max_concurrency", most, lambda: _concurrency(shape, options, budget))


def _lacking(fact: str) -> float:
    raise MissingFact(fact)


def rank_weights(row: Row, options: ServeOptions) -> float:
    """Bytes of weights per rank: parameters at their width, less what stays in host memory. Raises MissingFact."""
    away = row.number("config", "cpu_offload_gb") or 0
    if not away and row.says("config", "cpu_offload"):
        raise MissingFact("config.cpu_offload_gb")
    ranks = max(options.tensor, _cards(row) if options.experts_apart else 0) * options.pipeline
    tower = _tower(row)
    whole = row.params - tower - _experts_elsewhere(row)
    return _bytes(row, whole) / ranks + tower * 2 - away * GIB


def _bytes(row: Row, params: float) -> float:
    """Bytes of the language model: table and head stay 16-bit where the rest is quantized."""
    kind = kind_of(row)
    plain = re.search(r"bf16|fp16|float16|dequant", kind)
    if any(word in kind for word in UNPROVEN) and "mxfp4" not in kind:
        raise MissingFact("which tensors are quantized, and how")
    if "mxfp4" in kind or ("gpt-oss" in kind and not plain):
        experts = _expert_params(row)
        padded = tiled_experts(row.count("hidden"), row.count("moe_ff") or row.count("hidden"))
        return experts * 4.25 / 8 * padded + (params - experts) * 2
    if FOUR.search(kind) and not re.search(r"int8|8-?bit", kind):
        return _around_tables(row, params, SCALED / 8)
    if EIGHT.search(kind):
        return _around_tables(row, params, 8.16 / 8 if "gptq" in kind else 8.002 / 8)
    return params * (4 if re.search(r"float32|fp32", kind) else 2)


def kind_of(row: Row) -> str:
    """Everything the row says of how its weights are kept, in one text."""
    names = ("quant", "quantization", "dtype", "load_format", "weights")
    kind = " ".join(
        [row.model.split("(")[0], row.version, *(str(row.part("config").get(name, "")) for name in names)]
    ).lower()
    if "unsloth" in row.version.lower() or re.search(r"unsloth.*(4bit|bnb)", kind):
        return f"{kind} bnb"
    return kind


def _around_tables(row: Row, params: float, width: float) -> float:
    if linear_layers(row) and FOUR.search(kind_of(row)):
        raise MissingFact("which tensors are quantized, and how")
    tables = row.need("hyperparams", "hidden") * row.need("hyperparams", "vocab") * (1 if is_tied(row) else 2)
    return (params - tables) * width + tables * 2


def _cards(row: Row) -> int:
    match = re.match(r"(\d+) ?x", str(row.row.get("gpu", "")))
    return int(match[1]) if match else 1


def _experts_elsewhere(row: Row) -> float:
    """Parameters of experts that another process computes with."""
    on_card = row.number("config", "kt_num_gpu_experts")
    return 0.0 if on_card is None else _expert_params(row) * (1 - on_card / row.count("experts"))


def _expert_params(row: Row) -> float:
    width = row.count("moe_ff") or (row.count("hidden") if "gpt-oss" in row.model.lower() else 0)
    return 3.0 * row.count("layers") * row.count("experts") * row.count("hidden") * width


def _tower(row: Row) -> float:
    """Parameters of an image tower, which every rank holds whole."""
    match = re.search(r"([\d.]+) ?([MB])\b", str(row.part("hyperparams").get("vision", "")))
    if row.says("config", "language_model_only") or not match:
        return 0.0
    return float(match[1]) * (1e6 if match[2] == "M" else 1e9)


def card_bytes(row: Row) -> float:
    """The memory of one card as CUDA shows it. Raises MissingFact."""
    text = str(row.row.get("gpu", "")).replace(",", "")
    for pattern, unit in ((r"([\d.]+) ?GiB", GIB), (r"(\d+) ?MiB", MIB)):
        match = re.search(pattern, text)
        if match:
            return float(match[1]) * unit
    known = next((size for pattern, size in CARDS if re.search(pattern, text.lower())), None)
    if known is None:
        raise MissingFact("the card's memory in bytes")
    return known * GIB


def _total(row: Row, options: ServeOptions) -> float:
    """What the card shows when idle: its share, less the peak of activations, plus graphs and the CUDA context."""
    shape = shape_of(row)
    told = row.number("measured", "usable_gib")
    share = told * GIB if told else card_bytes(row) * options.fraction
    graphs = graph_bytes(shape, options)
    if options.engine != "vllm":
        return share + graphs + SERVED_CONTEXT
    if not shape.hidden or not shape.vocab:
        return share - 1.2 * GIB + graphs + SERVED_CONTEXT
    return share - activation_bytes(shape, options) + graphs + SERVED_CONTEXT
