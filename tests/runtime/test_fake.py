"""The imaginary host: its clock, its faults, its file, its GPUs."""

import multiprocessing
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from cortex.runtime.contract import (
    Container,
    Health,
    ImageRefused,
    Label,
    NoGpuRuntime,
    PullProgress,
    State,
    Unreachable,
)
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from engines.contract import ContainerSpec, Probe

IMAGE = "imaginary/engine:1"
SPEC = ContainerSpec(image=IMAGE, argv=("serve",))
GPU = "GPU-one"


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    world = World(now=clock.now, sleep=clock.sleep)
    world.add_image(IMAGE)
    return world


@pytest.fixture
def runtime(world: World, tmp_path: Path) -> FakeRuntime:
    return FakeRuntime(world, "install", tmp_path)


def run(runtime: FakeRuntime, name: str = "x", spec: ContainerSpec = SPEC, model: str = "") -> Container:
    runtime.start(runtime.create(name, spec, {Label.MODEL: model}))
    return look(runtime, name)


def look(runtime: FakeRuntime, name: str = "x") -> Container:
    found = runtime.inspect(name)
    assert found is not None
    return found


def test_a_model_loads_as_long_as_its_script_says(runtime: FakeRuntime, world: World, clock: Clock) -> None:
    world.script(IMAGE, Script(load=30, silent_after=100))
    found = run(runtime)
    answers = []
    for _ in range(4):
        answers.append(runtime.probe(found, Probe()))
        clock.sleep(29)
    assert answers == [Health.LOADING, Health.LOADING, Health.READY, Health.READY]
    assert runtime.probe(found, Probe()) is Health.SILENT


def test_a_model_s_script_goes_before_its_image_s(runtime: FakeRuntime, world: World) -> None:
    world.script(IMAGE, Script(load=30))
    world.script("quick", Script())
    assert runtime.probe(run(runtime, "a", model="quick"), Probe()) is Health.READY
    assert runtime.probe(run(runtime, "b", model="slow"), Probe()) is Health.LOADING


def test_it_ends_when_its_script_says_even_if_nobody_looked(runtime: FakeRuntime, world: World, clock: Clock) -> None:
    world.script(IMAGE, Script(exit_after=60, exit_code=1, oom=True))
    begin = clock.now()
    run(runtime)
    clock.sleep(3600)
    found = look(runtime)
    assert (found.state, found.exit_code, found.oom_killed) == (State.EXITED, 1, True)
    assert found.finished_at == begin + timedelta(seconds=60)


def test_a_lost_answer_is_given_once_and_the_deed_is_done(runtime: FakeRuntime, world: World) -> None:
    world.lose_answer("create")
    with pytest.raises(Unreachable) as caught:
        runtime.create("x", SPEC, {})
    assert caught.value.unknown
    runtime.start(look(runtime).id)
    assert look(runtime).state is State.RUNNING


def test_a_host_that_is_down_answers_nothing_and_forgets_nothing(runtime: FakeRuntime, world: World) -> None:
    found = run(runtime)
    world.take_down()
    with pytest.raises(Unreachable):
        runtime.find()
    assert runtime.probe(found, Probe()) is Health.SILENT
    world.bring_up()
    assert runtime.find() == [found]


def test_calls_are_remembered_and_those_that_change_are_told_apart(runtime: FakeRuntime, world: World) -> None:
    found = run(runtime)
    runtime.find()
    runtime.probe(found, Probe())
    assert [call.verb for call in world.calls()] == ["create", "start", "inspect", "find", "probe"]
    assert [(call.verb, call.subject) for call in world.changes()] == [("create", "x"), ("start", found.id)]


