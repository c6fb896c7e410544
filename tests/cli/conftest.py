"""The command line in this process, against the real web process on a port."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer
from typer.testing import CliRunner, Result

from cortex.access.models import Person
from cortex.cli.main import app
from tests.api.conftest import as_bob, as_charlie, poked, tiny  # noqa: F401 - fixtures of the same world
from tests.conftest import key_of

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A person without any Cortex yet."""
    for name in ("CORTEX_URL", "CORTEX_TOKEN", "CORTEX_GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def run(home: Any) -> Run:
    """Run a command: `run("ls", "-o", "json")`."""

    def run(*arguments: str, input: str | None = None, **env: str) -> Result:
        return CliRunner(env=env).invoke(app, list(arguments), input=input, prog_name="cortex")

    return run


@pytest.fixture
def cortex(live_server: LiveServer, transactional_db: None, bob: Person, run: Run, monkeypatch: Any) -> Run:
    """The command line of bob, an operator, with a web process that answers."""
    monkeypatch.setenv("CORTEX_URL", live_server.url)
    monkeypatch.setenv("CORTEX_TOKEN", key_of(bob))
    monkeypatch.setenv("CORTEX_GATEWAY", "http://127.0.0.1:1")
    return run
