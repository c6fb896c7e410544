"""Predictions for rows of published measurements, quantity by quantity."""

import re
from collections.abc import Iterator
from dataclasses import replace

from cortex.calculator.ggml import row_bytes
from cortex.calculator.llamacpp.places import place
from cortex.calculator.llamacpp.plan import cache_bytes, plan, state_bytes
from cortex.calculator.memory import OVERHEAD
from cortex.calculator.shape import Shape
from engines.habits import LlamaOptions
from tools.truth_builds import few_outputs
from tools.truth_facts import GIB, MIB, MissingFact, Row, is_card
from tools.truth_files import file_weights, is_tied, mean_width, tables
from tools.truth_options import HEADS, drafts_apart, guessing, llama_options
from tools.truth_parts import Answer, Missing, Prediction, attempt, measured_total
from tools.truth_served import served
from tools.truth_shapes import shape_of

__all__ = ["Answer", "Missing", "Prediction", "answers"]
FEW_OUTPUTS_COMPUTE = 90 * MIB  # newest llama.cpp, 38 to 135 MiB seen: used where width and vocabulary are unknown
# machines whose processor and card have one memory
SHARED = re.compile(r"\bM[1-9]\b|apple|metal|\bmac|unified|strix halo|jetson|gb10|dgx spark", re.IGNORECASE)
PICTURE = 250  # MiB of one picture through a projector
SERVED = ("vllm", "sglang", "tgi", "text-generation")


def answers(row: Row) -> list[Answer]:
    """What can be said about every measured quantity of ``row``."""
    found: list[Answer] = []
    try:
        for answer in served(row) if row.engine.startswith(SERVED) else _llama(row):
            found.append(answer)  # what was said before a fact lacked is kept
    except MissingFact as error:
        found.append(Missing("all" if not found else "the rest", str(error)))
    except (ArithmeticError, LookupError, ValueError) as error:
        found.append(Missing("all" if not found else "the rest", f"facts that make sense together ({error})"))
    return found or [Missing("all", "a measured quantity that is known here")]


def _llama(row: Row) -> Iterator[Answer]:
    yield from attempt("weights", _weights_measured(row), lambda: _loaded(row) / MIB)
    measured = row.part("measured")
    if not any(name in measured for name in LLAMA_QUANTITIES) and measured_total(row) is None:
        return
    options, shape = llama_options(row), shape_of(row, mean_width(row))
    layers = place(shape, options, 1)
    cache = sum(cache_bytes(shape, options, layers, 1))
    yield from _caches(row, shape, options, cache)
    kept = 1 + (row.number("config", "n_rs_seq", "rs_seq") or 0)  # states kept for tokens that may be taken back
    state = sum(state_bytes(shape, options, layers, 1)) * kept
    yield from attempt("state", row.total("rs_mib"), lambda: state / MIB)
    yield from _compute(row, shape, options)
    yield from attempt("total", measured_total(row), lambda: _total(row, shape, options) / MIB)


LLAMA_QUANTITIES = ("kv_mib", "kv_full_mib", "kv_main_mib", "compute_mib", "compute_mib_requested", "rs_mib", "kv_gib",
                    "k_mib", "v_mib", "kv_self_mib", "kv_total_mib")  # fmt: skip


def _weights_measured(row: Row) -> float | None:
    large = row.total("weights_gib")
    return large * 1024 if large is not None else row.total("weights_mib")


def _loaded(row: Row) -> float:
    """Bytes of weights on the devices the row lists: a tied table is on the host and again on the card of the head."""
    devices = row.by_device("weights_mib")
    cards, hosts = [name for name in devices if is_card(name)], [name for name in devices if not is_card(name)]
    weights = file_weights(row)
    if isinstance(row.part("measured").get("weights_mib"), dict) and cards:
        table, copy = tables(row)
        weights += copy if hosts and _head_on_card(row) else 0
        weights -= table if not hosts and not is_tied(row) else 0
    return weights


def _head_on_card(row: Row) -> bool:
    told = row.number("config", "ngl")
    return told is None or told > row.count("layers")


