"""What people get wrong in a definition, and the words that every door must tell them."""

import os
from pathlib import Path
from typing import Any

TABLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "a missing path": (
        {"source": {"path": "nobody.gguf"}},
        "/source/path",
        "nobody.gguf: no such file",
    ),
    "not a GGUF": ({"source": {"path": "text.gguf"}}, "/source/path", "not a GGUF"),
    "a GGUF cut off": ({"source": {"path": "cut.gguf"}}, "/source/path", "cut"),
    "a path outside": ({"source": {"path": "../etc/passwd"}}, "/source/path", "without '..'"),
    "an absolute path": ({"source": {"path": "/etc/passwd"}}, "/source/path", "relative to the models folder"),
    "a link outside": ({"source": {"path": "link.gguf"}}, "/source/path", "outside the models folder"),
    "links in a circle": ({"source": {"path": "circle.gguf"}}, "/source/path", "lead in a circle"),
    "a name no file can have": ({"source": {"path": "a" * 300 + ".gguf"}}, "/source/path", "a file can have"),
    "a pipe": ({"source": {"path": "pipe.gguf"}}, "/source/path", "it is no file"),
    "an index that points outside": ({"engine": "vllm", "source": {"path": "outside"}}, "/source/path", "outside"),
    "an index without end": ({"engine": "vllm", "source": {"path": "deep"}}, "/source/path", "no JSON"),
    "an index of numbers": ({"engine": "vllm", "source": {"path": "numbers"}}, "/source/path", "not there"),
    "an unknown engine": ({"engine": "nine"}, "/engine", "There is no engine named 'nine'"),
    "an unknown option": ({"options": {"warp": 9}}, "/options/warp", "'warp' is not known here"),
    "an option out of bounds": ({"options": {"n_gpu_layers": "many"}}, "/options/n_gpu_layers", "integer"),
    "an unknown field": ({"gpu": 1}, "/gpu", "'gpu' is not known here"),
    "a bad name": ({"name": "Tiny!"}, "/name", "lower-case"),
    "no source": ({"source": {}}, "/source", "give a repository or a path"),
}


def damage(folder: Path) -> None:
    """Put what the table names beside a whole `tiny.gguf`."""
    whole = (folder / "tiny.gguf").read_bytes()
    (folder / "text.gguf").write_text("Once upon a time, this was no model at all.")
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "link.gguf").symlink_to("/etc/hostname")
    (folder / "circle.gguf").symlink_to(folder / "circle.gguf")
    os.mkfifo(folder / "pipe.gguf")
    indexes = {"outside": '{"weight_map": {"a": "../../etc/passwd"}}', "deep": "[" * 100_000,
               "numbers": '{"weight_map": {"a": 5}}'}  # fmt: skip
    for name, index in indexes.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
        (folder / name / "model.safetensors.index.json").write_text(index)
