"""Engines that fill a budget, on configs that nobody published: what must hold whatever the model is."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.calculator.fractions import usual_fraction
from cortex.calculator.hf.safetensors import Weight
from cortex.calculator.hf.shape import shape_of
from cortex.calculator.memory import Card, cache_budget, estimate, fixed_terms
from cortex.calculator.serving import (
    concurrency,
    options_from,
    request_bytes,
    stage_layers,
    state_page,
    token_bytes,
    tokens_held,
)
from cortex.calculator.shape import Shape
from cortex.calculator.weights import lora_bytes, rank_weights
from engines.habits import ServeOptions
from tests.calculator.shapes import published

GIB = 1 << 30
LLAMA = published()["llama-3.1-8b.gguf"]
FAMILIES: tuple[dict[str, Any], ...] = (
    {"model_type": "llama"},
    {"model_type": "mistral", "sliding_window": 512},
    {"model_type": "gemma2", "sliding_window": 256},
    {"model_type": "llama4_text", "attention_chunk_size": 1024, "num_local_experts": 6},
    {"model_type": "deepseek_v32", "kv_lora_rank": 96, "qk_rope_head_dim": 32, "v_head_dim": 64, "qk_nope_head_dim": 64,
     "index_head_dim": 128, "n_routed_experts": 10, "first_k_dense_replace": 1},
    {"model_type": "qwen3_next", "linear_num_value_heads": 6, "linear_value_head_dim": 32, "linear_num_key_heads": 3,
     "linear_key_head_dim": 32},
    {"model_type": "jamba", "mamba_d_state": 16, "attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 5},
    {"model_type": "falcon_h1", "mamba_d_state": 64, "mamba_n_heads": 10, "mamba_d_head": 32, "mamba_n_groups": 1},
    {"model_type": "mamba2", "state_size": 64, "num_heads": 10, "head_dim": 32, "n_groups": 2},
    {"model_type": "minimax_m1", "attn_type_list": [0, 1] * 40},
    {"model_type": "gemma4_text", "global_head_dim": 128, "num_global_key_value_heads": 2, "sliding_window": 256},
    {"model_type": "bert"},
)  # fmt: skip


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    heads = draw(st.sampled_from([2, 6, 10, 16, 40]))
    config = {
        "num_hidden_layers": draw(st.integers(1, 40)),
        "hidden_size": 64 * heads,
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([1, 2, 5, heads])),
        "head_dim": draw(st.sampled_from([64, 80, 128])),
        "intermediate_size": draw(st.integers(64, 4096)),
        "vocab_size": draw(st.integers(1, 1 << 18)),
        "max_position_embeddings": 1 << 15,
    } | draw(st.sampled_from(FAMILIES))
    return shape_of("wild", config, tuple(_tensors(config, draw(st.integers(1, 1 << 24)))))


def _tensors(config: dict[str, Any], size: int) -> list[Weight]:
    kinds = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "mlp.experts.0.up_proj.weight", "norm.weight")
    names = [f"model.layers.{index}.{kind}" for index in range(config["num_hidden_layers"]) for kind in kinds]
    names += ["model.embed_tokens.weight", "lm_head.weight"]
    return [Weight(name, "BF16", (1, size) if "norm" not in name else (size,), 2 * size) for name in names]


options = st.builds(
    ServeOptions,
    context=st.integers(1, 1 << 15),
    users=st.integers(1, 512),
    tensor=st.sampled_from([1, 2, 3, 4, 8, 16]),
    pipeline=st.sampled_from([1, 2, 3]),
    experts_apart=st.booleans(),
    cache_type=st.sampled_from(["auto", "fp8", "nvfp4", "float32", "fp8_ds_mla"]),
    block=st.sampled_from([1, 16, 64]),
    batched_tokens=st.sampled_from([1, 512, 8192]),
    loras=st.integers(0, 3),
    draft_layers=st.integers(0, 1),
    draft_tokens=st.integers(0, 4),
    draft_bytes=st.sampled_from([0, GIB]),
    draft_widths=st.sampled_from([(), (100, 1024)]),
    offloaded=st.sampled_from([0, GIB, 1 << 50]),
    in_flight=st.sampled_from([1, 2]),
    float_bytes=st.sampled_from([2, 4]),
)


@settings(max_examples=150, deadline=None)
@given(shapes(), options)
def test_every_term_and_every_yield_is_finite_and_not_negative(shape: Shape, given_options: ServeOptions) -> None:
    found = estimate(shape, given_options, [Card(24 * GIB)] * 48)
    for need in (*found.gpus, found.host):
        for term in need.terms:
            assert 0 <= term.low <= term.likely <= term.high
            assert math.isfinite(term.high)
    assert found.yields is not None
    assert min(found.yields.tokens, found.yields.cache, found.yields.users) >= 0
    assert math.isfinite(found.yields.users)


@settings(max_examples=150, deadline=None)
@given(shapes(), options, st.integers(1, 1 << 15), st.integers(0, 512), st.integers(0, 1 << 36))
def test_more_is_never_less(shape: Shape, one: ServeOptions, more: int, users: int, budget: int) -> None:
    longer, busier = replace(one, context=one.context + more), replace(one, users=one.users + users)
    assert request_bytes(shape, longer, longer.context) >= request_bytes(shape, one, one.context)
    assert _least(shape, longer) >= _least(shape, one)
    assert _least(shape, busier) >= _least(shape, one)
    assert tokens_held(shape, one, budget + more) >= tokens_held(shape, one, budget)
    if shape.causal:
        assert concurrency(shape, longer, budget) <= concurrency(shape, one, budget)


def _least(shape: Shape, one: ServeOptions) -> int:
    return sum(need.likely for need in estimate(shape, one, []).gpus)


@settings(max_examples=150, deadline=None)
@given(shapes(), options)
def test_ranks_together_hold_no_less_than_the_whole(shape: Shape, given_options: ServeOptions) -> None:
    apart = replace(given_options, offloaded=0, pipeline=1)
    whole = replace(apart, tensor=1)
    ranks = apart.tensor
    assert ranks * rank_weights(shape, apart) >= rank_weights(shape, whole) - len(shape.layers)
    assert ranks * lora_bytes(shape, apart) >= lora_bytes(shape, whole)
    for layer in stage_layers(shape, whole):
        assert ranks * token_bytes(layer, shape, apart) >= token_bytes(layer, shape, whole)
        assert ranks * state_page(layer, shape, apart) >= state_page(layer, shape, whole)


HYBRID = {"hidden_size": 2048, "head_dim": 256, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
          "linear_num_key_heads": 16, "linear_value_head_dim": 128, "full_attention_interval": 4}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "options", "gib", "tokens", "users"),
    [
        ({"model_type": "qwen3_5_moe_text", "num_hidden_layers": 40, "num_attention_heads": 16,
          "num_key_value_heads": 2, "linear_num_value_heads": 32},
         ServeOptions(context=131072, cache_type="fp8"), 5.98, 567978, 4.33),
        ({"model_type": "qwen3_5_text", "num_hidden_layers": 64, "num_attention_heads": 24,
          "num_key_value_heads": 4, "linear_num_value_heads": 48},
         ServeOptions(context=131072, cache_type="fp8_e4m3", tensor=2), 4.99, 302921, 2.31),
        ({"model_type": "qwen3", "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8,
          "head_dim": 128, "full_attention_interval": 0}, ServeOptions(context=32768), 6.51, 42656, 1.30),
    ],
    ids=["qwen3.6-35b-a3b", "qwen3.8-27b-fp8", "qwen3-14b"],
)  # fmt: skip
def test_what_users_posted_of_their_starts_is_computed_from_configs(
    config: dict[str, Any], options: ServeOptions, gib: float, tokens: int, users: float
) -> None:
    shape = shape_of("posted", HYBRID | config, ())
    assert tokens_held(shape, options, int(gib * GIB)) == tokens
    assert concurrency(shape, options, int(gib * GIB)) == pytest.approx(users, abs=0.006)


def test_experts_of_four_bits_are_padded_to_the_tiles_of_their_kernels() -> None:
    """gpt-oss-120b is 60.8 GiB on disk; vLLM 0.10.1 loads 65.97 GiB on an H100."""
    config = {"model_type": "gpt_oss", "num_local_experts": 128, "quantization_config": {"quant_method": "mxfp4"}}
    blocks = [Weight(f"model.layers.{index}.mlp.experts.{name}_proj_{part}", "U8", shape, math.prod(shape))
              for index in range(36) for name, rows in (("gate_up", 5760), ("down", 2880))
              for part, shape in (("blocks", (128, rows, 90, 16)), ("scales", (128, rows, 90)))]  # fmt: skip
    rest = Weight("lm_head.weight", "BF16", (2_140_000_000,), 2 * 2_140_000_000)
    shape = shape_of("gpt-oss-120b", config, [*blocks, rest])
    assert shape.weight_bytes / GIB == pytest.approx(60.8, rel=0.01)
    assert rank_weights(shape, ServeOptions()) / GIB == pytest.approx(65.97, rel=0.01)


def test_heads_that_do_not_divide_are_counted_on_the_fullest_rank() -> None:
    layer = replace(LLAMA.layers[0], kv_heads=10)
    assert token_bytes(layer, LLAMA, ServeOptions(tensor=4)) == 3 * 2 * 128 * 2


def test_adapters_keep_the_sides_whole_that_ranks_share() -> None:
    """Of a projection that splits its output every rank has all of the input's side, and the other way round."""
    one, four = (lora_bytes(LLAMA, ServeOptions(loras=1, lora_rank=16, tensor=each)) for each in (1, 4))
    whole, split = 7 * 4096, 2 * 4096 + 2 * 1024 + 3 * 14336
    assert one == 2 * 16 * 32 * (whole + split)
    assert four == 2 * 16 * 32 * (whole + split // 4)


@pytest.mark.parametrize(
    ("gib", "tensor", "kept_mib"),
    [
        (80, 1, 512 + 1.5 * 8192 + 2 * 256 + 128),
        (24, 1, 512 + 1.5 * 2048 + 2 * 24 + 128),
        (24, 4, 512 + 1.5 * 2048 + 2 * 80 + 512),
        (48, 1, 512 + 1.5 * 4096 + 2 * 32 + 128),
        (140, 8, 512 + 1.5 * 8192 + 2 * 512 + 1024),
    ],
)
def test_the_share_that_sglang_takes_by_itself_follows_from_the_card(gib: int, tensor: int, kept_mib: float) -> None:
    total = gib * GIB
    assert total / (1 << 20) * (1 - usual_fraction(ServeOptions(tensor=tensor), total)) == pytest.approx(kept_mib)


@pytest.mark.parametrize("total", [0, 1, 1 << 20, 1 << 60])
def test_a_share_of_any_card_is_a_share(total: int) -> None:
    assert 0 < usual_fraction(ServeOptions(engine="sglang"), total) < 1


def test_sglang_takes_its_peaks_from_what_it_keeps_back_and_not_twice() -> None:
    """K and V of 25.14 GiB each were measured beside weights of 16.41 GiB on an H100 at 0.85."""
    options = options_from("sglang", ["--mem-fraction-static", "0.85", "--chunked-prefill-size", "4096"])
    options = replace(options, weight_bytes=int(16.41 * GIB))
    budget = cache_budget(options, Card(int(79.19 * GIB)), fixed_terms(LLAMA, options))
    assert budget / GIB == pytest.approx(2 * 25.14, rel=0.02)


def test_tgi_leaves_a_tenth_of_what_is_free_and_vllm_takes_its_share_of_the_whole() -> None:
    card = Card(24 * GIB, free=20 * GIB)
    fixed = sum(term.likely for term in fixed_terms(LLAMA, ServeOptions(engine="tgi", weight_bytes=GIB)))
    tgi = cache_budget(ServeOptions(engine="tgi", fraction=1.0, weight_bytes=GIB), card,
                       fixed_terms(LLAMA, ServeOptions(engine="tgi", weight_bytes=GIB)))  # fmt: skip
    assert tgi == pytest.approx(0.9 * (20 * GIB - fixed), abs=2)