def test_a_pull_takes_its_time_and_can_be_cancelled(runtime: FakeRuntime, world: World, clock: Clock) -> None:
    world.script("big:1", Script(pull_seconds=100, pull_size=1000))
    begin, progress = clock.now(), list[PullProgress]()
    runtime.pull("big:1", progress.append)
    assert clock.now() - begin == timedelta(seconds=100)
    assert progress[0] == PullProgress(100, 1000)
    assert progress[-1] == PullProgress(1000, 1000)
    assert runtime.has_image("big:1")

    def cancel(_: PullProgress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        runtime.pull("other:1", cancel)
    assert not runtime.has_image("other:1")


def test_an_image_may_be_refused(runtime: FakeRuntime, world: World) -> None:
    world.script("secret:1", Script(pull_refused=True))
    with pytest.raises(ImageRefused):
        runtime.pull("secret:1", print)


def test_a_host_without_gpu_support_leaves_a_failed_start(runtime: FakeRuntime, world: World) -> None:
    with world.open() as scene:
        scene.gpu_runtime = False
    container_id = runtime.create("x", SPEC.model_copy(update={"gpus": (GPU,)}), {})
    with pytest.raises(NoGpuRuntime):
        runtime.start(container_id)
    assert (look(runtime).state, look(runtime).exit_code) == (State.CREATED, 128)
    assert look(runtime).error


def test_imaginary_gpus_fill_while_containers_run(runtime: FakeRuntime, world: World) -> None:
    world.add_gpus(ImaginaryGpu(uuid=GPU, total=100, used=10), ImaginaryGpu(uuid="GPU-two", total=100))
    world.script(IMAGE, Script(gpu_memory=50))
    found = run(runtime, spec=SPEC.model_copy(update={"gpus": (GPU,)}))
    assert [card.used for card in world.gpus().cards] == [60, 0]
    runtime.kill(found.id)
    assert [card.used for card in world.gpus().cards] == [10, 0]


def test_a_gpu_that_is_not_there_is_not_given(runtime: FakeRuntime, world: World) -> None:
    world.add_gpus(ImaginaryGpu(uuid="GPU-two"))
    with pytest.raises(NoGpuRuntime, match=GPU):
        run(runtime, spec=SPEC.model_copy(update={"gpus": (GPU,)}))


def test_in_pretend_mode_all_containers_are_one_server(runtime: FakeRuntime, world: World) -> None:
    with world.open() as scene:
        scene.engine = "127.0.0.1:7777"
    assert {run(runtime, name).address for name in "ab"} == {"127.0.0.1:7777"}


def create_many(path: Path, models: Path, start: int, ready: Barrier) -> None:
    runtime = FakeRuntime(World(path), "install", models)
    ready.wait(30)
    for place in range(start, start + 20):
        runtime.create(f"c{place}", SPEC, {})


def test_a_world_in_a_file_is_one_for_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    world = World(path)
    world.add_image(IMAGE)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    workers = [context.Process(target=create_many, args=(path, tmp_path, start, ready)) for start in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = FakeRuntime(world, "install", tmp_path).find()
    assert {container.name for container in found} == {f"c{place}" for place in range(40)}
    assert len({container.id for container in found}) == 40
    assert len(world.changes()) == 40


def test_looking_at_a_shared_world_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    world = World(path)
    world.add_image(IMAGE)
    runtime = FakeRuntime(world, "install", tmp_path)
    found = run(runtime, "a")
    before = path.stat()
    runtime.find()
    runtime.inspect("a")
    runtime.probe(found, SPEC.probe)
    list(runtime.logs(found.id))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_one_process_does_to_a_shared_world_the_next_look_of_another_shows(tmp_path: Path) -> None:
    ours, theirs = World(tmp_path / "world.json"), World(tmp_path / "world.json")
    ours.add_image(IMAGE)
    runtime, other = FakeRuntime(ours, "install", tmp_path), FakeRuntime(theirs, "install", tmp_path)
    found = run(runtime, "a")
    for _ in range(20):
        theirs.end(found.id)
        assert [container.state for container in runtime.find()] == [State.EXITED]
        other.start(found.id)
        assert [container.state for container in runtime.find()] == [State.RUNNING]


def test_a_process_that_ends_in_a_shared_world_is_seen_by_one_who_only_looks(tmp_path: Path) -> None:
    world = World(tmp_path / "world.json")
    world.add_image(IMAGE)
    world.script(IMAGE, Script(exit_after=0.1, exit_code=3))
    runtime = FakeRuntime(world, "install", tmp_path)
    run(runtime, "a")
    time.sleep(0.15)
    assert [container.exit_code for container in runtime.find()] == [3]
