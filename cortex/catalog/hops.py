"""Where a hub's redirects may lead: to its own host and to the world, not from the world into this network."""

import ipaddress
import socket
from urllib.parse import urlsplit

from cortex.calculator.unreadable import UnreadableModel

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MOST = 5
SCHEMES = ("http", "https")


def allow(hub: str, target: str) -> None:
    """Refuses a redirect from ``hub`` that leaves it for this machine or its network. Raises UnreadableModel."""
    there = urlsplit(target)
    if there.scheme not in SCHEMES or not there.hostname or urlsplit(hub).scheme == "https" != there.scheme:
        raise _refused(hub, f"{there.scheme or 'nothing'} of {there.hostname or 'nobody'}")
    ours = urlsplit(hub).hostname or ""
    if there.hostname == ours:
        return
    found = addresses(there.hostname)
    inside = all(each.is_private for each in addresses(ours)) and bool(addresses(ours))
    if any(_is_nobodys(each) or (not inside and not each.is_global) for each in found):
        raise _refused(hub, there.hostname)


def addresses(host: str) -> list[Address]:
    """What a name stands for; nothing where only a proxy can tell."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    return [_plain(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in found]


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_nobodys(address: Address) -> bool:
    """Addresses that serve no files to anybody: metadata of clouds, groups, none at all."""
    nobodys = address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    return nobodys and not address.is_loopback


def _refused(hub: str, target: str) -> UnreadableModel:
    why = f"the hub sends us on to {target[:100]}, where no files of models are looked for."
    return UnreadableModel(urlsplit(hub).hostname or hub, why, "Check the hub's address, or fetch the model first.")
