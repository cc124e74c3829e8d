"""A request ends with a response or an error, in time, and frees its connection."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from operator import contains
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.task import Clock
from zope.interface import implementer

from ghmirror_tw.github.origin import Origin
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.upstream.http_client import UpstreamClient
from ghmirror_tw.upstream.upstream_interface import UpstreamError, UpstreamResponse
from tests.unit.upstream.connections import UNMODIFIED, WHOLE, MemoryEndpoint, Upload


@implementer(IReactorPluggableNameResolver)
class Time(Clock):
    """A clock with the interface of a name resolver."""

    nameResolver: Any = None

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError


@define(eq=False)
class ClientScene:
    """A client, and the results of its requests in order."""

    clock: Time = field(factory=Time)
    endpoint: MemoryEndpoint = field(factory=MemoryEndpoint)
    client: UpstreamClient = field(init=False)
    happened: list[Any] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.client = UpstreamClient(self.clock, Origin.of("http://gh.test"), b"1.1 m", 5.0, 9.0, 2)
        for pool in self.client.pools.values():
            pool.endpoint = self.endpoint

    def send(
        self,
        method: bytes = b"GET",
        content: Any = None,
        is_wanted: Callable[[], bool] = lambda: False,
    ) -> Deferred[Any]:
        """Send a request, with a timeout of three seconds."""
        request = Request(method, b"/x", Fields(((b"A", b"1"),)))
        scene = self.client.send(
            request, content, 3.0, lambda: self.happened.append("ended"), is_wanted
        )
        return scene.addBoth(self.note)

    def note(self, result: Any) -> None:
        self.happened.append(getattr(result, "value", result))
        self.happened.append(self.client.open_exchanges)

    @property
    def replies(self) -> list[UpstreamResponse]:
        """The responses."""
        return [each for each in self.happened if isinstance(each, UpstreamResponse)]


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (b"GET", UNMODIFIED),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_response_without_content_frees_connection_first(method: bytes, data: bytes) -> None:
    """The timer is stopped, too."""
    scene = ClientScene()
    scene.send(method)
    scene.endpoint.receive(data)
    [reply, held, ended] = scene.happened
    assert (held, ended) == (0, "ended")
    assert reply.content.length == 0
    assert reply.content.is_delimited
    taken: list[Any] = []
    reply.content.collect(0).addCallback(taken.append)
    reply.content.stream_to(taken.append).addCallback(taken.append)
    assert taken == [b"", True]
    for call in ("pauseProducing", "resumeProducing", "stopProducing", "abort"):
        getattr(reply.content, call)()
    scene.client.close()
    assert not scene.clock.getDelayedCalls()


def test_content_holds_its_connection() -> None:
    """Until it has been received."""
    scene = ClientScene()
    scene.send()
    scene.endpoint.receive(WHOLE)
    [reply, held] = scene.happened
    assert held == 1
    assert reply.fields.lines == ()
    assert reply.content.length == 4
    taken: list[Any] = []
    reply.content.collect(4).addCallback(taken.append)
    assert taken == [b"abcd"]
    assert scene.happened[2:] == ["ended"]
    assert not scene.client.open_exchanges
    assert not scene.client.receiving


def test_collecting_stops_at_the_decoded_limit() -> None:
    """Collected bytes are streamed first, then later ones with backpressure."""
    packed = gzip.compress(bytes(3000))
    for limit, coding, collects in (
        (3000, b"gzip", True),
        (2999, b"gzip", False),
        (2999, b"", True),
        (len(packed) - 1, b"", False),
    ):
        scene = ClientScene()
        scene.send()
        scene.endpoint.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        [reply] = scene.replies
        taken: list[Any] = []
        reply.content.collect(limit, coding).addCallback(taken.append)
        scene.endpoint.receive(b"%x\r\n%b\r\n" % (len(packed), packed))
        assert scene.endpoint.wire().paused is not collects
        if collects:
            scene.endpoint.receive(b"0\r\n\r\n")
            assert taken == [packed]
            continue
        assert taken == [None]

        def sink(piece: bytes, reply: UpstreamResponse = reply, taken: list[Any] = taken) -> None:
            taken.append(piece)
            reply.content.pauseProducing()

        reply.content.stream_to(sink)
        assert taken == [None, packed]
        assert scene.endpoint.wire().paused
        reply.content.resumeProducing()
        assert not scene.endpoint.wire().paused
        reply.content.abort()
        assert not scene.clock.getDelayedCalls()


def test_request_has_via() -> None:
    """It is sent with the fields of the client, on a persistent connection."""
    scene = ClientScene()
    scene.send()
    sent = scene.endpoint.wire().value()
    assert sent == b"GET /x HTTP/1.1\r\nHost: gh.test\r\na: 1\r\nvia: 1.1 m\r\n\r\n"


def test_response_timeout() -> None:
    """At each stage."""
    for slow, data in ((True, b""), (False, b""), (False, b"HTTP/1.1 200 OK\r\n")):
        scene = ClientScene(endpoint=MemoryEndpoint(slow=slow))
        scene.send()
        if data:
            scene.endpoint.receive(data)
        scene.clock.advance(2.9)
        assert not scene.happened
        scene.clock.advance(0.2)
        [ended, why, held] = scene.happened
        assert isinstance(why, UpstreamError)
        assert (ended, why.reason, held) == ("ended", "timeout", 0)
        assert not scene.clock.getDelayedCalls()


def test_cancelled_request_is_aborted() -> None:
    """At each stage; the Deferred fails as a cancelled one."""
    for slow, data in ((True, b""), (False, b""), (False, b"HTTP/1.1 200 OK\r\n")):
        scene = ClientScene(endpoint=MemoryEndpoint(slow=slow))
        pending = scene.send()
        if data:
            scene.endpoint.receive(data)
        pending.cancel()
        assert scene.happened[0] == "ended"
        assert isinstance(scene.happened[1], CancelledError)
        assert not scene.client.open_exchanges
        assert slow or scene.endpoint.wire().aborted
        assert not scene.clock.getDelayedCalls()


def test_timeout_does_not_run_while_client_sends() -> None:
    """It runs while GitHub does not read, and after the end of the upload."""
    scene = ClientScene()
    producer = Upload()
    scene.send(b"POST", producer)
    for _ in range(4):
        scene.clock.advance(2.0)
        producer.consumer.write(b"x")
        scene.clock.advance(60.0)  # it is the client that sends nothing
        watched: Any = scene.endpoint.wire().producer
        watched.pauseProducing()
        scene.clock.advance(2.0)
        watched.resumeProducing()
    assert not scene.happened
    producer.sent.callback(None)
    scene.clock.advance(2.0)
    scene.endpoint.receive(
        b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nz"
    )
    [reply] = scene.replies
    assert reply.status == 201
    assert reply.fields.lines == ((b"content-encoding", b"gzip"),)
    assert b"via: 1.1 m\r\n" in scene.endpoint.wire().value().lower()
    assert not scene.client.sending


def test_upload_timeout() -> None:
    """GitHub does not read for too long, or does not respond at the end."""
    for paused in (True, False):
        scene = ClientScene()
        producer = Upload()
        scene.send(b"POST", producer)
        producer.consumer.write(b"abcd")
        if paused:
            watched: Any = scene.endpoint.wire().producer
            watched.pauseProducing()
        else:
            producer.sent.callback(None)
        scene.clock.advance(2.9)
        assert not scene.happened
        scene.clock.advance(0.2)
        assert scene.happened[0] == "ended"
        assert scene.happened[1].reason == "timeout"
        assert scene.endpoint.wire().aborted
        assert not scene.clock.getDelayedCalls()


def test_stalled_upload_is_preempted_when_all_connections_are_used() -> None:
    """The one that is stalled for longest."""
    scene = ClientScene()
    producers = [Upload(100_000), Upload(100_000)]
    for producer in producers:
        scene.send(b"POST", producer)
        scene.clock.advance(1.0)
    producers[0].consumer.write(bytes(80 * 1024))
    scene.clock.pump([1.0] * 3)
    producers[1].consumer.write(b"as good as nothing")
    assert not scene.happened
    scene.clock.advance(1.0)
    assert scene.happened[0] == "ended"
    assert scene.happened[1].reason == "overloaded"
    assert [scene.endpoint.wire(number).aborted for number in range(2)] == [False, True]
    scene.send()
    scene.endpoint.receive(UNMODIFIED)
    assert [reply.status for reply in scene.replies] == [304]


def test_contended_stalled_upload_is_preempted() -> None:
    """Even with connections left: the longest stalled first, and no uncontended one."""
    scene = ClientScene()
    scene.client.max_connections = 100
    wanted = [Upload() for _ in range(6)]
    others = [Upload() for _ in range(2)]
    for producer in wanted + others:
        scene.send(b"POST", producer, partial(contains, wanted, producer))
        scene.clock.advance(0.1)
    scene.clock.pump([1.0] * 10)
    assert not scene.happened
    scene.client.reclaim_stalled()
    scene.clock.advance(1.0)
    aborted = [scene.endpoint.wire(number).aborted for number in range(8)]
    assert aborted == [True] * 2 + [False] * 6
    scene.clock.pump([1.0] * 10)
    aborted = [scene.endpoint.wire(number).aborted for number in range(8)]
    assert aborted == [True] * 6 + [False] * 2
    assert not scene.clock.getDelayedCalls()


def test_request_that_cannot_be_sent_fails() -> None:
    """No connection and no timer is left."""
    for fields in ((b"a", b"1\r\nb: 2"), (b"host", b"elsewhere")):
        scene = ClientScene()
        request = Request(b"GET", b"/x", Fields((fields,)))
        scene.client.send(request, None, 3.0, lambda: None).addBoth(scene.note)
        [why, held] = scene.happened
        assert isinstance(why, UpstreamError)
        assert (why.reason, held) == ("broken-answer", 0)
        assert not scene.endpoint.connections
        assert not scene.clock.getDelayedCalls()


def test_new_trust_closes_connections() -> None:
    """Idle ones at once, those in use after their exchange."""
    scene = ClientScene()
    for _ in range(2):
        scene.send()
    scene.endpoint.receive(UNMODIFIED, 0)
    scene.client.use(None)
    assert scene.endpoint.wire(0).disconnecting
    assert not scene.endpoint.wire(1).disconnecting
    scene.endpoint.receive(UNMODIFIED, 1)
    assert scene.endpoint.wire(1).disconnecting
    assert len(scene.replies) == 2
