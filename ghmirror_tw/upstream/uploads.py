"""Requests with content, which treq sends byte for byte as the client sent them."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Protocol

from attrs import define, field
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web._newclient import Request as TwistedRequest
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from ghmirror_tw.http.request import Request
from ghmirror_tw.upstream.connection_pool import ConnectionPool, PooledRequest
from ghmirror_tw.upstream.incoming_response import IncomingResponse

_NO_COOKIES: Final = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


def send_upload(
    pool: ConnectionPool, request: Request, target: bytes, via: bytes, content: IBodyProducer
) -> Deferred[Any]:
    """Send a request with content to *target*; return the `IncomingResponse`.

    *via*: the value of the field `Via` for the mirror.
    """
    headers = Headers()
    for name, value in request.fields:
        headers.addRawHeader(name, value)
    headers.addRawHeader(b"Via", via)
    client = HTTPClient(VerbatimAgent(pool, target, headers), cookiejar=_NO_COOKIES)
    sent: Deferred[Any] = client.request(
        request.method.decode("ascii"),
        "http://origin.invalid/",
        headers=Headers(),
        data=content,
        allow_redirects=False,
        unbuffered=True,
        reactor=pool.reactor,
    )
    return sent.addCallback(lambda response: response.original)


@implementer(IAgent)
@define
class VerbatimAgent:
    """The agent below treq, for one request: it sends *target* and *headers* as they are.

    treq would normalise the URL, add an `Accept-Encoding`, and decode the content of the response.
    """

    pool: ConnectionPool
    target: bytes
    headers: Headers

    def request(
        self,
        method: bytes,
        uri: bytes,  # noqa: ARG002
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send the request; the *uri* and *headers* of treq are ignored."""
        headers = self.headers.copy()
        headers.setRawHeaders(b"host", [self.pool.authority])
        receiver = _DeferredReceiver()
        receiver.request = self.pool.send_upload(
            TwistedRequest(method, self.target, headers, bodyProducer), receiver
        )
        return receiver.response


@define(eq=False)
class _DeferredReceiver:
    """Receives a response into a Deferred, which cancels the request."""

    request: PooledRequest | None = None
    response: Deferred[IResponse] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.response = Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        if self.request is not None:
            self.request.cancel()

    def response_received(self, response: IncomingResponse) -> None:
        """Return the response, without the coding of its content that treq would decode."""
        self.request = None
        response.headers.removeHeader(b"content-encoding")
        self.response.callback(response)

    def request_failed(self, reason: Failure) -> None:
        """Return the failure."""
        self.request = None
        self.response.errback(reason)


class UploadObserver(Protocol):
    """An observer of the content of a request while it is sent."""

    def note_waiting_for_client(self, size: int = 0) -> None:
        """Note that *size* bytes were received, and the client has to send the next ones."""

    def note_waiting_for_github(self) -> None:
        """Note that GitHub has to receive what was sent, or to respond."""


@implementer(IBodyProducer)
@define(eq=False)
class ObservedUpload:
    """Sends the content of a request, and notifies *observer* for which end it waits.

    The timeout for the response runs only while the mirror waits for GitHub, not for the client.
    """

    producer: IBodyProducer
    observer: UploadObserver
    _consumer: Any = field(default=None, init=False)

    @property
    def length(self) -> Any:
        """The length in bytes, or `UNKNOWN_LENGTH`."""
        return self.producer.length

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Send the content to *consumer*."""
        self._consumer = consumer
        self.observer.note_waiting_for_client()
        sent: Deferred[None] = self.producer.startProducing(self)
        return sent.addBoth(self._sent)

    def write(self, piece: bytes) -> None:
        """Send a piece."""
        if self._consumer is not None:
            self.observer.note_waiting_for_client(len(piece))
            self._consumer.write(piece)

    def _sent(self, result: Any) -> Any:
        self._consumer = None
        self.observer.note_waiting_for_github()
        return result

    def pauseProducing(self) -> None:
        """Pause: GitHub does not read fast enough."""
        self.observer.note_waiting_for_github()
        self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Resume."""
        self.observer.note_waiting_for_client()
        self.producer.resumeProducing()

    def stopProducing(self) -> None:
        """Drop the rest of the content."""
        self._consumer = None
        self.producer.stopProducing()
