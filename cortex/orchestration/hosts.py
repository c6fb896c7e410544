"""This host's row and its cards: who we are, what we have, that we are alive; and hosts that fell silent."""

import logging
from datetime import datetime, timedelta

from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Gpu, Host, Overtaken, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import identity
from cortex.orchestration.effects import effect
from cortex.orchestration.lock import only_one
from cortex.orchestration.runtimes import Here
from cortex.runtime.contract import RuntimeFault
from cortex.runtime.gpus import Gpus

log = logging.getLogger(__name__)

# Hosts are heard of every five seconds at most.
AT_ONCE = timedelta(seconds=10)


def register(here: Here) -> bool:
    """Write what the host is and that it lives; whether its container engine answers. Raises NameTaken."""
    try:
        host, facts = identity.claim(here)
    except RuntimeFault as fault:
        _report_silence(here, f"Its container engine does not answer: {fault}")
        return False
    values = {"cores": facts.cores, "memory": facts.memory, "version": facts.version, "condition": ""}
    # Of two that claim a free name at once, one is first.
    ours = Host.objects.filter(id=host.id, machine=host.machine)
    return bool(ours.update(machine=identity.machine(facts), seen_at=clock.now(), **values))


def _report_silence(here: Here, condition: str) -> None:
    """Its engine does not say who it is: whoever was this host before still is, and only they say that it lives."""
    row = Host.objects.filter(id=here.host.id)
    if identity.is_ours(here):
        row.update(condition=condition, seen_at=clock.now())
    elif not identity.is_alive(row.get()):
        row.update(condition=condition)


def sample(here: Here, seen: Gpus) -> None:
    """Write the cards as they are; a card no longer seen is kept and marked missing."""
    now = clock.now()
    for card in seen.cards:
        values = {
            "host": here.host,
            "index": card.index,
            "name": card.name,
            "used": card.used,
            "utilisation": card.utilisation,
            "temperature": card.temperature,
            "power": card.power,
            "pids": [process.pid for process in card.processes],
            "missing": False,
            "seen_at": now,
        }
        Gpu.objects.update_or_create(uuid=card.uuid, defaults=values, create_defaults=values | {"total": card.total})
    gone = here.host.gpus.exclude(uuid__in=[card.uuid for card in seen.cards])
    gone.filter(missing=False).update(missing=True)
    toolkit = Host.objects.values_list("toolkit_condition", flat=True).get(id=here.host.id)
    conditions = " ".join(filter(None, [seen.condition, toolkit]))
    Host.objects.filter(id=here.host.id).update(gpu_condition=conditions)


def lose_sight(replica: Replica, reason: str) -> None:
    """Nobody can tell how it is: UNKNOWN, unless somebody works on it at this moment."""
    if replica.observed in (Observed.UNKNOWN, Observed.ABSENT):
        return
    with only_one(replica.id, patience=0) as held:
        if held:
            try:
                with effect("observe unknown"):
                    replica.observe(Observed.UNKNOWN, reason)
            except Overtaken as first:
                log.info("%s", first)


def silent_together() -> set[int]:
    """The ids of hosts that fell silent at once with most others: that is the network between, rather than they."""
    seen = {id: at for id, at in Host.objects.values_list("id", "seen_at") if at}
    silent = {id: at for id, at in seen.items() if at < clock.now() - SILENT_AFTER}
    return {id for id, at in silent.items() if _in_company(at, list(silent.values()), list(seen.values()))}


def _in_company(at: datetime, silent: list[datetime], seen: list[datetime]) -> bool:
    """Whether at least two, and half of all that lived then, were last heard of at this time."""
    company = sum(abs(other - at) < AT_ONCE for other in silent)
    lived = sum(other > at - AT_ONCE for other in seen)
    return company > 1 and 2 * company >= lived


def mark_silent() -> None:
    """What ran on hosts that were not heard of lately is UNKNOWN; nothing of it is touched, started or moved."""
    since = clock.now() - SILENT_AFTER
    silent = Replica.objects.filter(host__seen_at__lt=since).exclude(observed__in=[Observed.UNKNOWN, Observed.ABSENT])
    rows = list(silent.select_related("model", "host"))
    together = silent_together() if rows else set()
    for replica in rows:
        company = ", nor have most others: see to the network" if replica.host_id in together else ""
        lose_sight(replica, f"Host {replica.host} has not been heard of lately{company}. Nothing is touched meanwhile.")
