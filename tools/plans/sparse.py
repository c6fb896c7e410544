"""GGUF files with a true header and no data: the weights are a hole, so a 671B model takes a few megabytes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFValueType, GGUFWriter

from cortex.calculator.ggml import BY_NAME

Key = int | float | bool | str | Sequence[int] | Sequence[float] | Sequence[bool] | Sequence[str]
Layout = Mapping[str, tuple[tuple[int, ...], str]]
KINDS: dict[type, GGUFValueType] = {
    bool: GGUFValueType.BOOL,
    int: GGUFValueType.UINT32,
    float: GGUFValueType.FLOAT32,
    str: GGUFValueType.STRING,
}


def write_sparse(path: Path, architecture: str, keys: Mapping[str, Key], layout: Layout) -> Path:
    """Writes the file; ``layout`` maps a tensor's name to its shape (row length first) and its ggml type."""
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        _add_key(writer, key, value)
    size = 0
    for name, (shape, kind) in layout.items():
        nbytes = math.prod(shape) // BY_NAME[kind].block * BY_NAME[kind].size
        rows = tuple(reversed(shape))
        writer.add_tensor_info(name, rows, np.dtype("float32"), nbytes, GGMLQuantizationType[kind])
        size += _padded(nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(_padded(file.seek(0, 2)) + size)
    return path


def _add_key(writer: GGUFWriter, key: str, value: Key) -> None:
    if isinstance(value, (bool, int, float, str)):
        writer.add_key_value(key, value, KINDS[type(value)])
    else:
        kind = KINDS[type(value[0])]
        writer.add_key_value(key, list(value), GGUFValueType.ARRAY, GGUFValueType.INT32 if kind == KINDS[int] else kind)


def _padded(size: int) -> int:
    return -(-size // GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT
