"""The HTTP client for GitHub: a bounded number of connections, and a timeout for each response.

A request without content is sent by the connection pool directly, which takes less CPU time: most
requests are validations. A request with content is sent by treq.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from operator import itemgetter
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from ghmirror_tw.github.origin import Origin
from ghmirror_tw.http.fields import Fields, serialised
from ghmirror_tw.http.outbound_proxy import OutboundProxy
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.targets import is_upload
from ghmirror_tw.upstream.connection_pool import ConnectionPool
from ghmirror_tw.upstream.endpoint_factory import EndpointFactory
from ghmirror_tw.upstream.timed_request import Cancellable, TimedRequest
from ghmirror_tw.upstream.uploads import ObservedUpload, send_upload
from ghmirror_tw.upstream.upstream_content import UpstreamContent
from ghmirror_tw.upstream.upstream_interface import IUpstream, UpstreamResponse

__all__ = ("Origin", "UpstreamClient")

#: An exchange is stalled when its client has not read for this time, in seconds. It is aborted
#: while another request waits for it: for a connection, or for a permit of the same credential.
#: Otherwise slow clients could hold all connections, or all permits of a shared credential.
STALL_TIMEOUT_S: Final = 5.0
#: One in this number of the stalled exchanges is aborted at a time, at least one.
_ABORTED_SHARE: Final = 4
#: How often stalled exchanges are looked for while a request waits, in seconds.
_RECLAIM_INTERVAL_S: Final = 1.0


@implementer(IUpstream)
@define(eq=False)
class UpstreamClient:
    """Sends requests to the origin over up to *max_connections* persistent connections.

    The caller bounds the number of concurrent exchanges. *trust* and *proxy*: see
    `EndpointFactory`.
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
    #: The connection pool of each origin.
    pools: dict[Origin, ConnectionPool] = field(factory=dict, init=False)
    #: The requests whose content is being sent.
    sending: set[TimedRequest] = field(factory=set, init=False)
    #: The content that is being received, each with `is_contended` of its request.
    receiving: dict[UpstreamContent, Callable[[], bool]] = field(factory=dict, init=False)
    #: How many requests wait for a response, or receive its content.
    open_exchanges: int = field(default=0, init=False)
    _via: bytes = field(init=False)
    _pool: ConnectionPool = field(init=False)
    _uploads_pool: ConnectionPool = field(init=False)
    _reclaiming: IDelayedCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.uploads = self.origin.uploads
        self._via = serialised(Fields.of(((b"via", self.via),)))
        self.use(self.trust)

    def use(self, trust: Any) -> None:
        """Use another trust root for new connections; exchanges under way continue."""
        self.trust = trust
        self._close_pools()
        endpoints = EndpointFactory(self.reactor, self.connect_timeout_s, trust, self.proxy)
        for origin in (self.origin, self.uploads):
            endpoint = endpoints.endpoint(origin.host, origin.port, secure=origin.secure)
            self.pools[origin] = ConnectionPool(
                self.reactor, endpoint, origin.authority, self.max_connections
            )
        self._pool, self._uploads_pool = self.pools[self.origin], self.pools[self.uploads]

    def send(
        self,
        request: Request,
        content: IBodyProducer | None,
        timeout_s: float,
        on_end: Callable[[], object] = bool,
        is_contended: Callable[[], bool] = bool,
    ) -> Deferred[UpstreamResponse]:
        """Send a request; see `IUpstream.send`."""
        timed = TimedRequest(self, on_end, is_contended, max(timeout_s, 0.0))
        self.open_exchanges += 1
        if self.open_exchanges >= self.max_connections:
            self.reclaim_stalled()
        try:
            timed.under_way = self._dispatch(request, content, timed)
        except Exception:  # noqa: BLE001 - a request that can't be sent has no response
            timed.request_failed(Failure())
        return timed.response

    def _dispatch(
        self, request: Request, content: IBodyProducer | None, timed: TimedRequest
    ) -> Cancellable:
        """Start sending *request* for *timed*; return the object that cancels it."""
        if request.method == b"POST":
            request = self.origin.routed(request)
        origin, pool = self.origin, self._pool
        if is_upload(request.target):
            origin, pool = self.uploads, self._uploads_pool
        target = origin.target(request)
        if content is None:
            block = serialised(request.fields) + self._via
            return pool.send(request.method, target, block, timed)
        sent = send_upload(pool, request, target, self.via, ObservedUpload(content, timed))
        return sent.addCallbacks(timed.response_received, timed.request_failed)

    def receive(
        self, response: Any, on_end: Callable[[], object], is_contended: Callable[[], bool]
    ) -> UpstreamContent:
        """Return the content of a response, whose exchange ends with it."""

        def end() -> None:
            self.receiving.pop(content, None)
            self.open_exchanges -= 1
            on_end()

        length = None if response.length is UNKNOWN_LENGTH else response.length
        content = UpstreamContent(self.reactor, response, self.idle_timeout_s, length, end)
        self.receiving[content] = is_contended
        return content

    # Stalled exchanges.

    def reclaim_stalled(self) -> None:
        """Abort stalled exchanges soon; see `IUpstream.reclaim_stalled`."""
        if self._reclaiming is None:
            self._reclaiming = self.reactor.callLater(_RECLAIM_INTERVAL_S, self._abort_stalled)

    def _abort_stalled(self) -> None:
        """Abort a part of the contended exchanges that are stalled, the longest stalled first."""
        self._reclaiming = None
        exchanges: list[tuple[float | None, Callable[[], bool], Callable[[], None]]] = [
            *(
                (each.paused_at, contended, each.preempt)
                for each, contended in self.receiving.items()
            ),
            *((each.stalled_at, each.is_contended, each.preempt) for each in self.sending),
        ]
        full = self.open_exchanges >= self.max_connections
        candidates = [(at, preempt) for at, contended, preempt in exchanges if full or contended()]
        latest = self.reactor.seconds() - STALL_TIMEOUT_S
        stalled = [(at, preempt) for at, preempt in candidates if at is not None and at <= latest]
        stalled.sort(key=itemgetter(0))
        for _, preempt in stalled[: ceil(len(stalled) / _ABORTED_SHARE)]:
            preempt()
        if candidates:
            self.reclaim_stalled()

    def close(self) -> Deferred[None]:
        """Close the idle connections."""
        if self._reclaiming is not None:
            self._reclaiming.cancel()
            self._reclaiming = None
        return self._close_pools()

    def _close_pools(self) -> Deferred[None]:
        closed = [pool.close() for pool in self.pools.values()]
        return gatherResults(closed).addCallback(lambda _: None)
