"""Rows in other words than the known ones: names of other engines and configs, lists, patterns, devices, units."""

import time
from typing import Any

import pytest

from tools.truth_facts import Row, number_of
from tools.truth_files import file_weights
from tools.truth_rows import Missing, Prediction, answers

MIB, GIB = 1 << 20, 1 << 30
L8 = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336,
      "vocab": 128256, "params_b": 8.03}  # fmt: skip
L70 = L8 | {"layers": 80, "hidden": 8192, "heads": 64, "intermediate": 28672, "params_b": 70.55}
CONFIG_NAMES = {"num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8,
                "head_dim": 128, "intermediate_size": 28672, "vocab_size": 128256, "params": 70553706496}  # fmt: skip
LOG_NAMES = {"n_layer": 36, "n_embd": 4096, "n_head": 32, "n_embd_k_gqa": 1024, "n_embd_v_gqa": 1024, "n_ff": 12288,
             "n_vocab": 151936, "n_params_b": 8.19}  # fmt: skip
GEMMA = {"layers": 62, "swa_pattern": "5:1", "swa_window": 1024, "hidden": 5376, "heads": 32, "kv_heads": 16,
         "head_dim": 128, "intermediate": 21504, "vocab": 262208, "params_b": 27.01}  # fmt: skip
COMPRESSED = {"layers": 61, "hidden": 7168, "heads": 128, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
              "v_head_dim": 128, "kv_lora_rank": 512, "vocab": 129280, "experts": 256, "params_b": 671.0}  # fmt: skip
MAMBA = {"ssm_d_conv": 4, "ssm_d_inner": 8192, "ssm_d_state": 128, "ssm_n_group": 8, "ssm_dt_rank": 128}
PURE = MAMBA | {"layers": 64, "hidden": 4096, "vocab": 32768, "params_b": 7.285}
SPARSE = MAMBA | {"layers": 52, "attention_layers": 4, "mamba_layers": 24, "hidden": 4096, "heads": 32, "kv_heads": 8,
                  "head_dim": 128, "vocab": 131072}  # fmt: skip
MIXTRAL = L8 | {"vocab": 32000, "params_b": 46.7, "experts": 8, "experts_used": 2, "moe_ff": 14336}
GPT_OSS = {"layers": 36, "hidden": 2880, "heads": 64, "kv_heads": 8, "head_dim": 64, "vocab": 201088, "experts": 128,
           "experts_used": 4, "params_b": 116.8}  # fmt: skip
STATE = 4 * (3 * (8192 + 2 * 8 * 128) + 8192 * 128)


def row(engine: str, version: str, model: str, facts: dict[str, Any], config: dict[str, Any], **measured: Any) -> Row:
    return Row({"id": "x", "engine": engine, "engine_version": version, "model": model, "hyperparams": facts,
                "config": config, "gpu": "H100 80GB", "measured": measured})  # fmt: skip


HYBRID = {"layers": 64, "full_layers": 16, "linear_layers": 48, "hidden": 5120, "kv_heads": 4, "head_dim": 256,
          "ssm_d_conv": 4, "ssm_d_inner": 6144, "ssm_d_state": 128, "ssm_dt_rank": 48, "ssm_n_group": 16,
          "vocab": 248320, "params_b": 26.9}  # fmt: skip
SMALL_HYBRID = HYBRID | {"layers": 40, "full_layers": 10, "linear_layers": 30, "hidden": 2048, "kv_heads": 2,
                         "ssm_d_inner": 4096, "ssm_dt_rank": 32}  # fmt: skip
LISTED = {"n_layer": 60, "n_embd": 5376, "n_head": 32, "n_embd_k_gqa": ([4096] * 5 + [2048]) * 10,
          "n_embd_v_gqa": ([4096] * 5 + [2048]) * 10, "n_swa": 1024, "swa_pattern": 6, "n_vocab": 262144}  # fmt: skip
