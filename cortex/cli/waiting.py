"""Waiting for an order: long polls, the phase on stderr, an exit code that tells."""

import time
from typing import Any

from cortex.cli import output
from cortex.cli.failures import Exit, Failure
from cortex.cli.rest import Rest, model_path

POLL_SECONDS = 20.0
PAUSE = 0.3
TIMEOUT = 600.0


def wait_for(rest: Rest, operation: int, seconds: float) -> None:
    """Until the operation is done. Raises Failure when it failed, was overtaken, or takes longer."""
    until = time.monotonic() + seconds
    told = ""
    while True:
        left = max(0.0, until - time.monotonic())
        answer = rest.get(f"operations/{operation}", {"wait": f"{min(left, POLL_SECONDS if told else 0.0):.1f}s"})
        told = _tell(answer, told)
        if answer["state"] == "done":
            return
        if answer["state"] != "pending":
            raise _unfinished(answer)
        if left == 0:
            raise _late(answer, seconds)
        time.sleep(min(PAUSE, left))


def latest_operation(rest: Rest, name: str) -> int:
    """What was last asked of a model. Raises Failure."""
    [order] = rest.get(model_path(name, "orders"), {"limit": 1})["items"]
    return int(order["id"])


def _tell(answer: Any, told: str) -> str:
    line = f"{answer['model']}: {answer['phase']}" + (f": {answer['reason']}" if answer["reason"] else "")
    if line != told:
        output.say(line)
    return line


def _unfinished(answer: Any) -> Failure:
    name = answer["model"]
    if answer["state"] == "overtaken":
        return Failure(f"{name}: a later order took the place of this one.", next=f"See: cortex show {name}")
    next = answer["remedy"] or "Correct the definition and apply it again."
    return Failure(f"{name} did not come up.", answer["reason"], f"{next} Its log: cortex logs {name}")


def _late(answer: Any, seconds: float) -> Failure:
    name = answer["model"]
    next = f"It goes on by itself: cortex wait {name}, cortex logs -f {name}. If it stays so: cortex doctor"
    why = f"It is {answer['phase']}: {answer['reason']}"
    return Failure(f"{name} was not there after {seconds:g} s.", why, next, Exit.TIMEOUT)
