"""What a host shows of a replica: a container, a probe, and what was seen before -> one word with its reason."""

from dataclasses import dataclass

from cortex.fleet.models import Attempt, Replica
from cortex.fleet.states import Observed
from cortex.runtime.contract import Container, Health, Label, Runtime, State, Unreachable
from engines.contract import ContainerSpec

MISSES_ALLOWED = 3


@dataclass(frozen=True)
class Seen:
    """One look. `health` is None where no probe was made."""

    observed: Observed
    reason: str
    container: Container | None = None
    health: Health | None = None

    @property
    def address(self) -> str:
        return (self.container.address or "") if self.container and self.observed is Observed.READY else ""


def look(runtime: Runtime, replica: Replica, attempt: Attempt | None) -> Seen:
    """Inspect and probe. Silence of the host is UNKNOWN, which nobody acts upon."""
    try:
        container = runtime.inspect(replica.container_name)
    except Unreachable as fault:
        return unknown(replica, fault)
    return judge(replica, container, ask(runtime, container, attempt))


def unknown(replica: Replica, fault: Unreachable) -> Seen:
    return Seen(Observed.UNKNOWN, f"Host {replica.host} does not answer: {fault.what} Nothing is touched meanwhile.")


def ask(runtime: Runtime, container: Container | None, attempt: Attempt | None) -> Health | None:
    """Probe a running container whose attempt we know."""
    if container is None or container.state is not State.RUNNING or attempt is None:
        return None
    return runtime.probe(container, ContainerSpec.model_validate(attempt.spec).probe)


def judge(replica: Replica, container: Container | None, health: Health | None) -> Seen:
    """The word for what was found."""
    before = Observed(replica.observed)
    if container is None:
        if before is Observed.FETCHING:
            return Seen(before, replica.reason)
        return Seen(Observed.ABSENT, _why_absent(replica, before))
    if container.labels.get(Label.REPLICA) != replica.id.hex:
        return Seen(
            Observed.ABSENT, f"A container that is not ours bears the name {container.name}. Remove it by hand."
        )
    match container.state:
        case State.EXITED:
            by_us = before in (Observed.STOPPING, Observed.EXITED)
            reason = replica.reason if by_us else f"It ended with exit status {container.exit_code}."
            return Seen(Observed.EXITED, reason, container)
        case State.CREATED:
            return _never_started(replica, container)
        case State.PAUSED:
            return Seen(Observed.UNRESPONSIVE, "Somebody paused its container.", container)
    return _running(replica, before, container, health)


def _why_absent(replica: Replica, before: Observed) -> str:
    if not replica.wanted:
        return "Stopped."
    alive = before in (Observed.LOADING, Observed.READY, Observed.UNRESPONSIVE, Observed.UNKNOWN)
    return "Its container is gone." if alive else replica.reason


def _never_started(replica: Replica, container: Container) -> Seen:
    if container.error or not replica.wanted:
        return Seen(Observed.EXITED, replica.reason, container)
    return Seen(Observed.ABSENT, "Its container was made, but not started yet.", container)


def _running(replica: Replica, before: Observed, container: Container, health: Health | None) -> Seen:
    if before is Observed.STOPPING:
        return Seen(before, replica.reason, container)
    if health is Health.READY:
        return Seen(Observed.READY, "Answers.", container, health)
    if before in (Observed.READY, Observed.UNRESPONSIVE):
        if before is Observed.READY and replica.misses + 1 < MISSES_ALLOWED:
            return Seen(before, replica.reason, container, health)
        return Seen(Observed.UNRESPONSIVE, f"Did not answer {MISSES_ALLOWED} times in a row.", container, health)
    reason = "Loading the model." if health is Health.LOADING else "Its process starts."
    return Seen(Observed.LOADING, reason, container, health)
