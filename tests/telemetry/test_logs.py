"""Lines in a real Redis end with their replica, and without one nobody stumbles."""

from uuid import uuid4

import pytest
import redis
from django.conf import settings

from cortex.telemetry import logs

REPLICA = uuid4()


def test_lines_are_kept_for_a_while_after_the_last_of_them(broker: str) -> None:
    logs.ship(REPLICA, 1, [(1, "one")])
    with redis.Redis.from_url(broker) as client:
        [key] = client.keys("*")
        client.expire(key, 5)
        logs.ship(REPLICA, 1, [(2, "two")])
        assert client.ttl(key) > logs.KEPT_FOR.total_seconds() - 60


def test_what_is_dropped_is_gone_and_the_others_stay(broker: str) -> None:
    other = uuid4()
    logs.ship(REPLICA, 1, [(1, "one")])
    logs.ship(other, 1, [(1, "other")])
    logs.drop(REPLICA)
    assert logs.tail(REPLICA, 9) == []
    assert [entry.text for entry in logs.tail(other, 9)] == ["other"]


def test_without_redis_a_drop_says_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "BROKER_URL", "redis://127.0.0.1:1/0")
    logs._client.cache_clear()
    logs.drop(REPLICA)
    assert "stay in Redis for a while" in caplog.text
    logs._client.cache_clear()
