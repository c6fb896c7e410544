"""The agent's rounds, one at a time: what they notice, and how little they ask when there is nothing to notice."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from cortex.orchestration import agent as agents
from cortex.orchestration.agent import Agent
from cortex.orchestration.measure import measure
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Event, Stream
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.orchestration.conftest import IMAGE, Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setattr(agents, "LOGS_EVERY", 0.0)
    monkeypatch.setattr(agents, "BRIEFLY", 0.0)
    agent = Agent(loop.here)
    monkeypatch.setattr(agent._looks, "ask", lambda replica: None)  # its threads would outlive the test
    return agent


def asked(of: Callable[[], object]) -> int:
    """How many queries it takes."""
    with CaptureQueriesContext(connection) as queries:
        of()
    return len(queries)


def test_at_rest_no_round_asks_more_for_more_replicas(define: Define, loop: Loop, agent: Agent) -> None:
    define(replicas=2)
    sweep(loop.here)
    rounds = (agent._due, agent._stand_in, agent._measure)
    few = [asked(round) for round in rounds]
    define(replicas=8)
    sweep(loop.here)
    sweep(loop.here)
    assert Replica.objects.filter(observed=Observed.READY).count() == 8
    assert [asked(round) for round in rounds] == few
    assert sum(few) <= 8


def test_replicas_without_cards_are_never_due_to_be_measured(define: Define, loop: Loop) -> None:
    define(replicas=3)
    sweep(loop.here)
    assert asked(lambda: measure(loop.here)) == 1


def test_replicas_on_cards_are_measured_once(define: Define, loop: Loop, world: World, time: Time) -> None:
    loop.card()
    world.add_gpus(ImaginaryGpu(uuid="GPU-0"))
    define(gpus=1)
    loop.look()
    loop.look()
    time.pass_(5)
    loop.here.host.gpus.update(seen_at=time.now())
    measure(loop.here)
    assert asked(lambda: measure(loop.here)) == 1


class Told(Stream[Event]):
    """Events as told here."""

    def __init__(self, *events: Event) -> None:
        self._events = iter(events)

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(("action", "at_once"), [("start", True), ("die", False)])
def test_a_container_that_starts_has_its_log_followed_without_waiting(
    loop: Loop, agent: Agent, monkeypatch: pytest.MonkeyPatch, action: str, at_once: bool
) -> None:
    agent._follow_logs()
    monkeypatch.setattr(agents, "LOGS_EVERY", 60.0)
    followed = threading.Event()
    monkeypatch.setattr(agent._shipper, "follow", lambda containers: followed.set())
    monkeypatch.setattr(loop.here.runtime, "events", lambda: Told(Event(action=action, container_name="x")))
    threading.Thread(target=agent._follow_logs, daemon=True).start()
    agent._watch()
    assert followed.wait(5 if at_once else 0.2) is at_once
    agent.stop()
    assert followed.wait(5)


def test_an_order_that_no_worker_took_up_is_settled(
    define: Define, loop: Loop, agent: Agent, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = define()
    monkeypatch.setattr(agents, "HEAD_START", timedelta(seconds=0))
    Model.objects.filter(id=model.id).update(replicas=3, updated_at=time.now() - timedelta(seconds=1))
    agent._due()
    assert Replica.objects.filter(model=model).count() == 3


def test_what_loads_is_looked_at_again_until_it_is_ready(
    define: Define, loop: Loop, agent: Agent, world: World, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script(IMAGE, Script(load=3))
    define()
    loop.look()
    looked: list[object] = []
    monkeypatch.setattr(agent._looks, "ask", looked.append)
    agent._due()
    assert looked == [loop.replica().id]
    time.pass_(4)
    assert loop.look().observed == Observed.READY
    agent._due()
    assert len(looked) == 1
