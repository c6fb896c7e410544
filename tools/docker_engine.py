"""A Docker Engine that answers: used when there, installed and started on Debian and Ubuntu, asked for elsewhere."""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from tools.phase import LOGS, Phase, PhaseFailed, phase

NEEDS_A_PERSON = 3
PACKAGES = ("docker.io", "iptables", "ca-certificates")
START_SECONDS = 60.0
SOCKET = Path("/var/run/docker.sock")


def ensure() -> None:
    """Return once a Docker Engine answers.

    Exits with status 3, after printing the exact command to run, when only a person can help.
    Raises PhaseFailed when an install or a start did not end well.
    """
    if version := engine_version():
        print(f"  Docker Engine {version} answers", flush=True)
        return
    if not may_act():
        _ask_a_person()
    if not shutil.which("dockerd"):
        _install()
    _start()


def engine_version() -> str | None:
    """The version of the Docker Engine that answers here; None when none does."""
    try:
        client = docker.from_env(timeout=5)
        try:
            return str(client.version()["Version"])
        finally:
            client.close()
    except (DockerException, RequestException):
        return None


def may_act() -> bool:
    """Whether this process may install packages and start the engine: root, apt, and no engine named elsewhere."""
    return os.geteuid() == 0 and bool(shutil.which("apt-get")) and "DOCKER_HOST" not in os.environ


def advice(*, docker_host: str | None, socket_exists: bool, installed: bool, family: str) -> str:
    """The exact command for a person to run, by what is known of the machine. ``family`` is os-release's ID_LIKE."""
    if docker_host:
        return f"DOCKER_HOST is {docker_host}, and nothing answers there. Start that engine, or: unset DOCKER_HOST"
    if socket_exists and installed:
        return "You may not use Docker's socket, or its engine has stopped. Run:\n\n" + (
            "    sudo systemctl start docker && sudo usermod -aG docker $USER && newgrp docker"
        )
    if installed:
        return "Docker is installed and not running. Run:\n\n    sudo systemctl start docker"
    if "debian" in family:
        return "Docker is not installed. Run:\n\n" + (
            "    sudo apt-get update && sudo apt-get install -y docker.io"
            " && sudo usermod -aG docker $USER && newgrp docker"
        )
    return "Docker is not installed. Run:\n\n" + (
        "    curl -fsSL https://get.docker.com | sudo sh && sudo systemctl enable --now docker"
        " && sudo usermod -aG docker $USER && newgrp docker"
    )


def _ask_a_person() -> NoReturn:
    print(
        "Cortex runs models in containers and needs a Docker Engine; none answers here. "
        + advice(
            docker_host=os.environ.get("DOCKER_HOST"),
            socket_exists=SOCKET.exists(),
            installed=bool(shutil.which("dockerd") or shutil.which("docker")),
            family=_family(),
        )
        + "\n\nthen run this again.",
        file=sys.stderr,
    )
    raise SystemExit(NEEDS_A_PERSON)


def _family() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release.get('ID', '')} {release.get('ID_LIKE', '')}"


def _install() -> None:
    print(f"  No Docker Engine here. Installing with apt-get: {' '.join(PACKAGES)}", flush=True)
    with phase("Docker Engine, install") as it:
        it.run("apt-get", "update", timeout=300)
        apt_install(it, *PACKAGES, *_client_package())


def apt_install(it: Phase, *packages: str) -> None:
    """Install Debian packages without questions."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    it.run("apt-get", "install", "-y", "--no-install-recommends", *packages, env=quiet, timeout=900)


def _client_package() -> tuple[str, ...]:
    """Debian 13 and newer keep the ``docker`` command in a package of its own."""
    known = subprocess.run(["apt-cache", "show", "docker-cli"], capture_output=True, check=False)
    return ("docker-cli",) if known.returncode == 0 else ()


def _start() -> None:
    with phase("Docker Engine, start") as it:
        process = None if _systemd_started(it) else _launch()
        deadline = time.monotonic() + START_SECONDS
        while not engine_version():
            if process and process.poll() is not None:
                raise PhaseFailed(f"dockerd ended with status {process.returncode}; its log: {LOGS / 'dockerd.log'}")
            if time.monotonic() > deadline:
                raise PhaseFailed(f"dockerd did not answer within {START_SECONDS:.0f} s; see {LOGS / 'dockerd.log'}")
            it.say("waiting for an answer")
            time.sleep(0.3)


def _systemd_started(it: Phase) -> bool:
    if not Path("/run/systemd/system").is_dir():
        return False
    it.run("systemctl", "start", "docker", timeout=START_SECONDS)
    return True


def _launch() -> subprocess.Popen[bytes]:
    """Start dockerd in its own session, so that it outlives this process and its Ctrl-C."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "dockerd.log").open("ab") as log:
        return subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )


if __name__ == "__main__":
    ensure()
