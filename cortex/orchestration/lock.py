"""Who works on a replica: a session advisory lock, gone with its holder however that ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection

PATIENCE = 1.0


@contextmanager
def only_one(key: UUID, *, patience: float = PATIENCE) -> Iterator[bool]:
    """True for the one holder; False when somebody else keeps it for longer than `patience` seconds.

    Losing it (a cut connection) does no harm: the container's name is the fence that counts.
    """
    number = int.from_bytes(key.bytes[:8], signed=True)
    held = _take(number, patience)
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


def _take(number: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
            if cursor.fetchone()[0]:
                return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
