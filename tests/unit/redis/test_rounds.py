"""What is looked into again and again."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.rounds import Rounds

SELDOM_S = 60.0


class Looked:
    """Rounds that end when the test says so."""

    def __init__(self, random: float = 1.0) -> None:
        self.clock = Clock()
        self.under_way: Deferred[bool] | None = None
        self.began_at: list[float] = []
        self.rounds = Rounds(
            reactor=self.clock, act=self.act, seldom_s=SELDOM_S, random=lambda: random
        )

    async def act(self) -> bool:
        assert self.under_way is None
        self.began_at.append(self.clock.seconds())
        self.under_way = Deferred()
        try:
            return await self.under_way
        finally:
            self.under_way = None

    def begin(self) -> None:
        """Hurry, and have the round begin."""
        self.rounds.hurry()
        self.clock.advance(0)
        assert self.under_way is not None

    def end(self, well: bool) -> None:
        """End the round that is under way."""
        assert self.under_way is not None
        self.under_way.callback(well)


class InRounds(SynchronousTestCase):
    """When rounds begin."""

    def test_one_at_a_time(self) -> None:
        """However much one hurries, a round that is under way stays the only one."""
        looked = Looked()
        looked.begin()
        for _ in range(5):
            looked.rounds.hurry()
            looked.clock.advance(100.0)
        assert looked.began_at == [0.0]

    def test_seldom(self) -> None:
        """While all is well there is a round every minute, sooner or later by a quarter."""
        for random, wait_s in ((0.0, 45.0), (0.5, 60.0), (1.0, 75.0)):
            looked = Looked(random)
            looked.begin()
            looked.end(well=True)
            looked.clock.advance(wait_s - 0.01)
            assert len(looked.began_at) == 1
            looked.clock.advance(0.02)
            assert len(looked.began_at) == 2

    def test_patience(self) -> None:
        """While something is wrong the pauses grow, up to some seconds."""
        looked = Looked()
        looked.begin()
        pauses = []
        for _ in range(8):
            ended_at = looked.clock.seconds()
            looked.end(well=False)
            while looked.under_way is None:
                looked.clock.advance(0.05)
            pauses.append(round(looked.began_at[-1] - ended_at, 1))
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5, 2.5]

    def test_hurry(self) -> None:
        """Hurrying brings the next round forward: to now after a calm, else after a pause."""
        looked = Looked()
        looked.begin()
        looked.end(well=True)
        looked.clock.advance(20.0)
        looked.begin()
        assert looked.began_at == [0.0, 20.0]
        looked.end(well=True)
        for _ in range(3):
            looked.rounds.hurry()
        looked.clock.advance(0.0)
        assert len(looked.began_at) == 2
        looked.clock.advance(0.1)
        assert looked.began_at == [0.0, 20.0, 20.1]

    def test_spread(self) -> None:
        """Those who are in the same trouble don't all come back at the same time."""
        looked = Looked(random=0.0)
        looked.begin()
        looked.end(well=False)
        looked.clock.advance(0.051)
        assert len(looked.began_at) == 2

    def test_mistakes(self) -> None:
        """A round that fails by a mistake of ours is logged, and not the last one."""
        looked = Looked()
        looked.begin()
        assert looked.under_way is not None
        looked.under_way.errback(ZeroDivisionError())
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        looked.clock.advance(0.1)
        assert len(looked.began_at) == 2

    def test_close(self) -> None:
        """Nothing begins after the end, and what is under way is given up."""
        looked = Looked()
        looked.begin()
        under_way = looked.under_way
        assert under_way is not None
        looked.rounds.close()
        assert looked.under_way is None
        looked.rounds.hurry()
        waiting = Looked()
        waiting.begin()
        waiting.end(well=True)
        waiting.rounds.close()
        for each in (looked, waiting):
            each.clock.advance(1000.0)
            assert not each.clock.getDelayedCalls()
            assert len(each.began_at) == 1
