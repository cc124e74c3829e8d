"""A Deferred fails with a specified error after a time limit, and is unchanged before."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.runtime.deferreds import fail_after

LATE = ValueError("late")


class FailAfterTests(SynchronousTestCase):
    """A time limit of three seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.work: Deferred[int] = Deferred()
        self.limited = fail_after(self.work, self.clock, 3, LATE)

    def test_result_in_time(self) -> None:
        """It is returned, and the timer is stopped."""
        self.work.callback(7)
        assert self.successResultOf(self.limited) == 7
        assert not self.clock.getDelayedCalls()

    def test_late_work_is_cancelled(self) -> None:
        """Its failure, of any kind, is replaced by the error."""
        self.clock.advance(3)
        assert self.failureResultOf(self.limited).value is LATE

    def test_earlier_cancellation_is_no_timeout(self) -> None:
        """It fails as any cancelled Deferred."""
        self.limited.cancel()
        self.failureResultOf(self.limited, CancelledError)
        assert not self.clock.getDelayedCalls()
