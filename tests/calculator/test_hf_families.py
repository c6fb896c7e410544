"""Published configs as they stand, also those that leave out what is usual, and what their tensors are for."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cortex.calculator.hf.safetensors import Weight
from cortex.calculator.hf.shape import shape_of
from cortex.calculator.memory import estimate
from cortex.calculator.serving import concurrency, request_bytes, token_bytes
from cortex.calculator.shape import Shape
from cortex.calculator.weights import rank_weights
from engines.habits import ServeOptions
from engines.vllm import Vllm
from tests.engines.launches import launch

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U8": 1, "F8_E4M3": 1}
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


def read(config: Mapping[str, object], tensors: Tensors | None = None) -> Shape:
    return shape_of(
        "x", json.loads(json.dumps(config)), [weight(name, *each) for name, each in (tensors or {}).items()]
    )


def weight(name: str, dtype: str, shape: tuple[int, ...]) -> Weight:
    size = WIDTHS[dtype]
    for length in shape:
        size *= length
    return Weight(name, dtype, shape, size)


def seen(shape: Shape) -> set[tuple[int, int, int]]:
    """Heads of keys, values cached per token, and window, of each kind of layer."""
    return {(layer.kv_heads, layer.cached_width, layer.window) for layer in shape.trunk}


GEMMA_4B = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
            "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}}  # fmt: skip
LLAVA = {"model_type": "llava", "text_config": {"model_type": "llama", "max_position_embeddings": 4096,
         "vocab_size": 32064}, "tie_word_embeddings": False}  # fmt: skip
PIXTRAL = {"model_type": "llava", "text_config": {"model_type": "mistral", "head_dim": 128, "hidden_size": 5120,
           "intermediate_size": 14336, "num_hidden_layers": 40, "num_key_value_heads": 8, "sliding_window": None,
           "vocab_size": 131072}}  # fmt: skip
GEMMA_3N = {"model_type": "gemma3n_text", "hidden_size": 2048, "num_hidden_layers": 35, "num_attention_heads": 8,
            "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": [16384] * 35, "vocab_size": 262400,
            "num_kv_shared_layers": 15, "sliding_window": 512}  # fmt: skip
FALCON = {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
          "vocab_size": 65024, "multi_query": True, "new_decoder_architecture": False}  # fmt: skip
DBRX = {"model_type": "dbrx", "d_model": 6144, "n_layers": 40, "n_heads": 48, "vocab_size": 100352,
        "attn_config": {"kv_n_heads": 8}, "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16,
        "moe_top_k": 4}}  # fmt: skip
CHATGLM = {"model_type": "chatglm", "num_layers": 40, "hidden_size": 4096, "num_attention_heads": 32,
           "padded_vocab_size": 151552, "ffn_hidden_size": 13696, "multi_query_attention": True,
           "multi_query_group_num": 2, "kv_channels": 128, "seq_length": 131072}  # fmt: skip
QWEN_WINDOWS = {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
                "num_key_value_heads": 4, "vocab_size": 152064, "use_sliding_window": True, "sliding_window": 4096,
                "max_window_layers": 21}  # fmt: skip
BAMBA = {"model_type": "bamba", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "attn_layer_indices": [9, 18, 27], "mamba_d_conv": 4, "mamba_d_head": 64,
         "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_n_heads": 128, "vocab_size": 128256}  # fmt: skip
SPLADE = {"model_type": "distilbert", "dim": 768, "hidden_dim": 3072, "n_heads": 12, "n_layers": 6,
          "vocab_size": 30522, "max_position_embeddings": 512}  # fmt: skip
SPARSE = {"model_type": "deepseek_v32", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
          "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
          "v_head_dim": 128, "vocab_size": 129280, "index_head_dim": 128, "index_topk": 2048}  # fmt: skip
LIGHTNING = {"model_type": "minimax_text_01", "hidden_size": 6144, "num_hidden_layers": 80, "num_attention_heads": 64,
             "num_key_value_heads": 8, "head_dim": 128, "attn_type_list": ([0] * 7 + [1]) * 10,
             "vocab_size": 200064}  # fmt: skip

SEARCHED = {"model_type": "nemotron-nas", "hidden_size": 8192, "num_hidden_layers": 3, "num_attention_heads": 64,
            "num_key_value_heads": None, "vocab_size": 128256, "block_configs": [
                {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 2.625}},
                {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 1.0}},
                {"attention": {"n_heads_in_group": 16, "no_op": False}, "ffn": {"ffn_mult": 5.25}}]}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        (SEARCHED, {(8, 2048, 0), (0, 0, 0), (4, 1024, 0)}),
        (GEMMA_4B, {(4, 2048, 1024), (4, 2048, 0)}),
        (LLAVA, {(32, 8192, 0)}),
        (PIXTRAL, {(8, 2048, 0)}),
        (GEMMA_3N, {(2, 1024, 512), (2, 1024, 0), (2, 0, 512), (2, 0, 0)}),
        (FALCON, {(1, 128, 0)}),
        (DBRX, {(8, 2048, 0)}),
        (CHATGLM, {(2, 512, 0)}),
        (QWEN_WINDOWS, {(4, 1024, 0), (4, 1024, 4096)}),
        (BAMBA, {(0, 0, 0), (8, 2048, 0)}),
        (SPLADE, {(12, 1536, 0)}),
        (SPARSE, {(1, 576, 0)}),
        (LIGHTNING, {(0, 0, 0), (8, 2048, 0)}),
    ],
    ids=lambda value: str(value.get("model_type")) if isinstance(value, dict) else "",
)
def test_layers_of_published_configs_are_read(config: dict[str, object], kinds: set[tuple[int, int, int]]) -> None:
    assert seen(read(config)) == kinds


def test_what_a_config_leaves_out_is_as_usual_and_told() -> None:
    shape = read(GEMMA_4B)
    assert (len(shape.trunk), shape.heads, shape.vocab, shape.context) == (34, 8, 262208, 131072)
    assert sum(not layer.window for layer in shape.trunk) == 5
    assert any("leaves out num_attention_heads" in each for each in shape.assumptions)


def test_compressed_heads_are_as_usual_unless_the_config_does_without() -> None:
    small = {"model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16}
    assert seen(read({"model_type": "x", "language_config": small})) == {(1, 576, 0)}
    plain = {**small, "use_mla": False, "kv_lora_rank": None, "qk_rope_head_dim": 0, "v_head_dim": 0, "head_dim": 128}
    assert seen(read({"model_type": "x", "language_config": plain})) == {(16, 2 * 16 * 128, 0)}


def test_heads_of_a_part_that_leaves_them_out_are_counted() -> None:
    assert read(PIXTRAL).heads == 32


def test_lightning_attention_keeps_a_state_of_16_bits_per_head_squared() -> None:
    shape = read(LIGHTNING)
    linear = [layer for layer in shape.trunk if not layer.kv_heads]
    assert len(linear) == 70
    assert {4 * layer.state for layer in linear} == {64 * 128 * 128 * 2}


def test_a_state_of_unknown_size_is_told_and_no_silent_zero() -> None:
    config = {**LIGHTNING, "model_type": "novelty"}
    assert any("70 of its layers keep a state" in each for each in read(config).assumptions)


def test_short_convolutions_are_remembered_per_request() -> None:
    kinds = ["conv", "conv", "full_attention"] * 2
    shape = read({"model_type": "lfm2", "hidden_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 32,
                  "num_key_value_heads": 8, "conv_L_cache": 3, "vocab_size": 65536, "layer_types": kinds})  # fmt: skip
    assert [layer.conv for layer in shape.trunk[:3]] == [4096, 4096, 0]
    assert request_bytes(shape, ServeOptions(), 16) > 2 * 2 * 1024 * 2 * 16


def test_a_sparse_index_is_cached_beside_compressed_heads() -> None:
    """61 layers of 576 values in 16 bits and 128 in 8 bits with one scale of four bytes."""
    shape = read(SPARSE)
    assert sum(token_bytes(layer, shape, ServeOptions()) for layer in shape.trunk) == 61 * (1152 + 132)
    shared = read({**SPARSE, "indexer_types": ["full", "shared"] * 40})
    assert sum(layer.indexer > 0 for layer in shared.trunk) == 31


@pytest.mark.parametrize("config", [SPLADE, {"model_type": "xlm-roberta", "vocab_size": 250002}])
def test_encoders_cache_nothing_and_serve_as_many_as_are_let_in(config: dict[str, object]) -> None:
    shape, options = read(config), ServeOptions(users=32)
    found = estimate(shape, options, [])
    assert request_bytes(shape, options, 512) == 0
    assert all(term.name != "kv_cache" for term in found.gpus[0].terms)
    assert concurrency(shape, options, 1 << 30) == 32


def test_an_embedder_that_looks_both_ways_caches_nothing() -> None:
    text: dict[str, Any] = GEMMA_4B["text_config"]  # type: ignore[assignment]
    assert not read({**text, "use_bidirectional_attention": True}).causal
    assert not read({**text, "is_causal": False}).causal
    assert read({**text, "is_causal": True, "use_bidirectional_attention": False}).causal


@pytest.mark.parametrize(
    ("config", "with_experts"),
    [
        ({"model_type": "llama4_text", "num_local_experts": 128, "interleave_moe_layer_step": 2}, [1, 3]),
        ({"model_type": "jamba", "num_experts": 16, "expert_layer_period": 2, "expert_layer_offset": 1,
          "attn_layer_period": 2, "mamba_d_state": 16}, [1, 3]),
        ({"model_type": "qwen2_moe", "num_experts": 60, "decoder_sparse_step": 1, "mlp_only_layers": [0]}, [1, 2, 3]),
        ({"model_type": "nemotron_h", "n_routed_experts": 128, "hybrid_override_pattern": "ME*E",
          "ssm_state_size": 128}, [1, 3]),
        ({"model_type": "nemotron_h", "n_routed_experts": 128, "ssm_state_size": 128,
          "layers_block_type": ["mamba", "moe", "attention", "mlp"]}, [1]),
        ({"model_type": "gemma4_text", "num_experts": 128, "top_k_experts": 8}, [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_experts_are_where_the_family_has_them(config: dict[str, Any], with_experts: list[int]) -> None:
    sizes = {"hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 16, "vocab_size": 1000,
             "moe_intermediate_size": 512, "mamba_num_heads": 64, "mamba_head_dim": 64}  # fmt: skip
    layers = read({**sizes, **config}).trunk
    assert [index for index, layer in enumerate(layers) if layer.experts] == with_experts
    assert not any(layer.kv_heads for layer, kind in zip(layers, config.get("layers_block_type", ()), strict=False)
                   if kind in ("moe", "mlp"))  # fmt: skip


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"max_position_embeddings": 8192, "model_max_length": 1e30}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 32768}}, 131072),
        ({"max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40,
          "original_max_position_embeddings": 4096}}, 163840),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 1e300}}, 4096),
    ],
)  # fmt: skip
def test_the_length_trained_for_is_read_as_engines_read_it(config: dict[str, object], tokens: int) -> None:
    assert read({"model_type": "llama", **config}).context == tokens


SMALL = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip


def test_speech_output_is_not_loaded_and_fills_no_layer() -> None:
    tensors = {"thinker.model.layers.0.mlp.up_proj.weight": ("BF16", (128, 64)),
               "talker.model.layers.0.mlp.up_proj.weight": ("BF16", (4096, 64)),
               "token2wav.code2wav_dit_model.proj.weight": ("BF16", (64, 64))}  # fmt: skip
    shape = read(SMALL, tensors)
    assert shape.layers[0].weights.total == 128 * 64 * 2
    assert shape.weight_bytes == 128 * 64 * 2
    assert any("make speech" in each for each in shape.assumptions)


def test_a_saved_copy_of_a_tied_head_is_not_loaded_twice() -> None:
    table = {"model.embed_tokens.weight": ("BF16", (1000, 64)), "lm_head.weight": ("BF16", (1000, 64))}
    apart, tied = (read({**SMALL, "tie_word_embeddings": each}, table) for each in (False, True))
    assert apart.weight_bytes == 2 * tied.weight_bytes == 4 * 1000 * 64


def test_keys_within_a_fused_projection_are_kept_by_every_rank() -> None:
    fused = {"model.layers.0.self_attn.qkv_proj.weight": ("BF16", (4 * 16 + 2 * 32, 64))}
    assert read(SMALL, fused).layers[0].weights.kv == 2 * 32 * 64 * 2


def test_experts_in_one_tensor_are_experts() -> None:
    config = {**SMALL, "model_type": "granitemoe", "num_local_experts": 8}
    tensors = {"model.layers.0.block_sparse_moe.input_linear.weight": ("BF16", (8, 256, 64))}
    assert read(config, tensors).layers[0].weights.experts == 8 * 256 * 64 * 2


def test_an_expert_that_all_tokens_share_is_split_and_not_dealt_out() -> None:
    at = "model.layers.0.mlp."
    tensors = {f"{at}experts.0.down_proj.weight": ("BF16", (64, 32)),
               f"{at}shared_experts.down_proj.weight": ("BF16", (64, 96))}  # fmt: skip
    weights = read({**SMALL, "model_type": "deepseek_v3", "n_routed_experts": 1}, tensors).layers[0].weights
    assert (weights.experts, weights.split) == (64 * 32 * 2, 64 * 96 * 2)


def test_files_prove_the_heads_of_a_family_nobody_knows() -> None:
    tensors = {f"model.layers.{index}.self_attn.k_proj.weight": ("BF16", (16, 64)) for index in range(2)}
    assert seen(read({**SMALL, "model_type": "novelty"}, tensors)) == {(1, 32, 0)}


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ({"quant_method": "awq", "bits": 4}, {"q.qweight": ("I32", (64, 8)), "q.qzeros": ("I32", (1, 8)),
                                               "q.scales": ("F16", (1, 64))}),
        ({"quant_method": "gptq", "bits": 8}, {"q.qweight": ("I32", (16, 64)), "q.g_idx": ("I32", (64,))}),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
         {"q.weight_packed": ("I32", (64, 8)), "q.weight_scale": ("BF16", (64, 1))}),
        ({"quant_method": "bitsandbytes"}, {"q.weight": ("U8", (2048, 1)), "q.weight.absmax": ("F32", (64,))}),
        ({"quant_method": "mxfp4"}, {"q.experts.down_proj_blocks": ("U8", (2, 16, 4, 16)),
                                     "q.experts.down_proj_scales": ("U8", (2, 16, 4))}),
        ({"quant_algo": "NVFP4"}, {"q.weight": ("U8", (64, 32)), "q.weight_scale": ("F8_E4M3", (64, 4))}),
        ({"quant_method": "fp8"}, {"q.weight": ("F8_E4M3", (64, 64)), "q.weight_scale_inv": ("F32", (1, 1))}),
    ],
    ids=lambda value: str(value.get("quant_method", "")),
)  # fmt: skip
def test_packed_weights_are_counted_one_by_one(config: dict[str, object], tensors: Tensors) -> None:
    layers = {f"model.layers.0.{name}": each for name, each in tensors.items()}
    assert read({**SMALL, "quantization_config": config}, layers).parameters == 64 * 64


@pytest.mark.parametrize("scheme", [{"kv_cache_scheme": {"num_bits": 8}}, {"kv_cache_quant_algo": "FP8"}])
def test_files_made_for_a_narrow_cache_say_so(scheme: dict[str, object]) -> None:
    told = read({**SMALL, "quantization_config": {"quant_method": "modelopt", **scheme}}).assumptions
    assert any("cache of 8 bits" in each for each in told)
    plain = read({**SMALL, "quantization_config": {"kv_cache_scheme": None}}).assumptions
    assert not any("cache of 8 bits" in each for each in plain)


def test_floats_are_held_as_wide_as_the_engine_computes() -> None:
    tensors = {"model.embed_tokens.weight": ("F32", (100_000, 64))}
    shape = read(SMALL, tensors)
    assert rank_weights(shape, ServeOptions()) == pytest.approx(100_000 * 64 * 2, abs=8)
    assert rank_weights(shape, ServeOptions(float_bytes=4)) == pytest.approx(100_000 * 64 * 4, abs=8)
    wide = Vllm().memory(launch(options={"dtype": "float32"})).options
    assert isinstance(wide, ServeOptions)
    assert (wide.float_bytes, wide.cache_width) == (4, 4.0)
