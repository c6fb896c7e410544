"""Streams of events: whole ones pass untouched, their usage is counted, and left out where nobody asked for it."""

import re
from collections.abc import Callable
from typing import Any

import orjson

END = re.compile(rb"\r?\n\r?\n")
USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')  # escaped quotes keep a model's words from it
NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
DONE = b"data: [DONE]"
LONGEST_EVENT = 8 << 20


def usage_in(data: bytes) -> dict[str, Any] | None:
    """The last `usage` object in an answer or an event."""
    found = USAGE.findall(data)
    return orjson.loads(found[-1]) if found else None


class Events:
    """Feeds on bytes as they come, gives back whole events.

    An event split between two reads waits for its rest. `done` turns true at the [DONE] that ends every good stream.
    `ours` means that the usage was asked for by us alone: the event that brings only that is left out.
    """

    def __init__(self, count: Callable[[dict[str, Any]], None], *, ours: bool) -> None:
        self._count, self._ours = count, ours
        self._rest = b""
        self.frames = 0
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not data.endswith(b"\n\n"):
            data, self._rest = _cut(data)
        self.frames += data.count(b"data:")
        if data[-40:].rstrip().endswith(DONE):
            self.done = True
        return self._counted(data) if b'"usage"' in data and USAGE.search(data) else data

    def _counted(self, data: bytes) -> bytes:
        kept, start = [], 0
        for end in END.finditer(data):
            event = data[start : end.end()]
            start = end.end()
            usage = usage_in(event)
            if usage:
                self._count(usage)
            if not (usage and self._ours and NO_CHOICES.search(event)):
                kept.append(event)
        return b"".join(kept)


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Whole events, and the beginning of the next."""
    ends = (data.rfind(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if mark in data)
    end = max(ends, default=0)
    if not end and len(data) > LONGEST_EVENT:
        return data, b""
    return data[:end], data[end:]
