"""Model files: what is there, whether it is whole, and what to say when it is not."""

import json
from pathlib import Path

import pytest

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import files
from cortex.catalog.definition import Refusal, parse
from tools import made_model

SMALL = made_model.Shape(layers=1, vocab=1024, feed_forward=64)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made_model.write(tmp_path_factory.mktemp("made"), SMALL).read_bytes()


def test_a_gguf_is_found_with_its_size(models_folder: Path, gguf: bytes) -> None:
    (models_folder / "a").mkdir()
    (models_folder / "a" / "b.gguf").write_bytes(gguf)
    found = files.locate("a/b.gguf")
    assert (str(found.path), found.format) == ("a/b.gguf", "gguf")
    assert 0 < found.size < len(gguf)


def test_a_folder_with_one_gguf_stands_for_it(models_folder: Path, gguf: bytes) -> None:
    (models_folder / "a").mkdir()
    (models_folder / "a" / "b.gguf").write_bytes(gguf)
    assert str(files.locate("a").path) == "a/b.gguf"


def test_a_folder_of_safetensors_counts_its_weights(models_folder: Path) -> None:
    made_model.write_safetensors(models_folder / "s", SMALL)
    found = files.locate("s")
    assert (str(found.path), found.format) == ("s", "safetensors")
    assert found.size == (models_folder / "s" / "model.safetensors").stat().st_size


def test_a_link_that_leaves_the_folder_is_refused(models_folder: Path, tmp_path: Path, gguf: bytes) -> None:
    (tmp_path / "secret.gguf").write_bytes(gguf)
    (models_folder / "link.gguf").symlink_to(tmp_path / "secret.gguf")
    with pytest.raises(UnreadableModel, match="outside the models folder"):
        files.locate("link.gguf")


def test_a_link_inside_the_folder_is_followed(models_folder: Path, gguf: bytes) -> None:
    (models_folder / "blob").write_bytes(gguf)
    (models_folder / "link.gguf").symlink_to("blob")
    assert str(files.locate("link.gguf").path) == "link.gguf"


def test_a_cut_off_gguf_is_named(models_folder: Path, gguf: bytes) -> None:
    (models_folder / "cut.gguf").write_bytes(gguf[:-1000])
    with pytest.raises(UnreadableModel) as caught:
        files.locate("cut.gguf")
    assert "cut.gguf" in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no such file"),
        (lambda folder: (folder / "x").mkdir(), "neither a config.json nor a GGUF"),
        (lambda folder: (folder / "x").write_text("hello"), "neither a GGUF nor a folder"),
    ],
)
def test_what_is_no_model_is_said_so(models_folder: Path, make: object, words: str) -> None:
    make(models_folder)  # type: ignore[operator]
    with pytest.raises(UnreadableModel, match=words):
        files.locate("x")


def test_two_models_in_one_folder_must_be_told_apart(models_folder: Path, gguf: bytes) -> None:
    for name in ("a.gguf", "b.gguf"):
        (models_folder / name).write_bytes(gguf)
    with pytest.raises(UnreadableModel, match=r"Name one of: a\.gguf, b\.gguf"):
        files.locate(".")


def test_a_missing_part_of_an_index_is_named(models_folder: Path) -> None:
    folder = made_model.write_safetensors(models_folder / "s", SMALL)
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnreadableModel, match="model-00002-of-00002"):
        files.locate("s")


def test_an_engine_that_cannot_load_the_format_is_refused(models_folder: Path, gguf: bytes) -> None:
    (models_folder / "a.gguf").write_bytes(gguf)
    definition = parse({"name": "a", "engine": "vllm", "source": {"path": "a.gguf"}})
    with pytest.raises(Refusal) as caught:
        files.check(definition)
    assert caught.value.problems[0].pointer == "/engine"


def test_what_the_folder_offers_leaves_out_later_parts(models_folder: Path) -> None:
    for name in ("a.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf"):
        (models_folder / name).touch()
    (models_folder / "s").mkdir()
    (models_folder / "s" / "config.json").touch()
    assert files.available() == ["a.gguf", "b-00001-of-00002.gguf", "s"]
