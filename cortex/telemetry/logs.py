"""What containers print, on its way to the doors: capped Redis streams, one a replica."""

import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings

logger = logging.getLogger("cortex.telemetry")

KEPT = 5000
KEPT_FOR = timedelta(days=30)
FROM_THE_START = "0-0"


@dataclass(frozen=True)
class Entry:
    """A line in a replica's stream; `id` orders entries and resumes a reader."""

    id: str
    stamp: int
    attempt: int
    text: str

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.stamp / 1e9, tz=UTC)


@cache
def _client() -> Any:  # the client's own types cannot tell decoded answers
    return redis.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_timeout=2, socket_connect_timeout=2)


def _key(replica: UUID) -> str:
    return f"cortex:logs:{replica.hex}"


def ship(replica: UUID, attempt: int, lines: Iterable[tuple[int, str]]) -> None:
    """Append lines, each with its stamp in nanoseconds since 1970. Raises redis.RedisError.

    Kept for KEPT_FOR after the last of them: that ends what drop() could not.
    """
    pipe = _client().pipeline(transaction=False)
    for stamp, text in lines:
        fields = {"stamp": stamp, "attempt": attempt, "text": text}
        pipe.xadd(_key(replica), fields, maxlen=KEPT, approximate=True)
    pipe.expire(_key(replica), KEPT_FOR)
    pipe.execute()


def drop(replica: UUID) -> None:
    """Forget what a replica that is no more has printed. Without Redis it ends by itself, later."""
    try:
        _client().delete(_key(replica))
    except redis.RedisError as error:
        logger.warning("The lines of replica %s stay in Redis for a while: %s", replica, error)


def tail(replica: UUID, count: int) -> list[Entry]:
    """The last `count` lines, oldest first. Raises redis.RedisError."""
    return [_entry(id, fields) for id, fields in reversed(_client().xrevrange(_key(replica), count=count))]


def last_stamp(replica: UUID, attempt: int) -> int | None:
    """The stamp of the last kept line of this attempt. Raises redis.RedisError."""
    return next((entry.stamp for entry in tail(replica, 1) if entry.attempt == attempt), None)


def after(replica: UUID, last: str, count: int = 1000) -> list[Entry]:
    """Lines that came after the entry `last`, oldest first. Raises redis.RedisError."""
    return [_entry(id, fields) for id, fields in _client().xrange(_key(replica), min=f"({last}", count=count)]


async def follow(replica: UUID, last: str) -> AsyncIterator[Entry]:
    """Lines after the entry `last`, as they come, without end. Raises redis.RedisError."""
    client: Any = redis.asyncio.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_connect_timeout=2)
    try:
        while True:
            for _, entries in await client.xread({_key(replica): last}, count=500, block=1000) or []:
                for id, fields in entries:
                    last = id
                    yield _entry(id, fields)
    finally:
        await client.aclose()


def _entry(id: str, fields: dict[str, str]) -> Entry:
    return Entry(id=id, stamp=int(fields["stamp"]), attempt=int(fields["attempt"]), text=fields["text"])
