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
from ghmirror_tw.proxy.exchange import MirrorOptions
from ghmirror_tw.upstream.login_responses import (
    VIEWER_QUERY,
    is_app_jwt,
    parse_app,
    parse_login,
    parse_viewer,
)
from ghmirror_tw.upstream.outgoing_request import Upload
from ghmirror_tw.upstream.response import BufferedContent, Response
from ghmirror_tw.upstream.users import BadCredentialError, LoginUnknownError, Users

#: Sends a request of the mirror's own and returns the whole response. Raises `LoginUnknownError`.
AskSelf = Callable[[Request, Upload | None], Awaitable[Response]]

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403


@frozen
class _Text:
    """A small request content of our own."""

    content: bytes

    @property
    def announced(self) -> int | None:
        """Its length in bytes."""
        return len(self.content)

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all of it, or None where it has more than *limit_bytes*."""
        return self.content if len(self.content) <= limit_bytes else None

    def producer(self) -> IBodyProducer:
        """Return what sends it."""
        return FileBodyProducer(BytesIO(self.content))


@define(eq=False)
class AccessControl:
    """Decides who may ask, by GitHub's own word on whose credential it is."""

    users: Users
    ask: AskSelf
    now: Callable[[], float]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]

    async def admit(
        self, request: Request, credential: str, options: MirrorOptions, *, offline: bool
    ) -> Response | None:
        """Raise a `MirrorError` unless the credential belongs to an allowed user.

        GitHub's own 401 is returned, since clients refresh their token only after that. When no
        login can be requested, the stored one is used as long as stale responses are. It is used
        after `stale_after`, as they are, and at once while GitHub is *offline*. Without a stored
        login, GitHub's response is returned, for instance that of a rate limit. The result depends
        neither on the target nor on stored responses.
        """
        allowed = options.allowed_users
        if not allowed:
            return None
        if request.authorization is None:
            raise error_responses.no_credential()
        try:
            may_use = await self.users.is_allowed(
                credential,
                lambda: self._login_of(request),
                allowed,
                self.now,
                options.stale_limit,
                lambda late: self.call_later(0.0 if offline else options.stale_after, late),
            )
        except (BadCredentialError, LoginUnknownError) as error:
            if isinstance(error.response, Response):
                return error.response
            raise error.response or error_responses.upstream_failed("connect-error") from error
        if not may_use:
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
            response = await self.ask(Request(b"GET", b"/app", fields), None)
            return _login_in(response, parse_app)
        response = await self.ask(Request(b"GET", b"/user", fields), None)
        if response.status != _FORBIDDEN:
            return _login_in(response, parse_login)
        fields = fields.with_line(b"content-type", b"application/json")
        query = Request(b"POST", b"/graphql", fields)
        return _login_in(await self.ask(query, _Text(VIEWER_QUERY)), parse_viewer)


def _login_in(response: Response, parse: Callable[[bytes], str | None]) -> str:
    """Return the login in a response. Raises `BadCredentialError` and `LoginUnknownError`."""
    if response.status == _UNAUTHORIZED:
        raise BadCredentialError(response)
    if response.status != _OK:
        raise LoginUnknownError(response)
    login = parse(response.body.content) if isinstance(response.body, BufferedContent) else None
    if login is None:
        raise LoginUnknownError(None)
    return login
