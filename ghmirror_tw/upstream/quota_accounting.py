"""Records the quota that each response reports, and detects charged 304s (GitHub: rate limits)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, evolve, field
from twisted.logger import Logger

from ghmirror_tw.github.charged_304s import ChargeDetector
from ghmirror_tw.github.path_labels import operation_of
from ghmirror_tw.github.rate_limit_resources import is_quota_request, named_resource
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.whole_numbers import whole_number
from ghmirror_tw.upstream.quotas import Quotas
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_to_send import OutgoingRequest, Requester
from ghmirror_tw.upstream.upstream_interface import UpstreamResponse

_NUMBERS: Final = (b"x-ratelimit-remaining", b"x-ratelimit-reset", b"x-ratelimit-limit")
_log: Final = Logger(namespace="ghmirror.mirror")


class QuotaMetrics(Protocol):
    """The metrics of quotas; *user* is a login or an App, None where it is not known."""

    def quota(
        self, user: str | None, resource: str, remaining: int, limit: int | None, reset: int
    ) -> None:
        """Set the remaining quota and the whole one, None where it is not known."""

    def spent(self, user: str | None) -> None:
        """Count a request that was charged."""

    def charged(self, user: str | None) -> None:
        """Count a 304 that was charged."""

    def paid(self, operation: str) -> None:
        """Count a request that was charged by its method and path pattern."""


@define(eq=False)
class QuotaAccounting:
    """Notes the quota that each response reports, and detects charged 304s (`charged_304s`).

    *user* returns the login or App of a requester, where known.
    """

    limiter: RateLimiter
    metrics: QuotaMetrics
    user: Callable[[Requester], str | None]
    now: Callable[[], float]
    quotas: Quotas = field(factory=Quotas)
    _charges: ChargeDetector = field(factory=ChargeDetector)
    _has_charged: bool = False

    def note_sent(self, token: str, *, accepted: bool) -> None:
        """Note that a request is sent; *accepted*: GitHub has accepted the token."""
        self._charges.note_sent(token, accepted=accepted)

    def note_failure(self, token: str) -> None:
        """Note that a request has ended without a response."""
        self._charges.note_end(token, responded=False)

    def note_response(
        self, outgoing: OutgoingRequest, response: UpstreamResponse, *, accepted: bool
    ) -> UpstreamResponse:
        """Note the quota that a response reports; return it, marked if it is a charged 304."""
        request, token, fields = outgoing.request, outgoing.requester.token, response.fields
        remaining, reset, limit = map(whole_number, fields.get_each(*_NUMBERS))
        if accepted:
            self.quotas.note(token, outgoing.resource, fields)
        if remaining is None or reset is None:
            self._charges.note_end(token, responded=True)
            return response
        user = self.user(outgoing.requester)
        resource = named_resource(fields) or outgoing.resource
        self.metrics.quota(user, resource, remaining, limit, reset)
        alone = not self.limiter.is_shared(token)
        if accepted and self.limiter.quota_reserve.reserve:
            self.limiter.quota_reserve.note(token, resource, remaining, reset)
        one_less = self._charges.note_response(
            token, resource, remaining, reset, self.now(), alone=alone
        )
        self._charges.note_end(token, responded=True)
        if response.status != 304 or request.authorization is None:  # noqa: PLR2004
            if not is_quota_request(request):
                self.metrics.spent(user)
                self._count_paid(request)
            return response
        if not one_less:
            return response
        self._count_charged(user, resource, remaining)
        self._count_paid(request)
        return evolve(response, charged=True)

    def _count_paid(self, request: Request) -> None:
        self.metrics.paid(operation_of(request.method, request.path))

    def _count_charged(self, user: str | None, resource: str, remaining: int) -> None:
        self.metrics.charged(user)
        if not self._has_charged:
            self._has_charged = True
            _log.warn(
                "GitHub counted a 304 against the quota (logged once): user={user}"
                " resource={resource} remaining={remaining}",
                user=user or "unknown",
                resource=resource,
                remaining=remaining,
            )
