"""A request as it is sent to GitHub: its sender, its content, and its deadline."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple, Protocol

from attrs import field
from twisted.web.iweb import IBodyProducer

from ghmirror_tw.github.graphql import is_graphql
from ghmirror_tw.github.rate_limit_resources import creates_content, resource_of_path, scopes_of
from ghmirror_tw.http.request import READ_METHODS, Request
from ghmirror_tw.runtime.deferreds import do_nothing
from ghmirror_tw.runtime.frozen_values import frozen_value
from ghmirror_tw.upstream.request_queue import PermitHolder


class Upload(Protocol):
    """The content of a request, which may still be incoming."""

    @property
    def announced(self) -> int | None:
        """Its length in bytes, where known."""

    @property
    def complete(self) -> bool:
        """Whether all of it was received."""

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all of it, or None if it is over *limit_bytes*; it can be sent after that."""

    def producer(self) -> IBodyProducer:
        """Return the producer that sends it, once."""


class Requester(NamedTuple):
    """The sender of a request: the names of its *credential*, and of the *token* in it.

    One token may be sent as several credentials, with the schemes `token`, `Bearer` and `Basic`.
    Grants belong to the credential, GitHub's rate limits to the token. *app*: the GitHub App that
    the token names, which may be made up; see `CredentialRegistry.app`.
    """

    credential: str
    token: str
    app: str = ""


@frozen_value
class OutgoingRequest:
    """A request that is sent to GitHub once.

    *deadline*: until when its response must have begun, in seconds since the epoch. *writes*: the
    request may change later responses of GitHub. *sending* is called with the time just before the
    request is sent. *permit_holder* may hold the permit that it needs. *within_s*: the longest time
    from sending to the response. *is_contended* returns whether another request waits for its end.
    """

    request: Request
    requester: Requester
    deadline: float
    upload: Upload | None = None
    writes: bool = False
    sending: Callable[[float], object] = do_nothing
    permit_holder: PermitHolder = field(factory=PermitHolder)
    within_s: float = inf
    is_contended: Callable[[], bool] = bool
    #: The resource of GitHub's quota that it is charged to.
    resource: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        request = self.request
        object.__setattr__(self, "resource", resource_of_path(request.path, request.method))

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of the rate limits that apply to it."""
        return limit_scopes(self.request, writes=self.writes)

    @property
    def is_read(self) -> bool:
        """Whether its method is GET or HEAD."""
        return self.request.method in READ_METHODS


def limit_scopes(request: Request, *, writes: bool) -> tuple[str, ...]:
    """Return the scopes of the rate limits that apply to a request."""
    method, path = request.method, request.path
    if method in READ_METHODS:
        return scopes_of(path, method, creates=False)
    creates = creates_content(method, graphql=is_graphql(request), mutates=writes)
    return scopes_of(path, method, creates=creates)
