"""Generations of a credential's requests: a write and a 401 begin a new one (see `order`).

A generation orders requests within one replica, as the epoch of a credential does in the fleet.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.bounded_tables import store_recent

_MOST: Final = 10_000


def is_write(request: Request) -> bool:
    """Tell whether a request may change what GitHub answers (RFC 9110, section 9.2.1).

    GraphQL is judged by its content instead; see `is_mutation`.
    """
    return request.method not in {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}


@define(eq=False)
class Generations:
    """The number of the current generation of each credential's requests.

    No request joins the flight of an earlier generation, and the response to a request of an
    earlier one begins no epoch. A number never recurs, though only the *most* credentials used
    last have an entry. Credentials that are not *known* (see `acceptance`) begin their generations
    together, without entries.
    """

    most: int = _MOST
    _last: int = field(init=False, default=0)
    _forgotten: int = field(init=False, default=0)
    _of_unknown: int = field(init=False, default=0)
    #: By credential: the number of its generation, and the epoch that was last found.
    _known: OrderedDict[str, tuple[int, bytes | None]] = field(init=False, factory=OrderedDict)

    def of(self, credential: str, *, known: bool = True) -> int:
        """Return the number of the current generation."""
        own = self._known.get(credential)
        number = self._forgotten if own is None else own[0]
        return number if known else max(number, self._of_unknown)

    def begin(self, credential: str, *, known: bool = True) -> None:
        """Begin a generation: a write was sent or has ended, or GitHub has responded with 401."""
        _, epoch = self._known.get(credential, (0, None))
        self._last += 1
        if known:
            self._put(credential, self._last, epoch)
        else:
            self._of_unknown = self._last

    def note_own_epoch(self, credential: str, epoch: bytes, *, known: bool = True) -> None:
        """Note an epoch that this replica has begun, which begins no generation."""
        if known:
            self._put(credential, self.of(credential), epoch)

    def note_epoch(self, credential: str, epoch: bytes | None, *, known: bool = True) -> None:
        """Note the epoch that is in the store. If it has changed, a generation begins."""
        own = self._known.get(credential)
        if own is None:
            if known or epoch is not None:
                self._put(credential, self._forgotten, epoch)
        elif own[1] != epoch:
            self._last += 1
            self._put(credential, self._last, epoch)

    def _put(self, credential: str, number: int, epoch: bytes | None) -> None:
        evicted = store_recent(self._known, credential, (number, epoch), self.most)
        if evicted is not None:
            _, (number, _) = evicted
            self._forgotten = max(self._forgotten, number)
