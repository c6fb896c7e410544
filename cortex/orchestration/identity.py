"""Which machine a host's name stands for: one container engine, until nothing runs there and it is silent."""

import logging
import socket
from pathlib import Path

from django.conf import settings

from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Host, Replica
from cortex.fleet.states import Observed
from cortex.orchestration.runtimes import Here
from cortex.runtime.contract import HostFacts

log = logging.getLogger(__name__)


class NameTaken(Exception):
    """The name stands for another machine: this one may neither act in it nor report."""


def node() -> str:
    """What this machine's workers are called, before their process ids: no two machines' workers go by one name."""
    return f"cortex@{settings.ENV.cortex_host_name}.{socket.gethostname()}"


def machine(facts: HostFacts) -> str:
    """What tells a machine from every other: machines may bear one name, and engines one key, hardly both."""
    return f"{facts.name} ({facts.identity})"[:255]


def claim(here: Here) -> tuple[Host, HostFacts]:
    """The host's row, and this machine's facts, once it may act in that name. Raises NameTaken, RuntimeFault."""
    host = _row(here)
    facts = here.runtime.facts()
    ours = machine(facts)
    if host.machine == ours or not (refusal := _refusal(host, ours)):
        _note(host, ours)
        return host, facts
    Host.objects.filter(id=host.id).update(rival=refusal, rival_at=clock.now())
    raise NameTaken(refusal)


def _row(here: Here) -> Host:
    """This host's row; a new one where somebody forgot it while we were out of sight."""
    found = Host.objects.filter(id=here.host.id).first()
    if found is None:
        found = Host.objects.get_or_create(name=here.host.name)[0]
        here.host.pk = found.pk
        log.warning("host %s had been forgotten; it is registered anew", found)
    return found


def is_ours(here: Here) -> bool:
    """Whether the host's name was this machine's when it last looked; its engine need not answer now."""
    return Host.objects.filter(id=here.host.id, machine__in=known(here)).exists()


def known(here: Here) -> set[str]:
    """The machines by whose name this process may act: its own, when it once claimed the name, and nobody's."""
    noted = _note_of(here.host)
    return {"", noted.read_text()} if noted.exists() else {""}


def is_same_engine(host: Host, facts: HostFacts) -> bool:
    """Whether this engine is the one that the host's containers were made on."""
    return host.machine in ("", machine(facts))


def _refusal(host: Host, ours: str) -> str:
    """Why this machine may not go by the host's name; empty when it may."""
    twin = Host.objects.exclude(id=host.id).filter(machine=ours).first()
    if twin and (is_alive(twin) or _runs_something(twin)):
        return f"This machine, {ours}, is host {twin} already. Give it that name again: CORTEX_HOST_NAME={twin}."
    if not host.machine:
        return ""
    if is_alive(host):
        return (
            f"Two machines call themselves {host}: {host.machine} does, and {ours} wants to. "
            "Give the newer one a name of its own in CORTEX_HOST_NAME."
        )
    if _runs_something(host):
        return (
            f"{ours} cannot take the place of {host.machine} as host {host}: that machine is silent, and models may "
            f"still run there. Bring it back, or forget host {host} if it is gone for good."
        )
    return ""


def is_alive(host: Host) -> bool:
    return host.seen_at is not None and clock.now() - host.seen_at < SILENT_AFTER


def _runs_something(host: Host) -> bool:
    return Replica.objects.filter(host=host).exclude(observed=Observed.ABSENT).exists()


def _note_of(host: Host) -> Path:
    return Path(settings.ENV.cortex_state) / f"machine-{host.name}"


def _note(host: Host, ours: str) -> None:
    """Kept for processes that do not see the engine, and for times when it does not answer."""
    path = _note_of(host)
    if not path.exists() or path.read_text() != ours:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ours)
