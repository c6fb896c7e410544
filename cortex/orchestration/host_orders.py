"""The verbs people have about hosts and strays: each in one transaction with who and when, and the loop is poked."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.db import transaction
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cortex.access.models import Person
from cortex.catalog.definition import Problem, Refusal, as_problem, check_labels
from cortex.catalog.models import Order
from cortex.fleet import clock
from cortex.fleet.models import SILENT_AFTER, Host, Replica, Stray
from cortex.fleet.states import Observed
from cortex.orchestration import attempts, seats
from cortex.orchestration.drains import holding
from cortex.orchestration.orders import merge
from cortex.orchestration.settle import unsettled
from cortex.orchestration.tasks import poke, poke_host

MOST_LABELS = 64


class NoSuchHost(LookupError):
    """No host bears this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no host named {name!r}.")
        self.name = name


class NoSuchStray(LookupError):
    """This stray is not listed: it is gone, or somebody claims it."""

    def __init__(self, id: int) -> None:
        super().__init__(f"There is no stray {id}: it is gone, or a replica claims it by now.")


class HostWish(BaseModel):
    """What people may say of a host."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, str] = Field(default_factory=dict, max_length=MOST_LABELS, description="What people call it.")
    cordoned: bool = Field(False, strict=True, description="Nothing new is placed there; what runs stays.")
    draining: bool = Field(
        False,
        strict=True,
        description="Nothing new is placed there, and what runs moves elsewhere. Uncordoning ends this too.",
    )

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        return check_labels(labels)


def revise(name: str, patch: Mapping[str, Any], by: Person | None) -> Host:
    """Change its labels, or what is to run there (a JSON merge patch). Raises NoSuchHost, Refusal."""
    with transaction.atomic():
        host = _locked(name)
        before = {"labels": host.labels, "cordoned": host.cordoned, "draining": host.draining}
        wish = _parse(merge(before, _meant(patch)))
        changes = {key: value for key, value in wish.model_dump().items() if before[key] != value}
        if changes:
            host.labels, host.cordoned = wish.labels, wish.cordoned
            if "draining" in changes:
                changes |= _drain(host, wish.draining)
            host.save(update_fields=["labels", "cordoned", "draining_since", "to_leave"])
            _record(host, _verb(changes), by, changes)
            if "draining" in changes:
                transaction.on_commit(partial(poke_host, host))
            transaction.on_commit(_poke_waiting)
        return host


def _meant(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    """To uncordon a host is to stop draining it as well."""
    opens = "cordoned" in patch and not patch["cordoned"]
    return {"draining": False, **patch} if opens else patch


def _drain(host: Host, draining: bool) -> dict[str, Any]:
    """It is to be empty, or no longer; who is there now, to be told in the order."""
    there = [str(replica) for replica in holding(host)]
    host.draining_since, host.to_leave = (clock.now(), len(there)) if draining else (None, 0)
    return {"replicas": there}


def _parse(words: Mapping[str, Any]) -> HostWish:
    try:
        return HostWish.model_validate(words)
    except ValidationError as error:
        raise Refusal("This cannot be said of a host.", [as_problem(e, "") for e in error.errors()]) from error


def _verb(changes: Mapping[str, Any]) -> str:
    if changes.get("draining"):
        return "drain"
    if "cordoned" in changes:
        return "cordon" if changes["cordoned"] else "uncordon"
    return "undrain" if "draining" in changes else "label"


def forget(name: str, by: Person | None, *, force: bool = False) -> Host:
    """Take a silent host's row away; it registers anew should it come back. Raises NoSuchHost, Refusal.

    With `force` also one that holds replicas: their attempts end, their seats are free, and they are placed
    elsewhere. Nobody has seen their containers gone: should they run on, they are strays when the host is back.
    """
    with transaction.atomic():
        there = Replica.objects.filter(host__name=name).select_for_update(of=("self",), no_key=True)
        replicas = list(there.order_by("id"))  # before the host: so does who takes a seat
        host = _locked(name)
        _refuse_to_forget(host, force=force)
        models = {replica.model_id for replica in replicas}
        for replica in replicas:
            _let_go(replica, f"Host {host} was forgotten by {_who(by)}; its container may still run there.")
        _record(host, "forget", by, {"replicas": sorted(map(str, replicas))} if force else {})
        Host.objects.filter(id=host.id).delete()
        for model in sorted(models):
            transaction.on_commit(partial(poke, model))
    return host


def _refuse_to_forget(host: Host, *, force: bool) -> None:
    if host.seen_at is not None and clock.now() - host.seen_at < SILENT_AFTER:
        detail = f"Host {host} answers: it would be back at once."
        raise Refusal(
            "Only a silent host can be forgotten.",
            [Problem("", detail, "Stop its agent and its worker, wait 20 seconds, and say it again.")],
            status=409,
        )
    held = holding(host)
    if held and not force:
        names = ", ".join(map(str, held))
        remedy = "Bring the host back; or, if it never comes back, have an administrator forget it with force."
        raise Refusal("This host holds replicas.", [Problem("", f"{host} holds {names}.", remedy)], status=409)


def _let_go(replica: Replica, reason: str) -> None:
    """As if it had been seen gone, by somebody's word alone."""
    if replica.observed != Observed.ABSENT:
        replica.observe(Observed.ABSENT, reason)
    attempt = attempts.current(replica)
    if attempt:
        attempts.end(attempt, replica, reason, failed=False)
    seats.free(replica)
    replica.host, replica.draining_at, replica.misses = None, None, 0
    replica.save(update_fields=["host", "draining_at", "misses"])


def remove_stray(id: int, by: Person | None) -> Stray:
    """A stray is to go now, not after its grace. Raises NoSuchStray."""
    with transaction.atomic():
        stray = Stray.objects.select_for_update(of=("self",)).select_related("host").filter(id=id).first()
        if stray is None:
            raise NoSuchStray(id)
        if not stray.confirmed:
            stray.confirmed = True
            stray.save(update_fields=["confirmed"])
            _record(stray.host, "remove stray", by, {"container": stray.name, "model": stray.model_name})
            transaction.on_commit(lambda: poke_host(stray.host))
        return stray


def _locked(name: str) -> Host:
    host = Host.objects.select_for_update(no_key=True).filter(name=name).first()
    if host is None:
        raise NoSuchHost(name)
    return host


def _record(host: Host, verb: str, by: Person | None, changes: dict[str, Any]) -> None:
    Order.objects.create(host_name=host.name, verb=verb, by=by, by_name=_who(by), turn=0, changes=changes)


def _who(by: Person | None) -> str:
    return by.username if by else "cortex"


def _poke_waiting() -> None:
    """There may be room for those that wait."""
    for model in unsettled():
        poke(model.id)
