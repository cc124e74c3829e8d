"""What becomes of a question: a reply or none, in time, and a connection that is free again."""

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
from ghmirror_tw.upstream.upstream_client import UpstreamClient
from ghmirror_tw.upstream.upstream_interface import UpstreamError, UpstreamResponse
from tests.unit.upstream.connections import UNMODIFIED, WHOLE, Doors, Upload


@implementer(IReactorPluggableNameResolver)
class Time(Clock):
    """A clock that would know names, if it were asked."""

    nameResolver: Any = None

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError


@define(eq=False)
class Asked:
    """A client, and what becomes of its questions, in order."""

    clock: Time = field(factory=Time)
    doors: Doors = field(factory=Doors)
    client: UpstreamClient = field(init=False)
    happened: list[Any] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.client = UpstreamClient(self.clock, Origin.of("http://gh.test"), b"1.1 m", 5.0, 9.0, 2)
        for pool in self.client.pools.values():
            pool.endpoint = self.doors

    def ask(
        self,
        method: bytes = b"GET",
        content: Any = None,
        is_wanted: Callable[[], bool] = lambda: False,
    ) -> Deferred[Any]:
        """Ask, with three seconds for an answer."""
        request = Request(method, b"/x", Fields(((b"A", b"1"),)))
        asked = self.client.send(
            request, content, 3.0, lambda: self.happened.append("ended"), is_wanted
        )
        return asked.addBoth(self._note)

    def _note(self, result: Any) -> None:
        self.happened.append(getattr(result, "value", result))
        self.happened.append(self.client.open_exchanges)

    @property
    def replies(self) -> list[UpstreamResponse]:
        """What replies there were."""
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
def test_an_answer_without_content(method: bytes, data: bytes) -> None:
    """Its connection is free before anybody hears of it, and no time is waited for any more."""
    asked = Asked()
    asked.ask(method)
    asked.doors.come(data)
    [reply, held, ended] = asked.happened
    assert (held, ended) == (0, "ended")
    assert reply.content.length == 0
    assert reply.content.is_delimited
    taken: list[Any] = []
    reply.content.collect(0).addCallback(taken.append)
    reply.content.stream_to(taken.append).addCallback(taken.append)
    assert taken == [b"", True]
    for call in ("pauseProducing", "resumeProducing", "stopProducing", "abort"):
        getattr(reply.content, call)()
    asked.client.close()
    assert not asked.clock.getDelayedCalls()


def test_an_answer_with_content() -> None:
    """Its connection is held until the content has been taken."""
    asked = Asked()
    asked.ask()
    asked.doors.come(WHOLE)
    [reply, held] = asked.happened
    assert held == 1
    assert reply.fields.lines == ()
    assert reply.content.length == 4
    taken: list[Any] = []
    reply.content.collect(4).addCallback(taken.append)
    assert taken == [b"abcd"]
    assert asked.happened[2:] == ["ended"]
    assert not asked.client.open_exchanges
    assert not asked.client.receiving


