"""The connection pool: reuse, expiry, resending and cancellation, on transports in memory."""

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

from ghmirror_tw.http.chunk_framing_limit import FREE_BYTES
from ghmirror_tw.upstream.connection_error_texts import exceeded_limit
from ghmirror_tw.upstream.connection_pool import MAX_IDLE_S, ConnectionPool, PooledRequest
from ghmirror_tw.upstream.uploads import VerbatimAgent
from tests.unit.upstream.connections import (
    UNMODIFIED,
    WHOLE,
    MemoryEndpoint,
    Reader,
    Receiver,
    Upload,
)


@define(eq=False)
class PoolScene:
    """A pool of connections in memory."""

    clock: Clock = field(factory=Clock)
    endpoint: MemoryEndpoint = field(factory=MemoryEndpoint)
    pool: ConnectionPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pool = ConnectionPool(self.clock, self.endpoint, b"api.test", 3)

    def send(self, method: bytes = b"GET", block: bytes = b"") -> tuple[Receiver, PooledRequest]:
        """Send a request without content."""
        receiver = Receiver()
        return receiver, self.pool.send(method, b"/x", block, receiver)

    def upload(self, producer: Upload, method: bytes = b"POST") -> tuple[list[Any], Deferred[Any]]:
        """Send a request with content; its results are listed."""
        got: list[Any] = []
        agent = VerbatimAgent(self.pool, b"/x", Headers({b"X-A": [b"1"]}))
        sending = agent.request(method, b"http://elsewhere/", None, producer)
        sending.addBoth(lambda result: got.append(getattr(result, "value", result)))
        return got, sending

    def idle(self, count: int) -> None:
        """Make so many connections idle; the last one was used last."""
        for _ in range(count):
            self.send()
        for number in range(count):
            self.endpoint.receive(UNMODIFIED, number)


# Requests.


def test_request_is_sent_with_host_and_own_framing() -> None:
    """Other fields are sent as they are; the pool adds `Host` and delimits the request."""
    scene = PoolScene()
    for method, own in (
        (b"GET", b""),
        (b"HEAD", b""),
        (b"OPTIONS", b""),
        (b"DELETE", b"Connection: close\r\n"),
        (b"PATCH", b"Connection: close\r\n"),
        (b"POST", b"Connection: close\r\nContent-Length: 0\r\n"),
        (b"PUT", b"Connection: close\r\nContent-Length: 0\r\n"),
    ):
        scene.send(method, b"a: 1\r\n")
        sent = scene.endpoint.wire().value()
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
def test_request_smuggling_is_refused(method: bytes, target: bytes, block: bytes) -> None:
    """Bytes that would make another request are not sent, and no connection is opened."""
    scene = PoolScene()
    with pytest.raises(ValueError, match=r"no request line|made here"):
        scene.pool.send(method, target, block, Receiver())
    assert not scene.endpoint.connections


# Idle connections.


def test_last_used_connection_is_used_next() -> None:
    """Each connection carries one exchange at a time."""
    scene = PoolScene()
    scene.idle(3)
    for number in (2, 1, 0):
        scene.send(b"GET", b"a: 1\r\n")
        assert scene.endpoint.wire(number).value().count(b"a: 1") == 1
    scene.send()
    assert len(scene.endpoint.connections) == 4


def test_surplus_idle_connection_is_closed() -> None:
    """The one that has been idle for longest is closed."""
    scene = PoolScene()
    scene.idle(4)
    assert [each.transport.disconnecting for each in scene.endpoint.connections] == [True] + [
        False
    ] * 3


def test_idle_connection_expires() -> None:
    """It is closed at the end of the idle time, and not before."""
    scene = PoolScene()
    scene.idle(2)
    scene.clock.advance(10)
    receiver, _ = scene.send()
    scene.endpoint.receive(UNMODIFIED, 1)
    assert receiver.response.code == 304
    scene.clock.advance(MAX_IDLE_S - 10.1)
    assert not any(each.transport.disconnecting for each in scene.endpoint.connections)
    scene.clock.advance(0.2)
    assert [each.transport.disconnecting for each in scene.endpoint.connections] == [True, False]
    scene.clock.advance(9.8)
    assert not scene.endpoint.wire(1).disconnecting
    scene.clock.advance(0.2)
    assert scene.endpoint.wire(1).disconnecting
    assert not scene.clock.getDelayedCalls()


