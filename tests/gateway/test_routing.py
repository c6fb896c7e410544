"""The least busy replica that did not just fail; a table that outlasts the database and says how old it is."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import OperationalError

from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed, Phase
from cortex.gateway import routing
from cortex.gateway.openai import Fault
from cortex.gateway.routing import Route, Router, Table, Target

GAVE_UP = "gave up"
A, B = Target(uuid4(), "a:1"), Target(uuid4(), "b:1")
PAIR = Route("pair", "pair", 0, (A, B), Phase.SERVING, "")


class Tables:
    def __init__(self) -> None:
        self.table: Table = {"pair": PAIR}
        self.away = False
        self.reads = 0

    def load(self) -> Table:
        self.reads += 1
        if self.away:
            raise OperationalError("gone")
        return self.table


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def router(tables: Tables) -> Iterator[Router]:
    with ThreadPoolExecutor(1) as threads:
        yield Router(tables.load, threads)


def test_the_least_busy_replica_is_chosen(router: Router) -> None:
    with router.busy(A):
        assert {router.choose(PAIR) for _ in range(20)} == {B}
        with router.busy(B), router.busy(B):
            assert {router.choose(PAIR) for _ in range(20)} == {A}


def test_ties_are_spread(router: Router) -> None:
    assert len(Counter(router.choose(PAIR) for _ in range(100))) == 2


def test_a_replica_that_just_failed_comes_last_but_is_better_than_none(router: Router) -> None:
    router.avoid(A)
    with router.busy(B):
        assert {router.choose(PAIR) for _ in range(20)} == {B}
    assert router.choose(PAIR, [B]) == A
    assert router.choose(PAIR, [A, B]) is None


def test_a_failed_replica_gets_requests_again_after_a_while(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    router.avoid(A)
    monkeypatch.setattr("cortex.gateway.routing.time", SimpleNamespace(monotonic=lambda: 1e12))
    with router.busy(B):
        assert router.choose(PAIR) == A


def test_a_request_that_ended_is_not_counted(router: Router) -> None:
    with pytest.raises(ValueError, match="x"), router.busy(A):
        raise ValueError("x")
    assert not router.in_flight


def test_silence_lasts_until_the_replica_says_something(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("cortex.gateway.routing.time", SimpleNamespace(monotonic=lambda: now))
    with router.busy(A):
        now += 60
        assert router.silence(A.replica) == 60
    now += 5  # the client gave up, and asks again: the replica has still said nothing
    with router.busy(A), router.busy(A):
        assert router.silence(A.replica) == 65
        router.heard(A.replica)
        assert router.silence(A.replica) == 0
        now += 7
        assert router.silence(A.replica) == 7
    with router.busy(A):
        router.heard(A.replica)
    now += 1000
    assert router.silence(A.replica) == 0


async def test_a_first_answer_is_kept_while_its_replica_serves(router: Router, tables: Tables) -> None:
    await router.refresh()
    router.answered(A, 5.0)
    router.answered(A, 1.0)
    router.answered(B, 0.0)
    assert router.firsts[A] == pytest.approx(time.time() - 5, abs=1)
    tables.table = {"pair": replace(PAIR, replicas=(B,))}
    await router.refresh()
    assert set(router.firsts) == {B}


def test_whoever_follows_the_counts_is_woken_at_each_change(router: Router) -> None:
    with router.busy(A), router.busy(A), router.busy(B):
        assert router.in_flight == {A.replica: 2, B.replica: 1}
        assert router.changed.is_set()
        router.changed.clear()
    assert router.changed.is_set()


async def test_the_last_good_table_outlasts_the_database_and_says_so(router: Router, tables: Tables) -> None:
    await router.refresh()
    tables.away = True
    await router.refresh()
    assert router.find("pair") is PAIR
    assert router.trouble
    with pytest.raises(Fault, match=r"As of \d+ s ago: the database does not answer") as caught:
        router.find("nope")
    assert caught.value.code == "model_not_found"
    tables.away = False
    await router.refresh()
    assert not router.trouble


async def test_a_gateway_that_never_read_a_table_denies_nothing(router: Router, tables: Tables) -> None:
    tables.away = True
    await router.refresh()
    with pytest.raises(Fault, match="has not read yet") as caught:
        router.find("pair")
    assert (caught.value.status, caught.value.code) == (503, "starting")


@pytest.mark.django_db
def test_the_table_holds_who_serves_and_why_others_do_not() -> None:
    for name, desired in (("on", "running"), ("off", "stopped"), ("new", "running"), ("gone", "running")):
        Model.objects.create(name=name, engine="vllm", path=name, desired=desired, replicas=2)
    on, off, gone = (Model.objects.get(name=name) for name in ("on", "off", "gone"))
    serving = Replica.objects.create(model=on, slot=0, observed=Observed.READY, address="h:1")
    Replica.objects.create(model=on, slot=1, observed=Observed.LOADING, reason="Weights.")
    Replica.objects.create(model=off, slot=0, observed=Observed.READY, address="h:2")
    Replica.objects.create(model=gone, slot=0, observed=Observed.READY, address="h:3")
    gone.removed_at = gone.created_at
    gone.save()
    table = routing.load()
    assert {name: ([target.address for target in route.replicas], route.phase) for name, route in table.items()} == {
        "on": (["h:1"], Phase.SERVING),
        "off": ([], Phase.DRAINING),
        "new": ([], Phase.QUEUED),
    }
    assert [target.replica for target in table["on"].replicas] == [serving.id]
    assert "loop" in table["new"].reason


@pytest.mark.parametrize(
    ("phase", "code", "again"),
    [
        (Phase.LOADING, "model_loading", None),
        (Phase.FAILING, "model_loading", None),
        (Phase.STOPPED, "model_not_running", False),
        (GAVE_UP, "model_failed", False),
    ],
)
async def test_a_model_that_does_not_serve_says_why(
    router: Router, tables: Tables, phase: Phase | str, code: str, again: bool | None
) -> None:
    gave_up = phase == GAVE_UP
    tables.table = {"m": Route("m", "m", 0, (), Phase.FAILING if gave_up else Phase(phase), "Because.", gave_up)}
    await router.refresh()
    with pytest.raises(Fault, match="Because") as caught:
        router.find("m")
    fault = caught.value
    assert (fault.status, fault.code, fault.again, fault.seconds is None) == (503, code, again, again is False)


@pytest.mark.parametrize(("wanted", "code"), [(True, "model_loading"), (False, "model_not_running")])
async def test_a_model_that_drains_comes_back_only_when_it_is_wanted(
    router: Router, tables: Tables, wanted: bool, code: str
) -> None:
    tables.table = {"m": Route("m", "m", 0, (), Phase.DRAINING, "Because.", wanted=wanted)}
    await router.refresh()
    with pytest.raises(Fault, match="Because") as caught:
        router.find("m")
    assert (caught.value.code, caught.value.seconds is None) == (code, not wanted)


async def test_a_model_that_serves_since_a_moment_is_found_before_it_is_denied(
    router: Router, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.table = {}
    await router.refresh()
    tables.table = {"pair": PAIR}
    monkeypatch.setattr(routing, "FRESH_FOR", 0.0)
    assert await router.seek("pair") is PAIR


async def test_many_who_ask_for_what_is_not_there_read_the_table_once(router: Router, tables: Tables) -> None:
    await router.refresh()
    assert router.loaded_at
    router.loaded_at -= 1
    before = tables.reads
    answers = await asyncio.gather(*(router.seek("nope") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, Fault) for answer in answers)
    assert tables.reads == before + 1


async def test_a_route_that_failed_is_read_anew_once_for_all_who_ask(router: Router, tables: Tables) -> None:
    await router.refresh()
    tables.table = {"pair": Route("pair", "pair", 0, (), Phase.STOPPED, "Stopped.")}
    answers = await asyncio.gather(*(router.renew("pair", time.monotonic()) for _ in range(20)), return_exceptions=True)
    assert {getattr(answer, "code", None) for answer in answers} == {"model_not_running"}
    assert tables.reads == 2


async def test_without_the_database_a_route_that_failed_stays_and_nobody_waits(router: Router, tables: Tables) -> None:
    await router.refresh()
    tables.away = True
    assert [await router.renew("pair", time.monotonic()) for _ in range(5)] == [PAIR] * 5
    assert tables.reads == 2
