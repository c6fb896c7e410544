"""Folders that are no models, or want to fill the memory: refused at once, in words."""

import json
import os
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from cortex.calculator.hf.safetensors import CONFIG_LIMIT, HEADER_LIMIT
from cortex.calculator.hf.shape import read_folder
from cortex.calculator.unreadable import UnreadableModel
from tests.calculator.test_hf_shape import LLAMA, llama_tensors, write_model

MIB = 1 << 20
WHOLE = {"a": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}


def header(text: object) -> bytes:
    written = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(written).to_bytes(8, "little") + written + b"\0" * 16


def refused(folder: Path, files: Mapping[str, object]) -> UnreadableModel:
    for name, content in ({"config.json": LLAMA, "model.safetensors": header(WHOLE)} | dict(files)).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(UnreadableModel) as caught:
            read_folder(folder)
        assert time.process_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert caught.value.remedy
    return caught.value


def test_a_config_larger_than_any_is_not_read(tmp_path: Path) -> None:
    assert "bytes" in refused(tmp_path, {"config.json": b" " * (CONFIG_LIMIT + 1)}).why


@pytest.mark.parametrize("piece", [b"[],", b'{"a":1},'])
def test_a_config_of_lists_upon_lists_is_not_read(tmp_path: Path, piece: bytes) -> None:
    text = b'{"a":[' + piece * (3 * MIB // len(piece)) + b"1]}"
    assert "lists" in refused(tmp_path, {"config.json": text}).why


def test_a_header_of_lists_upon_lists_is_not_read(tmp_path: Path) -> None:
    text = b'{"a":[' + b"[]," * (HEADER_LIMIT // 4) + b"1]}"
    assert "lists" in refused(tmp_path, {"model.safetensors": header(text)}).why


@pytest.mark.parametrize("dtype", [["BF16"], {"a": 1}, None, 5, "BF17"])
def test_a_type_that_is_none_is_told(tmp_path: Path, dtype: object) -> None:
    tensor = {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 16]}}
    assert "described" in refused(tmp_path, {"model.safetensors": header(tensor)}).why


@pytest.mark.parametrize("change", [{"num_key_value_heads": 10**9}, {"head_dim": 10**9}, {"num_attention_heads": 1e9}])
def test_heads_beyond_any_models_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    assert "heads" in refused(tmp_path, {"config.json": {**LLAMA, **change}}).why


def test_layers_with_numbers_beyond_any_belong_to_no_layer(tmp_path: Path) -> None:
    far = {f"model.layers.{'9' * 5000}.up.weight": (8, 8)}
    shape = read_folder(write_model(tmp_path, LLAMA, llama_tensors() | far))
    assert len(shape.trunk) == 32


def test_headers_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    """Each alone would do; four of these are read at most."""
    names = [f"part-{number}.safetensors" for number in range(8)]
    text = b'{"__metadata__":{"x":"' + b"y" * (HEADER_LIMIT - 64) + b'"}}'
    index = {"weight_map": {name: name for name in names}}
    found = refused(tmp_path, {"model.safetensors.index.json": index} | dict.fromkeys(names, header(text)))
    assert "larger than any" in found.why


@pytest.mark.parametrize("family", [[0] * 500_000, {"a": 1}, 5, "x" * 1_000_000])
def test_a_family_that_is_no_name_is_unknown(tmp_path: Path, family: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "model_type": family}))
    (tmp_path / "model.safetensors").write_bytes(header(WHOLE))
    began = time.process_time()
    assert "is not known" in read_folder(tmp_path).assumptions[0]
    assert time.process_time() - began < 1


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UnreadableModel, match="it is no file"):
        read_folder(tmp_path)


def test_links_in_a_circle_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(UnreadableModel, match="symbolic links"):
        read_folder(tmp_path)
