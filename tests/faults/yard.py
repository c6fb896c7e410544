"""The loop by hand on the real Docker Engine, behind a proxy that loses and holds, with engines that misbehave."""

import json
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Install, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import orders
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.runtime.contract import Label
from tests.fakes.images import bad_engine
from tests.fakes.proxy import DockerProxy
from tests.orchestration.conftest import ByHand


class Yard(ByHand):
    """A host whose containers are real. `ahead` is how far its clock is ahead of the database's."""

    def __init__(self, here: Here, proxy: DockerProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(here)
        self.proxy = proxy
        self.ahead = 0.0
        real = clock.now
        monkeypatch.setattr(clock, "now", lambda: real() + timedelta(seconds=self.ahead))

    def now(self) -> float:
        """Seconds, with those that were skipped."""
        return time.monotonic() + self.ahead

    def define(self, name: str = "tiny", *flags: str, **more: Any) -> Model:
        """A model that is to run in the stand-in engine, with flags of its own."""
        data = {"name": name, "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "image": bad_engine()}
        options = {"extra_args": list(flags)}
        model, _ = orders.define({**data, "options": options, "desired": "running", **more}, None)
        settle(model.id)
        return model

    def until(self, observed: Observed, name: str = "tiny", seconds: float = 20.0) -> Replica:
        """Look again and again until the replica is so."""
        return self.look_until(lambda replica: replica.observed == observed, name, seconds)

    def look_until(self, good: Callable[[Replica], bool], name: str = "tiny", seconds: float = 20.0) -> Replica:
        until = time.monotonic() + seconds
        while True:
            replica = self.look(name)
            if good(replica):
                return replica
            assert time.monotonic() < until, f"after {seconds:.0f} s still {replica.observed}: {replica.reason}"
            time.sleep(0.1)

    def container(self, name: str = "tiny") -> str:
        """The name of its container."""
        return self.replica(name).container_name

    def changes(self) -> int:
        """How many calls asked for a change so far, of all processes."""
        return sum(line.startswith(("POST", "DELETE")) for line in self.proxy.heard)

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", container))[0]
        return found

    def clear(self) -> None:
        left = docker("ps", "-aq", "--filter", f"label={Label.INSTALL}={Install.identity()}").split()
        if left:
            docker("rm", "-f", *left)


def docker(*words: str) -> str:
    """What somebody does by hand on the host."""
    return subprocess.run(["docker", *words], capture_output=True, check=True, text=True).stdout.strip()
