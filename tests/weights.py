"""Published models as files: true headers, no data."""

import json
from pathlib import Path

from tools.plans.record import models
from tools.plans.sparse import write_sparse

LLAMA = "llama-3.1-8b"
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


def put_gguf(folder: Path, name: str = LLAMA) -> str:
    """The path to write in a definition."""
    model = next(each for each in models() if each.name == name)
    write_sparse(folder / f"{name}.gguf", model.family, model.header(), model.layout)
    return f"{name}.gguf"


def put_safetensors(folder: Path, name: str = "llama-hf") -> str:
    """Llama 3.1 8B in bfloat16, its single file a hole behind the header."""
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(CONFIG))
    header, size = safetensors_header()
    with (folder / name / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(size)
    return name


def safetensors_header() -> tuple[bytes, int]:
    """The first bytes of its file, and the size of all of it."""
    shapes = {
        "model.embed_tokens.weight": (128256, 4096),
        "model.norm.weight": (4096,),
        "lm_head.weight": (128256, 4096),
    }
    for number in range(32):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.{norm}.weight": (4096,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (4096, 4096) for part in "qo"}
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (1024, 4096) for part in "kv"}
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (14336, 4096) for part in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (4096, 14336)}
    entries, end = {}, 0
    for tensor, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entries[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + end
