"""Invalidation after unsafe requests (RFC 9111, section 4.4), within one replica.

A write may change the response to any target, so it invalidates all stored responses of its
token. Nothing is deleted: a new generation of the token begins, and responses of former ones
permit nothing without validation. A generation orders requests within one replica, as the epoch
of a token does in the fleet (see `epochs`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ghmirror_tw.http.request import SAFE_METHODS, Request
from ghmirror_tw.runtime.bounded_tables import store_recent

_MOST: Final = 10_000


def is_write(request: Request) -> bool:
    """Return whether a request is unsafe (RFC 9110, section 9.2.1): it may change responses.

    For GraphQL, `is_mutation` decides by the content instead.
    """
    return request.method not in SAFE_METHODS


@define(eq=False)
class Generations:
    """The number of the current generation of each token's requests.

    No request joins the flight of an earlier generation, and no response to an earlier generation
    begins an epoch. A number never recurs, though only the *most* tokens used last have an
    entry. Tokens that are not *accepted* share their generations.
    """

    most: int = _MOST
    last: int = field(init=False, default=0)
    _of_evicted: int = field(init=False, default=0)
    _of_unaccepted: int = field(init=False, default=0)
    #: By token: the number of its generation, and the epoch that was last read.
    by_token: OrderedDict[str, tuple[int, bytes | None]] = field(init=False, factory=OrderedDict)

    def of(self, token: str, *, accepted: bool = True) -> int:
        """Return the number of the current generation."""
        own = self.by_token.get(token)
        number = self._of_evicted if own is None else own[0]
        return number if accepted else max(number, self._of_unaccepted)

    def begin(self, token: str, *, accepted: bool = True) -> None:
        """Begin a generation: after a write was sent or has ended, or after a 401."""
        _, epoch = self.by_token.get(token, (0, None))
        self.last += 1
        if accepted:
            self._put(token, self.last, epoch)
        else:
            self._of_unaccepted = self.last

    def note_own_epoch(self, token: str, epoch: bytes, *, accepted: bool = True) -> None:
        """Note an epoch that this replica has written; no generation begins."""
        if accepted:
            self._put(token, self.of(token), epoch)

    def note_epoch(self, token: str, epoch: bytes | None, *, accepted: bool = True) -> None:
        """Note the epoch in the store; if it has changed, a generation begins."""
        own = self.by_token.get(token)
        if own is None:
            if accepted or epoch is not None:
                self._put(token, self._of_evicted, epoch)
        elif own[1] != epoch:
            self.last += 1
            self._put(token, self.last, epoch)

    def _put(self, token: str, number: int, epoch: bytes | None) -> None:
        evicted = store_recent(self.by_token, token, (number, epoch), self.most)
        if evicted is not None:
            _, (number, _) = evicted
            self._of_evicted = max(self._of_evicted, number)
