"""Engines that end: again and again, for a reason that stays, or by a hand that is not ours."""

import time as real_time
from collections.abc import Callable
from pathlib import Path

import pytest

from cortex.catalog.models import Model
from cortex.fleet.models import FORGIVEN_AFTER
from cortex.fleet.states import Observed
from cortex.runtime.scene import Script
from cortex.runtime.world import World
from tests.faults.record import Record
from tests.faults.yard import Yard, docker
from tests.orchestration.conftest import IMAGE, Loop, Time

Define = Callable[..., Model]

pytestmark = pytest.mark.django_db


@pytest.mark.fault(17)
def test_a_crash_loop_backs_off_and_no_restart_forgets_it(
    define: Define, loop: Loop, world: World, time: Time, record: Record
) -> None:
    world.script(IMAGE, Script(load=60, exit_after=0, exit_code=1))
    define()
    delays, before = [], real_time.process_time()
    with record.convergence(lambda: time.now().timestamp()):
        for _ in range(8):
            replica = loop.look()
            assert replica.retry_at
            delays.append(round((replica.retry_at - time.now()).total_seconds()))
            time.at = replica.retry_at
    spent = real_time.process_time() - before
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    world.script(IMAGE, Script())
    loop.look()
    time.pass_(FORGIVEN_AFTER.total_seconds() + 1)
    replica = loop.look()
    assert (replica.observed, replica.failures) == (Observed.READY, 0)
    record.saw(f"Waits of {', '.join(map(str, delays))} s, each look from the row alone.")
    record.saw(f"{len(delays)} tries cost {spent / sum(delays):.2%} of a core. Forgiven after {FORGIVEN_AFTER}.")
    record.check(loop.here)


@pytest.mark.fault(18)
@pytest.mark.docker
def test_a_flag_that_does_not_exist_stops_after_two_tries(yard: Yard, record: Record) -> None:
    line = "error: invalid argument: --wrong"
    yard.define("tiny", "--end-with", "1", f"--say={line}")
    with record.convergence():
        yard.look_until(lambda replica: replica.failures == 1)
        yard.ahead += 11
        replica = yard.look_until(lambda replica: replica.gave_up)
    yard.ahead += 3600
    assert yard.look().attempts.count() == 2
    assert line in replica.reason
    assert yard.containers() == []
    record.saw(f"After {replica.attempts.count()} tries: {replica.reason}")
    record.check(yard.here)


@pytest.mark.fault(18)
def test_a_file_that_is_missing_is_waited_for_and_nothing_loops(
    define: Define, loop: Loop, time: Time, models_folder: Path, record: Record
) -> None:
    define()
    (models_folder / "tiny.gguf").unlink()
    for _ in range(5):
        replica = loop.look()
        time.pass_(400)
    assert "tiny.gguf" in replica.reason
    assert replica.attempts.count() <= 2
    assert loop.containers() == []
    told = replica.reason.replace(str(models_folder), "the models folder")
    record.saw(f"A missing file, {replica.attempts.count()} attempts: {told}")
    record.check(loop.here)


@pytest.mark.fault(19)
@pytest.mark.docker
def test_three_ways_to_be_killed_have_three_reasons(yard: Yard, record: Record) -> None:
    names = {"child": ("--child-eats", "200"), "itself": ("--eat", "200"), "outside": ()}
    for name, flags in names.items():
        yard.define(name, *flags)
        yard.until(Observed.READY, name)
        if flags:
            docker("update", "--memory", "64m", "--memory-swap", "64m", yard.container(name))
    with record.convergence():
        docker("kill", "-s", "USR1", yard.container("child"))
        docker("kill", "-s", "USR1", yard.container("itself"))
        docker("kill", yard.container("outside"))
        ended = [yard.look_until(lambda replica: replica.failures == 1, name).attempts.last() for name in names]
        for name in names:
            yard.until(Observed.READY, name)
    reasons = {attempt.replica.model.name: attempt.reason for attempt in ended if attempt}
    assert len(set(reasons.values())) == 3
    assert "one of its processes" in reasons["child"]
    for name, reason in reasons.items():
        record.saw(f"*{name}*: {reason}")
    record.check(yard.here)
