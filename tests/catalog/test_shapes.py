"""Shapes by their source: near files are read anew when they change, far ones in a few bounded ranges."""

import json
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from django.conf import settings

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import far, shapes
from cortex.catalog.definition import Source
from tests.fakes.hub import hub as fake_hub
from tests.weights import CONFIG, LLAMA, put_gguf, put_safetensors, safetensors_header

MIB = 1 << 20


File = bytes | tuple[bytes, int]


class Hub:
    """Repositories in memory; counts what is read."""

    def __init__(self, **files: File) -> None:
        self.files = files
        self.asked: list[tuple[str, int, int]] = []
        self.read = 0

    def __call__(self, address: str, offset: int, length: int) -> far.Piece:
        self.asked.append((address, offset, length))
        name = address.rpartition("/")[2]
        if "/api/models/" in address:
            names = [{"rfilename": each} for each in self.files]
            return self._piece(json.dumps({"siblings": names}).encode(), None, offset, length)
        if name not in self.files:
            raise UnreadableModel(name, "the hub has no such file (HTTP 404).", "Check the repository.")
        found = self.files[name]
        data, size = found if isinstance(found, tuple) else (found, None)
        return self._piece(data, size, offset, length)

    def _piece(self, data: bytes, size: int | None, offset: int, length: int) -> far.Piece:
        piece = data[offset : offset + length]
        self.read += len(piece)
        return far.Piece(piece, size or len(data))


def beginning(path: Path) -> tuple[bytes, int]:
    """The header of a file and more, and the size of all of it."""
    with path.open("rb") as file:
        return file.read(16 * MIB), path.stat().st_size


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_kept", shapes._Far())


def test_a_file_that_changes_is_read_again(models_folder: Path) -> None:
    path = put_gguf(models_folder)
    source = Source(path=path)
    first = shapes.shape_of(source)
    assert shapes.shape_of(source) is first
    (models_folder / path).unlink()
    put_gguf(models_folder, "qwen3-8b")
    (models_folder / "qwen3-8b.gguf").rename(models_folder / path)
    assert shapes.shape_of(source).family == "qwen3"


def test_a_far_gguf_has_the_shape_of_the_near_one(models_folder: Path) -> None:
    path = models_folder / put_gguf(models_folder)
    hub = Hub(**{path.name: beginning(path)})
    near = shapes.shape_of(Source(path=path.name))
    for source in (Source(repository="meta/llama", path=path.name), Source(repository="meta/llama")):
        assert shapes.shape_of(source, fetch=hub) == near
    assert hub.read < 32 * MIB
    assert all("/resolve/main/" in address or "/api/models/" in address for address, _, _ in hub.asked)


def test_far_safetensors_have_the_shape_of_the_near_ones(models_folder: Path) -> None:
    near = shapes.shape_of(Source(path=put_safetensors(models_folder)))
    files: dict[str, File] = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors_header()}
    hub = Hub(**files)
    found = shapes.shape_of(Source(repository="meta/llama"), fetch=hub)
    assert found.layers == near.layers
    assert found.weight_bytes == near.weight_bytes
    before = len(hub.asked)
    shapes.shape_of(Source(repository="meta/llama"), fetch=hub)
    assert len(hub.asked) == before, "what the hub told is kept a while"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.gguf": b"", "b.gguf": b""}, "it holds 2 models. Name one of: a.gguf, b.gguf"),
        ({"README.md": b""}, "neither safetensors nor a GGUF"),
        ({"only.gguf": b"nothing"}, "only.gguf is not a GGUF file"),
        ({"config.json": b"{", "model.safetensors": b""}, "config.json is damaged"),
        ({"config.json": b"{}", "model.safetensors": (b"\xff" * 8, 100)}, "its header claims"),
    ],
)
def test_a_repository_that_cannot_be_read_says_why(files: dict[str, bytes], words: str) -> None:
    with pytest.raises(UnreadableModel, match=words.replace("(", r"\(")):
        shapes.shape_of(Source(repository="some/where"), fetch=Hub(**files))


def test_a_header_without_end_is_not_read_to_its_end() -> None:
    header = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + (1 << 13).to_bytes(8, "little")
    words = b"".join(
        (4).to_bytes(8, "little") + f"{n:04d}".encode() + (8).to_bytes(4, "little") + (1 << 16).to_bytes(8, "little")
        + b"x" * (1 << 16) for n in range(4096)
    )  # fmt: skip
    hub = Hub(**{"big.gguf": (header + words, 1 << 40)})
    with pytest.raises(UnreadableModel, match=r"larger than|absurd"):
        shapes.shape_of(Source(repository="some/where", path="big.gguf"), fetch=hub)
    assert hub.read <= far.MOST + MIB


