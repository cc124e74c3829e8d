"""One connection: what it takes for a reply, and what it closes itself for."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import ConnectionError as Lost
from txredisapi import ResponseError

from ghmirror_tw.redis.address import RedisConnectError
from ghmirror_tw.redis.redis_connection import (
    ConnectionFactory,
    ConnectionState,
    RedisConnection,
)

PATIENCE_S, IDLE_S = 1.0, 15.0


class Transport(StringTransport):
    """Goes when it is told to, and says so."""

    disconnecting: Any

    def abortConnection(self) -> None:
        super().abortConnection()
        self.disconnecting = True


class One:
    """A connection on a clock, without a server."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        factory = ConnectionFactory(self.clock, PATIENCE_S, IDLE_S, **options)
        self.connection: RedisConnection = factory.buildProtocol(None)
        self.transport = Transport()
        self.ready: list[Any] = []
        self.gone: list[RedisConnection] = []
        self.connection.ready.addBoth(self.ready.append)
        self.connection.on_closed = self.gone.append
        self.connection.makeConnection(self.transport)

    def sent(self) -> bytes:
        """Give what was sent since this was last asked."""
        value = bytes(self.transport.value())
        self.transport.clear()
        return value

    def answer(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def ask(self, *parts: bytes) -> list[Any]:
        """Send a command; its reply or failure will be in the list."""
        got: list[Any] = []
        self.connection.send(parts).addBoth(got.append)
        return got

    def lose(self) -> None:
        self.connection.connectionLost(Failure(ConnectionLost()))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)


def ready() -> One:
    """Give one that takes commands."""
    one = One()
    one.answer(b"+PONG\r\n")
    one.sent()
    return one


REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", "OK"),
    (b":-5\r\n", -5),
    (b"$-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n0123\r\n", b"0123"),
    (b"$7\r\n\r\n+\xff\r\n:\r\n", b"\r\n+\xff\r\n:"),
    (b"*0\r\n", []),
    (b"*-1\r\n", None),
    (b"*3\r\n$1\r\na\r\n:1\r\n$-1\r\n", [b"a", 1, None]),
    (b"*2\r\n$-1\r\n$-1\r\n", [None, None]),
    (b"*2\r\n*2\r\n$-1\r\n$-1\r\n$-1\r\n", [[None, None], None]),
    (b"*9\r\n" + b"$-1\r\n" * 9, [None] * 9),
    (b"*2\r\n*0\r\n*2\r\n*1\r\n:7\r\n+x\r\n", [[], [[7], "x"]]),
]


class Replies(SynchronousTestCase):
    """What comes in, in whatever pieces, is what was sent."""

    @given(
        st.lists(st.sampled_from(REPLIES), min_size=1, max_size=12),
        st.lists(st.integers(1, 40), max_size=40),
    )
    def test_pieces(self, replies: list[tuple[bytes, Any]], sizes: list[int]) -> None:
        """Each command gets its own reply, bytes as bytes, and none waits for a reactor's turn."""
        one = ready()
        got = [one.ask(b"X") for _ in replies]
        data = b"".join(wire for wire, _ in replies)
        for size in sizes:
            one.answer(data[:size])
            data = data[size:]
        one.answer(data)
        assert got == [[meant] for _, meant in replies]
        assert one.connection.outstanding_bytes == 0
        assert not one.transport.disconnecting

    def test_errors(self) -> None:
        """They fail their own command only."""
        one = ready()
        first, second = one.ask(b"A"), one.ask(b"B")
        one.answer(b"-WRONGTYPE no\r\n:1\r\n")
        assert isinstance(first[0].value, ResponseError)
        assert str(first[0].value) == "WRONGTYPE no"
        assert second == [1]

    def test_commands_are_written_whole(self) -> None:
        """As RESP2 says: bytes as they are, texts as UTF-8, numbers in digits."""
        one = ready()
        one.connection.execute_command(b"SET", "ä", 12, b"\r\n\x00")
        assert one.sent() == b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$2\r\n12\r\n$3\r\n\r\n\x00\r\n"

    def test_late_replies(self) -> None:
        """The reply to what was given up is thrown away, and the next one finds its command."""
        one = ready()
        first: Deferred[Any] = one.connection.send((b"A",))
        second = one.ask(b"B")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        one.answer(b"+first\r\n+second\r\n")
        assert second == ["second"]


