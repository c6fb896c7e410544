"""How far an order has come, and waiting for it."""

import time
from threading import BoundedSemaphore
from typing import Any

import pytest
from rest_framework.test import APIClient

from cortex.api import operations
from cortex.catalog.models import Model
from cortex.fleet.states import Observed
from tests.api import rows

TINY = "/api/v1/models/tiny"


@pytest.fixture
def started(as_bob: APIClient, tiny: dict[str, Any]) -> str:
    """The operation of a first start."""
    as_bob.put(TINY, tiny, format="json")
    return str(as_bob.post(f"{TINY}/start")["Location"])


def state(client: APIClient, operation: str) -> str:
    return str(client.get(operation).json()["state"])


def test_a_start_is_done_when_the_model_serves_this_turn(as_bob: APIClient, started: str) -> None:
    assert state(as_bob, started) == "pending"
    replica = rows.replica(Model.objects.get(), Observed.LOADING)
    rows.attempt(replica)
    assert state(as_bob, started) == "pending"
    replica.observe(Observed.READY, "It answers.", address="127.0.0.1:9")
    assert state(as_bob, started) == "done"


def test_a_restart_is_not_done_while_the_old_container_serves(as_bob: APIClient, started: str) -> None:
    replica = rows.replica(Model.objects.get(), Observed.READY)
    rows.attempt(replica, ended_at=rows.AT)
    restarted = as_bob.post(f"{TINY}/restart")["Location"]
    assert state(as_bob, restarted) == "pending"
    replica.model.refresh_from_db()
    replica.begin_turn()
    assert state(as_bob, restarted) == "pending"
    assert as_bob.get(TINY).json()["status"]["settled"] is False
    rows.attempt(replica, 2)
    assert state(as_bob, restarted) == "done"


def test_an_order_is_overtaken_by_the_next(as_bob: APIClient, started: str) -> None:
    as_bob.post(f"{TINY}/stop")
    assert state(as_bob, started) == "overtaken"


def test_an_order_of_a_model_that_was_removed_is_overtaken(as_bob: APIClient, started: str) -> None:
    as_bob.delete(TINY)
    Model.objects.all().delete()
    assert state(as_bob, started) == "overtaken"


def test_an_order_failed_when_the_loop_gave_up_and_says_the_remedy(as_bob: APIClient, started: str) -> None:
    replica = rows.replica(Model.objects.get(), Observed.ABSENT, failures=2, gave_up=True, reason="It exits at once.")
    rows.attempt(replica, remedy="Correct the options.", ended_at=rows.AT)
    answer = as_bob.get(started).json()
    assert (answer["state"], answer["remedy"]) == ("failed", "Correct the options.")
    assert as_bob.get(TINY).json()["status"]["replicas"][0]["remedy"] == "Correct the options."


@pytest.mark.parametrize(("failures", "told"), [(2, "pending"), (3, "failed"), (9, "failed")])
def test_an_order_that_fails_again_and_again_failed_whatever_the_next_try_does(
    as_bob: APIClient, started: str, failures: int, told: str
) -> None:
    replica = rows.replica(Model.objects.get(), Observed.LOADING, failures=failures, reason="Its process starts.")
    rows.attempt(replica, 1, reason="It ran out of memory.", remedy="Lower the context.", ended_at=rows.AT)
    rows.attempt(replica, 2)
    answer = as_bob.get(started).json()
    assert answer["state"] == told
    if told == "failed":
        assert f"{failures} times in a row" in answer["reason"]
        assert "It ran out of memory." in answer["reason"]
        assert answer["remedy"] == "Lower the context."


def test_failures_of_before_the_order_do_not_count(as_bob: APIClient, started: str) -> None:
    model = Model.objects.get()
    rows.replica(model, Observed.ABSENT, failures=9, gave_up=True, turn=model.turn - 1)
    assert state(as_bob, started) == "pending"


def test_a_wait_ends_as_soon_as_it_is_done(as_bob: APIClient, started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = rows.replica(Model.objects.get(), Observed.READY)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        rows.attempt(replica)

    monkeypatch.setattr("cortex.api.operations.time.sleep", sleep)
    assert as_bob.get(f"{started}?wait=30s").json()["state"] == "done"
    assert slept == [operations.LOOK_EVERY]


def test_a_wait_ends_when_its_time_is_up(as_bob: APIClient, started: str) -> None:
    begun = time.monotonic()
    assert as_bob.get(f"{started}?wait=0.7s").json()["state"] == "pending"
    assert 0.6 < time.monotonic() - begun < 3


def test_beyond_the_places_to_wait_the_answer_comes_at_once(
    as_bob: APIClient, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = BoundedSemaphore(1)
    full.acquire()
    monkeypatch.setattr(operations, "_places", full)
    begun = time.monotonic()
    assert as_bob.get(f"{started}?wait=30s").json()["state"] == "pending"
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("wait", ["soon", "-1", "1h", "1e3"])
def test_a_wait_that_is_no_time_is_refused(as_bob: APIClient, started: str, wait: str) -> None:
    assert as_bob.get(f"{started}?wait={wait}").json()["errors"][0]["pointer"] == "?wait"


def test_orders_tell_who_asked_for_what(as_bob: APIClient, started: str) -> None:
    items = as_bob.get(f"{TINY}/orders").json()["items"]
    assert [(item["verb"], item["by"], item["turn"]) for item in items] == [("start", "bob", 2), ("define", "bob", 1)]
    first = as_bob.get(f"{TINY}/orders?limit=1").json()
    assert as_bob.get(f"{TINY}/orders?cursor={first['next']}").json()["items"] == items[1:]
