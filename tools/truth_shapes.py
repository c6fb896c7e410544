"""From what a row says of a model to its shape, or the fact that is missing."""

import re

from cortex.calculator.shape import Layer, Mla, Recurrence, Shape
from cortex.calculator.weights import plain_weights
from tools.truth_builds import COMPRESSED_FROM, built
from tools.truth_facts import ABSURD, LAYER_LIMIT, MissingFact, Row, number_of

FAMILIES = ("gpt-oss", "gemma", "command-r", "qwen3", "deepseek")
EXPERT_LIMIT = 4096


def shape_of(row: Row, width: float = 2.0) -> Shape:
    """The shape the row's hyperparameters describe, its weights ``width`` bytes each. Raises MissingFact."""
    count = int(row.need("hyperparams", "layers", "kv_layers"))
    if not 0 < count <= LAYER_LIMIT or row.count("experts_used") > row.count("experts") <= EXPERT_LIMIT:
        raise MissingFact("a number of layers and experts that can be")
    mla = mla_of(row)
    hidden, vocab = row.count("hidden"), row.count("vocab")
    table = int(hidden * vocab * width)
    return Shape(
        name=row.model,
        family=_family(row),
        layers=tuple(_layer(row, kind, index, mla, width) for index, kind in enumerate(kinds_of(row, count))),
        hidden=hidden,
        vocab=vocab,
        context=int(row.number("config", "n_ctx", "max_model_len") or 0),
        embedding=table,
        input_bytes=table,
        output_bytes=table,
        mla=mla,
        recurrence=_recurrence(row),
        roles=_roles(row),
    )


def _family(row: Row) -> str:
    name = row.model.lower()
    if linear_layers(row):
        return "qwen35"
    return next((family for family in FAMILIES if family in name), "llama")


def _roles(row: Row) -> frozenset[str]:
    roles = {"ffn_gate", "attn_q", "ffn_norm"}
    if linear_layers(row):
        roles |= {"attn_gate", "ssm_alpha", "attn_q_norm", "ssm_norm"}
    if "qwen3" in row.model.lower():
        roles.add("attn_q_norm")
    return frozenset(roles)


