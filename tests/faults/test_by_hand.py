"""What somebody does to our containers on the host, behind our back."""

import time as walls
import uuid
from collections.abc import Callable
from functools import partial

import pytest

from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from tests.faults.conftest import Process
from tests.faults.record import Record
from tests.faults.yard import Yard, docker

DEEDS: dict[str, Callable[[str], str]] = {
    "killed": lambda name: docker("kill", name),
    "removed": lambda name: docker("rm", "-f", name),
    "paused": lambda name: docker("pause", name),
    "renamed": lambda name: docker("rename", name, f"cortex-test-{uuid.uuid4().hex}"),
    "told to restart by itself": lambda name: docker("update", "--restart", "always", name),
    "limited in processors": lambda name: docker("update", "--cpus", "0.5", name),
}


@pytest.mark.fault(12)
@pytest.mark.docker
@pytest.mark.django_db(transaction=True)
def test_whatever_is_done_to_a_container_by_hand_is_seen_and_made_good(
    yard: Yard, agent: Process, record: Record
) -> None:
    yard.define()
    serving()
    network = docker("network", "create", f"cortex-test-{uuid.uuid4().hex[:8]}")
    try:
        for deed, act in DEEDS.items():
            make_good(yard, deed, act, record)
        connect = partial(docker, "network", "connect", network)
        make_good(yard, "put into a further network", connect, record)
    finally:
        yard.clear()
        docker("network", "rm", network)


def make_good(yard: Yard, deed: str, act: Callable[[str], str], record: Record) -> None:
    """Do it, and wait until another container serves in its place, alone."""
    before = serving()
    began, changes = walls.monotonic(), yard.changes()
    act(yard.container())
    after = serving(apart_from=before)
    took = walls.monotonic() - began
    ended = Replica.objects.get().attempts.get(container_id=before)
    assert [container.id for container in yard.here.runtime.find()] == [after]
    record.took(took, yard.changes() - changes)
    record.saw(f"*{deed}*: {ended.reason} Made good in {took:.1f} s.")
    Replica.objects.update(failures=0, retry_at=None)
    record.check(yard.here)


def serving(apart_from: str = "", seconds: float = 30.0) -> str:
    """The id of the container that serves, once it is another."""
    until = walls.monotonic() + seconds
    while True:
        replica = Replica.objects.get()
        attempt = replica.attempts.filter(ended_at=None).first()
        if attempt and replica.observed == Observed.READY and attempt.container_id not in ("", apart_from):
            return attempt.container_id
        assert walls.monotonic() < until, f"still {replica.observed}: {replica.reason}"
        walls.sleep(0.05)
