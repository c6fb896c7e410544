"""Two benches for one suite: an imaginary host, and a Docker Engine with a tiny image. Both act the same parts."""

import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cortex.runtime.contract import Label, Runtime
from cortex.runtime.docker import DockerRuntime
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import Script
from cortex.runtime.world import World
from engines.contract import ContainerSpec
from tests.fakes.images import busybox

SOCKET = "unix:///var/run/docker.sock"
SERVE = "mkdir -p /tmp/w/cgi-bin; echo ok >/tmp/w/health; exec httpd -f -p 8000 -h /tmp/w"
ANSWER = '#!/bin/sh\\nprintf "Status: 503 Loading\\r\\n\\r\\n"\\n'
LOADING = f"printf '{ANSWER}' >/tmp/w/cgi-bin/health; chmod +x /tmp/w/cgi-bin/health"
ACTS = {
    "serve": (SERVE, Script()),
    "load": (SERVE.replace("exec", f"{LOADING}; exec"), Script(load=3600)),
    "sleep": ("exec sleep 600", Script(load=3600)),
    "silent": ("exec sleep 600", Script(silent_after=0)),
    "exit": ("exit 3", Script(exit_after=0, exit_code=3)),
    "greet": ("echo one; echo two; echo three", Script(exit_after=0, lines=("one", "two", "three"))),
    "greet and stay": (
        "echo one; echo two; echo three; exec sleep 600",
        Script(lines=("one", "two", "three")),
    ),
    "greet and leave": (
        "echo one; sleep 1; echo two; exit 0",
        Script(exit_after=1, lines=("one", "two")),
    ),
    "stubborn": ("trap '' TERM; echo ready; while :; do sleep 1; done", Script(ignores_term=True, lines=("ready",))),
    "grow": ("dd if=/dev/zero of=/tmp/x bs=1M count=32; exec sleep 600", Script(load=9, grows=2**30)),
    "unstartable": ("exit 0", Script(start_refused="OCI runtime create failed: mounting to /etc: not a directory")),
    "eat": ("exec dd if=/dev/zero of=/dev/null bs=300M count=1", Script(exit_after=0, exit_code=137, oom=True)),
}


class Bench(Protocol):
    """A host to try a runtime on; ``stranger`` is another install on the same host."""

    runtime: Runtime
    stranger: Runtime
    unreachable: Runtime
    models: Path
    missing_image: str
    refused_image: str

    def spec(self, act: str, **changes: Any) -> ContainerSpec: ...

    def name(self) -> str: ...

    def pause(self, name: str) -> None: ...

    def end(self, name: str) -> None: ...

    def clear(self) -> None: ...


class FakeBench:
    missing_image = "imaginary/missing:1"
    refused_image = "imaginary/refused:1"

    def __init__(self, models: Path, world: World | None = None) -> None:
        self.models = models
        self.world = world or World()
        self.runtime: Runtime = FakeRuntime(self.world, "bench", models)
        self.stranger: Runtime = FakeRuntime(self.world, "stranger", models)
        cut = World()
        cut.take_down()
        self.unreachable: Runtime = FakeRuntime(cut, "bench", models)
        self.world.script(self.refused_image, Script(pull_refused=True))
        for act, (_, script) in ACTS.items():
            self.world.add_image(_image(act))
            self.world.script(_image(act), script)
        self.pause: Callable[[str], None] = self.world.pause
        self.end: Callable[[str], None] = self.world.end

    def spec(self, act: str, **changes: Any) -> ContainerSpec:
        return ContainerSpec(**{"image": _image(act), "argv": ("act", act), **changes})

    def name(self) -> str:
        return f"bench-{uuid.uuid4().hex[:12]}"

    def clear(self) -> None:
        """An imaginary host leaves nothing behind."""


def _image(act: str) -> str:
    return f"imaginary/{act.replace(' ', '-')}:1"


class DockerBench:
    missing_image = "cortex-test/missing:1"
    refused_image = "nowhere.invalid/cortex-test/refused:1"

    def __init__(self, models: Path) -> None:
        self.models = models
        self.image = busybox()
        self.install = f"bench-{uuid.uuid4().hex[:12]}"
        self.runtime: Runtime = DockerRuntime(SOCKET, self.install, models)
        self.stranger: Runtime = DockerRuntime(SOCKET, f"{self.install}-stranger", models)
        self.unreachable: Runtime = DockerRuntime(f"unix://{models}/nobody.sock", self.install, models)

    def spec(self, act: str, **changes: Any) -> ContainerSpec:
        return ContainerSpec(**{"image": self.image, "argv": ("sh", "-c", ACTS[act][0]), **changes})

    def name(self) -> str:
        return f"{self.install}-{uuid.uuid4().hex[:12]}"

    def pause(self, name: str) -> None:
        _docker("pause", name)

    def end(self, name: str) -> None:
        _docker("kill", name)

    def clear(self) -> None:
        for install in (self.install, f"{self.install}-stranger"):
            left = _docker("ps", "-aq", "--filter", f"label={Label.INSTALL}={install}").split()
            if left:
                _docker("rm", "-f", *left)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, check=True, text=True).stdout
