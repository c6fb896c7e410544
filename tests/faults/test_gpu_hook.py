"""Docker's GPU hook missing, failing, slow: on an engine of one's own."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings

from cortex.catalog.models import Model
from cortex.fleet.models import Host, Install, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import hosts
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.runtime.docker import DockerRuntime
from tests.fakes.engine import STAYS, OwnEngine, own_engine
from tests.faults.record import Record
from tests.orchestration.conftest import Loop, Time

Define = Callable[..., Model]
CARD = "GPU-00000000-0000-0000-0000-000000000000"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.django_db,
    pytest.mark.timeout(200),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "dockerd"))),
        reason="a Docker Engine of one's own needs root, iproute2, util-linux and dockerd",
    ),
]


@pytest.fixture
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        engine.add_image()
        yield engine


@pytest.mark.fault(28)
def test_the_gpu_hook_is_the_hosts_condition_and_burns_no_backoff(
    define: Define, loop: Loop, time: Time, engine: OwnEngine, record: Record
) -> None:
    runtime = DockerRuntime(engine.url, Install.identity(), settings.ENV.cortex_models.resolve(), timeout=3)
    here = Here(loop.here.host, runtime, loop.here.cards)
    loop.card(CARD)

    def look() -> Replica:
        time.pass_(31)
        hosts.register(here)
        reconcile(loop.replica().id, here)
        return loop.replica()

    define(gpus=1, image=STAYS)
    for script in ("echo 'nvml error: driver not loaded' >&2; exit 1", "exit 1", None):
        engine.hook(script)
        replica = look()
        assert "cannot give GPUs to containers" in replica.reason, replica.reason
        assert (replica.observed, replica.failures, replica.gave_up) == (Observed.ABSENT, 0, False)
        assert "cannot give GPUs" in Host.objects.get().toolkit_condition
        assert runtime.find() == []
        record.saw(f"{script or 'Missing'}: “{replica.reason[:150]}” Nothing was counted against the model.")
    engine.hook("sleep 5")
    with record.convergence():
        look()
        assert loop.replica().failures == 0
        for _ in range(4):
            replica = look()
    assert (replica.observed, replica.failures) == (Observed.LOADING, 0), replica.reason
    assert Host.objects.get().toolkit_condition == ""
    assert [container.gpus for container in runtime.find()] == [(CARD,)]
    record.saw("Slower than the call may take: unknown at first, then its container was seen and kept.")
    for container in runtime.find():
        runtime.remove(container.id)
    look()
    record.check(here)
