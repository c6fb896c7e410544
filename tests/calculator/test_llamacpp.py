import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.calculator.gguf.families import COMPARED
from cortex.calculator.llamacpp.places import HOST, place
from cortex.calculator.llamacpp.plan import options_from, plan
from engines.habits import LlamaOptions
from tests.calculator.shapes import published
from tools.truth import Judge, row_name
from tools.truth_rows import Prediction

TRUTH = Path(__file__).parent.parent / "truth"
CHOSEN, FAMILIES, *DRAWN = (
    [json.loads(line) for line in (TRUTH / f"llamacpp_{name}.jsonl").read_text().splitlines()]
    # the last three were drawn when the graphs had been written
    for name in ("plans", "families", "drawn", "drawn_later", "drawn_last", "drawn_fresh")
)
ROWS = [*CHOSEN, *FAMILIES, *(row for rows in DRAWN for row in rows)]
MIB = 1 << 20


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, Prediction]]:
    judge = Judge(TRUTH, published())
    return [(row_name(row), answer) for row in ROWS for answer in judge.answers(row) if isinstance(answer, Prediction)]


def test_the_recording_covers_many_models_and_configurations() -> None:
    assert len({row["gguf"] for row in CHOSEN}) >= 30
    assert len(CHOSEN) >= 200
    assert all(len(rows) >= 60 for rows in DRAWN)
    shapes = published()
    assert min(Counter(shapes[row["gguf"]].family for row in FAMILIES).values()) >= 9
    assert {len(row["devices"]) for row in ROWS} == {1, 2, 3, 4}


@pytest.mark.parametrize("part", ["model", "context"])
def test_weights_and_caches_are_what_llama_cpp_plans(judged: list[tuple[str, Prediction]], part: str) -> None:
    rows = [(name, each) for name, each in judged if each.quantity == part]
    off = [name for name, each in rows if abs(each.predicted - each.measured) > 1]
    assert len(off) <= len(rows) / 100, off
    wrong = [name for name, each in rows if abs(each.predicted - each.measured) > max(1, each.measured / 100)]
    assert not wrong


def test_compute_buffers_are_what_llama_cpp_plans(judged: list[tuple[str, Prediction]]) -> None:
    rows = [(name, each) for name, each in judged if each.quantity == "compute"]
    near = sum(abs(each.predicted - each.measured) <= max(16, each.measured / 20) for _, each in rows)
    assert near >= 0.99 * len(rows)
    under = [(name, each) for name, each in rows if each.predicted < 0.95 * each.measured - 1]
    assert not under


def test_graphs_called_compared_are_those_recorded() -> None:
    recorded = {row["gguf"] for row in ROWS}
    assert {shape.family for name, shape in published().items() if name in recorded} == COMPARED


def test_a_family_that_llama_cpp_denies_flash_attention_is_planned_without() -> None:
    shape = published()["grok-1.gguf"]
    asked, denied = LlamaOptions(context=8192), LlamaOptions(context=8192, flash=False)
    assert plan(shape, asked, 1) == plan(shape, denied, 1)


def test_flash_attention_is_done_without_where_it_would_run_beside_the_cache() -> None:
    shape = published()["falcon-h1-7b.gguf"]
    likely, forced, refused = (
        plan(shape, options_from(["-c", "6000", "-nkvo", "-fa", word]), 1) for word in ("auto", "on", "off")
    )
    assert likely == refused != forced
    dense = published()["llama-3.1-8b.gguf"]
    likely, forced = (plan(dense, options_from(["-c", "6000", "-nkvo", "-fa", word]), 1) for word in ("auto", "on"))
    assert likely == forced


def test_a_cache_of_32_bits_is_copied_for_flash_attention() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    narrow, wide = (LlamaOptions(context=131072, outputs=1, key_type=kind, value_type=kind) for kind in ("f16", "f32"))
    grown = plan(shape, wide, 1).devices[0].compute - plan(shape, narrow, 1).devices[0].compute
    assert grown > 131072 * 1024 * 2  # keys and values of one layer, 16 bits each, less what they take the place of