def _caches(row: Row, shape: Shape, options: LlamaOptions, cache: int) -> Iterator[Answer]:
    for name in ("kv_mib", "kv_self_mib", "kv_total_mib"):
        yield from attempt("kv_cache", row.total(name), lambda: cache / MIB)
    yield from attempt("kv_cache", row.total("kv_gib"), lambda: cache / GIB)
    parts = [row.total(name) for name in ("kv_full_mib", "kv_swa_mib")]
    sides = [row.total(name) for name in ("k_mib", "v_mib")]
    for both in (parts, *([] if "kv_mib" in row.part("measured") else [sides])):
        if both[0] is not None and both[1] is not None:
            yield Prediction("kv_cache", cache / MIB, both[0] + both[1])
    index = sum(row_bytes(options.key_type, layer.indexer) for layer in shape.layers) * options.total_context(shape)
    yield from attempt("kv_cache", row.total("kv_main_mib"), lambda: (cache - index) / MIB)
    yield from attempt("kv_index", row.total("kv_indexer_mib"), lambda: index / MIB)
    attending = sum(1 for layer in shape.layers if layer.kv_heads)
    yield from attempt("draft_kv_cache", row.total("draft_kv_mib"), lambda: cache / max(attending, 1) / MIB)


def _compute(row: Row, shape: Shape, options: LlamaOptions) -> Iterator[Answer]:
    """Compute buffers of the GPUs; which layers lie where is read from the caches' sizes when there are several."""
    asked = row.number("measured", "compute_mib_requested")
    measured = {0: asked} if asked is not None else _by_number(row.by_device("compute_mib"))
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
    caches = {name: size for name, size in row.by_device("kv_mib").items() if is_card(name)}
    count = max(len(caches), max(measured) + 1)
    if count > 1 and caches:
        options = replace(options, split=tuple(caches.values()))
    host = "cpu" in row.text("config", "experts") or row.says("config", "cpu_moe") is True
    options = replace(options, expert_layers_on_host=len(shape.layers) if host else 0, lends_weights=not host)
    planned = plan(shape, options, count)
    for device, size in measured.items():
        yield Prediction("compute", planned.devices[device].compute / MIB, size)


def _by_number(sizes: dict[str, float]) -> dict[int, float]:
    """Cards by the number at the end of their names; the first where there is none."""
    cards = {name: size for name, size in sizes.items() if is_card(name)}
    return {int("".join(each for each in name if each.isdigit())[-2:] or 0): size for name, size in cards.items()}


def _total(row: Row, shape: Shape, options: LlamaOptions) -> float:
    """Weights on the cards, caches, compute and what the runtime takes; the table stays on the host unless tied."""
    shared = SHARED.search(str(row.row.get("gpu", "")))
    cards = max(1, len([name for name in row.by_device("kv_mib") if is_card(name)]), len(options.split))
    planned = plan(shape, options, cards).devices
    compute = sum(each.compute for each in planned) if shape.hidden and shape.vocab else FEW_OUTPUTS_COMPUTE
    weights = file_weights(row)
    if not is_tied(row) and shape.hidden and not shared:
        weights -= tables(row)[0]
    if options.gpu_layers is not None:
        weights *= min(1.0, options.gpu_layers / (len(shape.layers) + 1))
    context = sum(each.context for each in planned)
    return weights + context + compute + _beside(row, shape, context, compute) + OVERHEAD.likely * cards


def _beside(row: Row, shape: Shape, context: int, compute: int) -> float:
    """What guesses ahead and what sees: a head within the file, a projector of a known size. Raises MissingFact."""
    extra = 0.0
    if drafts_apart(row):
        raise MissingFact("the draft model's size")
    if re.search(HEADS, guessing(row)):
        extra += compute + context / max(1, sum(1 for layer in shape.layers if layer.kv_heads))
    if row.raw("config", "mmproj") is not None and row.says("config", "mmproj") is not False:
        size = row.number("config", "mmproj_mib") or row.number("measured", "mmproj_weights_mib")
        if size is None:
            raise MissingFact("config.mmproj_mib")
        extra += (size + PICTURE) * MIB
    return extra
