from pathlib import Path

import pytest

from tools import compose_plugin
from tools.phase import PhaseFailed


def test_a_machine_keeps_its_mirror_and_gets_the_newer_release() -> None:
    old = "URIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n"
    assert compose_plugin.newer_sources(old) == ("URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n")


def test_a_command_that_does_not_exist_has_no_version() -> None:
    assert compose_plugin.version(("/nowhere/docker-compose",)) == (0, 0)


@pytest.mark.parametrize(("said", "version"), [("2.26.1-4", (2, 26)), ("v2.40.3", (2, 40)), ("nonsense", (0, 0))])
def test_a_version_is_read_as_compose_prints_it(tmp_path: Path, said: str, version: tuple[int, int]) -> None:
    program = tmp_path / "compose"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    assert compose_plugin.version((str(program),)) == version


def test_one_that_is_too_old_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_plugin, "version", lambda command: (1, 29))
    monkeypatch.setattr(compose_plugin, "SOURCES", ())
    with pytest.raises(PhaseFailed, match="docker-compose-plugin"):
        compose_plugin.ensure()
