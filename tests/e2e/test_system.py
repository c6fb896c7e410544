"""./dev up and ./dev down as people use them: children that die, a second up, an end that leaves models running."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import ROOT, Cortex, eventually, started
from tools.services import free_port

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.timeout(300)]


def dev(home: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools", *words]
    known = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL")}
    environment = known | {"CORTEX_HOME": str(home)} | more
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("role", ["gateway", "worker", "agent", "beat"])
def test_a_child_that_dies_is_named_and_restarted(pretend: Cortex, role: str) -> None:
    first = pretend.child(role)
    assert first
    os.kill(first, signal.SIGKILL)
    eventually(lambda: f"{role} ended with status -9" in (pretend.home / "up.log").read_text())
    eventually(lambda: pretend.child(role) not in (None, first))


def test_a_dead_redis_returns_on_its_port(pretend: Cortex) -> None:
    first = pretend.child("redis")
    assert first
    os.kill(first, signal.SIGKILL)
    eventually(lambda: pretend.rest.get("health").json()["checks"]["broker"]["ok"] is True)


def test_a_second_up_joins_the_first_and_leaves_it_alone(pretend: Cortex) -> None:
    command = [sys.executable, "-m", "tools", "up"]
    environment = os.environ | {"CORTEX_HOME": str(pretend.home), "PYTHONUNBUFFERED": "1"}
    second = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert second.stdout
        assert f"process {pretend.running.pid}" in second.stdout.readline()
    finally:
        second.terminate()
        second.communicate(timeout=10)
    assert pretend.rest.get("models").is_success


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = dev(tmp_path, "up", "--web", str(port))
    assert done.returncode
    assert f"Port {port} is taken" in done.stderr
    assert "--web PORT" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("up", "--web", "99999"), "'99999' is no port"),
        (("up", "--web", "8300", "--gateway", "8300"), "cannot share port 8300"),
    ],
)
def test_ports_that_cannot_be_are_told_without_a_trace(tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    done = dev(tmp_path, *words)
    assert done.returncode
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing"),
        ("DATABASE_URL", "mysql://nobody"),
        ("BROKER_URL", "redis://127.0.0.1:1/0"),
        ("BROKER_URL", "amqp://127.0.0.1"),
    ],
)
def test_a_service_of_ones_own_that_does_not_answer_is_named(tmp_path: Path, variable: str, url: str) -> None:
    done = dev(tmp_path, "up", "--web", str(free_port()), "--gateway", str(free_port()), **{variable: url})
    assert done.returncode
    assert f"answers at {variable}: " in done.stderr
    assert f"unset {variable}" in done.stderr
    assert "Traceback" not in done.stderr


def test_children_end_with_a_supervisor_that_is_killed_and_the_next_up_takes_their_place(tmp_path: Path) -> None:
    with started(tmp_path, "--pretend") as cortex:
        children = [cortex.child(role) for role in ("gateway", "worker", "agent", "beat", "redis")]
        os.kill(cortex.running.pid, signal.SIGKILL)
        assert all(children)
        eventually(lambda: not any(is_alive(pid) for pid in children if pid))
        assert dev(tmp_path, "down").stdout == "Cortex does not run here.\n"
    with started(tmp_path, "--pretend") as cortex:
        assert cortex.rest.get("models").is_success


def is_alive(pid: int) -> bool:
    """Ended ones may stay a while for whoever adopted them to notice."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_down_without_up_says_so(tmp_path: Path) -> None:
    done = dev(tmp_path, "down")
    assert (done.returncode, done.stdout) == (0, "Cortex does not run here.\n")


def test_the_end_is_quick_and_leaves_models_running_and_the_next_up_keeps_them(tmp_path: Path) -> None:
    data = {"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny-chat.gguf"}, "desired": "running"}
    with started(tmp_path, "--pretend") as cortex:
        assert cortex.rest.put("models/tiny", json=data).is_success
        cortex.wait("tiny", phase="serving")
        children = [cortex.child(role) for role in ("gateway", "worker", "agent", "beat", "redis")]
        began = time.monotonic()
        assert "Models that ran go on running" in dev(tmp_path, "down").stdout
        assert time.monotonic() - began < 10
        assert not any(is_alive(pid) for pid in children if pid)
        with pytest.raises(httpx2.ConnectError):
            cortex.rest.get("models")
    with started(tmp_path, "--pretend") as cortex:
        status = cortex.wait("tiny", phase="serving")
        assert [replica["attempt"]["number"] for replica in status["replicas"]] == [1]
