"""What containers print, on its way to the doors: capped Redis streams, one a replica."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings

KEPT = 5000
FROM_THE_START = "0-0"


@dataclass(frozen=True)
class Entry:
    """A line in a replica's stream; `id` orders entries and resumes a reader."""

    id: str
    at: datetime
    attempt: int
    text: str


@cache
def _client() -> "redis.Redis[str]":
    return redis.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_timeout=5, socket_connect_timeout=2)


def _key(replica: UUID) -> str:
    return f"cortex:logs:{replica.hex}"


def ship(replica: UUID, attempt: int, lines: Iterable[tuple[datetime, str]]) -> None:
    """Append lines. Raises redis.RedisError."""
    pipe = _client().pipeline(transaction=False)
    for at, text in lines:
        fields = {"at": at.isoformat(), "attempt": attempt, "text": text}
        pipe.xadd(_key(replica), fields, maxlen=KEPT, approximate=True)
    pipe.execute()


def tail(replica: UUID, count: int) -> list[Entry]:
    """The last `count` lines, oldest first. Raises redis.RedisError."""
    return [_entry(id, fields) for id, fields in reversed(_client().xrevrange(_key(replica), count=count))]


def last_at(replica: UUID, attempt: int) -> datetime | None:
    """When the last kept line of this attempt was printed. Raises redis.RedisError."""
    return next((entry.at for entry in tail(replica, 1) if entry.attempt == attempt), None)


def after(replica: UUID, last: str, count: int = 1000) -> list[Entry]:
    """Lines that came after the entry `last`, oldest first. Raises redis.RedisError."""
    return [_entry(id, fields) for id, fields in _client().xrange(_key(replica), min=f"({last}", count=count)]


def forget(replica: UUID) -> None:
    """Drop the stream of a replica that is no more. Raises redis.RedisError."""
    _client().delete(_key(replica))


async def follow(replica: UUID, last: str) -> AsyncIterator[Entry]:
    """Lines after the entry `last`, as they come, without end. Raises redis.RedisError."""
    client = redis.asyncio.Redis.from_url(settings.BROKER_URL, decode_responses=True, socket_connect_timeout=2)
    try:
        while True:
            for _, entries in await client.xread({_key(replica): last}, count=500, block=1000) or []:
                for id, fields in entries:
                    last = id
                    yield _entry(id, fields)
    finally:
        await client.aclose()


def _entry(id: str, fields: dict[str, str]) -> Entry:
    return Entry(id=id, at=datetime.fromisoformat(fields["at"]), attempt=int(fields["attempt"]), text=fields["text"])