# what users of vLLM, llama.cpp and Ollama posted of their starts in 2025 and 2026
POSTED = [
    row("vllm", "2026-08", "Qwen3.8-27B-FP8", HYBRID, {"tp": 2, "kv_cache_dtype": "fp8_e4m3", "max_model_len": 131072},
        kv_gib=4.99, kv_tokens=302921, max_concurrency=2.31),
    row("vllm", "v0.24.0", "Qwen3.6-35B-A3B-nvfp4", SMALL_HYBRID, {"kv_cache_dtype": "fp8", "max_model_len": 131072},
        kv_gib=5.98, kv_tokens=567978, max_concurrency=4.33),
    row("vllm", "2025-10", "Qwen3-14B", L8 | {"layers": 40}, {"max_model_len": 32768}, kv_gib=6.51, kv_tokens=42656,
        max_concurrency=1.30),
    row("ollama", "0.30.2 (2026-06)", "gpt-oss-120b", GPT_OSS | {"full_layers": 18, "swa_layers": 18,
        "swa_window": 128}, {"n_ctx": 262144, "n_seq_max": 2, "n_batch": 1024, "n_ubatch": 1024,
        "kv_unified": False}, kv_full_mib={"ROCm0": 9216.0}, kv_swa_mib={"ROCm0": 90.0}),
    row("ik_llama.cpp", "2025-06", "Qwen3-235B IQ3_K", {"params_b": 235.094, "bpw": 3.9034}, {}, weights_gib=106.83),
    row("llama.cpp", "b9031", "gemma-4-31B", LISTED, {"n_ctx": 8192}, kv_mib=1840.0),
]  # fmt: skip
ROWS = [
    *POSTED,
    row("vllm", "0.6.4-ish (V0)", "Llama-3.1-8B", L8, {"max_model_len": 20000}, kv_gib=3.81, kv_blocks=1952,
        max_concurrency=1.56),
    row("vllm", "v0.7.1", "Llama-3.1-70B-quantized.w8a8", L70, {"max_model_len": "2,048"}, weights_gib=67.7229,
        kv_blocks=1381, max_concurrency=10.79),
    row("vLLM", "v0.12.0", "Llama-3.3-70B", CONFIG_NAMES, {"tensor_parallel": 4, "kv_cache_dtype": "fp8",
        "max_model_len": "128k"}, weights_gib=32.89, kv_gib=30.0, kv_tokens=786432, max_concurrency=6.0),
    row("vllm", "0.9.1", "Llama-8B", L8, {"tp": 16}, kv_gib=10.0, kv_tokens=655360),
    row("vllm", "0.9.1", "Llama-8B", L8, {"speculative": {"method": "ngram", "num_speculative_tokens": 5}},
        kv_gib=50.0, kv_tokens=409600),
    row("vllm", "0.12", "gpt-oss-120b", GPT_OSS, {}, weights_gib=65.97),
    row("SGLang", "0.5.3", "Llama-3.1-8B", L8, {"tp_size": 1}, kv_tokens=443217, k_gib=27.05, v_gib=27.05),
    row("sglang", "0.4.6", "DeepSeek-V3", COMPRESSED, {"tp": 8}, kv_tokens=517142, kv_gib=33.85),
    row("text-generation-inference", "3.0", "Llama-3.1-8B bf16", L8, {"num_shard": 2}, weights_gib=7.48),
    row("llama.cpp", "b5800", "Llama-8B Q4_K_M", L8, {"ctx_size": 32768, "cache_type_k": "q8_0",
        "cache_type_v": "q8_0", "flash_attn": 1}, kv_mib={"ROCm0": 2176.0}, weights_mib={"ROCm0": 4403.0}),
    row("llama.cpp", "2026-02", "Qwen3-8B Q8_0", LOG_NAMES, {"n_ctx": 40960, "cache": "q8_0/q4_0",
        "kv_unified": "true", "n_seq_max": 4}, kv_mib=2340.0, weights_mib=8298.75),
    row("llama.cpp", "2026-03", "gemma-3-27b Q4_K_M", GEMMA, {"n_ctx": 32768, "n_parallel": 4, "kv_unified": True},
        kv_full_mib=2560.0, kv_swa_mib=52 * 4 * 2048 * 4608 / MIB),
    row("llama.cpp", "2026-03", "gemma-3-27b", GEMMA | {"swa_pattern": 6}, {"n_ctx": 32768, "swa_cells": 3072},
        kv_mib=(10 * 32768 + 52 * 3072) * 8192 / MIB),
    row("llama.cpp", "b5200", "DeepSeek-R1", COMPRESSED, {"n_ctx": 32768}, kv_mib=2196.0),
    row("llama.cpp", "b3800", "DeepSeek-R1", COMPRESSED, {"n_ctx": 8192}, k_mib=23424.0, v_mib=15616.0),
    row("ik_llama.cpp", "2025-03", "DeepSeek-R1", COMPRESSED, {"n_ctx": 32768, "mla": 2}, kv_mib=2196.0),
    row("llama.cpp", "b6100", "Mamba-Codestral-7B Q8_0", PURE, {"n_ctx": 4096, "n_seq_max": 2},
        rs_mib={"CPU": 0.0, "CUDA0": 2 * 64 * STATE / MIB}, weights_mib=7381.74),
    row("llama.cpp", "2025-12", "Nemotron-H-8B", SPARSE, {"n_ctx": 8192}, kv_mib=128.0, rs_mib=24 * STATE / MIB),
    row("ollama", "0.5.7 (2025-01)", "llama3.1:8b Q4_K_M", L8, {"num_ctx": 8192, "num_parallel": 4},
        kv_self_mib=1024.0),
]  # fmt: skip


