"""What a test of a fault leaves for docs/faults.md."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cortex.orchestration import fsck
from cortex.orchestration.effects import Moment, watched
from cortex.orchestration.runtimes import Here

CHANGING = frozenset({"create", "start", "stop", "kill", "remove", "remove stray"})


class Record:
    """What was seen, how long it took to converge, what it cost, and what `fsck` says in the end."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        facts.update(seen=[], seconds=None, calls=None, violations=None)

    def saw(self, sentence: str) -> None:
        """A sentence made of what was found, for people."""
        self._facts["seen"].append(sentence)

    @contextmanager
    def convergence(self, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
        """Around what happens from the fault to the end of all work: seconds by `clock`, and changing calls.

        Calls of this process are counted. The longest of several is kept, and all their calls.
        """
        began, calls = clock(), 0

        def count(effect: str, moment: str) -> None:
            nonlocal calls
            calls += effect in CHANGING and moment == Moment.BEFORE

        with watched(count):
            yield
        self.took(clock() - began, calls)

    def took(self, seconds: float, calls: int) -> None:
        """The same, where another process was watched."""
        self._facts["seconds"] = max(self._facts["seconds"] or 0.0, round(seconds, 1))
        self._facts["calls"] = (self._facts["calls"] or 0) + calls

    def check(self, *hosts: Here) -> None:
        """`fsck`, over the rows and the containers of these hosts, finds nothing."""
        found = fsck.rows()
        for here in hosts:
            found += fsck.containers(here.host, here.runtime)
        self.checked([str(violation) for violation in found])

    def checked(self, violations: list[str]) -> None:
        """The same, where somebody else ran it."""
        self._facts["violations"] = (self._facts["violations"] or []) + violations
        assert not violations

    @property
    def is_checked(self) -> bool:
        return self._facts["violations"] is not None
