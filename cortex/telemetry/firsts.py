"""When replicas answered for the first time: each gateway tells the moment, and the loop notes the earliest."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

logger = logging.getLogger("cortex.telemetry")

KEPT = 86_400
TOLD_EVERY = 1.0
Answered = tuple[UUID, str]


@cache
def _client() -> Any:  # the client's own types cannot tell decoded answers
    return redis.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_timeout=2, socket_connect_timeout=1)


def key(replica: UUID) -> str:
    """A sorted set of Unix times: a gateway adds one when a replica answers through it first, at one address."""
    return f"cortex:first:{replica.hex}"


def since(starts: Mapping[UUID, datetime]) -> dict[UUID, datetime]:
    """The first answer of each replica since it was started; those without one are left out. Raises RedisError."""
    with _client().pipeline(transaction=False) as batch:
        for replica, at in starts.items():
            batch.zrangebyscore(key(replica), at.timestamp(), "+inf", start=0, num=1)
        found = batch.execute()
    times = {replica: float(answers[0]) for replica, answers in zip(starts, found, strict=True) if answers}
    return {replica: datetime.fromtimestamp(at, tz=UTC) for replica, at in times.items()}


class Teller:
    """Tells the first answers of one gateway process: `firsts`, by replica and address, in Unix time.

    Requests never wait for it. Without Redis it is told later.
    """

    def __init__(self, firsts: Mapping[Answered, float]) -> None:
        self._firsts = firsts
        self._told: set[Answered] = set()
        retry = Retry(NoBackoff(), 1)
        url = settings.BROKER_URL
        self._redis: Any = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1, retry=retry)

    async def tell(self) -> None:
        """What was not told yet."""
        self._told &= self._firsts.keys()
        fresh = {answered: at for answered, at in self._firsts.items() if answered not in self._told}
        if not fresh:
            return
        try:
            async with self._redis.pipeline(transaction=False) as batch:
                for (replica, _), at in fresh.items():
                    batch.zadd(key(replica), {f"{at:.3f}": at})
                    batch.expire(key(replica), KEPT)
                await batch.execute()
        except redis.RedisError as error:
            logger.info("Redis does not answer; first answers are told later. %s", error)
            return
        self._told |= fresh.keys()

    async def close(self) -> None:
        await self._redis.aclose()
