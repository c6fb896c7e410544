"""Looks that end their own process: counted, parked with a reason, tried again; and nobody else pays for them."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cortex.catalog.models import Model
from cortex.fleet.states import Observed
from cortex.orchestration import looks, orders
from cortex.orchestration.looks import look_at
from cortex.orchestration.sweep import sweep
from cortex.runtime.world import World
from tests.orchestration.conftest import Loop

pytestmark = pytest.mark.django_db
Define = Callable[..., Model]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.ENV, "cortex_state", tmp_path)


def note(loop: Loop, tmp_path: Path) -> Path:
    return tmp_path / "looks" / loop.replica().id.hex


def died(path: Path, times: int) -> None:
    """So many processes ended in the middle of a look."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"deaths": times}))


def test_a_look_that_ends_leaves_no_note_whatever_it_raised(
    define: Define, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    look_at(loop.replica().id, loop.here)
    assert not note(loop, tmp_path).exists()

    def broken(*words: Any) -> None:
        assert json.loads(note(loop, tmp_path).read_text())["deaths"] == 1
        raise RuntimeError

    monkeypatch.setattr(looks, "reconcile", broken)
    with pytest.raises(RuntimeError):
        look_at(loop.replica().id, loop.here)
    assert not note(loop, tmp_path).exists()


def test_after_three_deaths_it_is_parked_with_a_reason_and_nothing_is_done(
    define: Define, loop: Loop, world: World, tmp_path: Path
) -> None:
    define()
    loop.settle(2)
    died(note(loop, tmp_path), 3)
    world.end(loop.containers()[0])
    calls = len(world.changes())
    loop.settle(3)
    assert loop.replica().observed == Observed.UNKNOWN
    assert "ended the process that did, 3 times in a row" in loop.replica().reason
    assert "the worker and the agent of host test" in loop.replica().reason
    assert len(world.changes()) == calls
    orders.start("tiny", None)
    loop.settle(3)
    assert (loop.replica().observed, note(loop, tmp_path).exists()) == (Observed.READY, False)


def test_what_waits_to_start_keeps_its_word_and_tells_the_reason(define: Define, loop: Loop, tmp_path: Path) -> None:
    define()
    died(note(loop, tmp_path), 3)
    loop.settle(2)
    assert (loop.replica().observed, loop.containers()) == (Observed.ABSENT, [])
    assert "ended the process" in loop.replica().reason


def test_after_a_while_it_is_tried_once_more(
    define: Define, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    define()
    died(note(loop, tmp_path), 3)
    loop.settle(1)
    monkeypatch.setattr(looks, "PARKED_FOR", -1.0)
    loop.settle(1)
    assert (loop.replica().observed, note(loop, tmp_path).exists()) == (Observed.READY, False)


def test_a_note_that_was_cut_off_in_the_middle_is_one_death(define: Define, loop: Loop, tmp_path: Path) -> None:
    define()
    note(loop, tmp_path).parent.mkdir(exist_ok=True)
    note(loop, tmp_path).write_text('{"dea')
    loop.settle(1)
    assert loop.replica().observed == Observed.READY


def test_suspects_are_looked_at_one_by_one(define: Define, loop: Loop, tmp_path: Path, monkeypatch: Any) -> None:
    """Else who merely stood beside the one that ends processes would be counted with it."""
    for name in ("a", "b"):
        define(name)
        died(tmp_path / "looks" / loop.replica(name).id.hex, 2)
    at_once, most, mutex = 0, 0, threading.Lock()

    def slow(*words: Any) -> None:
        nonlocal at_once, most
        with mutex:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.1)
        with mutex:
            at_once -= 1

    monkeypatch.setattr(looks, "reconcile", slow)
    monkeypatch.setattr(looks, "_judged", lambda note, replica: note)
    ids = [loop.replica(name).id for name in ("a", "b")]
    threads = [threading.Thread(target=look_at, args=(each, loop.here)) for each in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_sweep_goes_on_beside_one_that_is_parked(define: Define, loop: Loop, tmp_path: Path) -> None:
    define()
    define("other")
    died(note(loop, tmp_path), 3)
    sweep(loop.here)
    assert loop.replica("other").observed == Observed.READY


def test_where_no_note_can_be_written_it_is_looked_at_all_the_same(define: Define, loop: Loop, tmp_path: Path) -> None:
    define()
    (tmp_path / "looks").write_text("a file in the way")
    loop.settle(2)
    assert loop.replica().observed == Observed.READY
