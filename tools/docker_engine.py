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
# A package that starts the engine by itself may be a moment ahead of us: ours ends then, and that one answers.
OTHER_SECONDS = 10.0
SOCKET = Path("/var/run/docker.sock")
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
GPU_HOOK = "nvidia-container-runtime-hook"
GPU_STAND_IN = Path("var/bin/gpu-stand-in")


def ensure(*, gpu_stand_in: bool = False) -> None:
    """Return once a Docker Engine answers.

    With ``gpu_stand_in`` an engine that has to be started here accepts requests for GPUs that aren't there, as tests
    make them; one that answers, or that systemd starts, is what it is.

    Exits with status 3, after printing the exact command to run, when only a person can help.
    Raises PhaseFailed when an install or a start did not end well.
    """
    if version := engine_version():
        _need_client()
        print(f"  Docker Engine {version} answers", flush=True)
        return
    if not may_act():
        _ask_a_person()
    if not (_which("dockerd") and _which("docker")):
        _install()
    _start(gpu_stand_in=gpu_stand_in)


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
            installed=bool(_which("dockerd") or _which("docker")),
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


def _need_client() -> None:
    if not shutil.which("docker"):
        raise PhaseFailed(
            "A Docker Engine answers, but the command `docker` is missing here. Install the package docker-cli "
            "(docker.io on Debian 12), then run this again."
        )


def _which(command: str) -> str | None:
    """Where a command is; a root shell made with plain `su` has no sbin in its PATH."""
    return shutil.which(command, path=search_path())


def search_path() -> str:
    """This process's PATH, and where Debian keeps dockerd and iptables."""
    return f"{os.environ.get('PATH', '')}:{SYSTEM}"


def _start(*, gpu_stand_in: bool) -> None:
    with phase("Docker Engine, start") as it:
        process = None if _systemd_started(it) else _launch(gpu_stand_in=gpu_stand_in)
        deadline, ended = time.monotonic() + START_SECONDS, False
        while not engine_version():
            if process and not ended and process.poll() is not None:
                deadline, ended = min(deadline, time.monotonic() + OTHER_SECONDS), True
            if time.monotonic() > deadline:
                raise PhaseFailed(_complaint(process))
            it.say("waiting for an answer")
            time.sleep(0.3)


def _complaint(process: subprocess.Popen[bytes] | None) -> str:
    if process is None:
        return f"systemd started Docker, and it did not answer within {START_SECONDS:.0f} s. See: journalctl -u docker"
    log = LOGS / "dockerd.log"
    status = process.poll()
    what = "does not answer" if status is None else f"ended with status {status}"
    tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-5:])
    return f"dockerd {what}. Its last words, of {log}:\n    {tail}"


def _systemd_started(it: Phase) -> bool:
    if not Path("/run/systemd/system").is_dir():
        return False
    it.run("systemctl", "start", "docker", timeout=START_SECONDS)
    return True


def _launch(*, gpu_stand_in: bool) -> subprocess.Popen[bytes]:
    """Start dockerd in its own session, so that it outlives this process and its Ctrl-C."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = search_path()
    if gpu_stand_in and not _which(GPU_HOOK):
        path = f"{_made_hook().parent.absolute()}:{path}"
    with (LOGS / "dockerd.log").open("ab") as log:
        return subprocess.Popen(
            [_which("dockerd") or "dockerd"],
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            close_fds=True,
        )


def _made_hook() -> Path:
    """dockerd offers GPUs when it finds NVIDIA's hook at its start. This one gives none, and lets them be asked for."""
    hook = GPU_STAND_IN / GPU_HOOK
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    return hook


if __name__ == "__main__":
    ensure()
