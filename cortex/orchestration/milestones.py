"""Steps of a start that nobody orders: what the engine's log tells of it, and the first answer to anybody."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import redis
from django.db import Error as DatabaseFault

from cortex.fleet.models import Attempt
from cortex.orchestration.effects import effect
from cortex.orchestration.runtimes import Here
from cortex.telemetry import firsts
from engines import UnknownEngine, engine
from engines.contract import Milestone

log = logging.getLogger(__name__)

FIELDS: dict[Milestone, str] = {"weights": "weights_loaded_at", "cache": "cache_sized_at"}
LINES = 5000
REMEMBERED = 500
Line = tuple[UUID, int, int, str]


@dataclass
class _Heard:
    """What is still to be heard of an attempt, and how many of its lines were listened to."""

    attempt: Attempt
    tell: Callable[[str], Milestone | None]
    left: set[Milestone]
    lines: int = 0


class Milestones:
    """Listens to the lines of starting containers. Each attempt is looked up once, and not heard for ever."""

    def __init__(self) -> None:
        self._heard: dict[tuple[UUID, int], _Heard | None] = {}

    def hear(self, lines: Iterable[Line]) -> None:
        """Note the steps that these lines tell: replica, attempt's number, stamp in nanoseconds, text."""
        for replica, number, stamp, text in lines:
            heard = self._of(replica, number)
            if heard:
                self._listen(heard, stamp, text)
                if not heard.left or heard.lines > LINES:
                    self._heard[replica, number] = None

    def _of(self, replica: UUID, number: int) -> _Heard | None:
        if (replica, number) not in self._heard:
            if len(self._heard) > REMEMBERED:
                self._heard.clear()
            self._heard[replica, number] = _look_up(replica, number)
        return self._heard[replica, number]

    def _listen(self, heard: _Heard, stamp: int, text: str) -> None:
        heard.lines += 1
        step = heard.tell(text)
        if step in heard.left:
            heard.left.discard(step)
            _note(heard.attempt, FIELDS[step], datetime.fromtimestamp(stamp / 1e9, tz=UTC))


def _look_up(replica: UUID, number: int) -> _Heard | None:
    ours = Attempt.objects.filter(replica=replica, number=number, ended_at=None)
    attempt = ours.select_related("replica__model").first()
    if attempt is None:
        return None
    try:
        kind = engine(attempt.replica.model.engine)
    except UnknownEngine:
        return None
    left = {step for step in kind.milestones if getattr(attempt, FIELDS[step]) is None}
    return _Heard(attempt, kind.milestone, left) if left else None


def _note(attempt: Attempt, field: str, at: datetime) -> None:
    """Once; never before the container was started, whatever the host's clock says."""
    at = max(at, attempt.started_at or at)
    with effect("note milestone"):
        Attempt.objects.filter(id=attempt.id, **{field: None}).update(**{field: at})


def listen(milestones: Milestones, lines: list[Line]) -> None:
    """Hear the lines; a database that is away costs a mark on a timeline, and nothing else."""
    try:
        milestones.hear(lines)
    except DatabaseFault as error:
        log.warning("steps of starts are not noted: %s", error)


def note_first_answers(here: Here) -> None:
    """Note on each attempt of this host when it first answered anybody, once the gateways have told it."""
    waiting = Attempt.objects.filter(replica__host=here.host, ended_at=None, ready_at__isnull=False)
    by_replica = {attempt.replica_id: attempt for attempt in waiting.filter(first_token_at=None)}
    if not by_replica:
        return
    try:
        found = firsts.since({id: attempt.started_at or attempt.queued_at for id, attempt in by_replica.items()})
    except redis.RedisError as error:
        log.info("first answers are not known yet: %s", error)
        return
    for id, at in found.items():
        _note(by_replica[id], "first_token_at", max(at, by_replica[id].ready_at or at))
