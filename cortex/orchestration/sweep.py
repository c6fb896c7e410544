"""The look at everything of one host: probes for what is settled, reconcile for what is not."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from uuid import UUID

from django.db import connection

from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Attempt, Host, Replica, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import drains, hosts, strays
from cortex.orchestration.looks import look_at
from cortex.orchestration.observe import judge, question, unknown
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import find_again, settle, unsettled
from cortex.orchestration.work import replica_of
from cortex.runtime.contract import Container, Health, RuntimeFault

log = logging.getLogger(__name__)

AT_ONCE = 8
UNREAD = ("first_log", "last_log", "estimated")
Each = Callable[[Iterable[UUID], Here], None]
Found = tuple[Replica, Container | None, Attempt | None]


def one_by_one(ids: Iterable[UUID], here: Here) -> None:
    """Reconcile each; what goes wrong with one does not keep the others waiting."""
    for id in ids:
        _reconcile(id, here)


def at_once(ids: Iterable[UUID], here: Here) -> None:
    """The same, side by side: a slow stop delays nobody."""

    def one(id: UUID) -> None:
        try:
            _reconcile(id, here)
        finally:
            connection.close()

    with ThreadPoolExecutor(AT_ONCE, "reconcile") as pool:
        list(pool.map(one, ids))


def _reconcile(id: UUID, here: Here) -> None:
    try:
        look_at(id, here)
    except Exception:
        log.exception("replica %s: the look at it failed; the next sweep looks again", id)


def settle_all(models: Iterable[Model]) -> None:
    """Settle each; the same."""
    for model in models:
        try:
            settle(model.id)
        except Exception:
            log.exception("model %s: its rows were not settled; the next sweep tries again", model)


def sweep(here: Here, each: Each = one_by_one) -> None:
    """Rows that do not match their models, then every replica of this host. Idempotent, and cheap when settled."""
    hosts.register(here)
    hosts.mark_silent()
    find_again(here.host)
    settle_all(unsettled())
    replicas = list(here.host.replicas.select_related("model", "host"))
    try:
        containers = here.runtime.find()
    except RuntimeFault as fault:
        for replica in replicas:
            hosts.lose_sight(replica, unknown(replica, fault).reason)
    else:
        strays.look_over(here, containers)
        each(_unsettled(here, replicas, containers), here)
    Host.objects.filter(id=here.host.id).update(swept_at=clock.now())


def _unsettled(here: Here, replicas: list[Replica], containers: list[Container]) -> list[UUID]:
    running = Attempt.objects.filter(replica__host=here.host, ended_at=None).defer(*UNREAD)
    attempts = {attempt.replica_id: attempt for attempt in running}
    by_replica = {replica_of(container): container for container in containers}
    found = [(replica, by_replica.get(replica.id), attempts.get(replica.id)) for replica in replicas]
    healths = _ask(here, found)
    now = clock.now()
    replaced = Replica.objects.filter(replaces__host=here.host, called_off=False)
    busy = set(replaced.values_list("replaces_id", flat=True))
    seated = set(Seat.objects.filter(replica__host=here.host).values_list("replica_id", flat=True))
    return [
        item[0].id
        for item, health in zip(found, healths, strict=True)
        if item[0].id in busy
        or not _is_settled(item, health, now)
        or (item[0].observed == Observed.ABSENT and (item[0].memory or item[0].id in seated))
    ]


def _ask(here: Here, found: list[Found]) -> list[Health | None]:
    """How each is; None where there is nobody to ask."""
    questions = [question(container, attempt) for _, container, attempt in found]
    asked = [
        (container, probe) for (_, container, _), probe in zip(found, questions, strict=True) if container and probe
    ]
    answers = iter(here.runtime.probe_all(asked))
    return [next(answers) if probe else None for probe in questions]


def _is_settled(item: Found, health: Health | None, now: datetime) -> bool:
    """What is wanted is what is shown, or its time has not come; and nothing is left to note."""
    replica, container, attempt = item
    renamed = container is not None and not container.name.endswith(replica.id.hex)
    if replica.turn != replica.model.turn or replica.misses or renamed:
        return False
    seen = judge(replica, attempt, container, health)
    if (seen.observed, seen.reason, seen.address) != (replica.observed, replica.reason, replica.address):
        return False
    if seen.observed is Observed.ABSENT and container is None and attempt is None:
        held = replica.gave_up or (replica.retry_at is not None and replica.retry_at > now)
        return held or not replica.wanted
    confirmed = attempt is not None and attempt.confirmed_turn == replica.turn
    serves = seen.observed is Observed.READY and health is Health.READY and confirmed
    stays = replica.draining_at is None and not drains.is_leaving(replica)
    return serves and replica.wanted and not replica.failures and stays
