"""One connection: the replies that it accepts, and what makes it close."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import ConnectionError as Lost
from txredisapi import ResponseError

from ghmirror_tw.redis.redis_connection import (
    ConnectionFactory,
    ConnectionState,
    RedisConnection,
)
from ghmirror_tw.redis.resp import MOST_ELEMENTS
from ghmirror_tw.redis.server_endpoint import RedisConnectError

PATIENCE_S, IDLE_S = 1.0, 15.0


class Transport(StringTransport):
    """Notes that it was aborted."""

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
        """Return the bytes sent since the last call."""
        value = bytes(self.transport.value())
        self.transport.clear()
        return value

    def reply(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def execute(self, *parts: bytes) -> list[Any]:
        """Send a command; the list will have its reply or failure."""
        got: list[Any] = []
        self.connection.send(parts).addBoth(got.append)
        return got

    def lose(self) -> None:
        self.connection.connectionLost(Failure(ConnectionLost()))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)


def ready(**options: Any) -> One:
    """Return a connection that accepts commands."""
    one = One(**options)
    one.reply(b"+PONG\r\n")
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
    """Replies in pieces of any size."""

    @given(
        st.lists(st.sampled_from(REPLIES), min_size=1, max_size=12),
        st.lists(st.integers(1, 40), max_size=40),
    )
    def test_replies_in_pieces(self, replies: list[tuple[bytes, Any]], sizes: list[int]) -> None:
        """Each command gets its own reply, within the same iteration of the reactor."""
        one = ready()
        got = [one.execute(b"X") for _ in replies]
        data = b"".join(wire for wire, _ in replies)
        for size in sizes:
            one.reply(data[:size])
            data = data[size:]
        one.reply(data)
        assert got == [[meant] for _, meant in replies]
        assert one.connection.outstanding_bytes == 0
        assert not one.transport.disconnecting

    def test_error_replies(self) -> None:
        """They fail only their own command."""
        one = ready()
        first, second = one.execute(b"A"), one.execute(b"B")
        one.reply(b"-WRONGTYPE no\r\n:1\r\n")
        assert isinstance(first[0].value, ResponseError)
        assert str(first[0].value) == "WRONGTYPE no"
        assert second == [1]

    def test_large_values_are_dropped(self) -> None:
        """Null replaces them, however the bytes are split; others are not affected."""
        large, small = b"$11\r\n" + b"x" * 11 + b"\r\n", b"$10\r\n" + b"y" * 10 + b"\r\n"
        replies = [
            (large, None),
            (small, b"y" * 10),
            (b"*3\r\n" + small + large + b"$0\r\n\r\n", [b"y" * 10, None, b""]),
            (b"*3\r\n$6\r\nzzzzzz\r\n$5\r\nzzzzz\r\n:1\r\n", [b"zzzzzz", None, 1]),
            (b"*2\r\n" + large + b"*1\r\n" + large, [None, [None]]),
            (small, b"y" * 10),
        ]
        data = b"".join(wire for wire, _ in replies)
        for size in (1, 2, 3, 7, 12, 20, 50, len(data)):
            one = ready(largest_bytes=10, server="redis.test:6379")
            got = [one.execute(b"X") for _ in replies]
            with capturedLogs() as events:
                for at in range(0, len(data), size):
                    one.reply(data[at : at + size])
            assert got == [[expected] for _, expected in replies]
            assert not one.transport.disconnecting
            assert [event["length"] for event in events] == [11, 11, 5, 11, 11]
            text = formatEvent(events[0])
            assert text == (
                "Redis value too large, counts as missing: server=redis.test:6379 length=11"
            )

    def test_large_values_use_no_memory(self) -> None:
        """The received parts of them are not buffered."""
        one = ready(largest_bytes=1000)
        got = one.execute(b"X")
        one.reply(b"$%d\r\n" % (512 << 20))
        parser = one.connection.parser
        for _ in range(1000):
            one.reply(b"x" * 1000)
            assert len(parser.data) + sum(map(len, parser.pieces)) <= 1000
        assert not got

    def test_long_arrays_are_dropped(self) -> None:
        """Null replaces them, also where they have arrays, and others are not affected."""
        for wire in (
            b"*%d\r\n" % (MOST_ELEMENTS + 1) + b":1\r\n" * (MOST_ELEMENTS + 1),
            b"*%d\r\n" % (MOST_ELEMENTS + 1) + b"*1\r\n:1\r\n" * (MOST_ELEMENTS + 1),
        ):
            one = ready()
            got, other = one.execute(b"X"), one.execute(b"Y")
            one.reply(wire + b"*1\r\n:2\r\n")
            assert (got, other) == ([None], [[2]])
        one = ready()
        got = one.execute(b"X")
        half = MOST_ELEMENTS // 2
        one.reply(b"*2\r\n" + 2 * (b"*%d\r\n" % half + b":1\r\n" * half))
        assert got == [[[1] * half, None]]

    def test_commands_are_encoded(self) -> None:
        """Bytes as they are, texts as UTF-8, numbers as digits."""
        one = ready()
        one.connection.execute_command(b"SET", "ä", 12, b"\r\n\x00")
        assert one.sent() == b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$2\r\n12\r\n$3\r\n\r\n\x00\r\n"

    def test_a_late_reply_is_discarded(self) -> None:
        """The next reply belongs to the next command."""
        one = ready()
        first: Deferred[Any] = one.connection.send((b"A",))
        second = one.execute(b"B")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        one.reply(b"+first\r\n+second\r\n")
        assert second == ["second"]


class Greeting(SynchronousTestCase):
    """Before it accepts commands."""

    def test_it_is_ready_after_the_greeting(self) -> None:
        """AUTH, SELECT and PING have succeeded."""
        one = One(username="m", password="s", database=3)
        for expected, reply in ((b"AUTH", b"+OK"), (b"SELECT", b"+OK"), (b"PING", b"+PONG")):
            assert one.ready == []
            assert expected in one.sent()
            one.reply(reply + b"\r\n")
        assert one.ready == [one.connection]
        assert one.connection.state is ConnectionState.READY

    def test_ping_is_the_shortest_greeting(self) -> None:
        """It is sent without a password, in database 0."""
        one = One()
        assert one.sent() == b"*1\r\n$4\r\nPING\r\n"
        assert one.ready == []

    def test_an_error_in_the_greeting(self) -> None:
        """It fails this attempt with the error's text."""
        steps = [b"+OK\r\n", b"+OK\r\n", b"+PONG\r\n"]
        for step in range(3):
            one = One(password="s", database=3)
            one.reply(b"".join(steps[:step]) + b"-LOADING it is loading\r\n")
            assert one.transport.disconnecting
            one.lose()
            assert isinstance(one.ready[0].value, RedisConnectError)
            assert "LOADING it is loading" in str(one.ready[0].value)
            assert one.gone == [one.connection]

    def test_the_password_is_redacted(self) -> None:
        """A server without AUTH repeats it in its error."""
        one = One(username="m", password="hunter2")
        one.reply(
            b"-ERR unknown command 'AUTH', with args beginning with: 'm' 'hunter2' \r\n",
        )
        one.lose()
        assert "unknown command" in str(one.ready[0].value)
        assert "hunter2" not in str(one.ready[0].value)
        assert "hunter2" not in repr(one.connection.factory)

    def test_a_cancelled_attempt_is_closed(self) -> None:
        """A late greeting does not make it ready."""
        one = One()
        one.connection.ready.cancel()
        assert one.transport.disconnecting
        one.reply(b"+PONG\r\n")
        one.lose()
        assert one.gone == [one.connection]

    def test_a_greeting_without_reply_times_out(self) -> None:
        """The attempt fails."""
        one = One(password="s")
        one.wait(2 * PATIENCE_S)
        assert one.transport.disconnecting
        one.lose()
        assert str(one.ready[0].value) == "no reply"


