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

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.timeout(300)]


def dev(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools", *words]
    environment = os.environ | {"CORTEX_HOME": str(home)}
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


def test_down_without_up_says_so(tmp_path: Path) -> None:
    done = dev(tmp_path, "down")
    assert (done.returncode, done.stdout) == (0, "Cortex does not run here.\n")


def test_the_end_is_quick_and_leaves_models_running_and_the_next_up_keeps_them(tmp_path: Path) -> None:
    data = {"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny-chat.gguf"}, "desired": "running"}
    with started(tmp_path, "--pretend") as cortex:
        assert cortex.rest.put("models/tiny", json=data).is_success
        cortex.wait("tiny", phase="serving")
        began = time.monotonic()
        assert "Models that ran go on running" in dev(tmp_path, "down").stdout
        assert time.monotonic() - began < 10
        with pytest.raises(httpx2.ConnectError):
            cortex.rest.get("models")
    with started(tmp_path, "--pretend") as cortex:
        status = cortex.wait("tiny", phase="serving")
        assert [replica["attempt"]["number"] for replica in status["replicas"]] == [1]
