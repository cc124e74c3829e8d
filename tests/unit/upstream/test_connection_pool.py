"""Connections to GitHub: kept, used again, given up; with a clock and transports in memory."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from ghmirror_tw.upstream.connection_pool import MAX_IDLE_S, ConnectionPool, PooledRequest
from ghmirror_tw.upstream.uploads import VerbatimAgent
from tests.unit.upstream.connections import UNMODIFIED, WHOLE, Doors, Reader, Told, Upload


@define(eq=False)
class House:
    """An agent and what is around it."""

    clock: Clock = field(factory=Clock)
    doors: Doors = field(factory=Doors)
    pool: ConnectionPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pool = ConnectionPool(self.clock, self.doors, b"api.test", 3)

    def ask(self, method: bytes = b"GET", block: bytes = b"") -> tuple[Told, PooledRequest]:
        """Ask without content."""
        told = Told()
        return told, self.pool.send(method, b"/x", block, told)

    def upload(self, producer: Upload, method: bytes = b"POST") -> tuple[list[Any], Deferred[Any]]:
        """Ask with content; what becomes of it is listed."""
        got: list[Any] = []
        agent = VerbatimAgent(self.pool, b"/x", Headers({b"X-A": [b"1"]}))
        asked = agent.request(method, b"http://elsewhere/", None, producer)
        asked.addBoth(lambda result: got.append(getattr(result, "value", result)))
        return got, asked

    def kept(self, count: int) -> None:
        """Have so many connections idle; the last one was used last."""
        for _ in range(count):
            self.ask()
        for number in range(count):
            self.doors.come(UNMODIFIED, number)


# What is sent.


def test_what_is_sent() -> None:
    """One piece: the question as it is, to the origin, and nothing that delimits it but our own."""
    house = House()
    for method, own in (
        (b"GET", b""),
        (b"HEAD", b""),
        (b"OPTIONS", b""),
        (b"DELETE", b"Connection: close\r\n"),
        (b"PATCH", b"Connection: close\r\n"),
        (b"POST", b"Connection: close\r\nContent-Length: 0\r\n"),
        (b"PUT", b"Connection: close\r\nContent-Length: 0\r\n"),
    ):
        house.ask(method, b"a: 1\r\n")
        sent = house.doors.wire().value()
        assert sent == b"%b /x HTTP/1.1\r\n%bHost: api.test\r\na: 1\r\n\r\n" % (method, own)


@pytest.mark.parametrize(
    ("method", "target", "block"),
    [
        (b"GET /y HTTP/1.1\r\nX:", b"/x", b""),
        (b"", b"/x", b""),
        (b"G T", b"/x", b""),
        (b"GET", b"/x y", b""),
        (b"GET", b"", b""),
        (b"GET", b"/x\r\nX: y", b""),
        (b"GET", b"/\0", b""),
        (b"GET", b"/\xc3", b""),
        (b"GET", b"/x", b"host: elsewhere\r\n"),
        (b"GET", b"/x", b"a: b\r\ncontent-length: 3\r\n"),
        (b"GET", b"/x", b"transfer-encoding: chunked\r\n"),
    ],
)
def test_nothing_is_smuggled_in(method: bytes, target: bytes, block: bytes) -> None:
    """What would be another question is not sent, and takes no connection."""
    house = House()
    with pytest.raises(ValueError, match=r"no request line|made here"):
        house.pool.send(method, target, block, Told())
    assert not house.doors.connections


# Connections that are kept.


def test_used_again() -> None:
    """The one that was used last is used next, and one is used for one question at a time."""
    house = House()
    house.kept(3)
    for number in (2, 1, 0):
        house.ask(b"GET", b"a: 1\r\n")
        assert house.doors.wire(number).value().count(b"a: 1") == 1
    house.ask()
    assert len(house.doors.connections) == 4


def test_not_too_many() -> None:
    """The one that was idle for longest is closed for another."""
    house = House()
    house.kept(4)
    assert [each.transport.disconnecting for each in house.doors.connections] == [True] + [
        False
    ] * 3


def test_not_for_ever() -> None:
    """Each is closed when it has been idle for as long as one is kept, and not before."""
    house = House()
    house.kept(2)
    house.clock.advance(10)
    told, _ = house.ask()
    house.doors.come(UNMODIFIED, 1)
    assert told.response.code == 304
    house.clock.advance(MAX_IDLE_S - 10.1)
    assert not any(each.transport.disconnecting for each in house.doors.connections)
    house.clock.advance(0.2)
    assert [each.transport.disconnecting for each in house.doors.connections] == [True, False]
    house.clock.advance(9.8)
    assert not house.doors.wire(1).disconnecting
    house.clock.advance(0.2)
    assert house.doors.wire(1).disconnecting
    assert not house.clock.getDelayedCalls()


def test_closed() -> None:
    """Idle ones are closed, what is under way goes on, and none is kept afterwards."""
    house = House()
    house.kept(2)
    told, _ = house.ask()
    closed: list[object] = []
    house.pool.close().addCallback(closed.append)
    assert [each.transport.disconnecting for each in house.doors.connections] == [True, False]
    assert not house.clock.getDelayedCalls()
    assert not closed
    house.doors.lose(0)
    assert closed == [None]
    house.doors.come(UNMODIFIED, 1)
    assert told.response.code == 304
    assert house.doors.wire(1).disconnecting
    told, _ = house.ask()
    house.doors.come(UNMODIFIED)
    assert told.response.code == 304
    assert house.doors.wire().disconnecting
    done: list[object] = []
    house.doors.connections[0].close().addCallback(done.append)
    assert done == [None]


def test_an_idle_one_that_goes_away() -> None:
    """It is not used, whether GitHub closed it or said something that nobody asked for."""
    for happens in (
        lambda house: house.doors.lose(0),
        lambda house: house.doors.come(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0),
        lambda house: house.doors.come(b"\r\n", 0),
    ):
        house = House()
        house.kept(1)
        happens(house)
        told, _ = house.ask()
        assert len(house.doors.connections) == 2
        house.doors.come(UNMODIFIED)
        assert told.response.code == 304
    assert house.doors.wire(0).disconnecting


@pytest.mark.parametrize(
    "data",
    [
        UNMODIFIED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
        UNMODIFIED + b"x",
        WHOLE + b"HTTP/1.1 200 OK\r\n\r\n",
        WHOLE.replace(b"1.1", b"1.0"),
    ],
)
def test_what_is_not_kept(data: bytes) -> None:
    """A connection that GitHub means to close, or on which more came than was asked for."""
    house = House()
    told, _ = house.ask()
    house.doors.come(data)
    assert told.response is not None
    assert house.doors.wire().disconnecting
    house.ask()
    assert len(house.doors.connections) == 2


# Asking again.


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_asked_again_once(method: bytes) -> None:
    """Over a new connection, where one that was idle turned out to be closed."""
    house = House()
    house.kept(2)
    told, _ = house.ask(method)
    house.doors.lose(1)
    assert not told.why
    assert len(house.doors.connections) == 3
    assert house.doors.wire().value().startswith(method)
    house.doors.lose()
    assert isinstance(told.why, ResponseNeverReceived)
    assert len(house.doors.connections) == 3


def test_not_asked_again() -> None:
    """Not if the connection was new, if a byte of an answer came, or if nobody waits for it."""
    house = House()
    told, _ = house.ask()
    house.doors.lose()
    assert isinstance(told.why, ResponseNeverReceived)
    for data in (b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"x"):
        house = House()
        house.kept(1)
        told, _ = house.ask()
        house.doors.come(data)
        house.doors.lose()
        assert isinstance(told.why, ResponseFailed)
        assert not isinstance(told.why, ResponseNeverReceived)
        assert len(house.doors.connections) == 1
    house = House()
    house.kept(1)
    told, exchange = house.ask()
    exchange.cancel()
    assert told.why.reasons[0].check(CancelledError)
    house.doors.lose()
    assert len(house.doors.connections) == 1


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_what_may_change_something_is_asked_once(method: bytes) -> None:
    """Over a connection of its own, so that there is no doubt whether it arrived."""
    house = House()
    house.kept(1)
    told, _ = house.ask(method)
    assert len(house.doors.connections) == 2
    house.doors.lose()
    assert isinstance(told.why, ResponseNeverReceived)
    assert len(house.doors.connections) == 2
    told, _ = house.ask(method)
    house.doors.come(WHOLE)
    assert told.response.code == 200
    assert house.doors.wire().disconnecting


# Cancelling.


def test_cancelled_while_connecting() -> None:
    """The connection is not made."""
    house = House(doors=Doors(slow=True))
    told, exchange = house.ask()
    exchange.cancel()
    assert house.doors.cancelled == 1
    assert isinstance(told.why, CancelledError)
    told, _ = house.ask()
    house.doors.waiting[-1].errback(ConnectError())
    assert isinstance(told.why, ConnectError)


def test_cancelled_while_waiting() -> None:
    """The connection is closed at once; what still comes is nobody's."""
    for first in (b"", b"HTTP/1.1 200"):
        house = House()
        told, exchange = house.ask()
        house.doors.come(first)
        exchange.cancel()
        assert house.doors.wire().aborted
        assert told.why.reasons[0].check(CancelledError)
        house.doors.come(b" OK\r\n\r\n")
        house.doors.lose()
        exchange.cancel()
        assert told.response is None


