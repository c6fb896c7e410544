"""What gateways tell of first answers, in a real Redis, and without one."""

from datetime import UTC, datetime
from uuid import uuid4

import redis

from cortex.telemetry import firsts
from cortex.telemetry.firsts import Answered, Teller

REPLICA, OTHER = uuid4(), uuid4()
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> float:
    return BEGAN.timestamp() + seconds


async def tell(*answered: tuple[Answered, float]) -> None:
    teller = Teller(dict(answered))
    await teller.tell()
    await teller.close()


async def test_the_earliest_since_the_start_counts_over_all_gateways(broker: str) -> None:
    await tell(((REPLICA, "a:1"), at(-60)), ((OTHER, "a:2"), at(-1)))
    await tell(((REPLICA, "a:3"), at(9)))
    await tell(((REPLICA, "a:3"), at(7)))
    found = firsts.since({REPLICA: BEGAN, OTHER: BEGAN})
    assert {id: (moment - BEGAN).total_seconds() for id, moment in found.items()} == {REPLICA: 7.0}


async def test_what_was_told_is_not_told_again_until_it_left(broker: str) -> None:
    answered = {(REPLICA, "a:1"): at(1)}
    teller = Teller(answered)
    await teller.tell()
    with redis.Redis.from_url(broker) as client:
        client.flushall()
        await teller.tell()
        assert client.keys("*") == []
        answered.clear()
        await teller.tell()
        answered[REPLICA, "a:1"] = at(2)
        await teller.tell()
        assert client.zcard(firsts.key(REPLICA)) == 1
        assert 0 < client.ttl(firsts.key(REPLICA)) <= firsts.KEPT
    await teller.close()


async def test_without_redis_it_is_told_later() -> None:
    teller = Teller({(REPLICA, "a:1"): at(1)})
    await teller.tell()
    assert teller._told == set()
    await teller.close()