def test_decays_of_lightning_layers_take_more_where_memory_is_allocated() -> None:
    shape = published()["minimax-text-01.gguf"]
    real = LlamaOptions(context=8192, slots=4, ubatch=2048)
    planned = replace(real, pinned=False)
    assert plan(shape, real, 1).devices[0].compute > plan(shape, planned, 1).devices[0].compute


def test_layers_are_shared_out_by_the_split() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    places = place(shape, LlamaOptions(split=(3, 1)), 2)
    assert (places.layers.count(0), places.layers.count(1), places.output) == (25, 7, 1)


def test_the_output_counts_as_the_last_layer() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    places = place(shape, LlamaOptions(gpu_layers=1), 1)
    assert set(places.layers) == {HOST}
    assert places.output == 0


def test_zero_gpu_layers_leave_everything_on_the_host() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    planned = plan(shape, LlamaOptions(context=4096, gpu_layers=0), 1)
    assert planned.devices[0].model == planned.devices[0].context == 0
    assert planned.host.model == shape.weight_bytes


def test_a_tied_head_is_stored_twice_when_the_output_is_offloaded() -> None:
    shape = published()["llama-3.2-3b.gguf"]
    planned = plan(shape, LlamaOptions(context=4096), 1)
    assert planned.host.model + planned.devices[0].model == shape.weight_bytes + shape.embedding


def test_a_tied_head_of_four_bits_is_rearranged_for_the_processor() -> None:
    shape = published()["llama-3.2-3b.gguf"]
    assert plan(shape, LlamaOptions(context=4096), 0).host.model == shape.weight_bytes + shape.embedding
    odd = replace(shape, vocab=shape.vocab + 1)
    assert plan(odd, LlamaOptions(context=4096), 0).host.model == shape.weight_bytes
    lent = LlamaOptions(context=4096, gpu_layers=0, lends_weights=True)
    assert plan(shape, lent, 1).host.model == shape.weight_bytes


def test_experts_kept_on_the_host_leave_the_card() -> None:
    shape = published()["qwen3-30b-a3b.gguf"]
    apart = plan(shape, LlamaOptions(context=4096, expert_layers_on_host=48), 1)
    whole = plan(shape, LlamaOptions(context=4096), 1)
    experts = sum(layer.weights.experts for layer in shape.layers)
    assert whole.devices[0].model - apart.devices[0].model == experts


def test_slots_with_a_shared_cache_triple_a_window() -> None:
    shape = published()["gemma-3-27b.gguf"]
    one = LlamaOptions(context=65536, slots=1, unified=True)
    four = LlamaOptions(context=65536, slots=4, unified=True)
    assert (one.window_cells(shape, 1024), four.window_cells(shape, 1024)) == (1536, 4608)


def test_command_lines_are_read_as_llama_cpp_reads_them() -> None:
    options = options_from(
        [
            "-c",
            "8192",
            "-np",
            "4",
            "-ub",
            "256",
            "-fa",
            "off",
            "-ctk",
            "q8_0",
            "-ngl",
            "20",
            "-ts",
            "3,1",
            "-nkvo",
            "--swa-full",
            "-kvu",
        ]
    )
    assert options == LlamaOptions(
        context=8192,
        slots=4,
        ubatch=256,
        flash=False,
        key_type="q8_0",
        gpu_layers=20,
        split=(3.0, 1.0),
        cache_on_gpu=False,
        whole_window=True,
        unified=True,
    )


def test_negative_layers_mean_all() -> None:
    assert options_from(["-ngl", "-1"]).gpu_layers is None


def test_a_word_where_a_number_belongs_is_an_error() -> None:
    with pytest.raises(ValueError, match="many"):
        options_from(["-c", "many"])
