"""Who may use the mirror: only known users of GitHub, where the configuration names them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Final

from attrs import define, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.web.client import FileBodyProducer
from twisted.web.iweb import IBodyProducer

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.login_responses import (
    VIEWER_QUERY,
    is_app_jwt,
    parse_app,
    parse_login,
    parse_viewer,
)
from ghmirror_tw.upstream.logins import BadCredentialError, LoginUnknownError, Users
from ghmirror_tw.upstream.request_to_send import Upload

#: Sends a request of the mirror's own and returns the whole response. Raises `LoginUnknownError`.
SendOwn = Callable[[Request, Upload | None], Awaitable[Response]]

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403


@frozen
class _OwnContent:
    """The content of a request that the mirror sends on its own behalf."""

    content: bytes

    @property
    def announced(self) -> int | None:
        """Its length in bytes."""
        return len(self.content)

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all of it, or None where it has more than *limit_bytes*."""
        return self.content if len(self.content) <= limit_bytes else None

    def producer(self) -> IBodyProducer:
        """Return the producer that sends it."""
        return FileBodyProducer(BytesIO(self.content))


@define(eq=False)
class AccessControl:
    """Decides whether a credential may be used, by the login that GitHub returns for it."""

    users: Users
    send_own: SendOwn
    options: MirrorOptions
    github_breaker: GitHubBreaker
    now: Callable[[], float]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]

    async def check(self, request: Request, credential: str) -> Response | None:
        """Raise a `MirrorError` unless the credential belongs to an allowed user.

        GitHub's own 401 is returned, since clients refresh their token only after that. When no
        login can be requested, the stored one is used as long as stale responses are. It is used
        after `stale_after`, as they are, and at once while GitHub is offline. Without a stored
        login, GitHub's response is returned, for instance that of a rate limit. The result depends
        neither on the target nor on stored responses.
        """
        options = self.options
        if request.authorization is None:
            raise error_responses.no_credential()
        wait_s = 0.0 if self.github_breaker.is_open else options.stale_after
        try:
            is_allowed = await self.users.is_allowed(
                credential,
                lambda: self._login_of(request),
                options.allowed_users,
                self.now,
                options.stale_limit,
                lambda late: self.call_later(wait_s, late),
            )
        except (BadCredentialError, LoginUnknownError) as error:
            if isinstance(error.response, Response):
                return error.response
            raise error.response or error_responses.upstream_failed("connect-error") from error
        if not is_allowed:
            raise error_responses.not_allowed()
        return None

    async def _login_of(self, request: Request) -> str:
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
            response = await self.send_own(Request(b"GET", b"/app", fields), None)
            return _login_in(response, parse_app)
        response = await self.send_own(Request(b"GET", b"/user", fields), None)
        if response.status != _FORBIDDEN:
            return _login_in(response, parse_login)
        fields = fields.with_line(b"content-type", b"application/json")
        query = Request(b"POST", b"/graphql", fields)
        return _login_in(await self.send_own(query, _OwnContent(VIEWER_QUERY)), parse_viewer)


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
