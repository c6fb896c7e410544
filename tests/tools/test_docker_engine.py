import pytest

from tools import docker_engine


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
    monkeypatch.setattr(docker_engine, "_install", lambda: pytest.fail("must not install"))
    monkeypatch.setattr(docker_engine, "_start", lambda: pytest.fail("must not start"))
    docker_engine.ensure()
    assert "Docker Engine 28.0.1 answers" in capsys.readouterr().out


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
