"""One connection to a Redis server, over txredisapi's protocol."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Final, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ConnectionError as ConnectionClosedError
from txredisapi import ResponseError

from ghmirror_tw.redis.error_codes import redacted
from ghmirror_tw.redis.resp import LARGEST_BYTES, StrictProtocol, encode_command
from ghmirror_tw.redis.server_endpoint import RedisConnectError
from ghmirror_tw.redis.servers_interface import Reply
from ghmirror_tw.runtime.deferreds import do_nothing
from ghmirror_tw.runtime.socket_writes import send_now

#: A command without a reply times out after so many checks, and the connection is aborted. Checks
#: are counted, not seconds: a reactor that was blocked checks once.
_CHECKS: Final = 4
#: A connection is swift with fewer bytes under way than this, and a reply so recently.
_SWIFT_BYTES: Final = 64 * 1024
_SWIFT_REPLY_S: Final = 0.02
_ONE_COMMAND: Final = (0,)
_log: Final = Logger(namespace="ghmirror.store")
#: The size that is assumed for a large reply.
_LARGE_BYTES: Final = 1 << 20


class ConnectionState(Enum):
    """The life of a connection.

    GREETING: it sends AUTH, SELECT and PING. READY: it accepts commands. RETIRING: it accepts none,
    and closes after the last reply. CLOSED: it is closed.
    """

    GREETING = "greeting"
    READY = "ready"
    RETIRING = "retiring"
    CLOSED = "closed"


#: Receives the index of a command and its reply, or an exception in its place: ``ResponseError``
#: for an error reply, txredisapi's ``ConnectionError`` when the connection was lost.
Receive: TypeAlias = Callable[[int, Reply], object]

#: A command under way: its size, its size with the assumed one of the reply, after how many checks
#: it times out, and the receiver and index of its reply.
_Sent: TypeAlias = tuple[int, int, int, Receive, int]


def _fire(result: Deferred[Reply]) -> Receive:
    """Return a receiver that fires *result*, unless it was cancelled."""

    def receive(_: int, reply: Reply) -> None:
        if result.called:
            return
        if isinstance(reply, Exception):
            result.errback(Failure(reply))
        else:
            result.callback(reply)

    return receive


class RedisConnection(StrictProtocol):
    """Sends commands, and matches replies to them in order.

    Made by `ConnectionFactory`. *ready* fires with the connection when it accepts commands, or
    fails with `RedisConnectError`; cancelling it closes the connection. *on_closed* is called once.

    It aborts itself if the server sends anything but RESP2, if the oldest command has no reply
    within *patience_s*, or if the PING after *idle_s* without traffic has none.
    """

    def __init__(self, factory: ConnectionFactory) -> None:
        super().__init__(
            factory.largest_bytes,
            charset=None,  # replies stay bytes: b"0123" does not become 123
            password=factory.password,
            username=factory.username or None,
            dbid=factory.database or None,
            convertNumbers=False,
        )
        self.factory = factory
        self.state = ConnectionState.GREETING
        self._check_s = factory.check_s
        #: Whether the pool shall replace it, and the timer that sets that.
        self.stale = False
        self.lifetime_timer: Any = None
        self.outstanding_bytes = 0
        #: The same, with the assumed sizes of large replies.
        self.load_bytes = 0
        self.ready: Deferred[RedisConnection] = Deferred(lambda _: self.abort("cancelled"))
        self.on_closed: Callable[[RedisConnection], object] = lambda _: None
        self.close_reason = ""
        self.sent: deque[_Sent] = deque()
        # Commands of this iteration of the reactor, which are sent at its end in one system call.
        self._unsent: list[bytes] = []
        self._send_timer: Any = None
        # Checks since the last reply, or since a command was sent on the idle connection.
        self._quiet_checks = 0
        self._quiet_since = 0.0
        self._check_timer: Any = None

    @property
    def usable(self) -> bool:
        """Whether it accepts commands now."""
        return self.state is ConnectionState.READY and not self.transport.disconnecting

    def is_swift(self, now: float) -> bool:
        """Return whether it accepts commands, has little under way, and has replied recently."""
        if self.stale or not self.usable:
            return False
        if not self.load_bytes:
            return True
        return self.load_bytes < _SWIFT_BYTES and now - self._quiet_since < _SWIFT_REPLY_S

    def send(self, parts: Sequence[bytes], patience_s: float = 0.0) -> Deferred[Reply]:
        """Send one command; fire with its reply, which is awaited for *patience_s* at least.

        Fails with ``ResponseError`` for an error reply, or with txredisapi's ``ConnectionError``,
        which is raised if the connection is closed already. A late reply after cancelling is
        discarded.
        """
        result: Deferred[Reply] = Deferred()
        self.write([encode_command(parts)], _fire(result), _ONE_COMMAND, patience_s)
        return result

    def write(
        self,
        commands: Sequence[bytes],
        receive: Receive,
        indices: Iterable[int],
        patience_s: float = 0.0,
        *,
        large: bool = False,
    ) -> None:
        """Send encoded *commands* together; *receive* is called once with the reply to each.

        *indices* are passed to *receive*. *large*: the replies may be large. Raises txredisapi's
        ``ConnectionError`` if the connection is closed already.
        """
        if not self.connected:
            raise ConnectionClosedError("Not connected")
        sent, assumed = self.sent, _LARGE_BYTES if large else 0
        if not sent:
            self._quiet_checks = 0
            self._quiet_since = self.factory.reactor.seconds()
        checks = max(_CHECKS, int(patience_s / self._check_s) + 1)
        size = load = 0
        for command, index in zip(commands, indices, strict=True):
            length = len(command)
            sent.append((length, length + assumed, checks, receive, index))
            size += length
            load += length + assumed
        self.outstanding_bytes += size
        self.load_bytes += load
        if isinstance(self.transport, TCPConnection):
            self._unsent += commands
            if self._send_timer is None:
                self._send_timer = self.factory.reactor.callLater(0.0, self._send_all)
        else:
            self.transport.write(b"".join(commands))

    def _send_all(self) -> None:
        self._send_timer = None
        unsent, self._unsent = self._unsent, []
        send_now(self.transport, b"".join(unsent))

    def retire(self) -> None:
        """Accept no more commands, and close after the last reply."""
        if self.state is ConnectionState.READY:
            self.state = ConnectionState.RETIRING
            self._close_when_done()

    def abort(self, why: str) -> None:
        """Close at once; all commands under way fail."""
        self.close_reason = self.close_reason or why
        if self.state is not ConnectionState.CLOSED and self.transport is not None:
            self.transport.abortConnection()

    def execute_command(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Send a command of txredisapi's own, such as AUTH."""
        result: Deferred[Any] = Deferred()
        self.write([self._build_command(*args, **kwargs)], _fire(result), _ONE_COMMAND)
        return result

    def replyReceived(self, reply: Any) -> None:
        """Pass a reply to the receiver of the oldest command."""
        if not self.sent:
            self.abort("it sent a reply without a command")
            return
        size, load, _, receive, index = self.sent.popleft()
        self.outstanding_bytes -= size
        self.load_bytes -= load
        self._quiet_checks = 0
        self._quiet_since = self.factory.reactor.seconds()
        receive(index, reply)
        if self.state is ConnectionState.RETIRING:
            self._close_when_done()

    def value_dropped(self, length: int) -> None:
        """Log that a value is too large; it counts as missing."""
        _log.warn(
            "Redis value too large, counts as missing: server={server} length={length}",
            server=self.factory.server,
            length=length,
        )

    def connectionMade(self) -> None:
        """Authenticate as txredisapi does, and send PING."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self._schedule_check()
        super().connectionMade()
        self.whenConnected().addCallback(lambda _: self._send_ping())

    def auth(self, password: str, username: str | None = None) -> Deferred[Any]:
        """Send AUTH; report an error reply."""
        result: Deferred[Any] = super().auth(password, username)
        return result.addErrback(self._auth_failed)

    def _auth_failed(self, failure: Failure) -> Failure:
        if failure.check(ResponseError):
            self.factory.on_refused()
        return failure

    def _send_ping(self) -> None:
        # Without a password nothing has been sent yet, and TLS has not begun its handshake.
        self.ping().addCallbacks(self._greeted, self._refused)

    def _greeted(self, _reply: Reply) -> None:
        self.state = ConnectionState.READY
        self.ready.callback(self)

    def _refused(self, failure: Failure) -> None:
        if failure.check(ResponseError):
            self.abort(f"error reply: {redacted(failure.value)}")

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Fail all commands under way."""
        self.state = ConnectionState.CLOSED
        if self._check_timer is not None and self._check_timer.active():
            self._check_timer.cancel()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
        by_server = why.check(ConnectionDone) is not None
        lost = "the server closed the connection" if by_server else why.getErrorMessage()
        self.close_reason = self.close_reason or lost
        super().connectionLost(why)
        while self.sent:
            self.replyReceived(ConnectionClosedError("Lost connection"))
        if not self.ready.called:
            self.ready.errback(RedisConnectError(self.close_reason))
        self.on_closed(self)

    def _schedule_check(self) -> None:
        self._check_timer = self.factory.reactor.callLater(self.factory.check_s, self._check)

    def _check(self) -> None:
        """Abort if the oldest command has timed out; send PING after idle time."""
        self._schedule_check()
        self._quiet_checks += 1
        if self.sent:
            if self._quiet_checks > self.sent[0][2]:
                self.abort("no reply")
        elif self.state is ConnectionState.READY and (
            self._quiet_checks * self.factory.check_s >= self.factory.idle_s
        ):
            self._quiet_checks = 0
            self.ping().addErrback(lambda _: None)

    def _close_when_done(self) -> None:
        if not self.sent:
            self.close_reason = self.close_reason or "retired"
            self.transport.loseConnection()


