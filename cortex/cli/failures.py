"""How the command line fails: what happened, why, what to do next, and an exit code that means something."""

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Documented in `cortex --help`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    REFUSED = 5


@dataclass
class Failure(Exception):
    """Something that a person is to read."""

    what: str
    why: str = ""
    next: str = ""
    code: Exit = Exit.FAILED

    def __str__(self) -> str:
        lines = [f"Error: {self.what}", *(f"  {line}" for line in self.why.splitlines())]
        return "\n".join([*lines, f"  Next: {self.next}"] if self.next else lines)
