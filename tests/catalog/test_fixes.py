"""Fixes: other files, other engines, other settings. Whatever is offered makes it fit once applied."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex import placement
from cortex.calculator.shape import Layer, LayerWeights, Shape
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import changes, siblings
from cortex.catalog.changes import applied, merged
from cortex.catalog.definition import Definition, Source, parse
from cortex.catalog.far import Piece
from cortex.catalog.forecast import Forecast, forecast
from cortex.catalog.siblings import kin
from cortex.ui import panel
from tests.calculator.shapes import published
from tests.weights import put_gguf, put_safetensors

GIB = 1 << 30
LLAMA = replace(published()["llama-3.1-8b.gguf"], parameters=8_030_000_000)


def at(bits: float, quantization: str = "") -> Shape:
    """The same model with so many bits in every weight."""
    whole = bits / 8 * LLAMA.parameters / LLAMA.weight_bytes

    def scaled(layer: Layer) -> Layer:
        weights = layer.weights
        parts = (weights.split, weights.kv, weights.copied, weights.experts, weights.largest)
        return replace(layer, weights=LayerWeights(*(int(part * whole) for part in parts)))

    return replace(
        LLAMA,
        layers=tuple(map(scaled, LLAMA.layers)),
        quantization=quantization,
        embedding=int(LLAMA.embedding * whole),
        input_bytes=int(LLAMA.input_bytes * whole),
        output_bytes=int(LLAMA.output_bytes * whole),
    )


SHELF = {
    "llama-F16.gguf": at(16),
    "llama-Q8_0.gguf": at(8.5),
    "llama-Q4_K_M.gguf": at(4.8),
    "llama-Q2_K.gguf": at(3.0),
    "llama": at(16, "BF16"),
    "llama-AWQ": at(4.6, "awq"),
}


def read(definition: Definition) -> Shape:
    if definition.source.path not in SHELF:
        raise UnreadableModel(definition.source.path, "it is not there.", "Fetch it.")
    return SHELF[definition.source.path]


def others(source: Source) -> Iterator[Source]:
    return (Source(path=path) for path in [*SHELF, "llama-gone.gguf"])


def wish(path: str, engine: str = "llamacpp", **more: Any) -> Definition:
    return parse({"name": "one", "engine": engine, "source": {"path": path}, "context": 8192, "users": 1, **more})


def atlas(*free: float, memory: float = 64) -> placement.Host:
    cards = [placement.Card(f"GPU-{n}", "L40S", int(each * GIB), int(each * GIB)) for n, each in enumerate(free)]
    return placement.Host("atlas", cards=cards, memory=int(memory * GIB))


def told(definition: Definition, host: placement.Host) -> Forecast:
    return forecast(definition, host, read=read, others=others)


def test_smaller_files_of_the_same_model_are_offered_best_first() -> None:
    found = told(wish("llama-F16.gguf", gpus=1), atlas(11))
    titles = [fix.title for fix in found.fixes if fix.title.startswith("Take its")]
    assert titles == ["Take its Q8_0 (8.5 bits a weight)", "Take its Q4_K_M (4.8 bits a weight)",
                      "Take its Q2_K (3.0 bits a weight)"]  # fmt: skip
    [fix] = [fix for fix in found.fixes if "Q8_0" in fix.title]
    assert fix.patch == {"source": {"path": "llama-Q8_0.gguf"}}


def test_larger_files_are_no_fix() -> None:
    found = told(wish("llama-Q4_K_M.gguf", gpus=1), atlas(5))
    assert not any("Q8_0" in fix.title or "F16" in fix.title for fix in found.fixes)


def test_vllm_makes_8_bits_of_16_or_takes_other_files_or_leaves_them_to_llama_cpp() -> None:
    found = told(wish("llama", "vllm", gpus=1), atlas(13))
    by_title = {fix.title: fix.patch for fix in found.fixes}
    assert by_title["Make 8 bits of its weights at the start"] == {"options": {"quantization": "fp8_per_tensor"}}
    assert by_title["Take its AWQ (4.6 bits a weight)"] == {"source": {"path": "llama-AWQ"}}
    other = by_title["Run its Q8_0 (8.5 bits a weight) under llama.cpp"]
    assert other == {"engine": "llamacpp", "source": {"path": "llama-Q8_0.gguf"}, "image": None}


def test_another_engine_forgets_the_options_of_the_first() -> None:
    options = {"gpu_memory_utilization": 0.95, "enforce_eager": True}
    definition = wish("llama", "vllm", gpus=1, options=options, image="made/vllm:1")
    [fix] = [fix for fix in told(definition, atlas(11)).fixes if "Q8_0" in fix.title]
    after = applied(definition, fix.patch)
    assert (after.engine, after.options, after.image) == ("llamacpp", {}, "")


def test_layers_stay_on_the_host_where_another_engine_has_no_room_for_all() -> None:
    found = told(wish("llama", "vllm", gpus=1), atlas(4))
    parts = [fix for fix in found.fixes if "layers on the GPU" in fix.title]
    assert parts
    assert all(0 < fix.patch["options"]["n_gpu_layers"] < 33 for fix in parts)


def test_the_processor_is_the_last_resort_and_needs_memory() -> None:
    titles = [fix.title for fix in told(wish("llama-F16.gguf"), atlas(2)).fixes]
    assert titles[-1] == "Run it on the processor"
    assert told(wish("llama-F16.gguf"), atlas(2, memory=3)).fixes == ()


def test_two_changes_are_offered_where_no_single_one_will_do() -> None:
    definition = wish("llama", "vllm", gpus=1, options={"gpu_memory_utilization": 0.5})
    found = forecast(definition, atlas(17), read=read, others=lambda _: iter(()))
    assert found.fixes
    assert all("; " in fix.title and fix.patch["options"]["quantization"] for fix in found.fixes)
    assert forecast(applied(definition, found.fixes[0].patch), atlas(17), read=read).verdict != "does_not_fit"


@settings(max_examples=40, deadline=None)
@given(
    path=st.sampled_from(sorted(SHELF)),
    context=st.sampled_from([2048, 32768, 131072]),
    users=st.sampled_from([1, 4]),
    gpus=st.sampled_from([None, 1, 2]),
    free=st.lists(st.sampled_from([3.0, 6.0, 10.0, 16.0, 24.0]), max_size=3),
    memory=st.sampled_from([4, 24, 128]),
)
def test_whatever_is_offered_makes_it_fit_once_applied(
    path: str, context: int, users: int, gpus: int | None, free: list[float], memory: int
) -> None:
    engine = "llamacpp" if path.endswith("gguf") else "vllm"
    definition, host = wish(path, engine, context=context, users=users, gpus=gpus), atlas(*free, memory=memory)
    for fix in told(definition, host).fixes:
        after = parse(merged(definition.model_dump(exclude_none=True), json.loads(json.dumps(fix.patch))))
        assert told(after, host).verdict in ("fits", "tight"), fix


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Llama-3.1-8B-Instruct-Q4_K_M.gguf", "Llama-3.1-8B-Instruct"),
        ("Llama-3.1-8B-Instruct-IQ3_XXS-00001-of-00002.gguf", "Llama-3.1-8B-Instruct-GGUF"),
        ("Qwen3-32B-FP8", "Qwen3-32B-AWQ"),
        ("Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-7b-instruct-f16.gguf"),
        ("gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b"),
    ],
)
def test_names_tell_who_is_kin(name: str, same: str) -> None:
    assert kin(name) == kin(same)
    assert kin(name) != kin("Qwen3-8B-FP8")


def test_the_hub_is_asked_for_files_of_the_repository_or_repositories_of_the_owner() -> None:
    asked: list[str] = []

    def fetch(address: str, offset: int, length: int) -> Piece:
        asked.append(address)
        if "search=" in address:
            names = ["org/Big-7B", "org/Big-7B-AWQ", "org/Big-7B-FP8", "org/Big-7B-Coder", "org/../etc", 7]
            body = json.dumps([{"id": name} for name in names] + ["odd"])
        else:
            files = [
                "Big-7B-Q4_K_M.gguf",
                "Big-7B-Q8_0-00001-of-00002.gguf",
                "Big-7B-Q8_0-00002-of-00002.gguf",
                "mmproj-F16.gguf",
            ]
            body = json.dumps({"siblings": [{"rfilename": name} for name in files]})
        return Piece(body.encode(), len(body))

    ggufs = siblings.on_hub(Source(repository="org/Big-7B-GGUF", path="Big-7B-Q6_K.gguf"), fetch)
    assert [source.path for source in ggufs] == ["Big-7B-Q4_K_M.gguf", "Big-7B-Q8_0-00001-of-00002.gguf"]
    found = siblings.on_hub(Source(repository="org/Big-7B"), fetch)
    assert [source.repository for source in found] == ["org/Big-7B", "org/Big-7B-AWQ", "org/Big-7B-FP8"]
    assert len(asked) == 2


def test_a_silent_hub_has_nothing_and_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(source: Source, fetch: object = None) -> list[Source]:
        asked.append(source)
        raise UnreadableModel("hub", "it is silent.", "Wait.")

    monkeypatch.setattr(siblings, "on_hub", fail)
    source = Source(repository="org/Nobody-1B")
    assert (list(siblings.of(source)), list(siblings.of(source)), len(asked)) == ([], [], 1)


@pytest.mark.parametrize(("path", "engine"), [("llama-Q4_K_M.gguf", "llamacpp"), ("llama", "vllm")])
def test_on_the_processor_the_longest_context_fits_and_one_step_more_does_not(path: str, engine: str) -> None:
    definition, host = wish(path, engine, gpus=0, context=2048), atlas(memory=24)
    found = told(definition, host)
    longest = found.longest_context
    assert longest
    assert found.most_users
    assert longest > 2048
    assert told(wish(path, engine, gpus=0, context=longest), host).verdict in ("fits", "tight")
    if longest < LLAMA.context:
        assert told(wish(path, engine, gpus=0, context=longest + 256), host).verdict == "does_not_fit"
    assert found.most_users == told(wish(path, engine, gpus=0, context=2048, users=found.most_users), host).most_users


def test_on_the_processor_vllm_wants_a_cache_that_holds_one_request() -> None:
    definition, host = wish("llama", "vllm", gpus=0, context=65536), atlas(memory=48)
    found = told(definition, host)
    assert (found.verdict, "One request of 65,536 tokens takes 8.0 GiB" in found.reason) == ("does_not_fit", True)
    [fix] = [fix for fix in found.fixes if fix.title == "Keep 8 GiB of cache"]
    assert fix.patch == {"options": {"kv_cache_memory_bytes": 8 * GIB}}
    assert told(applied(definition, fix.patch), host).verdict in ("fits", "tight")


def test_cards_that_are_wanted_and_not_there_are_not_the_processor() -> None:
    found = told(wish("llama-Q4_K_M.gguf", gpus=2), atlas(memory=64))
    assert (found.verdict, found.longest_context, found.most_users) == ("does_not_fit", None, None)


def test_files_in_the_models_folder_are_found_by_name_and_known_by_their_headers(models_folder: Path) -> None:
    folder, gguf = put_safetensors(models_folder, "llama-3.1-8b"), put_gguf(models_folder)
    write_sparse_copy(models_folder, "qwen3-8b", "llama-3.1-8b-Q2_K.gguf")  # named alike, and another model
    found = forecast(wish(folder, "vllm", gpus=1), atlas(11))
    patches = [fix.patch for fix in found.fixes if "under llama.cpp" in fix.title]
    assert {"engine": "llamacpp", "source": {"path": gguf}, "image": None} in patches
    assert all(patch["source"]["path"] == gguf for patch in patches)


def write_sparse_copy(folder: Path, model: str, name: str) -> None:
    (folder / put_gguf(folder, model)).rename(folder / name)


@pytest.mark.django_db
def test_a_fix_that_changes_the_engine_fills_every_field_of_the_form() -> None:
    definition = wish("llama", "vllm", gpus=1, options={"enforce_eager": True}, image="made/vllm:1")
    drawn = panel.drawn(definition, told(definition, atlas(4)), {})
    [fills, *_] = [json.loads(each.fills) for each in drawn.buttons if "layers on the GPU" in each.title]
    assert fills["engine"] == "llamacpp"
    assert fills["source.kind"] == "folder"
    assert fills["source.path"].endswith(".gguf")
    assert (fills["image"], fills["options.enforce_eager"]) == ("", "")
    assert int(fills["options.n_gpu_layers"]) > 0


def test_siblings_that_take_long_to_read_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    definition, host = wish("llama-F16.gguf", gpus=1), atlas(11)
    monkeypatch.setattr(changes, "PATIENCE", -1.0)
    assert not any("bits a weight" in fix.title for fix in told(definition, host).fixes)
