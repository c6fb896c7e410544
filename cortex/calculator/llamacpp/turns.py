"""Which layers turn their queries and keys by positions."""

from collections.abc import Mapping

from cortex.calculator.shape import Layer, Shape

UNTURNED = frozenset(
    {"bert", "bloom", "gpt2", "jamba", "jina-bert-v2", "kimi-linear", "mpt", "nemotron_h", "nemotron_h_moe",
     "starcoder"}
)  # fmt: skip
# only layers with windows, if there are any
WINDOWED_ONLY = frozenset({"afmoe", "cohere2", "cohere2moe", "exaone-moe", "exaone4", "llama4", "smallthinker"})
SKIPPED: Mapping[str, int] = {"smollm3": 4}  # one layer of so many goes without, the last of each period
DEPTHS: Mapping[str, int] = {"baichuan": 32}  # only models of so many layers do: others slope their scores


def is_turned(shape: Shape, layer: Layer, number: int) -> bool:
    """Whether layer ``number`` has rotary positions."""
    family = shape.family
    if family in WINDOWED_ONLY:
        return layer.window > 0 or not shape.window
    if family in SKIPPED:
        return (number + 1) % SKIPPED[family] != 0
    return family not in UNTURNED and DEPTHS.get(family, len(shape.layers)) == len(shape.layers)