@pytest.mark.parametrize("given", ROWS, ids=[f"{each.engine}-{each.model}" for each in ROWS])
def test_other_words_for_the_same_facts_are_understood(given: Row) -> None:
    found = answers(given)
    assert found
    assert not [each for each in found if isinstance(each, Missing)]
    assert max(abs(each.error) for each in found if isinstance(each, Prediction)) < 0.012


@pytest.mark.parametrize(
    ("facts", "label", "gigabytes"),
    [
        (L8, "Q2_K", 3.179), (L8, "Q3_K_M", 4.019), (L8, "IQ4_XS", 4.448), (L8, "IQ3_M", 3.785), (L8, "IQ2_M", 2.948),
        (L8, "Q5_0", 5.6), (L8, "Q4_K - Medium", 4.921), (L70, "IQ2_XS", 21.142), (L70, "Q3_K_L", 37.141),
        (MIXTRAL, "Q4_K_M", 28.45), (MIXTRAL, "Q5_K_M", 33.23), (GPT_OSS, "MXFP4", 63.387),
        (L8 | {"intermediate": None}, "Q4_K_M", 4.921),
    ],
)  # fmt: skip
def test_files_weigh_what_llama_quantize_makes_of_them(facts: dict[str, Any], label: str, gigabytes: float) -> None:
    name = "gpt-oss" if facts is GPT_OSS else "Model"
    assert file_weights(row("llama.cpp", "", name, facts, {"file_type": label})) == pytest.approx(
        gigabytes * 1e9, rel=0.01
    )


def test_one_missing_fact_takes_no_other_answer_with_it() -> None:
    served = answers(row("vllm", "0.11", "Llama", {"params_b": 8.03}, {}, weights_gib=14.96, kv_gib=5.0, kv_tokens=9))
    assert [type(each).__name__ for each in served] == ["Prediction", "Missing"]
    local = answers(row("llama.cpp", "", "Llama Q4_0", L8, {}, weights_mib=4445.0, kv_mib=100.0))
    assert [type(each).__name__ for each in local] == ["Prediction", "Missing"]


@pytest.mark.parametrize(
    ("config", "model", "quantity", "fact"),
    [
        ({}, "Model UD-Q4_K_XL", "weights", "mix of tensor types"),
        ({}, "Model Q4_K", "weights", "file type"),
        ({"cache": "turbo3"}, "Model Q4_0", "the rest", "config.cache"),
    ],
)
def test_what_a_row_leaves_open_is_named_and_not_guessed(
    config: dict[str, Any], model: str, quantity: str, fact: str
) -> None:
    given = row("llama.cpp", "", model, L8, {"n_ctx": 4096} | config, weights_mib=4445.0, kv_mib=512.0)
    [lacking] = [each for each in answers(given) if isinstance(each, Missing)]
    assert lacking.quantity == quantity
    assert fact in lacking.fact