def test_close_ends_idle_connections() -> None:
    """Exchanges under way continue, and their connections are closed afterwards."""
    scene = PoolScene()
    scene.idle(2)
    receiver, _ = scene.send()
    closed: list[object] = []
    scene.pool.close().addCallback(closed.append)
    assert [each.transport.disconnecting for each in scene.endpoint.connections] == [True, False]
    assert not scene.clock.getDelayedCalls()
    assert not closed
    scene.endpoint.lose(0)
    assert closed == [None]
    scene.endpoint.receive(UNMODIFIED, 1)
    assert receiver.response.code == 304
    assert scene.endpoint.wire(1).disconnecting
    receiver, _ = scene.send()
    scene.endpoint.receive(UNMODIFIED)
    assert receiver.response.code == 304
    assert scene.endpoint.wire().disconnecting
    done: list[object] = []
    scene.endpoint.connections[0].close().addCallback(done.append)
    assert done == [None]


def test_closed_idle_connection_is_not_used() -> None:
    """Neither is one on which GitHub sent unsolicited bytes."""
    for happens in (
        lambda scene: scene.endpoint.lose(0),
        lambda scene: scene.endpoint.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0),
        lambda scene: scene.endpoint.receive(b"\r\n", 0),
    ):
        scene = PoolScene()
        scene.idle(1)
        happens(scene)
        receiver, _ = scene.send()
        assert len(scene.endpoint.connections) == 2
        scene.endpoint.receive(UNMODIFIED)
        assert receiver.response.code == 304
    assert scene.endpoint.wire(0).disconnecting


@pytest.mark.parametrize(
    "data",
    [
        UNMODIFIED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
        UNMODIFIED + b"x",
        WHOLE + b"HTTP/1.1 200 OK\r\n\r\n",
        WHOLE.replace(b"1.1", b"1.0"),
    ],
)
def test_connection_is_not_reused_after_close_or_surplus_bytes(data: bytes) -> None:
    """GitHub announced to close it, or sent more than the response."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.receive(data)
    assert receiver.response is not None
    assert scene.endpoint.wire().disconnecting
    scene.send()
    assert len(scene.endpoint.connections) == 2


# Resending.


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_safe_request_is_resent_once(method: bytes) -> None:
    """Over a new connection, if an idle one turned out to be closed."""
    scene = PoolScene()
    scene.idle(2)
    receiver, _ = scene.send(method)
    scene.endpoint.lose(1)
    assert not receiver.error
    assert len(scene.endpoint.connections) == 3
    assert scene.endpoint.wire().value().startswith(method)
    scene.endpoint.lose()
    assert isinstance(receiver.error, ResponseNeverReceived)
    assert len(scene.endpoint.connections) == 3


def test_request_is_not_resent() -> None:
    """Not over a new connection, after a byte of a response, or after its cancellation."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.lose()
    assert isinstance(receiver.error, ResponseNeverReceived)
    for data in (b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"x"):
        scene = PoolScene()
        scene.idle(1)
        receiver, _ = scene.send()
        scene.endpoint.receive(data)
        scene.endpoint.lose()
        assert isinstance(receiver.error, ResponseFailed)
        assert not isinstance(receiver.error, ResponseNeverReceived)
        assert len(scene.endpoint.connections) == 1
    scene = PoolScene()
    scene.idle(1)
    receiver, exchange = scene.send()
    exchange.cancel()
    assert receiver.error.reasons[0].check(CancelledError)
    scene.endpoint.lose()
    assert len(scene.endpoint.connections) == 1


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_unsafe_request_is_sent_once(method: bytes) -> None:
    """Over a new connection, so that it certainly was not sent to a closed one."""
    scene = PoolScene()
    scene.idle(1)
    receiver, _ = scene.send(method)
    assert len(scene.endpoint.connections) == 2
    scene.endpoint.lose()
    assert isinstance(receiver.error, ResponseNeverReceived)
    assert len(scene.endpoint.connections) == 2
    receiver, _ = scene.send(method)
    scene.endpoint.receive(WHOLE)
    assert receiver.response.code == 200
    assert scene.endpoint.wire().disconnecting


