"""All connections of clients: their number, and the memory that they hold."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Site

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.runtime.socket_writes import Outbox
from ghmirror_tw.upstream.byte_budget import ByteBudget, ByteBudgets
from ghmirror_tw.web.exchange_channel import CLIENT_TIMEOUT_S, PIECE_BYTES
from ghmirror_tw.web.mirror_channel import STALLED_S, MirrorChannel

#: The bytes that wait in memory for a client that does not read: two pieces at most.
UNREAD_EACH_BYTES: Final = 2 * PIECE_BYTES
#: A client is slow that takes less of the content that its response holds, in bytes per second.
LEAST_PACE: Final = 64 * 1024
#: The fraction of the slow connections that is closed at a time is 1 / `_SLOW_PART`.
_SLOW_PART: Final = 4
#: The shortest time between two warnings of a kind, in seconds.
_WARNING_INTERVAL_S: Final = 60.0
#: So many connections are accepted beyond the limit, for `/healthz` and `/readyz` alone: probes of
#: a busy process must not fail.
RESERVED_CONNECTIONS: Final = 16
_log: Final = Logger(namespace="ghmirror.web")


@define(eq=False)
class _Warning:
    """A warning that is logged once a minute at most."""

    text: str
    _logged_at: float | None = None

    def log(self, reactor: IReactorTime, **fields: object) -> None:
        """Log it, unless it was logged a short time ago."""
        now = reactor.seconds()
        if self._logged_at is None or now - self._logged_at >= _WARNING_INTERVAL_S:
            self._logged_at = now
            _log.warn(self.text, **fields)


class MirrorSite(Site):
    """The factory of client connections.

    *for_any_origin*: pages of any origin may read the responses in a browser, as those of GitHub.
    """

    protocol = MirrorChannel  # type: ignore[assignment]
    displayTracebacks = False

    def __init__(
        self,
        resource: Any,
        request_factory: Any,
        reactor: Any,
        most_connections: int | None = None,
        *,
        for_any_origin: bool = True,
    ) -> None:
        super().__init__(
            resource, requestFactory=request_factory, reactor=reactor, timeout=CLIENT_TIMEOUT_S
        )
        self.most_connections = most_connections
        self.for_any_origin = for_any_origin
        self.outbox = Outbox()
        #: How many bytes connections may hold; the admin listener has budgets of its own.
        self.budgets: ByteBudgets = getattr(resource, "budgets", None) or ByteBudgets.of(reactor, 0)
        for budget in (self.budgets.small, self.budgets.large, self.budgets.forms):
            budget.reclaim = self.make_room
        #: All connections, the least recently used first.
        self.channels: dict[MirrorChannel, None] = {}
        #: Connections with an incomplete head, and those whose client does not read; the oldest
        #: first.
        self.incomplete_heads: dict[MirrorChannel, None] = {}
        self._unread: dict[MirrorChannel, None] = {}
        self._full_warning = _Warning(
            "Too many client connections, idle ones closed: limit={count}"
        )
        self._memory_warning = _Warning(
            "Client connections closed to make room: reason={reason} use={use} held={held}"
            " limit={limit}"
        )
        self._tls_warning = _Warning(
            "TLS handshake on a plain port: the client needs an http: URL, or [server] listen"
            " an ssl: endpoint; client={client}"
        )

    # Number of connections.

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than the limit."""
        return self.most_connections is not None and len(self.channels) > self.most_connections

    def admit(self, channel: MirrorChannel) -> None:
        """Register a connection; beyond the limit, close the one that was idle for longest.

        A connection with a request under way is never closed for another. If none is idle, a few
        more connections are accepted for health checks.
        """
        self.channels[channel] = None
        if not self.is_full:
            return
        idle = (each for each in self.channels if each is not channel and not each.answering)
        spare = next((each for each in idle if not each.is_reserved), None)
        if spare is None and self.most_connections is not None:
            channel.reserve()
            if len(self.channels) > self.most_connections + RESERVED_CONNECTIONS:
                spare = next((each for each in self.channels if not each.answering), channel)
        if spare is not None:
            del self.channels[spare]
            spare.transport.abortConnection()
        self._full_warning.log(self.reactor, count=self.most_connections)

    def note_used(self, channel: MirrorChannel) -> None:
        """Note that a connection has just been used."""
        if channel in self.channels:
            del self.channels[channel]
            self.channels[channel] = None

    @property
    def receiving(self) -> int:
        """How many connections have a request under way, complete or not."""
        return sum(not channel.idle for channel in self.channels)

    def drop_idle(self) -> None:
        """Close the idle connections; the others are closed after their response."""
        for channel in list(self.channels):
            channel.persistent = False
            if channel.idle:
                channel.loseConnection()

    # Memory that connections hold.

    @property
    def is_short_of_heads(self) -> bool:
        """Whether heads take more memory than they may."""
        heads = self.budgets.heads
        return heads.held > heads.limit

    def bound_heads(self) -> None:
        """Close the connections whose heads have been incomplete for longest, until heads fit."""
        while self.incomplete_heads and self.is_short_of_heads:
            channel = next(iter(self.incomplete_heads))
            channel.release_head()
            self._close(channel, self.budgets.heads, "incomplete head")

    def note_paused(self, channel: MirrorChannel) -> None:
        """Count the bytes for a client that does not read; beyond the limit, close connections."""
        unread = self.budgets.unread
        if channel.unread is None:
            channel.unread = unread.charge(UNREAD_EACH_BYTES)
        self._unread.pop(channel, None)
        self._unread[channel] = None
        channel.unread_since = now = self.reactor.seconds()
        while unread.held > unread.limit:
            first = next(iter(self._unread))
            # At twice the limit, the client that has read nothing for longest need not be stalled.
            if now - first.unread_since < STALLED_S and unread.held <= 2 * unread.limit:
                return
            self._close_unread(first)

    def note_resumed(self, channel: MirrorChannel) -> None:
        """Note that a client has read all, or is gone."""
        unread, channel.unread = channel.unread, None
        if unread is not None:
            unread.release()
            del self._unread[channel]

    def make_room(self) -> None:
        """Close connections that hold content while requests wait for room.

        Those are stalled clients, and the slowest part of the slow ones. Else a few clients that
        read a little now and then could hold a whole budget.
        """
        now = self.reactor.seconds()
        holding = [channel for channel in self._unread if channel.holds_content]
        stalled = [each for each in holding if now - each.unread_since >= STALLED_S]
        paces = {each: each.content_pace(now) for each in holding if each not in stalled}
        slow = sorted((each for each in paces if paces[each] < LEAST_PACE), key=paces.__getitem__)
        for channel in (*stalled, *slow[: ceil(len(slow) / _SLOW_PART)]):
            self._close_unread(channel)

    def _close_unread(self, channel: MirrorChannel) -> None:
        self.note_resumed(channel)
        self._close(channel, self.budgets.unread, "client does not read")

    def _close(self, channel: MirrorChannel, budget: ByteBudget, reason: str) -> None:
        budget.refusals += 1
        channel.transport.abortConnection()
        self._memory_warning.log(
            self.reactor, reason=reason, use=budget.use, held=budget.held, limit=budget.limit
        )

    # Reports.

    def warn_of_tls(self, peer: Any) -> None:
        """Log a TLS handshake on a plain port."""
        self._tls_warning.log(self.reactor, client=getattr(peer, "host", "-"))

    def note_refused(self, error: MirrorError) -> None:
        """Report to the resource that a request was refused before it was parsed."""
        self.resource.note_refused(error)

    def startFactory(self) -> None:
        """Open no access log: the resource logs requests."""

    def stopFactory(self) -> None:
        """Close no access log."""

    def log(self, request: Any) -> None:
        """Log nothing: the resource logs requests."""
