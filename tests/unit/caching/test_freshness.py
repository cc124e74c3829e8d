"""Requests that require validation."""

from __future__ import annotations

from ghmirror_tw.caching import (
    freshness,
)
from ghmirror_tw.http.fields import Fields


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


def test_no_cache_requires_validation() -> None:
    """`Pragma` counts only without `Cache-Control`."""
    assert freshness.requires_validation(lines((b"cache-control", b"no-cache")))
    assert freshness.requires_validation(lines((b"pragma", b"no-cache")))
    assert not freshness.requires_validation(
        lines((b"pragma", b"no-cache"), (b"cache-control", b""))
    )
    assert not freshness.requires_validation(lines())
