"""GitHub's status page, read at an interval for the circuit breaker.

See https://www.githubstatus.com/api: the components of Statuspage.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, ContentDecoderAgent, GzipDecoder, HTTPConnectionPool
from twisted.web.http_headers import Headers

from ghmirror_tw.github.limit_interpretation import retry_after
from ghmirror_tw.http.entity_tags import without_invalid_etag
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.outbound_proxy import OutboundProxy
from ghmirror_tw.runtime.deferreds import fail_after
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.upstream.connection_error_texts import connection_error_text
from ghmirror_tw.upstream.endpoint_factory import EndpointFactory
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.upstream_content import UpstreamContent

#: The component of the page that the mirror depends on.
COMPONENT: Final = "API Requests"
#: A page that takes longer, or is larger, is unreadable.
TIMEOUT_S: Final = 10.0
MAX_PAGE_BYTES: Final = 1024 * 1024
#: The interval doubles while the page is unreadable, up to this.
MAX_INTERVAL_S: Final = 600.0
_MAX_DOUBLINGS: Final = 8
#: Jitter: each replica reads the page up to a tenth of the interval sooner or later.
_JITTER: Final = 0.1


class UnreadableStatusError(Exception):
    """The page is unreadable; *pause_s*: its `Retry-After`."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.text = text
        self.pause_s = pause_s


def parse_components(content: bytes) -> str:
    """Return the status of `COMPONENT` on a page. Raises `UnreadableStatusError`."""
    try:
        page = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableStatusError("no JSON") from None
    components = page.get("components") if isinstance(page, dict) else None
    for each in components if isinstance(components, list) else ():
        if isinstance(each, dict) and each.get("name") == COMPONENT:
            status = each.get("status")
            if isinstance(status, str):
                return status
    raise UnreadableStatusError(f"no component {COMPONENT}")


@define(eq=False)
class StatusPage:
    """Reads the page at *url* every *interval_s* seconds, and notifies *breaker* of its status.

    It has connections of its own, so that trouble of those to GitHub does not affect it. *trust*
    and *proxy*: see `EndpointFactory`. *random* returns a number from 0 to 1. An unreadable page is
    logged once, and is no evidence against GitHub.
    """

    reactor: Any
    url: str
    interval_s: float
    breaker: GitHubBreaker
    trust: Any
    random: Callable[[], float]
    timeout_s: float = TIMEOUT_S
    proxy: Callable[[], OutboundProxy] | None = None
    _agent: ContentDecoderAgent = field(init=False)
    _etag: bytes | None = field(init=False, default=None)
    #: The status on the page with that entity-tag.
    _validated_status: str = field(init=False, default="")
    _status: str = field(init=False, default="")
    failures: int = field(init=False, default=0)
    timer: IDelayedCall | None = field(init=False, default=None)
    _reading: Deferred[Any] | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.github"))

    def __attrs_post_init__(self) -> None:
        self.use(self.trust)

    def use(self, trust: Any) -> None:
        """Use another trust root for new connections."""
        self.trust = trust
        agent = Agent.usingEndpointFactory(
            self.reactor,
            EndpointFactory(self.reactor, self.timeout_s, trust, self.proxy),
            pool=HTTPConnectionPool(self.reactor, persistent=False),
        )
        # treq supports no IPv6 address as host.
        self._agent = ContentDecoderAgent(agent, [(b"gzip", GzipDecoder)])

    def open(self) -> None:
        """Start reading the page, at once."""
        self._read()

    def close(self) -> None:
        """Stop reading the page."""
        self._closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self._reading is not None:
            self._reading.cancel()

    # The loop.

    def _read(self) -> None:
        self.timer = None
        self._reading = Deferred.fromCoroutine(self._update())
        self._reading.addErrback(self._failed)
        self._reading.addCallback(self._schedule)

    def _failed(self, failure: Failure) -> float:
        self._log.failure("Reading GitHub status page failed: url={url}", failure, url=self.url)
        return self._jittered(MAX_INTERVAL_S)

    def _schedule(self, pause_s: float) -> None:
        self._reading = None
        if not self._closed:
            self.timer = self.reactor.callLater(pause_s, self._read)

    async def _update(self) -> float:
        """Read the page once, and return the pause before the next time."""
        try:
            status = await self._content_status()
        except UnreadableStatusError as error:
            return 0.0 if self._closed else self._unreadable(error)
        self.failures = 0
        if status != self._status:
            self._log.info(
                'GitHub status page read: component="{component}" status={status}',
                component=COMPONENT,
                status=status,
            )
        self._status = status
        self.breaker.note_page_status(status, self.reactor.seconds())
        return self._jittered(self.interval_s)

    def _unreadable(self, error: UnreadableStatusError) -> float:
        if not self.failures:
            self._log.warn("GitHub status page unreadable: reason={reason}", reason=error.text)
        # The next status is logged in any case.
        self._status = ""
        self.failures += 1
        self.breaker.note_page_unreadable(self.reactor.seconds())
        longest_s = max(MAX_INTERVAL_S, self.interval_s)
        pause_s = self.interval_s * 2 ** min(self.failures, _MAX_DOUBLINGS)
        return self._jittered(max(min(pause_s, longest_s), error.pause_s))

    def _jittered(self, seconds: float) -> float:
        return seconds * (1.0 + _JITTER * (2 * self.random() - 1))

    # One reading.

    async def _content_status(self) -> str:
        """Return the status. Raises `UnreadableStatusError` for every failure."""
        timeout = UnreadableStatusError(f"no response within {self.timeout_s:g} s")
        reading = Deferred.fromCoroutine(self._request())
        try:
            return await fail_after(reading, self.reactor, self.timeout_s, timeout)
        except UnreadableStatusError:
            raise
        except Exception as error:
            raise UnreadableStatusError(connection_error_text(error)) from error

    async def _request(self) -> str:
        headers = Headers({b"User-Agent": [b"ghmirror"], b"Accept": [b"application/json"]})
        if self._etag is not None:
            headers.addRawHeader(b"If-None-Match", self._etag)
        response = await self._agent.request(b"GET", self.url.encode("ascii"), headers)
        content = UpstreamContent(self.reactor, response, self.timeout_s, None)
        try:
            collected = await content.collect(MAX_PAGE_BYTES)
        finally:
            content.abort()
        return self._parse(response, collected)

    def _parse(self, response: Any, content: bytes | None) -> str:
        fields = without_invalid_etag(Fields(lines_of(response.headers)))
        if response.code == 304 and self._etag is not None:  # noqa: PLR2004
            return self._validated_status
        if response.code != 200:  # noqa: PLR2004
            pause_s = retry_after(fields, self.reactor.seconds()) or 0.0
            raise UnreadableStatusError(f"status {response.code}", pause_s)
        if content is None:
            raise UnreadableStatusError(f"larger than {MAX_PAGE_BYTES} bytes")
        self._etag = None
        self._validated_status = parse_components(content)
        self._etag = fields.get(b"etag")
        return self._validated_status
