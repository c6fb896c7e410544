"""The one point that every side effect of the loop passes, by name: a test can end the process before and after."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

Watcher = Callable[[str, str], None]


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"


_watchers: list[Watcher] = []


@contextmanager
def effect(name: str) -> Iterator[None]:
    """Something outside this process changes inside: a call to a container engine, or a commit that matters."""
    for watch in _watchers:
        watch(name, Moment.BEFORE)
    yield
    for watch in _watchers:
        watch(name, Moment.AFTER)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` the name and moment of each effect; what it raises goes through."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