class Closing(SynchronousTestCase):
    """Why it closes itself."""

    def test_anything_but_resp2_closes_it(self) -> None:
        """All commands under way fail."""
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
            got = one.execute(b"A")
            one.reply(garbage)
            assert one.transport.disconnecting, garbage
            assert not one.connection.usable
            one.lose()
            assert isinstance(got[0].value, Lost)
            assert "RESP2" in one.connection.close_reason

    def test_a_reply_without_a_command_closes_it(self) -> None:
        """It would count as the next command's."""
        one = ready()
        one.reply(b"+OK\r\n")
        assert one.transport.disconnecting

    def test_a_command_without_reply_closes_it(self) -> None:
        """Not before its time."""
        one = ready()
        one.wait(IDLE_S - 1)
        one.execute(b"A")
        one.wait(PATIENCE_S)
        assert not one.transport.disconnecting
        one.wait(0.5)
        assert one.transport.disconnecting

    def test_a_command_may_have_more_time(self) -> None:
        """Each reply begins it anew."""
        one = ready()
        one.connection.send((b"A",), 5.0).addErrback(lambda _: None)
        one.wait(4.5)
        assert not one.transport.disconnecting
        one.wait(1.5)
        assert one.transport.disconnecting
        one = ready()
        for _ in range(8):
            one.execute(b"A")
        for _ in range(8):
            one.wait(PATIENCE_S)
            assert not one.transport.disconnecting
            one.reply(b"+OK\r\n")

    def test_a_blocked_reactor_times_nothing_out(self) -> None:
        """The time it was blocked does not count."""
        one = ready()
        one.execute(b"A")
        one.clock.advance(10 * PATIENCE_S)
        assert not one.transport.disconnecting

    def test_an_idle_connection_sends_ping(self) -> None:
        """It closes without a reply."""
        one = ready()
        one.wait(IDLE_S - 0.25)
        assert one.sent() == b""
        one.wait(0.25)
        assert b"PING" in one.sent()
        one.reply(b"+PONG\r\n")
        one.wait(IDLE_S)
        assert b"PING" in one.sent()
        one.wait(PATIENCE_S + 0.5)
        assert one.transport.disconnecting

    def test_a_retired_connection_closes_after_the_last_reply(self) -> None:
        """It accepts no more commands."""
        one = ready()
        got = one.execute(b"A"), one.execute(b"B")
        one.connection.retire()
        assert not one.connection.usable
        one.reply(b"+a\r\n")
        assert not one.transport.disconnecting
        one.reply(b"+b\r\n")
        assert got == (["a"], ["b"])
        assert one.transport.disconnecting
        one.lose()
        assert one.gone == [one.connection]
        assert not one.clock.getDelayedCalls()

    def test_a_closed_connection_raises(self) -> None:
        """At once."""
        one = ready()
        one.lose()
        with self.assertRaises(Lost):
            one.connection.send((b"A",))
