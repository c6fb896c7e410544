"""This host's row and its cards: who we are, what we have, that we are alive; and hosts that fell silent."""

import logging

from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Gpu, Host, Overtaken, Replica
from cortex.fleet.states import Observed
from cortex.orchestration.effects import effect
from cortex.orchestration.lock import only_one
from cortex.orchestration.runtimes import Here
from cortex.runtime.contract import RuntimeFault
from cortex.runtime.gpus import Gpus

log = logging.getLogger(__name__)


class NameTaken(Exception):
    """Two machines go by one host name: only the first of them may act."""


def register(here: Here) -> bool:
    """Write what the host is and that it lives; whether its container engine answers. Raises NameTaken."""
    values: dict[str, object] = {"seen_at": clock.now(), "condition": ""}
    host = _row(here)
    try:
        facts = here.runtime.facts()
    except RuntimeFault as fault:
        values["condition"] = f"Its container engine does not answer: {fault}"
    else:
        if _is_taken(host, facts.name):
            two = f"Two machines call themselves {host}: {host.machine} and {facts.name}. Name one differently."
            Host.objects.filter(id=host.id).update(condition=two)
            raise NameTaken(two)
        values |= {"cores": facts.cores, "memory": facts.memory, "version": facts.version, "machine": facts.name}
    Host.objects.filter(id=host.id).update(**values)
    return not values["condition"]


def _row(here: Here) -> Host:
    """This host's row; a new one where somebody forgot it while we were out of sight."""
    found = Host.objects.filter(id=here.host.id).first()
    if found is None:
        found = Host.objects.get_or_create(name=here.host.name)[0]
        here.host.pk = found.pk
        log.warning("host %s had been forgotten; it is registered anew", found)
    return found


def _is_taken(host: Host, machine: str) -> bool:
    alive = host.seen_at is not None and clock.now() - host.seen_at < SILENT_AFTER
    return bool(host.machine) and host.machine != machine and alive


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


def mark_silent() -> None:
    """What ran on hosts that were not heard of lately is UNKNOWN; nothing of it is touched, started or moved."""
    since = clock.now() - SILENT_AFTER
    silent = Replica.objects.filter(host__seen_at__lt=since).exclude(observed__in=[Observed.UNKNOWN, Observed.ABSENT])
    for replica in silent.select_related("model", "host"):
        lose_sight(replica, f"Host {replica.host} has not been heard of lately. Nothing is touched meanwhile.")
