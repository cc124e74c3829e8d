"""Questions with content: through treq, byte for byte."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol

from attrs import define, field, frozen
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from ghmirror_tw.http.request import Request


@implementer(IAgent)
@define
class _Verbatim:
    """Stands below treq for one question and sends it as it is.

    treq would normalise the URL, add an `Accept-Encoding` of its own and unpack what comes; here
    the target and the fields go out byte for byte, and the coding is kept from treq's eyes.
    """

    agent: IAgent
    target: bytes
    headers: Headers

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
        response.headers.removeHeader(b"content-encoding")
        return response


def _nothing_kept() -> IndexableCookieJar:
    return IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


@frozen
class Uploads:
    """Puts questions with content; *via*: what the field `Via` says of the mirror."""

    reactor: Any
    via: bytes
    _cookies: IndexableCookieJar = field(factory=_nothing_kept, init=False)

    def put(
        self, agent: IAgent, question: Request, target: bytes, content: IBodyProducer
    ) -> Deferred[Any]:
        """Put a question, as *target*; return *agent*'s own answer, untouched by treq."""
        headers = Headers()
        for name, value in question.fields:
            headers.addRawHeader(name, value)
        headers.addRawHeader(b"Via", self.via)
        client = HTTPClient(_Verbatim(agent, target, headers), cookiejar=self._cookies)
        sent: Deferred[Any] = client.request(
            question.method.decode("ascii"),
            "http://origin.invalid/",
            headers=Headers(),
            data=content,
            allow_redirects=False,
            unbuffered=True,
            reactor=self.reactor,
        )
        return sent.addCallback(lambda response: response.original)


class Watcher(Protocol):
    """An observer of the content of a request while it is sent."""

    def waits_for_client(self, size: int = 0) -> None:
        """Note that *size* bytes have come, and the next ones have to come from the client."""

    def waits_for_github(self) -> None:
        """Note that GitHub has to receive what was sent, or to respond."""


@implementer(IBodyProducer)
@define(eq=False)
class Watched:
    """Sends the content of a request, and notifies *watcher* for which end it waits.

    The timeout for the response runs only while the mirror waits for GitHub, not for the client.
    """

    producer: IBodyProducer
    watcher: Watcher
    _consumer: Any = field(default=None, init=False)

    @property
    def length(self) -> Any:
        """How many bytes there are."""
        return self.producer.length

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Send it all to *consumer*."""
        self._consumer = consumer
        self.watcher.waits_for_client()
        sent: Deferred[None] = self.producer.startProducing(self)
        return sent.addBoth(self._sent)

    def write(self, piece: bytes) -> None:
        """Pass a piece on."""
        if self._consumer is not None:
            self.watcher.waits_for_client(len(piece))
            self._consumer.write(piece)

    def _sent(self, result: Any) -> Any:
        self._consumer = None
        self.watcher.waits_for_github()
        return result

    def pauseProducing(self) -> None:
        """Wait."""
        self.watcher.waits_for_github()
        self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self.watcher.waits_for_client()
        self.producer.resumeProducing()

    def stopProducing(self) -> None:
        """Give up."""
        self._consumer = None
        self.producer.stopProducing()
