"""`Cache-Status`, `X-Cache` and `X-Cache-Mode` of each outcome."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.cache_status import cache_status, cache_status_fields, x_cache, x_cache_mode
from ghmirror_tw.http.outcomes import Outcome


@pytest.mark.parametrize(
    ("outcome", "more", "value"),
    [
        ("revalidated", {}, "ghmirror; fwd=stale; fwd-status=304; detail=revalidated"),
        (
            "revalidated",
            {"detail": "dated"},
            "ghmirror; fwd=stale; fwd-status=304; detail=dated",
        ),
        ("shared", {}, "ghmirror; fwd=vary-miss; fwd-status=304; detail=shared"),
        ("empty", {}, "ghmirror; fwd=uri-miss; fwd-status=304; detail=empty"),
        ("miss", {"status": 200}, "ghmirror; fwd=uri-miss; fwd-status=200; stored"),
        ("changed", {}, "ghmirror; fwd=stale; fwd-status=200; stored; detail=changed"),
        ("fresh", {}, "ghmirror; hit; detail=fresh"),
        ("negative", {}, "ghmirror; hit; detail=negative"),
        ("stale", {"detail": "offline"}, "ghmirror; hit; detail=offline"),
        (
            "stale",
            {"detail": "server-error", "status": 502},
            "ghmirror; fwd=stale; fwd-status=502; detail=server-error",
        ),
        ("stale", {"detail": "timeout", "forward": "stale"}, "ghmirror; fwd=stale; detail=timeout"),
        ("pass", {"forward": "method", "status": 201}, "ghmirror; fwd=method"),
        ("pass", {"forward": "bypass", "status": 200}, "ghmirror; fwd=bypass"),
        ("pass", {"forward": "uri-miss", "status": 404}, "ghmirror; fwd=uri-miss; fwd-status=404"),
        ("pass", {}, "ghmirror; fwd=uri-miss"),
        ("error", {"detail": "malformed"}, "ghmirror; detail=malformed"),
        (
            "error",
            {"detail": "timeout", "forward": "uri-miss"},
            "ghmirror; fwd=uri-miss; detail=timeout",
        ),
        (
            "error",
            {"detail": "broken-answer", "status": 200},
            "ghmirror; fwd=uri-miss; fwd-status=200; detail=broken-answer",
        ),
        ("error", {}, "ghmirror"),
    ],
)
def test_the_table_of_outcomes(outcome: str, more: dict[str, Any], value: str) -> None:
    """Each outcome has the documented value, with `collapsed` if the request shared a response."""
    assert cache_status(Outcome(outcome), **more) == value.encode()
    assert cache_status(Outcome(outcome), **more, collapsed=True) == f"{value}; collapsed".encode()


@pytest.mark.parametrize(
    ("detail", "written"),
    [
        ("server-error", "server-error"),
        ("a b", '"a b"'),
        ("9lives", '"9lives"'),
        ("", '""'),
        ('say "\\"', '"say \\"\\\\\\""'),
        ("x\r\nSet-Cookie: é", '"x??Set-Cookie: ?"'),
        ("x\n", '"x?"'),
    ],
)
def test_details_are_quoted_where_needed(detail: str, written: str) -> None:
    """A token stays bare; all else is a string, without what a string can't hold (RFC 8941)."""
    assert cache_status(Outcome.ERROR, detail=detail) == f"ghmirror; detail={written}".encode()


@given(st.sampled_from(Outcome), st.text())
def test_no_detail_breaks_out_of_the_line(outcome: Outcome, detail: str) -> None:
    """With any detail, the value is printable ASCII."""
    value = cache_status(outcome, detail=detail)
    assert all(0x20 <= byte < 0x7F for byte in value)


def test_x_cache() -> None:
    """`HIT` is what GitHub did not send."""
    hits = {outcome.value for outcome in Outcome if x_cache(outcome) == b"HIT"}
    assert hits == {"revalidated", "shared", "empty", "fresh", "negative", "stale"}
    assert x_cache(Outcome.PASS) == b"MISS"


@pytest.mark.parametrize(
    ("outcome", "forward", "mode"),
    [
        ("revalidated", None, "REVALIDATED"),
        ("shared", None, "REVALIDATED"),
        ("empty", None, "REVALIDATED"),
        ("fresh", None, "REVALIDATED"),
        ("stale", "stale", "REVALIDATED"),
        ("miss", None, "MISS"),
        ("changed", None, "CHANGED"),
        ("pass", "method", "SKIP"),
        ("pass", "bypass", "SKIP"),
        ("pass", "uri-miss", "NO-STORE"),
        ("error", None, "NO-STORE"),
    ],
)
def test_x_cache_mode(outcome: str, forward: str | None, mode: str) -> None:
    """The values of ghproxy, whose clients do not count responses from the store."""
    assert x_cache_mode(Outcome(outcome), forward=forward) == mode.encode()
    assert x_cache_mode(Outcome(outcome), forward=forward, collapsed=True) == b"COALESCED"


def test_stored_responses_are_free_of_charge_in_both_fields() -> None:
    """`X-Cache` and `X-Cache-Mode` agree, for each outcome."""
    for outcome in Outcome:
        fields = dict(cache_status_fields(outcome))
        assert (fields[b"x-cache"] == b"HIT") is (fields[b"x-cache-mode"] == b"REVALIDATED")
