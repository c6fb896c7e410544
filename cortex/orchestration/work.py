"""One look's worth of work on one replica: what starting and stopping share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cortex.fleet.models import Attempt, Install, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import attempts
from cortex.orchestration.effects import effect
from cortex.runtime.contract import Container, Label, Runtime
from engines.contract import ContainerSpec


@dataclass
class Work:
    """A replica, its open attempt, and the runtime of its host."""

    replica: Replica
    runtime: Runtime
    attempt: Attempt | None

    @property
    def spec(self) -> ContainerSpec | None:
        """What its container was made from; None before it is known."""
        return ContainerSpec.model_validate(self.attempt.spec) if self.attempt and self.attempt.spec else None

    def end(self, reason: str, *, remedy: str = "", failed: bool, permanent: bool = False) -> None:
        """Close the open attempt, if there is one."""
        if self.attempt:
            with effect("end attempt"):
                attempts.end(self.attempt, self.replica, reason, remedy=remedy, failed=failed, permanent=permanent)
            self.attempt = None

    def wait(self, reason: str, delay: timedelta, in_the_way: Sequence[str] = ()) -> bool:
        """Stay absent for a while, for this reason."""
        self.replica.wait(delay)
        with effect("observe absent"):
            self.replica.observe(Observed.ABSENT, reason, in_the_way=in_the_way)
        return False

    def claims(self, container: Container) -> bool:
        """Whether this container is that of the open attempt."""
        return self.attempt is not None and container.labels.get(Label.ATTEMPT) == str(self.attempt.number)

    def owned(self) -> Container | None:
        """The container of this replica, should one bear our name and our labels."""
        found = self.runtime.inspect(self.replica.container_name)
        return found if found and is_of(found, self.replica) else None


def is_of(container: Container, replica: Replica) -> bool:
    """Whether its labels say that it is this replica's, of this install."""
    labels = container.labels
    return labels.get(Label.REPLICA) == replica.id.hex and labels.get(Label.INSTALL) == Install.identity()


def replica_of(container: Container) -> UUID | None:
    """The replica that a container's label names."""
    try:
        return UUID(container.labels.get(Label.REPLICA, ""))
    except ValueError:
        return None
