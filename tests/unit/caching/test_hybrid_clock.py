"""The hybrid logical clock, and times that are wrong."""

from __future__ import annotations

from ghmirror_tw.caching.hybrid_clock import MOST_AHEAD_S, HybridClock, clamped
from ghmirror_tw.caching.records import Grant, Known, NegativeResponse
from ghmirror_tw.http.fields import Fields


def test_the_clock_rises() -> None:
    """Also while the time of the machine is stopped, or decreases."""
    times = iter([5.0, 5.0, 2.0, 9.0])
    clock = HybridClock(lambda: next(times))
    ticks = [clock.tick() for _ in range(4)]
    assert ticks == sorted(set(ticks))
    assert (ticks[0], ticks[-1]) == (5.0, 9.0)


def test_the_clock_is_later_than_all_times_read() -> None:
    """However far that is ahead, but for what is wrong."""
    clock = HybridClock(lambda: 100.0)
    for at in (700.0, 50.0):
        clock.read(at)
    assert 700.0 < clock.tick() < 701.0
    clock.read(100.0 + MOST_AHEAD_S + 1.0)
    assert clock.tick() < 701.0


def test_a_wrong_time_counts_as_now() -> None:
    """Such a grant permits nothing, and such a refusal outweighs no later grant."""
    far = 200.0 + MOST_AHEAD_S
    grant = Grant("d", None, None, None, far, 1.0, epoch=b"e")
    known = clamped(Known(grant=grant, epoch=b"e", refused_at=far), 100.0)
    assert known.grant is not None
    assert (known.grant.requested_at, known.grant.epoch, known.refused_at) == (100.0, None, 100.0)
    near = Known(grant=Grant("d", None, None, None, 150.0, 1.0, epoch=b"e"), refused_at=160.0)
    assert clamped(near, 100.0) == near
    assert clamped(Known(), 100.0) == Known()
    for at, stays in ((150.0, True), (far, False)):
        negative = NegativeResponse(at, 1.0, b"e", 404, Fields(), b"")
        assert (clamped(Known(negative=negative), 100.0).negative is not None) is stays
