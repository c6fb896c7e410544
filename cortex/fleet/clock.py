"""The one clock for everything kept: Postgres's own."""

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """The database's time, at this instant (not the transaction's)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchone()[0]
        return at
