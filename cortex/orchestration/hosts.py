"""This host's row and its cards: who we are, what we have, that we are alive."""

import logging

from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host
from cortex.orchestration.runtimes import Here
from cortex.runtime.contract import RuntimeFault
from cortex.runtime.gpus import Gpus

log = logging.getLogger(__name__)


def register(here: Here) -> bool:
    """Write what the host is and that it lives; whether its container engine answers."""
    values: dict[str, object] = {"seen_at": clock.now(), "condition": ""}
    try:
        facts = here.runtime.facts()
        values |= {"cores": facts.cores, "memory": facts.memory, "version": facts.version}
    except RuntimeFault as fault:
        values["condition"] = f"Its container engine does not answer: {fault}"
    Host.objects.filter(id=here.host.id).update(**values)
    return not values["condition"]


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
            "missing": False,
            "seen_at": now,
        }
        Gpu.objects.update_or_create(uuid=card.uuid, defaults=values, create_defaults=values | {"total": card.total})
    gone = here.host.gpus.exclude(uuid__in=[card.uuid for card in seen.cards])
    gone.filter(missing=False).update(missing=True)
    Host.objects.filter(id=here.host.id).update(gpu_condition=seen.condition)