@pytest.mark.parametrize(
    ("text", "number"),
    [("131,072", 131072), ("32k", 32768), ("default (8192, memory)", 8192), ("80128 (derived)", 80128), ("", None),
     ("v2", None), (True, None), (float("nan"), None), ([1], None), ("-1", -1)],
)  # fmt: skip
def test_numbers_are_found_in_words(text: object, number: float | None) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(("gpu", "table"), [("M4 Max 128GB", 0), ("RTX PRO 6000 Max-Q", 1), ("Tesla M40", 1)])
def test_a_table_is_on_the_host_unless_host_and_card_are_one(gpu: str, table: int) -> None:
    given = row("llama.cpp", "2026-04", "Llama-8B Q8_0", L8, {"n_ctx": 4096}, total_used_mib=9000)
    [total] = answers(Row({**given.row, "gpu": gpu}))
    [whole] = answers(Row({**given.row, "gpu": "Apple silicon"}))
    assert isinstance(total, Prediction)
    assert isinstance(whole, Prediction)
    assert whole.predicted - total.predicted == pytest.approx(table * 128256 * 4096 * 8.5 / 8 / MIB, abs=1)


def total_of(**config: Any) -> Missing | Prediction:
    [total] = answers(row("llama.cpp", "2026-04", "Llama-8B Q8_0", L8, {"n_ctx": 4096, **config}, total_used_mib=9000))
    return total


def test_what_sees_or_guesses_beside_a_model_is_in_its_total_or_missing() -> None:
    alone, seeing, guessing = total_of(), total_of(mmproj="x", mmproj_mib=800), total_of(spec="mtp n=1")
    assert isinstance(alone, Prediction)
    assert isinstance(seeing, Prediction)
    assert isinstance(guessing, Prediction)
    assert seeing.predicted - alone.predicted == 1050
    assert guessing.predicted > alone.predicted + 16
    for config, fact in (({"mmproj": "x"}, "mmproj"), ({"draft_model": "Qwen-0.5B"}, "draft model's size")):
        lacking = total_of(**config)
        assert isinstance(lacking, Missing)
        assert fact in lacking.fact


def test_a_pool_shared_with_a_draft_model_nobody_described_is_missing() -> None:
    facts: dict[str, Any] = {"kv_gib": 50.0, "kv_tokens": 400000}
    [lacking] = answers(row("vllm", "0.11", "Llama-8B", L8, {"speculative": {"model": "Qwen-0.6B"}}, **facts))
    assert isinstance(lacking, Missing)
    assert "draft" in lacking.fact


@pytest.mark.parametrize(
    ("engine", "part", "name"),
    [("llama.cpp", "hyperparams", "layers"), ("vllm", "config", "pp"), ("vllm", "config", "tp")],
)
def test_numbers_that_cannot_be_cost_no_second(engine: str, part: str, name: str) -> None:
    given = row(engine, "", "Llama Q4_0", L8, {"n_ctx": 4096}, weights_mib=1.0, kv_gib=1.0, kv_tokens=9)
    facts = {**given.part(part), name: 1 << 40}
    began = time.process_time()
    assert any(isinstance(each, Missing) for each in answers(Row({**given.row, part: facts})))
    assert time.process_time() - began < 1


def test_a_row_with_nothing_to_predict_is_listed_all_the_same() -> None:
    for measured in ({}, {"speed": 5}, {"kv_gib_approx": 50, "kv_tokens_approx": 525000}):
        [lacking] = answers(row("vllm", "0.21.0", "Gemma", {}, {}, **measured))
        assert isinstance(lacking, Missing)


def test_requests_at_once_follow_from_tokens_where_a_build_tells_them_so() -> None:
    facts: dict[str, Any] = {"kv_gib": 9.92, "kv_tokens": 1062157, "max_concurrency": 129.66}
    told = answers(row("vllm", "0.21.0", "gemma-4-E2B", {"src": "not recorded"}, {"max_model_len": 8192}, **facts))
    assert [(each.quantity, round(each.error, 4)) for each in told if isinstance(each, Prediction)] == [
        ("max_concurrency", 0.0)
    ]
    before = answers(row("vllm", "0.10.2", "gemma-3", {}, {"max_model_len": 8192}, **facts))
    assert not [each for each in before if isinstance(each, Prediction)]


def test_a_total_counts_in_any_unit_and_on_any_named_card() -> None:
    given = row("vllm", "0.31.0", "Llama-3.1-8B bf16", L8, {"max_model_len": 32768}, total_used_gib=72.4)
    [total] = answers(given)
    assert isinstance(total, Prediction)
    assert abs(total.error) < 0.03
