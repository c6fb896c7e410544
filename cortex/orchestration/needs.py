"""What replicas need, estimated and corrected by what earlier starts took."""

from collections.abc import Iterable

from django.conf import settings
from django.db.models import Count, QuerySet

from cortex import placement
from cortex.calculator.calibration import Measured
from cortex.catalog import estimates
from cortex.catalog.definition import Definition, Refusal, confirm, describe
from cortex.catalog.estimates import Asked, Past
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Host, Measurement, Replica
from engines import engine

LATEST = 50


def asked(model: Model, host: Host | None, size: int) -> Asked:
    """What placement is asked for, on this host or any. Never fails: what is not known falls back on the weights.

    Only what is on this machine is read, so that it may be called inside a transaction.
    """
    definition = describe(model)
    gpus = usable(definition)
    gpus = gpus.filter(host=host) if host else gpus
    counts = gpus.values("host").annotate(count=Count("uuid")).values_list("count", flat=True)
    try:
        confirm(model)
        names = set(gpus.values_list("name", flat=True))
        return estimates.ask(definition, max(counts, default=0), past(definition, names), estimates.read_near)
    except (estimates.Unknown, Refusal) as why:
        return estimates.ask_blindly(definition, size, str(why))


def usable(definition: Definition) -> QuerySet[Gpu]:
    """The cards that it may go to, by its wishes."""
    wanted = definition.placement
    gpus = Gpu.objects.filter(missing=False, host__labels__contains=wanted.labels)
    gpus = gpus.filter(uuid__in=wanted.cards) if wanted.cards else gpus
    return gpus.filter(host__name__in=wanted.hosts) if wanted.hosts else gpus


def met(replica: Replica, cards: Iterable[str]) -> bool:
    """Whether a replica on these cards of its host is where its model may be."""
    wish, host = estimates.wishes(describe(replica.model)), replica.host
    if host is None or (wish.pinned and not wish.pinned.issuperset(cards)):
        return False
    return placement.misfit(wish, host.name, host.labels) is None


def told(replica: Replica, size: int, gpus: int) -> dict[str, object]:
    """What an attempt on so many cards is expected to take, to be kept with it."""
    found = asked(replica.model, replica.host, size)
    if gpus not in found.plans:
        return {"note": found.fallback or f"Nobody estimated it on {gpus} GPUs."}
    plan = found.plans[gpus]
    return {"cards": estimates.terms_of(plan), "host": {term.name: term.likely for term in plan.estimate.host.terms}}


def image(definition: Definition, *, gpus: bool) -> str:
    """The image its containers run."""
    own = settings.IMAGES.get(definition.engine, "")
    return definition.image or own or engine(definition.engine).image_for(gpus=gpus)


def past(definition: Definition, cards: Iterable[str]) -> list[Past]:
    """Earlier starts of the same weights, engine and image on such cards, the latest first; none on mixed cards."""
    names = set(cards)
    if len(names) != 1:
        return []
    rows = history(definition).filter(card=names.pop(), image=image(definition, gpus=True))
    return [_past(row) for row in rows[:LATEST]]


def history(definition: Definition) -> QuerySet[Measurement]:
    """All that was measured of the same weights with the same engine, the latest first."""
    source = definition.source
    return Measurement.objects.filter(engine=definition.engine, repository=source.repository, path=source.path)


def _past(row: Measurement) -> Past:
    measured = Measured(row.terms, row.tokens, tuple(row.devices))
    return Past(row.card, row.gpus, measured, row.estimated, f"{row.at:%Y-%m-%d %H:%M} UTC")
