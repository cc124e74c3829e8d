"""What GitHub last said of quotas."""

from __future__ import annotations

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.upstream.quotas import MOST, Quotas

SAID = Fields(((b"x-ratelimit-limit", b"60"), (b"x-ratelimit-remaining", b"1"), (b"etag", b"x")))


def test_the_last_word_is_remembered() -> None:
    """Of each credential and bucket, and nothing else of the response."""
    quotas = Quotas()
    quotas.note("a", "core", SAID)
    quotas.note("a", "core", Fields(((b"etag", b"x"),)))
    assert quotas.last("a", "core") == SAID.without(frozenset({b"etag"}))
    assert quotas.last("a", "search") == quotas.last("b", "core") == Fields()


def test_it_is_bounded() -> None:
    """Those that were seen longest ago go."""
    quotas = Quotas()
    quotas.note("first", "core", SAID)
    for number in range(MOST - 1):
        quotas.note(str(number), "core", SAID)
    quotas.note("first", "core", SAID)
    quotas.note("last", "core", SAID)
    assert len(quotas._last) == MOST
    assert quotas.last("first", "core").lines
    assert not quotas.last("0", "core").lines
