"""Questions that are asked once for all who ask the same, and may go on."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.runtime.single_flight import Departure, SingleFlight


class Collapsing(SynchronousTestCase):
    """A question that may outlive who asked it."""

    def setUp(self) -> None:
        self.unwanted: list[str | Failure] = []
        self.collapser: SingleFlight[str] = SingleFlight(self.unwanted.append)
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
                self.collapser.detach("same")
            for each in (first, second):
                each.cancel()
                self.failureResultOf(each, CancelledError)
            assert self.collapser.under_way("same") is kept
        third = self.wait()
        assert len(self.asked) == 2
        self.asked[1].callback("late")
        assert self.successResultOf(third) == ("late", True)
        gone = self.wait()
        self.collapser.detach("same")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.unwanted.clear()
        self.asked[2].callback("too late")
        assert self.unwanted == ["too late"]
        self.collapser.detach("same")

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
        self.collapser.detach("same")
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

    def test_its_end_can_be_watched(self) -> None:
        """Well or not, given up or not; whoever looks away is forgotten, and costs nothing."""
        assert self.successResultOf(self.collapser.ended("same"))
        for how in ("callback", "errback", "cancel"):
            waiter = self.wait()
            watching, gone = self.collapser.ended("same"), self.collapser.ended("same")
            gone.cancel()
            self.failureResultOf(gone, CancelledError)
            self.assertNoResult(watching)
            if how == "cancel":
                waiter.cancel()
            else:
                getattr(self.asked[-1], how)(ValueError() if how == "errback" else "answer")
            waiter.addErrback(lambda _: None)
            assert self.successResultOf(watching)

    def test_a_watcher_may_begin_the_next_one(self) -> None:
        """It finds none under way, and the one behind it finds that one."""
        self.wait()
        found: list[Departure | None] = []
        for _ in range(2):
            watching = self.collapser.ended("same")
            watching.addCallback(lambda _: self.begin_again(found))
        self.asked[0].callback("answer")
        assert found[0] is None
        assert found[1] is not None
        assert len(self.asked) == 2

    def begin_again(self, found: list[Departure | None]) -> None:
        found.append(self.collapser.departure("same"))
        self.wait()

    def test_when_it_was_sent(self) -> None:
        """Is what its asker has noted first."""
        departure = Departure(1.0)
        assert self.collapser.departure("other") is None

        async def ask() -> str:
            return await Deferred()

        self.collapser.join("other", ask, departure).addErrback(lambda _: None)
        assert self.collapser.departure("other") is departure
        departure.note(2.0)
        departure.note(3.0)
        assert (departure.began_at, departure.sent_at) == (1.0, 2.0)
        self.collapser.close()

    def test_closing(self) -> None:
        """Gives up all questions, kept or not."""
        gone = self.wait()
        self.collapser.detach("same")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.collapser.close()
        assert not self.collapser.under_way("same")