# Cancelling.


def test_cancel_while_connecting() -> None:
    """The connection is not opened."""
    scene = PoolScene(endpoint=MemoryEndpoint(slow=True))
    receiver, exchange = scene.send()
    exchange.cancel()
    assert scene.endpoint.cancelled == 1
    assert isinstance(receiver.error, CancelledError)
    receiver, _ = scene.send()
    scene.endpoint.waiting[-1].errback(ConnectError())
    assert isinstance(receiver.error, ConnectError)


def test_cancel_while_waiting_for_response() -> None:
    """The connection is aborted; bytes received later are ignored."""
    for first in (b"", b"HTTP/1.1 200"):
        scene = PoolScene()
        receiver, exchange = scene.send()
        scene.endpoint.receive(first)
        exchange.cancel()
        assert scene.endpoint.wire().aborted
        assert receiver.error.reasons[0].check(CancelledError)
        scene.endpoint.receive(b" OK\r\n\r\n")
        scene.endpoint.lose()
        exchange.cancel()
        assert receiver.response is None


# Content.


def test_content_waits_for_its_reader() -> None:
    """The connection is paused until there is a reader, and whenever the reader pauses."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
    reader = Reader()
    wire: Any = scene.endpoint.wire()
    assert wire.paused
    receiver.response.deliverBody(reader)
    assert reader.content == b"ab"
    assert not wire.paused
    assert reader.transport is not None
    producer: Any = reader.transport
    producer.pauseProducing()
    assert wire.paused
    producer.resumeProducing()
    assert not wire.paused
    scene.endpoint.receive(b"cdefghij")
    assert reader.content == b"abcdefghij"
    assert reader.ends[0].check(ResponseDone)
    # It has no more to do with the connection.
    scene.send()
    for call in ("pauseProducing", "loseConnection", "abortConnection", "stopProducing"):
        getattr(producer, call)()
    assert not wire.paused
    assert not wire.disconnecting
    assert len(scene.endpoint.connections) == 1


def test_connection_paused_at_the_end_of_content_is_resumed() -> None:
    """It can be used for the next exchange."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")

    class Full(Reader):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            transport: Any = self.transport
            transport.pauseProducing()

    reader = Full()
    receiver.response.deliverBody(reader)
    assert scene.endpoint.wire().paused
    scene.endpoint.receive(b"cd")
    assert reader.ends[0].check(ResponseDone)
    assert not scene.endpoint.wire().paused
    receiver, _ = scene.send()
    scene.endpoint.receive(UNMODIFIED)
    assert receiver.response.code == 304


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
def test_truncated_content_fails_once(head: bytes, rest: bytes, end: type[Exception]) -> None:
    """The reader gets the bytes before, wherever the content is cut."""
    data = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head
    for first, second in ((data, rest), (data + rest, b"")):
        scene = PoolScene()
        receiver, _ = scene.send()
        scene.endpoint.receive(first)
        reader = Reader()
        receiver.response.deliverBody(reader)
        scene.endpoint.receive(second)
        scene.endpoint.lose(reason=ConnectionLost())
        assert reader.content == b"ab"
        assert [each.type for each in reader.ends] == [end]
        scene.send()
        assert len(scene.endpoint.connections) == 2


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n", b"1;" + b"e" * 500 + b"\r\nx\r\n"])
def test_content_of_small_chunks_is_broken_off(piece: bytes) -> None:
    """A limit of the mirror is exceeded after so many chunks, each of which lasts for some time."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    reader = Reader()
    receiver.response.deliverBody(reader)
    while not reader.ends:
        assert len(reader.content) * len(piece) < 2 * FREE_BYTES
        scene.endpoint.receive(piece * 100)
    [end] = reader.ends
    assert exceeded_limit(end)
    assert scene.endpoint.wire().disconnecting


def test_chunks_of_some_bytes_are_received() -> None:
    """However many there are; and each response begins anew."""
    scene = PoolScene()
    for _ in range(2):
        receiver, _ = scene.send()
        scene.endpoint.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader = Reader()
        receiver.response.deliverBody(reader)
        for _ in range(100):
            scene.endpoint.receive((b"19\r\n" + b"x" * 25 + b"\r\n") * 400)
        for _ in range(100):
            scene.endpoint.receive(b"1\r\nx\r\n" * 200)
        scene.endpoint.receive(b"0\r\n\r\n")
        assert len(reader.content) == 100 * 400 * 25 + 20_000
        assert reader.ends[0].check(ResponseDone)
    assert len(scene.endpoint.connections) == 1


def test_error_of_the_reader_ends_the_response() -> None:
    """Whenever the content was received."""

    class Fails(Reader):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    for first, second in ((WHOLE[:-4], WHOLE[-4:]), (WHOLE[:-2], b""), (WHOLE, b"")):
        scene = PoolScene()
        receiver, _ = scene.send()
        scene.endpoint.receive(first)
        reader = Fails()
        receiver.response.deliverBody(reader)
        if second:
            scene.endpoint.receive(second)
        [end] = reader.ends
        assert isinstance(end.value, ResponseFailed)
        assert end.value.reasons[0].check(ZeroDivisionError)
        assert scene.endpoint.wire().disconnecting is (first != WHOLE)
        if first == WHOLE[:-2]:
            scene.endpoint.receive(b"cd")
        scene.endpoint.lose()
        assert len(reader.ends) == 1


def test_aborted_response_closes_connection() -> None:
    """At once."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.receive(WHOLE[:-2])
    receiver.response.abortConnection()
    assert scene.endpoint.wire().aborted
    receiver, _ = scene.send()
    scene.endpoint.receive(WHOLE[:-2])
    receiver.response.stopProducing()
    assert scene.endpoint.wire().disconnecting


