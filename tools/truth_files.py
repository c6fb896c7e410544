"""What a GGUF file weighs, from a row's parameter count and the mix of types its name promises."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tools.truth_facts import MissingFact, Row

Q4_K, Q5_K, Q6_K, Q8_0 = 4.5, 5.5, 6.5625, 8.5


@dataclass(frozen=True, slots=True)
class Mix:
    """Bits of most tensors, of the head, and of the finer half of ``attn_v`` and ``ffn_down``.

    ``spread`` says which layers have finer ones: the first eighth, or the first and last eighths and every third.
    ``whole`` is used where a model's inner sizes are not known: bits per weight over a typical file.
    """

    most: float
    head: float
    finer: float
    spread: str
    whole: float


MIXES: Mapping[str, Mix] = {
    "Q4_K_M": Mix(Q4_K, Q6_K, Q6_K, "half", 4.87),
    "Q4_K_S": Mix(Q4_K, Q6_K, Q5_K, "eighth", 4.6),
    "Q5_K_M": Mix(Q5_K, Q6_K, Q6_K, "half", 5.7),
    "Q5_K_S": Mix(Q5_K, Q6_K, Q5_K, "eighth", 5.54),
    "Q6_K": Mix(Q6_K, Q6_K, Q6_K, "eighth", 6.57),
    "IQ4_XS": Mix(4.25, Q6_K, Q5_K, "eighth", 4.3),
    "IQ4_NL": Mix(4.5, Q6_K, Q5_K, "eighth", 4.55),
    "Q4_0": Mix(4.5, Q6_K, 4.5, "eighth", 4.53),
    "Q8_0": Mix(Q8_0, Q8_0, Q8_0, "eighth", Q8_0),
    "Q8": Mix(Q8_0, Q8_0, Q8_0, "eighth", Q8_0),
    "BF16": Mix(16, 16, 16, "eighth", 16),
    "F16": Mix(16, 16, 16, "eighth", 16),
    "F32": Mix(32, 32, 32, "eighth", 32),
}


def file_weights(row: Row) -> float:
    """Bytes of weights over all devices; a tied table that runs on a card counts twice. Raises MissingFact."""
    known = re.search(r"([\d,]{8,}) B\)", row.model)
    if known:
        return float(known[1].replace(",", ""))
    params = row.need("hyperparams", "params_b") * 1e9
    name = row.model.split("(")[0]  # what follows in brackets is where a fact was read, not the file's type
    kind = f"{name} {row.part('config').get('file_type', '')}".replace("Q4_K - Medium", "Q4_K_M")
    if "UD-" in kind:
        raise MissingFact("the mix of tensor types")
    table = row.count("hidden") * row.count("vocab")
    if "Q6_K_L" in kind:
        return ((params - table) * Q6_K + table * Q8_0) / 8
    for label, mix in MIXES.items():
        if re.search(rf"\b{label}\b", kind, re.IGNORECASE):
            return _mixed(row, params, table, mix)
    raise MissingFact("the file type")


def _mixed(row: Row, params: float, table: int, mix: Mix) -> float:
    if mix.most == MIXES["Q4_0"].most and mix.finer == mix.most and is_tied(row):
        return ((params - table) * mix.most + 2 * table * Q8_0) / 8
    count, ff = row.count("layers"), row.count("intermediate") or row.count("moe_ff") * row.count("experts")
    if not ff or not table or not count:
        return params * mix.whole / 8
    heads = row.count("kv_heads") * row.count("head_dim")
    finer = finer_layers(count, mix.spread) * row.count("hidden") * (ff + heads)
    return (params * mix.most + finer * (mix.finer - mix.most) + table * (mix.head - mix.most)) / 8


def is_tied(row: Row) -> bool:
    return "gemma" in row.model.lower() or row.part("hyperparams").get("tied_embeddings") is True


def finer_layers(count: int, spread: str) -> int:
    """How many layers have finer tensors: llama-quantize's use_more_bits, or its first eighth."""
    edge = count // 8
    if spread == "eighth":
        return edge
    return sum(index < edge or index >= 7 * count // 8 or (index - edge) % 3 == 2 for index in range(count))
