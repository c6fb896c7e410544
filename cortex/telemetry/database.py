"""What an error of the database means to people: which it is, in its own words, and what to do next."""

from dataclasses import dataclass, replace

from django.db import InterfaceError, OperationalError
from psycopg.errors import AdminShutdown, CannotConnectNow, CrashShutdown, DiskFull, Error

TROUBLES = (OperationalError, InterfaceError)
ENDING = (AdminShutdown, CrashShutdown, CannotConnectNow)  # or just starting
KEPT = "Nothing was changed, and models run on."


@dataclass(frozen=True)
class Trouble:
    """A kind of trouble under its `code`, and what to do next; `detail` says what happened."""

    code: str
    title: str
    remedy: str
    detail: str = ""


FULL = Trouble(
    "database_full",
    "The database's disk is full.",
    f"{KEPT} Free space where PostgreSQL keeps its data; then try again.",
)
REFUSES = Trouble("database_refuses", "The database refuses.", f"{KEPT} Put that right; then try again.")
AWAY = Trouble(
    "database_unreachable",
    "Cortex cannot reach its database.",
    f"{KEPT} Check that PostgreSQL runs and DATABASE_URL; then try again.",
)
KINDS = (FULL, REFUSES, AWAY)


def explained(error: Exception) -> Trouble:
    """Told apart: it is full, it refuses with a reason, it is not there or no longer."""
    cause = error.__cause__
    said = cause.diag.message_primary if isinstance(cause, Error) else None
    detail = f"PostgreSQL says: {said}." if said else "PostgreSQL did not answer, or closed the connection."
    if isinstance(cause, DiskFull):
        return replace(FULL, detail=detail)
    return replace(REFUSES if said and not isinstance(cause, ENDING) else AWAY, detail=detail)
