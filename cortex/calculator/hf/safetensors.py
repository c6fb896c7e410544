"""Safetensors headers and indexes, read from the first bytes of near or far files, with bounded time and memory."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from cortex.calculator.ranges import RangeSource
from cortex.calculator.unreadable import UnreadableModel

# what the largest published models need, several times over: bytes of one header, of all headers, of an index, of a
# config; files; tensors; and lists or objects in any of these texts
HEADER_LIMIT, HEADERS_LIMIT, INDEX_LIMIT, CONFIG_LIMIT = 16 << 20, 48 << 20, 48 << 20, 4 << 20
FILE_LIMIT, TENSOR_LIMIT = 2048, 1 << 19
PER_TENSOR, CONTAINER_LIMIT = 3, 1 << 17
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
}  # fmt: skip

OpenFile = Callable[[str], RangeSource]


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of a safetensors file: its type, its shape and its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


def read_model(open_file: OpenFile) -> tuple[Weight, ...]:
    """All tensors of a model, through its index or its single file. Raises UnreadableModel."""
    weights = _all_weights(open_file)
    if not sum(weight.bytes for weight in weights):
        raise damaged("The model", "its files hold no weights.")
    return weights


def _all_weights(open_file: OpenFile) -> tuple[Weight, ...]:
    try:
        index = open_file(INDEX)
    except UnreadableModel:
        return read_header(open_file(SINGLE))
    weights: dict[str, Weight] = {}
    left = HEADERS_LIMIT
    for name in files_of(read_json(index, INDEX_LIMIT), index.name):
        try:
            file = open_file(name)
            left -= header_length(file)
            if left < 0 or len(weights) > TENSOR_LIMIT:
                raise damaged(file.name, "with it the headers of the model's files are larger than any model's.")
            weights |= {weight.name: weight for weight in read_header(file)}
        except UnreadableModel as error:
            raise UnreadableModel(f"{name} of the model is unusable", error.why, error.remedy) from error
    return tuple(weights.values())


def files_of(index: Mapping[str, object], name: str) -> list[str]:
    """The names of the files an index points to, each once."""
    where = index.get("weight_map")
    if not isinstance(where, dict) or not where or len(where) > TENSOR_LIMIT:
        raise damaged(name, "it has no weight map.")
    files = sorted({str(file) for file in where.values()})
    if len(files) > FILE_LIMIT or any("/" in file or file.startswith(".") for file in files):
        raise damaged(name, "it points outside the model.")
    return files


def read_json(source: RangeSource, limit: int = CONFIG_LIMIT) -> dict[str, object]:
    """A JSON object from a file of at most ``limit`` bytes. Raises UnreadableModel."""
    if source.size > limit:
        raise damaged(source.name, f"it has {source.size:,} bytes.")
    return parse_json(source.read(0, source.size), source.name)


def parse_json(text: bytes, name: str, containers: int = CONTAINER_LIMIT) -> dict[str, object]:
    """A JSON object; one of so many lists and objects that it would fill the memory is refused before it is read."""
    if text.count(b"{") + text.count(b"[") > containers:
        raise damaged(name, f"it holds more than {containers:,} lists.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(name, "it is no JSON.") from error
    if not isinstance(value, dict):
        raise damaged(name, "it is no JSON object.")
    return value


def damaged(name: str, why: str) -> UnreadableModel:
    return UnreadableModel(f"{name} is damaged", why, "Download it again from its publisher.")


def read_header(source: RangeSource) -> tuple[Weight, ...]:
    """The tensors of one file; its data must all be there."""
    length = header_length(source)
    header = parse_json(source.read(8, length), source.name, PER_TENSOR * TENSOR_LIMIT)
    if len(header) > TENSOR_LIMIT:
        raise damaged(source.name, f"it claims {len(header):,} tensors.")
    weights = tuple(_weight(name, entry, source.name) for name, entry in header.items() if name != "__metadata__")
    end = 8 + length + sum(weight.bytes for weight in weights)
    if end > source.size:
        raise cut_off(source, end)
    return weights


def header_length(source: RangeSource) -> int:
    """Bytes of a file's header. Raises UnreadableModel."""
    start = source.read(0, 8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= HEADER_LIMIT:
        raise damaged(source.name, f"its header claims {length:,} bytes.")
    if 8 + length > source.size:
        raise cut_off(source, 8 + length)
    return length


def cut_off(source: RangeSource, end: int) -> UnreadableModel:
    return UnreadableModel(
        f"{source.name} is cut off",
        f"its tensors end at byte {end:,} and the file has {source.size:,}.",
        "Download it again, or wait until the download is over.",
    )


def _weight(name: str, entry: object, file: str) -> Weight:
    if not isinstance(entry, dict):
        raise damaged(file, f"tensor {name!r} is not described.")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS or not _are_sizes(shape) or not _are_sizes(offsets):
        raise damaged(file, f"tensor {name!r} is described as {str(entry)[:100]}.")
    if len(offsets) != 2:
        raise damaged(file, f"tensor {name!r} is described as {str(entry)[:100]}.")
    size = offsets[1] - offsets[0]
    if size < 0 or size != -(-math.prod(shape) * BITS[dtype] // 8):
        raise damaged(file, f"tensor {name!r} of shape {shape} takes {size:,} bytes.")
    return Weight(name, dtype, tuple(shape), size)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) <= 8 and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 1 << 48 for each in value
    )  # fmt: skip
