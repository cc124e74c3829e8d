"""Hosts that no DNS rebinding can have, and others."""

from __future__ import annotations

import pytest

from ghmirror_tw.http.dns_rebinding import is_expected_host

NAMES = frozenset({"mirror.example"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"127.0.0.1", True),
        (b"127.0.0.1:8081", True),
        (b"192.0.2.1", True),
        (b"[::1]", True),
        (b"[2001:db8::1]:8081", True),
        (b"localhost", True),
        (b"LocalHost:80", True),
        (b"mirror.example", True),
        (b"MIRROR.example:8081", True),
        (b"mirror", False),
        (b"mirror.example.org", False),
        (b"evil-mirror.example", False),
        (b"127.0.0.1.example.org", False),
        (b"0x7f.1", False),
        (b"127.1", False),
        (b"localhost:0", False),
        (b"localhost:x", False),
        (b"user@localhost", False),
        (b"localhost, example.org", False),
        (b"[::g]", False),
        (b"", False),
    ],
)
def test_hosts(host: bytes, expected: bool) -> None:
    """Addresses, localhost, and names in the options; nothing that is no host."""
    assert is_expected_host([host], NAMES) is expected


def test_exactly_one_host_is_required() -> None:
    """None, or two, are nothing that can be judged."""
    assert not is_expected_host([], NAMES)
    assert not is_expected_host([b"localhost", b"localhost"], NAMES)
