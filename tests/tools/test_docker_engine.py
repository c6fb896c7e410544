import os
from pathlib import Path

import pytest

from tools import docker_engine
from tools.phase import PhaseFailed


def known(**changes: object) -> str:
    facts = {"docker_host": None, "socket_exists": False, "installed": False, "family": "fedora"}
    return docker_engine.advice(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        ({"docker_host": "tcp://10.0.0.9:2375"}, "unset DOCKER_HOST"),
        ({"installed": True}, "sudo systemctl start docker"),
        ({"installed": True, "socket_exists": True}, "sudo usermod -aG docker $USER"),
        ({"family": "ubuntu debian"}, "sudo apt-get install -y docker.io"),
        ({}, "curl -fsSL https://get.docker.com | sudo sh"),
    ],
)
def test_a_person_is_told_the_exact_command(facts: dict[str, object], command: str) -> None:
    assert command in known(**facts)


def test_an_engine_named_elsewhere_is_named_in_the_advice() -> None:
    assert "tcp://10.0.0.9:2375" in known(docker_host="tcp://10.0.0.9:2375", installed=True)


def test_without_an_engine_and_without_leave_to_install_it_exits_with_status_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docker_engine, "engine_version", lambda: None)
    monkeypatch.setattr(docker_engine, "may_act", lambda: False)
    with pytest.raises(SystemExit) as left:
        docker_engine.ensure()
    assert left.value.code == 3
    assert "needs a Docker Engine; none answers here" in capsys.readouterr().err


def test_an_engine_that_answers_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docker_engine, "engine_version", lambda: "28.0.1")
    monkeypatch.setattr(docker_engine, "_need_client", lambda: None)
    monkeypatch.setattr(docker_engine, "_install", lambda: pytest.fail("must not install"))
    monkeypatch.setattr(docker_engine, "_start", lambda: pytest.fail("must not start"))
    docker_engine.ensure()
    assert "Docker Engine 28.0.1 answers" in capsys.readouterr().out


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of ours without an engine; the folder of its commands, the only ones there are."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(docker_engine, "SYSTEM", str(commands))
    monkeypatch.setattr(docker_engine, "may_act", lambda: True)
    monkeypatch.setattr(docker_engine, "engine_version", lambda: None)
    monkeypatch.setattr(docker_engine, "_systemd_started", lambda it: False)
    monkeypatch.setattr(docker_engine, "OTHER_SECONDS", 0.2)
    return commands


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_what_is_missing_is_installed_and_then_started(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, dockerd = tmp_path / "asked", bare / "dockerd"
    answers = iter([None, None, None, "20.10.24"])
    monkeypatch.setattr(docker_engine, "OTHER_SECONDS", 30.0)
    monkeypatch.setattr(docker_engine, "engine_version", lambda: next(answers))
    monkeypatch.setattr(docker_engine, "_which", lambda name: str(bare / name) if (bare / name).exists() else None)
    put(bare, "apt-get", f'echo "$*" >> {asked}; echo "#!/bin/sh" > {dockerd}; chmod +x {dockerd}')
    put(bare, "apt-cache", "exit 100")
    docker_engine.ensure()
    packages = " ".join(docker_engine.PACKAGES)
    assert asked.read_text().splitlines() == ["update", f"install -y --no-install-recommends {packages}"]


def test_an_engine_that_ends_at_once_is_told_with_its_last_words(bare: Path) -> None:
    put(bare, "docker", "exit 0")
    put(bare, "dockerd", "echo 'Devices cgroup is not mounted' >&2; exit 1")
    with pytest.raises(PhaseFailed, match=r"ended with status 1(?s:.*)Devices cgroup is not mounted"):
        docker_engine.ensure()


def test_an_engine_that_a_package_started_a_moment_earlier_is_used(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, None, None, "20.10.24"])
    monkeypatch.setattr(docker_engine, "OTHER_SECONDS", 30.0)
    monkeypatch.setattr(docker_engine, "engine_version", lambda: next(answers))
    put(bare, "docker", "exit 0")
    put(bare, "dockerd", "exit 1")
    docker_engine.ensure()


@pytest.mark.parametrize("gpu_stand_in", [True, False])
def test_only_tests_start_an_engine_that_offers_gpus_that_are_not_there(
    bare: Path, monkeypatch: pytest.MonkeyPatch, gpu_stand_in: bool
) -> None:
    put(bare, "docker", "exit 0")
    put(bare, "dockerd", f"command -v {docker_engine.GPU_HOOK} && {docker_engine.GPU_HOOK}; echo ended with $?")
    with pytest.raises(PhaseFailed, match="ended with 0" if gpu_stand_in else "ended with 127"):
        docker_engine.ensure(gpu_stand_in=gpu_stand_in)


def test_an_engine_without_its_command_is_not_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docker_engine, "engine_version", lambda: "28.0.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PhaseFailed, match="docker-cli"):
        docker_engine.ensure()


def test_dockerd_is_found_where_roots_path_has_no_sbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "/usr/sbin" in docker_engine.search_path().split(os.pathsep)


def test_an_engine_elsewhere_is_never_replaced_by_one_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.9:2375")
    assert not docker_engine.may_act()


@pytest.mark.docker
def test_an_address_where_nothing_answers_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert docker_engine.engine_version() is None


@pytest.mark.docker
def test_the_engine_of_this_machine_tells_its_version() -> None:
    assert docker_engine.engine_version()
