"""What each request used, from a queue in memory to the log: the request path never waits for it."""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

logger = logging.getLogger("cortex.gateway.usage")

FLUSH_EVERY = 1.0
KEPT = 20_000


@dataclass(slots=True)
class Usage:
    """One request. Times are seconds since it arrived; tokens are the engine's own count, or None where it gave none.

    `frames` are the events that a stream carried: what is known of a stream that was cut off.
    """

    request: str
    path: str
    key: str
    model: str
    replica: str = ""
    stream: bool = False
    status: int = 0
    outcome: str = "ok"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    frames: int = 0
    tries: int = 0
    first: float | None = None
    seconds: float = 0.0

    def count(self, usage: dict[str, Any]) -> None:
        """Take an engine's `usage` object."""
        self.prompt_tokens = usage.get("prompt_tokens", self.prompt_tokens)
        self.completion_tokens = usage.get("completion_tokens", self.completion_tokens)

    def line(self) -> str:
        fields = {name: getattr(self, name) for name in self.__slots__}
        rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in fields.items()}
        return orjson.dumps(rounded).decode()


class Meter:
    """The queue. When its reader falls far behind, the oldest go, and are counted."""

    def __init__(self) -> None:
        self._queue: deque[Usage] = deque(maxlen=KEPT)
        self.lost = 0

    def record(self, usage: Usage) -> None:
        self.lost += len(self._queue) == KEPT
        self._queue.append(usage)

    def flush(self) -> None:
        """Write everything queued."""
        if self.lost:
            logger.error("Usage of %d requests was lost: more came than could be written.", self.lost)
            self.lost = 0
        while self._queue:
            logger.info("%s", self._queue.popleft().line())
