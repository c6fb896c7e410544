"""Several imaginary hosts, looked at one after the other."""

from cortex.fleet.models import Replica
from cortex.orchestration import fsck, hosts
from cortex.orchestration.runtimes import Here
from cortex.orchestration.sweep import sweep
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.world import World
from tests.orchestration.conftest import Loop
from tests.orchestration.test_hosts import machine


class Fleet:
    """The hosts of a test, by name; the first is the one that is drained."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.time = loop, loop.time
        self.heres: dict[str, Here] = {loop.here.host.name: loop.here}

    def add(self, name: str) -> Here:
        self.heres[name] = machine(self.time, name)
        hosts.register(self.heres[name])
        return self.heres[name]

    def sweep(self, *names: str) -> None:
        for name in names or self.heres:
            here = self.heres[name]
            here.host.refresh_from_db()
            sweep(here)

    def settle(self, rounds: int = 8) -> None:
        for _ in range(rounds):
            self.time.pass_(1)
            self.sweep()

    def world(self, name: str) -> World:
        runtime = self.heres[name].runtime
        assert isinstance(runtime, FakeRuntime)
        return runtime._world

    def running(self, name: str) -> list[str]:
        """The models whose containers are on a host."""
        return sorted(found.labels["cortex.model"] for found in self.heres[name].runtime.find())

    def serving(self) -> list[str]:
        """Which replicas get requests, with their hosts."""
        rows = Replica.objects.serving().select_related("model", "host")
        return sorted(f"{row.model}/{row.slot} on {row.host}" for row in rows)

    def wrong(self) -> list[str]:
        found = fsck.rows()
        for here in self.heres.values():
            found += fsck.containers(here.host, here.runtime)
        return [str(each) for each in found]
