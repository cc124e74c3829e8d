"""The first request of an unknown credential is preceded by one that validates it.

`GET /rate_limit` costs no quota, and GitHub responds with 401 where it does not accept the
credential (GitHub: REST API endpoints for rate limits). To compute the entity-tag of stored content
takes time in proportion to it, so that is done only for credentials that GitHub has accepted: the
time of a response to a made-up one does not depend on what is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define, evolve, field
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.caching.acceptance import response_shows_acceptance
from ghmirror_tw.caching.forwarded_fields import DEFAULT_USER_AGENT
from ghmirror_tw.github.credentials import is_validated
from ghmirror_tw.github.media_types import accepts_only_json
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.revalidation import passed_on
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.limits import RateLimitedError
from ghmirror_tw.upstream.login_responses import is_app_jwt
from ghmirror_tw.upstream.response import BufferedContent, Response
from ghmirror_tw.upstream.upstream_interface import UpstreamError, UpstreamResponse

TARGET: Final = b"/rate_limit"
_JSON: Final = b"application/vnd.github+json"
#: The longest time that a request waits for a check, in seconds.
TIMEOUT_S: Final = 5.0
#: A server without rate limits responds with 404. No check is sent then for so long, in seconds.
_NO_LIMITS_S: Final = 3600.0
_MOST_CONTENT: Final = 64 * 1024
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404

_log = Logger(namespace="ghmirror.mirror")


@define(eq=False)
class CredentialChecks:
    """Checks credentials, each by one request for all requests that wait for it (single flight)."""

    metrics: Metrics
    now: Callable[[], float]
    _flights: SingleFlight[Response | None] = field(factory=lambda: SingleFlight(_unwanted))
    _off_until: float = 0.0

    def may_check(self, authorization: bytes | None) -> bool:
        """Tell whether a check can show anything of a credential.

        The JSON Web Token of a GitHub App is valid for few targets, and not for this one.
        """
        return (
            authorization is not None
            and self.now() >= self._off_until
            and is_validated(authorization)
            and not is_app_jwt(authorization)
        )

    async def refusal(
        self,
        credential: str,
        request: Request,
        send: Callable[[Request], Awaitable[UpstreamResponse]],
    ) -> Response | None:
        """Return GitHub's 401 to a credential; None where it is accepted, or the check is unclear.

        If it is unclear, the response to the request itself decides. *send* sends a request to
        GitHub. *request* is the request that waits for the check.
        """
        response, first = await self._flights.join(credential, lambda: self._check(request, send))
        return response if first or response is None else evolve(response, collapsed=True)

    async def _check(
        self, request: Request, send: Callable[[Request], Awaitable[UpstreamResponse]]
    ) -> Response | None:
        authorization, accept = request.authorization or b"", request.fields.get(b"accept")
        # GitHub's 401 is in the media type that the request accepts.
        if accept is None or not accepts_only_json(accept):
            accept = _JSON
        fields = Fields(
            (
                (b"authorization", authorization),
                (b"accept", accept),
                (b"user-agent", DEFAULT_USER_AGENT),
            )
        )
        try:
            reply = await send(Request(b"GET", TARGET, fields))
            content = await reply.content.collect(_MOST_CONTENT)
        except (UpstreamError, RateLimitedError):
            self.metrics.credential_checked("unclear")
            return None
        if content is None:
            reply.content.abort()
        if reply.status == _UNAUTHORIZED and not _may_be_app(authorization):
            self.metrics.credential_checked("refused")
            response = passed_on(reply, None)
            return evolve(response, body=BufferedContent(content or b"", response.coding))
        if reply.status == _NOT_FOUND:
            self._off_until = self.now() + _NO_LIMITS_S
        accepted = response_shows_acceptance(reply.status, authorization)
        self.metrics.credential_checked("accepted" if accepted else "unclear")
        return None

    def close(self) -> None:
        """Cancel all checks."""
        self._flights.close()


def _may_be_app(authorization: bytes) -> bool:
    """Tell whether a credential may be the ID and secret of an App, valid for its own targets."""
    return authorization[:6].lower() == b"basic "


def _unwanted(result: Response | Failure | None) -> None:
    """Drop the result of a check that no request waits for."""
    if isinstance(result, Failure) and not result.check(UpstreamError, RateLimitedError):
        _log.debug("Credential check failed", failure=result)
