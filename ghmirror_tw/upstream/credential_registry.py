"""The names of credentials, and which of them GitHub has accepted as far as this replica knows.

A client can make up credentials. Those that GitHub has not accepted share a few entries in tables
(`runtime.bounded_tables`) and a few permits for requests (`rate_limiter`), so that they take none
from the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from attrs import define, field

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.upstream.request_to_send import Requester

#: How many tokens are known as accepted, those that were used last. Any other token needs one good
#: response again.
CAPACITY: Final = 20_000
_NO_FIELDS: Final = Fields()


@define(eq=False)
class CredentialRegistry:
    """Names credentials by *names*, which SIGHUP may replace; knows the accepted tokens."""

    names: CredentialNames
    #: The accepted tokens with the Apps that they name, that which was used last at the end. One
    #: stands for requests without a token, and is always accepted.
    tokens: OrderedDict[str, str | None] = field(init=False, factory=OrderedDict)
    #: Returns whether GitHub has accepted a token.
    is_accepted: Callable[[str], bool] = field(init=False)
    #: Returns the App that an accepted token names, as ``app:ID``, or None.
    app: Callable[[str], str | None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.is_accepted, self.app = self.tokens.__contains__, self.tokens.get
        self.rename(self.names)

    def rename(self, names: CredentialNames) -> None:
        """Name credentials by *names* from now on."""
        self.names = names
        self.tokens[names.token_of(_NO_FIELDS)] = None

    def requester(self, fields: Fields) -> Requester:
        """Return the sender of a request with *fields*, whose token counts as used."""
        requester = Requester(*fields.memoised(self.names))
        if requester.token in self.tokens:
            self.tokens.move_to_end(requester.token)
        return requester

    def key(self, request: Request) -> CacheKey:
        """Return the cache key of a request."""
        return CacheKey.of(request.target, request.fields, self.names.origin)

    def accept(self, token: str, app: str = "") -> None:
        """Note that GitHub has accepted a token; *app*: the App that it names."""
        store_recent(self.tokens, token, app or None, CAPACITY)
        self.tokens.setdefault(self.names.token_of(_NO_FIELDS), None)

    def forget(self, token: str) -> None:
        """Note that GitHub does not accept a token any more."""
        self.tokens.pop(token, None)
        self.tokens.setdefault(self.names.token_of(_NO_FIELDS), None)
