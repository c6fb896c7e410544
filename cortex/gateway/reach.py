"""Hosts that take no connections: out of the clients' way, from the first who noticed until a knock is answered."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable, Mapping

import aiohttp

logger = logging.getLogger("cortex.gateway")

KNOCK_EVERY = 1.0
KNOCK_SECONDS = 1.0
# Seconds without a sign of life from a peer's kernel, however busy its engine: then the host or the way to it is gone.
UNHEARD = 6
SILENT = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN}


def watched_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices when its peer is cut off, be it while a request is sent or while its answer is awaited."""
    made = socket.socket(*address[:3])
    if address[0] in (socket.AF_INET, socket.AF_INET6):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("KEEPIDLE", 3), ("KEEPINTVL", 1), ("KEEPCNT", 3), ("USER_TIMEOUT", UNHEARD * 1000)):
            if option := getattr(socket, f"TCP_{name}", None):  # Linux has them all
                made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def is_silence(error: BaseException) -> bool:
    """Whether nothing answered at all. An engine that is gone on a host that lives refuses, at once."""
    return isinstance(error, aiohttp.ConnectionTimeoutError) or (isinstance(error, OSError) and error.errno in SILENT)


def host_of(address: str) -> str:
    return address.rpartition(":")[0]


class Reach:
    """Which hosts are silent; `addresses` tells the engines there are now, one of which is knocked at."""

    def __init__(self, addresses: Callable[[], Iterable[str]]) -> None:
        self._addresses = addresses
        self._silent: set[str] = set()

    def is_silent(self, address: str) -> bool:
        return bool(self._silent) and host_of(address) in self._silent

    def lose(self, address: str) -> None:
        """Somebody asked in vain."""
        host = host_of(address)
        if host not in self._silent:
            logger.warning("Host %s takes no connections: its replicas are passed over until it does.", host)
        self._silent.add(host)

    async def knock(self) -> None:
        """Ask the silent ones, so that no client has to; a host without engines is forgotten."""
        if not self._silent:
            return
        known: Mapping[str, str] = {host_of(address): address for address in self._addresses()}
        self._silent &= known.keys()
        asked = sorted(self._silent)
        answers = await asyncio.gather(*(_answers(known[host]) for host in asked))
        for host, answered in zip(asked, answers, strict=True):
            if answered:
                logger.warning("Host %s takes connections again.", host)
                self._silent.discard(host)


async def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True
