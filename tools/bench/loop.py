"""`./dev bench loop`: how soon the loop acts and what it costs at rest, on imaginary and real hosts."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import base_image, engine_image, made_model, services

KINDS = ("pretend", "docker")


def main() -> int:
    """A database, a broker and a model of its own for each kind of host, then the figures."""
    words = argparse.ArgumentParser(prog="./dev bench loop", description=__doc__)
    words.add_argument("--docker", action="append_const", dest="kinds", const="docker", help="on real Docker alone")
    words.add_argument("--pretend", action="append_const", dest="kinds", const="pretend", help="on the fake alone")
    words.add_argument("--json", type=Path, help="also write the figures there")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows"
        file.touch()
        status = max([measure(kind, Path(scratch) / kind, file) for kind in given.kinds or there()])
        if given.json:
            given.json.write_text(json.dumps([json.loads(line) for line in file.read_text().splitlines()], indent=1))
    return status


def there() -> list[str]:
    """The kinds of host that this machine can give: real Docker where it answers and has an engine's image."""
    if image():
        return list(KINDS)
    print("Real Docker is left out: it does not answer, or has no llama.cpp image yet (./dev demo gets one).")
    return ["pretend"]


def image() -> str:
    """An image whose entrypoint is llama-server, that is on the engine; empty when none is."""
    found = (name for name in (engine_image.OFFICIAL, engine_image.BUILT) if base_image.has_image(name))
    return next(found, "")


def measure(kind: str, folder: Path, file: Path) -> int:
    """The exit status of one run."""
    folder.mkdir()
    broker = services.redis_server(folder / "redis")
    try:
        environment = os.environ | prepare(kind, folder, broker.url)
        python = [sys.executable, "-W", "ignore"]
        subprocess.run([*python, "manage.py", "migrate", "-v", "0"], env=environment, check=True)
        figures = [*python, "-m", "tools.bench.loop_figures", kind, str(broker.process.pid), str(file)]
        return subprocess.run(figures, env=environment, check=False).returncode
    finally:
        broker.process.kill()
        broker.process.wait()


def prepare(kind: str, folder: Path, broker: str) -> dict[str, str]:
    """What Cortex's processes are told."""
    models, state = folder / "models", folder / "state"
    models.mkdir()
    state.mkdir()
    made = made_model.write(folder, made_model.Shape(layers=1, vocab=1024, feed_forward=64))
    made.rename(models / "tiny.gguf")
    return {
        "DJANGO_SETTINGS_MODULE": "cortex.settings",
        "DATABASE_URL": services.postgres(folder / "postgres"),
        "BROKER_URL": broker,
        "CORTEX_STATE": str(state),
        "CORTEX_MODELS": str(models),
        "CORTEX_HOST_NAME": "bench",
        "CORTEX_RUNTIME": kind,
        **({"CORTEX_IMAGES": f"llamacpp={image()}"} if kind == "docker" else {}),
    }


if __name__ == "__main__":
    sys.exit(main())
