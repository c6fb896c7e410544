"""Logs over REST: live from the broker, kept by the database."""

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.http import StreamingHttpResponse
from rest_framework.test import APIClient

from cortex.api.views import logs as view
from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from cortex.telemetry import logs
from tests.api import rows

TINY = "/api/v1/models/tiny"
LOGS = f"{TINY}/logs"


@pytest.fixture
def replica(as_bob: APIClient, tiny: dict[str, Any]) -> Replica:
    """With two attempts: the first ended, its last words kept."""
    as_bob.put(TINY, {**tiny, "desired": "running"}, format="json")
    replica = rows.replica(Model.objects.get(), Observed.READY)
    rows.attempt(replica, 1, ended_at=rows.AT, last_log="one\ntwo\nthree")
    rows.attempt(replica, 2, last_log="kept")
    return replica


def ship(replica: UUID, attempt: int, *lines: str) -> None:
    logs.ship(replica, attempt, [(time.time_ns(), line) for line in lines])


def test_the_log_is_the_latest_attempts(as_bob: APIClient, replica: Replica, broker: str) -> None:
    ship(replica.id, 1, "old")
    ship(replica.id, 2, "a", "b", "c")
    answer = as_bob.get(f"{LOGS}?tail=2", HTTP_ACCEPT="text/plain")
    assert (answer.content.decode(), answer["X-Log-Source"]) == ("b\nc\n", "live")
    assert answer["Content-Type"].startswith("text/plain")
    assert as_bob.get(f"{LOGS}?previous=1").content == b"old\n"
    assert as_bob.get(f"{LOGS}?tail=0").content == b""


def test_what_the_broker_forgot_the_database_kept(as_bob: APIClient, replica: Replica, broker: str) -> None:
    answer = as_bob.get(f"{LOGS}?previous=true&tail=2")
    assert (answer.content.decode(), answer["X-Log-Source"]) == ("two\nthree\n", "kept")


def test_a_broker_that_is_down_leaves_what_was_kept(as_bob: APIClient, replica: Replica) -> None:
    logs._client.cache_clear()
    assert as_bob.get(LOGS).content == b"kept\n"
    logs._client.cache_clear()


def test_a_model_without_a_replica_has_no_log_yet(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, tiny, format="json")
    answer = as_bob.get(LOGS, HTTP_ACCEPT="text/plain")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert "start" in answer.json()["detail"]


async def test_following_goes_on_where_the_tail_ends(monkeypatch: pytest.MonkeyPatch, broker: str) -> None:
    replica = uuid4()
    ship(replica, 1, "before")
    last = logs.tail(replica, 1)[0].id
    stream = view._follow(replica, view.Log(["before"], last, live=True))
    assert await anext(stream) == "before\n"
    ship(replica, 1, "after")
    assert await asyncio.wait_for(anext(stream), 5) == "after\n"
    await stream.aclose()


async def test_following_without_a_broker_ends_with_a_word() -> None:
    replica = uuid4()
    lines = [line async for line in view._follow(replica, view.Log(["kept"], None, live=False))]
    assert lines == ["kept\n", view.OUT_OF_REACH]
    lines = [line async for line in view._follow(replica, view.Log(["kept"], "0-0", live=True))]
    assert lines == ["kept\n", view.OUT_OF_REACH]


def test_following_is_a_stream(as_bob: APIClient, replica: Replica, broker: str) -> None:
    answer = as_bob.get(f"{LOGS}?follow=1")
    assert isinstance(answer, StreamingHttpResponse)
    assert answer.is_async
    answer.close()


def test_attempts_tell_times_exit_facts_and_last_words(as_bob: APIClient, replica: Replica) -> None:
    items = as_bob.get(f"{TINY}/attempts").json()["items"]
    assert [(item["number"], item["replica"], item["last_log"]) for item in items] == [
        (2, 0, "kept"),
        (1, 0, "one\ntwo\nthree"),
    ]
    assert as_bob.get(f"{TINY}/attempts?replica=1").json()["items"] == []
