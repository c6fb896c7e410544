import json
import os
import tempfile
from pathlib import Path

import pytest

from tools import services
from tools.phase import PhaseFailed


@pytest.fixture(autouse=True)
def _links_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "links").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "links"))


def test_a_folder_without_blanks_is_used_as_it_is(tmp_path: Path) -> None:
    assert services.plain(tmp_path) == tmp_path.resolve()


def test_a_folder_with_blanks_is_reached_by_the_same_link_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "my own 'folder' ü"
    folder.mkdir()
    link = services.plain(folder)
    assert link.resolve() == folder.resolve()
    assert not set(" 'ü") & set(str(link))
    assert services.plain(folder) == link


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    link = services.plain(folder)
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(PhaseFailed, match="somebody else's"):
        services.plain(folder)


def test_a_user_of_postgres_that_was_killed_keeps_it_no_longer(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text(json.dumps([2**22 + 1, os.getpid()]))  # no kernel gives out the first one
    services.forget_the_dead(users)
    assert json.loads(users.read_text()) == [os.getpid()]
