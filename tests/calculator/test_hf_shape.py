import json
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from cortex.calculator.hf.shape import read_folder, read_repository, shape_of
from cortex.calculator.memory import estimate
from cortex.calculator.ranges import RemoteFile, absent
from cortex.calculator.serving import token_bytes, tokens_held
from cortex.calculator.shape import Shape
from cortex.calculator.unreadable import UnreadableModel
from engines.habits import ServeOptions

GIB = 1 << 30
RECORD = Path(__file__).parents[1] / "truth" / "vllm_cpu.json"
ODD_NAMES = (
    "text_config", "linear_attn_config", "hybrid_override_pattern", "num_kv_shared_layers", "attn_layer_period",
    "full_attention_interval", "sliding_window_pattern", "attention_chunk_size", "global_head_dim", "kv_lora_rank",
    "mamba_d_state", "n_routed_experts", "quantization_config", "layers_block_type", "linear_num_value_heads",
)  # fmt: skip
ODD_VALUES: tuple[object, ...] = (
    0, -1, 3, 1 << 31, 1 << 62, 1e308, float("nan"), float("inf"), 0.5, "", "x", None, True, [], {}, [0],
    ["mamba"] * 5000, {"num_heads": 0, "head_dim": 4, "full_attn_layers": ["a", None]}, [[[]]],
)  # fmt: skip
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


def llama_tensors(layers: int = 32) -> dict[str, tuple[int, ...]]:
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (128256, 4096),
        "model.norm.weight": (4096,),
        "lm_head.weight": (128256, 4096),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors |= {
            at + "self_attn.q_proj.weight": (4096, 4096),
            at + "self_attn.k_proj.weight": (1024, 4096),
            at + "self_attn.v_proj.weight": (1024, 4096),
            at + "self_attn.o_proj.weight": (4096, 4096),
            at + "mlp.gate_proj.weight": (14336, 4096),
            at + "mlp.up_proj.weight": (14336, 4096),
            at + "mlp.down_proj.weight": (4096, 14336),
            at + "input_layernorm.weight": (4096,),
            at + "post_attention_layernorm.weight": (4096,),
        }
    return tensors


def write_safetensors(path: Path, tensors: Mapping[str, tuple[int, ...]], *, hole: bool = True) -> None:
    header: dict[str, object] = {}
    at = 0
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if hole:
            file.truncate(8 + len(text) + at)


def write_model(folder: Path, config: Mapping[str, object], tensors: Mapping[str, tuple[int, ...]]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    names = list(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        write_safetensors(folder / file, {name: tensors[name] for name in part})
    where = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def config_only(config: Mapping[str, object], tmp_path: Path) -> Shape:
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_safetensors(tmp_path / "model.safetensors", {"model.embed_tokens.weight": (8, 8)})
    return read_folder(tmp_path)


def refused(folder: Path) -> UnreadableModel:
    start = time.process_time()
    with pytest.raises(UnreadableModel) as caught:
        read_folder(folder)
    assert time.process_time() - start < 1
    assert caught.value.remedy
    return caught.value


def test_llama_weighs_and_caches_what_vllm_logs(tmp_path: Path) -> None:
    shape = read_folder(write_model(tmp_path, LLAMA, llama_tensors()))
    assert shape.weight_bytes / GIB == pytest.approx(14.9889, rel=0.003)
    assert sum(token_bytes(layer, shape, ServeOptions()) for layer in shape.layers) == 131072
    assert tokens_held(shape, ServeOptions(), int(56.213 * GIB)) == pytest.approx(460496, abs=64)
    assert not shape.assumptions


def test_a_remote_model_is_read_from_its_headers_alone(tmp_path: Path) -> None:
    write_model(tmp_path, LLAMA, llama_tensors())
    read = 0

    def open_file(name: str) -> RemoteFile:
        path = tmp_path / name
        if not path.exists():
            raise absent(name, "not found")

        def fetch(offset: int, length: int) -> bytes:
            nonlocal read
            read += length
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(length)

        return RemoteFile(name, path.stat().st_size, fetch)

    assert read_repository(tmp_path.name, open_file) == read_folder(tmp_path)
    assert read < 1 << 20


def test_windows_of_gemma_leave_one_full_layer_in_six(tmp_path: Path) -> None:
    gemma = LLAMA | {"model_type": "gemma3_text", "head_dim": 256, "sliding_window": 1024}
    windows = [layer.window for layer in config_only(gemma, tmp_path).layers]
    assert windows[:6] == [1024] * 5 + [0]
    assert windows.count(0) == 5


def test_listed_layer_types_win_over_rules(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"] * 16
    shape = config_only(LLAMA | {"model_type": "gpt_oss", "layer_types": kinds, "sliding_window": 128}, tmp_path)
    assert [layer.window for layer in shape.layers[:2]] == [128, 0]


def test_compressed_attention_caches_one_narrow_head(tmp_path: Path) -> None:
    mla = {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128}
    shape = config_only(
        LLAMA | mla | {"v_head_dim": 128, "n_routed_experts": 256, "first_k_dense_replace": 3}, tmp_path
    )
    assert shape.layers[0].cached_width == 576
    assert [layer.experts for layer in shape.layers[2:4]] == [0, 256]


def test_linear_attention_keeps_a_state_and_no_tokens(tmp_path: Path) -> None:
    linear = {
        "model_type": "qwen3_next",
        "full_attention_interval": 4,
        "linear_num_value_heads": 32,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "num_hidden_layers": 48,
    }
    shape = config_only(LLAMA | linear, tmp_path)
    assert [layer.kv_heads > 0 for layer in shape.layers[:4]] == [False, False, False, True]
    states = sum(4 * (layer.conv + layer.state) for layer in shape.layers)
    assert states / (1 << 20) == 75.375


def test_a_hybrid_pattern_in_letters_is_read(tmp_path: Path) -> None:
    letters = "M-M*" * 8
    facts = {"mamba_num_heads": 128, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8}
    shape = config_only(LLAMA | facts | {"model_type": "nemotron_h", "hybrid_override_pattern": letters}, tmp_path)
    assert [(layer.kv_heads > 0, layer.state > 0) for layer in shape.layers[:4]] == [
        (False, True),
        (False, False),
        (False, True),
        (True, False),
    ]


def test_shared_caches_cost_nothing(tmp_path: Path) -> None:
    shape = config_only(LLAMA | {"model_type": "gemma3n_text", "num_kv_shared_layers": 12}, tmp_path)
    assert sum(layer.cached_width > 0 for layer in shape.layers) == 20


def test_a_nested_text_config_is_the_model(tmp_path: Path) -> None:
    nested = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"hidden_size": 1024}}
    assert config_only(nested, tmp_path).layers[0].kv_heads == 8


def test_an_image_tower_is_counted_apart(tmp_path: Path) -> None:
    tensors = llama_tensors() | {"vision_tower.encoder.layers.0.fc1.weight": (4096, 1024)}
    assert read_folder(write_model(tmp_path, LLAMA, tensors)).tower_bytes == 8 << 20


def test_an_encoder_keeps_no_cache_of_tokens_for_later(tmp_path: Path) -> None:
    shape = config_only(LLAMA | {"model_type": "xlm-roberta", "num_key_value_heads": None}, tmp_path)
    assert shape.pooled
    assert not shape.causal


def test_an_unknown_family_says_what_is_assumed(tmp_path: Path) -> None:
    assert "is not known" in config_only(LLAMA | {"model_type": "novelty"}, tmp_path).assumptions[0]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, LLAMA, llama_tensors())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002" in refused(tmp_path).what