def linear_layers(row: Row) -> int:
    """Layers with a state instead of a cache."""
    told = row.number("hyperparams", "linear_layers")
    if told is not None or not row.count("ssm_d_inner"):
        return int(told or 0)
    full, every = row.count("full_layers"), row.count("full_attention_interval")
    count = row.count("layers")
    if full or every > 1:
        return count - (full or count // every)
    return 0 if row.count("kv_heads") else count


def windowed_layers(row: Row, count: int) -> int:
    """Layers that see a window only, counted or by a pattern: "5:1", 6."""
    told = row.count("swa_layers")
    if told or not row.count("swa_window"):
        return min(told, count)
    if row.count("full_layers") and not linear_layers(row):
        return max(0, count - row.count("full_layers"))
    ratio = re.match(r"\D*(\d+) ?: ?(\d+)", str(row.raw("hyperparams", "swa_pattern") or ""))
    period = int(ratio[1]) + int(ratio[2]) if ratio else int(row.number("hyperparams", "swa_pattern") or 0)
    if not period:
        raise MissingFact("hyperparams.swa_layers")
    return count - (int(ratio[2]) if ratio else 1) * (count // period)


def kinds_of(row: Row, count: int) -> list[str]:
    """One word per layer, spread evenly: full, window, linear, or none of these."""
    linear = min(linear_layers(row), count)
    windowed = windowed_layers(row, count) if not linear else 0
    told = row.count("full_layers")
    full = min(told, count - linear) if told and linear else count - linear - windowed
    rare, common = ("full", "linear" if linear else "window")
    idle = count - full - linear - windowed
    busy = _spread(count - idle, full, rare, common)
    return [*busy, *["none"] * idle]


def _spread(count: int, full: int, rare: str, common: str) -> list[str]:
    """The last of each period sees everything; what does not divide is at the end."""
    if not full:
        return [common] * count
    period = count // full
    return [rare if index % period == period - 1 and index // period < full else common for index in range(count)]


def mla_of(row: Row) -> Mla | None:
    rank, rope = row.count("kv_lora_rank"), row.count("qk_rope_head_dim")
    if not rank or not rope or whole_heads(row):
        return None
    return Mla(rank, rope, row.count("qk_nope_head_dim", 128), row.count("v_head_dim", 128))


def whole_heads(row: Row) -> bool:
    """Whether compressed heads are cached unpacked, as early builds of llama.cpp did."""
    told = row.says("config", "mla")
    if told is not None or "non-mla" in row.model.lower():
        return told is not True
    return row.engine.startswith(("llama", "ollama")) and built(row) < COMPRESSED_FROM


def _recurrence(row: Row) -> Recurrence | None:
    if not row.count("ssm_d_inner"):
        return None
    groups, heads = row.count("ssm_n_group"), row.count("ssm_dt_rank")
    by_attention = bool(re.search(r"qwen3|kimi|gdn|kda|linear", f"{row.model} {dict(row.part('hyperparams'))}".lower()))
    return Recurrence(row.count("ssm_d_inner"), row.count("ssm_d_state"), groups, heads, row.count("ssm_d_conv", 4),
                      by_attention)  # fmt: skip


def _layer(row: Row, kind: str, index: int, mla: Mla | None, width: float) -> Layer:
    fed = feed_forward(row)
    if kind == "none":
        return Layer(ff=fed)
    if kind == "linear":
        return _recurrent(row, fed)
    kv_heads, key, value = _heads(row, kind == "window", index, mla)
    layer = Layer(
        heads=row.count("heads") or max(kv_heads, row.count("hidden") // max(key, 1)),
        kv_heads=kv_heads,
        key=key,
        value=value,
        window=row.count("swa_window") if kind == "window" else 0,
        indexer=row.count("indexer_head_dim") if index < row.count("indexer_layers") else 0,
        ff=fed,
        experts=row.count("experts"),
        experts_used=row.count("experts_used"),
        expert_ff=row.count("moe_ff", fed if row.count("experts") else 0),
    )
    weights = plain_weights(row.count("hidden"), layer, width)
    return Layer(**{name: getattr(layer, name) for name in Layer.__slots__} | {"weights": weights})


def _recurrent(row: Row, fed: int) -> Layer:
    facts = _recurrence(row)
    if facts is None:
        raise MissingFact("hyperparams.ssm_d_inner")
    conv = (facts.kernel - 1) * (facts.inner + 2 * facts.groups * facts.state)
    return Layer(conv=conv, state=facts.inner * facts.state, ff=fed)


def feed_forward(row: Row) -> int:
    """The width of feed-forward layers: told, or what the parameters leave for it."""
    told, hidden, layers = row.count("intermediate"), row.count("hidden"), row.count("layers")
    if told or not hidden or not layers or row.count("experts"):
        return told or 3 * hidden
    params = row.params if row.number("hyperparams", "params_b") else 0.0
    queries, kept = row.count("heads") * row.count("head_dim"), row.count("kv_heads") * row.count("head_dim")
    attention = 2 * hidden * (queries + kept) if queries and not linear_layers(row) else 4 * hidden * hidden
    rest = params / layers - attention - 2 * hidden * row.count("vocab") / layers
    return max(int(rest / (3 * hidden)), 0) or 3 * hidden


def _heads(row: Row, windowed: bool, index: int, mla: Mla | None) -> tuple[int, int, int]:
    """Heads of keys and values, and the sizes of both."""
    if mla is not None:
        return 1, mla.rank + mla.rope, 0
    if row.count("kv_lora_rank") and whole_heads(row):
        whole = row.count("qk_nope_head_dim") + row.count("qk_rope_head_dim")
        return row.count("heads"), whole, row.count("v_head_dim")
    side = "swa" if windowed else "full"
    width = row.count(f"{side}_kv_dim")
    if width:
        return 1, width, width
    key, value = _at(row, "key_width", index), _at(row, "value_width", index)
    if key is not None and value is not None:
        return 1, key, value
    return _plain_heads(row, side, index)


def _at(row: Row, name: str, index: int) -> int | None:
    """A size of this layer, where a list has one for each, or of all of them."""
    told = row.raw("hyperparams", name)
    if isinstance(told, list):
        told = told[index] if index < len(told) else None
    found = number_of(told)
    return int(found) if found is not None and 0 <= found < ABSURD else None


def _plain_heads(row: Row, side: str, index: int) -> tuple[int, int, int]:
    of_side = row.number("hyperparams", f"{side}_kv_heads", f"kv_heads_{side}")
    kv_heads = _at(row, "kv_heads", index) if of_side is None else int(of_side)
    if kv_heads is None:
        raise MissingFact("hyperparams.kv_heads")
    told = row.number("hyperparams", f"{side}_head_dim", f"head_dim_{side}", "head_dim")
    key, value = row.number("hyperparams", "key_dim"), row.number("hyperparams", "value_dim")
    if told is None and (key is None or value is None):
        raise MissingFact("hyperparams.head_dim")
    return kv_heads, int(key or told or 0), int(value or told or 0)
