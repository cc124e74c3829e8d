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
from twisted.python.failure import Failure
from txredisapi import ConnectionError as Lost
from txredisapi import ResponseError

from ghmirror_tw.redis.resp import StrictProtocol, encode_command
from ghmirror_tw.redis.servers_interface import Reply
from ghmirror_tw.redis.steps import Steps
from ghmirror_tw.runtime.outbox import send_now

#: A command without a reply is given up in so many looks at the clock, together with its
#: connection. Looks are counted, not seconds: a reactor that is held up looks once.
_LOOKS: Final = 4
#: A connection is swift if it has less to do than so many bytes, and has answered so lately.
_LITTLE_BYTES: Final = 64 * 1024
_LATELY_S: Final = 0.02
_ONE: Final = (0,)
#: What the reply to a command that has a large one counts for.
_LARGE_BYTES: Final = 1 << 20


class RedisConnectError(Exception):
    """An attempt to connect came to nothing; the text is a sentence without secrets."""


class State(Enum):
    """What a connection is good for.

    GREETING: it introduces itself (AUTH, SELECT, PING). READY: it takes commands.
    RETIRING: it takes no more, and closes when all its replies are in. CLOSED: it is gone.
    """

    GREETING = "greeting"
    READY = "ready"
    RETIRING = "retiring"
    CLOSED = "closed"


#: Takes the number of a command and the reply to it, or an exception in its place:
#: ``ResponseError`` for an error reply, txredisapi's ``ConnectionError`` where there won't be one.
Take: TypeAlias = Callable[[int, Reply], object]

#: A command on its way: how big it is, what it counts for, how many looks without a reply it has,
#: whose it is, and its number.
_Sent: TypeAlias = tuple[int, int, int, Take, int]


def _fire(result: Deferred[Reply]) -> Take:
    """Return what gives a reply to *result*, unless that was cancelled."""

    def take(_: int, reply: Reply) -> None:
        if result.called:
            return
        if isinstance(reply, Exception):
            result.errback(Failure(reply))
        else:
            result.callback(reply)

    return take