# Uploads.


def test_upload_is_sent() -> None:
    """With its length or in chunks, over a connection of its own."""
    scene = PoolScene()
    scene.idle(1)
    producer = Upload()
    got, _ = scene.upload(producer)
    producer.consumer.write(b"abcd")
    producer.sent.callback(None)
    sent = scene.endpoint.wire().value()
    expected = rb"POST /x HTTP/1\.1\r\nConnection: close\r\nContent-Length: 4\r\n(.*\r\n)+\r\nabcd"
    assert re.fullmatch(expected, sent)
    assert b"Host: api.test\r\n" in sent
    assert b"X-A: 1\r\n" in sent
    scene.endpoint.receive(WHOLE)
    assert got[0].code == 200
    assert scene.endpoint.wire().disconnecting
    producer = Upload("unknown")
    got, _ = scene.upload(producer)
    producer.length = None


def test_early_response_ends_upload() -> None:
    """It is returned at once; after its end the rest of the upload is not sent."""
    scene = PoolScene()
    producer = Upload()
    got, _ = scene.upload(producer)
    scene.endpoint.receive(WHOLE)
    assert got[0].code == 200
    assert scene.endpoint.wire().aborted
    assert "stop" in producer.calls
    producer.sent.callback(None)
    scene.endpoint.lose()
    producer = Upload()
    got, _ = scene.upload(producer)
    scene.endpoint.receive(WHOLE[:-2])
    assert got[0].code == 200
    assert scene.endpoint.wire().paused
    assert "stop" not in producer.calls
    producer.consumer.write(b"abcd")
    producer.sent.callback(None)
    reader = Reader()
    got[0].deliverBody(reader)
    scene.endpoint.receive(b"cd")
    assert reader.content == b"abcd"
    assert reader.ends[0].check(ResponseDone)
    # A response, and then an error: the response counts.
    producer = Upload()
    got, _ = scene.upload(producer)
    scene.endpoint.receive(WHOLE)
    producer.sent.errback(ZeroDivisionError())
    assert [each.code for each in got] == [200]


