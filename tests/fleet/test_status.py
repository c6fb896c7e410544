"""How a model is, in one word and one sentence."""

from datetime import UTC, datetime

import pytest

from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed, Phase
from cortex.fleet.status import status

RETRY = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)


def model(replicas: int = 1, desired: Desired = Desired.RUNNING) -> Model:
    return Model(name="m", engine="llamacpp", path="m.gguf", replicas=replicas, desired=desired)


def replica(of: Model, observed: Observed, slot: int = 0, **more: object) -> Replica:
    return Replica(model=of, slot=slot, observed=observed, reason="Because.", **more)


def test_a_model_nobody_has_taken_up_is_queued_or_stopped() -> None:
    assert status(model(), []).phase == Phase.QUEUED
    assert status(model(desired=Desired.STOPPED), []).phase == Phase.STOPPED


@pytest.mark.parametrize(
    ("observed", "phase", "settled"),
    [
        (Observed.READY, Phase.SERVING, True),
        (Observed.LOADING, Phase.LOADING, False),
        (Observed.FETCHING, Phase.FETCHING, False),
        (Observed.UNKNOWN, Phase.UNKNOWN, False),
        (Observed.ABSENT, Phase.QUEUED, False),
    ],
)
def test_one_replica_speaks_for_its_model(observed: Observed, phase: Phase, settled: bool) -> None:
    of = model()
    found = status(of, [replica(of, observed)])
    assert (found.phase, found.settled) == (phase, settled)


def test_a_model_serves_as_long_as_one_does_and_says_what_is_missing() -> None:
    of = model(replicas=2)
    found = status(of, [replica(of, Observed.READY), replica(of, Observed.LOADING, slot=1)])
    assert (found.phase, found.ready, found.wanted, found.settled) == (Phase.SERVING, 1, 2, False)
    assert found.reason == "1 of 2 serve; replica 1: Because."


def test_a_failing_model_says_when_it_is_tried_again() -> None:
    of = model()
    found = status(of, [replica(of, Observed.ABSENT, failures=1, retry_at=RETRY)])
    assert (found.phase, found.gave_up) == (Phase.FAILING, False)
    assert found.reason == "Because. It is tried again at 12:30:00 UTC."


def test_a_model_that_gave_up_says_so() -> None:
    of = model()
    found = status(of, [replica(of, Observed.ABSENT, failures=2, gave_up=True, retry_at=RETRY)])
    assert found.gave_up
    assert found.reason.endswith("until somebody changes or starts it.")


@pytest.mark.parametrize(
    ("desired", "says"), [(Desired.RUNNING, "then stops, to start anew."), (Desired.STOPPED, "then stops.")]
)
def test_what_drains_does_not_serve_and_says_what_follows(desired: Desired, says: str) -> None:
    of = model(desired=desired)
    found = status(of, [replica(of, Observed.READY, draining_at=RETRY)])
    assert (found.phase, found.ready, found.settled) == (Phase.DRAINING, 0, False)
    assert found.reason.endswith(says)