class RedisConnection(StrictProtocol):
    """Sends commands and gives their replies in order.

    Made by `ConnectionFactory`. *ready* fires with it when it takes commands, or fails with
    `RedisConnectError`; cancelling it closes the connection. *gone* is called once, when it is
    closed.

    It closes itself when the server says what is not RESP2, when the oldest command has had no
    reply for *patience_s*, and when nobody answers the PING that is sent after *idle_s* without
    a reply.
    """

    def __init__(self, factory: ConnectionFactory) -> None:
        super().__init__(
            charset=None,  # bytes stay bytes, and b"0123" does not become 123
            password=factory.password,
            username=factory.username or None,
            dbid=factory.database or None,
            convertNumbers=False,
        )
        self.factory = factory
        self.state = State.GREETING
        self._look_s = factory.look_s
        #: To be replaced; nothing here depends on it, nor on *age*, the timer that says so.
        self.stale = False
        self.age: Any = None
        self.outstanding_bytes = 0
        #: The same, and what the replies to it may be.
        self.burden_bytes = 0
        self.ready: Deferred[RedisConnection] = Deferred(lambda _: self.abort("it was given up"))
        self.gone: Callable[[RedisConnection], object] = lambda _: None
        self.why = ""
        #: What passes for those who wait for replies.
        self.steps = Steps(factory.reactor)
        self._sent: deque[_Sent] = deque()
        # what is sent at the end of this turn of the reactor, in one piece and without asking first
        # whether there is room for it
        self._unsent: list[bytes] = []
        self._end_of_turn: Any = None
        # since the last reply, or since something was sent that had nothing before it
        self._quiet_looks = 0
        self._since = 0.0
        self._watch: Any = None

    @property
    def usable(self) -> bool:
        """Whether it takes commands now."""
        return self.state is State.READY and not self.transport.disconnecting

    def is_swift(self, now: float) -> bool:
        """Tell whether it takes commands, has little to do, and does that quickly by all signs."""
        if self.stale or self.state is not State.READY or self.transport.disconnecting:
            return False
        if not self.burden_bytes:
            return True
        return self.burden_bytes < _LITTLE_BYTES and now - self._since < _LATELY_S

    def send(self, parts: Sequence[bytes], patience_s: float = 0.0) -> Deferred[Reply]:
        """Send one command, and wait for its reply for *patience_s* at least.

        The Deferred fails with ``ResponseError`` for an error reply, or with txredisapi's
        ``ConnectionError``, which is raised if it is closed already. Cancelling is safe: a late
        reply is thrown away.
        """
        result: Deferred[Reply] = Deferred()
        self.post([encode_command(parts)], _fire(result), _ONE, patience_s)
        return result

    def post(
        self,
        commands: Sequence[bytes],
        take: Take,
        numbers: Iterable[int],
        patience_s: float = 0.0,
        *,
        large: bool = False,
    ) -> None:
        """Send *commands*, written, in one piece; *take* is called once with the reply to each.

        *numbers*: what they are called, one after the other. *large*: so may the replies be.
        Raises txredisapi's ``ConnectionError`` if it is closed already.
        """
        if not self.connected:
            raise Lost("Not connected")
        sent, extra = self._sent, _LARGE_BYTES if large else 0
        if not sent:
            self._quiet_looks = 0
            self._since = self.factory.reactor.seconds()
        looks = max(_LOOKS, int(patience_s / self._look_s) + 1)
        total = burden = 0
        for command, number in zip(commands, numbers, strict=True):
            size = len(command)
            sent.append((size, size + extra, looks, take, number))
            total += size
            burden += size + extra
        self.outstanding_bytes += total
        self.burden_bytes += burden
        if isinstance(self.transport, TCPConnection):
            self._unsent += commands
            if self._end_of_turn is None:
                self._end_of_turn = self.factory.reactor.callLater(0.0, self._send_all)
        else:
            self.transport.write(b"".join(commands))

    def _send_all(self) -> None:
        self._end_of_turn = None
        unsent, self._unsent = self._unsent, []
        send_now(self.transport, b"".join(unsent))

    def retire(self) -> None:
        """Take no more commands, and close when all replies are in."""
        if self.state is State.READY:
            self.state = State.RETIRING
            self._close_when_done()

    def abort(self, why: str) -> None:
        """Close at once; whoever waits for a reply learns that it is lost."""
        self.why = self.why or why
        if self.state is not State.CLOSED and self.transport is not None:
            self.transport.abortConnection()

    def execute_command(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Send what txredisapi says by itself."""
        result: Deferred[Any] = Deferred()
        self.post([self._build_command(*args, **kwargs)], _fire(result), _ONE)
        return result

    def replyReceived(self, reply: Any) -> None:
        """Take a reply to the oldest command."""
        if not self._sent:
            self.abort("it answered what it was not asked")
            return
        size, burden, _, take, number = self._sent.popleft()
        self.outstanding_bytes -= size
        self.burden_bytes -= burden
        self._quiet_looks = 0
        self._since = self.factory.reactor.seconds()
        take(number, reply)
        if self.state is State.RETIRING:
            self._close_when_done()

    def connectionMade(self) -> None:
        """Introduce oneself, as txredisapi does, and see whether the server answers at all."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self._look_later()
        super().connectionMade()
        self.whenConnected().addCallback(lambda _: self._greet())

    def _greet(self) -> None:
        # without a password nothing has been said yet, and TLS has not even shaken hands
        self.ping().addCallbacks(self._greeted, self._refused)

    def _greeted(self, _reply: Reply) -> None:
        self.state = State.READY
        self.ready.callback(self)

    def _refused(self, failure: Failure) -> None:
        if failure.check(ResponseError):
            self.abort(f"it says {plain(failure.value)}")

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell whoever waits."""
        self.state = State.CLOSED
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        if self._end_of_turn is not None:
            self._end_of_turn.cancel()
            self._end_of_turn = None
        closed = why.check(ConnectionDone) is not None
        self.why = self.why or ("the server closed it" if closed else why.getErrorMessage())
        super().connectionLost(why)
        self.steps.close()
        while self._sent:
            self.replyReceived(Lost("Lost connection"))
        if not self.ready.called:
            self.ready.errback(RedisConnectError(self.why))
        self.gone(self)

    # The watch

    def _look_later(self) -> None:
        self._watch = self.factory.reactor.callLater(self.factory.look_s, self._look)

    def _look(self) -> None:
        self._look_later()
        self._quiet_looks += 1
        if self._sent:
            if self._quiet_looks > self._sent[0][2]:
                self.abort("it does not answer")
        elif self.state is State.READY and self._quiet_looks * self.factory.look_s >= (
            self.factory.idle_s
        ):
            self._quiet_looks = 0
            self.ping().addErrback(lambda _: None)

    def _close_when_done(self) -> None:
        if not self._sent:
            self.why = self.why or "it was retired"
            self.transport.loseConnection()


@define(eq=False)
class ConnectionFactory(ClientFactory):
    """Makes the connection of one attempt; stands where txredisapi has its RedisFactory.

    That one's pool waits for ever while Redis is down, and stops for good when AUTH or SELECT
    fail; here they are the failure of this one attempt.
    """

    reactor: Any
    patience_s: float
    idle_s: float
    database: int = 0
    username: str = ""
    password: str | None = field(default=None, repr=False)
    noisy: bool = False
    #: The protocol would log its own idea of what went wrong, with the server's words.
    isLazy: bool = False
    connection: RedisConnection | None = field(default=None, init=False)

    @property
    def look_s(self) -> float:
        """How often a connection looks whether it has been answered."""
        return self.patience_s / _LOOKS

    def buildProtocol(self, addr: Any) -> RedisConnection:  # noqa: ARG002
        """Return the connection."""
        self.connection = RedisConnection(self)
        return self.connection

    def stopTrying(self) -> None:
        """Do nothing: who asked for this connection asks for another one when it likes."""

    def connectionError(self, why: str) -> None:
        """Take what the protocol has to say about AUTH or SELECT."""
        assert self.connection is not None
        self.connection.why = self.connection.why or plain(why)


def plain(error: object) -> str:
    """Return what a server said, without what it repeats of what it was told.

    A server that does not know AUTH repeats the password.
    """
    return str(error).partition(", with args")[0]
