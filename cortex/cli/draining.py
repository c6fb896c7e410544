"""Waiting until a host is empty: who left and who stays on stderr, an exit code that tells."""

import time
from typing import Any

from cortex.cli import output
from cortex.cli.failures import Exit, Failure
from cortex.cli.rest import Rest

PAUSE = 1.0


def wait_until_empty(rest: Rest, path: str, seconds: float) -> None:
    """Until nothing is left there. Raises Failure when it is called off, cannot end, or takes longer."""
    until = time.monotonic() + seconds
    told: list[str] = []
    while True:
        host = rest.get(path)
        told = tell(host, told)
        if _is_over(host):
            return
        left = until - time.monotonic()
        if left <= 0:
            raise _late(host, seconds)
        time.sleep(min(PAUSE, left))


def tell(host: Any, told: list[str] | None = None) -> list[str]:
    """Say what is new about a drain; all that is so now."""
    lines = lines_of(host)
    for line in lines:
        if line not in (told or []):
            output.say(line)
    return lines


def lines_of(host: Any) -> list[str]:
    drain = host["drain"]
    if not drain:
        return []
    return [f"{host['name']}: {count(drain)}", *(f"  {each['replica']}: {each['reason']}" for each in drain["staying"])]


def count(drain: Any) -> str:
    return f"{drain['left']} of {drain['total']} have left"


def _is_over(host: Any) -> bool:
    """Whether it is empty. Raises Failure when it never will be as things are."""
    name, drain = host["name"], host["drain"]
    if drain is None:
        raise Failure(f"{name} is not drained any more.", "Somebody called it off.", f"See: cortex hosts, {name}")
    staying = drain["staying"]
    if staying and all(each["pinned"] for each in staying):
        why = "\n".join(f"{each['replica']}: {each['reason']}" for each in staying)
        next = f"Stop them (cortex stop), or change where they may run. {name} is drained until: cortex undrain {name}"
        raise Failure(f"{name} holds what may run nowhere else.", why, next, Exit.REFUSED)
    return not staying


def _late(host: Any, seconds: float) -> Failure:
    name, staying = host["name"], host["drain"]["staying"]
    why = "\n".join(f"{each['replica']}: {each['reason']}" for each in staying)
    silent = "" if host["answering"] else f"{name} does not answer: nothing of it is touched until it does. "
    next = f"{silent}It goes on by itself: cortex drain {name} --wait. Call it off: cortex undrain {name}"
    return Failure(f"{name} still held {len(staying)} after {seconds:g} s.", why, next, Exit.TIMEOUT)
