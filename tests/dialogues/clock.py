"""The time of a dialogue, and how it is known that nothing happens any more."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define
from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IDelayedCall, IHostnameResolver
from zope.interface import directlyProvides, implementer, providedBy

from tests.harness.home import reactor, turn

#: Hosts of GitHub Enterprise Cloud with data residency, which are here.
API_HOST: Final = "api.octocorp.ghe.com"
UPLOADS_HOST: Final = "uploads.octocorp.ghe.com"
#: Shorter timers fire by themselves, and longer ones when a dialogue lets their time pass.
SHORT_S: Final = 1.0
#: So many timers fire at their own time while time passes; what is left fires at the end.
_MOST_FIRED: Final = 300
#: The reactor turns so often before it is believed that nothing happened.
_TURNS: Final = 4
_ROUNDS: Final = 2
#: Times differ by so much at each look, so that what is later is later.
_TICK_S: Final = 1e-6


@implementer(IDelayedCall)
@define(eq=False)
class Timer:
    """A call that waits until its time has passed."""

    clock: Clock
    time: float
    call: Callable[[], object]
    is_active: bool = True

    def active(self) -> bool:
        return self.is_active

    def getTime(self) -> float:
        return self.time

    def cancel(self) -> None:
        assert self.is_active
        self.is_active = False
        self.clock.timers.remove(self)

    def reset(self, secondsFromNow: float) -> None:
        self.time = self.clock.now + secondsFromNow

    def delay(self, secondsLater: float) -> None:
        self.time += secondsLater

    def fire(self) -> None:
        self.is_active = False
        self.clock.timers.remove(self)
        self.call()


@implementer(IHostnameResolver)
@define(eq=False)
class _Names:
    """Resolves GitHub's names to this host, and others as the reactor does."""

    real: Any

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        if hostName not in {API_HOST, UPLOADS_HOST}:
            return self.real.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
        resolution = HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


class Clock:
    """A reactor whose time passes only by steps of a dialogue.

    Timers of less than `SHORT_S` fire by themselves, and move the clock to their time.
    """

    def __init__(self) -> None:
        self.real = reactor
        # At the beginning of a second, so that short timers do not move it into the next one.
        self.now = float(int(reactor.seconds()))
        self.timers: list[Timer] = []
        self.nameResolver = _Names(reactor.nameResolver)
        directlyProvides(self, *providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def seconds(self) -> float:
        """Return the time, in seconds since the epoch."""
        self.now += _TICK_S
        return self.now

    def callLater(
        self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function after so many seconds."""
        due = self.now + delay

        def called() -> None:
            call(*args, **kwargs)

        def called_in_time() -> None:
            self.now = max(self.now, due)
            called()

        if delay < SHORT_S:
            return self.real.callLater(delay, called_in_time)
        timer = Timer(self, due, called)
        self.timers.append(timer)
        return timer

    async def pass_(
        self,
        seconds: float,
        moved: Callable[[float], object],
        after: Callable[[], Awaitable[object]],
    ) -> None:
        """Let time pass; *moved* is called each time by how much, *after* when timers fired."""
        end = self.now + seconds
        fired = 0
        while due := [timer for timer in self.timers if timer.time <= end]:
            first = min(due, key=lambda timer: timer.time)
            if fired < _MOST_FIRED:
                self._move(max(first.time, self.now), moved)
                first.fire()
                fired += 1
                await after()
                continue
            self._move(end, moved)
            for timer in due:
                if timer.is_active:
                    timer.fire()
            break
        self._move(end, moved)
        await after()

    def _move(self, to: float, moved: Callable[[float], object]) -> None:
        by = to - self.now
        if by > 0:
            self.now = to
            moved(by)


class _CountingPoller:
    """A poller for the reactor, which counts events."""

    def __init__(self, poller: Any) -> None:
        self.poller = poller
        self.events = 0

    def poll(self, timeout: float, maxevents: int) -> Any:
        found = self.poller.poll(timeout, maxevents)
        self.events += len(found)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.poller, name)


def _counting() -> _CountingPoller:
    """Return the poller of the reactor (Twisted's for epoll), which counts from now on."""
    poller = reactor._poller
    if not isinstance(poller, _CountingPoller):
        poller = reactor._poller = _CountingPoller(poller)
    return poller


class Calm:
    """Detects activity: on a socket, in a thread, or in the Redis server.

    *busy*: whether a thread works. *barrier*: returns when what was sent to Redis before has been
    done, and its replies have been sent.
    """

    def __init__(self, busy: Callable[[], bool], barrier: Callable[[], object]) -> None:
        self.busy = busy
        self.barrier = barrier
        self._poller = _counting()
        listening = socket.create_server(("127.0.0.1", 0))
        self._near = socket.create_connection(listening.getsockname())
        self._far, _ = listening.accept()
        listening.close()

    def close(self) -> None:
        self._near.close()
        self._far.close()

    @property
    def events(self) -> int:
        """How many events the reactor has seen."""
        return self._poller.events

    async def looks_calm(self) -> bool:
        """Run one turn of the reactor, and return whether it was idle."""
        before = self.events
        for _ in range(_TURNS):
            await turn()
        return self.events == before and not self.busy()

    async def settle(self) -> None:
        """Return when nothing happens any more, but for timers."""
        calm = 0
        while calm < _ROUNDS:
            # Data that the kernel received before this byte has arrived when the byte has.
            self._near.sendall(b"x")
            self._far.recv(1)
            self.barrier()
            calm = calm + 1 if await self.looks_calm() else 0
