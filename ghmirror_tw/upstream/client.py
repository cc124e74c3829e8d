"""Asking GitHub over a bounded number of connections: through treq, but for what is asked most.

Questions without content go to the agent below treq: its cookies, redirects and normal forms of
URLs are nothing that the mirror has a use for. On their way, which every revalidated answer's
time is spent on, there are plain calls and one Deferred.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from operator import itemgetter
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from ghmirror_tw.github.origin import Origin
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.entity_tags import without_invalid_etag
from ghmirror_tw.http.fields import Fields, serialised
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.response_parser import OverLimitError
from ghmirror_tw.http.targets import is_upload
from ghmirror_tw.http.tunnels import OutboundProxy
from ghmirror_tw.upstream.connection_pool import ConnectionPool, PendingExchange
from ghmirror_tw.upstream.dialling import Ways, tls_fault
from ghmirror_tw.upstream.incoming_content import NOTHING, CollectedContent
from ghmirror_tw.upstream.uploads import Uploads, Watched
from ghmirror_tw.upstream.upstream_interface import IUpstream, UpstreamError, UpstreamResponse

__all__ = ("Origin", "UpstreamClient")

#: Where all connections are taken, one whose client has read nothing for so long is given to the
#: next question, in seconds: as many slow clients as connections must not stop all others. Nor must
#: as many as one credential may have requests under way stop its others: many clients may share it,
#: or have none, or one that is not accepted yet.
_PAUSED_S: Final = 5.0
#: A client that has sent less than this in that time, in bytes, counts as one that sends nothing.
_PIECE_BYTES: Final = 16 * 1024
#: So large a part of those that are stalled gives way at a time.
_PART: Final = 4
#: How often who waits for a connection looks for such a one, in seconds.
_LOOK_S: Final = 1.0
#: `Retry-After` for a client that loses the connection for its upload, in seconds.
_RETRY_AFTER_S: Final = 10


@implementer(IUpstream)
@define(eq=False)
class UpstreamClient:
    """Puts questions to the origin, and keeps up to *max_connections* connections to it.

    How many there are at a time is up to who asks. *proxy*: see `Ways`.
    """

    reactor: Any
    origin: Origin
    via: bytes
    connect_timeout_s: float
    idle_timeout_s: float
    max_connections: int
    trust: Any = None
    proxy: Callable[[], OutboundProxy] | None = None
    uploads: Origin = field(init=False)
    _agents: dict[Origin, ConnectionPool] = field(factory=dict, init=False)
    _via: bytes = field(init=False)
    #: Requests with content that is being sent.
    sending: set[_Asking] = field(factory=set, init=False)
    #: Content that is being received, and whether another request waits for its end.
    _coming: dict[CollectedContent, Callable[[], bool]] = field(factory=dict)
    #: How many connections are asked over, or have an answer still to come.
    _held: int = 0
    _looking: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self.uploads = self.origin.uploads
        self._via = serialised(Fields.of(((b"via", self.via),)))
        self.use(self.trust)

    def use(self, trust: Any) -> None:
        """Trust *trust* from the next connection on; what is under way goes on."""
        self.trust = trust
        self._close_agents()
        ways = Ways(self.reactor, self.connect_timeout_s, trust, self.proxy)
        for origin in (self.origin, self.uploads):
            endpoint = ways.to(origin.host, origin.port, secure=origin.secure)
            self._agents[origin] = ConnectionPool(
                self.reactor, endpoint, origin.authority, self.max_connections
            )

    def ask(
        self,
        request: Request,
        content: IBodyProducer | None,
        timeout_s: float,
        ended: Callable[[], object] = bool,
        is_wanted: Callable[[], bool] = bool,
    ) -> Deferred[UpstreamResponse]:
        """Return the answer once its fields have come; see `IUpstream.ask`."""
        asking = _Asking(self, ended, is_wanted, max(timeout_s, 0.0))
        self._held += 1
        self._look()
        asking.start(request, content)
        return asking.reply

    def put(
        self, request: Request, content: IBodyProducer | None, asking: _Asking
    ) -> PendingExchange | Deferred[Any]:
        """Put a question for *asking*; return what it can be cancelled by."""
        request = self.origin.routed(request)
        origin = self.uploads if is_upload(request.target) else self.origin
        agent, target = self._agents[origin], origin.target(request)
        if content is None:
            block = serialised(request.fields) + self._via
            return agent.ask(request.method, target, block, asking)
        sent = Uploads(self.reactor, self.via).put(agent, request, target, content)
        return sent.addCallbacks(asking.answered, asking.failed)

    def freed(self) -> None:
        """Take note that a connection is asked over no more, and no answer is still to come."""
        self._held -= 1

    def receive(
        self, answer: Any, ended: Callable[[], object], is_wanted: Callable[[], bool]
    ) -> CollectedContent:
        """Return the content of an answer, which holds its connection until it has ended."""

        def end() -> None:
            self._coming.pop(content, None)
            self._held -= 1
            ended()

        length = None if answer.length is UNKNOWN_LENGTH else answer.length
        content = CollectedContent(self.reactor, answer, self.idle_timeout_s, length, end)
        self._coming[content] = is_wanted
        return content

    def make_room(self) -> None:
        """Note that a request waits: look for exchanges that are wanted and stalled."""
        if self._looking is None:
            self._looking = self.reactor.callLater(_LOOK_S, self._give_room)

    @property
    def _is_full(self) -> bool:
        return self._held >= self.max_connections

    def _look(self) -> None:
        """While all connections are held, see to it that nobody holds one without reading."""
        if self._is_full:
            self.make_room()

    def _give_room(self) -> None:
        """Abort exchanges whose clients have been stalled longest, if that is long enough."""
        self._looking = None
        exchanges: list[tuple[float | None, Callable[[], bool], Callable[[], None]]] = [
            *((each.paused_at, wanted, each.give_way) for each, wanted in self._coming.items()),
            *((each.waiting_since, each.is_wanted, each.give_way) for each in self.sending),
        ]
        full = self._is_full
        wanted = [(at, give_way) for at, is_wanted, give_way in exchanges if full or is_wanted()]
        latest = self.reactor.seconds() - _PAUSED_S
        stalled = [(at, give_way) for at, give_way in wanted if at is not None and at <= latest]
        stalled.sort(key=itemgetter(0))
        for _, give_way in stalled[: ceil(len(stalled) / _PART)]:
            give_way()
        if wanted:
            self.make_room()

    def close(self) -> Deferred[None]:
        """Close the connections that are idle."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        return self._close_agents()

    def _close_agents(self) -> Deferred[None]:
        closed = [agent.close() for agent in self._agents.values()]
        return gatherResults(closed).addCallback(lambda _: None)


