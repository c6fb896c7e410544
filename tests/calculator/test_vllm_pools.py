"""Cache tokens that the real vLLM 0.32 printed for made models, recorded, beside those computed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cortex.calculator.hf.shape import shape_of
from cortex.calculator.memory import estimate
from cortex.calculator.serving import concurrency, kinds_of, pool_of, tokens_told
from cortex.calculator.weights import lora_bytes, rank_weights, stages_of
from engines.habits import ServeOptions
from tests.calculator.shapes import published
from tools.yardsticks import cpu_options

GIB = 1 << 30
RECORD = json.loads((Path(__file__).parents[1] / "truth" / "vllm_cpu.json").read_text())
ROWS: dict[str, dict[str, Any]] = {name: row for name, row in RECORD["rows"].items() if "tokens" in row}
LLAMA = published()["llama-3.1-8b.gguf"]


@pytest.mark.parametrize("name", ROWS)
def test_the_tokens_that_vllm_keeps_are_computed(name: str) -> None:
    row = ROWS[name]
    shape, options, budget = shape_of(name, row["config"], ()), cpu_options(row["words"]), row["space_gib"] * GIB
    assert tokens_told(shape, options, budget) == pytest.approx(row["tokens"], rel=0.02)
    assert concurrency(shape, options, budget) == pytest.approx(row["concurrency"], rel=0.02)


def test_the_record_has_many_kinds_of_models() -> None:
    assert len({name.partition("@")[0] for name in ROWS}) >= 5
    assert RECORD["vllm"] == "0.32.0"


def test_layers_that_do_not_divide_go_to_the_stages_before_the_last() -> None:
    """As vLLM deals them: 10 layers over 4 stages are 2, 3, 3, 2."""
    for count, stages, dealt in ((10, 4, [2, 3, 3, 2]), (7, 2, [4, 3]), (11, 4, [3, 3, 3, 2]), (8, 3, [3, 3, 2])):
        assert [len(each) for each in stages_of(LLAMA.layers[:1] * count, stages)] == dealt


def test_whole_experts_go_to_a_rank_where_they_are_apart() -> None:
    shape = published()["qwen3-30b-a3b.gguf"]
    split, apart = (ServeOptions(tensor=12, experts_apart=each) for each in (False, True))
    experts = sum(layer.weights.experts for layer in shape.trunk)
    assert rank_weights(shape, apart) - rank_weights(shape, split) == pytest.approx(experts * (11 / 128 - 1 / 12), 1e-3)


def test_weights_kept_in_host_memory_are_taken_off_the_card_and_put_on_the_host() -> None:
    before, after = (estimate(LLAMA, ServeOptions(offloaded=each), []) for each in (0, 4 * GIB))
    assert before.gpus[0].likely - after.gpus[0].likely == 4 * GIB
    assert after.host.likely - before.host.likely == 4 * GIB
    whole = estimate(LLAMA, ServeOptions(offloaded=1 << 50), [])
    assert all(term.name != "weights" for term in whole.gpus[0].terms)
    assert whole.host.likely - before.host.likely == rank_weights(LLAMA, ServeOptions())


def test_cache_in_host_memory_is_counted_there() -> None:
    assert "swapped" in {term.name for term in estimate(LLAMA, ServeOptions(swapped=GIB), []).host.terms}


def test_linear_weights_of_16_bits_are_halved_at_the_start_and_others_are_not() -> None:
    plain = replace(LLAMA, quantization="BF16")
    linear = sum(layer.weights.total - layer.weights.copied for layer in plain.trunk)
    saved = rank_weights(plain, ServeOptions()) - rank_weights(plain, ServeOptions(weight_bits=8))
    assert saved == pytest.approx(linear / 2, rel=1e-4)
    finished = replace(LLAMA, quantization="awq")
    assert rank_weights(finished, ServeOptions(weight_bits=8)) == rank_weights(finished, ServeOptions())
    assert any("awq already" in each for each in estimate(finished, ServeOptions(weight_bits=8), []).assumptions)


def test_a_draft_model_has_weights_and_a_cache_beside_the_models_own() -> None:
    own, drafting = ServeOptions(), ServeOptions(draft_bytes=GIB, draft_widths=(512,) * 10)
    assert rank_weights(LLAMA, drafting) - rank_weights(LLAMA, own) == GIB
    [alone], [both] = kinds_of(LLAMA, own), kinds_of(LLAMA, drafting)
    assert both.page - alone.page == 10 * 512 * 2 * own.block


def test_room_for_adapters_grows_with_their_number_and_rank() -> None:
    one = lora_bytes(LLAMA, ServeOptions(loras=1, lora_rank=16))
    assert lora_bytes(LLAMA, ServeOptions(loras=4, lora_rank=64)) == 16 * one > 0


def test_windows_hold_what_is_under_way_of_both_steps() -> None:
    shape = replace(LLAMA, layers=tuple(replace(layer, window=512) for layer in LLAMA.layers))
    once, twice = (ServeOptions(context=1 << 17, in_flight=each) for each in (1, 2))
    assert concurrency(shape, once, 64 * GIB) / concurrency(shape, twice, 64 * GIB) == pytest.approx(
        1057 / 545, rel=0.01
    )
    assert pool_of(shape, once, GIB) == pool_of(shape, twice, GIB)


def test_an_image_tower_and_a_pipeline_say_what_is_not_computed() -> None:
    told = estimate(replace(LLAMA, tower_bytes=1), ServeOptions(pipeline=2), []).assumptions
    assert any("pictures" in each for each in told)
    assert any("fullest pipeline stage" in each for each in told)
    assert not estimate(replace(LLAMA, tower_bytes=1), ServeOptions(language_only=True), []).assumptions
