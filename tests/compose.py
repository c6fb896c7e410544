"""The whole of compose.yaml, brought up beside whatever runs here: a project, a network and ports of its own."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import compose_plugin, docker_build, engine_image, stand_ins

PROJECT = "cortex-test-compose"
IMAGE = "cortex/cortex:test"
NETWORK = "172.31.79"


@dataclass(frozen=True)
class Whole:
    """A system that is up. ``models`` is its models folder; ``run`` speaks to its processes."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    models: Path

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.environment['CORTEX_WEB_PORT']}"

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.environment['CORTEX_GATEWAY_PORT']}"

    def compose(self, *words: str, check: bool = True, timeout: float = 300) -> str:
        """What a word of Compose prints."""
        done = subprocess.run(
            [*self.command, *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"compose {' '.join(words)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def up(self) -> None:
        """Start everything; a failure is told with the last words of all."""
        try:
            self.compose("up", "--detach", "--no-build")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--tail', '20', check=False)}") from None

    def manage(self, *words: str) -> str:
        """What manage.py prints in the web process's container, as docs/production.md has people call it."""
        return self.compose("exec", "-T", "web", "python", "manage.py", *words).strip()

    def states(self) -> dict[str, str]:
        """Each service's health, or its state where it has none."""
        rows = [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]
        return {row["Service"]: row["Health"] or row["State"] for row in rows}

    def mounts(self) -> dict[str, set[str]]:
        """What each running container has mounted, and where."""
        ids = self.compose("ps", "--quiet").split()
        shown = json.loads(_docker("inspect", *ids))
        return {
            c["Config"]["Labels"]["com.docker.compose.service"]: {m["Destination"] for m in c["Mounts"]} for c in shown
        }

    def end(self, model: str) -> None:
        """Nothing is left: neither a process, nor a volume, nor a container of the model."""
        self.compose("down", "--volumes", "--timeout", "5", check=False)
        if left := containers(model):
            _docker("rm", "--force", *left)


def containers(model: str) -> list[str]:
    """A model's containers on this engine, dead or alive."""
    return _docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=cortex.model={model}").split()


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def prepare(models: Path, *, web: int, gateway: int) -> Whole:
    """Every image of compose.yaml, pulled or made, and the settings of a system of its own."""
    images = stand_ins.ensure()
    arguments = {"BASE": images["CORTEX_PYTHON_IMAGE"], **docker_build.certificate_argument()}
    docker_build.build(IMAGE, "docker-images/cortex/Dockerfile", ".", arguments)
    environment = {
        **images,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "CORTEX_IMAGE": IMAGE,
        "CORTEX_IMAGES": f"llamacpp={engine_image.ensure_llamacpp()}",
        "CORTEX_MODELS": str(models),
        "CORTEX_NETWORK": NETWORK,
        "CORTEX_WEB_PORT": str(web),
        "CORTEX_GATEWAY_PORT": str(gateway),
    }
    return Whole((*compose_plugin.ensure(), "--env-file", os.devnull), environment, models)
