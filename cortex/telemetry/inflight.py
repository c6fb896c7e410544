"""Requests in flight by replica: the gateway counts them, and the loop waits for them before it stops one."""

from functools import cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings

KEPT = 60


@cache
def _client() -> Any:  # the client's own types cannot tell decoded answers
    return redis.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_timeout=2, socket_connect_timeout=1)


def key(replica: UUID) -> str:
    """A hash: each gateway process under a name of its own -> how many requests it has in flight there.

    A gateway writes it at each change, and at least every KEPT / 2 seconds while there are any, with
    EXPIRE key KEPT: what a dead gateway left ends by itself.
    """
    return f"cortex:inflight:{replica.hex}"


def count(replica: UUID) -> int:
    """Requests in flight, over all gateways. 0 when Redis cannot tell: what cannot be known is not waited for."""
    try:
        counts: dict[str, str] = _client().hgetall(key(replica))
    except redis.RedisError:
        return 0
    return sum(int(value) for value in counts.values() if value.isdigit())
