"""Questions that are asked once for all who ask the same, and may go on."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.collapse import Collapser


class Collapsing(SynchronousTestCase):
    """A question that may outlive who asked it."""

    def setUp(self) -> None:
        self.unwanted: list[str | Failure] = []
        self.collapser: Collapser[str] = Collapser(self.unwanted.append)
        self.asked: list[Deferred[str]] = []

    def wait(self) -> Deferred[tuple[str, bool]]:
        async def ask() -> str:
            self.asked.append(Deferred())
            return await self.asked[-1]

        return self.collapser.join("same", ask)

    def test_it_is_asked_once(self) -> None:
        """All who wait get the answer; later it is asked again."""
        waiters = [self.wait(), self.wait()]
        assert self.collapser.under_way("same")
        self.asked[0].callback("answer")
        assert [self.successResultOf(each) for each in waiters] == [
            ("answer", True),
            ("answer", False),
        ]
        assert not self.collapser.under_way("same")
        self.wait()
        assert len(self.asked) == 2

    def test_a_failure_is_everybodys(self) -> None:
        """Each gets it."""
        waiters = [self.wait(), self.wait()]
        self.asked[0].errback(ValueError())
        for each in waiters:
            self.failureResultOf(each, ValueError)

    def test_when_all_have_gone_it_is_given_up(self) -> None:
        """Unless it is kept; then its answer waits for nobody, or for who comes next."""
        for kept in (False, True):
            first, second = self.wait(), self.wait()
            if kept:
                self.collapser.keep("same")
            for each in (first, second):
                each.cancel()
                self.failureResultOf(each, CancelledError)
            assert self.collapser.under_way("same") is kept
        third = self.wait()
        assert len(self.asked) == 2
        self.asked[1].callback("late")
        assert self.successResultOf(third) == ("late", True)
        gone = self.wait()
        self.collapser.keep("same")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.unwanted.clear()
        self.asked[2].callback("too late")
        assert self.unwanted == ["too late"]
        self.collapser.keep("same")

    def test_who_comes_while_it_is_given_up_asks_anew(self) -> None:
        """What is given up may have something left to do; nobody joins it then."""
        left: Deferred[None] = Deferred()

        async def ask() -> str:
            try:
                return await Deferred()
            finally:
                await left

        gone = self.collapser.join("same", ask)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        next_one = self.wait()
        left.callback(None)
        self.asked[0].callback("answer")
        assert self.successResultOf(next_one) == ("answer", True)

    def test_a_failure_that_nobody_waits_for(self) -> None:
        """Is told like an answer."""
        gone = self.wait()
        self.collapser.keep("same")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.asked[0].errback(ValueError())
        (failure,) = self.unwanted
        assert isinstance(failure, Failure)
        assert failure.check(ValueError)

    def test_one_may_take_another_along(self) -> None:
        """One that is called may cancel the next one meanwhile."""
        for fails in (False, True):
            first, second = self.wait(), self.wait()
            first.addBoth(self.cancels(second))
            if fails:
                self.asked[-1].errback(ValueError())
            else:
                self.asked[-1].callback("answer")
            self.failureResultOf(second, CancelledError)

    @staticmethod
    def cancels(other: Deferred[tuple[str, bool]]) -> Any:
        return lambda _: other.cancel()

    def test_closing(self) -> None:
        """Gives up all questions, kept or not."""
        gone = self.wait()
        self.collapser.keep("same")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.collapser.close()
        assert not self.collapser.under_way("same")
