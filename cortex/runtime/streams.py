"""Logs and events as they come, over a wire that can be hung up from another thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import requests
import urllib3

from cortex.runtime import answers
from cortex.runtime.contract import Event, LogLine, Stream, Unreachable

FRAME_HEADER = 8


class Silence(Exception):
    """Nothing came for as long as this wire waits."""


class Wire(Protocol):
    """An answer that is still arriving. frames() and lines() end when it is complete or hung up.

    They raise Silence, or Unreachable when the connection is cut.
    """

    def frames(self) -> Iterator[bytes]: ...

    def lines(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class HttpWire:
    """One streamed answer over HTTP; ``hang_up`` ends a read that waits in another thread."""

    def __init__(self, response: requests.Response, hang_up: Callable[[], None]) -> None:
        self._response = response
        self._hang_up = hang_up
        self._closed = False

    def frames(self) -> Iterator[bytes]:
        with self._listening():
            while header := self._response.raw.read(FRAME_HEADER):
                yield self._response.raw.read(int.from_bytes(header[4:], "big"))

    def lines(self) -> Iterator[bytes]:
        with self._listening():
            yield from (line for line in self._response.iter_lines() if line.strip())

    @contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, AttributeError, ValueError) as cut:
            if self._closed:
                return
            if "timed out" in str(cut).lower():
                raise Silence from cut
            raise Unreachable(f"Docker hung up: {cut}.", "It is asked again.") from cut

    def close(self) -> None:
        self._closed = True
        self._hang_up()


class LogStream(Stream[LogLine]):
    """Frames of a log as lines. ``open_wire`` takes the stamp after which to begin."""

    def __init__(self, open_wire: Callable[[int | None], Wire], since: int | None, follow: bool) -> None:
        self._open_wire = open_wire
        self._since = self._last = since
        self._follow = follow
        self._closed = False
        self._unfinished: int | None = None
        self._wire = open_wire(since)
        self._frames = self._wire.frames()

    def __next__(self) -> LogLine:
        while True:
            try:
                line = self._line(next(self._frames))
            except Silence:
                self._resume()
                continue
            if line is not None:
                # Output and errors arrive by two ways: a stamp may step back a little.
                self._last = max(self._last or 0, line.stamp)
                return line

    def _line(self, frame: bytes) -> LogLine | None:
        line = answers.log_line(frame)
        if line is None or (self._since is not None and line.stamp <= self._since):
            return None
        # Docker cuts lines at 16 KiB into frames of one stamp; ours are capped long before that.
        goes_on = line.stamp == self._unfinished
        self._unfinished = None if frame.endswith(b"\n") else line.stamp
        return None if goes_on else line

    def _resume(self) -> None:
        """A silent wire may be half open: hang up, and ask again for what came after the last line."""
        self._wire.close()
        if self._closed:
            raise StopIteration
        if not self._follow:
            raise Unreachable("The container engine stopped in the middle of a log.")
        self._since = self._last
        self._wire = self._open_wire(self._last)
        self._frames = self._wire.frames()

    def close(self) -> None:
        self._closed = True
        self._wire.close()


class EventStream(Stream[Event]):
    """Lines of /events; ends at a disconnect, as at silence."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lines = wire.lines()

    def __next__(self) -> Event:
        try:
            while True:
                event = answers.event(next(self._lines))
                if event is not None:
                    return event
        except (Silence, Unreachable) as end:
            self.close()
            raise StopIteration from end

    def close(self) -> None:
        self._wire.close()
