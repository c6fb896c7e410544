"""Files of a hub's repository, read in ranges: the header of a model of any size costs a few requests."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import httpx2

from cortex.calculator.hf.safetensors import parse_json
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import hops

FIRST = 256 << 10
MOST = 96 << 20
PATIENCE = 25.0
LISTING_LIMIT = 16 << 20
TIMEOUT = httpx2.Timeout(10, connect=5)
NAME = re.compile(r"[\w.-]+/[\w.-]+")
RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})")


@dataclass(frozen=True)
class Piece:
    """Bytes of a file from an offset on, and the size of all of it."""

    data: bytes
    size: int


Fetch = Callable[[str, int, int], Piece]
"""Takes an address, an offset and a length; raises UnreadableModel."""


class FarFile:
    """A file whose first bytes came with the answer that told its size."""

    def __init__(self, name: str, fetch: Callable[[int, int], Piece]) -> None:
        self.name, self._fetch = name, fetch
        first = fetch(0, FIRST)
        self.size, self._first = first.size, first.data

    def read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        return self._fetch(offset, length).data


class FarRepository:
    """One revision of a repository. All that is read through it stays within MOST bytes and PATIENCE seconds."""

    def __init__(self, endpoint: str, repository: str, revision: str, fetch: Fetch) -> None:
        if any(set(part) <= {"."} for part in repository.split("/")):
            raise UnreadableModel(repository, "it is no repository's name.", "Write owner/name.")
        self._endpoint, self._repository = endpoint.rstrip("/"), repository
        self._revision, self._fetch = quote(revision, safe=""), fetch
        self._left, self._until = MOST, time.monotonic() + PATIENCE

    def open(self, name: str) -> FarFile:
        """A file by its name in the repository. Raises UnreadableModel."""
        address = f"{self._endpoint}/{self._repository}/resolve/{self._revision}/{quote(name)}"
        return FarFile(name, lambda offset, length: self._read(address, offset, length))

    def names(self) -> list[str]:
        """All files of the repository. Raises UnreadableModel."""
        address = f"{self._endpoint}/api/models/{self._repository}/revision/{self._revision}"
        listing = parse_json(self._read(address, 0, LISTING_LIMIT).data, self._repository)
        siblings = listing.get("siblings")
        entries = siblings if isinstance(siblings, list) else []
        return [str(entry["rfilename"]) for entry in entries if isinstance(entry, dict) and "rfilename" in entry]

    def _read(self, address: str, offset: int, length: int) -> Piece:
        if time.monotonic() > self._until:
            why = f"its headers did not arrive within {PATIENCE:.0f} seconds."
            raise UnreadableModel(self._repository, why, "Try again, or fetch the model first.")
        if length > self._left:
            why = f"its headers are larger than {MOST >> 20} MiB together."
            raise UnreadableModel(self._repository, why, "Fetch the model first: local files are read whole.")
        piece = self._fetch(address, offset, length)
        self._left -= len(piece.data)
        return piece


def repositories(endpoint: str, owner: str, name: str, fetch: Fetch) -> list[str]:
    """Repositories of an owner whose names hold ``name``. Raises UnreadableModel."""
    address = f"{endpoint.rstrip('/')}/api/models?author={quote(owner)}&search={quote(name)}&limit=50"
    text = fetch(address, 0, LISTING_LIMIT).data
    try:
        listing = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(owner, "the hub's list of its models is no JSON.", "Try again in a while.") from error
    entries = listing if isinstance(listing, list) else []
    found = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
    return [each for each in found if NAME.fullmatch(each)]


def over_http(token: str | None = None) -> Fetch:
    """Ranges over HTTP; never more is read than was asked for, nor for longer than PATIENCE."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def fetch(address: str, offset: int, length: int) -> Piece:
        wanted = {**headers, "Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        client = httpx2.Client(timeout=TIMEOUT, headers=wanted)
        watch = threading.Timer(PATIENCE, client.close)  # each byte may come in time, and all of them never
        watch.daemon = True
        watch.start()
        try:
            return _followed(client, address, offset, length)
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError, OSError) as error:
            why = f"the hub does not answer ({error or type(error).__name__})."
            remedy = "Check this machine's way to the hub, or fetch the model first."
            raise UnreadableModel(address, why, remedy) from error
        finally:
            watch.cancel()
            client.close()

    return fetch


def _followed(client: httpx2.Client, address: str, offset: int, length: int) -> Piece:
    """The answer, through redirects to where files may be; only the hub's own host is shown the token."""
    target = address
    for _ in range(hops.MOST):
        with client.stream("GET", target) as answer:
            onward = answer.next_request
            if onward is None:
                return _piece(answer, offset, length)
        hops.allow(address, str(onward.url))
        if onward.url.host != answer.request.url.host:
            client.headers.pop("Authorization", None)
        target = str(onward.url)
    raise UnreadableModel(address, "the hub sends us on and on.", "Check the hub's address, or fetch the model first.")


def _piece(answer: httpx2.Response, offset: int, length: int) -> Piece:
    if answer.status_code not in (200, 206):
        raise _refused(answer)
    told = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if offset and (answer.status_code == 200 or told is None or int(told[1]) != offset):
        raise UnreadableModel(_name(answer), "the hub does not answer ranges of it.", "Fetch the model first.")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise UnreadableModel(_name(answer), "the hub sends it packed, unasked.", "Fetch the model first.")
    data, until = bytearray(), time.monotonic() + PATIENCE
    for chunk in answer.iter_raw():
        data += chunk[: length - len(data)]
        if len(data) >= length:
            break
        if time.monotonic() > until:
            why = f"the hub sent {len(data):,} bytes in {PATIENCE:.0f} seconds."
            raise UnreadableModel(_name(answer), why, "Try again, or fetch the model first.")
    return Piece(bytes(data), _size(answer, told, len(data), length))


def _size(answer: httpx2.Response, told: re.Match[str] | None, got: int, asked: int) -> int:
    """The size of all of the file; an answer that ends early is all there is."""
    length = answer.headers.get("Content-Length", "")
    whole = int(told[2]) if told else int(length) if length.isdecimal() and len(length) < 20 else got
    if got < asked and not told:
        return got
    if not got <= whole < 1 << 50:
        raise UnreadableModel(_name(answer), f"the hub tells of {str(whole)[:20]} bytes.", "Fetch the model first.")
    return whole


def _refused(answer: httpx2.Response) -> UnreadableModel:
    status = answer.status_code
    if status in (401, 403):
        remedy = "Accept its terms on the hub, then give Cortex a token that may read it. Check the spelling, too."
        return UnreadableModel(_name(answer), f"the hub does not show it to us (HTTP {status}).", remedy)
    if status == 404:
        remedy = "Check the repository, the revision and the file."
        return UnreadableModel(_name(answer), "the hub has no such file (HTTP 404).", remedy)
    return UnreadableModel(_name(answer), f"the hub failed (HTTP {status}).", "Try again in a while.")


def _name(answer: httpx2.Response) -> str:
    return answer.request.url.path.rsplit("/", 1)[-1] or str(answer.request.url)
