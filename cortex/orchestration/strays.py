"""Containers of this install that no replica claims: listed at once, removed after a grace, never many."""

import logging
from datetime import timedelta

from django.db import IntegrityError, transaction

from cortex.fleet import clock
from cortex.fleet.models import Host, Install, Replica, Stray
from cortex.orchestration.effects import effect
from cortex.orchestration.runtimes import Here
from cortex.orchestration.work import replica_of
from cortex.runtime.contract import Container, Label, RuntimeFault

log = logging.getLogger(__name__)

GRACE = timedelta(minutes=5)
AT_ONCE = 3
SHARE = 0.2


def look_over(here: Here, containers: list[Container]) -> None:
    """List the strays of this host, forget those that are none, and remove those whose grace is over."""
    claims = set(Replica.objects.filter(host=here.host).values_list("id", flat=True))
    unclaimed = {container.id: container for container in containers if replica_of(container) not in claims}
    known = {stray.container_id: stray for stray in Stray.objects.filter(host=here.host)}
    for id in known.keys() - unclaimed.keys():
        known.pop(id).delete()
    for id in unclaimed.keys() - known.keys():
        _list(here.host, unclaimed[id])
    due = [stray for stray in known.values() if stray.confirmed or clock.now() - stray.first_seen_at > GRACE]
    if not claims or len(unclaimed) > max(AT_ONCE, SHARE * len(containers)):
        due = [stray for stray in due if stray.confirmed]  # an empty list may be a wrong one: it proves nothing
    for stray in due[:AT_ONCE]:
        _remove(here, stray, unclaimed[stray.container_id])


def _is_claimed(container: Container, host: Host) -> bool:
    """A row is the claim. Another install's container is none of our business at all; find() shows none."""
    if container.labels.get(Label.INSTALL) != Install.identity():
        return True
    replica = replica_of(container)
    return replica is not None and Replica.objects.filter(id=replica, host=host).exists()


def _list(host: Host, container: Container) -> None:
    model = container.labels.get(Label.MODEL, "")[:63]
    try:
        with transaction.atomic():
            Stray.objects.create(
                host=host,
                container_id=container.id,
                name=container.name,
                model_name=model,
                first_seen_at=clock.now(),
            )
    except IntegrityError:  # the other process of this host listed it first
        return
    log.warning("host %s: nobody claims container %s (model %s)", host, container.name, model)


def _remove(here: Here, stray: Stray, container: Container) -> None:
    """Proof first: it is asked again, by its id, whether somebody claims it now."""
    found = here.runtime.inspect(container.id)
    if found is None or _is_claimed(found, here.host):
        return
    try:
        with effect("remove stray"):
            here.runtime.remove(found.id)
    except RuntimeFault as fault:
        log.warning("host %s: stray container %s stays: %s", here.host, found.name, fault)
        return
    log.warning("host %s: removed stray container %s", here.host, found.name)
    stray.delete()
