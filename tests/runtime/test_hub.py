import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cortex.runtime import hub as module
from cortex.runtime.contract import DiskFull, ModelRefused, PullProgress, Unreachable
from cortex.runtime.hub import fetch, present, whole_sets
from tests.fakes.hub import COMMIT, FakeHub, hub

MODEL = "owner/model"
BIG = bytes(range(256)) * 4096
FILES = {
    "config.json": b"{}",
    "model-q4-00001-of-00002.gguf": BIG,
    "model-q4-00002-of-00002.gguf": BIG[::-1],
    "model-q8.gguf": b"other",
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr(module, "LARGE", 1 << 19)
    with hub(FILES) as running:
        yield running


def ignore(_: PullProgress) -> None:
    """For those who do not care how far it is."""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_repository_arrives_below_the_models_folder(fake: FakeHub, tmp_path: Path) -> None:
    progress: list[PullProgress] = []
    found = fetch(MODEL, "main", [], tmp_path, progress.append, endpoint=fake.url)
    assert found.is_relative_to(tmp_path / "hub")
    assert found.name == COMMIT
    assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES
    size = sum(map(len, FILES.values()))
    assert progress[-1] == PullProgress(size, size)
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert {p.total for p in progress} == {size}


def test_naming_one_part_fetches_the_whole_set_and_nothing_else(fake: FakeHub, tmp_path: Path) -> None:
    found = fetch(MODEL, "main", ["model-q4-00001-of-00002.gguf"], tmp_path, ignore, endpoint=fake.url)
    assert names(found) == {"model-q4-00001-of-00002.gguf", "model-q4-00002-of-00002.gguf"}


def test_a_single_file_is_its_own_set() -> None:
    assert whole_sets(["model-q8.gguf", "*.json"]) == ["model-q8.gguf", "*.json"]


def test_what_is_present_is_known_without_asking_anybody(fake: FakeHub, tmp_path: Path) -> None:
    assert present(MODEL, "main", [], tmp_path) is None
    part = ["model-q8.gguf"]
    found = fetch(MODEL, "main", part, tmp_path, ignore, endpoint=fake.url)
    assert present(MODEL, "main", part, tmp_path) == found
    assert present(MODEL, COMMIT, part, tmp_path) == found
    assert present(MODEL, "main", [], tmp_path) is None
    assert present(MODEL, "main", ["*.gguf"], tmp_path) is None
    assert present(MODEL, "main", ["nothing*"], tmp_path) is None
    assert present(MODEL, "other", part, tmp_path) is None


def test_a_cut_connection_is_resumed_where_it_was_cut(fake: FakeHub, tmp_path: Path) -> None:
    name = "model-q4-00001-of-00002.gguf"
    fake.cut[name] = 300_000
    found = fetch(MODEL, "main", ["model-q4*"], tmp_path, ignore, endpoint=fake.url)
    assert (found / name).read_bytes() == BIG
    assert fake.ranges == [f"bytes={4 << 16}-"]


def test_a_cancelled_download_is_not_present_and_goes_on_later(fake: FakeHub, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(progress: PullProgress) -> None:
        if progress.done > 300_000:
            raise Cancelled

    part = ["model-q4-00001-of-00002.gguf"]
    with pytest.raises(Cancelled):
        fetch(MODEL, "main", part, tmp_path, cancel, endpoint=fake.url)
    assert present(MODEL, "main", part, tmp_path) is None
    assert not list(tmp_path.rglob("snapshots/*/model*"))
    fake.ranges.clear()
    found = fetch(MODEL, "main", part, tmp_path, ignore, endpoint=fake.url)
    assert present(MODEL, "main", part, tmp_path) == found
    assert fake.ranges
    assert (found / part[0]).read_bytes() == BIG


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "no model owner/model"),
        (401, "", "owner/model"),
        (403, "GatedRepo", "gated"),
        (404, "RevisionNotFound", "no revision"),
    ],
)
def test_a_refusal_of_the_hub_is_permanent(fake: FakeHub, tmp_path: Path, status: int, code: str, says: str) -> None:
    fake.refuse = (status, {"X-Error-Code": code} if code else {})
    with pytest.raises(ModelRefused, match=says) as caught:
        fetch(MODEL, "main", [], tmp_path, ignore, endpoint=fake.url)
    assert caught.value.permanent
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("repository", "revision", "patterns", "says"),
    [
        ("owner/other", "main", [], "no model owner/other"),
        (MODEL, "nowhere", [], "no revision 'nowhere'"),
        (MODEL, "main", ["*.bin"], "no file that matches"),
        ("not a name", "main", [], "not a repository's name"),
    ],
)
def test_what_the_hub_does_not_have_is_refused(
    fake: FakeHub, tmp_path: Path, repository: str, revision: str, patterns: list[str], says: str
) -> None:
    with pytest.raises(ModelRefused, match=says):
        fetch(repository, revision, patterns, tmp_path, ignore, endpoint=fake.url)


def test_a_hub_that_cannot_be_reached_is_tried_again_later(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        fetch(MODEL, "main", [], tmp_path, ignore, endpoint="http://127.0.0.1:9")


def test_a_hub_that_fails_is_tried_again_later(fake: FakeHub, tmp_path: Path) -> None:
    fake.refuse = (500, {})
    with pytest.raises(Unreachable, match="HTTP 500"):
        fetch(MODEL, "main", [], tmp_path, ignore, endpoint=fake.url)


def test_a_model_larger_than_the_disk_is_refused_before_it_starts(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DiskFull, match=r"takes 2\.0 MiB, and .* 0\.0 MiB free"):
        fetch(MODEL, "main", [], tmp_path, ignore, endpoint=fake.url)
    assert present(MODEL, "main", [], tmp_path) is None


def test_a_disk_that_fills_up_on_the_way_is_said(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "snapshot_download", full)
    with pytest.raises(DiskFull):
        fetch(MODEL, "main", [], tmp_path, ignore, endpoint=fake.url)


def test_the_token_goes_to_the_hub_and_only_when_given(fake: FakeHub, tmp_path: Path) -> None:
    fetch(MODEL, "main", ["config.json"], tmp_path, ignore, token="secret-token", endpoint=fake.url)
    assert fake.token == "Bearer secret-token"
    fetch(MODEL, "main", ["model-q8.gguf"], tmp_path, ignore, endpoint=fake.url)
    assert fake.token is None
