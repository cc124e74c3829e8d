"""The permitted users of the mirror: known users of GitHub, where the configuration names them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.logins import BadCredentialError, LoginCache, LoginUnknownError


@define(eq=False)
class AccessControl:
    """Decides whether a credential may be used, by the login that GitHub returns for it."""

    users: LoginCache
    login_of: Callable[[Request], Awaitable[str]]
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
                lambda: self.login_of(request),
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
