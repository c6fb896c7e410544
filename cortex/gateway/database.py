"""Questions to the database, asked in threads that live as long as the process."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
R = TypeVar("R")


def afresh(ask: Callable[P, R]) -> Callable[P, R]:
    """The same question, asked over a connection that is not known to be dead, and given back at once."""

    def asked(*args: P.args, **kwargs: P.kwargs) -> R:
        close_old_connections()
        try:
            return ask(*args, **kwargs)
        finally:
            close_old_connections()

    return asked
