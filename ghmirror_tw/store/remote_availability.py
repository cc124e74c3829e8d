"""The availability of Redis: after each change the history of its content is looked up."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.store.remote_interface import IRemoteHistory


@define(eq=False)
class RemoteAvailability:
    """The availability of *servers*, with a look-up of *history* after each return of a server.

    It is settled when the servers have first connected or failed, and the history is known or
    *look_up_s* seconds have passed. Then *on_settled* is called, once.
    """

    reactor: Any
    servers: Any
    history: IRemoteHistory
    look_up_s: float
    on_settled: Callable[[], object]
    is_settled: bool = field(init=False, default=False)
    #: Since when Redis is unavailable, by the reactor's clock; None: it is available.
    unavailable_since: float | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _return_count: int | None = field(init=False, default=None)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)

    @property
    def available(self) -> bool:
        """Whether Redis can be read and written now."""
        return bool(self.servers.reading and self.servers.writing)

    def open(self) -> None:
        """Connect to the servers, and look up the history."""
        self.unavailable_since = self.reactor.seconds()
        self.servers.open()
        self.servers.settled().addCallback(self._look_up_history)

    def _look_up_history(self, _: None) -> None:
        self._return_count = self.servers.return_count
        self.history.look()
        if self.servers.writing:
            self.history.looked_up(self.look_up_s).addCallback(self._settle)
        else:
            self._settle(None)

    def _settle(self, _: None) -> None:
        if self._closed:
            return
        self.is_settled = True
        self.on_settled()
        wake(self._waiters)

    def settled(self, timeout_s: float = inf) -> Deferred[None]:
        """Return a Deferred that fires when this is settled, or when *timeout_s* has passed."""
        if self.is_settled:
            return succeed(None)
        return add_waiter(self.reactor, self._waiters, timeout_s)

    def note_change(self) -> None:
        """Note a change of availability; a server that returned may have lost records."""
        if self.available:
            self.unavailable_since = None
        elif self.unavailable_since is None:
            self.unavailable_since = self.reactor.seconds()
        return_count = self.servers.return_count
        if self._return_count not in {None, return_count}:
            self.history.note_interruption()
        if self.is_settled:
            self._return_count = return_count

    def note_connection(self) -> None:
        """Note a new connection, which may lead to another server."""
        if self.is_settled:
            self.history.note_connection()

    def close(self) -> None:
        """Ignore the end of a look-up from now on."""
        self._closed = True
