"""Two machines, each with its engine, worker and agent: placed across both, cut off, restarted, drained."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, eventually
from tests.e2e.fleet import Fleet, fleet
from tools import engine_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.docker,
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
]
SERVING = {"a": "serving", "b": "serving"}


@pytest.fixture(scope="module")
def two() -> Iterator[Fleet]:
    """Two machines, with two models on both."""
    with fleet(engine_image.ensure_llamacpp()) as made:
        for name in ("made", "other"):
            made.define(name)
        for name in ("made", "other"):
            made.wait(name, **SERVING)
        yield made


def test_replicas_are_placed_across_both_and_answer_through_one_gateway(two: Fleet) -> None:
    for host, replica in two.replicas("made").items():
        machine = two.machines[host]
        assert replica["address"].startswith(f"{machine.address}:")
        assert len(machine.running()) == 2
    before = two.answered()
    for _ in range(20):
        two.ask("made")
    after = two.answered()
    assert all(after[host] - before[host] > 2 for host in SERVING)


def test_a_machine_that_is_cut_off_costs_one_client_a_moment_and_is_left_alone_until_it_returns(two: Fleet) -> None:
    a, b = two.machines.values()
    there, began = b.running(), [b.began(container) for container in b.running()]
    b.cut()
    seconds = sorted(two.ask("made") for _ in range(30))
    assert seconds[-1] < 8
    assert seconds[-3] < 1
    assert two.rest.post("models/other/stop").is_success

    two.wait("made", a="serving", b="unknown")
    two.wait("other", a="stopped", b="unknown")
    assert "not been heard of" in two.replicas("made")["b"]["reason"]
    assert max(two.ask("made") for _ in range(30)) < 1
    assert (len(a.running()), b.running()) == (1, there)

    b.mend()
    two.wait("made", **SERVING)
    eventually(lambda: len(b.running()) == 1, 20)
    two.wait("other", a="stopped", b="stopped")
    left = b.running()
    assert set(left) < set(there)
    assert b.began(left[0]) in began
    assert {replica["attempt"]["number"] for replica in two.replicas("made").values()} == {1}


@pytest.mark.parametrize(("role", "host"), [("worker", "a"), ("agent", "b")])
def test_a_machine_does_its_work_with_either_of_its_processes_alone(two: Fleet, role: str, host: str) -> None:
    machine = two.machines[host]
    machine.kill(role)
    [before] = machine.running()
    machine.docker("kill", before)
    eventually(lambda: machine.running() not in ([], [before]), 30)
    two.wait("made", **SERVING)
    machine.start(role)


def test_an_engine_that_is_restarted_gets_its_models_back_and_the_other_machine_notices_nothing(two: Fleet) -> None:
    a, b = two.machines.values()
    assert two.rest.post("models/made/start").is_success  # what failed before is forgiven
    here = a.running()
    b.end("dockerd")
    assert two.ask("made") < 3
    b.start_engine()
    two.wait("made", **SERVING)
    assert (a.running(), len(b.running())) == (here, 1)


def test_a_machine_that_is_drained_hands_over_what_it_serves_without_losing_a_request(two: Fleet) -> None:
    a, b = two.machines.values()
    two.wait("made", **SERVING)
    over = threading.Event()

    def ask() -> int:
        count = 0
        while not over.is_set():
            two.ask("made")
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        people = [pool.submit(ask) for _ in range(2)]
        try:
            assert two.rest.patch("hosts/b", json={"draining": True}).is_success
            eventually(lambda: two.rest.get("hosts/b").json()["drain"]["staying"] == [], 60)
        finally:
            over.set()
        asked = sum(person.result() for person in people)
    assert asked > 10
    assert (len(a.running()), b.running()) == (2, [])
    drain = two.rest.get("hosts/b").json()["drain"]
    assert (drain["left"], drain["total"]) == (1, 1)
    before = a.running()
    assert two.rest.patch("hosts/b", json={"draining": False}).is_success
    two.define("third", replicas=1, placement={"hosts": ["b"]})
    two.wait("third", b="serving")
    assert a.running() == before


@pytest.mark.parametrize("role", ["worker", "agent"])
def test_a_machine_that_takes_a_name_twice_is_refused_with_a_reason(two: Fleet, tmp_path: Path, role: str) -> None:
    before = {name: machine.running() for name, machine in two.machines.items()}
    impostor = os.environ | two.machines["a"].environment | {"CORTEX_STATE": str(tmp_path)}
    del impostor["DOCKER_HOST"]
    command = [sys.executable, "manage.py", "serve", role]
    done = subprocess.run(command, env=impostor, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Two machines call themselves a" in done.stderr
    [host] = [row for row in two.rest.get("hosts").json()["items"] if row["name"] == "a"]
    assert "CORTEX_HOST_NAME" in host["condition"]
    assert {name: machine.running() for name, machine in two.machines.items()} == before
