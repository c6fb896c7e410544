"""A stop waits for the requests in flight, but not for ever."""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed, Phase
from cortex.orchestration import agent as module
from cortex.orchestration import orders
from cortex.orchestration.agent import AT_REST, DRAINS_EVERY, Agent
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.stopping import DRAIN_FOR
from cortex.telemetry import inflight
from tests.orchestration.conftest import Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch) -> Counter[UUID]:
    """What the gateways told."""
    counts: Counter[UUID] = Counter()
    monkeypatch.setattr(inflight, "count", counts.__getitem__)
    return counts


@pytest.fixture
def draining(define: Define, loop: Loop, in_flight: Counter[UUID]) -> Replica:
    """Ready, busy with two requests, and told to stop."""
    define()
    loop.look()
    in_flight[loop.look().id] = 2
    orders.stop("tiny", None)
    replica = loop.look()
    assert (replica.observed, replica.phase) == (Observed.READY, Phase.DRAINING)
    assert not Replica.objects.serving().exists()
    return replica


def test_a_replica_stops_once_its_requests_are_answered(
    draining: Replica, loop: Loop, in_flight: Counter[UUID]
) -> None:
    in_flight[draining.id] = 1
    assert loop.look().phase == Phase.DRAINING
    del in_flight[draining.id]
    assert loop.look().phase == Phase.STOPPED
    assert loop.containers() == []


def test_the_agent_looks_at_what_drains_all_the_time_and_at_nothing_else(
    draining: Replica, loop: Loop, in_flight: Counter[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(loop.here)
    monkeypatch.setattr(agent._looks, "ask", lambda replica: reconcile(replica, loop.here))
    assert agent._due() == DRAINS_EVERY
    assert loop.replica().phase == Phase.DRAINING
    del in_flight[draining.id]
    agent._due()
    assert loop.replica().phase == Phase.STOPPED
    assert agent._due() == AT_REST


def test_the_pause_after_a_round_is_what_the_round_says(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(loop.here)
    pauses: list[float] = []
    said: list[float | None] = [0.25, None]

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if not said:
            agent.stop()

    monkeypatch.setattr(agent._stop, "wait", wait)
    monkeypatch.setattr(module, "close_old_connections", lambda: None)
    agent._repeat(lambda: said.pop(0), 5.0)
    assert pauses == [0.25, 5.0]


def test_a_request_without_end_is_waited_for_until_the_limit(draining: Replica, loop: Loop, time: Time) -> None:
    time.pass_(DRAIN_FOR.total_seconds() - 1)
    assert loop.look().phase == Phase.DRAINING
    time.pass_(1)
    assert loop.look().phase == Phase.STOPPED
    assert loop.containers() == []


def test_a_start_while_it_drains_keeps_the_container(draining: Replica, loop: Loop) -> None:
    containers = loop.containers()
    orders.start("tiny", None)
    replica = loop.look()
    assert (replica.phase, replica.draining_at) == (Phase.SERVING, None)
    assert loop.containers() == containers
