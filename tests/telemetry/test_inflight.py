"""What the gateways tell of their requests in flight, in a real Redis, and without one."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import redis

from cortex.telemetry import inflight
from cortex.telemetry.inflight import Writer

REPLICA = uuid4()


class Told:
    """A writer, and the counts it follows."""

    def __init__(self) -> None:
        self.counts: Counter[UUID] = Counter()
        self.changed = asyncio.Event()
        self.silence = 0.0
        self.writer = Writer(self.counts, self.changed, lambda _: self.silence)

    async def say(self, count: int) -> None:
        self.counts[REPLICA] = count
        if not count:
            del self.counts[REPLICA]
        self.changed.set()
        await self.writer.follow()


@asynccontextmanager
async def gateway() -> AsyncIterator[Told]:
    told = Told()
    yield told
    await told.writer.close()


async def test_the_counts_of_all_gateways_are_added_up(broker: str) -> None:
    async with gateway() as one, gateway() as other:
        await one.say(2)
        await other.say(3)
        assert inflight.count(REPLICA) == 5
        await one.say(1)
        assert inflight.count(REPLICA) == 4


async def test_a_replica_is_silent_for_as_long_as_it_said_nothing_to_anybody(broker: str) -> None:
    async with gateway() as one, gateway() as other:
        one.silence, other.silence = 130.4, 20.0
        await one.say(2)
        assert inflight.silences([REPLICA]) == {REPLICA: 130}
        await other.say(1)
        assert inflight.silences([REPLICA]) == {REPLICA: 20}
        assert inflight.count(REPLICA) == 3


async def test_where_nothing_is_in_flight_nobody_is_silent(broker: str) -> None:
    async with gateway() as one:
        one.silence = 130.0
        await one.say(1)
        await one.say(0)
        assert inflight.silences([REPLICA, uuid4()]) == {}


def test_without_redis_nobody_is_silent() -> None:
    assert inflight.silences([REPLICA]) == {}


async def test_at_zero_nothing_is_left(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        async with gateway() as one:
            await one.say(2)
            await one.say(0)
            assert client.keys("*") == []


async def test_a_gateway_that_ends_takes_its_counts_along(broker: str) -> None:
    async with gateway() as other:
        await other.say(3)
        async with gateway() as one:
            await one.say(2)
        assert inflight.count(REPLICA) == 3


async def test_what_a_dead_gateway_left_expires_and_what_goes_on_is_told_again(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        async with gateway() as one:
            await one.say(1)
            assert 0 < client.ttl(inflight.key(REPLICA)) <= inflight.KEPT
            client.flushall()
            await asyncio.wait_for(one.writer.follow(), 5)
            assert inflight.count(REPLICA) == 1


async def test_an_idle_gateway_asks_nothing_of_redis(broker: str) -> None:
    async with gateway() as one:
        await one.say(1)
        await one.say(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.writer.follow(), 0.05)


async def test_without_redis_nothing_breaks_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cortex.telemetry"):
        async with gateway() as one:
            for count in (1, 2, 1):
                await one.say(count)
    assert [record.message.split(";")[0] for record in caplog.records] == ["Redis does not answer"]


async def test_a_count_that_could_not_be_taken_back_is_taken_back_later(
    broker: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object) -> None:
        raise redis.ConnectionError("refused")

    async with gateway() as one:
        await one.say(2)
        with monkeypatch.context() as away:
            away.setattr(one.writer, "_write", refuse)
            await one.say(0)
        assert inflight.count(REPLICA) == 2
        await asyncio.wait_for(one.writer.follow(), 5)
        assert inflight.count(REPLICA) == 0
    assert "Redis answers again" in caplog.messages[-1]
