import random
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGUFReader

from cortex.calculator.ggml import TYPES
from cortex.calculator.gguf.header import GgufHeader, Skipped, read_header, read_parts, read_set, read_source
from cortex.calculator.ranges import RemoteFile
from cortex.calculator.unreadable import UnreadableModel
from tools.plans.sparse import Key, Layout, write_sparse

KEYS: dict[str, Key] = {
    "tiny.block_count": 2,
    "tiny.attention.head_count_kv": [2, 0],
    "tiny.rope.freq_base": 10000.0,
    "tiny.flag": True,
    "tokenizer.ggml.tokens": [f"word{number}" for number in range(5000)],
    "tokenizer.ggml.token_type": [1] * 5000,
}
LAYOUT: Layout = {
    "token_embd.weight": ((512, 5000), "Q6_K"),
    "output_norm.weight": ((512,), "F32"),
    "blk.0.ffn_up_exps.weight": ((512, 256, 3), "MXFP4"),
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_sparse(tmp_path / "tiny.gguf", "tiny", KEYS, LAYOUT)


def refused(path: Path) -> UnreadableModel:
    with pytest.raises(UnreadableModel) as caught:
        read_set(path)
    assert caught.value.what
    assert caught.value.why
    assert caught.value.remedy
    return caught.value


def write_part(folder: Path, number: int, count: int, claims: int | None = None) -> Path:
    keys: dict[str, Key] = {"split.no": number if claims is None else claims, "split.count": count}
    path = folder / f"model-{number + 1:05d}-of-{count:05d}.gguf"
    return write_sparse(path, "tiny", keys, {f"blk.{number}.w": ((256, 10), "F16")})


def test_a_header_says_what_the_reference_reader_says(tiny: Path) -> None:
    header, oracle = read_header(tiny), GGUFReader(tiny)

    assert header.data_offset == oracle.data_offset
    assert header.architecture == "tiny"
    expected = [
        (each.name, tuple(int(n) for n in each.shape), each.tensor_type.name, each.n_bytes) for each in oracle.tensors
    ]
    assert [(each.name, each.shape, each.type, each.bytes) for each in header.tensors] == expected
    assert header.weight_bytes == sum(each.n_bytes for each in oracle.tensors)
    assert header.expected_size == tiny.stat().st_size


def test_every_type_weighs_what_the_reference_package_says() -> None:
    from_oracle = pytest.importorskip("gguf.constants").GGML_QUANT_SIZES
    for kind, weight in from_oracle.items():
        if kind.name != "Q8_1":  # lives in registers only; ggml has since halved its two scales
            assert TYPES[int(kind)][1:] == weight, kind.name


def test_vocabularies_are_counted_and_not_kept(tiny: Path) -> None:
    metadata = read_header(tiny).metadata
    assert metadata["tokenizer.ggml.tokens"] == Skipped(5000)
    assert metadata["tokenizer.ggml.token_type"] == Skipped(5000)
    assert metadata["tiny.attention.head_count_kv"] == (2, 0)
    assert metadata["tiny.flag"] is True


def test_a_remote_file_is_read_in_ranges_of_its_beginning(tiny: Path) -> None:
    asked: list[tuple[int, int]] = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        with tiny.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    far = read_source(RemoteFile("tiny.gguf", tiny.stat().st_size, fetch))
    assert far == read_header(tiny)
    assert sum(length for _, length in asked) == far.bytes_read < 4 << 20


def test_a_vocabulary_of_half_a_million_is_passed_in_under_a_second(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(262_144)]
    path = write_sparse(tmp_path / "big.gguf", "tiny", {"tokenizer.ggml.tokens": words, "merges": words}, LAYOUT)
    start = time.process_time()
    assert read_header(path).metadata["merges"] == Skipped(262_144)
    assert time.process_time() - start < 1


def test_all_parts_of_a_set_are_found_from_any_part(tmp_path: Path) -> None:
    paths = [write_part(tmp_path, number, 3) for number in range(3)]
    sets = [read_set(path) for path in paths]
    assert [each.weight_bytes for each in sets] == [3 * 5120] * 3
    assert sets[1].expected_size == sum(path.stat().st_size for path in paths)
    assert [tensor.part for tensor in sets[2].tensors] == [0, 1, 2]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = [write_part(tmp_path, number, 3) for number in range(3)]
    paths[1].unlink()
    assert "part 2 of 3" in refused(paths[2]).why


def test_parts_that_contradict_their_names_are_refused(tmp_path: Path) -> None:
    first = write_part(tmp_path, 0, 2)
    write_part(tmp_path, 1, 2, claims=0)
    assert "calls itself part 1" in refused(first).why


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    alone = write_part(tmp_path, 0, 2).rename(tmp_path / "renamed.gguf")
    assert "its name does not say so" in refused(alone).why


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04" * 100, b"\x00" * 4096])
def test_what_is_no_gguf_file_is_called_that(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    assert "is not a GGUF file" in refused(path).what


def test_an_absent_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nowhere.gguf").what


def test_a_header_cut_anywhere_is_refused(tiny: Path) -> None:
    whole = tiny.read_bytes()
    end = read_header(tiny).data_offset
    for cut in range(5, end, 997):
        tiny.write_bytes(whole[:cut])
        assert "is cut off" in refused(tiny).what


def test_data_cut_by_one_byte_is_refused(tiny: Path) -> None:
    with tiny.open("r+b") as file:
        file.truncate(tiny.stat().st_size - 1)
    assert "is cut off" in refused(tiny).what


def opening(tensors: int, keys: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest + b"\x00" * 4096


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("x")
MAX = 2**64 - 1
ABSURD = {
    "tensors": opening(MAX, 1),
    "keys": opening(1, MAX),
    "key length": opening(0, 1, struct.pack("<Q", MAX)),
    "text length": opening(0, 1, text("a") + struct.pack("<IQ", 8, MAX)),
    "array length": opening(0, 1, text("a") + struct.pack("<IIQ", 9, 4, MAX)),
    "array in array": opening(0, 1, text("a") + struct.pack("<IIQ", 9, 9, 1)),
    "value type": opening(0, 1, text("a") + struct.pack("<I", 99)),
    "two equal keys": opening(0, 2, ARCHITECTURE * 2),
    "no architecture": opening(0, 0),
    "text in an array": opening(0, 1, text("a") + struct.pack("<IIQQ", 9, 8, 2, MAX)),
    "dimensions": opening(1, 1, ARCHITECTURE + text("t") + struct.pack("<I", 2**32 - 1)),
    "negative length": opening(1, 1, ARCHITECTURE + tensor("t", (MAX - 4,), 0, 0)),
    "zero length": opening(1, 1, ARCHITECTURE + tensor("t", (0,), 0, 0)),
    "broken row": opening(1, 1, ARCHITECTURE + tensor("t", (100,), 12, 0)),
    "offset": opening(1, 1, ARCHITECTURE + tensor("t", (4,), 0, MAX - 31)),
    "unaligned": opening(1, 1, ARCHITECTURE + tensor("t", (4,), 0, 3)),
    "unknown type": opening(1, 1, ARCHITECTURE + tensor("t", (4,), 77, 0)),
    "overlap": opening(2, 1, ARCHITECTURE + tensor("a", (64,), 0, 0) + tensor("b", (64,), 0, 32)),
    "equal names": opening(2, 1, ARCHITECTURE + tensor("a", (8,), 0, 0) + tensor("a", (8,), 0, 32)),
    "version": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "alignment": opening(0, 2, ARCHITECTURE + text("general.alignment") + struct.pack("<II", 4, 33)),
    "split": opening(0, 2, ARCHITECTURE + text("split.count") + struct.pack("<Ii", 5, -3)),
}


@pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD.keys())
def test_absurd_headers_are_refused_at_once_and_cheaply(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "absurd.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    start = time.process_time()
    refused(path)
    assert time.process_time() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_an_endless_vocabulary_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "endless.gguf"
    path.write_bytes(opening(0, 1, text("a") + struct.pack("<IIQ", 9, 8, 1 << 21)))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    start = time.process_time()
    refused(path)
    assert time.process_time() - start < 1


def test_noise_in_a_header_never_escapes_as_another_error(tiny: Path) -> None:
    whole, dice = bytearray(tiny.read_bytes()), random.Random(7)
    end = read_header(tiny).data_offset
    for _ in range(300):
        copy = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            copy[dice.randrange(end)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
        tiny.write_bytes(copy)
        try:
            header = read_set(tiny)
        except UnreadableModel:
            continue
        assert isinstance(header, GgufHeader)


def test_a_source_that_answers_too_little_is_an_error() -> None:
    with pytest.raises(UnreadableModel, match="fewer bytes"):
        read_parts("far.gguf", lambda name: RemoteFile(name, 1 << 30, lambda _offset, _length: b"GGU"))


def test_a_version_from_before_2023_09_says_so(tmp_path: Path) -> None:
    path = tmp_path / "old.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<III", 1, 0, 0) + b"\x00" * 64)
    assert "version 1" in refused(path).why
