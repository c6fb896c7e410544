"""The llama.cpp server image: the official one where a registry answers, built here where none does."""

from tools import base_image
from tools.docker_build import build

OFFICIAL = "ghcr.io/ggml-org/llama.cpp:server"
BUILT = "cortex/llamacpp-server:cpu"
FOLDER = "docker-images/llamacpp-server"


def ensure_llamacpp() -> str:
    """The name of an image whose entrypoint is llama-server, present on the engine when this returns.

    Raises PhaseFailed when it can be neither pulled nor built.
    """
    for image in (OFFICIAL, BUILT):
        if base_image.has_image(image):
            return image
    if base_image.pull(OFFICIAL):
        return OFFICIAL
    return build_llamacpp()


def build_llamacpp() -> str:
    """Build the CPU image on Debian's own llama.cpp package; returns its name."""
    build(BUILT, f"{FOLDER}/cpu.Dockerfile", FOLDER, {"BASE": base_image.ensure("testing")})
    return BUILT


if __name__ == "__main__":
    print(ensure_llamacpp())
