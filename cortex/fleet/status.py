"""How a model is, in one word and one sentence, from its replicas: the same for every door."""

from dataclasses import dataclass

from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed, Phase

WORST_FIRST = [
    Phase.FAILING,
    Phase.UNKNOWN,
    Phase.FETCHING,
    Phase.LOADING,
    Phase.QUEUED,
    Phase.DRAINING,
    Phase.SERVING,
    Phase.STOPPED,
]


@dataclass(frozen=True)
class Status:
    """A model as people see it. `ready` of `wanted` replicas answer; `settled` means nothing is under way."""

    phase: Phase
    reason: str
    ready: int
    wanted: int
    settled: bool
    gave_up: bool = False


def status(model: Model, replicas: list[Replica]) -> Status:
    """The worst replica speaks for the model, unless others serve: then it serves, and says what is missing."""
    wanted = model.replicas if model.desired == Desired.RUNNING and not model.removed_at else 0
    ready = min(wanted, sum(replica.phase is Phase.SERVING for replica in replicas))
    worst = min(replicas, key=lambda replica: WORST_FIRST.index(replica.phase), default=None)
    if worst is None:
        queued = "Waits for the loop to take it up." if wanted else "Stopped."
        return Status(Phase.QUEUED if wanted else Phase.STOPPED, queued, 0, wanted, settled=not wanted)
    settled = ready == wanted and all(r.phase in (Phase.SERVING, Phase.STOPPED) for r in replicas)
    if ready and worst.phase is not Phase.SERVING and wanted:
        who = "the one to replace it" if worst.replaces_id else "replica"
        reason = f"{ready} of {wanted} serve; {who} {worst.slot}: {_why(worst)}"
        return Status(Phase.SERVING, reason, ready, wanted, settled)
    return Status(
        worst.phase, _why(worst), ready, wanted, settled, gave_up=worst.phase is Phase.FAILING and worst.gave_up
    )


def _why(replica: Replica) -> str:
    """Its reason, and what comes next when it fails or drains."""
    if replica.phase is Phase.DRAINING and replica.observed == Observed.READY:
        return "It answers what it was asked, and then stops" + (", to start anew." if replica.wanted else ".")
    if replica.phase is not Phase.FAILING:
        return replica.reason
    if replica.gave_up:
        return f"{replica.reason} It is not tried again until somebody changes or starts it."
    if replica.retry_at and replica.observed == Observed.ABSENT:
        return f"{replica.reason} It is tried again at {replica.retry_at:%H:%M:%S} UTC."
    return replica.reason
