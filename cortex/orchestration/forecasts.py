"""What the doors tell of a definition before it runs: the same numbers as placement's, with reasons and fixes."""

from collections.abc import Sequence
from dataclasses import replace

from cortex import placement
from cortex.catalog.definition import Definition
from cortex.catalog.estimates import Read, Unknown, ask, read_shape, wishes
from cortex.catalog.forecast import Forecast, forecast
from cortex.catalog.models import Model
from cortex.fleet.models import Host
from cortex.orchestration import needs, seats, settle


def of(definition: Definition, instead_of: Model | None = None, read: Read = read_shape) -> Forecast:
    """On the host where placement would put it now; what `instead_of` holds counts as free. Raises Refusal."""
    rows = list(Host.objects.prefetch_related("gpus"))
    lacks = settle.lacks(definition.source.repository, definition.source.path)
    hosts = seats.hosts(rows, settle.faults(rows) | lacks, instead_of)
    chosen, refusal = _host(definition, hosts, read)
    found = on(definition, replace(chosen, fault=""), read)
    if refusal is None:
        return found
    found = replace(found, goes_to="", in_the_way=refusal.in_the_way or found.in_the_way)
    if found.verdict == "does_not_fit":
        return replace(found, reason=f"{found.reason} {refusal}" if chosen.fault else str(refusal))
    return replace(found, assumptions=(f"It would wait. {refusal}", *found.assumptions))


def on(definition: Definition, host: placement.Host, read: Read = read_shape) -> Forecast:
    """On this host, real or imagined. Raises Refusal."""
    names = {card.name for card in host.cards if not card.missing}
    return forecast(definition, host, needs.past(definition, names), read)


def largest() -> placement.Host:
    """The host with the most GPU memory, then the most of its own, for plans of several models."""
    hosts = seats.hosts(Host.objects.prefetch_related("gpus"), {})
    return max(
        hosts, key=lambda host: (sum(card.total for card in host.cards), host.memory), default=placement.Host("")
    )


def _host(
    definition: Definition, hosts: Sequence[placement.Host], read: Read
) -> tuple[placement.Host, placement.NoRoom | None]:
    """Where it would go; while it cannot go anywhere, the host with the most free memory, and why not."""
    if not hosts:
        return placement.Host("", memory=0), None
    emptiest = max(hosts, key=lambda host: (not host.fault, sum(card.free for card in host.cards), host.memory))
    answer = placement.choose(_need(definition, hosts, read), hosts)
    if isinstance(answer, placement.NoRoom):
        return emptiest, answer
    return next(host for host in hosts if host.name == answer.host), None


def _need(definition: Definition, hosts: Sequence[placement.Host], read: Read) -> placement.Need:
    """As far as it is known: of what nobody can estimate, its wishes alone."""
    usable = [[card.name for card in host.cards if not card.missing] for host in hosts]
    past = needs.past(definition, {name for names in usable for name in names})
    try:
        return ask(definition, max(map(len, usable)), past, read).need
    except Unknown:
        return wishes(definition)
