"""Base images: pulled where a registry answers, made with debootstrap where none does."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from tools.docker_engine import apt_install
from tools.phase import Phase, PhaseFailed, phase

PROBE_SECONDS = 6
PULL_SECONDS = 600
OFFICIAL = {
    "testing": "debian:testing-slim",
    "stable": "debian:stable-slim",
    "bookworm": "debian:bookworm-slim",
}


def ensure(suite: str) -> str:
    """The name of an image with a minimal Debian ``suite``: the official one, or else one made here.

    Raises PhaseFailed when neither can be had.
    """
    made = f"cortex/debian:{suite}"
    official = OFFICIAL[suite]
    for image in (official, made):
        if has_image(image):
            return image
    if pull(official):
        return official
    _make(suite, made)
    return made


def has_image(image: str) -> bool:
    """Whether the engine holds this image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def pull(image: str) -> bool:
    """Pull an image where its registry answers; False, said in a line, where it does not."""
    with phase(f"Image {image}") as it:
        if not registry_answers(image):
            it.end("no registry answers for it here")
            return False
        it.run("docker", "pull", image, timeout=PULL_SECONDS)
    return True


def registry_answers(image: str) -> bool:
    """Whether the engine can reach this image's registry, and the registry knows the image.

    The engine is asked, not the network: it may have mirrors or a proxy of its own.
    """
    try:
        client = docker.from_env(timeout=PROBE_SECONDS)
        try:
            client.images.get_registry_data(image)
        finally:
            client.close()
    except (DockerException, RequestException):
        return False
    return True


def import_tree(it: Phase, tree: Path, image: str) -> None:
    """Make an image of a folder that is a whole root file system."""
    skip = ["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./var/log/*.log"]
    it.say("importing")
    with subprocess.Popen(["tar", "-C", str(tree), *skip, "-c", "."], stdout=subprocess.PIPE) as tar:
        done = subprocess.run(
            ["docker", "import", "--change", 'CMD ["bash"]', "-", image],
            stdin=tar.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if tar.returncode or done.returncode:
        raise PhaseFailed(f"Docker did not import {image}: {done.stderr.strip() or 'tar failed'}")


def _make(suite: str, image: str) -> None:
    with phase(f"Image {image}, made with debootstrap") as it:
        _ensure_debootstrap(it)
        with tempfile.TemporaryDirectory(prefix="cortex-debian-") as folder:
            it.run("debootstrap", "--variant=minbase", suite, folder, timeout=900)
            import_tree(it, Path(folder), image)


def _ensure_debootstrap(it: Phase) -> None:
    if os.geteuid():
        raise PhaseFailed("Making a base image needs root. Run this as root, or let Docker reach a registry.")
    if shutil.which("debootstrap"):
        return
    if not shutil.which("apt-get"):
        raise PhaseFailed("debootstrap is missing. Install it with your package manager, then run this again.")
    it.run("apt-get", "update", timeout=300)
    apt_install(it, "debootstrap", "debian-archive-keyring")
