"""Headers of large models over real HTTP: what crosses the wire, for files that exist only as their beginnings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cortex.calculator.gguf.header import part_name, read_parts, read_set
from cortex.calculator.gguf.shape import shape_of
from cortex.catalog import far
from tests.calculator.shapes import published
from tools.plans.layouts import Model
from tools.plans.record import models
from tools.plans.sparse import Key, write_sparse

MIB = 1 << 20
MOST = 32 * MIB
MERGES = 280_147  # as many as Llama 3 has
PARTS = 9
REPOSITORY = "some/where"


@dataclass
class Wire:
    """A hub on this machine and the bytes of files it sent."""

    url: str = ""
    sent: int = 0


class Ranges(SimpleHTTPRequestHandler):
    """Sends ranges of the files in a folder."""

    def __init__(self, wire: Wire, folder: Path, *args: object) -> None:
        self.wire, self.folder = wire, folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.folder / self.path.rpartition("/")[2]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert asked
        start, size = int(asked[1]), path.stat().st_size
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(min(int(asked[2]) + 1, size) - start)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wire.sent += len(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, wire, tmp_path))
    wire.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield wire
    server.shutdown()
    server.server_close()
    server.server_close()


def keys_of(model: Model) -> dict[str, Key]:
    """The header with a vocabulary as heavy as the largest there are."""
    return {**model.header(), "tokenizer.ggml.merges": [f"piece{n} piece{n + 1}" for n in range(MERGES)]}


def write_parts(folder: Path, model: Model) -> str:
    """The model in PARTS files, as gguf-split writes them: all keys in the first."""
    name = f"{model.name}-00001-of-{PARTS:05}.gguf"
    tensors = list(model.layout.items())
    share = -(-len(tensors) // PARTS)
    for number in range(PARTS):
        split: dict[str, Key] = {"split.no": number, "split.count": PARTS, "split.tensors.count": len(tensors)}
        keys = split | (keys_of(model) if number == 0 else {})
        layout = dict(tensors[number * share : (number + 1) * share])
        write_sparse(folder / part_name(name, number), model.family, keys, layout)
    return name


def the(name: str) -> Model:
    return next(model for model in models() if model.name == name)


def test_the_shape_of_a_70b_takes_less_than_32_mib_of_its_40_gb(tmp_path: Path, wire: Wire) -> None:
    model = the("llama-3.3-70b")
    path = write_sparse(tmp_path / f"{model.name}.gguf", model.family, keys_of(model), model.layout)
    there = far.FarRepository(wire.url, REPOSITORY, "main", far.over_http(None))
    header = read_parts(path.name, there.open)
    assert path.stat().st_size > 40e9
    assert header == read_set(path)
    assert shape_of(header).layers == published()[path.name].layers
    assert 8 * MIB < wire.sent < MOST


def test_the_shape_of_a_671b_in_nine_parts_takes_less_than_32_mib_of_its_378_gb(tmp_path: Path, wire: Wire) -> None:
    name = write_parts(tmp_path, the("deepseek-v3"))
    there = far.FarRepository(wire.url, REPOSITORY, "main", far.over_http(None))
    header = read_parts(name, there.open)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 378e9
    assert shape_of(header).layers == published()["deepseek-v3.gguf"].layers
    assert 8 * MIB < wire.sent < MOST