def test_the_connection_is_lost_while_content_is_sent() -> None:
    """It is cancelled, and so is its producer."""
    scene = PoolScene()
    producer = Upload()
    got, _ = scene.upload(producer)
    scene.endpoint.lose(reason=ConnectionLost())
    assert isinstance(got[0], RequestTransmissionFailed)
    assert "stop" in producer.calls
    scene = PoolScene()
    producer = Upload()
    got, _ = scene.upload(producer)
    scene.endpoint.receive(WHOLE[:-2])
    reader = Reader()
    got[0].deliverBody(reader)
    scene.endpoint.lose(reason=ConnectionLost())
    assert len(got) == 1
    assert reader.ends[0].check(ResponseFailed)
    assert "stop" in producer.calls


def test_failed_upload_aborts_connection() -> None:
    """At once: GitHub must not accept a part as the whole."""

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
        scene = PoolScene()
        producer = Upload()
        got, _ = scene.upload(producer)
        fails(producer)
        assert isinstance(got[0], RequestGenerationFailed)
        assert scene.endpoint.wire().aborted
        scene.endpoint.lose()
    scene = PoolScene()
    got, _ = scene.upload(Raises())
    assert isinstance(got[0], RequestGenerationFailed)
    assert scene.endpoint.wire().aborted


def test_cancel_while_uploading() -> None:
    """The producer is cancelled, and the connection aborted."""
    scene = PoolScene()
    producer = Upload()
    cancelled: list[object] = []
    producer.sent = Deferred(cancelled.append)
    got, sending = scene.upload(producer)
    sending.cancel()
    assert cancelled
    assert isinstance(got[0], RequestGenerationFailed)
    assert scene.endpoint.wire().aborted
    scene.endpoint.lose()
    assert len(got) == 1


def test_malformed_response_while_uploading() -> None:
    """It fails at once."""
    scene = PoolScene()
    got, _ = scene.upload(Upload())
    scene.endpoint.receive(b"no HTTP at all")
    assert isinstance(got[0], RequestTransmissionFailed)
    assert scene.endpoint.wire().disconnecting


def test_switching_protocols_is_malformed() -> None:
    """The mirror requests no upgrade."""
    scene = PoolScene()
    receiver, _ = scene.send()
    scene.endpoint.receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 0)
    scene.endpoint.lose(0)
    assert isinstance(receiver.error, ResponseFailed)
    assert receiver.response is None


# Requests under way.


def test_requests_under_way_are_counted() -> None:
    """Each one until its response or failure, once."""
    scene = PoolScene()
    scene.idle(2)
    assert scene.pool.under_way == 0
    scene.send()
    scene.send()
    producer = Upload()
    got, _ = scene.upload(producer)
    assert scene.pool.under_way == 3
    scene.endpoint.receive(UNMODIFIED, 0)
    assert scene.pool.under_way == 2
    scene.endpoint.lose(1)  # and it is sent again
    assert scene.pool.under_way == 2
    scene.endpoint.lose(3)
    assert scene.pool.under_way == 1
    producer.sent.errback(ConnectionLost())
    assert got
    assert scene.pool.under_way == 0
    _, exchange = scene.send()
    exchange.cancel()
    exchange.cancel()
    assert scene.pool.under_way == 0
    scene.endpoint.slow = True
    for end in (
        lambda exchange: exchange.cancel(),
        lambda _: scene.endpoint.waiting[-1].errback(ConnectError()),
    ):
        _, exchange = scene.send()
        assert scene.pool.under_way == 1
        end(exchange)
        assert scene.pool.under_way == 0
