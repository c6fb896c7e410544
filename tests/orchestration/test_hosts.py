"""Several hosts: whose name it is, who has the files, one that falls silent and many that do."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cortex.catalog.models import Model
from cortex.fleet.models import Host, Install, Lack, Replica
from cortex.fleet.states import Observed, Phase
from cortex.orchestration import hosts, identity, orders
from cortex.orchestration.identity import NameTaken
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.world import World
from tests.orchestration.conftest import CUDA_IMAGE, GIB, IMAGE, Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.ENV, "cortex_state", tmp_path)


def machine(time: Time, name: str) -> Here:
    """Another machine, with an engine of its own, that goes by this name."""
    world = World(now=time.now, sleep=time.pass_)
    world.add_image(IMAGE, CUDA_IMAGE)
    host, _ = Host.objects.get_or_create(name=name, defaults={"cores": 4, "memory": 8 * GIB})
    return Here(host, FakeRuntime(world, Install.identity(), settings.ENV.cortex_models.resolve()), world.gpus)


def elsewhere(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """From now on this process is on a machine with a state of its own."""
    state.mkdir()
    monkeypatch.setattr(settings.ENV, "cortex_state", state)


def sweep_of(here: Here) -> None:
    here.host.refresh_from_db()
    sweep(here)


def test_of_two_machines_with_one_name_the_second_is_refused_and_said_to_be(loop: Loop, time: Time) -> None:
    assert hosts.register(loop.here)
    impostor = machine(time, "test")
    with pytest.raises(NameTaken, match="CORTEX_HOST_NAME"):
        hosts.register(impostor)
    host = Host.objects.get()
    assert "Two machines" in host.trouble
    assert not host.condition
    time.pass_(200)
    assert not Host.objects.get().trouble


def test_an_impostor_starts_nothing_and_touches_no_row_even_when_a_task_reaches_it(
    define: Define, loop: Loop, time: Time, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    define()
    sweep(loop.here)
    elsewhere(monkeypatch, tmp_path / "impostor")
    impostor = machine(time, "test")
    before = Replica.objects.values().get()
    orders.restart("tiny", None)
    reconcile(loop.replica().id, impostor)
    assert Replica.objects.values().get() == before
    assert impostor.runtime.find() == []


def test_an_engine_that_was_swapped_under_us_proves_nothing_gone(
    define: Define, loop: Loop, time: Time, world: World
) -> None:
    define()
    sweep(loop.here)
    with world.open() as scene:
        scene.identity = "another"
        scene.containers.clear()
    reconcile(loop.replica().id, loop.here)
    assert loop.replica().observed == Observed.UNKNOWN
    assert "is not the machine" in loop.replica().reason
    assert loop.containers() == []


def test_a_silent_machines_name_is_free_once_nothing_can_run_there(
    define: Define, loop: Loop, time: Time, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    define()
    sweep(loop.here)
    time.pass_(60)
    elsewhere(monkeypatch, tmp_path / "newer")
    newer = machine(time, "test")
    with pytest.raises(NameTaken, match="may still run there"):
        hosts.register(newer)
    Replica.objects.update(observed=Observed.ABSENT)
    assert hosts.register(newer)
    assert Host.objects.get().machine == identity.machine(newer.runtime.facts())


def test_one_machine_under_two_names_is_refused_and_its_containers_are_no_strays(
    define: Define, loop: Loop, time: Time
) -> None:
    define()
    sweep(loop.here)
    renamed = Here(Host.objects.create(name="renamed"), loop.here.runtime, loop.here.cards)
    for _ in range(3):
        with pytest.raises(NameTaken, match="CORTEX_HOST_NAME=test"):
            sweep(renamed)
        time.pass_(600)
    assert len(loop.containers()) == 1


def test_a_silent_engine_is_reported_by_the_machine_whose_it_is_alone(
    loop: Loop, world: World, time: Time, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert hosts.register(loop.here)
    first = Host.objects.get().seen_at
    elsewhere(monkeypatch, tmp_path / "impostor")
    time.pass_(5)
    world.take_down()
    assert not hosts.register(loop.here)
    assert (Host.objects.get().condition, Host.objects.get().seen_at) == ("", first)
    monkeypatch.setattr(settings.ENV, "cortex_state", tmp_path)
    assert not hosts.register(loop.here)
    assert "does not answer" in Host.objects.get().condition
    assert Host.objects.get().seen_at == time.now()


def test_a_model_goes_where_its_files_are_and_does_not_come_back(
    define: Define, loop: Loop, time: Time, monkeypatch: pytest.MonkeyPatch, models_folder: Path, tmp_path: Path
) -> None:
    hosts.register(loop.here)
    define()
    other = machine(time, "zeta")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(settings.ENV, "cortex_models", tmp_path / "empty")
    assert loop.replica().host == loop.here.host
    reconcile(loop.replica().id, loop.here)
    assert loop.replica().host is None
    assert "no such file" in loop.replica().reason

    sweep_of(loop.here)
    assert "On host test, tiny.gguf" in loop.replica().reason
    assert loop.replica().phase is Phase.QUEUED
    for _ in range(3):
        monkeypatch.setattr(settings.ENV, "cortex_models", models_folder)
        hosts.register(other)
        settle(loop.replica().model_id)
        assert loop.replica().host == other.host
        monkeypatch.setattr(settings.ENV, "cortex_models", tmp_path / "empty")
        sweep_of(loop.here)
        assert loop.replica().host == other.host
    monkeypatch.setattr(settings.ENV, "cortex_models", models_folder)
    sweep_of(other)
    assert loop.replica().observed == Observed.READY
    assert loop.replica().attempts.count() == 1


def test_where_files_are_missing_a_second_guess_is_left_to_a_host_that_has_them(
    define: Define, loop: Loop, time: Time, models_folder: Path, made: Path
) -> None:
    define(gpus=1)
    replica = loop.replica()
    replica.wait(timedelta(0))
    loop.card()
    hosts.register(loop.here)
    (models_folder / "tiny.gguf").unlink()
    settle(replica.model_id)
    assert loop.replica().host is None
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())
    settle(replica.model_id)
    assert loop.replica().host == loop.here.host


def test_a_host_takes_back_what_it_lacks_when_the_files_come(
    define: Define, loop: Loop, models_folder: Any, made: Path
) -> None:
    define()
    (models_folder / "tiny.gguf").unlink()
    loop.look()
    assert Lack.objects.get().path == "tiny.gguf"
    loop.time.pass_(6)
    sweep(loop.here)
    assert loop.replica().host is None
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())
    sweep(loop.here)
    loop.time.pass_(6)
    sweep(loop.here)
    assert not Lack.objects.exists()
    assert loop.look().observed == Observed.READY


def rows_on(names: list[str], time: Time) -> None:
    """One replica, with nothing there, on each of these hosts."""
    model = Model.objects.create(name="m", engine="llamacpp", path="m.gguf", desired="running", replicas=len(names))
    for slot, name in enumerate(names):
        host = Host.objects.create(name=name, seen_at=time.now())
        Replica.objects.create(model=model, slot=slot, host=host)


def where(time: Time, *speaking: str) -> list[str]:
    """Where the replicas are to run a minute later, when only these hosts are heard of."""
    time.pass_(60)
    Host.objects.filter(name__in=speaking).update(seen_at=time.now())
    settle(Model.objects.get().id)
    return [replica.host.name for replica in Replica.objects.order_by("slot") if replica.host]


def test_one_host_that_falls_silent_loses_what_it_never_started(here: Here, time: Time) -> None:
    Host.objects.filter(id=here.host.id).delete()
    rows_on(["a", "b", "c", "d"], time)
    moved = where(time, "a", "b", "c")
    assert moved[:3] == ["a", "b", "c"]
    assert moved[3] != "d"


def test_many_hosts_that_fall_silent_at_once_lose_nothing(here: Here, time: Time) -> None:
    Host.objects.filter(id=here.host.id).delete()
    rows_on(["a", "b", "c", "d"], time)
    assert where(time, "a", "b") == ["a", "b", "c", "d"]
    Replica.objects.update(observed=Observed.READY)
    hosts.mark_silent()
    assert [replica.observed for replica in Replica.objects.order_by("slot")] == ["ready"] * 2 + ["unknown"] * 2
    assert "most others" in Replica.objects.get(slot=3).reason


def test_hosts_that_fell_silent_one_after_the_other_are_each_on_their_own(here: Here, time: Time) -> None:
    Host.objects.filter(id=here.host.id).delete()
    rows_on(["a", "b", "c"], time)
    where(time, "a", "b")
    assert set(where(time, "a")) == {"a"}
