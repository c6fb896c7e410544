"""Requests in flight by replica: the gateway counts them, and the loop waits for them before it stops one."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import redis
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

logger = logging.getLogger("cortex.telemetry")

KEPT = 60
WRITTEN_EVERY = 0.5


@cache
def _client() -> Any:  # the client's own types cannot tell decoded answers
    return redis.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_timeout=2, socket_connect_timeout=1)


def key(replica: UUID) -> str:
    """A hash: each gateway process under a name of its own -> how many requests it has in flight there, and for
    how many seconds the replica has said nothing to it.

    A gateway writes it at each change, and every WRITTEN_EVERY seconds while there are any, with
    EXPIRE key KEPT: what a dead gateway left ends by itself.
    """
    return f"cortex:inflight:{replica.hex}"


def count(replica: UUID) -> int:
    """Requests in flight, over all gateways. 0 when Redis cannot tell: what cannot be known is not waited for."""
    try:
        counts: dict[str, str] = _client().hgetall(key(replica))
    except redis.RedisError:
        return 0
    return sum(_read(value)[0] for value in counts.values())


def silences(replicas: Iterable[UUID]) -> dict[UUID, int]:
    """For how many seconds those that have requests in flight have said nothing, to any gateway.

    Empty when Redis cannot tell: what cannot be known is not held against anybody.
    """
    asked = list(replicas)
    try:
        with _client().pipeline(transaction=False) as batch:
            for replica in asked:
                batch.hvals(key(replica))
            told: list[list[str]] = batch.execute()
    except redis.RedisError:
        return {}
    waits = {replica: [_read(value) for value in values] for replica, values in zip(asked, told, strict=True)}
    return {replica: min(wait for _, wait in pairs) for replica, pairs in waits.items() if pairs}


def _read(value: str) -> tuple[int, int]:
    """Requests and seconds of silence, as a gateway wrote them."""
    count, _, silence = value.partition(" ")
    return int(count), int(silence or 0)


class Writer:
    """Tells the counts of one gateway process, `counts`, which holds no zeros; `changed` is set when it changes.

    `silence` says for how many seconds a replica has said nothing.

    Requests never wait for it. Without Redis nothing is told, and the log says so once.
    """

    def __init__(
        self, counts: Mapping[UUID, int], changed: asyncio.Event, silence: Callable[[UUID], float] = lambda _: 0.0
    ) -> None:
        self._counts, self._changed, self._silence = counts, changed, silence
        self._name = uuid4().hex
        self._told: set[UUID] = set()
        self._away = False
        retry = Retry(NoBackoff(), 1)  # once over a fresh connection: Redis may have been restarted since
        url = settings.BROKER_URL
        self._redis: Any = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1, retry=retry)

    async def follow(self) -> None:
        """Wait until there is something to tell, and tell it. What is in flight is told anew each time: it expires."""
        await self._changed.wait()
        self._changed.clear()
        await self._tell(dict(self._counts))
        if self._told:
            self._changed.set()

    async def close(self) -> None:
        """Nothing is in flight here any more."""
        await self._tell({})
        await self._redis.aclose()

    async def _tell(self, counts: dict[UUID, int]) -> None:
        over = self._told - counts.keys()
        self._told |= counts.keys()
        try:
            await self._write(counts, over)
        except redis.RedisError as error:
            if not self._away:
                logger.warning("Redis does not answer; a stop will not wait for requests in flight here. %s", error)
            self._away = True
            return
        if self._away:
            logger.warning("Redis answers again; a stop waits for requests in flight here.")
        self._told, self._away = set(counts), False

    async def _write(self, counts: dict[UUID, int], over: set[UUID]) -> None:
        if not counts and not over:
            return
        async with self._redis.pipeline() as batch:
            for replica, count in counts.items():
                batch.hset(key(replica), self._name, f"{count} {self._silence(replica):.0f}")
                batch.expire(key(replica), KEPT)
            for replica in over:
                batch.hdel(key(replica), self._name)
            await batch.execute()
