import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from cortex.calculator.gguf.header import GgufHeader, Value
from cortex.calculator.gguf.shape import shape_of
from cortex.calculator.llamacpp.plan import plan
from cortex.calculator.serving import request_bytes
from cortex.calculator.unreadable import UnreadableModel
from engines.habits import LlamaOptions, ServeOptions
from tests.calculator.shapes import header_of, published
from tools.plans.record import families, models

HEADERS = {model.name: header_of(model) for model in models() + families()}
MIB = 1 << 20


def changed(header: GgufHeader, **keys: Value | None) -> GgufHeader:
    """The header with keys of its architecture replaced, or removed where None."""
    metadata = dict(header.metadata)
    for name, value in keys.items():
        key = f"{header.architecture}.{name.replace('__', '.')}"
        metadata.pop(key, None)
        if value is not None:
            metadata[key] = value
    return replace(header, metadata=metadata)


def test_windows_alternate_as_their_family_does() -> None:
    windows = [layer.window for layer in published()["gpt-oss-20b.gguf"].layers]
    assert windows == [128, 0] * 12
    windows = [layer.window for layer in published()["gemma-3-27b.gguf"].layers]
    assert windows[:6] == [1024] * 5 + [0]
    assert windows.count(0) == 10


def test_a_listed_pattern_wins_over_the_family_rule() -> None:
    header = changed(HEADERS["gpt-oss-20b"], attention__sliding_window_pattern=(False,) + (True,) * 23)
    assert [layer.window for layer in shape_of(header).layers] == [0] + [128] * 23


def test_a_window_that_llama_cpp_ignores_is_ignored() -> None:
    header = changed(HEADERS["phi-3-medium-14b"], attention__sliding_window=2047)
    assert not shape_of(header).window


def test_only_the_deep_exaone_has_windows() -> None:
    assert published()["exaone-4.0-32b.gguf"].window == 4096
    assert not published()["exaone-4.0-1.2b.gguf"].window


def test_a_window_of_smallthinker_is_what_llama_cpp_makes_it() -> None:
    header = changed(HEADERS["smallthinker-21b"], attention__sliding_window=1000)
    assert shape_of(header).window == 4096
    assert not published()["smallthinker-4b.gguf"].window


def test_lightning_layers_keep_a_square_for_each_head() -> None:
    layers = published()["minimax-text-01.gguf"].layers
    assert (layers[0].kv_heads, layers[0].conv, layers[0].state) == (0, 0, 64 * 128 * 128)
    assert [index for index, layer in enumerate(layers) if layer.kv_heads] == list(range(7, 80, 8))


def test_an_index_is_cached_where_a_layer_has_one_of_its_own() -> None:
    full = published()["glm-5.gguf"]
    assert [layer.indexer for layer in full.layers] == [128] * 78 + [0]  # the last one only drafts
    shared = shape_of(changed(HEADERS["glm-5"], context_length=1 << 20))
    assert [layer.indexer for layer in shared.layers[:8]] == [128, 128, 128, 0, 0, 0, 128, 0]
    listed = shape_of(changed(HEADERS["glm-5"], attention__indexer__types=(1, 0) * 39))
    assert [layer.indexer for layer in listed.layers[:4]] == [128, 0, 128, 0]
    assert not published()["deepseek-v3.gguf"].layers[0].indexer


def test_blocks_run_at_once_as_a_header_says() -> None:
    assert published()["pythia-12b.gguf"].parallel
    assert not shape_of(changed(HEADERS["pythia-12b"], use_parallel_residual=False)).parallel
    assert published()["stablelm-2-12b.gguf"].parallel
    assert not published()["stablelm-zephyr-3b.gguf"].parallel


def test_a_gate_within_the_first_product_is_seen_by_its_width() -> None:
    assert published()["jina-v2-code.gguf"].packed
    assert not published()["jina-v2-base.gguf"].packed


def test_shares_are_normed_where_a_header_says_so() -> None:
    assert published()["dots.llm1.gguf"].normed_shares
    assert not shape_of(changed(HEADERS["dots.llm1"], expert_weights_norm=False)).normed_shares


def test_a_pooled_model_may_still_load_its_table_twice() -> None:
    assert published()["embeddinggemma-300m.gguf"].tied
    assert not published()["modernbert-base.gguf"].tied


def test_compressed_heads_are_cached_once() -> None:
    layer = published()["deepseek-v3.gguf"].layers[10]
    assert (layer.kv_heads, layer.key, layer.value) == (1, 576, 0)


def test_files_from_before_compression_cache_whole_heads() -> None:
    header = changed(
        HEADERS["deepseek-v3"],
        attention__key_length_mla=None,
        attention__value_length_mla=None,
        attention__head_count_kv=128,
        attention__key_length=192,
        attention__value_length=128,
    )
    assert shape_of(header).layers[0].cached_width == 128 * 320


def test_states_of_hybrids_are_what_their_engines_log() -> None:
    shape = published()["qwen3.5-27b.gguf"]
    states = sum(4 * (layer.conv + layer.state) for layer in shape.layers)
    assert states / MIB == 149.625
    assert sum(layer.kv_heads > 0 for layer in shape.layers) == 16


def test_layers_that_share_a_cache_have_none() -> None:
    owners = [not layer.shared_kv for layer in published()["gemma-3n-e4b.gguf"].layers]
    assert owners == [True] * 20 + [False] * 15


def test_draft_layers_idle_unless_asked() -> None:
    shape = published()["glm-4.5-air.gguf"]
    assert [layer.draft for layer in shape.layers].count(True) == 1
    idle, drafting = (
        plan(shape, LlamaOptions(context=4096, drafting=each), 1).devices[0].model for each in (False, True)
    )
    assert drafting - idle == shape.layers[-1].weights.total


def test_an_unknown_family_says_what_is_assumed() -> None:
    header = HEADERS["llama-3.1-8b"]
    metadata: Mapping[str, Value] = {
        key.replace("llama.", "novelty.", 1): value for key, value in header.metadata.items()
    }
    shape = shape_of(replace(header, architecture="novelty", metadata=metadata))
    assert "not a known family" in shape.assumptions[0]
    assert shape.layers[0].cached_width == 2048


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "deepseek-v3", "gemma-3n-e4b", "qwen3.5-27b", "nemotron-h-8b", "bge-m3"]
)
@pytest.mark.parametrize("value", [None, 0, -5, 1, 1 << 31, 1 << 62, 1e300, "text", True, (), (1,), (-1,) * 99])
def test_nonsense_in_a_key_is_an_error_or_a_shape_at_once(name: str, value: Value | None) -> None:
    header = HEADERS[name]
    for key in header.metadata:
        if not key.startswith(header.architecture):
            continue
        start = time.process_time()
        try:
            shape = shape_of(changed(header, **{key.split(".", 1)[1].replace(".", "__"): value}))
        except UnreadableModel:
            continue
        planned = plan(shape, LlamaOptions(context=1024), 1)
        assert planned.host.total + planned.devices[0].total > 0
        assert request_bytes(shape, ServeOptions(), 1024) >= 0
        assert time.process_time() - start < 1
