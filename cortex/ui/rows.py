"""What pages show of models: rows read with few queries, none of them in a template."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Prefetch

from cortex.catalog.models import Model, ModelQuerySet
from cortex.fleet.models import Attempt, Replica
from cortex.fleet.states import Phase
from cortex.fleet.status import Status, status
from cortex.ui import cards
from engines import UnknownEngine, engine

WAITING = (Phase.QUEUED, Phase.FETCHING, Phase.LOADING, Phase.DRAINING)


@dataclass(frozen=True)
class Row:
    """A model with its state; `attempt` is the one under way, `failure` the last that ended badly.

    `cards` are the numbers of the cards that its reasons may name.
    """

    model: Model
    status: Status
    replicas: list[Replica]
    attempt: Attempt | None
    failure: Attempt | None
    cards: Mapping[str, str]

    @property
    def engine_title(self) -> str:
        try:
            return engine(self.model.engine).title
        except UnknownEngine:
            return self.model.engine

    @property
    def source(self) -> str:
        return "/".join(part for part in (self.model.repository, self.model.path) if part)

    @property
    def since(self) -> datetime | None:
        """When what is under way began."""
        return self.attempt.queued_at if self.attempt and self.status.phase in WAITING else None

    @property
    def fetched(self) -> int | None:
        """Per cent of the bytes on their way."""
        attempt = self.attempt if self.status.phase is Phase.FETCHING else None
        return min(100, 100 * attempt.bytes_done // attempt.bytes_total) if attempt and attempt.bytes_total else None

    @property
    def runs(self) -> bool:
        return self.model.desired == "running"


def rows(models: ModelQuerySet) -> list[Row]:
    """Rows of these models, in their order."""
    replicas = Prefetch("replica_set", Replica.objects.select_related("model", "host"))
    found = list(models.prefetch_related(replicas))
    under_way, failed = _attempts(found)
    names = cards.names()
    return [_row(model, under_way, failed, names) for model in found]


def _attempts(models: list[Model]) -> tuple[dict[int, Attempt], dict[int, Attempt]]:
    ours = Attempt.objects.filter(replica__model__in=models).select_related("replica").defer("first_log", "last_log")
    under_way = {attempt.replica.model_id: attempt for attempt in ours.filter(ended_at=None)}
    bad = ours.filter(replica__failures__gt=0).exclude(ended_at=None).exclude(reason="").order_by("number")
    return under_way, {attempt.replica.model_id: attempt for attempt in bad}


def _row(model: Model, under_way: dict[int, Attempt], failed: dict[int, Attempt], names: Mapping[str, str]) -> Row:
    replicas = list(model.replica_set.all())
    return Row(model, status(model, replicas), replicas, under_way.get(model.id), failed.get(model.id), names)


@dataclass(frozen=True)
class Summary:
    """The list in one line."""

    total: int
    serving: int
    failing: int
    moving: int

    @property
    def title(self) -> str:
        """What the browser's tab says."""
        return f"({self.failing} failing) Models" if self.failing else "Models"


def summary(of: list[Row]) -> Summary:
    phases = [row.status.phase for row in of]
    return Summary(
        total=len(of),
        serving=phases.count(Phase.SERVING),
        failing=phases.count(Phase.FAILING),
        moving=sum(phase in WAITING for phase in phases),
    )