class Greeting(SynchronousTestCase):
    """What happens before it takes commands."""

    def test_answered(self) -> None:
        """It is ready once it was let in and the server has answered."""
        one = One(username="m", password="s", database=3)
        for expected, answer in ((b"AUTH", b"+OK"), (b"SELECT", b"+OK"), (b"PING", b"+PONG")):
            assert one.ready == []
            assert expected in one.sent()
            one.answer(answer + b"\r\n")
        assert one.ready == [one.connection]
        assert one.connection.state is ConnectionState.READY

    def test_nothing_to_say(self) -> None:
        """Without a password, in database 0, it says PING, so that it knows of somebody there."""
        one = One()
        assert one.sent() == b"*1\r\n$4\r\nPING\r\n"
        assert one.ready == []

    def test_refused(self) -> None:
        """An error at any step fails this attempt, with what was said, and nothing else."""
        steps = [b"+OK\r\n", b"+OK\r\n", b"+PONG\r\n"]
        for step in range(3):
            one = One(password="s", database=3)
            one.answer(b"".join(steps[:step]) + b"-LOADING it is loading\r\n")
            assert one.transport.disconnecting
            one.lose()
            assert isinstance(one.ready[0].value, RedisConnectError)
            assert "LOADING it is loading" in str(one.ready[0].value)
            assert one.gone == [one.connection]

    def test_no_secrets(self) -> None:
        """A server that does not know AUTH repeats its arguments; that goes nowhere."""
        one = One(username="m", password="hunter2")
        one.answer(
            b"-ERR unknown command 'AUTH', with args beginning with: 'm' 'hunter2' \r\n",
        )
        one.lose()
        assert "unknown command" in str(one.ready[0].value)
        assert "hunter2" not in str(one.ready[0].value)
        assert "hunter2" not in repr(one.connection.factory)

    def test_given_up(self) -> None:
        """Who no longer waits for it has it closed."""
        one = One()
        one.connection.ready.cancel()
        assert one.transport.disconnecting
        one.answer(b"+PONG\r\n")
        one.lose()
        assert one.gone == [one.connection]

    def test_nobody_there(self) -> None:
        """Without an answer it is given up."""
        one = One(password="s")
        one.wait(2 * PATIENCE_S)
        assert one.transport.disconnecting
        one.lose()
        assert str(one.ready[0].value) == "no reply"


class Closing(SynchronousTestCase):
    """What it closes itself for."""

    def test_garbage(self) -> None:
        """What is not RESP2 ends the connection, and whoever waits learns that it is lost."""
        for garbage in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"*\r\n",
            b"*-7\r\n",
            b":\r\n",
            b"+\xff\r\n",
            b"%1\r\n",
            b"x" * 20000,
            b"*1\r\n_\r\n",
        ):
            one = ready()
            got = one.ask(b"A")
            one.answer(garbage)
            assert one.transport.disconnecting, garbage
            assert not one.connection.usable
            one.lose()
            assert isinstance(got[0].value, Lost)
            assert "RESP2" in one.connection.close_reason

    def test_unasked(self) -> None:
        """A reply to nothing ends it: the next one would be taken for another's."""
        one = ready()
        one.answer(b"+OK\r\n")
        assert one.transport.disconnecting

    def test_no_reply(self) -> None:
        """A command without a reply ends it after a while, but not before."""
        one = ready()
        one.wait(IDLE_S - 1)
        one.ask(b"A")
        one.wait(PATIENCE_S)
        assert not one.transport.disconnecting
        one.wait(0.5)
        assert one.transport.disconnecting

    def test_patience(self) -> None:
        """Who has more time for a command gets it; every reply begins it anew."""
        one = ready()
        one.connection.send((b"A",), 5.0).addErrback(lambda _: None)
        one.wait(4.5)
        assert not one.transport.disconnecting
        one.wait(1.5)
        assert one.transport.disconnecting
        one = ready()
        for _ in range(8):
            one.ask(b"A")
        for _ in range(8):
            one.wait(PATIENCE_S)
            assert not one.transport.disconnecting
            one.answer(b"+OK\r\n")

    def test_held_up(self) -> None:
        """A reactor that was busy for long does not take that for the server's silence."""
        one = ready()
        one.ask(b"A")
        one.clock.advance(10 * PATIENCE_S)
        assert not one.transport.disconnecting

    def test_idle(self) -> None:
        """When nothing happens it asks whether somebody is there, and closes if nobody is."""
        one = ready()
        one.wait(IDLE_S - 0.25)
        assert one.sent() == b""
        one.wait(0.25)
        assert b"PING" in one.sent()
        one.answer(b"+PONG\r\n")
        one.wait(IDLE_S)
        assert b"PING" in one.sent()
        one.wait(PATIENCE_S + 0.5)
        assert one.transport.disconnecting

    def test_retired(self) -> None:
        """It takes no more commands, and closes when the last reply is in."""
        one = ready()
        got = one.ask(b"A"), one.ask(b"B")
        one.connection.retire()
        assert not one.connection.usable
        one.answer(b"+a\r\n")
        assert not one.transport.disconnecting
        one.answer(b"+b\r\n")
        assert got == (["a"], ["b"])
        assert one.transport.disconnecting
        one.lose()
        assert one.gone == [one.connection]
        assert not one.clock.getDelayedCalls()

    def test_what_is_sent_too_late(self) -> None:
        """A closed connection says so at once."""
        one = ready()
        one.lose()
        with self.assertRaises(Lost):
            one.connection.send((b"A",))
