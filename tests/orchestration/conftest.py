"""A host that is imaginary, a database that is not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Install, Replica
from cortex.orchestration import hosts, orders
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.world import World
from engines import engine
from tools import made_model

IMAGE = engine("llamacpp").image_for(gpus=False)
CUDA_IMAGE = engine("llamacpp").image_for(gpus=True)
GIB = 1 << 30
ROOT = Path(__file__).parents[2]


class Time:
    """A clock that goes when it is told to: the world's, and that of everything kept."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clock, "now", time.now)
    return time


@pytest.fixture
def world(time: Time) -> World:
    world = World(now=time.now, sleep=time.pass_)
    world.add_image(IMAGE, CUDA_IMAGE)
    return world


@pytest.fixture
def here(db: None, world: World, time: Time) -> Here:
    host = Host.objects.create(name="test", cores=4, memory=8 * GIB, seen_at=time.now())
    models = settings.ENV.cortex_models.resolve()
    return Here(host, FakeRuntime(world, Install.identity(), models), world.gpus)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole GGUF, made once."""
    return made_model.write(tmp_path_factory.mktemp("made"), made_model.Shape(layers=1, vocab=1024, feed_forward=64))


@pytest.fixture
def define(models_folder: Path, made: Path, here: Here) -> Callable[..., Model]:
    """Define a model of the made file, and settle its rows."""
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())

    def define(name: str = "tiny", **more: Any) -> Model:
        data = {"name": name, "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "desired": "running", **more}
        model, _ = orders.define(data, None)
        settle(model.id)
        return model

    return define


class ByHand:
    """The loop by hand: what agents and workers do, when a test says so."""

    def __init__(self, here: Here) -> None:
        self.here = here

    def replica(self, name: str = "tiny", slot: int = 0) -> Replica:
        rows = Replica.objects.select_related("model", "host")
        return rows.get(model__name=name, slot=slot, replaces=None, called_off=False)

    def look(self, name: str = "tiny", slot: int = 0) -> Replica:
        """The host says that it lives, then one reconcile; the replica as it is then."""
        hosts.register(self.here)
        model = Model.objects.get(name=name)
        settle(model.id)
        replica = Replica.objects.filter(model=model, slot=slot, replaces=None).first()
        if replica is None:
            raise LookupError("the row is gone")
        reconcile(replica.id, self.here)
        return self.replica(name, slot)

    def containers(self) -> list[str]:
        return [container.name for container in self.here.runtime.find()]

    def card(self, uuid: str = "GPU-0", total: int = 48 * GIB, **more: Any) -> Gpu:
        return Gpu.objects.create(uuid=uuid, host=self.here.host, name="L40S", total=total, **more)


class Loop(ByHand):
    """The same on an imaginary host, whose clock the test moves."""

    def __init__(self, here: Here, world: World, time: Time) -> None:
        super().__init__(here)
        self.world, self.time = world, time

    def settle(self, rounds: int = 8) -> None:
        """Sweep until nothing is left to do, as time goes by."""
        for _ in range(rounds):
            self.time.pass_(1)
            sweep(self.here)


@pytest.fixture
def loop(here: Here, world: World, time: Time) -> Loop:
    return Loop(here, world, time)
