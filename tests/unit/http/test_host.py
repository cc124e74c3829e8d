"""Valid and invalid hosts."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.host import parse_host
from ghmirror_tw.http.request import BadRequestError


@pytest.mark.parametrize(
    "host",
    [
        *(
            b"localhost",
            b"localhost:8080",
            b"Mirror.Example.com",
            b"my_mirror-1:1",
            b"127.0.0.1:65535",
        ),
        *(b"[::1]", b"[2001:DB8::1]:443", b"[::ffff:10.0.0.1]:80"),
    ],
)
def test_hosts(host: bytes) -> None:
    """Names and addresses, with a port or without, are unchanged."""
    assert parse_host([host]) == host


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b"a", b"a"],
        [b""],
        [b":80"],
        [b"a:"],
        [b"a:0"],
        [b"a:65536"],
        [b"a:999999"],
        [b"a:b"],
        [b"a:80:80"],
        [b"a/b"],
        [b"a@b"],
        [b"a b"],
        [b"a,b"],
        [b"a?b"],
        [b"a#b"],
        [b'a"b'],
        [b"a\\b"],
        [b"a<b"],
        [b"a%41"],
        [b"a\n"],
        [b"\xc3\xa9"],
        [b"::1"],
        [b"[::1"],
        [b"[]"],
        [b"[:::1]"],
        [b"[127.0.0.1]"],
        [b"[fe80::1%eth0]"],
        [b"[v1.x]"],
        [b"a" * 256],
    ],
)
def test_hosts_that_are_refused(values: list[bytes]) -> None:
    """None, two, and all that is not a host with a valid port, since it is sent in responses."""
    with pytest.raises(BadRequestError):
        parse_host(values)


@given(st.binary())
def test_any_host_is_harmless_or_refused(value: bytes) -> None:
    """An accepted value is valid in a URL in JSON and in a field."""
    try:
        host = parse_host([value])
    except BadRequestError:
        return
    assert urlsplit(b"http://" + host + b"/x").netloc == host
