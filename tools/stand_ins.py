"""Images of compose.yaml that stand in for the official ones where no registry answers."""

from collections.abc import Mapping

from tools import base_image
from tools.docker_build import build

FOLDER = "docker-images/stand-ins"
# The variable of compose.yaml, the official image, the stand-in, and the Debian suite that carries the right version.
IMAGES = {
    "CORTEX_PYTHON_IMAGE": ("python:3.11-slim-bookworm", "cortex/stand-in-python:3.11", "bookworm"),
    "CORTEX_POSTGRES_IMAGE": ("postgres:17", "cortex/stand-in-postgres:17", "stable"),
    "CORTEX_REDIS_IMAGE": ("redis:7", "cortex/stand-in-redis:7", "bookworm"),
}


def ensure() -> Mapping[str, str]:
    """The variables for compose.yaml that name images which are all present when this returns.

    A stand-in never bears the official name: nobody shall take it for the real one later.
    """
    return {variable: ensure_one(variable) for variable in IMAGES}


def ensure_one(variable: str) -> str:
    """The official image where it is here or can be pulled, its stand-in elsewhere."""
    official, stand_in, suite = IMAGES[variable]
    for image in (official, stand_in):
        if base_image.has_image(image):
            return image
    if base_image.pull(official):
        return official
    kind = stand_in.removeprefix("cortex/stand-in-").partition(":")[0]
    build(stand_in, f"{FOLDER}/{kind}.Dockerfile", FOLDER, {"BASE": base_image.ensure(suite)})
    return stand_in


if __name__ == "__main__":
    for name, image in ensure().items():
        print(f"{name}={image}")
