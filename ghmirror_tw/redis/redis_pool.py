"""The connections to one server: made one at a time, made again, replaced when they are old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from ghmirror_tw.redis.address import Credentials
from ghmirror_tw.redis.redis_connection import (
    ConnectionFactory,
    RedisConnectError,
    RedisConnection,
)
from ghmirror_tw.redis.server_breaker import grown, jittered

#: An idle connection is tried so often.
_IDLE_S: Final = 15.0
#: So long, at most, is waited after a loss, so that replicas don't come back as one.
_SPREAD_S: Final = 0.1
#: The last replies are waited for so long when all is closed.
_CLOSING_S: Final = 1.0


@define(eq=False, kw_only=True)
class RedisPool:
    """Keeps *size* connections, and tells its owner what becomes of them.

    Only one attempt to connect is under way at a time: a server that comes back is not rushed
    at, and a name that can't be looked up holds one thread only. A connection that is *lifetime_s*
    old (10 % more or less) is replaced: first there is a new one, then the old one retires.
    """

    reactor: Any
    endpoint: IStreamClientEndpoint
    size: int
    patience_s: float
    lifetime_s: float
    credentials: Callable[[], Credentials]
    database: int
    random: Callable[[], float]
    idle_s: float = _IDLE_S
    #: There is one more connection.
    gained: Callable[[], object]
    #: There is one less, or an attempt came to nothing, and why.
    missed: Callable[[str], object]
    connections: list[RedisConnection] = field(factory=list, init=False)
    _leaving: list[RedisConnection] = field(factory=list, init=False)
    _attempt: Deferred[RedisConnection] | None = field(default=None, init=False)
    _greeting: RedisConnection | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False)
    _delay_s: float = field(default=0.0, init=False)
    _opened: bool = field(default=False, init=False)
    _empty: Deferred[None] | None = field(default=None, init=False)

    def open(self) -> None:
        """Begin to connect."""
        self._opened = True
        self._fill()

    def pick(self) -> RedisConnection | None:
        """Return the first connection that is swift, or else the one that has the least to do.

        So what is sent in one turn of the reactor goes in one piece, and its replies come in one.
        Those that are to be replaced come last.
        """
        now = self.reactor.seconds()
        for connection in self.connections:
            if connection.is_swift(now):
                return connection
        usable = [connection for connection in self.connections if connection.usable]
        return min(usable, key=lambda one: (one.stale, one.burden_bytes), default=None)

    def renew(self) -> None:
        """Replace all connections by new ones, to wherever the name leads by now."""
        for connection in self.connections:
            connection.stale = True
        self._fill()

    def close(self) -> Deferred[None]:
        """Close all; what has been sent is waited for, but not for long."""
        self._opened = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            if self._greeting is not None:
                self._leaving.append(self._greeting)
            self._attempt.cancel()
        for connection in list(self.connections):
            self._retire(connection)
        if not self._leaving:
            return succeed(None)
        self._empty = Deferred()
        late = self.reactor.callLater(_CLOSING_S, self._abort_all)
        return self._empty.addBoth(lambda _: late.cancel() if late.active() else None)

    def _abort_all(self) -> None:
        for connection in list(self._leaving):
            connection.abort("it was closed")

    def _fill(self) -> None:
        """Connect, if something is missing or stale, and no attempt is under way or due."""
        if not self._opened or self._attempt is not None or self._timer is not None:
            return
        stale = any(connection.stale for connection in self.connections)
        if len(self.connections) >= self.size and not stale:
            return
        self._attempt = attempt = Deferred.fromCoroutine(self._connect())
        attempt.addBoth(self._attempted)

    async def _connect(self) -> RedisConnection:
        try:
            credentials = self.credentials()
        except Exception as error:  # noqa: BLE001 - it is somebody else's
            # its text may have the secret in it
            raise RedisConnectError(f"the password can't be had ({type(error).__name__})") from None
        factory = ConnectionFactory(
            self.reactor,
            self.patience_s,
            self.idle_s,
            self.database,
            credentials.username,
            credentials.password,
        )
        connection = cast("RedisConnection", await self.endpoint.connect(factory))
        connection.gone = self._gone
        self._greeting = connection
        return await connection.ready

    def _attempted(self, result: RedisConnection | Failure) -> None:
        self._attempt = self._greeting = None
        if isinstance(result, RedisConnection):
            self._delay_s = 0.0
            self._add(result)
            self._fill()
        elif self._opened:
            self._delay_s = grown(self._delay_s)
            self._fill_later(jittered(self._delay_s, self.random))
            self.missed(result.getErrorMessage())

    def _add(self, connection: RedisConnection) -> None:
        self.connections.append(connection)
        old = next((one for one in self.connections if one.stale), None)
        if old is not None and len(self.connections) > self.size:
            self._retire(old)
        lifetime_s = self.lifetime_s * (0.9 + self.random() / 5)
        connection.age = self.reactor.callLater(lifetime_s, self._aged, connection)
        self.gained()

    def _aged(self, connection: RedisConnection) -> None:
        connection.stale = True
        self._fill()

    def _retire(self, connection: RedisConnection) -> None:
        self.connections.remove(connection)
        self._leaving.append(connection)
        connection.retire()

    def _gone(self, connection: RedisConnection) -> None:
        if connection.age is not None and connection.age.active():
            connection.age.cancel()
        if connection in self._leaving:
            self._leaving.remove(connection)
            if not self._leaving and self._empty is not None:
                empty, self._empty = self._empty, None
                empty.callback(None)
            return
        if connection not in self.connections:
            return  # it never got so far; the attempt tells
        self.connections.remove(connection)
        self._fill_later(_SPREAD_S * self.random())
        self.missed(connection.why)

    def _fill_later(self, delay_s: float) -> None:
        if self._opened and self._timer is None and self._attempt is None:
            self._timer = self.reactor.callLater(delay_s, self._fill_now)

    def _fill_now(self) -> None:
        self._timer = None
        self._fill()
