"""Shapes of published models for tests, made without files."""

from functools import cache

from cortex.calculator.ggml import BY_NAME
from cortex.calculator.gguf.header import GgufHeader, Skipped, Tensor, Value
from cortex.calculator.gguf.shape import shape_of
from cortex.calculator.shape import Shape
from tools.plans.further_models import further_models
from tools.plans.layouts import Model
from tools.plans.record import families, models


def header_of(model: Model) -> GgufHeader:
    """The header the model's file would have, vocabulary counted."""
    tensors = []
    for name, (shape, kind) in model.layout.items():
        values = 1
        for length in shape:
            values *= length
        tensors.append(Tensor(name, shape, kind, values // BY_NAME[kind].block * BY_NAME[kind].size, 0))
    metadata: dict[str, Value] = {"tokenizer.ggml.tokens": Skipped(model.number("vocab_size"))}
    for key, value in model.keys.items():
        plain = isinstance(value, (int, float, bool, str))
        metadata[model.full(key)] = value if plain else tuple(value)  # type: ignore[assignment, arg-type]
    size = sum(tensor.bytes for tensor in tensors)
    return GgufHeader(model.name, 3, model.family, metadata, tuple(tensors), 0, size, 0, 0, 0)


@cache
def published() -> dict[str, Shape]:
    """All recorded models by file name."""
    return {f"{model.name}.gguf": shape_of(header_of(model)) for model in models() + further_models() + families()}
