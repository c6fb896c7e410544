"""The timeline of a start: what the log tells, the first answer, and which failure began a row of them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError

from cortex.catalog.models import Model
from cortex.fleet.models import Attempt, Gpu, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import milestones
from cortex.orchestration.milestones import Line, Milestones, listen, note_first_answers
from cortex.runtime.scene import Script
from cortex.runtime.world import World
from cortex.telemetry.firsts import Teller
from tests.orchestration.conftest import IMAGE, Loop, Time

pytestmark = pytest.mark.django_db

Define = Callable[..., Model]
WEIGHTS = "llama_context: constructing llama_context"
CACHE = "0.00.568.021 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 512, kv_unified = 'false'"


@pytest.fixture
def attempt(define: Define, loop: Loop, world: World) -> Attempt:
    """One that loads."""
    world.script(IMAGE, Script(load=60))
    define()
    loop.look()
    return Attempt.objects.get()


def said(attempt: Attempt, time: Time, *texts: str, after: float = 0.0, number: int | None = None) -> list[Line]:
    """Lines of its log, printed so long after now."""
    stamp = int((time.now() + timedelta(seconds=after)).timestamp() * 1e9)
    return [(attempt.replica_id, number or attempt.number, stamp, text) for text in texts]


def test_what_the_log_tells_is_noted_once_with_its_own_time(attempt: Attempt, time: Time) -> None:
    ears = Milestones()
    ears.hear(said(attempt, time, "noise", WEIGHTS, after=3))
    ears.hear(said(attempt, time, WEIGHTS, CACHE, after=5))
    attempt.refresh_from_db()
    assert attempt.weights_loaded_at == time.now() + timedelta(seconds=3)
    assert attempt.cache_sized_at == time.now() + timedelta(seconds=5)


def test_a_host_whose_clock_is_behind_tells_nothing_from_before_the_start(attempt: Attempt, time: Time) -> None:
    Milestones().hear(said(attempt, time, CACHE, after=-9))
    attempt.refresh_from_db()
    assert attempt.cache_sized_at == attempt.started_at


def test_lines_of_other_attempts_tell_nothing(attempt: Attempt, time: Time) -> None:
    ears = Milestones()
    ears.hear(said(attempt, time, CACHE, number=9))
    ears.hear([(uuid4(), 1, 1, CACHE)])
    attempt.refresh_from_db()
    assert attempt.cache_sized_at is None


def test_a_chatty_engine_is_not_heard_for_ever(attempt: Attempt, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milestones, "LINES", 3)
    ears = Milestones()
    ears.hear(said(attempt, time, *["noise"] * 4, CACHE))
    attempt.refresh_from_db()
    assert attempt.cache_sized_at is None


def test_many_lines_cost_one_look_at_the_database(
    attempt: Attempt, time: Time, django_assert_num_queries: Callable[[int], object]
) -> None:
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        Milestones().hear(said(attempt, time, *["noise"] * 100))


def test_a_database_that_is_away_costs_no_line(
    attempt: Attempt, time: Time, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object) -> None:
        raise DatabaseError("connection refused")

    monkeypatch.setattr(milestones, "_look_up", away)
    listen(Milestones(), said(attempt, time, CACHE))
    assert "connection refused" in caplog.text


async def _tell(attempt: Attempt, at: float) -> None:
    teller = Teller({(attempt.replica_id, "127.0.0.1:1"): at})
    await teller.tell()
    await teller.close()


def ready(define: Define, loop: Loop) -> Attempt:
    define()
    assert loop.look().observed == Observed.READY
    return Attempt.objects.get()


def test_the_first_answer_is_noted_as_the_gateways_tell_it(broker: str, define: Define, loop: Loop, time: Time) -> None:
    attempt = ready(define, loop)
    note_first_answers(loop.here)
    for seconds in (-3600, 9, 7):
        asyncio.run(_tell(attempt, (time.now() + timedelta(seconds=seconds)).timestamp()))
    note_first_answers(loop.here)
    attempt.refresh_from_db()
    assert attempt.first_token_at == time.now() + timedelta(seconds=7)


def test_without_redis_the_first_answer_is_not_known_and_nothing_fails(define: Define, loop: Loop) -> None:
    attempt = ready(define, loop)
    note_first_answers(loop.here)
    attempt.refresh_from_db()
    assert attempt.first_token_at is None


def test_failures_in_a_row_are_counted_and_the_first_stays_known(
    define: Define, loop: Loop, world: World, time: Time
) -> None:
    world.script(IMAGE, Script(load=60, exit_after=1, exit_code=1, lines=("something odd",)))
    define()
    for _ in range(3):
        loop.look()
        time.pass_(2)
        loop.look()
        time.pass_(400)
    assert list(Attempt.objects.order_by("number").values_list("failure", flat=True))[:3] == [1, 2, 3]


def test_who_is_in_the_way_is_kept_until_there_is_room(define: Define, loop: Loop) -> None:
    loop.card()
    define("first", gpus=1)
    loop.look("first")
    Gpu.objects.update(total=Seat.objects.get().bytes * 3 // 2)
    define("second", gpus=1)
    waiting = loop.look("second")
    assert waiting.in_the_way == ["first/0"]
    assert "It would fit if first/0 stopped." in waiting.reason
    Gpu.objects.update(total=48 << 30)
    assert loop.look("second").in_the_way == []
