"""One replica, one imaginary host: the table of the house, acted out."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Replica, Seat
from cortex.fleet.states import Observed, Phase
from cortex.orchestration import orders
from cortex.runtime.contract import Label
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from cortex.telemetry import logs
from engines.contract import ContainerSpec
from tests.orchestration.conftest import CUDA_IMAGE, GIB, IMAGE, Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


def test_a_wanted_model_is_loading_then_ready(define: Define, loop: Loop, world: World, time: Time) -> None:
    world.script(IMAGE, Script(load=5))
    define()
    assert loop.look().observed == Observed.LOADING
    time.pass_(6)
    replica = loop.look()
    assert (replica.observed, replica.phase) == (Observed.READY, Phase.SERVING)
    assert replica.address
    attempt = replica.attempts.get()
    assert attempt.queued_at <= attempt.created_at <= attempt.started_at <= attempt.ready_at  # type: ignore[operator]


def test_a_settled_replica_costs_no_changing_call_and_no_transition(define: Define, loop: Loop, world: World) -> None:
    define()
    loop.look()
    loop.look()
    calls, transitions = len(world.changes()), loop.replica().transitions.count()
    loop.look()
    assert (len(world.changes()), loop.replica().transitions.count()) == (calls, transitions)


def test_a_stopped_model_leaves_no_container_and_no_seat(define: Define, loop: Loop, world: World) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    loop.look()
    assert Seat.objects.count() == 1
    orders.stop("tiny", None)
    replica = loop.look()
    assert (replica.observed, replica.phase, replica.reason) == (Observed.ABSENT, Phase.STOPPED, "Stopped.")
    assert loop.containers() == []
    assert Seat.objects.count() == 0
    assert Gpu.objects.get().reserved == 0
    assert replica.attempts.get().reason == "Stopped by order."
    assert replica.failures == 0


def test_a_model_removed_is_gone_once_its_container_is(define: Define, loop: Loop) -> None:
    define()
    loop.look()
    orders.remove("tiny", None)
    with pytest.raises(Replica.DoesNotExist):
        loop.look()
    assert not Model.objects.exists()
    assert not Replica.objects.exists()
    assert loop.containers() == []


def test_a_row_that_goes_takes_its_log_along(
    define: Define, loop: Loop, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    dropped: list[UUID] = []
    monkeypatch.setattr(logs, "drop", dropped.append)
    define(replicas=2)
    gone = loop.replica(slot=1).id
    with django_capture_on_commit_callbacks(execute=True):
        define(replicas=1)
        loop.look()
    assert dropped == [gone]


def test_the_name_of_a_removed_model_is_free_at_once(define: Define, loop: Loop) -> None:
    define()
    loop.look()
    orders.remove("tiny", None)
    assert define().turn == 1


def test_a_container_killed_after_serving_returns_at_once(define: Define, loop: Loop, world: World) -> None:
    define()
    loop.look()
    loop.look()
    world.end(loop.containers()[0], 137)
    replica = loop.look()
    assert replica.observed == Observed.READY
    first, second = replica.attempts.order_by("number")
    assert (first.exit_code, first.reason) == (137, "Something outside Cortex killed it (exit status 137).")
    assert second.ended_at is None


def test_a_crash_loop_backs_off_from_10_s_doubling_to_300_s(
    define: Define, loop: Loop, world: World, time: Time
) -> None:
    world.script(IMAGE, Script(load=60, exit_after=1, exit_code=1, lines=("something odd",)))
    define()
    delays = []
    for _ in range(8):
        loop.look()
        time.pass_(2)
        replica = loop.look()
        assert replica.observed == Observed.ABSENT
        assert replica.phase == Phase.FAILING
        assert replica.retry_at
        delays.append((replica.retry_at - time.now()).total_seconds())
        time.at = replica.retry_at
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    assert replica.reason == "The engine ended by itself with exit status 1. Its log says: something odd"


def test_a_configuration_error_stops_after_two_tries(define: Define, loop: Loop, world: World, time: Time) -> None:
    world.script(IMAGE, Script(load=60, exit_after=0, exit_code=1, lines=("error: invalid argument: --wrong",)))
    define()
    for _ in range(4):
        loop.look()
        time.pass_(400)
    replica = loop.look()
    assert replica.gave_up
    assert replica.attempts.count() == 2
    assert "--wrong" in replica.reason
    assert loop.containers() == []


def test_people_who_act_clear_the_verdict(define: Define, loop: Loop, world: World, time: Time) -> None:
    world.script(IMAGE, Script(load=60, exit_after=0, exit_code=1, lines=("error: invalid argument: --wrong",)))
    define()
    for _ in range(3):
        loop.look()
        time.pass_(400)
    world.script(IMAGE, Script())
    orders.start("tiny", None)
    assert loop.look().observed == Observed.READY
    assert loop.replica().failures == 0


def test_ten_minutes_of_ready_forgive(define: Define, loop: Loop, world: World, time: Time) -> None:
    define()
    loop.look()
    loop.look()
    world.end(loop.containers()[0], 1)
    loop.look()
    loop.look()
    assert loop.replica().failures == 1
    time.pass_(601)
    loop.look()
    assert loop.replica().failures == 0


@pytest.mark.parametrize("verb", ["create", "start", "stop", "remove"])
def test_a_lost_answer_neither_doubles_nor_loses_a_container(
    verb: Any, define: Define, loop: Loop, world: World
) -> None:
    define()
    if verb in ("stop", "remove"):
        loop.look()
        loop.look()
        orders.stop("tiny", None)
    world.lose_answer(verb)
    for _ in range(3):
        replica = loop.look()
    if verb in ("stop", "remove"):
        assert (replica.observed, loop.containers()) == (Observed.ABSENT, [])
    else:
        assert (replica.observed, len(loop.containers())) == (Observed.READY, 1)
    assert replica.attempts.count() == 1
    assert replica.failures == 0


def test_a_silent_host_is_unknown_and_nothing_is_touched(define: Define, loop: Loop, world: World) -> None:
    define()
    loop.look()
    loop.look()
    changes = len(world.changes())
    world.take_down()
    orders.stop("tiny", None)
    replica = loop.look()
    assert (replica.observed, replica.phase) == (Observed.UNKNOWN, Phase.UNKNOWN)
    assert "does not answer" in replica.reason
    assert len(world.changes()) == changes
    world.bring_up()
    assert loop.look().observed == Observed.ABSENT


def test_silence_three_times_in_a_row_restarts(define: Define, loop: Loop, world: World, time: Time) -> None:
    world.script(IMAGE, Script(silent_after=10))
    define()
    loop.look()
    loop.look()
    time.pass_(11)
    for _ in range(5):  # looks in quick succession count as one
        assert loop.look().observed == Observed.READY
    time.pass_(3)
    assert loop.look().observed == Observed.READY
    time.pass_(3)
    world.script(IMAGE, Script())
    with world.open() as scene:
        next(iter(scene.containers.values())).image = "silent"
        scene.scripts["silent"] = Script(silent_after=10)
    replica = loop.look()
    assert replica.attempts.count() == 2
    assert replica.attempts.last().reason == "Did not answer 3 times in a row."  # type: ignore[union-attr]


def test_a_start_that_misses_its_deadline_is_ended_and_counted(
    define: Define, loop: Loop, world: World, time: Time
) -> None:
    world.script(IMAGE, Script(load=1e6, lines=("still reading",)))
    define()
    loop.look()
    time.pass_(3600)
    replica = loop.look()
    assert replica.failures == 1
    attempt = replica.attempts.get()
    assert attempt.reason == "It did not become ready within 600 s, 10 times what its size explains."
    assert attempt.last_log == "still reading"
    assert loop.containers() == []


def test_a_changed_definition_replaces_the_container(define: Define, loop: Loop) -> None:
    define()
    loop.look()
    loop.look()
    before = loop.here.runtime.find()[0]
    define(options={"batch_size": 64})
    loop.settle()
    (after,) = loop.here.runtime.find()
    assert before.labels[Label.FINGERPRINT] != after.labels[Label.FINGERPRINT]
    assert loop.look().observed == Observed.READY


def test_a_change_that_leaves_the_container_alone_restarts_nothing(define: Define, loop: Loop) -> None:
    define()
    loop.look()
    loop.look()
    before = loop.here.runtime.find()[0].id
    define(replicas=2)
    loop.look()
    assert loop.here.runtime.find()[0].id == before


def test_restart_makes_a_new_container(define: Define, loop: Loop) -> None:
    define()
    loop.look()
    loop.look()
    before = loop.here.runtime.find()[0].id
    orders.restart("tiny", None)
    loop.settle()
    assert loop.look().observed == Observed.READY
    assert [container.id != before for container in loop.here.runtime.find()] == [True]
    assert loop.replica().failures == 0


def test_stop_wins_over_a_start_under_way(define: Define, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    define()
    create = loop.here.runtime.create

    def stop_meanwhile(*args: Any) -> str:
        made = create(*args)
        orders.stop("tiny", None)
        return made

    monkeypatch.setattr(loop.here.runtime, "create", stop_meanwhile)
    replica = loop.look()
    assert replica.observed == Observed.ABSENT
    assert loop.containers() == []
    assert replica.attempts.get().started_at is None


def test_a_model_too_large_waits_and_names_each_card(define: Define, loop: Loop, world: World) -> None:
    loop.card("GPU-0", total=1000)
    loop.card("GPU-1", total=48 * GIB, used=48 * GIB)
    define(gpus=1)
    replica = loop.look()
    assert replica.observed == Observed.ABSENT
    assert "GPU-0" in replica.reason
    assert "GPU-1" in replica.reason
    assert replica.failures == 0
    Gpu.objects.filter(uuid="GPU-1").update(used=0)
    world.add_gpus(ImaginaryGpu(uuid="GPU-1"))
    loop.time.pass_(6)
    assert loop.look().observed == Observed.READY


def test_no_gpu_runtime_is_the_hosts_condition(define: Define, loop: Loop, world: World) -> None:
    loop.card("GPU-0")
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    with world.open() as scene:
        scene.gpu_runtime = False
    define()
    replica = loop.look()
    assert (replica.observed, replica.failures) == (Observed.ABSENT, 0)
    loop.here.host.refresh_from_db()
    assert "GPU" in loop.here.host.gpu_condition
    assert loop.containers() == []


def test_a_model_on_cards_gets_them_by_uuid(define: Define, loop: Loop, world: World) -> None:
    loop.card("GPU-0")
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    loop.look()
    container = loop.here.runtime.find()[0]
    assert (container.gpus, container.image) == (("GPU-0",), CUDA_IMAGE)


def test_a_file_that_vanished_is_named_and_nothing_is_left(define: Define, loop: Loop, models_folder: Any) -> None:
    define()
    (models_folder / "tiny.gguf").unlink()
    replica = loop.look()
    assert replica.observed == Observed.ABSENT
    assert "tiny.gguf" in replica.reason
    assert not replica.attempts.filter(ended_at=None).exists()
    assert loop.containers() == []


def test_a_stranger_who_took_our_name_does_not_hide_what_runs_of_ours(define: Define, loop: Loop, world: World) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define()
    loop.settle()
    with world.open() as scene:
        (ours,) = scene.containers.values()
        ours.name = "renamed"
    stranger = FakeRuntime(world, "another", settings.ENV.cortex_models)
    stranger.create(loop.replica().container_name, ContainerSpec(image=IMAGE, argv=()), {Label.REPLICA: "other"})
    orders.stop("tiny", None)
    loop.look()
    assert (loop.containers(), len(stranger.find())) == ([], 1)
    assert not loop.replica().seats.exists()


def test_a_stranger_with_our_name_is_left_alone(define: Define, loop: Loop, world: World) -> None:
    define()
    stranger = FakeRuntime(world, "another", settings.ENV.cortex_models)
    spec = ContainerSpec(image=IMAGE, argv=())
    stranger.create(loop.replica().container_name, spec, {Label.REPLICA: "other"})
    replica = loop.look()
    assert replica.observed == Observed.ABSENT
    assert "not ours" in replica.reason
    assert stranger.find()
