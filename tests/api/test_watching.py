"""A stream ends when the key that opened it may no longer watch, also while nothing comes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cortex.api import watching


async def words(*given: str, then: float = 0.0) -> AsyncGenerator[str]:
    for word in given:
        yield word
    await asyncio.sleep(then)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.05)


async def test_what_is_allowed_comes_whole() -> None:
    assert [word async for word in watching.while_allowed(words("", "a", then=0.2), lambda: True)] == ["", "a"]


async def test_who_may_no_longer_watch_is_told_so_in_the_silence() -> None:
    allowed = [True, True, False]
    stream = watching.while_allowed(words("a", then=60), lambda: allowed.pop(0))
    assert await asyncio.wait_for(_all(stream), 5) == ["a", watching.ENDED]
    assert allowed == []


async def test_who_hangs_up_leaves_nothing_waiting() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[str]:
        try:
            yield "a"
            await asyncio.sleep(60)
        finally:
            closed.set()

    stream = watching.while_allowed(endless(), lambda: True)
    assert await anext(stream) == "a"
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


async def _all(stream: object) -> list[str]:
    return [word async for word in stream]  # type: ignore[attr-defined]
