"""Data that was received before a timeout is read before the timer is called."""

from __future__ import annotations

import socket
import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ghmirror_tw.runtime.read_before_timeout import ReadBeforeTimeout


@implementer(IReadDescriptor)
class _Reader:
    """Notes that a socket can be read."""

    def __init__(self, end: socket.socket, happened: list[str]) -> None:
        self._end = end
        self._happened = happened

    def fileno(self) -> int:
        """Return the number of the socket."""
        return self._end.fileno()

    def logPrefix(self) -> str:
        """Return a name for the log."""
        return "reader"

    def doRead(self) -> None:
        """Read all that was received."""
        self._end.recv(100)
        self._happened.append("read")

    def connectionLost(self, _reason: object) -> None:
        """Do nothing."""


class LongTurn(TestCase):
    """A turn of the reactor in which a response is received, and its timeout passes."""

    async def test_received_bytes_are_read_before_the_call(self) -> None:
        """Without it, the timer would be first."""
        happened: list[str] = []
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        reader = _Reader(ours, happened)
        reactor.addReader(reader)
        self.addCleanup(reactor.removeReader, reader)
        called: Deferred[None] = Deferred()

        def call() -> None:
            happened.append("called")
            called.callback(None)

        ReadBeforeTimeout(reactor.callLater, 0.05, call)
        theirs.send(b"a response")
        time.sleep(0.1)  # noqa: ASYNC251 - the long turn
        await called
        assert happened == ["read", "called"]


def test_timer_is_cancelled_and_reset() -> None:
    """At any time before its call, also while the reactor reads."""
    clock, calls = Clock(), list[float]()
    timer = ReadBeforeTimeout(clock.callLater, 5, lambda: calls.append(clock.seconds()))
    clock.advance(4)
    timer.reset(5)
    clock.advance(4)
    assert timer.active()
    assert not calls
    clock.advance(1)
    assert calls == [9]
    assert not timer.active()
    other = ReadBeforeTimeout(clock.callLater, 1, lambda: calls.append(clock.seconds()))
    other.cancel()
    assert not other.active()
    clock.advance(1)
    assert calls == [9]


def test_a_blocked_reactor_is_one_step() -> None:
    """However long it was blocked, a timeout of several steps does not end."""
    clock, calls = Clock(), list[float]()
    ReadBeforeTimeout(clock.callLater, 4, lambda: calls.append(clock.seconds()), steps=4)
    clock.advance(100)
    clock.pump([1, 1, 0.5])
    assert not calls
    clock.advance(0.5)
    assert calls == [103]


def test_a_timeout_is_cancelled_at_any_step() -> None:
    """And begins again with all of its steps."""
    clock, calls = Clock(), list[float]()
    timer = ReadBeforeTimeout(clock.callLater, 4, lambda: calls.append(clock.seconds()), steps=4)
    clock.pump([1, 1])
    timer.reset(2)
    clock.advance(100)
    clock.pump([0.5, 0.5])
    assert not calls
    clock.advance(0.5)
    assert calls == [103.5]
    other = ReadBeforeTimeout(clock.callLater, 4, lambda: calls.append(clock.seconds()), steps=4)
    clock.pump([1, 1])
    other.cancel()
    assert not clock.getDelayedCalls()
