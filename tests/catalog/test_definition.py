"""The words of a definition: what is taken, and what is refused with where, why and what to do."""

from typing import Any

import pytest

from cortex.catalog.definition import Refusal, parse

GOOD: dict[str, Any] = {"name": "tiny", "engine": "llamacpp", "source": {"path": "a.gguf"}}


def test_a_good_definition_keeps_its_options_as_given() -> None:
    given = parse(GOOD | {"options": {"n_gpu_layers": 0}})
    assert given.options == {"n_gpu_layers": 0}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "Not A Name"}, "/name"),
        ({"name": "a" * 64}, "/name"),
        ({"name": "a,b"}, "/name"),
        ({"engine": "nope"}, "/engine"),
        ({"source": {}}, "/source"),
        ({"source": {"path": "../etc/passwd"}}, "/source/path"),
        ({"source": {"path": "/etc/passwd"}}, "/source/path"),
        ({"source": {"repository": "no-owner"}}, "/source/repository"),
        ({"options": {"unheard_of": 1}}, "/options/unheard_of"),
        ({"options": {"n_gpu_layers": -5}}, "/options/n_gpu_layers"),
        ({"context": 0}, "/context"),
        ({"replicas": -1}, "/replicas"),
        ({"image": "; rm -rf /"}, "/image"),
        ({"desired": "perhaps"}, "/desired"),
        ({"spelled_wrong": 1}, "/spelled_wrong"),
        ({"placement": {"cards": ["0"]}}, "/placement/cards"),
        ({"placement": {"cards": "GPU-1"}}, "/placement/cards"),
        ({"placement": {"hosts": ["a b"]}}, "/placement/hosts"),
        ({"placement": {"labels": {"Zone": "a"}}}, "/placement/labels"),
        ({"placement": {"labels": {"zone": "a b"}}}, "/placement/labels"),
        ({"placement": {"labels": {"zone": 1}}}, "/placement/labels/zone"),
        ({"placement": {"spread": "perhaps"}}, "/placement/spread"),
        ({"placement": {"card": []}}, "/placement/card"),
        ({"placement": {"cards": ["GPU-1"]}, "gpus": 2}, "/placement/cards"),
        ({"placement": {"cards": ["GPU-1"]}, "gpus": 0}, "/placement/cards"),
    ],
)
def test_what_is_wrong_is_pointed_at(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse(GOOD | change)
    assert pointer in [problem.pointer for problem in caught.value.problems]
    assert all(problem.detail for problem in caught.value.problems)


def test_a_card_named_twice_is_one_card() -> None:
    assert parse(GOOD | {"placement": {"cards": ["GPU-1", "GPU-2", "GPU-1"]}}).placement.cards == ["GPU-1", "GPU-2"]
