"""The connections to one server: opened one at a time, reopened, and replaced when they are old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from ghmirror_tw.redis.redis_connection import ConnectionFactory, RedisConnection
from ghmirror_tw.redis.resp import LARGEST_BYTES
from ghmirror_tw.redis.server_endpoint import ReadCredentials, credentials_from
from ghmirror_tw.runtime.jittered_backoff import JitteredBackoff

#: PING is sent on a connection after so many seconds without traffic.
_IDLE_S: Final = 15.0
#: The longest delay after a loss, in seconds, so that replicas do not reconnect all at once.
_SPREAD_S: Final = 0.1
#: How long `close` waits for outstanding replies, in seconds.
_CLOSING_S: Final = 1.0


@define(eq=False, kw_only=True)
class RedisPool:
    """Maintains *size* connections.

    Only one attempt to connect is under way at a time. So a server that is back gets few at once,
    and a name that cannot be resolved occupies one thread. A connection older than *lifetime_s*
    (10 % more or less) is replaced: it retires after the new one is ready. *on_connected* is called
    after each new connection; *on_missing* with a reason after each loss and each failed attempt.
    *random* gives numbers from 0 to 1. *largest_bytes*: the limit of a reply. *server*: its name in
    the log.
    """

    reactor: Any
    endpoint: IStreamClientEndpoint
    size: int
    patience_s: float
    lifetime_s: float
    credentials: ReadCredentials
    database: int
    random: Callable[[], float]
    idle_s: float = _IDLE_S
    on_connected: Callable[[], object]
    on_missing: Callable[[str], object]
    largest_bytes: int = LARGEST_BYTES
    server: str = ""
    connections: list[RedisConnection] = field(factory=list, init=False)
    _retiring: list[RedisConnection] = field(factory=list, init=False)
    _attempt: Deferred[RedisConnection] | None = field(default=None, init=False)
    greeting: RedisConnection | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False)
    _backoff: JitteredBackoff = field(init=False)
    _opened: bool = field(default=False, init=False)
    _all_closed: Deferred[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = JitteredBackoff(self.random)

    def open(self) -> None:
        """Begin to connect."""
        self._opened = True
        self._fill()

    def pick(self) -> RedisConnection | None:
        """Return the first swift connection, or else the one with the least load.

        So the commands of one iteration of the reactor are sent together, and their replies arrive
        together. Stale connections are the last choice.
        """
        now = self.reactor.seconds()
        for connection in self.connections:
            if connection.is_swift(now):
                return connection
        usable = [connection for connection in self.connections if connection.usable]
        return min(usable, key=lambda one: (one.stale, one.load_bytes), default=None)

    def renew(self) -> None:
        """Replace all connections, by an address that is resolved anew."""
        for connection in self.connections:
            connection.stale = True
        self._fill()

    def close(self) -> Deferred[None]:
        """Close all connections, after a short time for outstanding replies."""
        self._opened = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            if self.greeting is not None:
                self._retiring.append(self.greeting)
            self._attempt.cancel()
        for connection in list(self.connections):
            self._retire(connection)
        if not self._retiring:
            return succeed(None)
        self._all_closed = Deferred()
        timer = self.reactor.callLater(_CLOSING_S, self._abort_all)
        return self._all_closed.addBoth(lambda _: timer.cancel() if timer.active() else None)

    def _abort_all(self) -> None:
        for connection in list(self._retiring):
            connection.abort("the pool was closed")

    def _fill(self) -> None:
        """Connect, if a connection is missing or stale, and no attempt is under way or due."""
        if not self._opened or self._attempt is not None or self._timer is not None:
            return
        stale = any(connection.stale for connection in self.connections)
        if len(self.connections) >= self.size and not stale:
            return
        self._attempt = attempt = Deferred.fromCoroutine(self._connect())
        attempt.addBoth(self._attempted)

    async def _connect(self) -> RedisConnection:
        credentials = await credentials_from(self.credentials)
        factory = ConnectionFactory(
            self.reactor,
            self.patience_s,
            self.idle_s,
            self.database,
            credentials.username,
            credentials.password,
            self.largest_bytes,
            self.server,
            credentials.on_refused,
        )
        connection = cast("RedisConnection", await self.endpoint.connect(factory))
        connection.on_closed = self._closed
        self.greeting = connection
        return await connection.ready

    def _attempted(self, result: RedisConnection | Failure) -> None:
        self._attempt = self.greeting = None
        if isinstance(result, RedisConnection):
            self._backoff.reset()
            self._add(result)
            self._fill()
        elif self._opened:
            self._fill_later(self._backoff.next_s())
            self.on_missing(result.getErrorMessage())

    def _add(self, connection: RedisConnection) -> None:
        self.connections.append(connection)
        old = next((one for one in self.connections if one.stale), None)
        if old is not None and len(self.connections) > self.size:
            self._retire(old)
        lifetime_s = self.lifetime_s * (0.9 + self.random() / 5)
        connection.lifetime_timer = self.reactor.callLater(lifetime_s, self._expired, connection)
        self.on_connected()

    def _expired(self, connection: RedisConnection) -> None:
        connection.stale = True
        self._fill()

    def _retire(self, connection: RedisConnection) -> None:
        self.connections.remove(connection)
        self._retiring.append(connection)
        connection.retire()

    def _closed(self, connection: RedisConnection) -> None:
        if connection.lifetime_timer is not None and connection.lifetime_timer.active():
            connection.lifetime_timer.cancel()
        if connection in self._retiring:
            self._retiring.remove(connection)
            if not self._retiring and self._all_closed is not None:
                all_closed, self._all_closed = self._all_closed, None
                all_closed.callback(None)
            return
        if connection not in self.connections:
            return  # it was never ready: the attempt has failed
        self.connections.remove(connection)
        self._fill_later(_SPREAD_S * self.random())
        self.on_missing(connection.close_reason)

    def _fill_later(self, delay_s: float) -> None:
        if self._opened and self._timer is None and self._attempt is None:
            self._timer = self.reactor.callLater(delay_s, self._fill_now)

    def _fill_now(self) -> None:
        self._timer = None
        self._fill()
