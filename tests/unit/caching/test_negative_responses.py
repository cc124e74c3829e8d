"""When a negative response is stored, and when it is repeated."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ghmirror_tw.caching.negative_responses import (
    MOST_CONTENT_BYTES,
    found_by_others,
    is_repeatable,
    may_repeat,
    repeated_fields,
)
from ghmirror_tw.caching.records import Entry, Known, NegativeResponse
from ghmirror_tw.http.fields import Fields

EPOCH = b"12345678"
NOW = 1000.0


@pytest.mark.parametrize(
    ("status", "line", "more", "may"),
    [
        (404, None, {}, True),
        (410, (b"vary", b"Accept, Authorization, Cookie"), {"coding": b"gzip"}, True),
        (301, (b"location", b"/x"), {"content": b"x" * MOST_CONTENT_BYTES}, True),
        (200, None, {}, False),
        (302, None, {}, False),
        (308, None, {}, False),
        (403, None, {}, False),
        (451, None, {}, False),
        (404, (b"etag", b'"a"'), {}, False),
        (404, (b"last-modified", b"Mon, 01 Jan 2024 00:00:00 GMT"), {}, False),
        (404, (b"cache-control", b"private, no-store"), {}, False),
        (404, (b"vary", b"*"), {}, False),
        (404, (b"vary", b"User-Agent"), {}, False),
        (301, (b"location", b"https://x/y?a=b&token=ABC"), {}, False),
        (301, (b"link", b"<https://x/y?jwt=e.y.J>; rel=next"), {}, False),
        (404, None, {"coding": b"br"}, False),
        (404, None, {"content": b"x" * (MOST_CONTENT_BYTES + 1)}, False),
    ],
)
def test_repeatable_responses(
    status: int, line: tuple[bytes, bytes] | None, more: dict[str, Any], may: bool
) -> None:
    """A small 404, 410 or 301 without a validator, which varies by no more than the key."""
    fields = Fields(() if line is None else (line,))
    values = {"content": b"{}", "coding": b"", **more}
    assert is_repeatable(status, fields, **values) is may


def test_fields_of_a_quota_and_of_one_request_are_not_repeated() -> None:
    """They are GitHub's word of another time."""
    repeated = Fields(
        ((b"content-type", b"a/b"), (b"location", b"/x"), (b"link", b"<y>; rel=next"))
    )
    others = Fields(((b"x-ratelimit-remaining", b"1"), (b"date", b"d"), (b"etag", b"e")))
    assert repeated_fields(repeated.plus(others)) == repeated


def entry(digest: str, received_at: float, validated_at: float = 1.0) -> Entry:
    return Entry(digest, received_at, validated_at, shareable=True, size=1)


KNOWN = Known(
    epoch=EPOCH,
    entries=(entry("ab", 3.0),),
    negative=NegativeResponse(
        NOW - 10, NOW - 9, EPOCH, 404, Fields(), b"", found=(("ab", 3.0), ("cd", 2.0))
    ),
)


def repeats(known: Known, now: float = NOW, *, validate: bool = False) -> bool:
    return may_repeat(known, now, 60.0, validate=validate)


def test_a_negative_response_is_repeated_for_so_long() -> None:
    """Not longer, not before its time, and not to a request for a validation."""
    assert repeats(KNOWN)
    assert repeats(KNOWN, NOW + 50.9)
    assert not repeats(KNOWN, NOW + 51.0)
    assert not repeats(KNOWN, NOW - 10.0)
    assert not repeats(KNOWN, validate=True)
    assert not repeats(Known(epoch=EPOCH))
    assert not may_repeat(KNOWN, NOW, 0.0, validate=False)


def test_a_negative_response_needs_its_epoch() -> None:
    """A write and a 401 replace it, and its loss ends the permission, too."""
    assert not repeats(evolve(KNOWN, epoch=None))
    assert not repeats(evolve(KNOWN, epoch=b"87654321"))


def test_a_200_for_another_credential_ends_it() -> None:
    """By its own time or by that of another clock; a mere confirmation does not."""
    assert found_by_others(KNOWN) == (("ab", 3.0),)
    assert repeats(evolve(KNOWN, entries=(entry("ab", 3.0, validated_at=NOW),)))
    assert repeats(evolve(KNOWN, entries=()))
    for later in (entry("ab", NOW), entry("ef", 1.0)):
        assert not repeats(evolve(KNOWN, entries=(later, *KNOWN.entries)))