@define(eq=False)
class ConnectionFactory(ClientFactory):
    """Makes the connection of one attempt, in the place of txredisapi's RedisFactory.

    RedisFactory's pool waits for ever while Redis is down, and stops for good after a failed AUTH
    or SELECT. Here those fail only the attempt.
    """

    reactor: Any
    patience_s: float
    idle_s: float
    database: int = 0
    username: str = ""
    password: str | None = field(default=None, repr=False)
    #: The limit of a reply (see `ReplyParser`), and the name of the server in the log.
    largest_bytes: int = LARGEST_BYTES
    server: str = ""
    #: Called if the server responds to AUTH with an error.
    on_refused: Callable[[], object] = do_nothing
    noisy: bool = False
    #: Keeps txredisapi from logging error replies itself.
    isLazy: bool = False
    connection: RedisConnection | None = field(default=None, init=False)

    @property
    def check_s(self) -> float:
        """How often a connection checks for timeouts, in seconds."""
        return self.patience_s / _CHECKS

    def buildProtocol(self, addr: Any) -> RedisConnection:  # noqa: ARG002
        """Return the connection."""
        self.connection = RedisConnection(self)
        return self.connection

    def stopTrying(self) -> None:
        """Do nothing: the pool decides about the next attempt."""

    def connectionError(self, why: str) -> None:
        """Note why txredisapi's AUTH or SELECT has failed."""
        assert self.connection is not None
        self.connection.close_reason = self.connection.close_reason or redacted(why)
