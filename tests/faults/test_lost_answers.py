"""Docker does what it is asked, and its answer never arrives."""

import pytest

from cortex.fleet.states import Observed
from cortex.orchestration import orders
from tests.faults.record import Record
from tests.faults.yard import Yard

pytestmark = [pytest.mark.docker, pytest.mark.django_db]


@pytest.mark.fault(3)
def test_a_create_whose_answer_is_lost_is_adopted(yard: Yard, record: Record) -> None:
    yard.define()
    yard.proxy.lose = "/containers/create"
    with record.convergence():
        first = yard.look()
        [made] = yard.here.runtime.find()
        yard.proxy.lose = ""
        replica = yard.until(Observed.READY)
    [container] = yard.here.runtime.find()
    assert container.id == made.id
    assert (replica.attempts.count(), replica.failures) == (1, 0)
    assert "create" not in first.reason
    creates = sum("/containers/create" in line for line in yard.proxy.heard)
    record.saw(f"The same container is {replica.observed}, in attempt {replica.attempts.get().number}.")
    record.saw(f"Create was called {creates} times; people read {first.reason!r} meanwhile.")
    record.check(yard.here)


@pytest.mark.fault(4)
def test_a_start_whose_answer_is_lost_goes_on(yard: Yard, record: Record) -> None:
    yard.define()
    yard.proxy.lose = "/start"
    with record.convergence():
        yard.look()
        yard.proxy.lose = ""
        replica = yard.until(Observed.READY)
    assert (len(yard.containers()), replica.attempts.count(), replica.failures) == (1, 1, 0)
    starts = sum("/start" in line for line in yard.proxy.heard)
    record.saw(f"It was found running and is {replica.observed}: start was called {starts} time(s), in one attempt.")
    record.check(yard.here)


@pytest.mark.fault(5)
def test_a_remove_whose_answer_is_lost_is_done(yard: Yard, record: Record) -> None:
    yard.define()
    yard.until(Observed.READY)
    orders.stop("tiny", None)
    yard.proxy.lose = "DELETE"
    with record.convergence():
        yard.look()
        yard.proxy.lose = ""
        replica = yard.until(Observed.ABSENT)
    assert yard.containers() == []
    assert (replica.reason, replica.attempts.count(), replica.failures) == ("Stopped.", 1, 0)
    removes = sum(line.startswith("DELETE") for line in yard.proxy.heard)
    record.saw(f"{replica.reason} Remove was called {removes} time(s), and the attempt ended once.")
    record.check(yard.here)
