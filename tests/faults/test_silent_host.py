"""What people order of a host that does not answer: it is kept, said, and done when the host is back."""

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Replica
from cortex.fleet.states import Observed
from cortex.orchestration.sweep import sweep
from cortex.runtime.scene import ImaginaryGpu
from cortex.runtime.world import World
from tests.conftest import rest_client
from tests.faults.record import Record
from tests.orchestration.conftest import Loop, Time

Define = Callable[..., Model]

ANEW = {"engine": "llamacpp", "source": {"path": "tiny.gguf"}}

pytestmark = pytest.mark.django_db


@pytest.fixture
def rest(bob: Person) -> APIClient:
    return rest_client(bob)


@pytest.mark.fault(50)
def test_a_model_deleted_while_its_host_is_silent_stays_until_the_host_confirms(
    define: Define, loop: Loop, world: World, time: Time, rest: APIClient, record: Record
) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    assert loop.look().observed == Observed.READY
    world.take_down()
    sweep(loop.here)
    calls = len(world.changes())
    operation = rest.delete("/api/v1/models/tiny").json()["id"]
    for _ in range(3):
        sweep(loop.here)
        time.pass_(60)
    replica = Replica.objects.get()
    assert (replica.observed, replica.seats.count(), Gpu.objects.get().reserved > 0) == (Observed.UNKNOWN, 1, True)
    assert len(world.changes()) == calls
    told = rest.get(f"/api/v1/operations/{operation}").json()
    assert told["state"] == "pending"
    assert "Host test does not answer" in told["reason"]
    assert rest.put("/api/v1/models/tiny", ANEW, format="json").status_code == 201
    world.bring_up()
    with record.convergence(lambda: time.at.timestamp()):
        sweep(loop.here)
        sweep(loop.here)
    assert not Replica.objects.filter(id=replica.id).exists()
    assert (loop.containers(), Gpu.objects.get().reserved) == ([], 0)
    assert rest.get(f"/api/v1/operations/{operation}").json()["state"] == "done"
    record.saw(f"The row and the seat stayed; the order said: “{told['reason']}” The name was free at once.")
    record.saw("Back again, the host was asked to stop it, and all was gone after two sweeps.")
    record.check(loop.here)
