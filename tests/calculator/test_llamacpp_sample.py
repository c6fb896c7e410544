"""Which layers stand for all."""

from itertools import groupby

import pytest

from cortex.calculator.llamacpp.places import Placement, place
from cortex.calculator.llamacpp.plan import plan
from cortex.calculator.llamacpp.sample import Sample, sample
from cortex.calculator.shape import Shape
from engines.habits import LlamaOptions
from tests.calculator.shapes import published


def chosen(name: str, options: LlamaOptions, devices: int) -> list[int]:
    shape = published()[f"{name}.gguf"]
    return sample(shape, options, place(shape, options, devices)).layers


def test_a_run_of_like_layers_is_cut_to_a_few() -> None:
    assert len(chosen("llama-3.3-70b", LlamaOptions(), 1)) == 4


def test_what_is_left_out_of_a_hybrid_is_whole_periods() -> None:
    left = [index for index in range(64) if index not in chosen("qwen3.5-27b", LlamaOptions(gpu_layers=27), 1)]
    runs = [[index for _, index in run] for _, run in groupby(enumerate(left), key=lambda pair: pair[1] - pair[0])]
    assert runs
    assert all(len(run) % 4 == 0 for run in runs)


def test_layers_far_from_their_own_inputs_all_count() -> None:
    options = LlamaOptions(split=(1, 1))
    shape = published()["gemma-4-e4b.gguf"]
    places = place(shape, options, 2)
    far = [index for index, where in enumerate(places.layers) if where == 1]
    assert set(far) <= set(sample(shape, options, places).layers)
    near = [index for index, where in enumerate(places.layers) if where == 0]
    assert not set(near) <= set(sample(shape, options, places).layers)


def test_layers_that_take_features_of_an_image_are_a_kind_of_their_own() -> None:
    layers = chosen("qwen3-vl-8b", LlamaOptions(), 1)
    assert layers[:2] == [0, 1]
    assert len([index for index in layers if index >= 3]) >= 3


def test_alike_gpus_between_others_are_planned_once() -> None:
    shape = published()["llama-3.3-70b.gguf"]
    options = LlamaOptions(context=8192)
    found = sample(shape, options, place(shape, options, 8))
    assert found.twins
    planned = plan(shape, options, 8).devices
    assert all(planned[twin].compute == planned[like].compute > 0 for twin, like in found.twins.items())
    assert not {0, 7} & found.twins.keys()


def whole(shape: Shape, options: LlamaOptions, placement: Placement) -> Sample:
    return Sample([index for index, layer in enumerate(shape.layers) if not layer.draft], {})


@pytest.mark.parametrize("name", ["smollm3-3b", "qwen3-next-80b", "gemma-4-e4b", "falcon-h1-7b", "nemotron-super-49b"])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_a_sample_needs_what_the_whole_graph_needs(name: str, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = published()[f"{name}.gguf"]
    settings = [
        LlamaOptions(context=32768, slots=4),
        LlamaOptions(context=65536, ubatch=256, key_type="q8_0", pipelined=False),
        LlamaOptions(context=65536, key_type="q8_0", cache_on_gpu=False, outputs=4, pipelined=False,
                     lends_weights=True, mixed_inputs=True),
    ]  # fmt: skip
    sampled = [plan(shape, options, devices) for options in settings]
    monkeypatch.setattr("cortex.calculator.llamacpp.plan.sample", whole)
    assert sampled == [plan(shape, options, devices) for options in settings]
