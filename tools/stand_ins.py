"""Images of compose.yaml that stand in for the official ones where no registry answers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tools import base_image
from tools.docker_build import build

FOLDER = Path("docker-images/stand-ins")
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
    official, name, suite = IMAGES[variable]
    stand_in = f"{name}-{recipe()}"
    for image in (official, stand_in):
        if base_image.has_image(image):
            return image
    if base_image.pull(official):
        return official
    kind = name.removeprefix("cortex/stand-in-").partition(":")[0]
    build(stand_in, f"{FOLDER}/{kind}.Dockerfile", str(FOLDER), {"BASE": base_image.ensure(suite)})
    return stand_in


def recipe() -> str:
    """A word that changes with how stand-ins are made, so that none of an older make is taken for one of today."""
    made_of = b"".join(path.read_bytes() for path in sorted(FOLDER.iterdir()))
    return hashlib.sha256(made_of).hexdigest()[:8]


if __name__ == "__main__":
    for name, image in ensure().items():
        print(f"{name}={image}")
