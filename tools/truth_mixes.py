"""Which type llama-quantize gives each tensor of a file, by the file's label: bytes of a model nobody has at hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cortex.calculator.ggml import BY_NAME

# the type of most tensors, for labels that are no type by themselves
MOST = {
    "Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K", "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K",
    "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S",
    "Q8": "Q8_0", "FP16": "F16",
}  # fmt: skip
NO_LABELS = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q3_K", "Q4_K", "Q5_K"}
LABELS = tuple(sorted({*MOST, *BY_NAME} - NO_LABELS, key=lambda label: -len(label)))
FINE_HEADS = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS"})
SMALL = FINE_HEADS - {"IQ3_XXS"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What of a model the rules look at."""

    layers: int
    queries_per_head: int
    experts: int


def bits(kind: str) -> float:
    """Bits of a weight of a ggml type."""
    return 8 * BY_NAME[kind].size / BY_NAME[kind].block


def most(label: str) -> str:
    return MOST.get(label, label)


def head(label: str) -> str:
    """The type of the head, and of a table that serves as one."""
    if most(label) in ("F32", "F16", "BF16", "Q8_0"):
        return most(label)
    return "Q5_K" if label in FINE_HEADS else "Q6_K"


def table(label: str) -> str:
    """The type of a token table beside a head of its own."""
    if label in ("IQ2_S", "IQ2_M", "IQ3_XXS"):
        return "IQ3_S"
    return "Q2_K" if label in SMALL else most(label)


def mean_bits(label: str, role: str, sizes: Sizes) -> float:
    """Bits per weight of a kind of tensor, over all layers."""
    rule = RULES.get(role)
    if rule is None:
        return bits(most(label))
    return sum(bits(rule(label, index, sizes)) for index in range(sizes.layers)) / sizes.layers


def finer(index: int, layers: int) -> bool:
    """llama-quantize's use_more_bits: the first and the last eighth, and every third between."""
    edge = layers // 8
    return index < edge or index >= 7 * layers // 8 or (index - edge) % 3 == 2


def _value(label: str, index: int, sizes: Sizes) -> str:
    if sizes.experts == 8:
        return "Q8_0" if label not in ("F16", "BF16", "F32") else label
    kind = _value_of_few(label, index, sizes) if sizes.queries_per_head < 4 else _value_of_many(label, index, sizes)
    return "Q5_K" if sizes.layers == 80 and kind in ("Q3_K", "Q4_K") else kind


def _value_of_many(label: str, index: int, sizes: Sizes) -> str:
    """Four or more heads share each head of values: it is small, and worth more bits."""
    if label in SMALL or label in ("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"):
        return "Q4_K"
    if label in ("IQ4_NL", "IQ4_XS"):
        return "Q5_K"
    return _value_of_few(label, index, sizes)


def _value_of_few(label: str, index: int, sizes: Sizes) -> str:
    fixed = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}
    if label in fixed:
        return fixed[label]
    if label == "Q3_K_M":
        return "Q5_K" if index < 2 else "Q4_K"
    if label in ("Q4_K_M", "Q5_K_M") and finer(index, sizes.layers):
        return "Q6_K"
    if label == "Q4_K_S" and index < 4:
        return "Q5_K"
    return "Q2_K" if label in SMALL else most(label)


def _down(label: str, index: int, sizes: Sizes) -> str:
    first = index < sizes.layers // 8
    if label == "Q3_K_M":
        return "Q5_K" if index < sizes.layers // 16 else "Q4_K"
    if label in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if finer(index, sizes.layers) else most(label)
    early = {"Q4_K_S": "Q5_K", "IQ3_M": "Q4_K", "Q2_K_S": "Q4_K", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}
    if first and (label in early or label in SMALL):
        return early.get(label, "Q2_K")
    return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(label, most(label))


def _output(label: str, _: int, sizes: Sizes) -> str:
    if label in ("IQ1_S", "IQ1_M", "IQ2_S", "IQ2_M") and sizes.experts != 8:
        return "IQ2_XXS" if label.startswith("IQ1") else "IQ3_S"
    if sizes.experts == 8 and most(label) in ("Q2_K", "Q3_K", "Q4_K", "IQ3_S", "IQ4_XS", "IQ4_NL"):
        return "Q5_K"
    wider = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
    return wider.get(label, most(label))


def _key(label: str, _: int, sizes: Sizes) -> str:
    if sizes.experts == 8 and label not in ("F16", "BF16", "F32"):
        return "Q8_0"
    return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(label, most(label))


def _query(label: str, _: int, __: Sizes) -> str:
    return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(label, most(label))


def _fused(label: str, _: int, __: Sizes) -> str:
    wider = {"Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}
    return wider.get(label, most(label))


def _up(label: str, index: int, sizes: Sizes) -> str:
    middle = sizes.layers // 8 <= index < 7 * sizes.layers // 8
    return "IQ3_XXS" if label == "IQ3_XS" and middle else most(label)


Rule = Callable[[str, int, Sizes], str]
RULES: Mapping[str, Rule] = {
    "value": _value, "key": _key, "query": _query, "output": _output, "down": _down, "up": _up, "fused": _fused,
}  # fmt: skip
