import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import base_image, docker_build, engine_image, stand_ins
from tools.phase import Phase, PhaseFailed

NOWHERE = "127.0.0.1:1/nobody/nothing:1"
IMPORTED = "cortex-test/imported:1"


def test_only_certificates_beyond_the_usual_ones_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_text("AAA\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "b.crt").write_text("BBB\n")
    (tmp_path / "note.txt").write_text("no")
    assert docker_build.own_certificates(tmp_path) == "AAA\nBBB"


def test_a_machine_without_own_certificates_passes_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_build, "own_certificates", lambda: "")
    assert docker_build.certificate_argument() == {}


def test_an_image_present_is_neither_pulled_nor_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_image, "has_image", lambda image: True)
    monkeypatch.setattr(base_image, "pull", lambda image: pytest.fail("must not pull"))
    assert engine_image.ensure_llamacpp() == engine_image.OFFICIAL


def test_where_a_registry_answers_the_official_image_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_image, "has_image", lambda image: False)
    monkeypatch.setattr(base_image, "pull", lambda image: True)
    monkeypatch.setattr(engine_image, "build_llamacpp", lambda: pytest.fail("must not build"))
    assert engine_image.ensure_llamacpp() == engine_image.OFFICIAL


def test_where_none_answers_the_image_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_image, "has_image", lambda image: False)
    monkeypatch.setattr(base_image, "pull", lambda image: False)
    monkeypatch.setattr(base_image, "ensure", lambda suite: f"made:{suite}")
    built: dict[str, str] = {}
    monkeypatch.setattr(
        engine_image, "build", lambda image, _file, _folder, given: built.update({image: given["BASE"]})
    )
    assert engine_image.ensure_llamacpp() == "cortex/llamacpp-server:cpu"
    assert built == {"cortex/llamacpp-server:cpu": "made:testing"}


def test_a_stand_in_never_bears_the_official_name() -> None:
    for official, stand_in, _ in stand_ins.IMAGES.values():
        assert stand_in != official
        assert stand_in.startswith("cortex/stand-in-")


def test_a_stand_in_made_by_another_recipe_is_not_taken_for_todays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_ins, "FOLDER", tmp_path)
    (tmp_path / "redis.Dockerfile").write_text("FROM a\n")
    before = stand_ins.recipe()
    assert stand_ins.recipe() == before
    (tmp_path / "redis.Dockerfile").write_text("FROM b\n")
    assert stand_ins.recipe() != before


def test_a_base_image_needs_root_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(base_image, "has_image", lambda image: False)
    monkeypatch.setattr(base_image, "pull", lambda image: False)
    with pytest.raises(PhaseFailed, match="needs root"):
        base_image.ensure("stable")


@pytest.mark.docker
def test_a_registry_that_does_not_answer_is_found_out_fast(capsys: pytest.CaptureFixture[str]) -> None:
    before = time.monotonic()
    assert not base_image.pull(NOWHERE)
    assert time.monotonic() - before < 15
    assert "no registry answers for it here" in capsys.readouterr().out


@pytest.fixture
def _no_imported_image() -> Iterator[None]:
    yield
    subprocess.run(["docker", "image", "rm", IMPORTED], capture_output=True, check=False)


@pytest.mark.docker
@pytest.mark.usefixtures("_no_imported_image")
def test_a_folder_becomes_an_image(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("world")
    base_image.import_tree(Phase("Import"), tmp_path, IMPORTED)
    assert base_image.has_image(IMPORTED)


@pytest.mark.docker
def test_an_image_that_is_not_there_is_not_there() -> None:
    assert not base_image.has_image(NOWHERE)
