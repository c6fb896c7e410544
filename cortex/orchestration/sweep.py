"""The look at everything of one host: probes for what is settled, reconcile for what is not."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from cortex.fleet import clock
from cortex.fleet.models import Attempt, Host, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import hosts
from cortex.orchestration.observe import ask, judge, unknown
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle, unsettled
from cortex.runtime.contract import Container, Health, Unreachable

log = logging.getLogger(__name__)

PROBES_AT_ONCE = 16


def sweep(here: Here) -> None:
    """Rows that do not match their models, then every replica of this host. Idempotent, and cheap when settled."""
    hosts.register(here)
    for model in unsettled():
        settle(model.id)
    replicas = list(Replica.objects.filter(host=here.host).select_related("model", "host"))
    try:
        containers = {container.name: container for container in here.runtime.find()}
    except Unreachable as fault:
        _lose_sight(replicas, fault)
    else:
        for replica in _unsettled(here, replicas, containers):
            reconcile(replica.id, here)
    Host.objects.filter(id=here.host.id).update(swept_at=clock.now())


def _lose_sight(replicas: Iterable[Replica], fault: Unreachable) -> None:
    for replica in replicas:
        if replica.observed not in (Observed.UNKNOWN, Observed.ABSENT):
            seen = unknown(replica, fault)
            replica.observe(seen.observed, seen.reason)


def _unsettled(here: Here, replicas: list[Replica], containers: dict[str, Container]) -> list[Replica]:
    attempts = {a.replica_id: a for a in Attempt.objects.filter(replica__in=replicas, ended_at=None)}
    found = [(replica, containers.get(replica.container_name), attempts.get(replica.id)) for replica in replicas]

    def probe(item: tuple[Replica, Container | None, Attempt | None]) -> Health | None:
        return ask(here.runtime, item[1], item[2])

    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        healths = list(pool.map(probe, found))
    return [
        replica
        for (replica, container, _), health in zip(found, healths, strict=True)
        if not _is_settled(replica, container, health)
    ]


def _is_settled(replica: Replica, container: Container | None, health: Health | None) -> bool:
    """What is wanted is what is shown, and nothing is left to note."""
    if replica.turn != replica.model.turn or replica.misses or replica.failures:
        return False
    seen = judge(replica, container, health)
    if (seen.observed, seen.reason, seen.address) != (replica.observed, replica.reason, replica.address):
        return False
    if replica.wanted:
        return seen.observed is Observed.READY and health is Health.READY
    return seen.observed is Observed.ABSENT and container is None
