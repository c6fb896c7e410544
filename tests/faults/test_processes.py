"""Processes of Cortex that hang, come twice, have another time, no descriptors, or all start anew in any order."""

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from cortex.runtime.scene import Script
from tests.e2e.conftest import eventually
from tests.fakes import faketime
from tests.faults.parts import ROLES, SERVICES, Parts, parts
from tests.faults.record import Record

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.timeout(300)]

REBOOTS = 3


@pytest.fixture(scope="module")
def cortex() -> Iterator[Parts]:
    with parts() as cortex:
        yield cortex


@pytest.fixture
def serving(cortex: Parts) -> Iterator[Parts]:
    """With a model that serves; whatever was done to them, all processes run again afterwards."""
    assert cortex.define("tiny").is_success
    cortex.becomes("tiny", "serving")
    cortex.mark()
    yield cortex
    cortex.restore()
    eventually(cortex.answers)
    cortex.clear()


@pytest.mark.fault(36)
def test_a_hung_worker_is_seen_and_the_agent_does_its_work(serving: Parts, record: Record) -> None:
    serving.send(signal.SIGSTOP, "worker")
    assert serving.define("during").status_code == 201
    took = serving.becomes("during", "serving")
    done = serving.manage("healthy", "worker")
    assert done.returncode == 1
    serving.send(signal.SIGCONT, "worker")
    eventually(lambda: serving.manage("healthy", "worker").returncode == 0)
    assert serving.attempts() == 2
    record.saw(f"With the worker hung an order served after {took:.1f} s; its health check said so.")
    record.took(took, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(37)
def test_two_agents_and_two_beats_double_nothing_and_one_is_enough(serving: Parts, record: Record) -> None:
    serving.start("agent 2", "beat 2")
    time.sleep(3)
    for name in ("a", "b", "c"):
        assert serving.define(name).status_code == 201
    for name in ("a", "b", "c"):
        serving.becomes(name, "serving")
    assert (serving.attempts(), len(serving.containers())) == (4, 4)
    serving.kill("agent", "beat")
    serving.send(signal.SIGSTOP, "worker")
    took = serving.becomes("d", "serving") if serving.define("d").status_code == 201 else 0.0
    assert (serving.attempts(), len(serving.containers())) == (5, 5)
    record.saw(f"Four orders, four starts. One pair killed and the worker hung: the next served after {took:.1f} s.")
    record.saw("Nobody leads: every tick is idempotent.")
    record.took(took, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(38)
@pytest.mark.parametrize("offset", ["+2h", "-2h"])
def test_an_agent_two_hours_off_restarts_nothing_and_waits_by_the_databases_clock(
    serving: Parts, record: Record, offset: str
) -> None:
    serving.world.script("looping", Script(exit_after=0, exit_code=1))
    serving.send(signal.SIGSTOP, "worker")
    serving.kill("agent")
    serving.start("agent", environment=faketime.environment(offset))
    began = time.monotonic()
    assert serving.define("looping").status_code == 201
    eventually(lambda: serving.ask("SELECT count(*) FROM fleet_attempt WHERE ended_at IS NOT NULL") >= 2, 40)
    waits = serving.ask("SELECT extract(epoch FROM max(retry_at) - now()) FROM fleet_replica")
    assert 0 < waits < 300
    assert serving.ask("SELECT count(*) FROM fleet_attempt WHERE ended_at < queued_at OR started_at < queued_at") == 0
    assert serving.ask("SELECT count(*) FROM fleet_attempt a JOIN fleet_replica r ON r.id = replica_id"
                       " JOIN catalog_model m ON m.id = r.model_id WHERE m.name = 'tiny'") == 1  # fmt: skip
    ended = serving.ask("SELECT count(*) FROM fleet_attempt WHERE exit_code = 1")
    record.saw(f"{offset}: what served was left alone; who fails waits {waits:.0f} s more by the database's clock.")
    record.took(time.monotonic() - began, serving.calls(ended))
    record.checked(serving.violations())


@pytest.mark.fault(40)
def test_streams_that_take_every_descriptor_of_the_web_leave_the_loop_alone(serving: Parts, record: Record) -> None:
    serving.kill("web")
    serving.start("web", files=96)
    eventually(serving.answers)
    url = f"http://127.0.0.1:{serving.port}/api/v1/models/tiny/logs?follow=true"

    def watch(_: int) -> int:
        try:
            with httpx2.stream("GET", url, headers=serving.headers, timeout=8) as answer:
                time.sleep(6)
                return answer.status_code
        except httpx2.TransportError:
            return 0

    with ThreadPoolExecutor(150) as crowd:
        watching = crowd.map(watch, range(150))
        time.sleep(2)
        began = time.monotonic()
        serving.world.end(serving.containers()[0].name)
        eventually(lambda: serving.attempts() == 2 and serving.containers())
        took = time.monotonic() - began
        answers = list(watching)
    eventually(serving.answers)
    record.saw(f"Of 150 streams {answers.count(200)} were served, the others refused; the web answered again then.")
    record.saw(f"Meanwhile a container that was killed was back after {took:.1f} s.")
    record.took(took, serving.calls(ended=1))
    record.checked(serving.violations())


@pytest.mark.fault(40)
def test_an_agent_with_few_descriptors_goes_on(serving: Parts, record: Record) -> None:
    serving.send(signal.SIGSTOP, "worker")
    serving.kill("agent")
    serving.start("agent", files=32)
    names = [f"m{number}" for number in range(6)]
    began = time.monotonic()
    for name in names:
        assert serving.define(name).status_code == 201
    for name in names:
        serving.becomes(name, "serving", 60)
    took = time.monotonic() - began
    assert serving.processes["agent"].poll() is None
    record.saw(f"An agent with 32 descriptors, alone, started six models within {took:.0f} s.")
    record.took(took, serving.calls())
    record.checked(serving.violations())


def running(cortex: Parts) -> list[str]:
    """The models of the containers that run."""
    return [found.labels["cortex.model"] for found in cortex.containers()]


@pytest.mark.fault(45)
def test_after_a_reboot_it_converges_in_any_order_of_starts(serving: Parts, record: Record) -> None:
    assert serving.define("stopped", desired="stopped").status_code == 201
    slowest = 0.0
    for seed in range(REBOOTS):
        serving.kill(*ROLES, *SERVICES)
        for container in serving.containers():
            serving.world.end(container.name)
        order = random.Random(seed).sample([*ROLES, *SERVICES], len(ROLES) + len(SERVICES))
        for name in order:
            serving.start(name)
            time.sleep(0.5)
        began = time.monotonic()
        eventually(serving.answers, 60)
        eventually(lambda: running(serving) == ["tiny"], 60)
        serving.becomes("tiny", "serving", 60)
        slowest = max(slowest, time.monotonic() - began)
        assert running(serving) == ["tiny"]
    assert serving.ask("SELECT count(*) FROM fleet_attempt") <= 2 * REBOOTS + 1
    record.saw(f"{REBOOTS} power cuts, all processes and services started in an order drawn at random each time.")
    record.took(slowest, serving.calls(ended=REBOOTS))
    record.checked(serving.violations())


@pytest.mark.fault(46)
def test_migrations_come_while_an_agent_runs(serving: Parts, record: Record) -> None:
    before = [container.id for container in serving.containers()]
    back = serving.manage("migrate", "fleet", "0002", "--verbosity", "0")
    assert not back.returncode, back.stderr
    time.sleep(4)
    forward = serving.manage("migrate", "--verbosity", "0")
    assert not forward.returncode, forward.stderr
    began = time.monotonic()
    eventually(serving.answers)
    serving.becomes("tiny", "serving")
    assert [container.id for container in serving.containers()] == before
    assert serving.define("after").status_code == 201
    serving.becomes("after", "serving")
    record.saw(
        "On the tables of the version before, the processes of this one touched nothing; migrated, they went on."
    )
    record.took(time.monotonic() - began, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(48)
def test_a_key_revoked_while_it_watches(serving: Parts, record: Record) -> None:
    serving.start("gateway")
    models = f"http://127.0.0.1:{serving.door}/v1/models"
    eventually(lambda: status(models, serving.headers) == 200)
    made = serving.rest("POST", "keys", {"name": "short", "scopes": ["manage", "infer"]}).json()
    lent = {"Authorization": f"Bearer {made['secret']}"}
    assert status(models, lent) == 200
    url = f"http://127.0.0.1:{serving.port}/api/v1/models/tiny/logs?follow=true"
    eventually(lambda: "reading" in serving.rest("GET", "models/tiny/logs").text)
    with httpx2.stream("GET", url, headers=lent, timeout=40) as stream:
        assert stream.status_code == 200
        assert serving.rest("DELETE", f"keys/{made['id']}").status_code == 200
        began = time.monotonic()
        assert status(url, lent) == 401
        eventually(lambda: status(models, lent) == 401, 6)
        refused = time.monotonic() - began
        words = "".join(stream.iter_text())
        ended = time.monotonic() - began
    assert "may no longer watch" in words
    assert ended < 30
    assert serving.ask("SELECT revoked_at FROM access_apikey WHERE name = 'short'")
    record.saw(f"REST refused its next request at once, the gateway after {refused:.1f} s.")
    record.saw(f"The log it followed ended after {ended:.0f} s, with a word why; an answer under way is finished.")
    record.took(ended, serving.calls())
    record.checked(serving.violations())


def status(url: str, headers: dict[str, str]) -> int:
    """Of the answer's head; 0 where there is none."""
    try:
        with httpx2.stream("GET", url, headers=headers, timeout=5) as answer:
            return answer.status_code
    except httpx2.TransportError:
        return 0
