"""What each layer of a Hugging Face model does with its tokens: listed in its config, or by its family's rule."""

from cortex.calculator.hf.config import Config
from cortex.calculator.hf.families import ALL_WINDOWED, ENCODERS, PERIODS


def kinds_of(config: Config, count: int) -> list[str]:
    """One word per layer: full, window, chunk, state, conv, both; none or experts where tokens are not mixed."""
    if config.stem in ENCODERS or not count:
        return ["full"] * count
    listed = next(filter(None, map(config.flags, LISTS)), ())
    if listed and not isinstance(listed, str) and len(listed) >= count:
        return [_word(each) for each in listed[:count]]
    pattern = config.values.get("hybrid_override_pattern")
    if isinstance(pattern, str) and len(pattern) >= count:
        return [LETTERS.get(letter, "none") for letter in pattern[:count]]
    return _kinds_by_rule(config, count)


LISTS = ("layer_types", "layers_block_type", "attn_type_list")
LETTERS = {"M": "state", "*": "full", "E": "experts"}
STATES = ("linear_attention", "mamba", "mamba2", "recurrent", "0")


def _word(kind: object) -> str:
    text = str(kind)
    if "slid" in text:
        return "window"
    if "chunk" in text:
        return "chunk"
    if text in STATES:
        return "state"
    return {"hybrid": "both", "conv": "conv", "mlp": "none", "moe": "experts"}.get(text, "full")


def _kinds_by_rule(config: Config, count: int) -> list[str]:
    family = config.family
    kda = config.values.get("linear_attn_config")
    if isinstance(kda, dict):
        full = Config(kda).indexes("full_attn_layers")
        return ["full" if index + 1 in full else "state" for index in range(count)]
    if family in ("mamba", "mamba2", "falcon_mamba"):
        return ["state"] * count
    if family == "falcon_h1":
        return ["both"] * count
    attending = config.indexes("attn_layer_indices") or config.indexes("full_attn_idxs")
    if attending:
        return ["full" if index in attending else "state" for index in range(count)]
    period = config.number("attn_layer_period", "full_attention_interval")
    if period:
        offset = config.number("attn_layer_offset", default=period - 1)
        return ["full" if index % period == offset else "state" for index in range(count)]
    return _windows_by_rule(config, count)


def _windows_by_rule(config: Config, count: int) -> list[str]:
    family = config.stem
    if family in PERIODS:
        period = config.number("sliding_window_pattern", "_sliding_window_pattern", default=PERIODS[family])
        word = "chunk" if family == "llama4" else "window"
        return ["full" if period and index % period == period - 1 else word for index in range(count)]
    if config.says("use_sliding_window"):
        first = config.number("max_window_layers", default=count)
        return ["window" if index >= first else "full" for index in range(count)]
    whole = family in ALL_WINDOWED and config.number("sliding_window") > 0
    return ["window" if whole else "full"] * count
