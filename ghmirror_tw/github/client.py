"""Asking GitHub over a bounded pool of connections: through treq, but for what is asked most.

Questions without content go to the agent below treq: its cookies, redirects and normal forms of
URLs are nothing that the mirror has a use for, and took a tenth of a revalidated answer's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool, ProxyAgent, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from ghmirror_tw.github.connecting import Ways, tls_fault
from ghmirror_tw.github.content import Content
from ghmirror_tw.github.interfaces import IGitHub, Reply, Unanswered
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.messages import Question
from ghmirror_tw.policy.storing import is_graphql
from ghmirror_tw.policy.targets import PREFIX, UPLOADS, is_upload
from ghmirror_tw.policy.tunnels import Proxy

#: Methods that may be sent again, or over a connection that GitHub may just be closing.
_RETRIED: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_KEPT_S: Final = 50
#: Where all connections are taken, one whose client has read nothing for so long is given to the
#: next question, in seconds: as many slow clients as connections must not stop all others.
_PAUSED_S: Final = 5.0
#: How often who waits for a connection looks for such a one, in seconds.
_LOOK_S: Final = 1.0


#: Field lines, by name.
Lines: TypeAlias = Iterable[tuple[bytes, Sequence[bytes]]]


@frozen
class Origin:
    """Where `api_url` leads: with its `uploads`, the only place that anything is ever sent to."""

    secure: bool
    host: str
    port: int
    base_path: bytes
    #: What stands here in the place of `UPLOADS`.
    uploads_path: bytes

    @classmethod
    def of(cls, api_url: str) -> Origin:
        """Return the origin of an http(s) URL; its path comes before every target."""
        parts = urlsplit(api_url)
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        path = parts.path.rstrip("/").encode("ascii")
        return cls(secure, parts.hostname, port, path, path.removesuffix(PREFIX) + UPLOADS)

    @property
    def authority(self) -> bytes:
        """The `Host` field (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.secure else 80
        return host.encode() if self.port == default else f"{host}:{self.port}".encode()

    @property
    def uploads(self) -> Origin:
        """Where GitHub takes uploads: at GitHub.com, a host for nothing else."""
        host = self.host.removeprefix("api.")
        if self.host == "api.github.com" or (host != self.host and host.endswith(".ghe.com")):
            return evolve(self, host=f"uploads.{host}", uploads_path=b"")
        return self

    @property
    def uploads_url(self) -> bytes | None:
        """How GitHub calls what clients know by `UPLOADS`, if it has a URL of its own."""
        uploads = self.uploads
        if uploads == self and not self.base_path.endswith(PREFIX):
            return None
        scheme = b"https://" if self.secure else b"http://"
        return scheme + uploads.authority + uploads.uploads_path

    def target(self, question: Question) -> bytes:
        """Return the request target of a question, byte for byte but for the base path."""
        if is_upload(question.target):
            return self.uploads_path + question.target.removeprefix(UPLOADS)
        if self.base_path.endswith(b"/api/v3") and is_graphql(question):
            return self.base_path.removesuffix(b"v3") + b"graphql"
        return self.base_path + question.target


@implementer(IAgent)
@define
class _Verbatim:
    """Stands below treq for one question and sends it as it is.

    treq would normalise the URL, add an `Accept-Encoding` of its own and unpack what comes; here
    the target and the fields go out byte for byte, and the coding is kept from treq's eyes.
    """

    agent: ProxyAgent
    target: bytes
    headers: Headers
    coding: list[bytes] | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,  # noqa: ARG002
        headers: Headers | None = None,  # noqa: ARG002
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send the question; *uri* and *headers* are treq's idea of it."""
        sent: Deferred[IResponse] = self.agent.request(
            method, self.target, self.headers, bodyProducer
        )
        return sent.addCallback(self._hide_coding)

    def _hide_coding(self, response: IResponse) -> IResponse:
        self.coding = response.headers.getRawHeaders(b"content-encoding")
        response.headers.removeHeader(b"content-encoding")
        return response


@implementer(IBodyProducer)
@define(eq=False)
class _Watched:
    """Sends the content of a request, and tells of each piece that goes out.

    The time for an answer runs from when GitHub last took something: a large upload over a slow
    line is not one that hangs.
    """

    producer: IBodyProducer
    progress: Callable[[], object]

    @property
    def length(self) -> Any:
        """How many bytes there are."""
        return self.producer.length

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Send it all to *consumer*."""
        sent: Deferred[None] = self.producer.startProducing(_Consumer(consumer, self.progress))
        return sent

    def pauseProducing(self) -> None:
        """Wait."""
        self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self.progress()
        self.producer.resumeProducing()

    def stopProducing(self) -> None:
        """Give up."""
        self.producer.stopProducing()


@define(eq=False)
class _Consumer:
    """Takes what is sent, and tells of it."""

    consumer: Any
    progress: Callable[[], object]

    def write(self, piece: bytes) -> None:
        """Take a piece."""
        self.progress()
        self.consumer.write(piece)


def _nothing_kept() -> IndexableCookieJar:
    return IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


@implementer(IGitHub)
@define(eq=False)
class Client:
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
    proxy: Callable[[], Proxy] | None = None
    uploads: Origin = field(init=False)
    _kept: dict[Origin, ProxyAgent] = field(factory=dict, init=False)
    _fresh: dict[Origin, ProxyAgent] = field(factory=dict, init=False)
    _pool: HTTPConnectionPool = field(init=False)
    _cookies: IndexableCookieJar = field(factory=_nothing_kept)
    _coming: set[Content] = field(factory=set)
    #: How many connections are asked over, or have an answer still to come.
    _held: int = 0
    _looking: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self.uploads = self.origin.uploads
        self.use(self.trust)

    def use(self, trust: Any) -> None:
        """Trust *trust* from the next connection on; what is under way goes on."""
        self.trust = trust
        old = getattr(self, "_pool", None)
        if old is not None:
            old.closeCachedConnections()
        ways = Ways(self.reactor, self.connect_timeout_s, trust, self.proxy)
        self._pool = HTTPConnectionPool(self.reactor, persistent=True)
        self._pool.maxPersistentPerHost = self.max_connections
        self._pool.cachedConnectionTimeout = _KEPT_S
        # What may not be sent twice never goes over a connection that may just be closing.
        once = HTTPConnectionPool(self.reactor, persistent=False)
        for origin in (self.origin, self.uploads):
            endpoint = ways.to(origin.host, origin.port, secure=origin.secure)
            self._kept[origin] = ProxyAgent(endpoint, self.reactor, self._pool)
            self._fresh[origin] = ProxyAgent(endpoint, self.reactor, once)

    def _origin(self, question: Question) -> Origin:
        return self.uploads if is_upload(question.target) else self.origin

    def ask(
        self,
        question: Question,
        content: IBodyProducer | None,
        timeout_s: float,
        ended: Callable[[], object] = bool,
    ) -> Deferred[Reply]:
        """Return the answer once its fields have come; see `IGitHub.ask`."""
        gone: list[bool] = []

        def cancel(_: object) -> None:
            gone.append(True)
            asking.cancel()

        asking = Deferred.fromCoroutine(self._ask(question, content, timeout_s, ended, gone))
        answered: Deferred[Reply] = Deferred(cancel)
        asking.addCallbacks(answered.callback, answered.errback)
        return answered

    async def _ask(
        self,
        question: Question,
        content: IBodyProducer | None,
        timeout_s: float,
        ended: Callable[[], object],
        gone: list[bool],
    ) -> Reply:
        timed_out = False
        timeout_s = max(timeout_s, 0.0)
        if content is not None:
            content = _Watched(content, lambda: timer.active() and timer.reset(timeout_s))

        def time_out() -> None:
            nonlocal timed_out
            timed_out = True
            pending.cancel()

        timer = self.reactor.callLater(timeout_s, time_out)
        pending: Deferred[Any] = Deferred.fromCoroutine(self._send(question, content, ended))
        try:
            reply: Reply = await pending
        except Unanswered:
            raise
        except Exception as error:
            if timed_out:
                raise Unanswered("timeout", f"no answer within {timeout_s:.3g} s") from None
            # What Twisted makes of that may look like an unknown name, or a lost connection.
            if gone:
                raise CancelledError from error
            raise _unanswered(Failure(error)) from error
        finally:
            if timer.active():
                timer.cancel()
        return reply

    async def _send(
        self, question: Question, content: IBodyProducer | None, ended: Callable[[], object]
    ) -> Reply:
        origin = self._origin(question)
        headers = Headers()
        headers.addRawHeader(b"Host", origin.authority)
        for name, value in question.fields:
            headers.addRawHeader(name, value)
        headers.addRawHeader(b"Via", self.via)
        may_retry = question.method in _RETRIED and content is None
        agent = (self._kept if may_retry else self._fresh)[origin]
        target = origin.target(question)
        self._held += 1
        self._look()
        try:
            if content is None:
                response = await agent.request(question.method, target, headers)
                lines = response.headers.getAllRawHeaders()
            else:
                response, lines = await self._upload(
                    question.method, _Verbatim(agent, target, headers), content
                )
        except BaseException:
            self._held -= 1
            ended()
            raise
        return self._reply(response, lines, ended)

    async def _upload(
        self, method: bytes, agent: _Verbatim, content: IBodyProducer
    ) -> tuple[Any, Lines]:
        """Send a question with content through treq."""
        response = await HTTPClient(agent, cookiejar=self._cookies).request(
            method.decode("ascii"),
            "http://origin.invalid/",
            headers=Headers(),
            data=content,
            allow_redirects=False,
            unbuffered=True,
            reactor=self.reactor,
        )
        # treq leaves an empty one in the place of the coding that was kept from it.
        lines = [
            (name, values)
            for name, values in response.headers.getAllRawHeaders()
            if name.lower() != b"content-encoding"
        ]
        if agent.coding:
            lines.append((b"content-encoding", agent.coding))
        return response.original, lines

    def _look(self) -> None:
        """While all connections are held, see to it that nobody holds one without reading."""
        if self._looking is None and self._held >= self.max_connections:
            self._looking = self.reactor.callLater(_LOOK_S, self._make_room)

    def _make_room(self) -> None:
        """End the answer that its client has not read for longest, if it is long enough."""
        self._looking = None
        paused = [each for each in self._coming if each.paused_at is not None]
        if paused and self._held >= self.max_connections:
            longest = min(paused, key=lambda each: each.paused_at or 0.0)
            if self.reactor.seconds() - (longest.paused_at or 0.0) >= _PAUSED_S:
                longest.give_way()
        self._look()

    def _reply(self, response: Any, lines: Lines, ended: Callable[[], object]) -> Reply:
        content = Content(
            self.reactor,
            response,
            self.idle_timeout_s,
            None if response.length is UNKNOWN_LENGTH else response.length,
            lambda: self._ended(content, ended),
        )
        self._coming.add(content)
        fields = Fields(tuple((name, value) for name, values in lines for value in values))
        return Reply(response.code, fields, content)

    def _ended(self, content: Content, ended: Callable[[], object]) -> None:
        self._coming.discard(content)
        self._held -= 1
        ended()

    def close(self) -> Deferred[None]:
        """Close the connections that are idle."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


def _unanswered(failure: Failure) -> Unanswered:
    assert failure.value is not None
    fault = tls_fault(failure.value)
    if fault is not None:
        return Unanswered("connect-error" if "certificate" in fault else "broken-answer", fault)
    if failure.check(ConnectError, DNSLookupError):
        return Unanswered("connect-error", failure.getErrorMessage())
    if failure.check(ResponseNeverReceived):
        return Unanswered("broken-answer", "the connection was lost before an answer came")
    return Unanswered("broken-answer", repr(failure.value))
