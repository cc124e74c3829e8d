"""The last known quotas."""

from __future__ import annotations

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.upstream.quotas import MOST, Quotas

RECEIVED = Fields(
    ((b"x-ratelimit-limit", b"60"), (b"x-ratelimit-remaining", b"1"), (b"etag", b"x"))
)


def test_last_fields_are_stored() -> None:
    """By credential and bucket, and no other fields of the response."""
    quotas = Quotas()
    quotas.note("a", "core", RECEIVED)
    quotas.note("a", "core", Fields(((b"etag", b"x"),)))
    assert quotas.last("a", "core") == RECEIVED.without(frozenset({b"etag"}))
    assert quotas.last("a", "search") == quotas.last("b", "core") == Fields()


def test_number_of_quotas_is_bounded() -> None:
    """The least recently received one is evicted."""
    quotas = Quotas()
    quotas.note("first", "core", RECEIVED)
    for number in range(MOST - 1):
        quotas.note(str(number), "core", RECEIVED)
    quotas.note("first", "core", RECEIVED)
    quotas.note("last", "core", RECEIVED)
    assert len(quotas.recent) == MOST
    assert quotas.last("first", "core").lines
    assert not quotas.last("0", "core").lines