@pytest.mark.parametrize("name", ["../x", "x/..", "./."])
def test_a_repository_s_name_does_not_climb(name: str) -> None:
    with pytest.raises(UnreadableModel, match="no repository's name"):
        far.FarRepository("http://hub", name, "main", Hub())


class Answers(BaseHTTPRequestHandler):
    """A hub of one file of ten bytes: by ranges, without, gated, broken."""

    def do_GET(self) -> None:
        data, status = b"0123456789", 206
        if "gated" in self.path:
            status, data = 403, b""
        elif "broken" in self.path:
            status, data = 502, b""
        elif "whole" in self.path:
            status = 200
        else:
            start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
            data = data[int(start) : int(end) + 1]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(data) - 1}/10")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def hub_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_ranges_over_http(hub_url: str) -> None:
    fetch = far.over_http("secret")
    assert fetch(f"{hub_url}/x", 2, 3) == far.Piece(b"234", 10)
    assert fetch(f"{hub_url}/whole", 0, 4) == far.Piece(b"0123", 10)
    for path, offset, words in [
        ("whole", 2, "does not answer ranges"), ("gated", 0, "HTTP 403"), ("broken", 0, "HTTP 502")
    ]:  # fmt: skip
        with pytest.raises(UnreadableModel, match=words):
            fetch(f"{hub_url}/{path}", offset, 4)
    with pytest.raises(UnreadableModel, match="the hub does not answer"):
        fetch("http://127.0.0.1:1/x", 0, 1)


INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()


@pytest.mark.parametrize(
    ("files", "path", "refuse", "words"),
    [
        ({}, "", (401, "GatedRepo"), "HTTP 401.*Accept its terms"),
        ({}, "", (403, "GatedRepo"), "HTTP 403.*token that may read it"),
        ({}, "", (404, "RepoNotFound"), "no such file.*Check the repository"),
        ({}, "", (429, ""), "HTTP 429.*Try again"),
        ({}, "", (500, ""), "HTTP 500.*Try again"),
        ({"config.json": json.dumps(CONFIG).encode()}, "", None, "neither safetensors nor a GGUF"),
        (
            {"config.json": json.dumps(CONFIG).encode(), "model.safetensors.index.json": INDEX, "x.safetensors": b""},
            "", None, "model-00001-of-00002.safetensors of the model is unusable.*HTTP 404",
        ),
        ({"tokenizer.gguf": b""}, "", None, "tokenizer.gguf"),
        ({"config.json": b"[" * 100_000, "model.safetensors": b"x"}, "", None, "config.json is damaged"),
        ({}, "big-00001-of-00002.gguf", None, "no such file"),
    ],
)  # fmt: skip
def test_what_a_real_looking_hub_lacks_or_refuses_is_told_within_a_second(
    files: dict[str, bytes], path: str, refuse: tuple[int, str] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub(files) as fake:
        fake.refuse = (refuse[0], {"X-Error-Code": refuse[1]}) if refuse else None
        monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"cortex_hub_url": fake.url}))
        began = time.process_time()
        with pytest.raises(UnreadableModel) as caught:
            shapes.shape_of(Source(repository="owner/model", path=path))
        assert time.process_time() - began < 1
    assert re.search(words, f"{caught.value} {caught.value.remedy}")


def test_a_gguf_whose_second_part_is_absent_from_the_hub_names_it(models_folder: Path) -> None:
    data, _ = beginning(models_folder / put_gguf(models_folder))
    first = "big-00001-of-00002.gguf"
    hub = Hub(**{first: (with_key(data, "split.count", 2), 1 << 40)})
    with pytest.raises(UnreadableModel, match=r"big-00002-of-00002.gguf"):
        shapes.shape_of(Source(repository="a/b", path=first), fetch=hub)


def with_key(header: bytes, name: str, value: int) -> bytes:
    """A GGUF header with one more key in front, a 16-bit number."""
    count = int.from_bytes(header[16:24], "little") + 1
    key = len(name).to_bytes(8, "little") + name.encode() + (2).to_bytes(4, "little") + value.to_bytes(2, "little")
    return header[:16] + count.to_bytes(8, "little") + key + header[24:]


def test_a_gguf_in_a_folder_of_the_repository_opens_its_parts_there(models_folder: Path) -> None:
    path = models_folder / put_gguf(models_folder)
    hub = Hub(**{path.name: beginning(path)})
    shapes.shape_of(Source(repository="meta/llama", path=f"Q4/{LLAMA}.gguf"), fetch=hub)
    assert hub.asked[0][0].endswith(f"/meta/llama/resolve/main/Q4/{LLAMA}.gguf")
