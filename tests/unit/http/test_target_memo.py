"""Memoisation by target: once for each, and never with a credential."""

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.target_memo import LONGEST_BYTES, memoised_by_target


def test_results_are_computed_once() -> None:
    """A long target is an exception, and has its result computed each time."""
    sent = []

    @memoised_by_target
    def length(target: bytes, times: int = 1) -> int:
        sent.append(target)
        return len(target) * times

    long = b"x" * (LONGEST_BYTES + 1)
    for _ in range(2):
        assert [length(b"ab"), length(b"ab", times=2), length(b"abc")] == [2, 4, 3]
        assert length(long) == len(long)
    assert sent == [b"ab", b"ab", b"abc", long, long]


def test_results_of_targets_with_a_credential_are_not_memoised() -> None:
    """A key whose query holds a credential is made anew each time; others are the same object."""
    fields = Fields(((b"accept", b"a"),))
    for target, remembers in (
        (b"/user", True),
        (b"/user?page=2", True),
        (b"/user?access_token=t", False),
        (b"/user?a&client%5Fsecret=t", False),
        (b"/repos/ghp_abc", False),
        (b"/search?q=%67hs_abc", False),
        (b"/user?token=t", False),
    ):
        one, other = CacheKey.of(target, fields), CacheKey.of(target, fields)
        assert one == other == CacheKey(target, b"a")
        assert (one is other) is remembers
    large = Fields(((b"accept", b"a" * LONGEST_BYTES), (b"x-requested-with", b"b")))
    one, other = CacheKey.of(b"/user", large), CacheKey.of(b"/user", large)
    assert one == other
    assert one is not other
