"""Limits of the head of a request: a client gets 431 beyond them, and costs others nothing."""

from __future__ import annotations

import pytest

from ghmirror_tw.web.request_head_limits import MOST_FIELD_LINES
from tests.unit.web.test_request_head_cache import Audience, ours

HEAD = b"GET / HTTP/1.1\r\n"


def response_to(fields: bytes) -> bytes:
    """Return the response to a request with these field lines."""
    audience = Audience(at_once=True)
    channel, wire = ours(audience)
    channel.dataReceived(HEAD + fields + b"\r\n")
    channel.connectionLost()
    received: bytes = wire.value()
    return received


def test_number_of_field_lines_is_limited() -> None:
    """Each costs time, however short it is."""
    host, line = b"Host: x\r\n", b"X: 1\r\n"
    most = (MOST_FIELD_LINES - 1) * line
    assert response_to(host + most).startswith(b"HTTP/1.1 204 ")
    refused = response_to(host + most + line)
    assert refused.startswith(b"HTTP/1.1 431 ")
    assert b"there may be 100 of them" in refused


@pytest.mark.parametrize(
    "folded", [b"X: a\r\n b", b"Transfer-Encoding:\r\n\tchunked", b"X: a\r\n ", b" X: a"]
)
def test_folded_lines_are_refused(folded: bytes) -> None:
    """A proxy before the mirror may read another request (RFC 9112, section 5.2)."""
    for fields in (b"Host: x\r\n" + folded, folded):
        received = response_to(fields + b"\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n")
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") == 1


def test_limit_applies_to_each_request_of_a_connection() -> None:
    """Lines of earlier requests are not counted."""
    channel, wire = ours(Audience(at_once=True))
    for number in range(3):
        fields = b"".join(b"X%d-%d: 1\r\n" % (number, line) for line in range(60))
        channel.dataReceived(HEAD + fields + b"\r\n")
    assert wire.value().count(b"HTTP/1.1 204 ") == 3
    channel.connectionLost()
