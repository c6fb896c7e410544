"""What a GGUF file weighs, from a row's parameter count and the mix of types its name promises."""

import re
from collections.abc import Mapping

from tools.truth_facts import GIB, LAYER_LIMIT, MissingFact, Row
from tools.truth_mixes import LABELS, Sizes, bits, head, mean_bits, table

MXFP4 = 4.25
UNITS = {"gib": GIB, "mib": 1 << 20, "gb": 1e9, "mb": 1e6, "b": 1}
WHOLE = re.compile(r"\(([\d,]+(?:\.\d+)?) ?(GiB|MiB|GB|MB|B)\b")  # a size that brackets begin with is the file's
FUSED = ("phi-3", "phi3", "phi-4", "phi4")


def file_weights(row: Row) -> float:
    """Bytes of all tensors of the file. Raises MissingFact."""
    return whole_file(row) or mixed(row, label_of(row))


def tables(row: Row) -> tuple[float, float]:
    """Bytes of the token table, and of a head that is a copy of it on a card. Raises MissingFact."""
    label, values = label_of(row), row.count("hidden") * row.count("vocab")
    if is_tied(row):
        return (bits(tied_type(row, label)) * values / 8,) * 2
    kept = "Q8_0" if _keeps_tables(label) else table(_body_of(label))
    return bits(kept) * values / 8, 0.0


def mean_width(row: Row) -> float:
    """Bytes per weight of most tensors; 2 where the file's type is not known."""
    try:
        return bits(_plain(_body_of(label_of(row)))) / 8
    except MissingFact:
        return 2.0


def _keeps_tables(label: str) -> bool:
    return _body_of(label) != label and label.endswith("L")


def whole_file(row: Row) -> float | None:
    """The file's size where the row tells it: in bytes, by its bits per weight, or in words."""
    for part in ("config", "hyperparams"):
        for name, unit in (("file_bytes", 1), ("file_gib", GIB), ("file_mib", 1 << 20), ("file_gb", 1e9)):
            value = row.number(part, name)
            if value:
                return value * unit
        if row.number("hyperparams", "params_b") and row.number(part, "bpw"):
            return row.params * row.need(part, "bpw") / 8
    told = [float(number.replace(",", "")) * UNITS[unit.lower()] for number, unit in WHOLE.findall(row.model)]
    return next((size for size in told if size > 1e8), None)


def label_of(row: Row) -> str:
    """The file's type as llama-quantize calls it. Raises MissingFact."""
    name = row.model.split("(")[0]  # what follows in brackets is where a fact was read, not the file's type
    kind = f"{name} {row.part('config').get('file_type', '')} {row.part('config').get('quant', '')}".upper()
    if "UD-" in kind or "-UD" in kind:
        raise MissingFact("the mix of tensor types")
    kind = re.sub(r"_K - (MEDIUM|SMALL|LARGE)", lambda match: f"_K_{match[1][0]}", kind)
    for label in LABELS:
        if re.search(rf"(?<![A-Z0-9_]){label}(?![A-Z0-9_])", kind):
            return label
    wide = re.search(r"\b(Q\d_K)_X?L\b", kind)
    if wide:
        return wide[0]
    raise MissingFact("the file type")


def mixed(row: Row, label: str) -> float:
    """The sum of all tensors, each in the type that llama-quantize would give it."""
    params, body = row.params, _body_of(label)
    wide = _keeps_tables(label)
    values = row.count("hidden") * row.count("vocab")
    if row.count("layers") > LAYER_LIMIT:
        raise MissingFact("a number of layers that can be")
    if not values or not row.count("layers"):
        return params * bits(_plain(body)) / 8
    parts = _parts(row, params)
    sizes = Sizes(row.count("layers"), _queries(row), row.count("experts"))
    widths = {role: mean_bits(body, role, sizes) for role in parts}
    if "gpt-oss" in row.model.lower():
        widths |= dict.fromkeys(("down", "up"), MXFP4)
    total = sum(count * widths[role] for role, count in parts.items())
    last = "Q8_0" if wide else tied_type(row, body) if is_tied(row) else head(body)
    first = "Q8_0" if wide else table(body)
    return (total + values * (bits(last) + (0 if is_tied(row) else bits(first)))) / 8


def _plain(label: str) -> str:
    return table(label) if label not in ("IQ2_S", "IQ2_M", "IQ3_XXS") else "IQ3_XXS"


def _body_of(label: str) -> str:
    """The mix below a head and a table that somebody kept in 8 bits."""
    found = re.fullmatch(r"(Q\d_K)_X?L", label)
    if label == "MXFP4":
        return "Q8_0"  # what is left of a model with experts of four bits
    if label == "Q3_K_L" or not found:
        return label
    return found[1] if found[1] == "Q6_K" else f"{found[1]}_M"


def tied_type(row: Row, label: str) -> str:
    """A table that is the head as well: some early files of Gemma kept it in 8 bits beside weights of 4."""
    early = re.search(r"gemma-?(2b|7b)|gemma:", row.model.lower()) and label.startswith("Q4_0")
    return "Q8_0" if early or label == "MXFP4" else head(_body_of(label))


def _parts(row: Row, params: float) -> Mapping[str, float]:
    """Weights by role. What is not accounted for belongs to the feed-forward layers, or to nobody's rule."""
    layers, hidden = row.count("layers"), row.count("hidden")
    own = hidden * row.count("vocab") * (1 if is_tied(row) else 2)
    full = layers - row.count("linear_layers")
    query, kept = row.count("heads") * row.count("head_dim"), row.count("kv_heads") * row.count("head_dim")
    parts = {"query": hidden * query, "key": hidden * kept, "value": hidden * kept, "output": hidden * query}
    if row.model.lower().startswith(FUSED) and row.engine.startswith(("llama", "ik_llama", "ollama")):
        parts = {"fused": hidden * (query + 2 * kept), "output": hidden * query}
    found = {role: float(full * size) for role, size in parts.items()}
    rest = max(0.0, params - own - sum(found.values()))
    told = 3.0 * layers * hidden * (row.count("moe_ff") * row.count("experts") or row.count("intermediate"))
    fed = min(rest, told) or (rest if not row.count("linear_layers") else 0.8 * rest)
    return found | {"down": fed / 3, "up": 2 * fed / 3, "other": rest - fed}


def _queries(row: Row) -> int:
    return row.count("heads") // max(1, row.count("kv_heads"))


def is_tied(row: Row) -> bool:
    told = row.part("hyperparams").get("tied_embeddings")
    return told is True or (told is None and re.search(r"gemma|command-r|aya|c4ai", row.model.lower()) is not None)
