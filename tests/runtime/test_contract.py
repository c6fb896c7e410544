"""What every runtime does: the same facts on the imaginary host and on Docker, so that the fake cannot drift."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cortex.runtime.contract import (
    Container,
    Effort,
    Event,
    Health,
    ImageMissing,
    ImageRefused,
    Label,
    NameTaken,
    NotFound,
    NotOurs,
    PullProgress,
    Runtime,
    SpecRefused,
    State,
    Unreachable,
)
from engines.contract import Mount, Probe
from tests.runtime.benches import Bench

GPU = "GPU-8f0c8a4e-1111-2222-3333-444455556666"


def made(bench: Bench, act: str = "sleep", **changes: object) -> str:
    return bench.runtime.create(bench.name(), bench.spec(act, **changes), {})


def started(bench: Bench, act: str = "sleep", **changes: object) -> str:
    container_id = made(bench, act, **changes)
    bench.runtime.start(container_id)
    return container_id


def look(bench: Bench, container_id: str) -> Container:
    found = bench.runtime.inspect(container_id)
    assert found is not None
    return found


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def ended(bench: Bench, container_id: str) -> Container:
    until(lambda: look(bench, container_id).state is State.EXITED)
    return look(bench, container_id)


def test_facts_tell_what_the_host_is(bench: Bench) -> None:
    facts = bench.runtime.facts()
    assert facts.name
    assert facts.version
    assert facts.cores >= 1
    assert facts.memory > 2**30


def test_a_created_container_is_found_and_has_no_address_yet(bench: Bench) -> None:
    container_id = made(bench)
    (found,) = bench.runtime.find()
    assert (found.id, found.state, found.address, found.exit_code) == (container_id, State.CREATED, None, None)
    assert found.created_at is not None
    assert found.started_at is None
    assert found.finished_at is None
    assert found.error == ""


def test_a_name_is_given_once(bench: Bench) -> None:
    name = bench.name()
    bench.runtime.create(name, bench.spec("sleep"), {})
    with pytest.raises(NameTaken):
        bench.runtime.create(name, bench.spec("sleep"), {})
    assert len(bench.runtime.find()) == 1


def test_of_many_who_create_one_name_at_once_one_wins(bench: Bench) -> None:
    name = bench.name()

    def attempt(_: int) -> str:
        try:
            return bench.runtime.create(name, bench.spec("sleep"), {})
        except NameTaken:
            return ""

    with ThreadPoolExecutor(8) as pool:
        won = [answer for answer in pool.map(attempt, range(8)) if answer]
    assert len(won) == 1
    assert [found.id for found in bench.runtime.find()] == won


def test_a_taken_name_tells_whose_it_is(bench: Bench) -> None:
    name = bench.name()
    bench.stranger.create(name, bench.spec("sleep"), {Label.REPLICA: "theirs"})
    with pytest.raises(NameTaken):
        bench.runtime.create(name, bench.spec("sleep"), {})
    found = bench.runtime.inspect(name)
    assert found is not None
    assert found.labels[Label.REPLICA] == "theirs"


def test_another_install_is_not_found(bench: Bench) -> None:
    bench.stranger.create(bench.name(), bench.spec("sleep"), {})
    assert bench.runtime.find() == []


@pytest.mark.parametrize(
    "touch",
    [
        lambda runtime, theirs: runtime.start(theirs),
        lambda runtime, theirs: runtime.stop(theirs, 1),
        lambda runtime, theirs: runtime.kill(theirs),
        lambda runtime, theirs: runtime.remove(theirs),
        lambda runtime, theirs: runtime.logs(theirs),
        lambda runtime, theirs: runtime.effort(theirs),
    ],
    ids=["start", "stop", "kill", "remove", "logs", "effort"],
)
def test_another_install_is_never_touched(bench: Bench, touch: Callable[[Runtime, str], object]) -> None:
    theirs = bench.stranger.create(bench.name(), bench.spec("sleep"), {})
    bench.stranger.start(theirs)
    with pytest.raises(NotOurs):
        touch(bench.runtime, theirs)
    assert look(bench, theirs).state is State.RUNNING


def test_labels_are_kept_and_the_install_cannot_be_forged(bench: Bench) -> None:
    labels = {Label.REPLICA: "r1", Label.TURN: "7", Label.INSTALL: "somebody-else"}
    bench.runtime.create(bench.name(), bench.spec("sleep"), labels)
    (found,) = bench.runtime.find()
    assert (found.labels[Label.REPLICA], found.labels[Label.TURN]) == ("r1", "7")
    assert found.labels[Label.INSTALL] != "somebody-else"


def test_an_unknown_name_is_none_and_the_beginning_of_an_id_is_unknown(bench: Bench) -> None:
    container_id = made(bench)
    assert bench.runtime.inspect(bench.name()) is None
    assert bench.runtime.inspect(container_id[:12]) is None
    assert look(bench, container_id).id == container_id


def test_start_runs_it_and_starting_again_does_nothing(bench: Bench) -> None:
    container_id = started(bench)
    first = look(bench, container_id)
    bench.runtime.start(container_id)
    assert look(bench, container_id) == first
    assert first.state is State.RUNNING
    assert first.started_at is not None
    assert first.exit_code is None


def test_what_is_gone_cannot_be_started(bench: Bench) -> None:
    container_id = made(bench)
    bench.runtime.remove(container_id)
    with pytest.raises(NotFound):
        bench.runtime.start(container_id)


def test_the_port_is_assigned_and_read_back_on_loopback(bench: Bench) -> None:
    addresses = {look(bench, started(bench)).address for _ in range(2)}
    assert len(addresses) == 2
    for address in addresses:
        assert address is not None
        host, _, port = address.partition(":")
        assert host == "127.0.0.1"
        assert int(port) > 1024


def test_the_exit_code_of_a_process_that_ends_is_kept(bench: Bench) -> None:
    found = ended(bench, started(bench, "exit"))
    assert (found.exit_code, found.oom_killed, found.address) == (3, False, None)
    assert found.finished_at is not None


def test_an_ended_container_can_be_started_again(bench: Bench) -> None:
    container_id = started(bench)
    bench.runtime.kill(container_id)
    bench.runtime.start(container_id)
    found = look(bench, container_id)
    assert (found.state, found.exit_code) == (State.RUNNING, None)


def test_what_eats_its_memory_is_seen_as_such(bench: Bench) -> None:
    found = ended(bench, started(bench, "eat", memory=32 * 2**20))
    assert (found.exit_code, found.oom_killed) == (137, True)


def test_what_somebody_kills_by_hand_is_seen_as_such(bench: Bench) -> None:
    container_id = started(bench)
    bench.end(look(bench, container_id).name)
    found = ended(bench, container_id)
    assert (found.exit_code, found.oom_killed) == (137, False)


def test_stop_lets_it_end_by_itself(bench: Bench) -> None:
    container_id = started(bench)
    before = time.monotonic()
    bench.runtime.stop(container_id, 30)
    assert time.monotonic() - before < 10
    assert (look(bench, container_id).state, look(bench, container_id).exit_code) == (State.EXITED, 143)


def test_stop_kills_what_will_not_end(bench: Bench) -> None:
    container_id = started(bench, "stubborn")
    until(lambda: bool(list(bench.runtime.logs(container_id))))
    before = time.monotonic()
    bench.runtime.stop(container_id, 1)
    assert 0.9 < time.monotonic() - before < 6
    assert look(bench, container_id).exit_code == 137


def test_stop_ends_a_paused_container(bench: Bench) -> None:
    container_id = started(bench)
    bench.pause(look(bench, container_id).name)
    assert look(bench, container_id).state is State.PAUSED
    bench.runtime.stop(container_id, 1)
    assert look(bench, container_id).state is State.EXITED


def test_kill_ends_a_paused_container(bench: Bench) -> None:
    container_id = started(bench)
    bench.pause(look(bench, container_id).name)
    bench.runtime.kill(container_id)
    assert ended(bench, container_id).exit_code == 137


def test_kill_ends_at_once(bench: Bench) -> None:
    container_id = started(bench, "stubborn")
    bench.runtime.kill(container_id)
    found = ended(bench, container_id)
    assert (found.exit_code, found.oom_killed) == (137, False)


def test_stop_and_kill_of_what_does_not_run_do_nothing(bench: Bench) -> None:
    container_id = made(bench)
    bench.runtime.stop(container_id, 1)
    bench.runtime.kill(container_id)
    assert look(bench, container_id).state is State.CREATED
    bench.runtime.start(container_id)
    bench.runtime.stop(container_id, 5)
    before = look(bench, container_id)
    bench.runtime.stop(container_id, 5)
    bench.runtime.kill(container_id)
    assert look(bench, container_id) == before


def test_stop_kill_and_remove_of_what_is_gone_do_nothing(bench: Bench) -> None:
    container_id = made(bench)
    bench.runtime.remove(container_id)
    bench.runtime.remove(container_id)
    bench.runtime.stop(container_id, 1)
    bench.runtime.kill(container_id)
    assert bench.runtime.find() == []


@pytest.mark.parametrize("act", ["sleep", "exit"])
def test_remove_leaves_nothing_and_frees_the_name(bench: Bench, act: str) -> None:
    name = bench.name()
    container_id = bench.runtime.create(name, bench.spec(act), {})
    bench.runtime.start(container_id)
    bench.runtime.remove(container_id)
    assert bench.runtime.inspect(name) is None
    assert bench.runtime.find() == []
    bench.runtime.create(name, bench.spec(act), {})


def test_a_failed_start_leaves_a_created_container_that_says_why(bench: Bench) -> None:
    weights = bench.models / "weights.gguf"
    weights.touch()
    container_id = made(bench, "unstartable", mounts=(Mount(source=str(weights), target="/etc"),))
    with pytest.raises(SpecRefused) as caught:
        bench.runtime.start(container_id)
    found = look(bench, container_id)
    assert found.state is State.CREATED
    assert found.exit_code in (127, 128)
    assert "OCI runtime create failed" in found.error
    assert caught.value.permanent
    bench.runtime.remove(container_id)
    assert bench.runtime.find() == []


def test_a_mount_that_vanishes_before_the_start_is_refused(bench: Bench) -> None:
    weights = bench.models / "weights.gguf"
    weights.touch()
    container_id = made(bench, mounts=(Mount(source=str(weights), target="/models/weights.gguf"),))
    weights.unlink()
    with pytest.raises(SpecRefused, match=r"weights\.gguf"):
        bench.runtime.start(container_id)
    assert look(bench, container_id).state is State.CREATED
    assert not weights.exists()


def test_a_missing_image_is_said_and_nothing_is_left(bench: Bench) -> None:
    with pytest.raises(ImageMissing):
        made(bench, image=bench.missing_image)
    assert bench.runtime.find() == []
    assert not bench.runtime.has_image(bench.missing_image)


@pytest.mark.parametrize(
    "source", ["/", "/etc", "/var/run/docker.sock", "{models}/../secret", "{models}/link", "models"]
)
def test_a_mount_outside_the_models_folder_is_refused_and_nothing_is_left(bench: Bench, source: str) -> None:
    (bench.models / "link").symlink_to("/etc")
    mount = Mount(source=source.format(models=bench.models), target="/models")
    with pytest.raises(SpecRefused, match="outside the models folder"):
        made(bench, mounts=(mount,))
    assert bench.runtime.find() == []


def test_a_missing_mount_is_refused_and_nothing_is_left(bench: Bench) -> None:
    missing = bench.models / "missing.gguf"
    with pytest.raises(SpecRefused, match=r"missing\.gguf"):
        made(bench, mounts=(Mount(source=str(missing), target="/models/missing.gguf"),))
    assert bench.runtime.find() == []
    assert not missing.exists()


def test_gpus_are_kept_by_uuid(bench: Bench) -> None:
    assert look(bench, made(bench, gpus=(GPU,))).gpus == (GPU,)
    assert look(bench, made(bench)).gpus == ()


@pytest.mark.parametrize("gpu", ["0", "all", "", "-1"])
def test_a_gpu_that_is_not_a_uuid_is_refused(bench: Bench, gpu: str) -> None:
    with pytest.raises(SpecRefused, match="UUID"):
        made(bench, gpus=(GPU, gpu))
    assert bench.runtime.find() == []


def test_log_lines_come_in_order(bench: Bench) -> None:
    container_id = started(bench, "greet")
    ended(bench, container_id)
    lines = list(bench.runtime.logs(container_id))
    assert [line.text for line in lines] == ["one", "two", "three"]
    assert [line.stamp for line in lines] == sorted({line.stamp for line in lines})
    assert abs(lines[0].at.timestamp() - time.time()) < 60


def test_a_log_goes_on_after_the_last_line_seen(bench: Bench) -> None:
    container_id = started(bench, "greet")
    ended(bench, container_id)
    first, second, third = bench.runtime.logs(container_id)
    assert list(bench.runtime.logs(container_id, since=first.stamp)) == [second, third]
    assert list(bench.runtime.logs(container_id, since=third.stamp)) == []


@pytest.mark.parametrize(("tail", "texts"), [(0, []), (2, ["two", "three"]), (9, ["one", "two", "three"])])
def test_the_tail_of_a_log(bench: Bench, tail: int, texts: list[str]) -> None:
    container_id = started(bench, "greet")
    ended(bench, container_id)
    assert [line.text for line in bench.runtime.logs(container_id, tail=tail)] == texts


def test_a_container_that_never_ran_has_an_empty_log(bench: Bench) -> None:
    assert list(bench.runtime.logs(made(bench))) == []


def test_what_is_gone_has_no_log(bench: Bench) -> None:
    container_id = made(bench)
    bench.runtime.remove(container_id)
    with pytest.raises(NotFound):
        bench.runtime.logs(container_id)


def test_following_a_log_ends_when_the_container_does(bench: Bench) -> None:
    container_id = started(bench, "greet and leave")
    with bench.runtime.logs(container_id, follow=True) as log:
        assert [line.text for line in log] == ["one", "two"]
    assert look(bench, container_id).state is State.EXITED


def test_a_follower_is_closed_from_another_thread(bench: Bench) -> None:
    container_id = started(bench, "greet and stay")
    log = bench.runtime.logs(container_id, follow=True)
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.extend(line.text for line in log))
    reader.start()
    until(lambda: len(texts) == 3)
    log.close()
    log.close()
    reader.join(1)
    assert not reader.is_alive()


def test_the_memory_that_a_container_takes_is_seen(bench: Bench) -> None:
    container_id = started(bench, "grow")
    until(lambda: bench.runtime.effort(container_id).memory > 24 * 2**20)
    assert bench.runtime.effort(container_id).read >= 0


def test_what_does_not_run_makes_no_effort(bench: Bench) -> None:
    container_id = made(bench, "grow")
    assert bench.runtime.effort(container_id) == Effort()
    bench.runtime.start(container_id)
    bench.runtime.kill(container_id)
    assert bench.runtime.effort(container_id) == Effort()
    bench.runtime.remove(container_id)
    with pytest.raises(NotFound):
        bench.runtime.effort(container_id)


def test_events_tell_what_happens_from_now_on_to_our_own(bench: Bench) -> None:
    before = bench.name()
    bench.runtime.create(before, bench.spec("sleep"), {})
    events = bench.runtime.events()
    heard: list[Event] = []
    listener = threading.Thread(target=lambda: heard.extend(events))
    listener.start()
    name = bench.name()
    bench.stranger.create(bench.name(), bench.spec("sleep"), {})
    container_id = bench.runtime.create(name, bench.spec("sleep"), {})
    bench.runtime.start(container_id)
    bench.runtime.kill(container_id)
    bench.runtime.remove(container_id)
    until(lambda: Event("destroy", name) in heard)
    events.close()
    listener.join(1)
    assert not listener.is_alive()
    assert {event.container_name for event in heard} == {name}
    assert [event.action for event in heard if event.action != "kill"] == ["create", "start", "die", "destroy"]


def test_an_image_that_cannot_be_had_is_said_soon(bench: Bench) -> None:
    progress: list[PullProgress] = []
    with pytest.raises((ImageRefused, Unreachable), match="image"):
        bench.runtime.pull(bench.refused_image, progress.append)
    assert progress == []
    assert not bench.runtime.has_image(bench.refused_image)


def test_the_image_of_a_container_is_there(bench: Bench) -> None:
    spec = bench.spec("sleep")
    assert bench.runtime.has_image(spec.image)
    assert look(bench, made(bench)).image == spec.image


def test_a_server_that_answers_is_ready(bench: Bench) -> None:
    found = look(bench, started(bench, "serve"))
    until(lambda: bench.runtime.probe(found, Probe()) is Health.READY)


def test_a_server_that_answers_503_is_loading(bench: Bench) -> None:
    found = look(bench, started(bench, "load"))
    until(lambda: bench.runtime.probe(found, Probe(path="/cgi-bin/health")) is Health.LOADING)


def test_a_server_that_says_nothing_is_silent(bench: Bench) -> None:
    container_id = made(bench, "silent")
    assert bench.runtime.probe(look(bench, container_id), Probe()) is Health.SILENT
    bench.runtime.start(container_id)
    found = look(bench, container_id)
    assert bench.runtime.probe(found, Probe()) is Health.SILENT
    bench.runtime.kill(container_id)
    assert bench.runtime.probe(found, Probe()) is Health.SILENT


@pytest.mark.parametrize(
    "ask",
    [
        lambda runtime: runtime.facts(),
        lambda runtime: runtime.find(),
        lambda runtime: runtime.inspect("x"),
        lambda runtime: runtime.start("x"),
        lambda runtime: runtime.stop("x", 1),
        lambda runtime: runtime.kill("x"),
        lambda runtime: runtime.remove("x"),
        lambda runtime: runtime.logs("x"),
        lambda runtime: runtime.effort("x"),
        lambda runtime: runtime.events(),
        lambda runtime: runtime.has_image("x"),
        lambda runtime: runtime.pull("x", print),
    ],
)
def test_an_engine_that_does_not_answer_leaves_the_outcome_unknown(
    bench: Bench, ask: Callable[[Runtime], object]
) -> None:
    with pytest.raises(Unreachable) as caught:
        ask(bench.unreachable)
    assert caught.value.unknown
    assert caught.value.remedy
