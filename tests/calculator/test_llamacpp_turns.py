"""Which layers turn their queries and keys by positions."""

import pytest

from cortex.calculator.llamacpp.turns import is_turned
from tests.calculator.shapes import published


def turned(name: str) -> list[bool]:
    shape = published()[f"{name}.gguf"]
    return [is_turned(shape, layer, number) for number, layer in enumerate(shape.layers)]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("llama-3.1-8b", [True] * 4),
        ("smollm3-3b", [True, True, True, False]),
        ("exaone-4.0-32b", [True, True, True, False]),
        ("exaone-4.0-1.2b", [True] * 4),
        ("smallthinker-21b", [False, True, True, True]),
        ("smallthinker-4b", [True] * 4),
        ("baichuan2-7b", [True] * 4),
        ("baichuan2-13b", [False] * 4),
        ("gpt2-xl", [False] * 4),
    ],
)
def test_layers_are_turned_as_their_family_does(name: str, first: list[bool]) -> None:
    assert turned(name)[:4] == first
