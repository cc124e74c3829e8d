"""A counting semaphore with a cooldown, with a fake clock."""

from __future__ import annotations

from twisted.internet.task import Clock

from ghmirror_tw.runtime.semaphore import Semaphore


def test_permits_are_limited() -> None:
    """By a limit that may change; a released permit is available at once."""
    limits = [2]
    semaphore = Semaphore(clock=Clock(), limit=lambda: limits[0])
    semaphore.acquire(2)
    assert (semaphore.available, semaphore.idle) == (0, False)
    limits[0] = 3
    assert semaphore.available == 1
    semaphore.request_more()
    semaphore.release(2)
    assert (semaphore.available, semaphore.idle, semaphore.is_shared) == (3, True, False)
    assert semaphore.free_in_s() == 0


def test_released_permits_cool_down() -> None:
    """Each counts from its own release; a notification follows when it is free."""
    clock, notices = Clock(), list[float]()
    semaphore = Semaphore(
        clock=clock,
        limit=lambda: 2,
        cooldown_s=60.0,
        on_free=lambda: notices.append(clock.seconds()),
    )
    semaphore.acquire(2)
    semaphore.release(1)
    clock.advance(10.0)
    semaphore.release(1)
    assert (semaphore.available, semaphore.free_in_s(), semaphore.idle) == (0, 50.0, False)
    clock.advance(50.0)
    assert (semaphore.available, semaphore.free_in_s()) == (1, 10.0)
    clock.advance(10.0)
    assert (semaphore.available, semaphore.idle, notices) == (2, True, [60.0, 70.0])
    assert not clock.getDelayedCalls()


def test_closed_semaphore_sets_no_timers() -> None:
    """Permits may be released after it is closed."""
    clock = Clock()
    semaphore = Semaphore(clock=clock, limit=lambda: 2, cooldown_s=60.0)
    semaphore.acquire(2)
    semaphore.release(1)
    semaphore.close()
    semaphore.release(1)
    assert not clock.getDelayedCalls()
