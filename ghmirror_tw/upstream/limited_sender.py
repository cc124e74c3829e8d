"""Sends requests to GitHub: every request takes this way, a client's and the mirror's own.

A request acquires a permit (`rate_limiter`), within the rate limits in force (`limits_in_force`).
Where a limit has ended, one request is the probe (half-open, `limit_probes`). Each response updates
the rate limits, the quota, the accepted credentials, the circuit breaker (`github_breaker`), and
the backoff of keys that time out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.caching.acceptance_evidence import response_shows_acceptance
from ghmirror_tw.caching.decision import AVAILABLE, UpstreamState
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.timeout_backoff import TimeoutBackoffs
from ghmirror_tw.github.limit_interpretation import MAY_BE_LIMITED
from ghmirror_tw.github.media_types import is_as_accepted
from ghmirror_tw.github.path_labels import operation_of
from ghmirror_tw.github.rate_limit_resources import is_quota_request, scopes_of_read
from ghmirror_tw.github.reported_limit import LimitKind
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.request import READ_METHODS, Request
from ghmirror_tw.runtime.independent_evidence import Observation
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.limit_detection import with_limit
from ghmirror_tw.upstream.limit_probes import LimitProbe, LimitProbes
from ghmirror_tw.upstream.limits_in_force import LimitCheck, RateLimitedError, RateLimitTable
from ghmirror_tw.upstream.quota_accounting import QuotaAccounting, QuotaMetrics
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_cost import READ_POINTS, points_of, spends
from ghmirror_tw.upstream.request_queue import Permit
from ghmirror_tw.upstream.request_queues import CHECKS, UNACCEPTED
from ghmirror_tw.upstream.request_to_send import OutgoingRequest, Requester, limit_scopes
from ghmirror_tw.upstream.upstream_interface import IUpstream, UpstreamError, UpstreamResponse

#: GitHub times out after some ten seconds, with one of these statuses.
_TIMED_OUT: Final = frozenset({502, 504})
_TIMED_OUT_S: Final = 8.0
_OK: Final = 200
_NOTHING: Final = nullcontext()

_log: Final = Logger(namespace="ghmirror.mirror")


class SenderMetrics(QuotaMetrics, Protocol):
    """The metrics of requests to GitHub."""

    def upstream(self, method: bytes, status: int | str, seconds: float) -> None:
        """Count a request: its status, or the reason why it has none."""

    def cost_unknown(self) -> None:
        """Count a request that timed out, so that its cost is unknown."""

    def unaccepted_overloaded(self) -> None:
        """Count a request of an unaccepted credential that got no permit in time."""


@define(eq=False)
class Sender:
    """Sends requests to GitHub, and learns from the responses.

    *timeout_s* is the usual time that GitHub has for a response. *user* returns the login or App of
    a requester, where known. *owner* returns a new name for each lock of the fleet.
    """

    github: IUpstream
    store: IStore
    credentials: CredentialRegistry
    limiter: RateLimiter
    github_breaker: GitHubBreaker
    metrics: SenderMetrics
    timeout_s: float
    user: Callable[[Requester], str | None]
    now: Callable[[], float]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]
    owner: Callable[[], str]
    limits: RateLimitTable = field(init=False)
    backoffs: TimeoutBackoffs = field(init=False, factory=TimeoutBackoffs)
    accounting: QuotaAccounting = field(init=False)
    _probes: LimitProbes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limits = RateLimitTable(self.credentials.is_accepted)
        self.accounting = QuotaAccounting(self.limiter, self.metrics, self.user, self.now)
        self._probes = LimitProbes(self.store, self.limits, self.now, self.call_later, self.owner)

    async def send(self, outgoing: OutgoingRequest) -> UpstreamResponse:
        """Send a request; return GitHub's response, with its content still incoming.

        The permit is released when the connection is free again. Raises `RateLimitedError` where a
        rate limit is in force, and nothing is sent. Raises `UpstreamError` without a usable
        response, and a `MirrorError` where no permit is free in time.
        """
        token = outgoing.requester.token
        # A rate limited request does not wait for a permit. A limit that begins while a request
        # waits applies to it as well.
        if self.limits.any_known:
            limit = self.limits.applying(token, outgoing.scopes, self.now())
            if limit is not None:
                raise RateLimitedError(limit)
        reserve = self.limiter.quota_reserve
        if reserve.reserve and spends(outgoing.request):
            reserve.check(token, outgoing.resource)
        permit = outgoing.permit_holder.take() or await self.acquire(outgoing)
        try:
            if not self.limits.any_known:
                return await self._exchange(outgoing, permit, None)
            probe = await self._probes.admit(token, outgoing.scopes)
            try:
                return await self._exchange(outgoing, permit, probe)
            finally:
                probe.end()
        except BaseException:
            permit.release()
            raise

    def acquire(self, outgoing: OutgoingRequest) -> Deferred[Permit]:
        """Acquire a permit. Fails with a `MirrorError` where none is free in time.

        All tokens that GitHub has not accepted share two queues.
        """
        request, unaccepted = outgoing.request, ""
        if not self.credentials.is_accepted(outgoing.requester.token):
            unaccepted = CHECKS if is_quota_request(request) else UNACCEPTED
        points = READ_POINTS
        if request.method not in READ_METHODS:
            points = points_of(request, mutates=outgoing.writes)
        entering = self.limiter.acquire(
            outgoing.requester.token,
            outgoing.resource,
            points,
            timeout_s=outgoing.deadline - self.now(),
            unaccepted=unaccepted,
        )
        if not entering.called:
            self.github.reclaim_stalled()
        if unaccepted:
            entering.addErrback(self._note_overload)
        return entering

    def _note_overload(self, failure: Failure) -> Failure:
        if failure.check(MirrorError):
            self.metrics.unaccepted_overloaded()
        return failure

    async def _exchange(
        self, outgoing: OutgoingRequest, permit: Permit, probe: LimitProbe | None
    ) -> UpstreamResponse:
        """Send a request; learn from its response, or from its failure."""
        request, token, began = outgoing.request, outgoing.requester.token, self.now()
        accepted = self.credentials.is_accepted(token)
        timeout_s = min(outgoing.deadline - began, outgoing.within_s)
        outgoing.sending(began)
        self.accounting.note_sent(token, accepted=accepted)
        upload = outgoing.upload
        try:
            response = await self.github.send(
                request,
                None if upload is None else upload.producer(),
                timeout_s,
                permit.release,
                lambda: permit.is_wanted or outgoing.is_contended(),
            )
            if response.status in MAY_BE_LIMITED:
                strikes = 0 if probe is None else probe.check.strikes
                response = await with_limit(request, response, self.now, strikes)
        except BaseException as error:
            self.accounting.note_failure(token)
            self._note_failure(outgoing, error, began, timeout_s)
            raise
        ended = self.now()
        self.metrics.upstream(request.method, response.status, ended - began)
        self._note_health(outgoing, response, began, ended)
        accepted = accepted or self._note_acceptance(outgoing, permit, response)
        response = self.accounting.note_response(outgoing, response, accepted=accepted)
        if probe is not None or response.limit is not None:
            self._note_limit(outgoing, probe, response)
        return response

    def _note_failure(
        self, outgoing: OutgoingRequest, error: BaseException, began: float, timeout_s: float
    ) -> None:
        """Note that a request got no response, for health and backoff."""
        ended = self.now()
        reason = error.reason if isinstance(error, UpstreamError) else "cancelled"
        self.metrics.upstream(outgoing.request.method, reason, ended - began)
        if not isinstance(error, UpstreamError):
            return
        # A timeout of a request with little time left is no failure of GitHub.
        cut_short = reason == "timeout" and timeout_s < self.timeout_s / 2
        if not error.is_local_limit and not cut_short and not is_quota_request(outgoing.request):
            self.github_breaker.note_failure(self._observation(outgoing), began, ended, reason)
        if reason == "timeout":
            self._note_timeout(outgoing, began, cut_short=cut_short)

    def _note_health(
        self, outgoing: OutgoingRequest, response: UpstreamResponse, began: float, ended: float
    ) -> None:
        request = outgoing.request
        if response.status in _TIMED_OUT and ended - began >= _TIMED_OUT_S:
            self._note_timeout(outgoing, began)
        elif self.backoffs.any_known:
            self.backoffs.note_response(
                self.credentials.key(request).name, outgoing.requester.token
            )
        if is_quota_request(request):
            return  # it does not show whether GitHub responds to other requests
        if response.status >= 500:  # noqa: PLR2004
            observation = self._observation(outgoing)
            self.github_breaker.note_failure(observation, began, ended, response.status)
        elif response.status != _OK or not _is_foreign(request, response):
            self.github_breaker.note_response(limited=response.limited, now=ended)

    def _note_timeout(
        self, outgoing: OutgoingRequest, began: float, *, cut_short: bool = False
    ) -> None:
        """Count a request that timed out, and note it for the backoff of its key.

        A request that was *cut_short* had too little time, and does not count for its key.
        """
        self.metrics.cost_unknown()
        token = outgoing.requester.token
        if outgoing.is_read and not cut_short and self.credentials.is_accepted(token):
            key = self.credentials.key(outgoing.request).name
            self.backoffs.note_timeout(key, token, began, self.now())

    def _observation(self, outgoing: OutgoingRequest) -> Observation:
        """Return the failure of a request as an observation.

        Failures of all credentials that may be made up count as those of one.
        """
        request, token = outgoing.request, outgoing.requester.token
        credential = token if self.credentials.is_accepted(token) else UNACCEPTED
        operation = operation_of(request.method, request.path)
        return Observation(request.path.decode("latin-1"), credential, operation)

    def _note_acceptance(
        self, outgoing: OutgoingRequest, permit: Permit, response: UpstreamResponse
    ) -> bool:
        """Note that GitHub has accepted a token, if this response shows it; return whether so."""
        request, token = outgoing.request, outgoing.requester.token
        shown = response_shows_acceptance(response.status, request.authorization)
        if shown and not _is_foreign(request, response):
            self.credentials.accept(token, outgoing.requester.app)
            self.limiter.note_accepted(token, permit)
        return self.credentials.is_accepted(token)

    def _note_limit(
        self, outgoing: OutgoingRequest, probe: LimitProbe | None, response: UpstreamResponse
    ) -> None:
        """Note the rate limit that a response reports, or that the probe has met none.

        *probe*: None where no limit of any credential was known when the request was sent.
        """
        limit, token = response.limit, outgoing.requester.token
        if response.status >= 500:  # noqa: PLR2004
            return
        if limit is None:
            if probe is not None:
                self._probes.note_passed(probe)
            return
        check = LimitCheck(token, outgoing.scopes, 0, ()) if probe is None else probe.check
        self.limits.set(check, limit)
        if self.credentials.is_accepted(token):
            self.store.set_limit(token, limit)
            if limit.kind is LimitKind.SECONDARY:
                self.limiter.note_secondary_limit(token)
        _log.warn(
            "Rate limited by GitHub: user={user} limit={limit} resource={resource}"
            " retry_in={seconds}s",
            user=self.user(outgoing.requester) or "unknown",
            limit=limit.kind.value,
            resource=limit.scope or "all",
            seconds=round(limit.until - self.now()),
        )

    def upstream_state(self, token: str, key: CacheKey, now: float) -> UpstreamState:
        """Return the state of GitHub for a request of a token for a key."""
        limit = None
        if self.limits.any_known:
            limit = self.limits.applying(token, scopes_of_read(key.path), now)
        backoff = self.backoffs.of(key.name, token) if self.backoffs.any_known else None
        offline = self.github_breaker.is_open
        if limit is None and backoff is None and not offline:
            return AVAILABLE
        return UpstreamState(None if limit is None else limit.limit.kind, offline, backoff)

    # Rate limits of the fleet.

    def expecting(self, token: str) -> AbstractContextManager[None]:
        """Prepare a permit for a token; nothing is shared in the fleet for an unaccepted one."""
        if self.limiter.semaphores is None or not self.credentials.is_accepted(token):
            return _NOTHING
        return self.limiter.prefetch(token)

    async def learn_limits(self, request: Request, token: str, *, writes: bool) -> None:
        """Learn from the store which rate limits other replicas have met."""
        scopes = limit_scopes(request, writes=writes)
        with self.expecting(token):
            limits = await self.store.limits(token, scopes, self.store.store_deadline())
        self.limits.merge(token, limits, self.now())


def _is_foreign(request: Request, response: UpstreamResponse) -> bool:
    """Return whether a response is a maintenance page of a load balancer, and not GitHub's."""
    if response.status != _OK or request.method not in READ_METHODS:
        return False
    accept, content_type = request.fields.get(b"accept"), response.fields.get(b"content-type")
    return not is_as_accepted(accept, content_type)
