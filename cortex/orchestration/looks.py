"""A look that may end its own process, as a lack of memory does: noted before it begins, so that it ends few of them.

The notes are files of this host: the look of the process that died holds its lock no more, whatever else it held.
"""

import dataclasses
import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from django.conf import settings

from cortex.fleet.models import Overtaken, Replica
from cortex.fleet.states import Observed
from cortex.orchestration.effects import effect
from cortex.orchestration.lock import only_one
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here

log = logging.getLogger(__name__)

DEATHS = 3
PARKED_FOR = 600.0


@dataclass(frozen=True)
class Note:
    """So many looks in a row never ended. Nobody looks since `parked_at`, when its model was at this turn."""

    deaths: int = 0
    parked_at: float = 0.0
    turn: int = 0


def look_at(replica: UUID, here: Here) -> None:
    """Reconcile it, unless that ended its process three times in a row: then people are told, and it waits."""
    try:
        path = _folder() / replica.hex
        file = path.open("a+b", buffering=0)
    except OSError as error:  # a full disk, no descriptor left: what notes guard against is rare
        log.warning("no note is taken of looks: %s", error)
        reconcile(replica, here)
        return
    with file:
        if _take(file):
            _look(file, path, replica, here)
        elif not _read(file).parked_at:  # somebody else looks at this moment
            reconcile(replica, here)


def _look(file: IO[bytes], path: Path, replica: UUID, here: Here) -> None:
    note = _judged(_read(file), replica)
    with _alone() if note.deaths else nullcontext():
        if note.deaths >= DEATHS and note.parked_at:
            _write(file, note)
            _park(replica, here)
            return
        _write(file, dataclasses.replace(note, deaths=note.deaths + 1))
        try:
            reconcile(replica, here)
        finally:
            path.unlink(missing_ok=True)


def _judged(note: Note, replica: UUID) -> Note:
    """Parked at the third death; given one more try when people want something else of it, and after a while."""
    turn = Replica.objects.filter(id=replica).values_list("model__turn", flat=True).first() if note.deaths else None
    if turn is None or note.deaths < DEATHS:
        return note
    now = time.time()
    if note.parked_at and (turn != note.turn or abs(now - note.parked_at) > PARKED_FOR):
        return Note(DEATHS - 1)
    return note if note.parked_at else Note(note.deaths, now, turn)


@contextmanager
def _alone() -> Iterator[None]:
    """One after the other those whose looks did not end: who merely stood beside is not counted again."""
    with (_folder() / "alone").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _park(id: UUID, here: Here) -> None:
    replica = Replica.objects.select_related("model", "host").filter(id=id, host=here.host).first()
    if replica is None:
        return
    shown = Observed.ABSENT if replica.observed == Observed.ABSENT else Observed.UNKNOWN
    reason = (
        f"To look at it ended the process that did, {DEATHS} times in a row, perhaps for want of memory: see the logs "
        f"of the worker and the agent of host {here.host}. What runs is left alone. It is looked at again after "
        f"{PARKED_FOR / 60:.0f} minutes, and as soon as somebody changes or starts its model."
    )
    with only_one(id, patience=0) as held, suppress(Overtaken):
        if held:
            with effect("observe parked"):
                replica.observe(shown, reason)


def _folder() -> Path:
    folder = Path(settings.ENV.cortex_state) / "looks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _take(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[bytes]) -> Note:
    file.seek(0)
    try:
        return Note(**json.loads(file.read() or b"{}"))
    except (ValueError, TypeError):  # cut off in the middle of a write
        return Note(deaths=1)


def _write(file: IO[bytes], note: Note) -> None:
    with suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(json.dumps(dataclasses.asdict(note)).encode())