def test_collecting_ends_where_too_much_is_unpacked() -> None:
    """Nothing more is read then; what has come is passed on first, and then as it is taken."""
    packed = gzip.compress(bytes(3000))
    for limit, coding, collects in (
        (3000, b"gzip", True),
        (2999, b"gzip", False),
        (2999, b"", True),
        (len(packed) - 1, b"", False),
    ):
        asked = Asked()
        asked.ask()
        asked.doors.come(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        [reply] = asked.replies
        taken: list[Any] = []
        reply.content.collect(limit, coding).addCallback(taken.append)
        asked.doors.come(b"%x\r\n%b\r\n" % (len(packed), packed))
        assert asked.doors.wire().paused is not collects
        if collects:
            asked.doors.come(b"0\r\n\r\n")
            assert taken == [packed]
            continue
        assert taken == [None]

        def sink(piece: bytes, reply: UpstreamResponse = reply, taken: list[Any] = taken) -> None:
            taken.append(piece)
            reply.content.pauseProducing()

        reply.content.stream_to(sink)
        assert taken == [None, packed]
        assert asked.doors.wire().paused
        reply.content.resumeProducing()
        assert not asked.doors.wire().paused
        reply.content.abort()
        assert not asked.clock.getDelayedCalls()


def test_what_a_client_sends() -> None:
    """The question's fields, and where it came by, on a connection that stays open."""
    asked = Asked()
    asked.ask()
    sent = asked.doors.wire().value()
    assert sent == b"GET /x HTTP/1.1\r\nHost: gh.test\r\na: 1\r\nvia: 1.1 m\r\n\r\n"


def test_no_answer_in_time() -> None:
    """It is given up, at each stage."""
    for slow, data in ((True, b""), (False, b""), (False, b"HTTP/1.1 200 OK\r\n")):
        asked = Asked(doors=Doors(slow=slow))
        asked.ask()
        if data:
            asked.doors.come(data)
        asked.clock.advance(2.9)
        assert not asked.happened
        asked.clock.advance(0.2)
        [ended, why, held] = asked.happened
        assert isinstance(why, UpstreamError)
        assert (ended, why.reason, held) == ("ended", "timeout", 0)
        assert not asked.clock.getDelayedCalls()


def test_nobody_waits_any_more() -> None:
    """It is given up, at each stage; the client that asked is told so by its Deferred."""
    for slow, data in ((True, b""), (False, b""), (False, b"HTTP/1.1 200 OK\r\n")):
        asked = Asked(doors=Doors(slow=slow))
        asking = asked.ask()
        if data:
            asked.doors.come(data)
        asking.cancel()
        assert asked.happened[0] == "ended"
        assert isinstance(asked.happened[1], CancelledError)
        assert not asked.client.open_exchanges
        assert slow or asked.doors.wire().aborted
        assert not asked.clock.getDelayedCalls()


def test_an_upload_that_goes_on_is_not_late() -> None:
    """Its time runs while GitHub takes nothing, and from when all has been sent."""
    asked = Asked()
    producer = Upload()
    asked.ask(b"POST", producer)
    for _ in range(4):
        asked.clock.advance(2.0)
        producer.consumer.write(b"x")
        asked.clock.advance(60.0)  # it is the client that sends nothing
        watched: Any = asked.doors.wire().producer
        watched.pauseProducing()
        asked.clock.advance(2.0)
        watched.resumeProducing()
    assert not asked.happened
    producer.sent.callback(None)
    asked.clock.advance(2.0)
    asked.doors.come(
        b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nz"
    )
    [reply] = asked.replies
    assert reply.status == 201
    assert reply.fields.lines == ((b"content-encoding", b"gzip"),)
    assert b"via: 1.1 m\r\n" in asked.doors.wire().value().lower()
    assert not asked.client.sending


def test_an_upload_that_is_late() -> None:
    """GitHub takes nothing for too long, or does not answer when it has taken all."""
    for paused in (True, False):
        asked = Asked()
        producer = Upload()
        asked.ask(b"POST", producer)
        producer.consumer.write(b"abcd")
        if paused:
            watched: Any = asked.doors.wire().producer
            watched.pauseProducing()
        else:
            producer.sent.callback(None)
        asked.clock.advance(2.9)
        assert not asked.happened
        asked.clock.advance(0.2)
        assert asked.happened[0] == "ended"
        assert asked.happened[1].reason == "timeout"
        assert asked.doors.wire().aborted
        assert not asked.clock.getDelayedCalls()


def test_uploads_whose_clients_send_nothing_give_way() -> None:
    """Where they hold all connections, the next question gets that of the one idle for longest."""
    asked = Asked()
    producers = [Upload(100_000), Upload(100_000)]
    for producer in producers:
        asked.ask(b"POST", producer)
        asked.clock.advance(1.0)
    producers[0].consumer.write(bytes(16 * 1024))
    asked.clock.pump([1.0] * 3)
    producers[1].consumer.write(b"as good as nothing")
    assert not asked.happened
    asked.clock.advance(1.0)
    assert asked.happened[0] == "ended"
    assert asked.happened[1].reason == "overloaded"
    assert [asked.doors.wire(number).aborted for number in range(2)] == [False, True]
    asked.ask()
    asked.doors.come(UNMODIFIED)
    assert [reply.status for reply in asked.replies] == [304]


def test_what_another_request_waits_for_gives_way() -> None:
    """Though there are connections left: the longest stalled first, and none that is not wanted."""
    asked = Asked()
    asked.client.max_connections = 100
    wanted = [Upload() for _ in range(6)]
    others = [Upload() for _ in range(2)]
    for producer in wanted + others:
        asked.ask(b"POST", producer, partial(contains, wanted, producer))
        asked.clock.advance(0.1)
    asked.clock.pump([1.0] * 10)
    assert not asked.happened
    asked.client.reclaim_stalled()
    asked.clock.advance(1.0)
    aborted = [asked.doors.wire(number).aborted for number in range(8)]
    assert aborted == [True] * 2 + [False] * 6
    asked.clock.pump([1.0] * 10)
    aborted = [asked.doors.wire(number).aborted for number in range(8)]
    assert aborted == [True] * 6 + [False] * 2
    assert not asked.clock.getDelayedCalls()


def test_what_cannot_be_sent() -> None:
    """It is not answered, and nothing stays behind."""
    for fields in ((b"a", b"1\r\nb: 2"), (b"host", b"elsewhere")):
        asked = Asked()
        request = Request(b"GET", b"/x", Fields((fields,)))
        asked.client.send(request, None, 3.0, lambda: None).addBoth(asked._note)
        [why, held] = asked.happened
        assert isinstance(why, UpstreamError)
        assert (why.reason, held) == ("broken-answer", 0)
        assert not asked.doors.connections
        assert not asked.clock.getDelayedCalls()


def test_new_trust() -> None:
    """Idle connections made with the old one are closed, and so is what is under way, later."""
    asked = Asked()
    for _ in range(2):
        asked.ask()
    asked.doors.come(UNMODIFIED, 0)
    asked.client.use(None)
    assert asked.doors.wire(0).disconnecting
    assert not asked.doors.wire(1).disconnecting
    asked.doors.come(UNMODIFIED, 1)
    assert asked.doors.wire(1).disconnecting
    assert len(asked.replies) == 2
