"""The CONNECT request, and all kinds of responses of a proxy."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.outbound_proxy import MOST_RESPONSE_BYTES, OutboundProxy, TunnelError

PROXY = OutboundProxy("proxy.test", 3128, "user", "hunter2")


def test_the_connect_request() -> None:
    """Host and port of the origin, and credentials where there are some."""
    basic = base64.b64encode(b"user:hunter2")
    assert PROXY.connect_request("api.github.com", 443) == (
        b"CONNECT api.github.com:443 HTTP/1.1\r\nHost: api.github.com:443\r\n"
        b"Proxy-Authorization: Basic %s\r\n\r\n" % basic
    )
    assert OutboundProxy("p", 1).connect_request("::1", 80) == (
        b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"
    )
    assert b"Basic " + base64.b64encode(b":x") in OutboundProxy("p", 1, "", "x").connect_request(
        "h", 1
    )
    assert base64.b64encode("ü:é".encode()) in OutboundProxy("p", 1, "ü", "é").connect_request(
        "h", 1
    )


def test_the_address_in_logs() -> None:
    """By host and port; its password is not even in the repr."""
    assert PROXY.name == "proxy.test:3128"
    assert OutboundProxy("::1", 1).name == "[::1]:1"
    assert "hunter2" not in repr(PROXY)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_the_tunnel_is_open_after_a_complete_2xx(response: bytes, sealed: bool) -> None:
    """Any 2xx opens it, at the end of the whole response and not before."""
    assert PROXY.is_open(response, sealed=sealed)
    for end in range(len(response)):
        # A line that ends in LF alone extends the response by one byte.
        if not PROXY.is_open(response[:end], sealed=sealed):
            continue
        raise AssertionError(response[:end])


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 99\r\n\r\n",
        b"HTTP/1.1 x\r\n\r\n",
        b"HTTP/1.1 102 x\r\n\r\nnonsense",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MOST_RESPONSE_BYTES,
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_malformed_responses_are_refused(response: bytes, sealed: bool) -> None:
    """A response that is no HTTP/1.1, has no end, or continues after its end, opens nothing."""
    with pytest.raises(TunnelError):
        PROXY.is_open(response, sealed=sealed)


@pytest.mark.parametrize("field", [b"content-length: 10", b"Transfer-Encoding: chunked"])
def test_announced_content_is_ignored_inside_tls_alone(field: bytes) -> None:
    """It is ignored where TLS would refuse it, and nothing is opened where nothing would."""
    response = b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n"
    assert PROXY.is_open(response, sealed=True)
    with pytest.raises(TunnelError, match="content of its own"):
        PROXY.is_open(response, sealed=False)


@pytest.mark.parametrize(
    ("proxy", "status", "words"),
    [
        (PROXY, b"403 Filtered", "403 Filtered: it does not allow this host or port"),
        (PROXY, b"407 No", "407 No: it requires another user or password"),
        (PROXY, b"401 No", "401 No: it requires another user or password"),
        (OutboundProxy("p", 1), b"407 No", "407 No: it requires a user and a password"),
        (PROXY, b"502 Bad Gateway", "502 Bad Gateway"),
        (PROXY, b"301", "301"),
        (PROXY, b"500 a\x1b[0m\xff hunter2 dXNlcjpodW50ZXIy", "500 a?[0m? *** ***"),
        (PROXY, b"500 " + b"x" * 5000, "500 " + "x" * 100),
    ],
)
def test_the_reason_of_a_refusal(proxy: OutboundProxy, status: bytes, words: str) -> None:
    """It has the proxy's reason, printable and without the password, and the remedy."""
    with pytest.raises(TunnelError) as caught:
        proxy.is_open(b"HTTP/1.1 " + status + b"\r\nX: 1\r\n\r\n<html>", sealed=True)
    assert caught.value.reason == f"it responded to CONNECT with {words}"
    assert not re.search("hunter2|dXNlcj", str(caught.value))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_response_or_refused(received: bytes, sealed: bool) -> None:
    """There is a tunnel, or none, or more data is needed; nothing else happens."""
    try:
        opened = PROXY.is_open(received, sealed=sealed)
    except TunnelError:
        return
    assert not opened or received.startswith(b"HTTP/1.")
