"""Keys are looked up seldom, refused soon after they are revoked, and outlast a lost database."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from cortex.gateway import keys
from cortex.gateway.keys import Key, Keyring
from cortex.gateway.openai import Fault

SECRET = "ctx_0011aabb_secret"


class Database:
    """What keys are looked up in, and how often."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {SECRET: Key(1, "0011aabb", True, None)}
        self.asked = 0
        self.away = False
        self.hangs = threading.Event()
        self.hangs.set()
        self.noted: list[list[int]] = []

    def find(self, secret: str) -> Key | None:
        self.asked += 1
        self.hangs.wait(10)
        if self.away:
            raise OperationalError("gone")
        return self.keys.get(secret)

    def note_use(self, ids: Iterable[int]) -> None:
        if self.away:
            raise OperationalError("gone")
        self.noted.append(sorted(ids))


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def keyring(database: Database) -> Iterator[Keyring]:
    with ThreadPoolExecutor(2) as threads:
        yield Keyring(database.find, database.note_use, threads)
        database.hangs.set()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> "Later":
    return Later(monkeypatch)


class Later:
    """Moves the clock that ages answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._by = 0.0
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + self._by, time=time.time)
        monkeypatch.setattr("cortex.gateway.keys.time", clock)

    def __call__(self, seconds: float) -> None:
        self._by += seconds


async def status(keyring: Keyring, secret: str = SECRET) -> int:
    try:
        await keyring.check(secret)
    except Fault as fault:
        return fault.status
    return 200


async def test_a_known_key_is_not_looked_up_again(keyring: Keyring, database: Database) -> None:
    assert {await status(keyring) for _ in range(100)} == {200}
    assert database.asked == 1


async def test_many_requests_with_one_new_key_look_it_up_once(keyring: Keyring, database: Database) -> None:
    assert set(await asyncio.gather(*(status(keyring) for _ in range(50)))) == {200}
    assert database.asked == 1


async def test_an_unknown_key_is_remembered_for_a_moment(keyring: Keyring, database: Database) -> None:
    assert {await status(keyring, "ctx_00_x") for _ in range(20)} == {401}
    assert database.asked == 1


async def test_what_is_no_key_at_all_is_never_looked_up(keyring: Keyring, database: Database) -> None:
    for wrong in ("", "sk-1", "ctx_", "ctx_zz_x", "ctx_00_\u00e9", f"ctx_00_{'x' * 200}"):
        assert await status(keyring, wrong) == 401
    assert database.asked == 0


async def test_a_revoked_key_is_refused_after_five_seconds(keyring: Keyring, database: Database, later: Later) -> None:
    assert await status(keyring) == 200
    database.keys.clear()
    later(5)
    assert await status(keyring) == 401


async def test_a_key_in_use_is_renewed_without_waiting(keyring: Keyring, database: Database, later: Later) -> None:
    assert await status(keyring) == 200
    database.hangs.clear()
    later(keys.FRESH + 0.5)
    assert await asyncio.wait_for(status(keyring), 0.5) == 200
    assert len(keyring._asking) == 1


async def test_a_key_that_expires_is_refused_at_once(keyring: Keyring, database: Database) -> None:
    database.keys[SECRET] = Key(1, "0011aabb", True, time.time() + 0.2)
    assert await status(keyring) == 200
    await asyncio.sleep(0.25)
    assert await status(keyring) == 401


async def test_known_keys_outlast_the_database_and_unknown_ones_are_told_why(
    keyring: Keyring, database: Database, later: Later
) -> None:
    assert await status(keyring) == 200
    database.away = True
    later(3600)
    assert await status(keyring) == 200
    assert await status(keyring, "ctx_00_x") == 503
    database.away = False
    database.keys.clear()
    await status(keyring)
    await asyncio.sleep(0.1)
    assert await status(keyring) == 401


async def test_a_database_that_hangs_does_not_hold_up_known_keys(
    keyring: Keyring, database: Database, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PATIENCE", 0.1)
    assert await status(keyring) == 200
    database.hangs.clear()
    later(60)
    assert await asyncio.wait_for(status(keyring), 1) == 200
    began = time.monotonic()
    assert await status(keyring) == 200
    assert time.monotonic() - began < 0.05


async def test_use_is_noted_once_and_kept_while_the_database_is_away(keyring: Keyring, database: Database) -> None:
    await status(keyring)
    database.away = True
    await keyring.note()
    database.away = False
    await keyring.note()
    await keyring.note()
    assert database.noted == [[1]]


async def test_only_so_many_keys_are_remembered(
    keyring: Keyring, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REMEMBERED", 5)
    for n in range(20):
        await status(keyring, f"ctx_{n:02}_x")
    assert len(keyring._answers) == 5
