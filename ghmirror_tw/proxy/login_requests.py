"""Requests the login of a credential from GitHub, in the way of clients' requests."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Final

from attrs import define, evolve, frozen
from twisted.web.client import FileBodyProducer
from twisted.web.iweb import IBodyProducer

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.limit_responses import usual_limit_response
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import CodedContent, NoUpstreamResponseError, Response
from ghmirror_tw.proxy.passthrough import Passthrough
from ghmirror_tw.proxy.storable_requests import StorableRequests
from ghmirror_tw.proxy.upstream_failures import error_response, log_failure
from ghmirror_tw.proxy.whole_content import whole_content
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.limits_in_force import RateLimitedError
from ghmirror_tw.upstream.login_responses import (
    VIEWER_QUERY,
    is_app_jwt,
    parse_app,
    parse_login,
    parse_viewer,
)
from ghmirror_tw.upstream.logins import BadCredentialError, LoginUnknownError
from ghmirror_tw.upstream.request_to_send import Upload
from ghmirror_tw.upstream.upstream_interface import UpstreamError

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403


@frozen
class _Content:
    """The content of a request that the mirror sends on its own behalf."""

    content: bytes

    @property
    def announced(self) -> int | None:
        """Its length in bytes."""
        return len(self.content)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.content)

    @property
    def complete(self) -> bool:
        """True."""
        return True

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all of it, or None where it has more than *limit_bytes*."""
        return self.content if len(self.content) <= limit_bytes else None

    def producer(self) -> IBodyProducer:
        """Return the producer that sends it."""
        return FileBodyProducer(BytesIO(self.content))


@define(eq=False)
class LoginRequests:
    """Requests logins in the way of clients' requests, with their cache and limits."""

    storable: StorableRequests
    passthrough: Passthrough
    credentials: CredentialRegistry
    threads: ContentThreads
    options: MirrorOptions
    now: Callable[[], float]

    async def login(self, request: Request) -> str:
        """Return the login of the credential, by a request to GitHub.

        For the JSON Web Token of a GitHub App it is made from the slug of the App. An installation
        of an App has no user: GraphQL returns its login. Raises `BadCredentialError` and
        `LoginUnknownError`.
        """
        authorization = request.authorization or b""
        fields = Fields(
            (
                (b"authorization", authorization),
                (b"accept", b"application/vnd.github+json"),
                (b"user-agent", b"ghmirror"),
                (b"cache-control", b"no-cache"),
            )
        )
        if is_app_jwt(authorization):
            response = await self._whole(Request(b"GET", b"/app", fields), None)
            return _login_in(response, parse_app)
        response = await self._whole(Request(b"GET", b"/user", fields), None)
        if response.status != _FORBIDDEN:
            return _login_in(response, parse_login)
        fields = fields.with_line(b"content-type", b"application/json")
        query = Request(b"POST", b"/graphql", fields)
        return _login_in(await self._whole(query, _Content(VIEWER_QUERY)), parse_viewer)

    async def _whole(self, request: Request, upload: Upload | None) -> Response:
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


def _login_in(response: Response, parse: Callable[[bytes], str | None]) -> str:
    """Return the login in a response. Raises `BadCredentialError` and `LoginUnknownError`."""
    if response.status == _UNAUTHORIZED:
        raise BadCredentialError(response)
    if response.status != _OK:
        raise LoginUnknownError(response)
    login = parse(response.body.content) if isinstance(response.body, CodedContent) else None
    if login is None:
        raise LoginUnknownError(None)
    return login
