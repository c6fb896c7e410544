"""An imaginary host for most faults, the real Docker Engine for those that only it can show."""

from tests.orchestration.conftest import define, here, loop, made, time, world

__all__ = ["define", "here", "loop", "made", "time", "world"]
