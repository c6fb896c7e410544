"""What `up` writes down of itself, so that the other words find it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import turnstile

STATE = Path(os.environ.get("CORTEX_HOME", "var"))


@dataclass(frozen=True)
class Running:
    """What `up` wrote down of itself for the other words."""

    pid: int
    web: str
    gateway: str
    pretend: bool
    environment: dict[str, str]


def find(state: Path = STATE) -> Running | None:
    """The `up` that runs here and is ready."""
    try:
        running = Running(**json.loads((state / "up.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    # After a crash its process id proves nothing: it may be anybody's by now.
    return running if turnstile.holder(state) == running.pid else None


def write_down(state: Path, running: Running) -> None:
    path = state / "up.json"
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(asdict(running)))
    fresh.replace(path)