def test_missing_files_are_errors(tmp_path: Path) -> None:
    assert "config.json" in refused(tmp_path).what
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert "model.safetensors" in refused(tmp_path).what


def test_data_that_is_cut_off_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    write_safetensors(tmp_path / "model.safetensors", llama_tensors(), hole=False)
    assert "cut off" in refused(tmp_path).what


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 1e12},
        {"num_hidden_layers": "many"},
        {"hidden_size": 0},
        {"num_experts": 1 << 30},
        {"hidden_size": [1, 2]},
        {"num_key_value_heads": float("nan")},
    ],
)
def test_absurd_configs_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | change))
    write_safetensors(tmp_path / "model.safetensors", {"a": (2, 2)})
    assert "makes no sense" in refused(tmp_path).what


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff" * 8,
        (10).to_bytes(8, "little") + b"not json..",
        (2).to_bytes(8, "little") + b"[]",
        (21).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}',
        (63).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[-4,2],"data_offsets":[0,1234567]}}',
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"XYZ","shape":[4,2],"data_offsets":[0,123456]}}'[:60],
        (30).to_bytes(8, "little") + b"[" * 30,
    ],
)
def test_broken_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "model.safetensors").write_bytes(header)
    refused(tmp_path)


def test_an_index_that_points_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "outside" in refused(tmp_path).why


@pytest.mark.parametrize(
    "tensors",
    [{}, {"model.embed_tokens.weight": (0, 4096)}, {"a": (0,), "b": (4, 0)}],
)
def test_files_without_weights_are_no_model_of_zero_bytes(tmp_path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    write_safetensors(tmp_path / "model.safetensors", tensors)
    assert "no weights" in refused(tmp_path).why


def test_layers_that_the_files_lack_are_told(tmp_path: Path) -> None:
    told = read_folder(write_model(tmp_path, LLAMA, llama_tensors(30))).assumptions
    assert told == ("The files hold no weights of 2 of its 32 layers: those are not counted.",)


def test_whatever_stands_in_a_config_is_refused_or_estimated_at_once() -> None:
    """Configs of published families with a few values exchanged for nonsense: no other error, no term below nothing."""
    families = [row["config"] for row in json.loads(RECORD.read_text())["rows"].values()]
    chance = random.Random(4)
    for _ in range(600):
        config = dict(chance.choice(families))
        for name in chance.sample([*config, *ODD_NAMES], 3):
            config[name] = chance.choice(ODD_VALUES)
        began = time.process_time()
        with suppress(UnreadableModel):
            answer = estimate(shape_of("odd", config, ()), ServeOptions(context=4096, tensor=2, pipeline=2), [])
            assert all(0 <= term.low <= term.likely <= term.high for term in answer.gpus[0].terms)
        assert time.process_time() - began < 1
