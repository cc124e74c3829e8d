"""Checks a credential with GitHub before its first request.

`GET /rate_limit` costs no quota, and GitHub responds with 401 where it does not accept the
credential (GitHub: REST API endpoints for rate limits). To compute the entity-tag of stored content
takes time in proportion to it, so that is done only for credentials that GitHub has accepted: the
time of a response to a made-up one does not depend on what is stored.
"""

from __future__ import annotations

from typing import Final

from attrs import define, evolve, field
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.caching.acceptance_evidence import response_shows_acceptance
from ghmirror_tw.caching.forwarded_fields import DEFAULT_USER_AGENT
from ghmirror_tw.github.credentials import is_validated
from ghmirror_tw.github.media_types import accepts_only_json
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.proxy.unstored_responses import passed_on
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.limited_sender import Sender
from ghmirror_tw.upstream.limits_in_force import RateLimitedError
from ghmirror_tw.upstream.login_responses import is_app_jwt
from ghmirror_tw.upstream.request_to_send import OutgoingRequest, Requester
from ghmirror_tw.upstream.upstream_interface import UpstreamError

TARGET: Final = b"/rate_limit"
_JSON: Final = b"application/vnd.github+json"
#: The longest time that a request waits for a check, in seconds.
TIMEOUT_S: Final = 5.0
_MOST_CONTENT: Final = 64 * 1024
_UNAUTHORIZED: Final = 401

_log = Logger(namespace="ghmirror.mirror")


@define(eq=False)
class CredentialChecks:
    """Checks credentials, each by one request for all requests that wait for it (single flight)."""

    sender: Sender
    credentials: CredentialRegistry
    github_breaker: GitHubBreaker
    epochs: EpochTracker
    metrics: Metrics
    _flights: SingleFlight[Response | None] = field(factory=lambda: SingleFlight(_drop_unwanted))

    async def refusal(
        self, request: Request, requester: Requester, deadline: float
    ) -> Response | None:
        """Return GitHub's 401 to the credential of a request; None where it is accepted.

        None as well where the check is unclear, or could show nothing and is not sent. The response
        to the request itself decides then. An Enterprise server responds with 404 if it has no rate
        limits, or if the user has none. So a 404 shows nothing of other credentials.
        """
        if not self._may_check(request, requester):
            return None
        sent_at = self.epochs.tick()
        refused, first = await self._flights.join(
            requester.credential, lambda: self._check(request, requester, deadline)
        )
        if refused is None:
            return None
        if not first:
            return evolve(refused, collapsed=True)
        older = self.credentials.names.older_tokens_of(request.fields)
        self.epochs.revoke(requester, sent_at, older)
        return refused

    def _may_check(self, request: Request, requester: Requester) -> bool:
        """Return whether a check is needed, and can show anything.

        The JSON Web Token of a GitHub App is valid for few targets, and not for this one.
        """
        authorization = request.authorization
        return (
            authorization is not None
            and not self.credentials.is_accepted(requester.token)
            and not self.github_breaker.is_open
            and request.fields.get(b"x-github-otp") is None
            and is_validated(authorization)
            and not is_app_jwt(authorization)
        )

    async def _check(
        self, request: Request, requester: Requester, deadline: float
    ) -> Response | None:
        authorization = request.authorization or b""
        check = Request(b"GET", TARGET, _fields_of_check(request))
        try:
            response = await self.sender.send(
                OutgoingRequest(check, requester, deadline, within_s=TIMEOUT_S)
            )
            content = await response.content.collect(_MOST_CONTENT)
        except (UpstreamError, RateLimitedError):
            self.metrics.credential_checked("unclear")
            return None
        if content is None:
            response.content.abort()
        if response.status == _UNAUTHORIZED and not _may_be_app(authorization):
            self.metrics.credential_checked("refused")
            refused = passed_on(response, None)
            return evolve(refused, body=CodedContent(content or b"", refused.coding))
        accepted = response_shows_acceptance(response.status, authorization)
        self.metrics.credential_checked("accepted" if accepted else "unclear")
        return None

    def close(self) -> None:
        """Cancel all checks."""
        self._flights.close()


def _fields_of_check(request: Request) -> Fields:
    """Return the fields of a check; GitHub's 401 is in the media type that the request accepts."""
    accept = request.fields.get(b"accept")
    if accept is None or not accepts_only_json(accept):
        accept = _JSON
    return Fields(
        (
            (b"authorization", request.authorization or b""),
            (b"accept", accept),
            (b"user-agent", DEFAULT_USER_AGENT),
        )
    )


def _may_be_app(authorization: bytes) -> bool:
    """Return whether a credential may be the ID and secret of an App, valid for its own targets."""
    return authorization[:6].lower() == b"basic "


def _drop_unwanted(result: Response | Failure | None) -> None:
    """Drop the result of a check that no request waits for."""
    if isinstance(result, Failure) and not result.check(UpstreamError, RateLimitedError):
        _log.debug("Credential check failed", failure=result)
