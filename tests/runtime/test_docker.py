"""What only Docker can show: containers seen from inside, lost answers, cut and silent streams."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cortex.runtime.contract import NoGpuRuntime, State, Unreachable
from cortex.runtime.docker import DockerRuntime
from engines.contract import Mount
from tests.fakes.proxy import DockerProxy
from tests.runtime.benches import DockerBench
from tests.runtime.test_contract import ended, look, made, started, until

pytestmark = pytest.mark.docker


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DockerBench]:
    models = tmp_path / "models"
    models.mkdir()
    bench = DockerBench(models)
    try:
        yield bench
    finally:
        bench.clear()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[DockerProxy]:
    proxy = DockerProxy(tmp_path / "proxy.sock")
    try:
        yield proxy
    finally:
        proxy.close()


def through(proxy: DockerProxy, bench: DockerBench) -> DockerRuntime:
    return DockerRuntime(proxy.url, bench.install, bench.models, timeout=1, window=1, silence=1)


def said(bench: DockerBench, script: str, **changes: Any) -> list[str]:
    container_id = made(bench, argv=("sh", "-c", script), **changes)
    bench.runtime.start(container_id)
    ended(bench, container_id)
    return [line.text for line in bench.runtime.logs(container_id)]


def test_inside_there_are_no_privileges_and_no_gpus(bench: DockerBench) -> None:
    script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status; echo $NVIDIA_VISIBLE_DEVICES; grep ' /tmp ' /proc/mounts"
    caps, privileges, gpus, tmp = said(bench, script)
    assert int(caps.split()[1], 16) == 0
    assert privileges.split()[1] == "1"
    assert gpus == "void"
    assert "noexec" not in tmp
    assert "nosuid" in tmp


def test_mounted_models_can_be_read_and_not_written(bench: DockerBench) -> None:
    (bench.models / "a.gguf").write_text("weights")
    mounts = (Mount(source=str(bench.models), target="/models"),)
    lines = said(bench, "exec 2>&1; cat /models/a.gguf; echo; echo x >/models/a.gguf", mounts=mounts)
    assert lines[0] == "weights"
    assert any("Read-only" in line for line in lines)
    assert (bench.models / "a.gguf").read_text() == "weights"


def test_gpus_stay_in_the_host_configuration_by_uuid(bench: DockerBench) -> None:
    container_id = made(bench, gpus=("GPU-one", "GPU-two"))
    shown = subprocess.run(["docker", "inspect", container_id], capture_output=True, check=True).stdout
    (request,) = json.loads(shown)[0]["HostConfig"]["DeviceRequests"]
    assert request["DeviceIDs"] == ["GPU-one", "GPU-two"]


def test_a_container_with_gpus_runs_where_the_engine_gives_them(bench: DockerBench) -> None:
    container_id = made(bench, argv=("sh", "-c", "exit 0"), gpus=("GPU-one",))
    try:
        bench.runtime.start(container_id)
    except NoGpuRuntime:
        pytest.skip("this engine had no nvidia-container-runtime-hook on its PATH when it started")
    assert ended(bench, container_id).exit_code == 0


def test_a_command_that_does_not_exist_ends_at_once_and_says_so(bench: DockerBench) -> None:
    container_id = made(bench, argv=("/no/such/engine",))
    bench.runtime.start(container_id)
    assert ended(bench, container_id).exit_code == 127
    assert "/no/such/engine" in next(iter(bench.runtime.logs(container_id))).text


def test_a_line_without_end_is_one_line_of_4_kib(bench: DockerBench) -> None:
    lines = said(bench, "seq -s '' 1 30000; echo after")
    assert [len(line) for line in lines] == [4096, 5]


def test_a_lost_answer_to_create_is_unknown_and_the_container_is_there(bench: DockerBench, proxy: DockerProxy) -> None:
    name, runtime = bench.name(), through(proxy, bench)
    proxy.lose = "/containers/create"
    with pytest.raises(Unreachable) as caught:
        runtime.create(name, bench.spec("sleep"), {})
    assert caught.value.unknown
    found = runtime.inspect(name)
    assert found is not None
    assert found.state is State.CREATED


def test_a_lost_answer_to_start_is_unknown_and_the_container_runs(bench: DockerBench, proxy: DockerProxy) -> None:
    container_id, runtime = made(bench), through(proxy, bench)
    proxy.lose = "/start"
    with pytest.raises(Unreachable):
        runtime.start(container_id)
    until(lambda: look(bench, container_id).state is State.RUNNING)


@pytest.mark.parametrize("call", ["facts", "find", "events"])
def test_an_engine_that_hangs_costs_the_timeout(bench: DockerBench, proxy: DockerProxy, call: str) -> None:
    runtime = through(proxy, bench)
    runtime.facts()
    proxy.hold = "/v1."
    before = time.monotonic()
    with pytest.raises(Unreachable):
        getattr(runtime, call)()
    assert time.monotonic() - before < 4


def test_a_watch_of_events_ends_after_its_window(bench: DockerBench, proxy: DockerProxy) -> None:
    before = time.monotonic()
    assert list(through(proxy, bench).events()) == []
    assert time.monotonic() - before < 4


def test_a_cut_watch_of_events_ends(bench: DockerBench, proxy: DockerProxy) -> None:
    proxy.cut = ("/events", 300)
    runtime = DockerRuntime(proxy.url, bench.install, bench.models)
    events = runtime.events()
    started(bench)
    before = time.monotonic()
    assert len(list(events)) <= 2
    assert time.monotonic() - before < 5


def test_a_cut_log_is_not_taken_for_a_whole_one(bench: DockerBench, proxy: DockerProxy) -> None:
    container_id = started(bench, "greet")
    ended(bench, container_id)
    proxy.cut = ("/logs", 250)
    with pytest.raises(Unreachable):
        list(through(proxy, bench).logs(container_id))


def test_a_silent_log_is_asked_again_and_no_line_is_doubled(bench: DockerBench, proxy: DockerProxy) -> None:
    container_id = made(bench, argv=("sh", "-c", "echo one; sleep 3; echo two"))
    bench.runtime.start(container_id)
    with through(proxy, bench).logs(container_id, follow=True) as log:
        assert [line.text for line in log] == ["one", "two"]


def test_a_stop_may_take_longer_than_other_calls(bench: DockerBench, proxy: DockerProxy) -> None:
    container_id = started(bench, "stubborn")
    until(lambda: bool(list(bench.runtime.logs(container_id))))
    through(proxy, bench).stop(container_id, 2)
    assert look(bench, container_id).exit_code == 137


def test_the_port_is_published_on_the_configured_address(bench: DockerBench) -> None:
    runtime = DockerRuntime("unix:///var/run/docker.sock", bench.install, bench.models, bind="127.0.0.2")
    container_id = runtime.create(bench.name(), bench.spec("sleep"), {})
    runtime.start(container_id)
    address = look(bench, container_id).address
    assert address is not None
    assert address.startswith("127.0.0.2:")


def test_what_runs_on_is_inspected_once(bench: DockerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = started(bench), started(bench)
    inspected: list[str] = []
    look = DockerRuntime._look

    def counted(own: DockerRuntime, client: Any, name: str) -> Any:
        inspected.append(name)
        return look(own, client, name)

    monkeypatch.setattr(DockerRuntime, "_look", counted)
    seen = bench.runtime.find()
    assert sorted(inspected) == sorted([first, second])
    assert bench.runtime.find() == seen
    assert len(inspected) == 2


def test_what_changed_since_it_was_inspected_is_seen(bench: DockerBench) -> None:
    container_id = started(bench)
    (first,) = bench.runtime.find()
    subprocess.run(["docker", "rename", container_id, f"{first.name}-x"], check=True)
    (renamed,) = bench.runtime.find()
    assert renamed.name == f"{first.name}-x"
    subprocess.run(["docker", "restart", "-t", "0", container_id], check=True, capture_output=True)
    (again,) = bench.runtime.find()
    assert again.started_at != first.started_at
    assert again == bench.runtime.inspect(again.name)
    bench.pause(container_id)
    assert [found.state for found in bench.runtime.find()] == [State.PAUSED]
    bench.end(container_id)
    until(lambda: bench.runtime.find()[0].state is State.EXITED)
    assert bench.runtime.find()[0].exit_code == 137
    bench.runtime.remove(container_id)
    assert bench.runtime.find() == []
