"""What llama.cpp's --override-tensor moves, where that can be told from its patterns alone."""

import re
from collections.abc import Sequence

LAYERS = 200  # more than any model has
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
OTHERS = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_norm", "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_inp")
ALL = 1 << 20


def experts_moved(values: Sequence[str]) -> int | None:
    """How many layers, from the first, leave all their experts to the processor; None when more or less is moved.

    ``values`` are the option's: patterns with their buffer, separated by commas, as in ``exps=CPU``.
    """
    patterns = [pair.rpartition("=") for value in values for pair in value.split(",")]
    if any(buffer != "CPU" for _, _, buffer in patterns):
        return None
    try:
        searches = [re.compile(pattern).search for pattern, _, _ in patterns]
    except re.error:
        return None

    def moves(layer: int, role: str) -> bool:
        return any(search(f"blk.{layer}.{role}.weight") for search in searches)

    if any(moves(layer, role) for layer in range(LAYERS) for role in OTHERS):
        return None
    moved = [[moves(layer, role) for role in EXPERTS] for layer in range(LAYERS)]
    count = next((layer for layer, roles in enumerate(moved) if not all(roles)), LAYERS)
    if any(any(roles) for roles in moved[count:]):
        return None
    return ALL if count == LAYERS else count
