"""The mirror's own requests for logins: sent the same way as clients' requests."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import CodedContent, NoUpstreamResponseError, Response
from ghmirror_tw.proxy.passthrough import Passthrough
from ghmirror_tw.proxy.storable_requests import StorableRequests
from ghmirror_tw.proxy.unstored_responses import usual_limit_response
from ghmirror_tw.proxy.upstream_failures import error_response, log_failure
from ghmirror_tw.proxy.whole_content import whole_content
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.upstream.accepted_credentials import CredentialRegistry
from ghmirror_tw.upstream.logins import LoginUnknownError
from ghmirror_tw.upstream.rate_limit_table import RateLimitedError
from ghmirror_tw.upstream.request_to_send import Upload
from ghmirror_tw.upstream.upstream_interface import UpstreamError


@define(eq=False)
class LoginRequests:
    """Sends the mirror's own requests, and returns whole responses."""

    storable: StorableRequests
    passthrough: Passthrough
    credentials: CredentialRegistry
    threads: ContentThreads
    options: MirrorOptions
    now: Callable[[], float]

    async def send(self, request: Request, upload: Upload | None) -> Response:
        """Return the whole response to a request, as one that can be sent to many clients.

        Raises `LoginUnknownError` where GitHub fails or a rate limit is in force.
        """
        try:
            return await self._in_full(await self._send(request, upload))
        except NoUpstreamResponseError as error:
            instead = error.fallback
            if isinstance(instead, MirrorError):
                raise LoginUnknownError(instead) from error
            raise LoginUnknownError(await self._in_full(instead)) from error
        except RateLimitedError as error:
            raise LoginUnknownError(usual_limit_response(error.active.limit, self.now())) from error
        except UpstreamError as error:
            log_failure(request, error.reason, error.why)
            raise LoginUnknownError(error_response(error, self.options.timeout)) from error
        except MirrorError as error:
            raise LoginUnknownError(error) from error

    async def _send(self, request: Request, upload: Upload | None) -> Response:
        requester = self.credentials.requester(request.fields)
        deadline = self.now() + self.options.timeout
        if upload is not None:
            return await self.passthrough.forward(request, upload, requester, "method", deadline)
        store_deadline = self.storable.stored.store.store_deadline()
        return await self.storable.respond(request, requester, deadline, store_deadline)

    async def _in_full(self, response: Response) -> Response:
        """Return a small response of GitHub's as a response to GET that can be sent many times."""
        limit = self.options.max_stored_size
        return evolve(
            response,
            body=CodedContent(await whole_content(response, self.threads, limit)),
            coding=b"",
            storable=True,
            forward=response.forward and "uri-miss",
            collapsed=False,
        )
