"""The cache of recent values, and a codec that uses it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.records import Entry, Grant
from ghmirror_tw.runtime.recent_cache import RecentCache
from ghmirror_tw.store.record_kinds import ENTRY, GRANT
from ghmirror_tw.store.record_sealing import Codec
from tests.unit.store.test_record_sealing import ENTRIES, GRANTS, SECRETS

NAME, OTHER_NAME = b"{0123}:g:abc", b"{0123}:g:abd"


def test_recent_values_are_cached() -> None:
    """As many as the limit at least, twice as many at most; a later value replaces one."""
    lately: RecentCache[int, int] = RecentCache(10)
    for number in range(100):
        lately.put(number, -number)
        assert all(lately.get(each) == -each for each in range(max(number - 9, 0), number + 1))
        assert sum(lately.get(each) is not None for each in range(100)) <= 20
    lately.put(99, 7)
    assert lately.get(99) == 7
    assert lately.get(0) is None


def test_removed_value_is_not_found() -> None:
    """From both generations; a value that replaces another one evicts nothing."""
    lately: RecentCache[int, int] = RecentCache(2)
    for number in (1, 2, 3):
        lately.put(number, -number)
    lately.put(1, 7)
    for _ in range(3):
        lately.put(3, -3)
    assert [lately.pop(each) for each in (1, 1, 2, 4)] == [7, None, -2, None]
    assert [lately.get(each) for each in (1, 2, 3)] == [None, None, -3]


def test_used_value_stays() -> None:
    """A value that is used again and again is never evicted."""
    cache: RecentCache[int, int] = RecentCache(2)
    cache.put(0, 7)
    for number in range(1, 20):
        cache.put(number, -number)
        assert cache.use(0) == 7
    assert cache.get(1) is None
    assert cache.use(1) is None


@given(GRANTS, ENTRIES, SECRETS)
def test_decoding_is_independent_of_the_cache(grant: Grant, entry: Entry, secret: bytes) -> None:
    """With and without the record in its cache, a codec returns the same."""
    sealing, opening = Codec(secret), Codec(secret)
    sealed, listed = sealing.seal(GRANT, NAME, grant), sealing.seal(ENTRY, NAME, entry)
    for codec in (sealing, opening, opening):
        assert codec.open(GRANT, NAME, sealed) == grant
        assert codec.open(ENTRY, NAME, listed) == entry


@given(GRANTS, ENTRIES, st.data())
def test_cached_record_authenticates_no_other(
    grant: Grant, entry: Entry, data: st.DataObject
) -> None:
    """Each bit, the name, the kind and the secret still count after a record has been decoded."""
    codec = Codec(b"secret")
    sealed, listed = codec.seal(GRANT, NAME, grant), codec.seal(ENTRY, NAME, entry)
    assert codec.open(GRANT, NAME, sealed) == grant
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[at // 8] ^= 1 << at % 8
    assert codec.open(GRANT, NAME, bytes(changed)) is None
    assert codec.open(GRANT, OTHER_NAME, sealed) is None
    assert codec.open(GRANT, NAME, listed) is None
    assert codec.open(ENTRY, NAME, sealed) is None
    for secret in (b"", b"another"):
        assert Codec(secret).open(GRANT, NAME, sealed) is None