# Content.


def test_content_waits_for_who_takes_it() -> None:
    """Nothing more is read before that, and when it is enough for now."""
    house = House()
    told, _ = house.ask()
    house.doors.come(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
    reader = Reader()
    wire: Any = house.doors.wire()
    assert wire.paused
    told.response.deliverBody(reader)
    assert reader.content == b"ab"
    assert not wire.paused
    assert reader.transport is not None
    producer: Any = reader.transport
    producer.pauseProducing()
    assert wire.paused
    producer.resumeProducing()
    assert not wire.paused
    house.doors.come(b"cdefghij")
    assert reader.content == b"abcdefghij"
    assert reader.ends[0].check(ResponseDone)
    # It has no more to do with the connection.
    house.ask()
    for call in ("pauseProducing", "loseConnection", "abortConnection", "stopProducing"):
        getattr(producer, call)()
    assert not wire.paused
    assert not wire.disconnecting
    assert len(house.doors.connections) == 1


def test_paused_at_its_end() -> None:
    """A connection that is used again is read again."""
    house = House()
    told, _ = house.ask()
    house.doors.come(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")

    class Full(Reader):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            transport: Any = self.transport
            transport.pauseProducing()

    reader = Full()
    told.response.deliverBody(reader)
    assert house.doors.wire().paused
    house.doors.come(b"cd")
    assert reader.ends[0].check(ResponseDone)
    assert not house.doors.wire().paused
    told, _ = house.ask()
    house.doors.come(UNMODIFIED)
    assert told.response.code == 304


@pytest.mark.parametrize(
    ("head", "rest", "end"),
    [
        (b"Content-Length: 4", b"ab", ResponseFailed),
        (b"Transfer-Encoding: chunked", b"2\r\nab\r\n", ResponseFailed),
        (b"Transfer-Encoding: chunked", b"2\r\nabX", ResponseFailed),
        (b"Transfer-Encoding: chunked", b"2\r\nab\r\nx\r\n", ResponseFailed),
        (b"A: b", b"ab", PotentialDataLoss),
    ],
)
def test_content_that_breaks_off(head: bytes, rest: bytes, end: type[Exception]) -> None:
    """Who has the answer is told, once, and gets what came before, wherever it is cut."""
    data = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head
    for first, second in ((data, rest), (data + rest, b"")):
        house = House()
        told, _ = house.ask()
        house.doors.come(first)
        reader = Reader()
        told.response.deliverBody(reader)
        house.doors.come(second)
        house.doors.lose(reason=ConnectionLost())
        assert reader.content == b"ab"
        assert [each.type for each in reader.ends] == [end]
        house.ask()
        assert len(house.doors.connections) == 2


def test_content_that_nobody_can_take() -> None:
    """An error of who takes it ends the answer, whenever the content came."""

    class Fails(Reader):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    for first, second in ((WHOLE[:-4], WHOLE[-4:]), (WHOLE[:-2], b""), (WHOLE, b"")):
        house = House()
        told, _ = house.ask()
        house.doors.come(first)
        reader = Fails()
        told.response.deliverBody(reader)
        if second:
            house.doors.come(second)
        [end] = reader.ends
        assert isinstance(end.value, ResponseFailed)
        assert end.value.reasons[0].check(ZeroDivisionError)
        assert house.doors.wire().disconnecting is (first != WHOLE)
        if first == WHOLE[:-2]:
            house.doors.come(b"cd")
        house.doors.lose()
        assert len(reader.ends) == 1


def test_content_that_is_aborted() -> None:
    """The connection is closed at once."""
    house = House()
    told, _ = house.ask()
    house.doors.come(WHOLE[:-2])
    told.response.abortConnection()
    assert house.doors.wire().aborted
    told, _ = house.ask()
    house.doors.come(WHOLE[:-2])
    told.response.stopProducing()
    assert house.doors.wire().disconnecting


# Questions with content.


def test_content_is_sent() -> None:
    """With its length or in chunks, over a connection of its own."""
    house = House()
    house.kept(1)
    producer = Upload()
    got, _ = house.upload(producer)
    producer.consumer.write(b"abcd")
    producer.sent.callback(None)
    sent = house.doors.wire().value()
    expected = rb"POST /x HTTP/1\.1\r\nConnection: close\r\nContent-Length: 4\r\n(.*\r\n)+\r\nabcd"
    assert re.fullmatch(expected, sent)
    assert b"Host: api.test\r\n" in sent
    assert b"X-A: 1\r\n" in sent
    house.doors.come(WHOLE)
    assert got[0].code == 200
    assert house.doors.wire().disconnecting
    producer = Upload("unknown")
    got, _ = house.upload(producer)
    producer.length = None


def test_the_answer_comes_before_the_content_is_sent() -> None:
    """It is given at once; when it is complete, nobody takes the rest of the content."""
    house = House()
    producer = Upload()
    got, _ = house.upload(producer)
    house.doors.come(WHOLE)
    assert got[0].code == 200
    assert house.doors.wire().aborted
    assert "stop" in producer.told
    producer.sent.callback(None)
    house.doors.lose()
    producer = Upload()
    got, _ = house.upload(producer)
    house.doors.come(WHOLE[:-2])
    assert got[0].code == 200
    assert house.doors.wire().paused
    assert "stop" not in producer.told
    producer.consumer.write(b"abcd")
    producer.sent.callback(None)
    reader = Reader()
    got[0].deliverBody(reader)
    house.doors.come(b"cd")
    assert reader.content == b"abcd"
    assert reader.ends[0].check(ResponseDone)
    # An answer, and then an error: it is the answer that counts.
    producer = Upload()
    got, _ = house.upload(producer)
    house.doors.come(WHOLE)
    producer.sent.errback(ZeroDivisionError())
    assert [each.code for each in got] == [200]


def test_the_connection_is_lost_while_content_is_sent() -> None:
    """It is given up, and so is what sends it."""
    house = House()
    producer = Upload()
    got, _ = house.upload(producer)
    house.doors.lose(reason=ConnectionLost())
    assert isinstance(got[0], RequestTransmissionFailed)
    assert "stop" in producer.told
    house = House()
    producer = Upload()
    got, _ = house.upload(producer)
    house.doors.come(WHOLE[:-2])
    reader = Reader()
    got[0].deliverBody(reader)
    house.doors.lose(reason=ConnectionLost())
    assert len(got) == 1
    assert reader.ends[0].check(ResponseFailed)
    assert "stop" in producer.told


def test_content_that_fails() -> None:
    """The connection is closed at once: GitHub must not take a part for the whole."""

    class Raises(Upload):
        def startProducing(self, consumer: Any) -> Deferred[None]:
            raise ZeroDivisionError

    def breaks(producer: Upload) -> None:
        producer.sent.errback(ZeroDivisionError())

    def too_short(producer: Upload) -> None:
        producer.sent.callback(None)

    def too_long(producer: Upload) -> None:
        producer.consumer.write(b"abcde")

    for fails in (breaks, too_short, too_long):
        house = House()
        producer = Upload()
        got, _ = house.upload(producer)
        fails(producer)
        assert isinstance(got[0], RequestGenerationFailed)
        assert house.doors.wire().aborted
        house.doors.lose()
    house = House()
    got, _ = house.upload(Raises())
    assert isinstance(got[0], RequestGenerationFailed)
    assert house.doors.wire().aborted


def test_cancelled_while_content_is_sent() -> None:
    """What sends it is cancelled, and the connection closed at once."""
    house = House()
    producer = Upload()
    cancelled: list[object] = []
    producer.sent = Deferred(cancelled.append)
    got, asked = house.upload(producer)
    asked.cancel()
    assert cancelled
    assert isinstance(got[0], RequestGenerationFailed)
    assert house.doors.wire().aborted
    house.doors.lose()
    assert len(got) == 1


def test_a_broken_answer_while_content_is_sent() -> None:
    """It is told at once."""
    house = House()
    got, _ = house.upload(Upload())
    house.doors.come(b"no HTTP at all")
    assert isinstance(got[0], RequestTransmissionFailed)
    assert house.doors.wire().disconnecting


def test_another_protocol() -> None:
    """GitHub is asked for none; an answer that changes to one is broken, and logged as such."""
    house = House()
    told, _ = house.ask()
    house.doors.come(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 0)
    house.doors.lose(0)
    assert isinstance(told.why, ResponseFailed)
    assert told.response is None


# How many are under way.


def test_how_many_are_under_way() -> None:
    """Each question is counted until somebody is told what became of it, once."""
    house = House()
    house.kept(2)
    assert house.pool.under_way == 0
    house.ask()
    house.ask()
    producer = Upload()
    got, _ = house.upload(producer)
    assert house.pool.under_way == 3
    house.doors.come(UNMODIFIED, 0)
    assert house.pool.under_way == 2
    house.doors.lose(1)  # and it is asked again
    assert house.pool.under_way == 2
    house.doors.lose(3)
    assert house.pool.under_way == 1
    producer.sent.errback(ConnectionLost())
    assert got
    assert house.pool.under_way == 0
    _, exchange = house.ask()
    exchange.cancel()
    exchange.cancel()
    assert house.pool.under_way == 0
    house.doors.slow = True
    for end in (
        lambda exchange: exchange.cancel(),
        lambda _: house.doors.waiting[-1].errback(ConnectError()),
    ):
        _, exchange = house.ask()
        assert house.pool.under_way == 1
        end(exchange)
        assert house.pool.under_way == 0
