"""What ./dev up --pretend finds: an imaginary host with four GPUs, engines that load slowly, a few model files."""

from pathlib import Path

from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from engines import all_engines
from tools import made_model
from tools.plans.record import models as published
from tools.plans.sparse import write_sparse

GPUS = 4
GPU_BYTES = 48 << 30
# True headers over holes: a few megabytes on disk, and everything that is to be estimated is real.
SPARSE = ("llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-27b", "gpt-oss-120b", "deepseek-v3")
LINES = ("pretend engine: reading the model", "pretend engine: warming up", "pretend engine: listening")


def prepare(home: Path, port: int) -> None:
    """The imaginary host in `home`, its engines answering on `port`. What is there already stays."""
    models = home / "models"
    if not (models / "tiny-chat.gguf").exists():
        made_model.write(models, made_model.Shape(layers=2), name="tiny-chat")
    for model in published():
        path = models / f"{model.name}.gguf"
        if model.name in SPARSE and not path.exists():
            write_sparse(path, model.family, model.header(), model.layout)
    if not (models / "tiny-safetensors").exists():
        made_model.write_safetensors(models / "tiny-safetensors")
    world = World(home / "pretend.json")
    with world.open() as scene:
        scene.engine = f"127.0.0.1:{port}"
        if not scene.gpus:
            cards = (ImaginaryGpu(uuid=f"GPU-pretend-{n}", name="Imaginary L40S", total=GPU_BYTES) for n in range(GPUS))
            scene.gpus.extend(cards)
        slow = Script(load=4, lines=LINES, pull_seconds=3)
        for engine in all_engines().values():
            for gpus in (False, True):
                scene.scripts.setdefault(engine.image_for(gpus=gpus), slow)
