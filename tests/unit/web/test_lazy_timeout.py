"""`LazyTimeoutMixin` expires when Twisted's timeout would, with one delayed call."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.protocols.policies import TimeoutMixin
from twisted.web.http import HTTPFactory

from ghmirror_tw.web.client_channel import MirrorChannel
from tests.unit.web.test_request_head_cache import Wire


class Theirs(TimeoutMixin):
    """Twisted's own timeout."""

    def __init__(self, clock: Clock) -> None:
        self.callLater = clock.callLater  # type: ignore[method-assign,assignment]
        self.clock = clock
        self.over: list[float] = []

    def timeoutConnection(self) -> None:
        """Note when it was."""
        self.over.append(self.clock.seconds())


class Ours(MirrorChannel):
    """A channel that records expirations."""

    def __init__(self) -> None:
        super().__init__()
        self.over: list[float] = []

    def timeoutConnection(self) -> None:
        """Note when it was."""
        self.over.append(self.factory.reactor.seconds())


class Site(HTTPFactory):
    """Makes such connections."""

    protocol = Ours  # type: ignore[assignment]

    def __init__(self, clock: Clock) -> None:
        super().__init__(reactor=IReactorTime(clock), timeout=1)
        self.channels: dict[Any, None] = {}

    def admit(self, channel: Any) -> None:
        """Take any."""


SECONDS = st.integers(0, 7)


@given(st.lists(st.tuples(st.sampled_from(["give", "free", "again", "wait"]), SECONDS)))
def test_expires_when_twisted_does(steps: list[tuple[str, int]]) -> None:
    """After any sequence of calls; no delayed call is left."""
    clock, their_clock = Clock(), Clock()
    theirs, ours = Theirs(their_clock), Site(clock).buildProtocol(None)
    assert isinstance(ours, Ours)
    ours.makeConnection(Wire())
    theirs.setTimeout(1)
    for step, seconds in steps:
        if step == "give":
            assert ours.setTimeout(seconds) == theirs.setTimeout(seconds)
        elif step == "free":
            assert ours.setTimeout(None) == theirs.setTimeout(None)
        elif step == "again":
            ours.resetTimeout()
            theirs.resetTimeout()
        for each in (clock, their_clock) if step == "wait" else ():
            each.pump([1] * seconds)
        assert ours.over == theirs.over
        assert len(clock.getDelayedCalls()) <= 1
    ours.connectionLost()
    assert not clock.getDelayedCalls()
