"""GGUF headers, read from the first bytes of a near or far file, with bounded time and memory."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cortex.calculator.ggml import TYPES
from cortex.calculator.ranges import Cursor, LocalFile, RangeSource
from cortex.calculator.unreadable import UnreadableModel

MAGIC = b"GGUF"
HEADER_LIMIT = 96 << 20  # the largest published headers (262,144 tokens, merges) are about 20 MiB
KEY_LIMIT, TENSOR_LIMIT = 1 << 14, 1 << 16
ITEM_LIMIT = 1 << 21  # array items over a whole header: four times the largest vocabulary with its merges
KEPT_ITEMS = 2048  # arrays up to this length are facts per layer; longer ones are vocabularies
NAME_LIMIT, TEXT_LIMIT = 1 << 12, 1 << 22
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
WIDTHS = {"B": 1, "b": 1, "?": 1, "H": 2, "h": 2, "I": 4, "i": 4, "f": 4, "Q": 8, "q": 8, "d": 8}
TEXT, ARRAY = 8, 9
PART = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array too long to keep, or of texts: only its length is known."""

    count: int


Scalar = int | float | bool | str
Value = Scalar | tuple[int | float | bool, ...] | Skipped


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: ``shape`` as ggml orders it (row length first), ``offset`` from the start of its part's data."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int
    offset: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the header of a GGUF file, or of all parts of a set, says. Sizes are bytes."""

    name: str
    version: int
    architecture: str
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    expected_size: int
    split_count: int
    split_no: int
    bytes_read: int

    @property
    def weight_bytes(self) -> int:
        """The sum of all tensors, without padding."""
        return sum(tensor.bytes for tensor in self.tensors)


def read_header(path: Path) -> GgufHeader:
    """The header of one local GGUF file. Raises UnreadableModel."""
    return read_source(LocalFile(path))


def read_set(path: Path) -> GgufHeader:
    """The header of a local GGUF file and of all other parts of its set, whichever part is named.

    Raises UnreadableModel, also when a part is missing.
    """
    return read_parts(path.name, lambda name: LocalFile(path.with_name(name)))


def read_parts(name: str, open_part: Callable[[str], RangeSource]) -> GgufHeader:
    """As read_set, for files anywhere: ``open_part`` opens a file beside ``name``. Sizes are sums over the set."""
    found = _read_set(name, open_part)
    if not found.weight_bytes:
        raise damaged(name, "it holds no weights.")
    return found


def _read_set(name: str, open_part: Callable[[str], RangeSource]) -> GgufHeader:
    first = read_source(open_part(part_name(name, 0)))
    if first.split_count <= 1:
        return first
    if not PART.match(name):
        raise damaged(name, f"it is part {first.split_no + 1} of {first.split_count}, but its name does not say so.")
    parts = [first]
    for number in range(1, first.split_count):
        parts.append(_read_part(name, number, first.split_count, open_part))
    return _join(name, parts)


def part_name(name: str, number: int) -> str:
    """The name of part ``number`` (from zero) of the set ``name`` belongs to; ``name`` itself when it is no set."""
    match = PART.match(name)
    return f"{match['stem']}-{number + 1:05d}-of-{match['count']}.gguf" if match else name


def read_source(source: RangeSource) -> GgufHeader:
    """The header of one GGUF file. Raises UnreadableModel."""
    cursor = Cursor(source, HEADER_LIMIT)
    version, tensor_count, key_count = _opening(cursor)
    metadata = _metadata(cursor, key_count)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise damaged(source.name, f"its alignment is {alignment}, which is no power of two.")
    tensors = tuple(_tensor(cursor, alignment) for _ in range(tensor_count))
    data_offset = -(-cursor.position // alignment) * alignment
    expected = _end_of_data(source, tensors, data_offset)
    if expected > source.size:
        raise UnreadableModel(
            f"{source.name} is cut off",
            f"its tensors end at byte {expected:,} and the file has {source.size:,}.",
            "Download it again, or wait until the download is over.",
        )
    return GgufHeader(
        name=source.name,
        version=version,
        architecture=_architecture(source.name, metadata),
        metadata=metadata,
        tensors=tensors,
        data_offset=data_offset,
        expected_size=expected,
        split_count=_small(metadata, "split.count", source.name),
        split_no=_small(metadata, "split.no", source.name),
        bytes_read=cursor.bytes_read,
    )


def damaged(name: str, why: str) -> UnreadableModel:
    return UnreadableModel(f"{name} is damaged", why, "Download it again from its publisher.")


def _opening(cursor: Cursor) -> tuple[int, int, int]:
    name, size = cursor.source.name, cursor.source.size
    if size < 4 or cursor.take(4) != MAGIC:
        why = "the file is empty." if size == 0 else "it does not begin with the letters GGUF."
        raise UnreadableModel(f"{name} is not a GGUF file", why, "Choose a .gguf file, or an engine for its format.")
    version = int(cursor.unpack("I"))
    if version not in (2, 3):
        raise UnreadableModel(
            f"{name} cannot be read",
            f"it is of GGUF version {version}, and versions 2 and 3 are known.",
            "Convert the model again with a present llama.cpp.",
        )
    tensor_count, key_count = int(cursor.unpack("Q")), int(cursor.unpack("Q"))
    if tensor_count > TENSOR_LIMIT or key_count > KEY_LIMIT:
        raise damaged(name, f"its header claims {tensor_count:,} tensors and {key_count:,} keys.")
    return version, tensor_count, key_count


def _metadata(cursor: Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    items = ITEM_LIMIT
    for _ in range(count):
        key = _text(cursor, NAME_LIMIT)
        if key in metadata:
            raise damaged(cursor.source.name, f"its key {key!r} appears twice.")
        kind = int(cursor.unpack("I"))
        if kind == ARRAY:
            metadata[key], used = _array(cursor, items)
            items -= used
        else:
            metadata[key] = _scalar(cursor, kind)
    return metadata


def _scalar(cursor: Cursor, kind: int) -> Scalar:
    if kind == TEXT:
        return _text(cursor, TEXT_LIMIT)
    if kind not in CODES:
        raise damaged(cursor.source.name, f"a value has the unknown type {kind}.")
    return cursor.unpack(CODES[kind])


def _array(cursor: Cursor, left: int) -> tuple[Value, int]:
    kind, count = int(cursor.unpack("I")), int(cursor.unpack("Q"))
    if count > left:
        raise damaged(cursor.source.name, f"an array claims {count:,} items.")
    if kind == TEXT:
        cursor.skip_texts(count)
        return Skipped(count), count
    if kind not in CODES:
        raise damaged(cursor.source.name, f"an array has items of the type {kind}.")
    if count > KEPT_ITEMS:
        cursor.skip(count * WIDTHS[CODES[kind]])
        return Skipped(count), count
    return tuple(cursor.unpack(CODES[kind]) for _ in range(count)), count


def _text(cursor: Cursor, limit: int) -> str:
    length = int(cursor.unpack("Q"))
    if length > limit:
        raise damaged(cursor.source.name, f"a text claims {length:,} bytes.")
    return cursor.take(length).decode("utf-8", errors="replace")


def _tensor(cursor: Cursor, alignment: int) -> Tensor:
    name = _text(cursor, NAME_LIMIT)
    dimensions = int(cursor.unpack("I"))
    if not 1 <= dimensions <= 4:
        raise damaged(cursor.source.name, f"tensor {name!r} has {dimensions} dimensions.")
    shape = tuple(int(cursor.unpack("Q")) for _ in range(dimensions))
    kind, offset = int(cursor.unpack("I")), int(cursor.unpack("Q"))
    if kind not in TYPES:
        raise UnreadableModel(
            f"{cursor.source.name} cannot be read",
            f"tensor {name!r} is of type {kind}, which this version does not know.",
            "Update Cortex, or take another quantization.",
        )
    tensor_type = TYPES[kind]
    if min(shape) < 1 or math.prod(shape) >= 1 << 48 or shape[0] % tensor_type.block or offset % alignment:
        raise damaged(cursor.source.name, f"tensor {name!r} has the shape {shape} at {offset:,}.")
    return Tensor(name, shape, tensor_type.name, math.prod(shape) // tensor_type.block * tensor_type.size, offset)


def _end_of_data(source: RangeSource, tensors: tuple[Tensor, ...], data_offset: int) -> int:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise damaged(source.name, "two of its tensors have the same name.")
    end = 0
    for tensor in sorted(tensors, key=lambda each: each.offset):
        if tensor.offset < end:
            raise damaged(source.name, f"tensor {tensor.name!r} lies inside another.")
        end = tensor.offset + tensor.bytes
    return data_offset + end


def _architecture(name: str, metadata: Mapping[str, Value]) -> str:
    architecture = metadata.get("general.architecture", "")
    if isinstance(architecture, str) and (architecture or metadata.get("split.no", 0)):
        return architecture
    raise damaged(name, "its header does not name an architecture.")


def _small(metadata: Mapping[str, Value], key: str, name: str) -> int:
    value = metadata.get(key, 0)
    if isinstance(value, int) and 0 <= value <= 10_000:
        return value
    raise damaged(name, f"its {key} is {value}.")


def _read_part(name: str, number: int, count: int, open_part: Callable[[str], RangeSource]) -> GgufHeader:
    try:
        part = read_source(open_part(part_name(name, number)))
    except UnreadableModel as error:
        raise UnreadableModel(
            f"{name} is incomplete", f"part {number + 1} of {count}: {error.what}, {error.why}", error.remedy
        ) from error
    if (part.split_no, part.split_count) != (number, count):
        raise damaged(part.name, f"it calls itself part {part.split_no + 1} of {part.split_count}.")
    return part


def _join(name: str, parts: list[GgufHeader]) -> GgufHeader:
    first = parts[0]
    tensors = tuple(
        Tensor(each.name, each.shape, each.type, each.bytes, each.offset, number)
        for number, part in enumerate(parts)
        for each in part.tensors
    )
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise damaged(name, "two of its parts hold the same tensor.")
    return GgufHeader(
        name=name,
        version=first.version,
        architecture=first.architecture,
        metadata=first.metadata,
        tensors=tensors,
        data_offset=first.data_offset,
        expected_size=sum(part.expected_size for part in parts),
        split_count=first.split_count,
        split_no=0,
        bytes_read=sum(part.bytes_read for part in parts),
    )
