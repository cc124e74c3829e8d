"""What is kept of what was made lately, and what a codec makes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.records import Entry, Grant
from ghmirror_tw.runtime.recent_cache import RecentCache
from ghmirror_tw.store.codec import Codec
from tests.unit.store.test_codec import ENTRIES, GRANTS, SECRETS

NAME, OTHER_NAME = b"{0123}:g:abc", b"{0123}:g:abd"


def test_the_last_ones_are_held() -> None:
    """As many as it is told to at least, and twice as many at most; a later value counts."""
    lately: RecentCache[int, int] = RecentCache(10)
    for number in range(100):
        lately.put(number, -number)
        assert all(lately.get(each) == -each for each in range(max(number - 9, 0), number + 1))
        assert sum(lately.get(each) is not None for each in range(100)) <= 20
    lately.put(99, 7)
    assert lately.get(99) == 7
    assert lately.get(0) is None


def test_a_value_that_is_removed() -> None:
    """It is gone from both generations; a value that replaces another one evicts nothing."""
    lately: RecentCache[int, int] = RecentCache(2)
    for number in (1, 2, 3):
        lately.put(number, -number)
    lately.put(1, 7)
    for _ in range(3):
        lately.put(3, -3)
    assert [lately.pop(each) for each in (1, 1, 2, 4)] == [7, None, -2, None]
    assert [lately.get(each) for each in (1, 2, 3)] == [None, None, -3]


@given(GRANTS, ENTRIES, SECRETS)
def test_it_makes_no_difference_who_opens(grant: Grant, entry: Entry, secret: bytes) -> None:
    """Who sealed a record and who never saw it find the same in it, the first time and later."""
    sealing, opening = Codec(secret), Codec(secret)
    sealed, listed = sealing.grant(NAME, grant), sealing.entry(NAME, entry)
    for codec in (sealing, opening, opening):
        assert codec.open_grant(NAME, sealed) == grant
        assert codec.open_entry(NAME, listed) == entry


@given(GRANTS, ENTRIES, st.data())
def test_what_is_known_vouches_for_nothing_else(
    grant: Grant, entry: Entry, data: st.DataObject
) -> None:
    """One bit, the name, the kind and the secret still count after a record has been opened."""
    codec = Codec(b"secret")
    sealed, listed = codec.grant(NAME, grant), codec.entry(NAME, entry)
    assert codec.open_grant(NAME, sealed) == grant
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[at // 8] ^= 1 << at % 8
    assert codec.open_grant(NAME, bytes(changed)) is None
    assert codec.open_grant(OTHER_NAME, sealed) is None
    assert codec.open_grant(NAME, listed) is None
    assert codec.open_entry(NAME, sealed) is None
    for secret in (b"", b"another"):
        assert Codec(secret).open_grant(NAME, sealed) is None
