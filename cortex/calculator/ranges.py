"""Reading byte ranges of a file that may be near or far, with bounded memory."""

import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cortex.calculator.unreadable import UnreadableModel

Fetch = Callable[[int, int], bytes]
"""Takes an offset and a length; returns that range, shorter only at the end of the file."""


class RangeSource(Protocol):
    """A file of known ``size`` in bytes; ``read`` returns a range of it, shorter only at its end."""

    name: str
    size: int

    def read(self, offset: int, length: int) -> bytes: ...


class LocalFile:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            raise absent(path.name, getattr(error, "strerror", None) or "it cannot be opened") from error
        if not stat.S_ISREG(found.st_mode):
            raise absent(path.name, "it is no file")  # a pipe would keep its reader waiting
        self.size = found.st_size

    def read(self, offset: int, length: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise absent(self.name, error.strerror or "it cannot be read") from error


class RemoteFile:
    """A file elsewhere: its size and a function that fetches ranges of it."""

    def __init__(self, name: str, size: int, fetch: Fetch) -> None:
        self.name, self.size, self.fetch = name, size, fetch

    def read(self, offset: int, length: int) -> bytes:
        return self.fetch(offset, length)


def absent(name: str, why: str) -> UnreadableModel:
    return UnreadableModel(
        f"{name} cannot be read", f"{why}.", "Check the path and its permissions, or fetch it again."
    )


class Cursor:
    """Walks through a source, one window in memory at a time, never past ``limit`` bytes."""

    def __init__(self, source: RangeSource, limit: int, window: int = 1 << 20) -> None:
        self.source, self.limit, self.window = source, limit, window
        self.position = 0
        self.bytes_read = 0
        self._start = 0
        self._buffer = b""

    def skip(self, length: int) -> None:
        """Moves on without reading; the source must be long enough."""
        end = self.position + length
        if end > self.source.size:
            raise UnreadableModel(
                f"{self.source.name} is cut off",
                f"its header needs {end:,} bytes and the file has {self.source.size:,}.",
                "Download it again, or wait until the download is over.",
            )
        if end > self.limit:
            raise UnreadableModel(
                f"{self.source.name} has an absurd header",
                f"it goes on past {self.limit:,} bytes.",
                "The file is damaged or is not a model: download it again from its publisher.",
            )
        self.position = end

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        start = self.position
        self.skip(length)
        if start < self._start or start + length > self._start + len(self._buffer):
            self._load(start, max(length, self.window))
        piece = self._buffer[start - self._start : start - self._start + length]
        if len(piece) < length:
            raise absent(self.source.name, "it answered fewer bytes than it has")
        return piece

    def unpack(self, code: str) -> int | float:
        """The next little-endian number, ``code`` as in the struct module."""
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize(code)))
        number: int | float = value
        return number

    def skip_texts(self, count: int) -> None:
        """Moves past ``count`` texts, each a 64-bit length and its bytes: quick, vocabularies have 500,000 of them."""
        length_of = struct.Struct("<Q").unpack_from
        while count:
            self.take(8)
            self.position -= 8
            at, end = self.position - self._start, len(self._buffer) - 8
            while count and at <= end:
                at += 8 + length_of(self._buffer, at)[0]
                count -= 1
            self.skip(self._start + at - self.position)

    def _load(self, start: int, length: int) -> None:
        self._buffer = self.source.read(start, min(length, self.source.size - start))
        self._start = start
        self.bytes_read += len(self._buffer)
