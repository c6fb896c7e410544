"""`./dev bench loop`: how soon the loop acts, and what it costs at rest, on the imaginary host with real processes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import made_model, services


def main() -> int:
    """A database, a broker and a model of its own, then the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        broker = services.redis_server(folder / "redis")
        try:
            environment = os.environ | prepare(folder, broker.url)
            manage = [sys.executable, "-W", "ignore", "manage.py", "migrate", "-v", "0"]
            subprocess.run(manage, env=environment, check=True)
            figures = [sys.executable, "-W", "ignore", "-m", "tools.bench.loop_figures", str(broker.process.pid)]
            return subprocess.run(figures, env=environment, check=False).returncode
        finally:
            broker.process.kill()
            broker.process.wait()


def prepare(folder: Path, broker: str) -> dict[str, str]:
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
        "CORTEX_RUNTIME": "pretend",
    }


if __name__ == "__main__":
    sys.exit(main())
