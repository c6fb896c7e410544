"""Who runs Cortex in a state folder: one `up` holds the lock of the folder for as long as it lives."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 1.0


@contextmanager
def held(state: Path) -> Iterator[bool]:
    """Hold the folder, with our process id written into the lock; false when somebody else holds it."""
    with (state / "up.lock").open("a+") as lock:
        if not (ours := _take(lock.fileno())):
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield ours


def holder(state: Path) -> int | None:
    """The process that holds the folder. What an ended one left behind holds nothing, whatever its files say."""
    try:
        with (state / "up.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdigit() else None
    except FileNotFoundError:
        pass
    return None


def _take(lock: int) -> bool:
    """A look by `holder` takes the lock for an instant: that is waited for."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True
