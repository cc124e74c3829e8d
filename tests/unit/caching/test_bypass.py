"""Requests that bypass the cache."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching import (
    bypass,
)
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


def why(method: bytes = b"GET", target: bytes = b"/x", *pairs: tuple[bytes, bytes]) -> str | None:
    return bypass.bypass_reason(Request(method, target, lines(*pairs)))


def test_methods_other_than_get_and_head_bypass() -> None:
    """Other methods pass by as such."""
    assert why() is None
    assert why(b"HEAD") is None
    assert why(b"POST") == "method"


@pytest.mark.parametrize(
    "line",
    [
        (b"range", b"bytes=0-"),
        (b"x-github-otp", b"1"),
        (b"cache-control", b"max-age=0, No-Store"),
        (b"if-match", b'"a"'),
    ],
)
def test_bypassing_fields(line: tuple[bytes, bytes]) -> None:
    """Each of these fields is reason enough."""
    assert why(b"GET", b"/x", line) == "bypass"


def test_ambiguous_requests_bypass() -> None:
    """Repeated fields, the rate limit, secrets in the query, and content with a GET."""
    repeated = ((b"accept", b"a"), (b"accept", b"b"))
    assert why(b"GET", b"/x", *repeated) == "bypass"
    other = ((b"x-github-next-global-id", b"1"), (b"x-github-next-global-id", b"0"))
    assert why(b"GET", b"/x", *other) == "bypass"
    assert why(b"GET", b"/x", other[0]) is None
    assert why(b"GET", b"/rate_limit") == "bypass"
    assert why(b"GET", b"/x?access_token=secret") == "bypass"
    request = Request(b"GET", b"/x", lines())
    assert bypass.bypass_reason(request, has_content=True) == "bypass"
