"""GitHub's status page, read now and then (Statuspage: status API, components)."""

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

from ghmirror_tw.github.limited_responses import retry_after
from ghmirror_tw.http.entity_tags import without_invalid_etag
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.tunnels import OutboundProxy
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.upstream.availability import Availability
from ghmirror_tw.upstream.dialling import Ways, reason_of
from ghmirror_tw.upstream.incoming_content import CollectedContent

#: The component of the page that the mirror depends on.
COMPONENT: Final = "API Requests"
#: A page that takes longer, or is larger, can't be read.
TIMEOUT_S: Final = 10.0
MOST_BYTES: Final = 1024 * 1024
#: A page that can't be read is read less and less often, down to this.
LONGEST_S: Final = 600.0
_MOST_DOUBLINGS: Final = 8
#: Replicas read it at times of their own, a tenth sooner or later.
_SPREAD: Final = 0.1


class UnreadableStatusError(Exception):
    """The page can't be read, for a reason in words; *pause_s*: it said when to come again."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.pause_s = pause_s


def parse_components(content: bytes) -> str:
    """Return what a page says of `COMPONENT`. Raises `UnreadableStatusError`."""
    try:
        page = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableStatusError("it is no JSON") from None
    components = page.get("components") if isinstance(page, dict) else None
    for each in components if isinstance(components, list) else ():
        if isinstance(each, dict) and each.get("name") == COMPONENT:
            status = each.get("status")
            if isinstance(status, str):
                return status
    raise UnreadableStatusError(f"it says nothing of {COMPONENT}")


@define(eq=False)
class StatusPage:
    """Reads the page at *url* every *interval_s* seconds, and tells *availability* what it says.

    On connections of its own: what ails GitHub's mustn't ail these. *trust* and *proxy*: see
    `Ways`. *chance*: a number from 0 to 1. What is wrong with the page is logged once, and means
    nothing for GitHub.
    """

    reactor: Any
    url: str
    interval_s: float
    availability: Availability
    trust: Any
    chance: Callable[[], float]
    timeout_s: float = TIMEOUT_S
    proxy: Callable[[], OutboundProxy] | None = None
    _agent: ContentDecoderAgent = field(init=False)
    _etag: bytes | None = field(init=False, default=None)
    #: What the page said that the entity-tag is of.
    _tagged: str = field(init=False, default="")
    _status: str = field(init=False, default="")
    _failures: int = field(init=False, default=0)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _reading: Deferred[Any] | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.github"))

    def __attrs_post_init__(self) -> None:
        self.use(self.trust)

    def use(self, trust: Any) -> None:
        """Trust *trust* from the next connection on."""
        self.trust = trust
        agent = Agent.usingEndpointFactory(
            self.reactor,
            Ways(self.reactor, self.timeout_s, trust, self.proxy),
            pool=HTTPConnectionPool(self.reactor, persistent=False),
        )
        # Not treq, which takes no IPv6 address for a host.
        self._agent = ContentDecoderAgent(agent, [(b"gzip", GzipDecoder)])

    def open(self) -> None:
        """Begin to read it, at once."""
        self._read()

    def close(self) -> None:
        """Stop reading it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reading is not None:
            self._reading.cancel()

    # One reading after the other.

    def _read(self) -> None:
        self._timer = None
        self._reading = Deferred.fromCoroutine(self._take())
        self._reading.addErrback(self._failed)
        self._reading.addCallback(self._read_later)

    def _failed(self, failure: Failure) -> float:
        self._log.failure("Reading GitHub's status page failed", failure=failure)
        return self._spread(LONGEST_S)

    def _read_later(self, pause_s: float) -> None:
        self._reading = None
        if not self._closed:
            self._timer = self.reactor.callLater(pause_s, self._read)

    async def _take(self) -> float:
        """Read the page once, tell what it says, and return when to read it again."""
        try:
            status = await self._within()
        except UnreadableStatusError as error:
            return 0.0 if self._closed else self._missed(error)
        self._failures = 0
        if status != self._status:
            self._log.info(
                "GitHub's status page says {status} of {component}",
                status=status,
                component=COMPONENT,
            )
        self._status = status
        self.availability.page_says(status, self.reactor.seconds())
        return self._spread(self.interval_s)

    def _missed(self, error: UnreadableStatusError) -> float:
        if not self._failures:
            self._log.warn("GitHub's status page can't be read: {why}", why=error.why)
        # When it can be read again, that is worth a line, whatever it says.
        self._status = ""
        self._failures += 1
        self.availability.page_unreadable(self.reactor.seconds())
        longest_s = max(LONGEST_S, self.interval_s)
        pause_s = self.interval_s * 2 ** min(self._failures, _MOST_DOUBLINGS)
        return self._spread(max(min(pause_s, longest_s), error.pause_s))

    def _spread(self, seconds: float) -> float:
        return seconds * (1.0 + _SPREAD * (2 * self.chance() - 1))

    async def _within(self) -> str:
        """Return the content of the page. Raises `UnreadableStatusError` for every failure."""
        timed_out: list[bool] = []
        asked = Deferred.fromCoroutine(self._ask())

        def time_out() -> None:
            timed_out.append(True)
            asked.cancel()

        timer = self.reactor.callLater(self.timeout_s, time_out)
        try:
            return await asked
        except UnreadableStatusError:
            raise
        except Exception as error:
            if timed_out:
                raise UnreadableStatusError(f"not within {self.timeout_s:g} s") from None
            raise UnreadableStatusError(reason_of(error)) from error
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self) -> str:
        headers = Headers({b"User-Agent": [b"ghmirror"], b"Accept": [b"application/json"]})
        if self._etag is not None:
            headers.addRawHeader(b"If-None-Match", self._etag)
        response = await self._agent.request(b"GET", self.url.encode("ascii"), headers)
        content = CollectedContent(self.reactor, response, self.timeout_s, None)
        try:
            collected = await content.collect(MOST_BYTES)
        finally:
            content.abort()
        return self._said(response, collected)

    def _said(self, response: Any, content: bytes | None) -> str:
        fields = without_invalid_etag(Fields(lines_of(response.headers)))
        if response.code == 304 and self._etag is not None:  # noqa: PLR2004
            return self._tagged
        if response.code != 200:  # noqa: PLR2004
            pause_s = retry_after(fields, self.reactor.seconds()) or 0.0
            raise UnreadableStatusError(f"its answer is {response.code}", pause_s)
        if content is None:
            raise UnreadableStatusError(f"it is larger than {MOST_BYTES} bytes")
        self._etag = None
        self._tagged = parse_components(content)
        self._etag = fields.get(b"etag")
        return self._tagged
