"""What a host shows of a replica: a container, a probe, and what was seen before -> one word with its reason."""

from dataclasses import dataclass
from datetime import timedelta

from cortex.fleet import clock
from cortex.fleet.models import Attempt, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import identity
from cortex.orchestration.work import is_of
from cortex.runtime.contract import Container, Health, Label, Runtime, RuntimeFault, State
from engines.contract import Probe

MISSES_ALLOWED = 3
MISSES_APART = timedelta(seconds=1)
ALIVE = (Observed.LOADING, Observed.READY, Observed.UNRESPONSIVE, Observed.STOPPING, Observed.UNKNOWN)


@dataclass(frozen=True)
class Seen:
    """One look. `health` is None where no probe was made.

    `unclaimed`: the container is the replica's, but no open attempt is about it. It has to go.
    """

    observed: Observed
    reason: str
    container: Container | None = None
    health: Health | None = None
    unclaimed: bool = False

    @property
    def address(self) -> str:
        return (self.container.address or "") if self.container and self.observed is Observed.READY else ""


def look(runtime: Runtime, replica: Replica, attempt: Attempt | None) -> Seen:
    """Inspect and probe. A host that does not tell is UNKNOWN, which nobody acts upon."""
    try:
        container = runtime.inspect(replica.container_name)
        if container is None or not is_of(container, replica):
            container = _renamed(runtime, replica) or container
        if container is None:
            _check_engine(runtime, replica)
    except RuntimeFault as fault:
        return unknown(replica, fault)
    return judge(replica, attempt, container, ask(runtime, container, attempt))


def _check_engine(runtime: Runtime, replica: Replica) -> None:
    """That nothing is there counts on the engine that it was started on alone. Raises RuntimeFault on any other."""
    if replica.host and not identity.is_same_engine(replica.host, facts := runtime.facts()):
        what = f"{identity.machine(facts)} is not the machine that host {replica.host} stands for."
        raise RuntimeFault(what, "Nothing is concluded from what is missing there. See the Hosts page.")


def _renamed(runtime: Runtime, replica: Replica) -> Container | None:
    """Somebody may have renamed our container: it is ours all the same, and found by its label."""
    return next((found for found in runtime.find() if is_of(found, replica)), None)


def unknown(replica: Replica, fault: RuntimeFault) -> Seen:
    return Seen(Observed.UNKNOWN, f"Host {replica.host} does not answer: {fault.what} Nothing is touched meanwhile.")


def question(container: Container | None, attempt: Attempt | None) -> Probe | None:
    """What to ask a running container whose attempt we know."""
    if container is None or container.state is not State.RUNNING or attempt is None or not attempt.spec:
        return None
    return Probe.model_validate(attempt.spec["probe"])


def ask(runtime: Runtime, container: Container | None, attempt: Attempt | None) -> Health | None:
    """Its answer; None where there is nobody to ask."""
    probe = question(container, attempt)
    return runtime.probe(container, probe) if container and probe else None


def judge(replica: Replica, attempt: Attempt | None, container: Container | None, health: Health | None) -> Seen:
    """The word for what was found."""
    if container is None:
        return _nothing(replica, attempt)
    if not is_of(container, replica):
        foreign = f"A container that is not ours bears the name {container.name}. Remove it by hand."
        return Seen(Observed.ABSENT, foreign)
    unclaimed = _why_unclaimed(replica, attempt, container)
    if attempt is None or unclaimed:
        return Seen(Observed.STOPPING, unclaimed, container, unclaimed=True)
    return _claimed(replica, attempt, container, health)


def _why_unclaimed(replica: Replica, attempt: Attempt | None, container: Container) -> str:
    """Why no open attempt is about this container of ours; empty when one is."""
    if container.name != replica.container_name:
        return "Somebody renamed its container."
    is_open = attempt is not None and container.labels.get(Label.ATTEMPT) == str(attempt.number)
    return "" if is_open else "A container of an earlier attempt is left."


def _claimed(replica: Replica, attempt: Attempt, container: Container, health: Health | None) -> Seen:
    match container.state:
        case State.EXITED:
            ended = f"It ended with exit status {container.exit_code}."
            known = replica.observed in (Observed.STOPPING, Observed.EXITED)
            return Seen(Observed.EXITED, attempt.ending or (replica.reason if known else ended), container)
        case State.CREATED:
            return _never_started(replica, attempt, container)
    if attempt.ending:
        known = replica.observed == Observed.STOPPING
        return Seen(Observed.STOPPING, replica.reason if known else attempt.ending, container)
    if container.state is State.PAUSED:
        return Seen(Observed.UNRESPONSIVE, "Somebody paused its container.", container)
    if container.altered:
        return Seen(Observed.UNRESPONSIVE, f"Somebody changed its container: {container.altered}.", container)
    return _running(replica, attempt, container, health)


def _nothing(replica: Replica, attempt: Attempt | None) -> Seen:
    before = Observed(replica.observed)
    if before is Observed.FETCHING and attempt and not attempt.container_id:
        return Seen(before, replica.reason)
    if not replica.wanted:
        return Seen(Observed.ABSENT, "Stopped.")
    return Seen(Observed.ABSENT, "Its container is gone." if before in ALIVE else replica.reason)


def _never_started(replica: Replica, attempt: Attempt, container: Container) -> Seen:
    if container.error or attempt.ending or not replica.wanted:
        return Seen(Observed.EXITED, replica.reason, container)
    return Seen(Observed.ABSENT, "Its container was made, but not started yet.", container)


def _running(replica: Replica, attempt: Attempt, container: Container, health: Health | None) -> Seen:
    if health is Health.READY:
        return Seen(Observed.READY, "Answers.", container, health)
    before = Observed(replica.observed)
    if attempt.ready_at and before in (Observed.READY, Observed.UNKNOWN) and not _is_third_miss(replica):
        again = "The host answers again, the model not yet."
        return Seen(before, replica.reason if before is Observed.READY else again, container, health)
    if attempt.ready_at:
        return Seen(Observed.UNRESPONSIVE, f"Did not answer {MISSES_ALLOWED} times in a row.", container, health)
    reason = "Loading the model." if health is Health.LOADING else "Its process starts."
    return Seen(Observed.LOADING, reason, container, health)


def _is_third_miss(replica: Replica) -> bool:
    return replica.misses + 1 >= MISSES_ALLOWED and is_new_miss(replica)


def is_new_miss(replica: Replica) -> bool:
    """Looks in quick succession count as one."""
    return replica.misses == 0 or replica.missed_at is None or clock.now() - replica.missed_at >= MISSES_APART
