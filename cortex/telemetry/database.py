"""What an error of the database means to people: which it is, in its own words, and what to do next."""

from dataclasses import dataclass

from django.db import InterfaceError, OperationalError
from psycopg.errors import DiskFull, Error

TROUBLES = (OperationalError, InterfaceError)


@dataclass(frozen=True)
class Trouble:
    """`code` is a kind of problem; `detail` says what happened."""

    code: str
    title: str
    detail: str
    remedy: str


def explained(error: Exception) -> Trouble:
    """Told apart: it is full, it refuses with a reason, it is not there."""
    cause = error.__cause__
    said = cause.diag.message_primary if isinstance(cause, Error) else None
    if isinstance(cause, DiskFull):
        remedy = "Free space where PostgreSQL keeps its data"
        return Trouble("database_full", "The database's disk is full.", f"PostgreSQL says: {said}.", _kept(remedy))
    if said:
        return Trouble(
            "database_refuses", "The database refuses.", f"PostgreSQL says: {said}.", _kept("Put that right")
        )
    detail = "PostgreSQL did not answer, or closed the connection."
    remedy = "Check that PostgreSQL runs and DATABASE_URL"
    return Trouble("database_unreachable", "Cortex cannot reach its database.", detail, _kept(remedy))


def _kept(remedy: str) -> str:
    return f"Nothing was changed, and models run on. {remedy}; then try again."
