"""The address of a client in the log: that of its connection, or what a trusted proxy sends."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from ghmirror_tw.web.client_address import client_address, is_trusted, peer_of

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "shown"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", [b"198.51.100.9"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", [b"203.0.113.5", b"198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", [b"198.51.100.9", b"10.0.0.2"], "198.51.100.9"),
        ("10.0.0.1", [b"10.0.0.3", b"10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"::ffff:198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", [b"198.51.100.9", b"unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.9", b"10.0.0.2 x=1"], "10.0.0.1"),
        ("::ffff:10.0.0.1", [b"2001:db9::1"], "2001:db9::1"),
        ("2001:db8::1", [b"2001:db9::1"], "2001:db9::1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy(
    peer: str, forwarded: list[bytes], shown: str
) -> None:
    """A client that is no trusted proxy cannot choose its address."""
    address = (IPv6Address if ":" in peer else IPv4Address)("TCP", peer, 1)
    assert client_address(peer_of(address), forwarded, TRUSTED) == shown


def test_a_unix_socket_has_no_address() -> None:
    """Nor is it a trusted proxy."""
    peer = peer_of(UNIXAddress(b"/run/x"))
    assert client_address(peer, [b"198.51.100.9"], TRUSTED) is None
    assert not is_trusted(peer, TRUSTED)
