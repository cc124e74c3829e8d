"""The sender: the one way to GitHub, which owns the permit of each request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.decision import AVAILABLE, UpstreamState
from ghmirror_tw.github.reported_limit import LimitKind
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.first_request_lock import unique_names
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.in_memory_content import InMemoryContent
from ghmirror_tw.upstream.limited_sender import Sender
from ghmirror_tw.upstream.limits_in_force import RateLimitedError
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_to_send import OutgoingRequest
from ghmirror_tw.upstream.upstream_interface import IUpstream, UpstreamError, UpstreamResponse

TIMEOUT_S: Final = 30.0
JSON: Final = (b"content-type", b"application/json; charset=utf-8")
QUOTA: Final = ((b"x-ratelimit-limit", b"5000"), (b"x-ratelimit-reset", b"9000"))


@implementer(IUpstream)
@define(eq=False)
class FakeGitHub:
    """Holds each request until the test responds."""

    requests: list[Request] = field(factory=list)
    timeouts_s: list[float] = field(factory=list)
    responses: list[Deferred[UpstreamResponse]] = field(factory=list)
    released: list[Callable[[], object]] = field(factory=list)

    def send(
        self,
        request: Request,
        content: IBodyProducer | None,
        timeout_s: float,
        on_end: Callable[[], object] = bool,
        is_contended: Callable[[], bool] = bool,
    ) -> Deferred[UpstreamResponse]:
        """Note a request."""
        assert content is None
        assert not is_contended()
        self.requests.append(request)
        self.timeouts_s.append(timeout_s)
        self.released.append(on_end)
        self.responses.append(Deferred())
        return self.responses[-1]

    def reclaim_stalled(self) -> None:
        """Do nothing."""


@define(eq=False)
class FakeMetrics:
    """Notes the names of events, with their first arguments."""

    events: list[tuple[Any, ...]] = field(factory=list)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a method that notes its call."""
        return lambda *args: self.events.append((name, *args))