@define(eq=False)
class _Asking:
    """One question from when it is put until there is a reply, or none."""

    client: UpstreamClient
    ended: Callable[[], object]
    is_wanted: Callable[[], bool]
    timeout_s: float
    reply: Deferred[UpstreamResponse] = field(init=False)
    #: Since when the exchange has waited for content from the client (reactor's clock); None: no.
    waiting_since: float | None = None
    #: How many bytes of content have come since then.
    _came: int = 0
    _timer: IDelayedCall | None = None
    _under_way: PendingExchange | Deferred[Any] | None = None
    _timed_out: bool = False
    _gone: bool = False
    _gives_way: bool = False
    #: Whether there is a reply, or will be none.
    _over: bool = False

    def __attrs_post_init__(self) -> None:
        self.reply = Deferred(self._cancel)
        self.waits_for_github()

    def start(self, request: Request, content: IBodyProducer | None) -> None:
        """Put the question."""
        if content is not None:
            content = Watched(content, self)
        try:
            self._under_way = self.client.put(request, content, self)
        except Exception:  # noqa: BLE001 - what can't be sent is not answered
            self.failed(Failure())

    # The timeout runs only while the mirror waits for GitHub.

    def waits_for_github(self) -> None:
        """Restart the timeout."""
        self.waiting_since = None
        if self._over:
            return
        if self._timer is not None:
            self._timer.reset(self.timeout_s)
        else:
            self._timer = self.client.reactor.callLater(self.timeout_s, self._time_out)

    def waits_for_client(self, size: int = 0) -> None:
        """Stop the timeout; *size* bytes have just come, and a few bytes are as good as none."""
        self._stop_timer()
        if self._over:
            return
        self._came += size
        if self.waiting_since is None or self._came >= _PIECE_BYTES:
            self._came = 0
            self.waiting_since = self.client.reactor.seconds()
        self.client.sending.add(self)

    def give_way(self) -> None:
        """Abort it, so that another request gets the connection; the client has sent nothing."""
        self._gives_way = True
        if self._under_way is not None:
            self._under_way.cancel()

    def _end(self) -> None:
        self._over = True
        self.waiting_since = None
        self.client.sending.discard(self)
        self._stop_timer()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _time_out(self) -> None:
        self._timer = None
        self._timed_out = True
        if self._under_way is not None:
            self._under_way.cancel()

    def _cancel(self, _: object) -> None:
        self._gone = True
        if self._under_way is not None:
            self._under_way.cancel()

    def answered(self, answer: Any) -> None:
        """Give the reply, and free the connection when its content is there."""
        self._end()
        fields = without_invalid_etag(Fields.of(tuple(answer.lines)))
        if answer.length == 0:
            # The connection is free already.
            self.client.freed()
            self.reply.callback(UpstreamResponse(answer.code, fields, NOTHING))
            self.ended()
        else:
            content = self.client.receive(answer, self.ended, self.is_wanted)
            self.reply.callback(UpstreamResponse(answer.code, fields, content))

    def failed(self, reason: Failure) -> None:
        """Tell why there is no reply."""
        self._end()
        self.client.freed()
        self.ended()
        if self._timed_out:
            why = f"no answer within {self.timeout_s:.3g} s"
            self.reply.errback(UpstreamError("timeout", why))
        elif self._gives_way:
            limit = f"[github] max_connections = {self.client.max_connections}"
            self.reply.errback(error_responses.overloaded(limit, _RETRY_AFTER_S))
        elif not self._gone:
            # Else it is the Deferred that says so.
            self.reply.errback(_unanswered(reason))


def _unanswered(failure: Failure) -> UpstreamError:
    assert failure.value is not None
    fault = tls_fault(failure.value)
    if fault is not None:
        return UpstreamError("connect-error" if "certificate" in fault else "broken-answer", fault)
    if failure.check(ConnectError, DNSLookupError):
        return UpstreamError("connect-error", failure.getErrorMessage())
    for reason in getattr(failure.value, "reasons", ()):
        if reason.check(OverLimitError):
            limit = reason.getErrorMessage()
            return UpstreamError("broken-answer", limit, limit=limit)
    if failure.check(ResponseNeverReceived):
        return UpstreamError("broken-answer", "the connection was lost before an answer came")
    return UpstreamError("broken-answer", repr(failure.value))
