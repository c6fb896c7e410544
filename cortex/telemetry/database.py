"""What an error of the database means to people: which it is, in its own words, and what to do next."""

from dataclasses import dataclass

from django.db import InterfaceError, OperationalError
from psycopg.errors import AdminShutdown, CannotConnectNow, CrashShutdown, DiskFull, Error

TROUBLES = (OperationalError, InterfaceError)
AWAY = (AdminShutdown, CrashShutdown, CannotConnectNow)  # it ends, or is just starting


@dataclass(frozen=True)
class Trouble:
    """`code` is a kind of problem; `detail` says what happened."""

    code: str
    title: str
    detail: str
    remedy: str


def explained(error: Exception) -> Trouble:
    """Told apart: it is full, it refuses with a reason, it is not there or no longer."""
    cause = error.__cause__
    said = cause.diag.message_primary if isinstance(cause, Error) else None
    detail = f"PostgreSQL says: {said}." if said else "PostgreSQL did not answer, or closed the connection."
    if isinstance(cause, DiskFull):
        remedy = "Free space where PostgreSQL keeps its data"
        return Trouble("database_full", "The database's disk is full.", detail, _kept(remedy))
    if said and not isinstance(cause, AWAY):
        return Trouble("database_refuses", "The database refuses.", detail, _kept("Put that right"))
    remedy = "Check that PostgreSQL runs and DATABASE_URL"
    return Trouble("database_unreachable", "Cortex cannot reach its database.", detail, _kept(remedy))


def _kept(remedy: str) -> str:
    return f"Nothing was changed, and models run on. {remedy}; then try again."