class Sending(SynchronousTestCase):
    """A sender before a stand-in for GitHub."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.github = FakeGitHub()
        self.metrics = FakeMetrics()
        self.limiter = RateLimiter(self.clock, None, 10, 5, 0, 0)
        self.credentials = CredentialRegistry(CredentialNames())
        self.github_breaker = GitHubBreaker()
        self.sender = Sender(
            self.github,
            MemoryStore(self.clock, 1_000_000),
            self.credentials,
            self.limiter,
            self.github_breaker,
            self.metrics,
            TIMEOUT_S,
            lambda _credential: "alice",
            self.clock.seconds,
            self.clock.callLater,
            unique_names(),
        )

    def outgoing(self, target: bytes = b"/thing", **more: Any) -> OutgoingRequest:
        fields = Fields(((b"authorization", b"token alice-1"),))
        request = Request(more.pop("method", b"GET"), target, fields)
        requester = self.credentials.requester(fields)
        return OutgoingRequest(request, requester, self.clock.seconds() + TIMEOUT_S, **more)

    def send(self, *args: Any, **more: Any) -> Deferred[UpstreamResponse]:
        return Deferred.fromCoroutine(self.sender.send(self.outgoing(*args, **more)))

    def respond(self, status: int, *fields: tuple[bytes, bytes], content: bytes = b"{}") -> None:
        response = UpstreamResponse(status, Fields((JSON, *fields)), InMemoryContent(content))
        self.github.responses[-1].callback(response)

    def fail_by_timeout(self, *args: Any, **more: Any) -> None:
        sending = self.send(*args, **more)
        self.github.responses[-1].errback(UpstreamError("timeout", "late"))
        self.failureResultOf(sending, UpstreamError)

    def state(self, target: bytes = b"/thing") -> UpstreamState:
        outgoing = self.outgoing(target)
        key = self.credentials.key(outgoing.request)
        return self.sender.upstream_state(outgoing.requester.token, key, self.clock.seconds())

    # The permit.

    def test_the_slot_is_released_with_the_connection(self) -> None:
        """Not with the response, whose content may still be incoming."""
        sending = self.send()
        assert self.limiter.in_flight == 1
        self.respond(200)
        assert self.successResultOf(sending).status == 200
        assert self.limiter.in_flight == 1
        self.github.released[0]()
        assert self.limiter.in_flight == 0

    def test_the_slot_is_released_on_failure_and_cancellation(self) -> None:
        """After any end of a request without a response."""
        for error in (UpstreamError("timeout", "late"), ValueError()):
            sending = self.send()
            self.github.responses[-1].errback(error)
            self.failureResultOf(sending, type(error))
            assert self.limiter.in_flight == 0
        sending = self.send()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        assert self.limiter.in_flight == 0
        assert self.metrics.events[-1][:3] == ("upstream", b"GET", "cancelled")

    def test_a_failure_before_the_request_releases_the_slot(self) -> None:
        """As of the callback just before it is sent."""

        def fail(_: float) -> None:
            raise ZeroDivisionError

        self.failureResultOf(self.send(sending=fail), ZeroDivisionError)
        assert self.limiter.in_flight == 0
        assert not self.github.requests

    def test_a_slot_that_was_acquired_in_advance_is_used(self) -> None:
        """Only one is acquired for a request."""
        outgoing = self.outgoing()
        outgoing.permit_holder.permit = self.successResultOf(self.sender.acquire(outgoing))
        sending = Deferred.fromCoroutine(self.sender.send(outgoing))
        assert self.limiter.in_flight == 1
        self.respond(200)
        self.successResultOf(sending)
        assert outgoing.permit_holder.permit is None

    def test_the_time_for_a_response(self) -> None:
        """The time until the deadline, or less by the limit of the request."""
        self.send()
        self.send(within_s=5.0)
        assert self.github.timeouts_s == [TIMEOUT_S, 5.0]

    # What responses show.

    def test_a_good_response_shows_that_the_credential_is_accepted(self) -> None:
        """A maintenance page of a load balancer does not."""
        token = self.outgoing().requester.token
        self.send()
        self.respond(401)
        self.send()
        self.github.responses[-1].callback(
            UpstreamResponse(
                200, Fields(((b"content-type", b"text/html"),)), InMemoryContent(b"<p>")
            )
        )
        assert not self.credentials.is_accepted(token)
        self.send()
        self.respond(200)
        assert self.credentials.is_accepted(token)

    def test_a_rate_limit_stops_the_next_request(self) -> None:
        """Nothing is sent until its end, and no permit is acquired."""
        assert self.state() is AVAILABLE
        sending = self.send()
        self.respond(403, (b"x-ratelimit-remaining", b"0"), *QUOTA)
        assert self.successResultOf(sending).limited
        assert self.state() == UpstreamState(limit=LimitKind.PRIMARY)
        self.github.released[0]()
        self.failureResultOf(self.send(), RateLimitedError)
        assert (len(self.github.requests), self.limiter.in_flight) == (1, 0)

    def test_failures_open_the_circuit(self) -> None:
        """Those of several operations; a timeout of a request that had little time is none."""
        for number in range(5):
            self.fail_by_timeout(b"/things/%d" % number, within_s=1.0)
        assert not self.github_breaker.failures
        for target in (b"/user", b"/repos/o/r", b"/orgs/o", b"/gists/1", b"/events"):
            self.send(target)
            self.respond(503)
            self.github.released[-1]()
        assert self.state() == UpstreamState(offline=True)
        self.send()
        self.respond(200)
        assert self.state() is AVAILABLE

    def test_a_timeout_begins_the_backoff_of_its_key(self) -> None:
        """That of an accepted credential; a response ends it."""
        self.credentials.accept(self.outgoing().requester.token)
        self.fail_by_timeout()
        assert self.state().backoff is not None
        assert self.state(b"/other") is AVAILABLE
        self.send()
        self.respond(200)
        assert self.state() is AVAILABLE
        self.send()
        self.clock.advance(10.0)
        self.respond(504)
        assert self.state().backoff is not None

    def test_a_charged_304_is_marked(self) -> None:
        """The quota is one less than before, and no other request was under way."""
        self.credentials.accept(self.outgoing().requester.token)
        for remaining, charged in ((b"4999", False), (b"4998", True), (b"4998", False)):
            sending = self.send()
            self.respond(304, (b"x-ratelimit-remaining", remaining), *QUOTA)
            assert self.successResultOf(sending).charged is charged
            self.github.released[-1]()
        assert self.metrics.events.count(("charged", "alice")) == 1
