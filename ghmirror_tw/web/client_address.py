"""The address of a client, also behind trusted proxies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

Networks = Sequence[IPv4Network | IPv6Network]


def peer_of(address: Any) -> IPv4Address | IPv6Address | None:
    """Return the IP address of a transport's *address*; None: it has none (a UNIX socket)."""
    return _peer(getattr(address, "host", ""))


def is_trusted(peer: IPv4Address | IPv6Address | None, trusted: Networks) -> bool:
    """Return whether *peer* is one of the *trusted* proxies."""
    return peer is not None and any(peer in network for network in trusted)


def client_address(
    peer: IPv4Address | IPv6Address | None, forwarded: Iterable[bytes], trusted: Networks
) -> str | None:
    """Return the address of the client of a request from *peer*, None if it has none.

    Each proxy adds the address of its own client to *forwarded*, the items of `X-Forwarded-For`. So
    the last address that is no trusted proxy is the client's; a client may invent those before it.
    """
    shown = peer
    for item in reversed(tuple(forwarded)):
        if not is_trusted(shown, trusted):
            break
        address = _parsed(item.decode("latin-1"))
        if address is None:
            break
        shown = address
    return None if shown is None else str(shown)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # An IPv4 client of a dual-stack socket has an IPv4-mapped address (RFC 4291, 2.5.5.2).
    return getattr(address, "ipv4_mapped", None) or address


#: Many requests come from the same proxies; to parse an address takes 5 µs.
_peer: Final = lru_cache(1024)(_parsed)
