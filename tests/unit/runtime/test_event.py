"""An event that happens once."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.runtime.event import Event


class Events(SynchronousTestCase):
    """Waiters before and after the event."""

    def test_all_waiters_are_called(self) -> None:
        """Those that wait later are called at once."""
        event = Event()
        before = [event.wait() for _ in range(2)]
        for waiter in before:
            self.assertNoResult(waiter)
        seen = [event.is_set]
        event.set()
        event.set()
        seen.append(event.is_set)
        assert seen == [False, True]
        for waiter in [*before, event.wait()]:
            self.successResultOf(waiter)

    def test_a_cancelled_waiter_is_removed(self) -> None:
        """The others still wait."""
        event = Event()
        cancelled, other = event.wait(), event.wait()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        event.set()
        self.successResultOf(other)

    def test_a_waiter_may_cancel_another_one(self) -> None:
        """It is not called twice."""
        event = Event()
        first, second = event.wait(), event.wait()
        first.addCallback(lambda _: second.cancel())
        event.set()
        self.failureResultOf(second, CancelledError)
