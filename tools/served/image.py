"""An image of vLLM for the processor, made of the environment installed here: python -m tools.served.image."""

import subprocess
from pathlib import Path

from tools import base_image
from tools.docker_build import build
from tools.phase import Phase, PhaseFailed, phase
from tools.served import vllm

IMAGE = f"cortex/vllm-server:cpu-{vllm.VERSION}"
FOUNDATION = "cortex/vllm-foundation:cpu"
FOLDER = "tools/served"


def find() -> str | None:
    """The image's name, where it was made."""
    return IMAGE if base_image.has_image(IMAGE) else None


def ensure() -> str:
    """The image's name, made when it is not there. Raises PhaseFailed."""
    if found := find():
        return found
    home = vllm.install().resolve()
    build(FOUNDATION, f"{FOLDER}/cpu.Dockerfile", FOLDER, {"BASE": base_image.ensure("testing")})
    with phase(f"Image {IMAGE}") as it:
        container = _docker("create", FOUNDATION)
        try:
            for folder in (_interpreter(home), home):
                _copy(it, folder, container)
            _docker("commit", "--change", f"ENV PATH={home}/bin:/usr/bin:/bin", container, IMAGE)
        finally:
            _docker("rm", "--force", container)
    return IMAGE


def _interpreter(home: Path) -> Path:
    """Where the Python lives that the environment was made with."""
    command = [str(home / "bin" / "python"), "-c", "import sys; print(sys.base_prefix)"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def _copy(it: Phase, folder: Path, container: str) -> None:
    it.say(f"copying {folder}")
    unneeded = ["--exclude=__pycache__", "--exclude=test", "--exclude=*.a"]
    with subprocess.Popen(["tar", "-C", "/", *unneeded, "-c", str(folder)[1:]], stdout=subprocess.PIPE) as tar:
        done = subprocess.run(
            ["docker", "cp", "-", f"{container}:/"], stdin=tar.stdout, capture_output=True, check=False
        )
    if tar.returncode or done.returncode:
        raise PhaseFailed(f"{folder} was not copied: {done.stderr.decode().strip() or 'tar failed'}")


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PhaseFailed(f"docker {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    print(ensure())
