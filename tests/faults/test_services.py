"""PostgreSQL and Redis restarted, hung, locked and emptied under a Cortex that runs, in its own processes."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psycopg
import pytest
import redis

from tests.e2e.conftest import eventually
from tests.faults.parts import Parts, parts
from tests.faults.record import Record

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.timeout(300)]

RECOVERS = 10.0
ANSWERS = 3.0


@pytest.fixture(scope="module")
def cortex() -> Iterator[Parts]:
    with parts() as cortex:
        yield cortex


@pytest.fixture
def serving(cortex: Parts) -> Iterator[Parts]:
    """With two models that serve."""
    for name in ("tiny", "other"):
        assert cortex.define(name).status_code == 201
    for name in ("tiny", "other"):
        cortex.becomes(name, "serving")
    cortex.mark()
    yield cortex
    cortex.clear()


def timed(cortex: Parts, method: str, path: str) -> tuple[float, httpx2.Response]:
    began = time.monotonic()
    answer = cortex.rest(method, path)
    return time.monotonic() - began, answer


@pytest.mark.fault(30)
def test_postgres_is_restarted(serving: Parts, record: Record) -> None:
    before = sorted(container.id for container in serving.containers())
    serving.stop_postgres()
    down, answer = timed(serving, "GET", "models")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
    assert sorted(container.id for container in serving.containers()) == before
    began = time.monotonic()
    serving.start("postgres")
    eventually(serving.answers, RECOVERS)
    took = time.monotonic() - began
    serving.rest("POST", "models/tiny/restart")
    eventually(lambda: serving.attempts() == 3)
    serving.becomes("tiny", "serving")
    eventually(lambda: len(serving.containers()) == 2, 40)
    record.saw(f"Without it REST said 503 after {down:.1f} s; it answered {took:.1f} s after the restart began.")
    record.saw("The containers stayed; an order given then was done once.")
    record.took(took, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(30)
def test_connections_are_cut_while_an_order_is_under_way(serving: Parts, record: Record) -> None:
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    began = time.monotonic()
    assert serving.rest("POST", "models/tiny/restart").status_code == 202
    ended = 0
    for _ in range(8):
        ended += serving.ask(f"{cut} AND backend_type = 'client backend'")
        time.sleep(0.4)
    eventually(lambda: serving.answers() and serving.attempts() == 3, 30)
    serving.becomes("tiny", "serving")
    eventually(lambda: len(serving.containers()) == 2, 40)
    record.saw(f"{ended} connections were cut, those with locks among them: the restart was done once.")
    record.took(time.monotonic() - began, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(31)
def test_a_table_is_locked(serving: Parts, record: Record) -> None:
    before = sorted(container.id for container in serving.containers())
    with psycopg.connect(f"postgresql://postgres@/postgres?host={serving.folder}") as locker:
        locker.execute("LOCK TABLE catalog_model, fleet_replica IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(12) as crowd:
            answers = list(crowd.map(lambda _: timed(serving, "GET", "models"), range(12)))
        waiting = serving.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        locker.rollback()
    assert {answer.status_code for _, answer in answers} == {503}
    slowest = max(seconds for seconds, _ in answers)
    assert slowest < 14
    began = time.monotonic()
    eventually(serving.answers, RECOVERS)
    serving.becomes("tiny", "serving")
    assert sorted(container.id for container in serving.containers()) == before
    record.saw(f"Twelve requests at once got 503 within {slowest:.0f} s; {waiting} sessions waited, none for ever.")
    record.took(time.monotonic() - began, serving.calls())
    record.checked(serving.violations())


def take_all(cortex: Parts, taken: list[psycopg.Connection]) -> None:
    while True:
        taken.append(psycopg.connect(f"postgresql://postgres@/postgres?host={cortex.folder}"))


@pytest.mark.fault(31)
def test_postgres_is_slow_and_then_has_no_connection_left(serving: Parts, record: Record) -> None:
    before = sorted(container.id for container in serving.containers())
    serving.wire.delay = 0.1
    slow, answer = timed(serving, "GET", "models")
    time.sleep(5)
    serving.wire.delay = 0.0
    assert answer.status_code == 200
    taken: list[psycopg.Connection] = []
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            take_all(serving, taken)
        full, crowded = timed(serving, "GET", "models")
        time.sleep(5)
    finally:
        for connection in taken:
            connection.close()
    assert crowded.status_code in (200, 503)
    assert full < 8
    began = time.monotonic()
    eventually(serving.answers, RECOVERS)
    serving.becomes("tiny", "serving")
    assert sorted(container.id for container in serving.containers()) == before
    record.saw(f"100 ms a packet: answered in {slow:.1f} s. No connection left: {crowded.status_code} in {full:.1f} s.")
    record.took(time.monotonic() - began, serving.calls())
    record.checked(serving.violations())


def ordered(cortex: Parts, name: str) -> tuple[float, float]:
    """Define a model; seconds until the door answered, and until it served."""
    began = time.monotonic()
    assert cortex.define(name).status_code == 201
    answered = time.monotonic() - began
    assert answered < ANSWERS
    eventually(lambda: any(name in found.labels.values() for found in cortex.containers()), 30)
    return answered, time.monotonic() - began


@pytest.mark.fault(32)
def test_redis_says_nothing(serving: Parts, record: Record) -> None:
    serving.send(signal.SIGSTOP, "redis")
    try:
        answered, started = ordered(serving, "during")
        page, log = timed(serving, "GET", "models/tiny/logs")
        assert (log.status_code, page < ANSWERS) == (200, True)
    finally:
        serving.send(signal.SIGCONT, "redis")
    back = serving.becomes("during", "serving")
    record.saw(f"Silent: the order was kept in {answered:.1f} s and its container ran {started:.1f} s after it.")
    record.took(started + back, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(32)
def test_redis_is_down_and_returns_empty(serving: Parts, record: Record) -> None:
    serving.kill("redis")
    answered, started = ordered(serving, "during")
    assert serving.rest("GET", "health").json()["checks"]["broker"]["ok"] is False
    serving.start("redis")
    with redis.Redis.from_url(serving.environment["BROKER_URL"]) as client:
        client.flushall()
    took, _ = ordered(serving, "after")
    serving.becomes("after", "serving")
    assert serving.rest("GET", "health").json()["checks"]["broker"]["ok"] is True
    assert len(serving.containers()) == 4
    record.saw(f"Down: the order was kept in {answered:.1f} s and its container ran after {started:.1f} s.")
    record.saw(f"Back and empty: the next order was taken in {took:.1f} s.")
    record.took(started, serving.calls())
    record.checked(serving.violations())


@pytest.mark.fault(32)
def test_redis_is_restarted_and_emptied_in_the_middle_of_tasks(serving: Parts, record: Record) -> None:
    began = time.monotonic()
    for _ in range(3):
        assert serving.rest("POST", "models/tiny/restart").status_code == 202
        serving.kill("redis")
        serving.start("redis")
        with redis.Redis.from_url(serving.environment["BROKER_URL"]) as client:
            client.flushall()
    turn = serving.ask("SELECT turn FROM catalog_model WHERE name = 'tiny'")
    reached = f"SELECT observed FROM fleet_replica r JOIN catalog_model m ON m.id = model_id AND r.turn = {turn}"
    eventually(lambda: serving.ask(f"{reached} WHERE name = 'tiny'") == "ready", 40)
    serving.becomes("tiny", "serving")
    eventually(lambda: len(serving.containers()) == 2, 40)
    record.saw("Three orders, the broker killed and emptied after each: the last one was obeyed.")
    record.took(time.monotonic() - began, serving.calls())
    record.checked(serving.violations())
